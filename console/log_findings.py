"""What the log says of itself: whether it is whole, who acts on it, what decides, and how old what decides is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

from console import wiring
from console.actor_findings import actor_findings
from console.age_findings import archive_age_findings, read_model_findings, table_findings
from console.anchoring.age import anchor_findings
from console.anchoring.settings import anchor_settings
from console.edge_report import bound_findings, identity_findings
from console.profiles import log_profile_findings
from console.respond_report import responder_findings
from console.server_findings import Finding
from core import control_stream
from core.context import NO_MODEL
from core.control import ControlState
from core.errors import Corrupt, SentinelError
from core.log import paging
from core.log.base import STREAMS, EventLog
from core.settings import Settings
from ingest import bootstrap, evidence


def log_findings(s: Settings) -> Iterator[Finding]:
    """What the log says of itself, and whether it fits the settings. Asks no broker."""
    with closing(wiring.open_log(s)) as log:
        state = control_stream.current(log)
        if not state.generations:
            yield _empty(s, log)
            return
        partitions = state.generations["transactions"].partitions
        decided = sum(log.length(p, "transactions") for p in range(partitions))
        champion = state.champion.label if state.champion else "none"
        yield Finding("log", "ok", f"{decided:,} transactions, control position {state.position}, champion {champion}")
        yield from _whole(log, partitions)
        yield from degraded_findings(log, state)
        yield from actor_findings(log, state)
        yield from log_profile_findings(s, state)
        for check, ignored in bootstrap.ignored_settings(state, s).items():
            message, _, remedy = ignored.partition(". To change that, ")
            yield Finding(check, "warn", message, f"to change the log's value, {remedy}")
        yield from (Finding(*said) for said in identity_findings(s, log, state))
        yield from (Finding(*said) for said in bound_findings(s, state))
        now_ms = int(time.time() * 1000)
        for check, status, message, remedy in anchor_findings(anchor_settings(s.anchors), state, now_ms):
            yield Finding(check, "ok" if status == "ok" else "warn", message, remedy)
        yield from _history(state)
        yield from table_findings(log, state)
        yield from read_model_findings(s, log, state, now_ms)
        yield from archive_age_findings(s, log, state, now_ms)
        yield from (Finding(*said) for said in responder_findings(s, log))


def _history(state: ControlState) -> Iterator[Finding]:
    opened = state.histories[-1] if state.histories else None
    if opened is not None and opened.ends is None:
        yield Finding(
            "history",
            "warn",
            f"history mode is on ({opened}): live messages are rejected",
            "if nothing is being loaded, run sentinel history stop",
        )


def degraded_findings(log: EventLog, state: ControlState) -> Iterator[Finding]:
    """What decisions lack: here, and as the workers reported."""
    absent = wiring.open_resolver(log).unavailable(state)
    if state.champion is None:
        yield Finding(
            "log",
            "fail",
            f"decisions would be degraded: {NO_MODEL}",
            "promote a model; to let rules alone decide, run `sentinel model register --rules-only` and promote that",
        )
    for why in absent.values():
        yield Finding("log", "fail", f"decisions would be degraded: {why}", "deploy a model that can be loaded")
    for partition, artifacts in sorted(state.missing.items()):
        named = ", ".join(digest[:16] for digest in artifacts)
        yield Finding(
            f"partition {partition}",
            "fail",
            f"is decided without {named}, which its worker could not load",
            "its log says why; it ends when the artifact loads, there or in another worker that owns the partition",
        )


def _empty(s: Settings, log: EventLog) -> Finding:
    try:
        found = evidence.of_earlier_log(log, s, bootstrap.source_topics(s)["transactions"])
    except SentinelError:
        said = f"empty (prefix {s.log_prefix!r}); whether there was one before can't be told without Kafka's topics"
        return Finding("log", "warn", said, "see what is said of Kafka")
    if not found:
        return Finding("log", "ok", f"empty (prefix {s.log_prefix!r}); the first `sentinel ingest` sets it up")
    return Finding(
        "log",
        "fail",
        f"empty (prefix {s.log_prefix!r}), but there was one before: {'; '.join(each.what for each in found)}",
        "restore the log server's backup, or correct its address or the prefix; see docs/failures.md",
    )


def _whole(log: EventLog, partitions: int) -> Iterator[Finding]:
    """Whether every partition can be read from its first entry, hot log and archive together."""
    for partition in range(partitions):
        try:
            for stream in STREAMS:
                paging.read(log, partition, stream, count=1)
        except Corrupt as error:
            yield Finding("log", "fail", str(error), "no worker can own this partition until its entries are back")
