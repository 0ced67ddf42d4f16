"""Throughput and latency of each partition, by hour of log time. A fold over one partition.

Latency here is log time minus the payment's event time (`recorded_at` − `occurred_at`): the age of a payment when its
decision became durable, including the source and Kafka. It is counted in buckets of powers of two of a millisecond, so
percentiles are upper bounds within a factor of two. The worker's own latency is in its metrics, not in the log.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

import msgspec

from core.events import AccountEvent, Seal, TransactionRejected
from core.times import HOUR_MS
from projections.engine.base import DecidedTransaction, Fact, Projection
from projections.engine.states import States


class Hour(msgspec.Struct):
    """What was recorded in one hour."""

    batches: int = 0
    transactions: int = 0
    alerts: int = 0
    feedback: int = 0
    rejects: int = 0

    def add(self, other: Hour) -> None:
        """Add another hour's counts."""
        self.batches += other.batches
        self.transactions += other.transactions
        self.alerts += other.alerts
        self.feedback += other.feedback
        self.rejects += other.rejects


class Throughput(msgspec.Struct):
    """hours: epoch hour → counts. latency: n → transactions with 2**(n−1) ≤ milliseconds < 2**n (0: below 1 ms)."""

    hours: dict[int, Hour] = {}
    decisions: dict[str, int] = {}
    models: dict[str, int] = {}
    degraded: dict[str, int] = {}
    rejects: dict[str, int] = {}
    latency: dict[int, int] = {}
    first_recorded_at: int = 0
    last_recorded_at: int = 0

    def add(self, other: Throughput) -> None:
        """Add another partition's counts."""
        for hour, counts in other.hours.items():
            self.hours.setdefault(hour, Hour()).add(counts)
        for mine, theirs in (
            (self.decisions, other.decisions),
            (self.models, other.models),
            (self.degraded, other.degraded),
            (self.rejects, other.rejects),
        ):
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count
        for bucket, count in other.latency.items():
            self.latency[bucket] = self.latency.get(bucket, 0) + count
        firsts = [at for at in (self.first_recorded_at, other.first_recorded_at) if at]
        self.first_recorded_at = min(firsts, default=0)
        self.last_recorded_at = max(self.last_recorded_at, other.last_recorded_at)


def latency_ms_at_most(latency: dict[int, int], share: float) -> int | None:
    """An upper bound (ms) on the latency of at least `share` (0 … 1) of the transactions; None if there are none."""
    total, seen = sum(latency.values()), 0
    for bucket in sorted(latency):
        seen += latency[bucket]
        if seen >= share * total:
            return 1 << bucket
    return None


def _hour(state: Throughput, fact: Fact) -> Hour:
    """The counts of the fact's hour of log time."""
    at = fact.recorded_at
    state.first_recorded_at = min(state.first_recorded_at or at, at)
    state.last_recorded_at = max(state.last_recorded_at, at)
    return state.hours.setdefault(at // HOUR_MS, Hour())


def _decided(state: Throughput, fact: Fact) -> None:
    decided: DecidedTransaction = fact.event
    score = decided.score
    hour = _hour(state, fact)
    hour.transactions += 1
    hour.alerts += decided.alert is not None
    state.decisions[score.decision] = state.decisions.get(score.decision, 0) + 1
    state.models[score.model] = state.models.get(score.model, 0) + 1
    if score.degraded is not None:
        state.degraded[score.degraded] = state.degraded.get(score.degraded, 0) + 1
    bucket = max(fact.recorded_at - decided.transaction.occurred_at, 0).bit_length()
    state.latency[bucket] = state.latency.get(bucket, 0) + 1


def _rejected(state: Throughput, fact: Fact) -> None:
    event: TransactionRejected = fact.event
    _hour(state, fact).rejects += 1
    state.rejects[event.reason] = state.rejects.get(event.reason, 0) + 1


def _feedback(state: Throughput, fact: Fact) -> None:
    _hour(state, fact).feedback += 1


def _sealed(state: Throughput, fact: Fact) -> None:
    _hour(state, fact).batches += 1


THROUGHPUT = Projection(
    name="throughput",
    holds="counts by hour, decisions, models, rejects, age of payments",
    version=1,
    state_type=Throughput,
    handlers={
        DecidedTransaction: _decided,
        **dict.fromkeys(get_args(AccountEvent), _feedback),
        TransactionRejected: _rejected,
        Seal: _sealed,
    },
)


class StatsAnswer(msgspec.Struct, frozen=True):
    """Totals over all partitions. latency_ms_at_most: upper bounds of percentiles (`latency_ms_at_most`)."""

    as_of: str
    totals: Hour
    per_s: float
    latency_ms_at_most: dict[str, int | None]
    partitions: dict[str, Hour]
    throughput: Throughput


def stats_answer(states: States) -> StatsAnswer:
    """Throughput, decisions, rejects, and the age of payments when their decision became durable."""
    total, partitions = Throughput(), {}
    for partition, state in states.by_partition(THROUGHPUT).items():
        total.add(state)
        partitions[f"p{partition:02d}"] = _sum(state.hours.values())
    everything = _sum(total.hours.values())
    seconds = (total.last_recorded_at - total.first_recorded_at) / 1000
    bounds = {
        f"p{share}": latency_ms_at_most(total.latency, float(share) / 100) for share in ("50", "95", "99", "99.9")
    }
    rate = everything.transactions / seconds if seconds > 0 else 0.0
    return StatsAnswer(states.as_of, everything, rate, bounds, partitions, total)


def _sum(hours: Iterable[Hour]) -> Hour:
    total = Hour()
    for hour in hours:
        total.add(hour)
    return total
