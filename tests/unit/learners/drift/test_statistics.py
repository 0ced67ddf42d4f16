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
def test_the_ks_distance_and_p_value_are_scipys(ties: bool) -> None:
    """Distance equals scipy's at 150 random pairs, with and without ties; the p-value is Kolmogorov's limit of it."""
    rng = np.random.Generator(np.random.PCG64(5))
    for _ in range(150):
        a, b = sample(rng, ties), sample(rng, ties)
        theirs = scipy.stats.ks_2samp(a, b, method="asymp")
        distance = kernels.ks_distance(np.sort(a), np.sort(b))
        assert distance == pytest.approx(theirs.statistic, abs=1e-12)
        rate = np.sqrt(len(a) * len(b) / (len(a) + len(b)))
        p = statistics.ks_p_value(distance, len(a), len(b))
        assert p == pytest.approx(scipy.stats.kstwobign.sf(distance * rate), abs=1e-12)
        # scipy's "asymp" is the finite-sample form of the same limit.
        assert len(a) < 50 or len(b) < 50 or p == pytest.approx(theirs.pvalue, abs=0.07)


def test_ks_of_constants() -> None:
    """Equal constants are no distance, different ones the whole."""
    zeros, ones = np.zeros(5, dtype=np.float32), np.ones(3, dtype=np.float32)
    assert kernels.ks_distance(zeros, zeros) == 0
    assert kernels.ks_distance(zeros, ones) == 1
    assert statistics.ks_p_value(0.0, 5, 3) == 1
    assert np.isnan(statistics.ks_p_value(0.5, 0, 3))


def test_chi_square_is_scipys() -> None:
    """Statistic, p-value and Cramér's V equal scipy's contingency functions at random tables with empty columns."""
    rng = np.random.Generator(np.random.PCG64(6))
    for _ in range(100):
        table = rng.poisson(rng.random(int(rng.integers(2, 9))) * 40)
        table = np.stack([table, rng.poisson(table + 1.0)]).astype(np.int64)
        table[:, rng.integers(0, table.shape[1])] = 0
        used = table[:, table.sum(axis=0) > 0]
        found = statistics.chi_square(table[0], table[1])
        if not table.sum(axis=1).all():
            assert np.isnan(found.p_value)
        elif used.shape[1] < 2:
            assert found == (0.0, 1.0)
        else:
            theirs = scipy.stats.chi2_contingency(used, correction=False)
            assert found.p_value == pytest.approx(theirs.pvalue, rel=1e-9, abs=1e-300)
            v = scipy.stats.contingency.association(used, method="cramer", correction=False)
            assert found.effect == pytest.approx(v, rel=1e-9)


def test_a_design_effect_divides_the_statistic() -> None:
    """With a design effect of 3 the p-value is that of a third of χ²; Cramér's V stays."""
    a, b = np.array([60, 40, 20]), np.array([30, 50, 40])
    plain, corrected = statistics.chi_square(a, b), statistics.chi_square(a, b, 3.0)
    assert corrected.effect == plain.effect
    assert corrected.p_value == pytest.approx(
        scipy.stats.chi2.sf(scipy.stats.chi2_contingency([a, b], correction=False).statistic / 3, 2)
    )


@fuzz(max_examples=200)
@given(st.lists(st.one_of(st.just(float("nan")), st.floats(0, 1)), max_size=12))
def test_adjusted_p_values_are_the_definitions(p: list[float]) -> None:
    """Adjusted p ≤ q exactly where the step-up procedure with rate q rejects, for every q that matters."""
    adjusted = statistics.benjamini_hochberg(np.array(p))
    tested = sorted(value for value in p if value == value)
    for q in [*adjusted[~np.isnan(adjusted)].tolist(), 0.01, 0.05, 0.2, 0.999]:
        limits = [v for k, v in enumerate(tested, 1) if v * len(tested) / k <= q]
        rejected = [value == value and bool(limits) and value <= max(limits) for value in p]
        assert (adjusted <= q).tolist() == rejected or q >= 1
    assert np.isnan(adjusted).tolist() == np.isnan(np.array(p)).tolist()


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


def test_few_clusters_make_a_p_value_larger() -> None:
    """A two-sided normal p-value becomes that of Student's t at the same quantile; with no freedom it is 1."""
    for p in (1e-9, 1e-3, 0.04, 0.5, 1.0):
        quantile = scipy.stats.norm.isf(p / 2)
        assert statistics.few_clusters(p, 12) == pytest.approx(2 * scipy.stats.t.sf(quantile, 12))
        assert statistics.few_clusters(p, 10**7) == pytest.approx(p, rel=1e-3)
    assert statistics.few_clusters(1e-9, 0) == 1
    assert np.isnan(statistics.few_clusters(float("nan"), 5))


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: effect.name)
def test_every_effect_size_spans_its_levels(effect: EffectSize) -> None:
    """Equal windows are below the floor, windows without a common value reach the highest level, and none is NaN."""
    values = np.sort(np.random.Generator(np.random.PCG64(3)).normal(0, 1, 2000)).astype(np.float32)
    half = np.array([200] * 10 + [0], dtype=np.int64)
    none = np.zeros(10, dtype=np.int64)
    same = effect.compute(Sample(values, values, np.stack([half, half])))
    apart = effect.compute(Sample(values, values + 100, np.stack([np.append(half, none), np.append(none, half)])))
    assert same < effect.levels[0] and apart >= effect.levels[-1]
    assert list(effect.levels) == sorted(effect.levels) and effect.kinds
