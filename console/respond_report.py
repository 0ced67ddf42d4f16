"""What `sentinel doctor` says of responders: actions that nobody carries out, missing channels, and what is parked."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from console.edge_report import Said
from console.tables import span_text
from core.log.base import EventLog
from core.partitions import partitions_of
from core.settings import Settings
from core.times import MINUTE_MS
from responders.following import Follower
from responders.limits import part_of
from responders.outbox import Item, Part
from responders.settings import BLOCK, NOTIFYING, UNBLOCK, RespondSettings, respond_settings

LATE_MS = MINUTE_MS
"""How long after it is due an action may wait before that is a problem."""


def responder_findings(s: Settings, log: EventLog) -> Iterator[Said]:
    """The state of the outbox, if any action was ever switched on."""
    settings = respond_settings(s.responders)
    follower = Follower(log, partitions_of(log))
    follower.step()
    switches = follower.rules.switches
    if not switches:
        return
    on = sorted(name for name, switch in switches.items() if switch.enabled and name != UNBLOCK)
    off = sorted(name for name, switch in switches.items() if not switch.enabled)
    yield "responders", "ok", f"carry out {', '.join(on) or 'nothing'}", ""
    if off:
        remedy = "when the cause is mended, run sentinel respond on, with --catch-up for what has waited"
        yield "responders", "warn", f"{', '.join(off)} switched off: alerts wait", remedy
    for action in on:
        if action in NOTIFYING and action not in settings.actions:
            remedy = f"give it one in [responders.actions.{action}] of the settings file, or switch it off"
            yield "responders", "fail", f"{action} is switched on and has no channel: it is parked", remedy
    parts = [follower.part(partition) for partition in follower.partitions]
    yield from _waiting(settings, [part for part in parts if part.waiting], set(on), parts)
    parked = sum(len(part.parked) for part in parts)
    if parked:
        remedy = "sentinel respond status shows why; sentinel respond retry asks for one again"
        yield "responders", "warn", f"parked actions: {parked:,}; they failed and are not tried again", remedy


def _waiting(settings: RespondSettings, waiting: Sequence[Part], on: set[str], parts: Sequence[Part]) -> Iterator[Said]:
    now = int(time.time() * 1000)
    late = [
        item
        for part in waiting
        for item in part.waiting.values()
        if item.action in on and now - _due(settings, item) > LATE_MS
    ]
    if not late:
        return
    blocks = [item for item in late if item.action == BLOCK]
    limit = sum(part_of(settings.blocks_per_hour, part.partition, len(parts)) for part in parts)
    if blocks and sum(len(part.blocked_at) for part in parts) >= limit:
        remedy = "look for the cause (a bad rule or model?); then raise blocks_per_hour, or switch block_account off"
        yield (
            "responders",
            "warn",
            f"waiting blocks: {len(blocks):,}; the limit of {limit:,} an hour is reached",
            remedy,
        )
        late = [item for item in late if item.action != BLOCK]
    if late:
        oldest = span_text(now - min(item.requested_at for item in late))
        remedy = (
            "start `sentinel respond`; if one runs, look for respond.channel_failing, respond.unavailable and"
            " respond.outcome_rejected in its log"
        )
        yield "responders", "fail", f"waiting actions: {len(late):,}, the oldest for {oldest}", remedy


def _due(settings: RespondSettings, item: Item) -> int:
    return max(item.requested_at + round(1000 * settings.of(item.action).delay_s[1]), item.begins_at)
