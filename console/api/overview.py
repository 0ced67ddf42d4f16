"""What the console's first page shows: what was decided in the last half hour, and what is in force. Pure.

Counted by the time at which decisions were recorded, so that loading history shows as work, too. Cost: a mask over the
index's columns, 2 ms for a million decisions; and the states of the control stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from console.api.index import DECISIONS, SEVERITIES
from console.api.views import Columns
from core.control_stream import ControlEntry
from core.program import loading
from core.times import DAY_MS, HOUR_MS, MINUTE_MS
from projections.engine.states import States
from projections.views.programs import PROGRAMS, ProgramRegistry, in_force
from projections.views.registry import REGISTRY, Registry

MINUTES = 30
WINDOW_MS = 5 * MINUTE_MS
LATENCY_MS_MAX = HOUR_MS
"""A payment that was decided later than this after it took place is history, and says nothing of latency."""
CHANGES_MAX = 20
ROUTINE = ("seals_recorded.v1", "checkpoint_signed.v1", "reference_published.v1", "program_prepared.v1")
"""Events that come by themselves."""
_DECLINE = DECISIONS.index("decline")


class Minute(msgspec.Struct, frozen=True):
    """Decisions that were recorded in the minute from `at` on. stopped: amount of declined payments, base currency."""

    at: int
    decisions: dict[str, int]
    alerts: dict[str, int]
    p99_ms: float | None
    stopped: float


class Stopped(msgspec.Struct, frozen=True):
    """Declined payments since midnight UTC. currency: the base currency, "" if the log has none."""

    amount: float
    count: int
    currency: str


class Serving(msgspec.Struct, frozen=True):
    """A model or program that decides. since: when it was deployed, 0 for the log's default; by whom."""

    label: str
    digest: str
    since: int
    actor: str


class Change(msgspec.Struct, frozen=True):
    """An event of the control stream."""

    position: int
    type: str
    actor: str
    at: int
    reason: str
    event: dict[str, Any]


class LiveAnswer(msgspec.Struct, frozen=True):
    """rate: decisions a second in the last minute. latency_ms: from payment to durable decision, and
    alerts_per_min, both over the last five minutes. changes: what was changed lately, newest first. last_at: when the
    newest decision was recorded.
    """

    as_of: str
    now: int
    rate: float
    latency_ms: dict[str, float | None]
    alerts_per_min: dict[str, float]
    stopped_today: Stopped
    series: list[Minute]
    model: Serving | None
    program: Serving
    thresholds: dict[str, float]
    changes: list[Change]
    last_at: int


class _Recent(msgspec.Struct):
    """The decisions recorded since `since`, as columns (n,)."""

    recorded: NDArray[np.int64]
    age: NDArray[np.int32]
    amount: NDArray[np.float64]
    decision: NDArray[np.int8]
    severity: NDArray[np.int8]


def live(
    states: States, columns: Mapping[int, Columns], changes: Callable[[int, int], Sequence[ControlEntry]]
) -> LiveAnswer:
    """The answer as of the states' moment. changes: the last ones up to a control position, newest first."""
    now = states.moment
    midnight = now - now % DAY_MS
    first = now - now % MINUTE_MS - (MINUTES - 1) * MINUTE_MS
    recent = _recent(columns, min(first, midnight), now)
    window = recent.recorded > now - WINDOW_MS
    today = (recent.recorded >= midnight) & (recent.decision == _DECLINE)
    registry = states.of_control(REGISTRY)
    return LiveAnswer(
        as_of=states.as_of,
        now=now,
        rate=int(np.count_nonzero(recent.recorded > now - MINUTE_MS)) / 60,
        latency_ms={"p50": _percentile(recent.age[window], 50), "p99": _percentile(recent.age[window], 99)},
        alerts_per_min={
            name: count / (WINDOW_MS / MINUTE_MS) for name, count in _by_severity(recent.severity[window]).items()
        },
        stopped_today=Stopped(
            float(recent.amount[today].sum()), int(np.count_nonzero(today)), registry.base if registry.base else ""
        ),
        series=[_minute(recent, first + i * MINUTE_MS) for i in range(MINUTES)],
        model=_model(registry),
        program=_program(states, states.of_control(PROGRAMS)),
        thresholds=registry.thresholds._asdict(),
        changes=[_change(entry) for entry in changes(states.cut.control, CHANGES_MAX)],
        last_at=max((int(c["recorded"][-1]) for c in columns.values() if len(c["recorded"])), default=0),
    )


def is_change(entry: ControlEntry) -> bool:
    """Whether the entry changed something: it has an effect, and did not come by itself."""
    return not entry.refused and entry.event.__struct_config__.tag not in ROUTINE


def _change(entry: ControlEntry) -> Change:
    fields = msgspec.to_builtins(entry.event)
    said = [fields.pop(name, "") for name in ("type", "actor", "occurred_at", "reason", "hash_key")]
    return Change(entry.position, said[0], said[1], said[2], said[3], fields)


def _recent(columns: Mapping[int, Columns], since: int, now: int) -> _Recent:
    parts = []
    for c in columns.values():
        rows = np.flatnonzero((c["recorded"] >= since) & (c["recorded"] <= now))
        parts.append(tuple(c[name][rows] for name in ("recorded", "age", "amount", "decision", "severity")))
    return _Recent(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _minute(recent: _Recent, at: int) -> Minute:
    rows = (recent.recorded >= at) & (recent.recorded < at + MINUTE_MS)
    decisions = np.bincount(recent.decision[rows], minlength=len(DECISIONS))
    declined = rows & (recent.decision == _DECLINE)
    return Minute(
        at=at,
        decisions={name: int(n) for name, n in zip(DECISIONS, decisions, strict=True)},
        alerts=_by_severity(recent.severity[rows]),
        p99_ms=_percentile(recent.age[rows], 99),
        stopped=float(recent.amount[declined].sum()),
    )


def _by_severity(severities: NDArray[np.int8]) -> dict[str, int]:
    counts = np.bincount(severities, minlength=len(SEVERITIES) + 1)[1:]
    return {name: int(n) for name, n in zip(SEVERITIES, counts, strict=True)}


def _percentile(ages: NDArray[np.int32], share: int) -> float | None:
    timely = ages[(ages >= 0) & (ages < LATENCY_MS_MAX)]
    return float(np.percentile(timely, share)) if len(timely) else None


def _model(registry: Registry) -> Serving | None:
    label = registry.aliases.get("champion")
    if label is None:
        return None
    last = next((d for d in reversed(registry.deployments) if d.alias == "champion"), None)
    since, actor = (0, "") if last is None else (last.occurred_at, last.actor)
    return Serving(label, registry.models[label].digest, since, actor)


def _program(states: States, registry: ProgramRegistry) -> Serving:
    digest = in_force(registry)
    label = loading.load(digest or registry.default, states.log.get_blob).program.label
    if not digest:
        return Serving(label, registry.default, 0, "")
    began = registry.services[-1].began
    return Serving(label, digest, began.occurred_at, began.actor)
