"""What somebody with write access to the log can do: change anything, and compute every digest again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from core import control_stream
from core.codec import decode_seal, encode
from core.context import Context, Resolver
from core.events import Position, Seal
from core.log import seals
from core.log.base import GENESIS_DIGEST, Batch, Entry
from core.log.memory import MemoryLog
from core.replay import Timeline
from projections.audit import redecide
from tests.builders.batches import batches_of, contents
from tests.builders.models import load_tiny

Change = Callable[[Batch, Seal], Seal]
"""Changes a batch in place, and returns its seal with whatever shall be different in it."""


def rechained(log: MemoryLog, partition: int, change: Change) -> MemoryLog:
    """A copy of the log in which each batch of a partition was changed and sealed again, from the first to the last."""
    forged = log.clone()
    held = contents(log, partition)
    digest = GENESIS_DIGEST
    for (batch, _), entry in zip(batches_of(held), held["seals"], strict=True):
        seal = change(batch, decode_seal(entry.payload))
        for stream in ("transactions", "scores", "alerts", "feedback", "rejects"):
            kept = {each.id for each in getattr(batch, stream)}
            for each in getattr(batch, stream):
                forged.tamper(partition, stream, each.id, each.payload)
            for old in held[stream]:
                if old.id not in kept and _of_batch(old.id, batch, entry.id, stream):
                    forged.tamper(partition, stream, old.id, None)
        counts = (len(batch.transactions), len(batch.alerts), len(batch.feedback), len(batch.rejects))
        header = msgspec.structs.replace(seal, counts=counts, digest="")
        digest = seals.chain(digest, header, batch)
        forged.tamper(partition, "seals", entry.id, encode(msgspec.structs.replace(header, digest=digest)))
    forged.truncate(partition, held["seals"][-1].id.generation)  # the head is the last seal
    return forged


def _of_batch(position: Position, batch: Batch, seal: Position, stream: str) -> bool:
    """Whether an alert that the batch no longer has was one of its own; no other stream loses entries here."""
    return stream == "alerts" and any(position == entry.id for entry in batch.transactions)


def scores_replaced(log: MemoryLog, partition: int, scores: Mapping[Position, tuple[bytes, bytes | None]]) -> MemoryLog:
    """A copy of the log with these (score, alert) instead, and the partition sealed again."""

    def change(batch: Batch, seal: Seal) -> Seal:
        batch.scores = [Entry(e.id, scores[e.id][0]) if e.id in scores else e for e in batch.scores]
        alerts = {e.id: e.payload for e in batch.alerts}
        for entry in batch.transactions:
            if entry.id in scores:
                alert = scores[entry.id][1]
                alerts.pop(entry.id, None)
                if alert is not None:
                    alerts[entry.id] = alert
        batch.alerts = [Entry(i, alerts[i]) for i in sorted(alerts)]
        return seal

    return rechained(log, partition, change)


class _Other(Timeline):
    """A timeline that answers with another context than the one at a position."""

    def __init__(self, log: MemoryLog, make: Callable[[Timeline, int, int], Context]) -> None:
        given = control_stream.history(log), Resolver(log.get_blob, load_tiny)
        super().__init__(*given)
        self._true, self._make = Timeline(*given), make

    def at(self, position: int, partition: int) -> Context:
        return self._make(self._true, position, partition)


def decided_under(
    log: MemoryLog, partition: int, targets: Mapping[Position, str], make: Callable[[Timeline, int, int], Context]
) -> dict[Position, tuple[bytes, bytes | None]]:
    """(score, alert) of these decisions (position → account), decided again under whatever context `make` gives for
    (the true timeline, c, partition).
    """
    accounts = set(targets.values())
    events = redecide.account_events(log, partition, accounts)
    found = {}
    for again in redecide.recompute(log, partition, list(targets), accounts, _Other(log, make), events):
        assert again.score is not None
        found[again.decision.position] = (again.score, again.alert)
    return found


def without_model(degraded: str) -> Callable[[Timeline, int, int], Context]:
    """The context in force, but without its model, for this reason."""

    def make(timeline: Timeline, position: int, partition: int) -> Context:
        return dataclasses.replace(timeline.at(position, partition), scorer=None, degraded=degraded, arms=())

    return make


def control_changed(log: MemoryLog, position: int, change: Callable[[Any], Any] | None) -> MemoryLog:
    """A copy of the log with one control event changed, or removed if it is the last."""
    forged = log.clone()
    event = control_stream.history(log)[position - 1].event
    forged.tamper_control(position, encode(change(event)) if change is not None else None)
    return forged
