"""Figures of alerts and of reported frauds: placed by the time of the report, episodes of an account weigh one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.features import spec
from core.times import DAY_MS, HOUR_MS
from learners.drift.compare import Baseline, FeatureDrift, compare
from learners.drift.figures import REPORTS, Sample, episode_weights, samples, usual
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
    has other hours, other amounts, or scores lower. terminals: half of the fraud is at terminals, 40 at each in 3 days.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    one = rows(40_000, seed, days=35, accounts=2000)
    fraud = rng.random(len(one)) < 0.03
    if changed.get("terminals"):
        fraud = rng.random(len(one)) < 0.015
        shops = one.shops.copy()
        for number, begin in enumerate(rng.uniform(0, 32, 15)):
            near = np.flatnonzero((one.times >= MONDAY + begin * DAY_MS) & (one.times < MONDAY + (begin + 3) * DAY_MS))
            hit = rng.choice(near, min(40, len(near)), replace=False)
            fraud[hit], shops[hit] = True, number
        one = replace(one, shops=shops)
    late = fraud & (one.times >= MONDAY + turn * DAY_MS) if turn else np.zeros(len(one), dtype=np.bool_)
    margins = np.where(fraud, 2.0 + one.margins, one.margins - 4.0)
    margins[late] -= changed.get("margin", 0.0)
    hour = one.columns[spec.index("hour_of_day")]
    hour[fraud] = rng.choice([6, 7, 8, 9, 10, 11], int(fraud.sum()))
    hour[late] = (hour[late] + changed.get("hours", 0.0)) % 24
    categories = rng.integers(0, 7, len(one))
    ratio = one.columns[spec.index("amount_to_typical")]
    ratio[:] = np.exp(categories + rng.normal(0, 0.4, len(one)))
    ratio[late] *= changed.get("amount", 1.0)
    one.columns[spec.index("amount")] = ratio
    one = replace(one, categories=categories.astype(np.uint64))
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
    now = samples(one.between(end - 21 * DAY_MS, end), "m1", 0.0, Reports(said, end), delay)  # type: ignore[arg-type]
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


def test_an_accounts_day_weighs_one_and_so_does_a_shops() -> None:
    """Weights are 1 / the rows of the same account and day, shared by the accounts of one shop and day."""
    accounts, times = np.array([1, 1, 1, 2, 2, 3]), np.array([0, 5, DAY_MS, 0, 1, 7])

    def weights(shops: list[int]) -> list[float]:
        one = replace(rows(6, 1), accounts=accounts.astype(np.uint64), times=times, shops=np.array(shops, np.uint64))
        return episode_weights(Sample(one, np.arange(6), times)).tolist()

    assert weights([1, 2, 3, 4, 5, 6]) == [0.5, 0.5, 1.0, 0.5, 0.5, 1.0]
    assert weights([1, 2, 1, 1, 4, 1]) == pytest.approx([1 / 6, 0.5, 1.0, 1 / 6, 0.5, 1 / 3])
    assert len(joined([])) == 0


def test_what_is_usual_is_the_categorys_median() -> None:
    """An amount is relative to the account's usual one and to the median of its category in the reference; a category
    with few payments takes the median of all.
    """
    one = rows(1000, 1)
    ratio = one.columns[spec.index("amount_to_typical")]
    categories = (np.arange(1000) % 2).astype(np.uint64)
    categories[:5] = 7
    ratio[categories == 1] *= 10.0
    ratio[10] = np.nan
    one = replace(one, categories=categories)
    sample = Sample(one, np.arange(1000), one.times)
    known = usual(sample)
    found = known.relative_amount(sample)
    logs = np.log(ratio.astype(np.float64))
    assert found[100] == pytest.approx(logs[100] - np.nanmedian(logs[categories == 0]), rel=1e-5)
    assert found[101] == pytest.approx(logs[101] - np.nanmedian(logs[categories == 1]), rel=1e-5)
    assert found[3] == pytest.approx(logs[3] - np.nanmedian(logs), rel=1e-5) and np.isnan(found[10])


def test_smaller_frauds_are_told_though_categories_differ_more() -> None:
    """Fraud takes 45 % of what it took; categories differ by factors of up to 400 and hide it."""
    found = looked(5, turn=25, amount=0.45)
    assert found["fraud:relative_amount"].drifted and found["fraud:relative_amount"].kind == "fraud"
    assert not found["fraud:amount"].drifted and not found["amount"].drifted


def test_frauds_of_one_terminal_are_no_change_of_the_rate() -> None:
    """Frauds come as terminals that copy cards for days, each of 40 accounts: twice as many in one week is chance."""
    told = [looked(seed, terminals=True)[FRAUD_RATE].p_value_adjusted for seed in range(6)]
    assert min(told) > CONFIG.alpha
