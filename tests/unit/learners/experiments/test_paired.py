"""The paired test: its error under continuous looks, its power against an A/B test, and what it decides."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks import experiments as benchmark
from learners.experiments import paired
from learners.experiments.design import Design
from learners.experiments.paired import STAKES, log_wealth
from learners.experiments.verdict import criteria_of
from projections.views.shadow_trial import Trial

LEVEL = math.log(1.0 / 0.05)
CRITERIA = criteria_of(Design(accounts_min=500))


def trial(value: np.ndarray, stopped: np.ndarray | None = None) -> Trial:
    """Accounts with these differences of value, and of false positives."""
    missed, spared = np.sign(value), np.zeros(len(value)) if stopped is None else stopped
    columns = {"fraud_caught": missed, "missed_fraud": missed, "false_positive": spared, "value_lost": value}
    changed = int(((missed != 0) | (spared != 0)).sum())
    return Trial(len(value) + 7, np.arange(len(value)), columns, changed, 0, 0)


def test_the_wealth_is_the_product_of_what_each_stake_makes() -> None:
    """Step by step in plain floats; accounts without a difference move nothing; out of range is an error."""
    random = np.random.default_rng(0)
    steps = np.where(random.random(400) < 0.2, random.uniform(-1.0, 1.0, 400), 0.0)
    wealth, wanted = [1.0] * len(STAKES), []
    for step in steps.tolist():
        wealth = [w * (1.0 + stake * step) for w, stake in zip(wealth, STAKES.tolist(), strict=True)]
        if step:
            wanted.append(math.log(sum(wealth) / len(wealth)))
    np.testing.assert_allclose(log_wealth(steps), wanted, rtol=1e-9, atol=1e-12)
    assert len(log_wealth(np.zeros(5))) == 0
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        log_wealth(np.array([0.0, 1.5]))


def test_pieces_do_not_change_the_wealth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the size of the pieces in which it is computed."""
    steps = np.random.default_rng(1).uniform(-1.0, 1.0, 1000)
    whole = log_wealth(steps)
    monkeypatch.setattr(paired, "_PIECE", 7)
    np.testing.assert_array_equal(log_wealth(steps), whole)


@pytest.mark.parametrize("accounts", [100, 600, 2000])
def test_an_equal_shadow_is_hardly_ever_promoted(accounts: int) -> None:
    """1,000 tests, looked at after every account, of models that are equal but differ on one account in eleven: at most
    5 % are ever shown to be better.
    """
    setting = benchmark.Pairs("equal", attacked=0.3, missed=0.5, found=0.3, lost=0.3)
    alarms = sum(
        bool(log_wealth(benchmark.pairs(setting, accounts, seed).value).max(initial=0.0) >= LEVEL)
        for seed in range(1000)
    )
    assert alarms <= 50


def test_a_shadow_that_finds_more_but_loses_as_much_is_not_promoted() -> None:
    """It finds half of what the champion misses, and ranks better, but only small amounts: not better on value."""
    setting = next(each for each in benchmark.EQUAL if each.is_small)
    drawn = [benchmark.pairs(setting, 2000, seed) for seed in range(300)]
    caught = sum(float(np.sign(each.value).sum()) for each in drawn)
    assert caught > 5000
    assert sum(bool(log_wealth(each.value).max(initial=0.0) >= LEVEL) for each in drawn) <= 15


def test_pairs_need_far_fewer_accounts_than_an_ab_test() -> None:
    """Missed fraud halved, 1 % of accounts attacked: three quarters of the paired tests end by 30,000 accounts; hardly
    an A/B test does, with the same accounts.
    """
    setting = benchmark.HALVED
    by_pairs = by_arms = 0
    for seed in range(40):
        drawn = benchmark.pairs(setting, 30_000, seed)
        by_pairs += bool(log_wealth(drawn.value).max(initial=0.0) >= LEVEL)
        by_arms += benchmark.found_by_arms(drawn, seed) is not None
    assert by_pairs >= 30 and by_arms <= 8


def test_verdicts() -> None:
    """Better: promote, if there are enough accounts. A guardrail breached: roll back, however good the value. No
    difference: continue, until it takes too long. Worse: stop.
    """
    good = np.zeros(2000)
    good[::40] = 0.8
    assert paired.report(trial(good), CRITERIA, 0).verdict.action == "promote"
    few = paired.report(trial(good[:400]), CRITERIA, 0)
    assert few.verdict.action == "continue" and (few.accounts, few.mature, few.changed) == (407, 400, 10)
    stops = np.where(np.arange(2000) % 20 == 1, -1.0, 0.0)
    stopped = paired.report(trial(good, stops), CRITERIA, 0)
    assert stopped.verdict.action == "rollback" and "false_positive worse" in stopped.verdict.reasons[0]
    same = paired.report(trial(np.zeros(2000)), CRITERIA, 0)
    assert same.verdict.action == "continue" and same.findings[0].gain == 0.0
    assert paired.report(trial(np.zeros(2000)), CRITERIA, CRITERIA.maximum_ms).verdict.action == "stop"
    assert paired.report(trial(-good), CRITERIA, 0).verdict.action in ("stop", "rollback")
    nothing = paired.report(trial(np.zeros(0)), CRITERIA, 0)
    assert nothing.verdict.action == "continue" and math.isnan(nothing.findings[0].gain)


def test_a_margin_is_granted() -> None:
    """Twenty more stopped accounts in 10,000 are within a margin of 5 in 1,000, two hundred are not."""
    for every, action in ((500, "continue"), (50, "rollback")):
        stops = np.where(np.arange(10_000) % every == 0, -1.0, 0.0)
        assert paired.report(trial(np.zeros(10_000), stops), CRITERIA, 0).verdict.action == action


def test_evidence_names_every_figure() -> None:
    """What a test's start records: counts, and gains with intervals and e-values by metric."""
    good = np.zeros(1000)
    good[::20] = 0.5
    found = paired.evidence(paired.report(trial(good), CRITERIA, 0))
    assert found["paired.mature"] == 1000 and found["paired.changed"] == 50
    assert found["paired.value_lost.gain"] == pytest.approx(0.025) and found["paired.value_lost.log_e_better"] > LEVEL
    assert found["paired.value_lost.low"] < 0.025 < found["paired.value_lost.high"] and len(found) == 2 + 4 * 5
