"""The test for a sample-ratio mismatch: silent under the allocated shares, loud under others."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.special import gammaln
from scipy.stats import chisquare

from learners.experiments.srm import CONCENTRATION, Mismatch, trajectory


def test_equals_dirichlet_multinomial_with_a_constant_allocation() -> None:
    """With one allocation, e is the closed-form Dirichlet-multinomial Bayes factor of Lindon & Malek."""
    allocation = [0.5, 0.3, 0.2]
    arms = np.random.default_rng(1).choice(3, 500, p=[0.4, 0.4, 0.2])
    state = Mismatch()
    for arm in arms:
        state.update(int(arm), allocation)
    prior = CONCENTRATION * np.array(allocation)
    counts = np.bincount(arms, minlength=3)
    log_marginal = gammaln(prior + counts).sum() - gammaln(prior).sum() + gammaln(prior.sum()) - gammaln(600)
    assert state.log_e == pytest.approx(log_marginal - counts @ np.log(allocation), rel=1e-9)
    assert state.chi_square == pytest.approx(tuple(chisquare(counts, 500 * np.array(allocation))), rel=1e-9)


def test_expected_evidence_is_one_through_a_ramp() -> None:
    """Over every assignment of eight accounts under a changing allocation, the mean e is exactly 1."""
    shares = [0.1] * 4 + [0.5] * 4
    mean = 0.0
    for arms in product((0, 1), repeat=8):
        state = Mismatch()
        for arm, share in zip(arms, shares, strict=True):
            state.update(arm, (1 - share, share))
        mean += np.exp(state.log_e) * np.prod([s if a else 1 - s for a, s in zip(arms, shares, strict=True)])
    assert mean == pytest.approx(1.0, rel=1e-12)


def test_update_equals_batch_at_every_prefix() -> None:
    """Account by account and all at once give the same evidence after each of them, through a ramp."""
    rng = np.random.default_rng(2)
    allocation = np.where(np.arange(400)[:, None] < 200, [0.9, 0.1], [0.5, 0.5])
    arms = (rng.random(400) < 0.3).astype(np.int64)
    batch = trajectory(arms, allocation)
    state = Mismatch()
    for i in range(400):
        state.update(int(arms[i]), allocation[i])
        assert state.log_e == pytest.approx(batch[i], rel=1e-9, abs=1e-12)


def test_false_alarms_and_power() -> None:
    """Looked at after each of 4,000 accounts: at most 1 % of 200 fair runs alarm at 0.01; 45:55 nearly always does."""
    even = np.full((4000, 2), 0.5)
    level = np.log(100)
    fair = lost = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        fair += bool((trajectory(rng.integers(0, 2, 4000), even) >= level).any())
        lost += bool((trajectory((rng.random(4000) < 0.45).astype(np.int64), even) >= level).any())
    assert fair <= 2
    assert lost >= 195


def test_arm_that_gets_nobody_has_somebody() -> None:
    """An account in an arm of probability 0 is certain evidence; no allocation at all is refused."""
    state = Mismatch()
    state.update(1, (1.0, 0.0))
    assert state.log_e_max == float("inf") and state.p_value == 0.0
    with pytest.raises(ValueError, match="invalid allocation"):
        state.update(0, (0.5, 0.4))
