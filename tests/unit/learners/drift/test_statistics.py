"""The statistics of drift against scipy, brute force and definitions, at many random samples."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from learners.drift import kernels, statistics
from learners.drift.statistics import EFFECTS, EffectSize, Sample
from tests.builders.events import fuzz


def sample(rng: np.random.Generator, ties: bool) -> np.ndarray:
    """A sample of random size and shape; with ties its values are a few whole numbers."""
    size = int(rng.integers(1, 400))
    values = rng.normal(rng.normal(0, 0.3), 1 + rng.random(), size)
    return np.round(values * 2 if ties else values, 0 if ties else 9).astype(np.float32)


@pytest.mark.parametrize("ties", [False, True])
def test_the_ks_distance_is_scipys(ties: bool) -> None:
    """The distance equals scipy's at 150 random pairs, with and without ties."""
    rng = np.random.Generator(np.random.PCG64(5))
    for _ in range(150):
        a, b = sample(rng, ties), sample(rng, ties)
        theirs = scipy.stats.ks_2samp(a, b, method="asymp")
        assert kernels.ks_distance(np.sort(a), np.sort(b)) == pytest.approx(theirs.statistic, abs=1e-12)


def test_ks_of_constants() -> None:
    """Equal constants are no distance, different ones the whole."""
    zeros, ones = np.zeros(5, dtype=np.float32), np.ones(3, dtype=np.float32)
    assert kernels.ks_distance(zeros, zeros) == 0
    assert kernels.ks_distance(zeros, ones) == 1


def test_cramers_v_is_scipys() -> None:
    """V equals scipy's association at random tables with empty columns."""
    rng = np.random.Generator(np.random.PCG64(6))
    for _ in range(100):
        table = rng.poisson(rng.random(int(rng.integers(2, 9))) * 40)
        table = np.stack([table, rng.poisson(table + 1.0)]).astype(np.int64)
        table[:, rng.integers(0, table.shape[1])] = 0
        used = table[:, table.sum(axis=0) > 0]
        found = statistics.cramers_v(table[0], table[1])
        if not table.sum(axis=1).all():
            assert np.isnan(found)
        elif used.shape[1] < 2:
            assert found == 0.0
        else:
            v = scipy.stats.contingency.association(used, method="cramer", correction=False)
            assert found == pytest.approx(v, rel=1e-9)


def test_cohens_h_is_the_difference_of_arcsines() -> None:
    """The largest |2·asin√q − 2·asin√p| of any bin; from 1 % to 5 % it is above the floor, from 40 % to 42 % below."""
    found = statistics.cohens_h(np.array([99, 1]), np.array([95, 5]))
    assert found == pytest.approx(2 * np.arcsin(np.sqrt(0.05)) - 2 * np.arcsin(np.sqrt(0.01)))
    assert found > EFFECTS[-1].levels[0] > statistics.cohens_h(np.array([60, 40]), np.array([58, 42]))
    assert np.isnan(statistics.cohens_h(np.array([0, 0]), np.array([1, 2])))


def test_psi_by_hand_and_without_explosions() -> None:
    """PSI is Σ(q−p)ln(q/p) of smoothed shares; an empty bin costs little in small windows, equal counts nothing."""
    p, q = np.array([50.5, 50.5, 0.5]) / 101.5, np.array([20.5, 70.5, 10.5]) / 101.5
    found = statistics.psi(np.array([50, 50, 0]), np.array([20, 70, 10]))
    assert found == pytest.approx(float(np.sum((q - p) * np.log(q / p))))
    assert statistics.psi(np.array([7, 0, 3]), np.array([14, 0, 6])) < 0.01
    assert statistics.psi(np.array([500, 0]), np.array([499, 1])) < 0.005
    assert np.isnan(statistics.psi(np.array([0, 0]), np.array([1, 2])))


@fuzz(max_examples=200)
@given(st.lists(st.floats(-50, 50, width=32), max_size=60), st.integers(2, 12), st.booleans())
def test_bins_have_distinct_edges_and_about_equal_mass(values: list[float], bins: int, whole: bool) -> None:
    """Edges ascend strictly and are values of the reference; without ties no bin has more than its share plus one."""
    ascending = np.sort(np.round(values) if whole else np.array(values)).astype(np.float32)
    edges = statistics.quantile_edges(ascending, bins)
    assert len(edges) <= bins - 1
    assert (np.diff(edges) > 0).all()
    assert set(edges.tolist()) <= set(ascending.tolist())
    if len(np.unique(ascending)) == len(ascending) and len(ascending) >= bins:
        counts = np.bincount(np.searchsorted(edges, ascending, side="left"), minlength=len(edges) + 1)
        assert counts.max() <= np.ceil(len(ascending) / bins)


@fuzz(max_examples=200)
@given(st.lists(st.one_of(st.just(float("nan")), st.floats(-5, 5, width=32)), max_size=40))
def test_binning_is_searchsorted_with_nan_last(values: list[float]) -> None:
    """A value's bin is the number of edges below it; NaN has the bin after all others."""
    edges = np.array([-2, 0, 0.5, 3], dtype=np.float32)
    given_values = np.array(values, dtype=np.float32)
    out = np.empty(len(values), dtype=np.uint8)
    kernels.bin_of(given_values, edges, out)
    expected = np.where(np.isnan(given_values), 5, np.searchsorted(edges, given_values, side="left"))
    assert out.tolist() == expected.tolist()


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: effect.name)
def test_every_effect_size_spans_its_levels(effect: EffectSize) -> None:
    """Equal windows are below the floor, windows without a common value reach the highest level, and none is NaN."""
    values = np.sort(np.random.Generator(np.random.PCG64(3)).normal(0, 1, 2000)).astype(np.float32)
    half = np.array([400] * 5 + [0], dtype=np.int64)
    none = np.zeros(5, dtype=np.int64)
    same = effect.compute(Sample(values, values, np.stack([half, half])))
    apart = effect.compute(Sample(values, values + 100, np.stack([np.append(half, none), np.append(none, half)])))
    assert same < effect.levels[0] and apart >= effect.levels[-1]
    assert list(effect.levels) == sorted(effect.levels) and effect.kinds
