"""The bound on the delay of any drift detector: divergences in closed form, and a delay that follows from them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks import drift_bounds
from benchmarks.drift_streams import DAYS_AFTER, FIRST, TURN
from learners.drift.policy import DriftConfig


def test_divergence_is_that_of_two_normal_distributions() -> None:
    """Histograms of normals half a deviation apart: δ²/2 = 0.125 nats."""
    rng = np.random.Generator(np.random.PCG64(1))
    edges = np.linspace(-6, 6, 121)
    after, before = (np.histogram(rng.normal(shift, 1, 10**6), edges)[0].astype(float) for shift in (0.5, 0.0))
    assert drift_bounds.divergence(after, before) == pytest.approx(0.125, rel=0.02)


def test_the_bound_is_where_the_information_suffices() -> None:
    """A flag on account-days: nats of two Bernoulli distributions; with twice the accounts, half the hours."""
    p, q = drift_bounds.DEVICES[1], drift_bounds.DEVICES[0]
    nats = (1 - math.exp(-3)) * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
    assert sum(drift_bounds.daily("devices").values()) == pytest.approx(nats)
    enough = drift_bounds.needed(DriftConfig())
    assert enough == pytest.approx(math.log(56 / 0.05))
    assert drift_bounds.bound(10, "devices", False) == math.ceil(24 * enough / (10 * nats))


def test_reports_only_delay() -> None:
    """Knowing frauds when they are reported takes longer; a mix of more friendly fraud, reported last, by the most."""
    at_once, reported = ([drift_bounds.bound(600, s, late) for s in ("hours", "mix")] for late in (False, True))
    assert all(a < b for a, b in zip(at_once, reported, strict=True))
    assert reported[1] - at_once[1] > reported[0] - at_once[0]


def test_the_oracle_rises_only_after_the_change() -> None:
    """Without a change its CUSUM stays below the 7 nats that an alarm needs; two weeks after one it has twice that."""
    path = drift_bounds.oracle_path(200, 5, "amount", TURN + DAYS_AFTER)
    assert len(path) == TURN + DAYS_AFTER - FIRST + 1
    enough = drift_bounds.needed(DriftConfig())
    before, after = path[: TURN - FIRST + 1], path[TURN - FIRST + 1 :]
    assert before.max() < enough < 2 * enough < after[-1]
    assert drift_bounds.oracle_path(200, 5, "none", TURN + DAYS_AFTER).max() < enough
