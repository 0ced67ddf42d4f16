"""Figures of alerts and of reported frauds: placed by the time of the report, episodes of an account weigh one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from core.features import spec
from core.times import DAY_MS, HOUR_MS
from learners.drift.compare import Baseline, FeatureDrift, compare
from learners.drift.figures import REPORTS, episode_weights, samples
from learners.drift.policy import FRAUD_RATE, RECALL, DriftConfig
from learners.drift.rows import Rows, joined
from tests.builders.drift import MONDAY, rows

CONFIG = DriftConfig()
END = MONDAY + 35 * DAY_MS


class Reports:
    """The part of a label view that `samples` reads: when each fraud was reported, 0 if it is none or not yet."""

    def __init__(self, at: dict[int, int], until: int) -> None:
        self._at, self._until = at, until

    def reported(self, accounts: np.ndarray, transactions: np.ndarray) -> np.ndarray:
        at = np.array([self._at.get(each, 0) for each in transactions.tolist()], dtype=np.int64)
        return np.where(at <= self._until, at, 0)


def stream(seed: int, turn: int = 0, **changed: float) -> tuple[Rows, dict[int, int]]:
    """35 days of 2,000 accounts, 3 % fraud that scores high and is reported within 3 days; from `turn` (days) on fraud
    has other hours, or scores lower.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    one = rows(40_000, seed, days=35, accounts=2000)
    fraud = rng.random(len(one)) < 0.03
    late = fraud & (one.times >= MONDAY + turn * DAY_MS) if turn else np.zeros(len(one), dtype=np.bool_)
    margins = np.where(fraud, 2.0 + one.margins, one.margins - 4.0)
    margins[late] -= changed.get("margin", 0.0)
    hour = one.columns[spec.index("hour_of_day")]
    hour[fraud] = rng.choice([6, 7, 8, 9, 10, 11], int(fraud.sum()))
    hour[late] = (hour[late] + changed.get("hours", 0.0)) % 24
    at = one.times + rng.integers(HOUR_MS, 3 * DAY_MS, len(one))
    said = {int(t): int(a) for t, a, f in zip(one.transactions, at, fraud, strict=True) if f}
    return replace(one, margins=margins), said


def looked(seed: int, end: int = END, turn: int = 0, **changed: float) -> dict[str, FeatureDrift]:
    """The findings at `end`, with the reference in the first two weeks."""
    one, said = stream(seed, turn, **changed)
    first, delay = MONDAY + 14 * DAY_MS, CONFIG.maturity_ms
    held = samples(one.between(0, first + delay), "m1", 0.0, Reports(said, first + delay), delay)  # type: ignore[arg-type]
    ends = {group: first + (delay if group in REPORTS else 0) for group in held}
    parts = {group: sample.between(ends[group] - 14 * DAY_MS, ends[group]) for group, sample in held.items()}
    baseline = Baseline(parts, ends, CONFIG, 90 * DAY_MS, 0.0)
    now = samples(one.between(end - 14 * DAY_MS, end), "m1", 0.0, Reports(said, end), delay)  # type: ignore[arg-type]
    return {each.feature: each for each in compare(baseline, now, end)}


def test_nothing_changed_is_told_of_alerts_and_frauds() -> None:
    """Reports that come days late are compared with reports that came as late: ten streams, no drift of fraud."""
    for seed in range(10):
        found = looked(seed)
        assert found[FRAUD_RATE].state == found[RECALL].state == found["alerts:amount"].state == "tested"
        assert [name for name, each in found.items() if each.drifted and ":" in name] == []


def test_other_hours_of_fraud_are_told_from_alerts_and_from_reports() -> None:
    """Four days after its hours moved, fraud has drifted in both; honest payments have not."""
    found = looked(3, turn=31, hours=12.0)
    assert found["alerts:hour_of_day"].drifted and found["fraud:hour_of_day"].drifted
    assert not found["amount"].drifted and not found["fraud:amount"].drifted
    assert found["alerts:hour_of_day"].kind == "fraud"


def test_frauds_that_are_no_longer_alerted_are_a_loss_of_performance() -> None:
    """Scores of new frauds fall: recall drifts as performance, from reports alone; if it rises, nothing is told."""
    found = looked(4, turn=28, margin=2.5)
    assert found[RECALL].drifted and found[RECALL].kind == "performance"
    assert not looked(4, turn=28, margin=-2.5)[RECALL].drifted


def test_reports_are_placed_by_their_time_and_only_quick_ones_count() -> None:
    """Ordered by report; one later than the maturity is left out; `reported` holds payments and reports."""
    one = rows(6, 1, days=1)
    at = {int(t): int(time + d * DAY_MS) for t, time, d in zip(one.transactions, one.times, range(6), strict=True)}
    held = samples(one, "m1", 9.0, Reports(at, 2**60), 3 * DAY_MS)  # type: ignore[arg-type]
    assert held["reports"].index.tolist() == [0, 1, 2, 3]
    assert (np.diff(held["reports"].times) >= 0).all()
    marked = held["reported"].marked
    assert marked is not None and len(held["reported"]) == 10 and marked.sum() == 4
    assert len(held["alerts"]) == 0 and "reports" not in samples(one, "m1", 9.0, None, 0)


def test_an_accounts_day_weighs_one() -> None:
    """Weights are 1 / the rows of the same account and day, and sum to the number of account-days."""
    accounts = np.array([1, 1, 1, 2, 2, 3])
    times = np.array([0, 5, DAY_MS, 0, 1, 7])
    assert episode_weights(accounts, times).tolist() == [0.5, 0.5, 1.0, 0.5, 0.5, 1.0]
    assert len(joined([])) == 0
