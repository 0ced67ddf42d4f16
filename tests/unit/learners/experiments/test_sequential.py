"""Confidence sequences and e-processes against their definitions, and the error that holds under any stopping."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learners.experiments.sequential import STAKES, Effect, bounds, contribution, contributions, trajectory
from tests.builders.events import fuzz

LEVEL = float(np.log(1 / 0.05))


def accounts(seed: int, size: int, control_rate: float, treated_rate: float, allocation: float = 0.5):
    """arm, treated, control and outcome arrays of `size` accounts."""
    rng = np.random.default_rng(seed)
    arm = (rng.random(size) < allocation).astype(np.int64)
    outcome = (rng.random(size) < np.where(arm == 1, treated_rate, control_rate)).astype(float)
    return arm, np.full(size, allocation), np.full(size, 1 - allocation), outcome


def exact_mean_of_exp(total: float, squares: float, weight: float, m: float) -> float:
    """The mixture of the interval, written out with plain sums."""
    psi = [-np.log(1 - s) - s for s in STAKES]
    parts = [np.exp(s * (total - weight * m) - p * squares) for s, p in zip(STAKES, psi, strict=True)]
    return float(np.mean(parts))


@fuzz(max_examples=40)
@given(
    outcomes=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    p=st.floats(0.01, 0.6),
    q=st.floats(0.01, 0.39),
    centre=st.floats(0, 1),
)
def test_contribution_is_unbiased_and_bounded(outcomes: tuple[float, float], p: float, q: float, centre: float) -> None:
    """Over the assignment alone, an account's z has mean weight × (what treatment changes), within [−1, 1]."""
    cases = [(0, q, outcomes[0]), (1, p, outcomes[1]), (-1, 1 - p - q, 0.5)]
    found = [(share, contribution(arm, p, q, y, centre)) for arm, share, y in cases]
    mean = sum(share * c.z for share, c in found)
    # Centring shifts both arms alike, so c drops out.
    assert mean == pytest.approx(min(p, q) * (outcomes[1] - outcomes[0]), abs=1e-12)
    assert all(abs(c.z) <= 1 and 0 < c.weight <= 0.5 for _, c in found)


def test_expected_wealth_never_grows_under_any_null_population() -> None:
    """Enumerating every assignment of six accounts, the mean e-value is at most 1 at every time (Ville's condition).

    The accounts' effects differ in sign and the allocation changes half-way; only their running average is ≤ 0.
    """
    without = [0.2, 1.0, 0.0, 1.0, 0.3, 0.6]
    with_it = [0.0, 0.9, 0.1, 0.4, 0.5, 0.4]
    shares = [0.5, 0.5, 0.5, 0.2, 0.2, 0.2]
    gains = np.cumsum([min(p, 1 - p) * (b - a) for a, b, p in zip(without, with_it, shares, strict=True)])
    assert (gains <= 0).all() and (np.diff(gains) > 0).any()
    mean_up = np.zeros(6)
    mean_down = np.zeros(6)
    for assigned in product((0, 1), repeat=6):
        chance = np.prod([p if a else 1 - p for a, p in zip(assigned, shares, strict=True)])
        up, down = Effect(), Effect()
        for i, arm in enumerate(assigned):
            y = with_it[i] if arm else without[i]
            up.observe(arm, shares[i], 1 - shares[i], y)
            down.observe(arm, shares[i], 1 - shares[i], y)
            mean_up[i] += chance * np.exp(up.log_e_up)
            mean_down[i] += chance * np.exp(down.log_e_down)
    assert (mean_up <= 1 + 1e-12).all()
    # The treatment does harm, so whoever bets on harm must gain.
    assert mean_down[-1] > 1


@fuzz(max_examples=25)
@given(seed=st.integers(0, 10_000), p=st.sampled_from([0.05, 0.3, 0.5]), null=st.sampled_from([0.0, 0.01, -0.2]))
def test_update_equals_batch_at_every_prefix(seed: int, p: float, null: float) -> None:
    """Account by account and all at once give the same evidence, estimate and interval, after each of them."""
    arm, treated, control, outcome = accounts(seed, 60, 0.3, 0.5, p)
    arm[::7] = -1  # of a third arm
    z, weight = contributions(arm, treated, control, outcome)
    batch = trajectory(z, weight, Effect(null_up=null, null_down=-null))
    low, high = batch.intervals(0.05)
    state = Effect(null_up=null, null_down=-null)
    for i in range(60):
        state.observe(int(arm[i]), treated[i], control[i], outcome[i])
        assert state.log_e_up == pytest.approx(batch.log_e_up[i], rel=1e-12, abs=1e-12)
        assert state.log_e_down == pytest.approx(batch.log_e_down[i], rel=1e-12, abs=1e-12)
        assert state.estimate == batch.estimate[i]
        assert state.interval(0.05) == pytest.approx((low[i], high[i]), rel=1e-9, abs=1e-12)
    assert state.up_max == pytest.approx(max(0.0, batch.log_e_up.max()))
    twice = Effect(null_up=null, null_down=-null)
    for piece in (slice(0, 23), slice(23, 23), slice(23, 60)):
        twice.extend(arm[piece], treated[piece], control[piece], outcome[piece])
    for name in ("accounts", "weight", "total", "squares", "outcomes", "up_max", "down_max", "log_e_up", "log_e_down"):
        assert getattr(twice, name) == pytest.approx(getattr(state, name), rel=1e-12, abs=1e-12)


