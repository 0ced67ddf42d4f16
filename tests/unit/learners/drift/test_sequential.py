"""The e-detector: e-values that are none without drift, a bound that holds at every look, and its p-value."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.integrate
from hypothesis import given
from hypothesis import strategies as st

from learners.drift import sequential
from learners.drift.policy import SHARES, DriftConfig
from tests.builders.events import fuzz


def test_the_calibrator_is_an_e_value() -> None:
    """∫ e(p) dp = 1 over [0, 1], so the mean is 1 for a uniform p-value; it falls with p and is finite at 0."""
    area = scipy.integrate.quad(lambda u: sequential.e_values(np.array(np.exp(-u))) * np.exp(-u), 0, 600)[0]
    assert area == pytest.approx(1.0, abs=1e-6)
    values = sequential.e_values(np.array([0.0, 1e-300, 1e-8, 1e-3, 0.5, 1.0]))
    assert np.isfinite(values).all() and (np.diff(values) <= 0).all()


def test_the_bound_holds_at_every_look() -> None:
    """20,000 runs of 56 looks at three overlapping windows of normal noise: at most 5 % reach the threshold."""
    rng = np.random.Generator(np.random.PCG64(3))
    runs, looks, alpha = 20_000, 56, 0.05
    days = rng.normal(0, 1, (runs, looks + 6))
    sums = np.cumsum(np.concatenate([np.zeros((runs, 1)), days], axis=1), axis=1)
    alarm = np.zeros(runs, dtype=np.bool_)
    from scipy.special import ndtr

    for look in range(looks):
        z = np.stack([(sums[:, look + 7] - sums[:, look + 7 - w]) / np.sqrt(w) for w in (1, 3, 7)])
        evidence = sequential.e_values(2 * ndtr(-np.abs(z))).mean(axis=0)
        alarm |= looks / evidence <= alpha
    assert 0 < alarm.mean() <= alpha


@fuzz(max_examples=100)
@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=4), st.floats(0.01, 1), st.integers(1, 300))
def test_the_adjusted_p_value_is_the_level_at_which_it_rejects(e: list[float], share: float, looks: int) -> None:
    """M ≥ looks / (α·share) exactly where the p-value is at most α; windows that were not tested are no evidence."""
    evidence = sequential.detector(np.array(e))
    p = sequential.adjusted(evidence, share, looks)
    assert 0 < p <= 1
    for alpha in (0.01, 0.05, 0.5):
        assert (p <= alpha) == (evidence >= looks / (alpha * share)) or p == pytest.approx(alpha)
    assert sequential.detector(np.array([*e, np.nan])) == pytest.approx(sum(e) / (len(e) + 1))


def test_the_error_budget_is_spent_once() -> None:
    """The groups' shares sum to 1; a look more often leaves less for each."""
    assert sum(SHARES.values()) == pytest.approx(1.0)
    assert DriftConfig().looks == 56
    assert DriftConfig(step_ms=6 * 3_600_000).looks == 224
