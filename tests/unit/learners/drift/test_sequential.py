"""The sequential test: a bound that holds at every look, is spent once, and costs no more evidence than it must."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from learners.drift import sequential
from learners.drift.figures import figures
from learners.drift.policy import SHARES, DriftConfig
from tests.builders.events import fuzz

ALPHA, LOOKS = 0.05, 56


def test_the_bound_holds_at_every_look() -> None:
    """20,000 runs of 56 looks at three overlapping windows of normal noise: at most 5 % are told, and some are."""
    rng = np.random.Generator(np.random.PCG64(3))
    runs = 20_000
    days = rng.normal(0, 1, (runs, LOOKS + 6))
    sums = np.cumsum(np.concatenate([np.zeros((runs, 1)), days], axis=1), axis=1)
    least = np.ones(runs)
    for look in range(LOOKS):
        z = np.stack([(sums[:, look + 7] - sums[:, look + 7 - w]) / np.sqrt(w) for w in (1, 3, 7)])
        least = np.minimum(least, (2 * ndtr(-np.abs(z)) * 3).min(axis=0))
    p = np.array([sequential.adjusted(sequential.combined(np.array([each]), np.ones(1)), 1.0, LOOKS) for each in least])
    assert 0.01 < (p <= ALPHA).mean() <= ALPHA


@fuzz(max_examples=100)
@given(st.lists(st.floats(1e-12, 1), min_size=1, max_size=4), st.floats(0.01, 1), st.integers(1, 300))
def test_the_adjusted_p_value_is_the_level_at_which_it_rejects(p: list[float], share: float, looks: int) -> None:
    """Told at level α exactly if one window's p-value reaches its part of the budget; windows that were not tested are
    no evidence and leave their part unspent.
    """
    weights = np.full(len(p), 1 / len(p))
    adjusted = sequential.adjusted(sequential.combined(np.array(p), weights), share, looks)
    assert 0 < adjusted <= 1
    for alpha in (0.01, 0.05, 0.5):
        reached = any(each <= alpha * share / len(p) / looks for each in p)
        assert (adjusted <= alpha) == reached or adjusted == pytest.approx(alpha)
    fewer = sequential.combined(np.array([*p[:-1], np.nan]), weights)
    assert fewer >= sequential.combined(np.array(p), weights)
    assert sequential.combined(np.array([np.nan]), np.ones(1)) == 1.0


def test_evidence_is_not_lost_between_windows_and_budget() -> None:
    """A p-value of 4e-6 in one window of three is told of a figure with a tenth of the budget: no calibrator stands
    between the p-value and the bound.
    """
    p = sequential.combined(np.array([4e-6, 0.4, 0.7]), np.full(3, 1 / 3))
    assert sequential.adjusted(p, 0.1, LOOKS) <= ALPHA
    assert sequential.adjusted(p, 0.01, LOOKS) > ALPHA


def test_the_error_budget_is_spent_once() -> None:
    """The groups' shares sum to 1, and so do those of all figures; a look more often leaves less for each."""
    assert sum(SHARES.values()) == pytest.approx(1.0)
    spent = sum(each.share for each in figures(DriftConfig(), 0.0) if each.kind != "excluded")
    assert spent + 3 * SHARES["performance"] / 4 == pytest.approx(1.0)
    assert DriftConfig().looks == LOOKS
    assert DriftConfig(step_ms=6 * 3_600_000).looks == 224
