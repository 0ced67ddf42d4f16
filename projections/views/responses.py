"""What responders did: outcomes of actions by kind, and how soon after the alert they came. A fold over one partition.

Times run from the record of the alert to the record of the outcome in the log, both log time; an intended delay is
taken off. They are counted in buckets at most a quarter wide, so percentiles and shares are bounds within that.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import msgspec

from core.events import ActionFailed, ActionOutcome, ActionSucceeded
from projections.engine.base import Fact, Projection
from projections.engine.states import States

NO_SEVERITY = "none"


class Response(msgspec.Struct):
    """Outcomes of one action for alerts of one severity. times: bucket → how many succeeded (`bucket_of`)."""

    succeeded: int = 0
    failed: dict[str, int] = {}
    times: dict[int, int] = {}

    def add(self, other: Response) -> None:
        """Add another partition's counts."""
        self.succeeded += other.succeeded
        for code, count in other.failed.items():
            self.failed[code] = self.failed.get(code, 0) + count
        for bucket, count in other.times.items():
            self.times[bucket] = self.times.get(bucket, 0) + count


class Responses(msgspec.Struct):
    """By `"action:severity"`."""

    outcomes: dict[str, Response] = {}


def bucket_of(milliseconds: int) -> int:
    """The bucket of a time: four to each power of two; below 4 ms, one for each."""
    if milliseconds < 4:
        return max(milliseconds, 0)
    power = milliseconds.bit_length() - 3
    return 4 * power + (milliseconds >> power)


def at_most(bucket: int) -> int:
    """The largest time of a bucket, ms."""
    if bucket < 4:
        return bucket
    power = bucket // 4 - 1
    return ((bucket - 4 * power + 1) << power) - 1


def _succeeded(state: Responses, fact: Fact) -> None:
    event: ActionSucceeded = fact.event
    response = _of(state, event)
    response.succeeded += 1
    if event.requested_at:
        bucket = bucket_of(fact.recorded_at - event.requested_at - event.delay_ms)
        response.times[bucket] = response.times.get(bucket, 0) + 1


def _failed(state: Responses, fact: Fact) -> None:
    event: ActionFailed = fact.event
    failed = _of(state, event).failed
    failed[event.code] = failed.get(event.code, 0) + 1


def _of(state: Responses, event: ActionOutcome) -> Response:
    return state.outcomes.setdefault(f"{event.action}:{event.severity or NO_SEVERITY}", Response())


RESPONSES = Projection(
    name="responses",
    holds="outcomes of automatic actions, and how soon they followed their alerts",
    version=1,
    state_type=Responses,
    handlers={ActionSucceeded: _succeeded, ActionFailed: _failed},
)


class ResponseRow(msgspec.Struct, frozen=True):
    """One action and severity. Times in ms, None without a success; sla_ms and met: None if no SLA is given for it."""

    action: str
    severity: str
    succeeded: int
    failed: dict[str, int]
    p50_ms: int | None
    p99_ms: int | None
    sla_ms: int | None
    met: float | None


class ResponsesAnswer(msgspec.Struct, frozen=True):
    """Actions and severities in order of their names."""

    as_of: str
    responses: list[ResponseRow]


def responses_answer(states: States, sla_ms: Mapping[str, int] | None = None) -> ResponsesAnswer:
    """What responders did, by action and severity of the alert, and how soon: median, p99, share within the SLA."""
    total: dict[str, Response] = {}
    for state in states.by_partition(RESPONSES).values():
        for name, response in state.outcomes.items():
            total.setdefault(name, Response()).add(response)
    return ResponsesAnswer(states.as_of, [_row(name, found, sla_ms or {}) for name, found in sorted(total.items())])


def _row(name: str, response: Response, sla_ms: Mapping[str, int]) -> ResponseRow:
    action, _, severity = name.rpartition(":")
    limit, timed = sla_ms.get(severity), sum(response.times.values())
    within = sum(count for bucket, count in response.times.items() if limit is not None and at_most(bucket) <= limit)
    return ResponseRow(
        action,
        severity,
        response.succeeded,
        dict(sorted(response.failed.items())),
        _quantile(response.times, 0.5),
        _quantile(response.times, 0.99),
        limit,
        within / timed if limit is not None and timed else None,
    )


def _quantile(times: Mapping[int, int], share: float) -> int | None:
    """An upper bound (ms) on at least this share of the times; None if there are none."""
    buckets = sorted(times)
    for bucket, seen in zip(buckets, accumulate(times[bucket] for bucket in buckets), strict=True):
        if seen >= share * sum(times.values()):
            return at_most(bucket)
    return None
