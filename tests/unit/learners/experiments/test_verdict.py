"""The verdict of an experiment: what each combination of findings comes to, and what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from learners.experiments.sequential import Interval
from learners.experiments.srm import Mismatch
from learners.experiments.verdict import METRICS, Criteria, Finding, finding, new_effect, verdict

ARMS = ("control", "new")
CRITERIA = Criteria(
    primary="value_lost",
    guardrails={"missed_fraud": 0.0, "false_positive": 0.0},
    alpha=0.05,
    minimum_accounts=100,
    maximum_ms=1_000,
    worthwhile=0.0,
)
PLENTY = {"control": 500, "new": 500, "other": 500}


def found(metric: Any = "value_lost", *, arm: str = "new", better: float = 0.0, worse: float = 0.0, **kw: Any):
    values: dict[str, Any] = {"gain": 0.01, "interval": Interval(-0.01, 0.03), **kw}
    return Finding(arm, metric, values["gain"], values["interval"], better, worse, 1.0, 1.0)


def decided(*findings: Finding, mature: Any = PLENTY, arms: Any = ARMS, mismatch: Any = None, elapsed: int = 0):
    return verdict(CRITERIA, arms, mature, findings, mismatch or Mismatch(), elapsed)


def test_promotes_at_its_level_and_not_before() -> None:
    """One arm: promoted from e = 1/α on; with two treated arms, only from 2/α on."""
    assert decided(found(better=np.log(19.9))).action == "continue"
    assert decided(found(better=np.log(20.1))).action == "promote"
    three = (*ARMS, "other")
    assert decided(found(better=np.log(39)), arms=three).action == "continue"
    assert decided(found(better=np.log(41)), arms=three).arm == "new"


def test_waits_for_enough_accounts() -> None:
    """Evidence alone is not enough: both arms need their minimum of mature accounts."""
    held = decided(found(better=9.0), mature={"control": 99, "new": 500})
    assert held.action == "continue" and "waiting" in held.reasons[0]


def test_the_better_of_two_winners_is_promoted() -> None:
    """Among arms that are shown to be better, the one that gains most."""
    both = decided(found(better=9.0, gain=0.01), found(arm="other", better=6.0, gain=0.02), arms=(*ARMS, "other"))
    assert (both.action, both.arm) == ("promote", "other")


def test_guardrail_comes_before_promotion_and_before_the_minimum() -> None:
    """An arm that breaches a guardrail is rolled back even if it is better on the primary metric, and however early."""
    breach = found("false_positive", worse=np.log(41), gain=-0.1)  # 1 arm × 2 guardrails / 0.05
    held = decided(found(better=9.0), breach, mature={"control": 3, "new": 3})
    assert (held.action, held.arm) == ("rollback", "new")
    assert "false_positive" in held.reasons[0]
    assert decided(found("false_positive", worse=np.log(39))).action == "continue"


def test_a_metric_that_guards_nothing_never_rolls_back() -> None:
    """fraud_caught is no guardrail here: however bad, it decides nothing."""
    assert decided(found("fraud_caught", worse=50.0)).action == "continue"


def test_mismatch_invalidates_everything() -> None:
    """With a sample-ratio mismatch nothing is promoted: the comparison is rolled back as invalid."""
    mismatch = Mismatch()
    for _ in range(60):
        mismatch.update(1, (0.5, 0.5))
    assert mismatch.log_e_max > np.log(1000)
    held = decided(found(better=9.0), mismatch=mismatch)
    assert held.action == "rollback" and "invalid" in held.reasons[0]


def test_stops_when_useless_or_out_of_time() -> None:
    """It stops when every arm's gain is below what is worth it, or when the time is over; not before."""
    useless = found(gain=-0.02, interval=Interval(-0.04, -0.01))
    assert decided(useless).action == "stop"
    assert decided(useless, mature={"control": 9, "new": 9}).action == "continue"
    assert decided(useless, found(arm="other"), arms=(*ARMS, "other")).action == "continue"
    assert decided(found(), elapsed=999).action == "continue"
    assert decided(found(), elapsed=1_000).action == "stop"


@pytest.mark.parametrize("metric", list(METRICS))
def test_gain_is_positive_where_the_treated_arm_is_better(metric: Any) -> None:
    """Whatever the metric's direction, an improvement is a positive gain with evidence of better and none of worse."""
    effect = new_effect(metric, CRITERIA)
    rng = np.random.default_rng(1)
    good, bad = (0.6, 0.2) if METRICS[metric] > 0 else (0.2, 0.6)
    for _ in range(400):
        arm = int(rng.random() < 0.5)
        effect.observe(arm, 0.5, 0.5, float(rng.random() < (good if arm else bad)))
    held = finding("new", metric, effect, 0.05)
    assert held.gain == pytest.approx(0.4, abs=0.15) and held.interval.low > 0
    assert held.log_e_better > 3 and held.p_better < 0.05 < held.p_worse
    assert held.log_e_worse < 1


@pytest.mark.parametrize("metric", list(METRICS))
def test_margin_of_a_guardrail_is_tolerated(metric: Any) -> None:
    """A metric 0.1 worse, in its own direction, breaches a margin of 0 and not one of 0.3."""
    rng = np.random.default_rng(4)
    arms = (rng.random(4000) < 0.5).astype(int)
    outcomes = (rng.random(4000) < 0.3 - 0.1 * METRICS[metric] * arms).astype(float)
    for margin, breaches in ((0.0, True), (0.3, False)):
        criteria = replace(CRITERIA, guardrails={metric: margin})
        effect = new_effect(metric, criteria)
        for arm, outcome in zip(arms, outcomes, strict=True):
            effect.observe(int(arm), 0.5, 0.5, outcome)
        held = finding("new", metric, effect, 0.05)
        action = verdict(criteria, ARMS, PLENTY, [held], Mismatch(), 0).action
        assert (action == "rollback") is breaches


def test_a_guardrail_promotes_what_is_not_worse_with_enough_accounts() -> None:
    """An arm that was shown to be better before needs no gain here: it wins with its minimum of accounts, whatever the
    gain; a breach, or a loss on the primary metric, rolls it back at any time; until then it waits.
    """
    guard = replace(CRITERIA, is_guardrail=True)

    def held(*findings: Finding, accounts: int = 500, elapsed: int = 0) -> tuple[str, str]:
        verdict_ = verdict(guard, ARMS, dict.fromkeys(ARMS, accounts), findings, Mismatch(), elapsed)
        return verdict_.action, verdict_.arm

    none = found(gain=-0.001, interval=Interval(-0.01, -0.0001))
    assert held(none) == ("promote", "new")
    assert held(none, accounts=99) == ("continue", "") and held(none, accounts=99, elapsed=1_000) == ("stop", "")
    assert held(none, found("false_positive", worse=np.log(61)), accounts=3) == ("rollback", "new")
    assert held(found(better=99.0, worse=np.log(61))) == ("rollback", "new")  # 3 comparisons / 0.05
    assert held(found(worse=np.log(59))) == ("promote", "new")
    assert decided(found(worse=np.log(1e9), interval=Interval(-1.0, 1.0))).action == "continue"