@fuzz(max_examples=60)
@given(
    total=st.floats(-500, 500), squares=st.floats(0.01, 2000), weight=st.floats(1, 20_000), alpha=st.floats(1e-4, 0.5)
)
def test_interval_ends_where_the_mixture_reaches_its_level(
    total: float, squares: float, weight: float, alpha: float
) -> None:
    """The lower end is the root of the mixture written out: at it the level is reached, a little above it is not."""
    low, high = bounds(np.array([total]), np.array([squares]), np.array([weight]), alpha)
    if low[0] > -1:
        assert exact_mean_of_exp(total, squares, weight, low[0]) >= 2 / alpha * (1 - 1e-6)
        step = 1e-6 * max(1.0, abs(low[0]))
        assert exact_mean_of_exp(total, squares, weight, low[0] + 1e-3 + step) < 2 / alpha * (1 + 1e-3)
    if high[0] < 1:
        assert exact_mean_of_exp(-total, squares, weight, -high[0]) >= 2 / alpha * (1 - 1e-6)
    assert low[0] <= high[0] or low[0] > 1 or high[0] < -1


def test_evidence_speaks_whenever_the_interval_leaves_zero_out() -> None:
    """With an effect, at the first account where the one-sided interval excludes zero the e-process is past 1/α."""
    arm, treated, control, outcome = accounts(3, 4000, 0.1, 0.2)
    batch = trajectory(*contributions(arm, treated, control, outcome))
    low, _ = batch.intervals(0.10)  # two-sided 0.10: each side 0.05
    excluded = np.flatnonzero(low > 0)
    assert len(excluded) and np.flatnonzero(batch.log_e_up >= LEVEL)[0] <= excluded[0]
    assert (batch.log_e_up[excluded] >= LEVEL - 1e-9).all()
    _, high = batch.intervals(0.05)
    low, _ = batch.intervals(0.05)
    for effect in (0.0, 0.1):
        assert (batch.excludes(effect, 0.05) == ((low > effect) | (high < effect))).all()


@pytest.mark.parametrize("rate,p", [(0.3, 0.5), (0.02, 0.5), (0.3, 0.1)])
def test_false_alarms_under_continuous_peeking_stay_below_the_level(rate: float, p: float) -> None:
    """Without an effect, at most 5 % of 200 runs ever reach 1/0.05 though each is looked at after every account.

    The naive z-test, looked at as often, alarms in far more of them: the runs can show a false alarm.
    """
    alarms = naive = missed = 0
    for seed in range(200):
        arm, treated, control, outcome = accounts(seed, 1500, rate, rate, p)
        z, weight = contributions(arm, treated, control, outcome)
        batch = trajectory(z, weight)
        alarms += bool((batch.log_e_up >= LEVEL).any())
        missed += bool(batch.excludes(0.0, 0.05).any())
        spread = np.sqrt(np.maximum(batch.squares - batch.total**2 / np.arange(1, 1501), 1e-12))
        naive += bool((batch.total / spread > 1.645)[100:].any())
    assert alarms <= 0.05 * 200
    assert missed <= 0.05 * 200
    assert naive > 0.15 * 200


def test_interval_covers_a_changing_average_effect() -> None:
    """Early accounts gain, later ones lose (heavy users come first): the running average stays covered all the time."""
    missed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        size = 2000
        gain = np.linspace(0.4, -0.4, size)
        arm = (rng.random(size) < 0.5).astype(np.int64)
        outcome = (rng.random(size) < 0.5 + gain * arm).astype(float)
        half = np.full(size, 0.5)
        low, high = trajectory(*contributions(arm, half, half, outcome)).intervals(0.05)
        average = np.cumsum(gain) / np.arange(1, size + 1)
        missed += bool(((low > average) | (high < average)).any())
    assert missed <= 2


def test_effect_is_found() -> None:
    """A tripled rate is found in every one of ten runs of 3,000 accounts, and the interval closes in on it."""
    for seed in range(10):
        arm, treated, control, outcome = accounts(seed, 3000, 0.05, 0.15)
        batch = trajectory(*contributions(arm, treated, control, outcome))
        low, high = batch.intervals(0.05)
        assert batch.log_e_up[-1] > LEVEL
        assert 0 < low[-1] < 0.1 < high[-1] < 0.2


def test_no_account_says_nothing() -> None:
    """Before the first account the interval is everything and the evidence is 1."""
    state = Effect()
    assert state.interval(0.05) == (-1.0, 1.0)
    assert state.log_e_up == state.log_e_down == pytest.approx(0.0)
    assert state.up_max == 0.0 and np.isnan(state.estimate)


@pytest.mark.parametrize("p,q,y", [(0.0, 0.5, 0.1), (0.6, 0.6, 0.1), (0.5, 0.5, 1.5), (0.5, 0.5, float("nan"))])
def test_nonsense_is_refused(p: float, q: float, y: float) -> None:
    """What is no allocation or no outcome in [0, 1] raises."""
    with pytest.raises(ValueError, match=r"must be in"):
        contribution(1, p, q, y, 0.1)
