"""From observations to a verdict: planted effects are promoted or rolled back, broken assignment is never believed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from core.errors import BadInput
from core.events import Arm
from core.times import DAY_MS
from learners.experiments.report import criteria_of, paths, report
from learners.experiments.verdict import METRICS
from projections.views.experiments import Experiment
from projections.views.experiments_answers import Observations
from tests.builders.events import T0
from tests.builders.experiments import started

RATES = {"fraud_caught": 0.04, "missed_fraud": 0.04, "false_positive": 0.1, "value_lost": 0.03}
THIRD = (Arm("control", "m", "1", "a", 5000), Arm("new", "m", "2", "b", 2500), Arm("other", "m", "3", "c", 2500))


def seen(
    seed: int,
    lifts: dict[int, dict[str, float]],
    shares: tuple[float, ...] = (0.4, 0.6),
    size: int = 5000,
    days: int = 30,
) -> Observations:
    """Accounts of arms drawn by `shares`, whose rates differ from RATES by the arm's lifts; all of them mature."""
    rng = np.random.default_rng(seed)
    arm = rng.choice(len(shares), size, p=shares)
    outcomes = {}
    for metric, rate in RATES.items():
        lift = np.array([lifts.get(i, {}).get(metric, 0.0) for i in range(len(shares))])
        outcomes[metric] = (rng.random(size) < rate + lift[arm]).astype(np.float64)
    at = T0 + np.sort(rng.integers(0, days * DAY_MS, size))
    return Observations(arm, at, arm, at, outcomes, 0, 0, 0, 0, T0 + days * DAY_MS)


def held(observations: Observations, **changes: Any) -> Any:
    return report(Experiment(started(primary="fraud_caught", **changes), 3), observations, "now")


def test_a_planted_gain_is_promoted_with_what_it_rests_on() -> None:
    """Fraud caught doubles in the treated arm: promoted, and every interval covers its true gain."""
    found = held(seen(1, {1: {"fraud_caught": 0.04, "missed_fraud": -0.03}}))
    assert (found.verdict.action, found.verdict.arm) == ("promote", "new")
    gains = {"fraud_caught": 0.04, "missed_fraud": 0.03, "false_positive": 0.0, "value_lost": 0.0}
    for each in found.findings:
        assert each.interval.low < gains[each.metric] < each.interval.high
    assert [row.exposed for row in found.arms] == [row.mature for row in found.arms]
    assert found.sample_ratio.p_anytime > 0.01


def test_a_planted_harm_is_rolled_back_even_if_the_primary_metric_gains() -> None:
    """False positives, a guardrail, rise with fraud caught: rolled back; as no guardrail, promoted."""
    harmful = seen(2, {1: {"fraud_caught": 0.05, "false_positive": 0.1}})
    assert held(harmful).verdict.action == "rollback"
    assert held(harmful, guardrails=("value_lost",)).verdict.action == "promote"


def test_of_three_arms_only_the_better_one_is_promoted() -> None:
    """Each arm is compared with control alone: the third arm's gain does not help the second."""
    shares = (0.5, 0.25, 0.25)
    found = held(seen(3, {2: {"fraud_caught": 0.06}}, shares, 8000), arms=THIRD)
    assert (found.verdict.action, found.verdict.arm) == ("promote", "other")
    gains = {(f.arm, f.metric): f for f in found.findings}
    assert gains["new", "fraud_caught"].p_better > 0.05 > gains["other", "fraud_caught"].p_better
    assert set(paths(Experiment(started(arms=THIRD), 3), seen(3, {}, shares), 2)) == set(METRICS)


def test_a_mismatch_is_never_believed() -> None:
    """Accounts fall 50:50 where 40:60 was allocated: invalid, whatever the gain."""
    found = held(seen(4, {1: {"fraud_caught": 0.1}}, (0.5, 0.5)))
    assert found.verdict.action == "rollback" and "invalid" in found.verdict.reasons[0]
    assert found.sample_ratio.p_chi_square < 1e-6


def test_without_an_effect_time_ends_it() -> None:
    """No difference: it goes on until `duration_max_ms`, then stops without a winner."""
    nothing = seen(5, {}, days=30)
    assert held(nothing).verdict.action == "continue"
    assert held(nothing, duration_max_ms=30 * DAY_MS).verdict.action == "stop"


def test_an_experiment_that_has_ended_never_continues() -> None:
    """Stopped or superseded before the data said anything: the verdict says so; a verdict by the data stays."""
    ended = Experiment(started(), 3, ended=9, ended_at=T0 + 20 * DAY_MS)
    for end in ("stopped", "superseded"):
        ended.end = end
        found = report(ended, seen(5, {}, size=200), "now")
        assert (found.state, found.verdict.action) == (end, "stop")
        assert found.verdict.reasons[0] == f"{end} before the data were conclusive"
    ended.definition = started(primary="fraud_caught")
    gain = seen(1, {1: {"fraud_caught": 0.04, "missed_fraud": -0.03}})
    assert report(ended, gain, "now").verdict.action == "promote"


def test_unknown_metrics_are_refused() -> None:
    """A definition that names a metric that there is not can't be judged, and says so."""
    for changes in ({"primary": "joy"}, {"guardrails": ("joy",)}):
        with pytest.raises(BadInput, match="joy"):
            criteria_of(started(**changes))
