"""Logs, truncated logs and plain orderings for the tests of projections."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from core.codec import encode
from core.events import (
    CaseAssigned,
    CaseResolved,
    DriftCleared,
    DriftDetected,
    ListChanged,
    ModelDeployed,
    ModelRegistered,
    ModelRolledBack,
    Position,
    RulesChanged,
    ThresholdsChanged,
)
from core.log.memory import MemoryLog
from projections.engine.base import CONTROL, Projection
from projections.engine.runner import Runner
from tests.builders.events import T0
from tests.builders.logs import PARTITIONS, entries, filled
from tests.builders.models import deployed

SOURCES = [*range(PARTITIONS), CONTROL]


def control_events() -> dict[int, list[Any]]:
    """Control events by record number: something for every projection of the control stream."""
    common: dict[str, Any] = {"occurred_at": T0, "actor": "ann"}
    drift = {"statistic": "psi", "magnitude": 0.3, "severity": "high", "window_start": 1, "window_end": 2}
    first = {"name": "tiny", "version": "1.0.0", "digest": deployed().digest}
    second = {"name": "tiny", "version": "1.1.0", "digest": "b" * 64}
    return {
        60: [
            ModelRegistered(**common, **second, spec=1, parent="1.0.0", metrics={"auc": 0.9}),
            ListChanged(**common, kind="card", effect="block", add=("c1", "c2"), reason="stolen"),
        ],
        150: [
            ModelDeployed(**common, **second, alias="candidate"),
            ThresholdsChanged(**common, review=0.3, decline=0.7, reason="summer"),
            ThresholdsChanged(**common, review=0.9, decline=0.1),
            DriftDetected(**common, feature="amount", **drift),
        ],
        260: [
            ModelRolledBack(**common, **first, reason="worse"),
            ListChanged(**common, kind="card", effect="block", add=("c3",), remove=("c1", "c9")),
            RulesChanged(**common, parameters={"amount_high": 500.0}, disabled=()),
            DriftDetected(**common, feature="hour", **drift),
            DriftCleared(**common, feature="amount"),
        ],
    }


@cache
def shared_log(seed: int = 1, size: int = 450) -> MemoryLog:
    """A log that tests only read."""
    return filled(seed, size, changes=control_events())


def truncated(log: MemoryLog, ends: dict[int, int]) -> MemoryLog:
    """A copy that ends at these sequences of its sources: the log as it once was."""
    other = log.clone()
    for partition in range(PARTITIONS):
        other.truncate(partition, ends.get(partition, log.head(partition).sequence))
    other.truncate_control(ends.get(CONTROL, log.control_head()))
    return other


def view_digests(log: MemoryLog, projection: Projection[Any]) -> dict[int, str]:
    """The state hashes of a runner that was never stopped."""
    runner = Runner(log, range(PARTITIONS), [projection])
    runner.catch_up()
    return runner.digests(projection)


def plain(log: MemoryLog, partition: int) -> list[tuple[str, str, dict[str, Any], int]]:
    """A partition's entries in the order in which they were decided: (kind, ID, JSON object, recorded_at).

    Made without the code under test: by seals, scores' `f` and nothing else.
    """

    def held(stream: Any) -> list[tuple[Position, dict[str, Any]]]:
        return [(e.id, json.loads(e.payload)) for e in entries(log, partition, stream)]

    scores, alerts = dict(held("scores")), dict(held("alerts"))
    transactions, feedback, rejects = held("transactions"), held("feedback"), held("rejects")
    out: list[tuple[str, str, dict[str, Any], int]] = []
    for sealed, seal in held("seals"):
        at = seal["recorded_at"]
        while transactions and transactions[0][0] <= Position.parse(seal["transactions"]):
            position, transaction = transactions.pop(0)
            while feedback and feedback[0][0] <= Position.parse(scores[position]["f"]):
                out.append(("feedback", str(feedback[0][0]), feedback.pop(0)[1], at))
            whole = {"transaction": transaction, "score": scores[position], "alert": alerts.get(position)}
            out.append(("decided", str(position), whole, at))
        while feedback and feedback[0][0] <= Position.parse(seal["feedback"]):
            out.append(("feedback", str(feedback[0][0]), feedback.pop(0)[1], at))
        while rejects and rejects[0][0].generation == sealed.generation:
            out.append(("reject", str(rejects[0][0]), rejects.pop(0)[1], at))
        out.append(("seal", str(sealed), seal, at))
    return out


def encoded(*events: Any) -> list[bytes]:
    """Control events as payloads."""
    return [encode(event) for event in events]


def assigned(case_id: str, account: str, assignee: str) -> CaseAssigned:
    return CaseAssigned(account_id=account, case_id=case_id, occurred_at=T0, actor="lead", assignee=assignee)


def resolved(case_id: str, account: str, verdict: Any) -> CaseResolved:
    return CaseResolved(account_id=account, case_id=case_id, occurred_at=T0 + 5, actor="bob", verdict=verdict)
