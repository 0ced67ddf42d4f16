"""Drift statistics on plain arrays: no log, no clock, no randomness. `EFFECTS` lists the effect sizes.

Everything here is a function of the two windows' counts per bin and sorted values. Numbers of rows are floats, because
rows of one account or one day are not independent: the caller first divides them by the design effect, as in survey
statistics (Rao, Scott 1981).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincc, kolmogorov, ndtri, stdtr

from learners.drift import kernels

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SMOOTHING = 0.5
"""Added to every bin's count before a logarithm (Jeffreys), so that the effect of an empty bin depends on the window's
size and not on an arbitrary epsilon."""


class Tested(NamedTuple):
    """An effect size and the p-value of its test; NaN where there is nothing to compare."""

    effect: float
    p_value: float


NOTHING = Tested(float("nan"), float("nan"))


def ks_p_value(distance: float, rows_a: float, rows_b: float) -> float:
    """Asymptotic two-sided p-value of a KS distance (Kolmogorov's limit; Hodges 1958). rows_a, rows_b: effective sample
    sizes. Conservative for ties. NaN for a NaN distance or no rows.
    """
    if not rows_a or not rows_b:
        return float("nan")
    return float(kolmogorov(distance * np.sqrt(rows_a * rows_b / (rows_a + rows_b))))


def quantile_edges(ascending: NDArray[np.float32] | Floats, bins: int) -> NDArray[np.float32]:
    """Inner edges, float32 (≤ bins − 1,) strictly ascending, of bins with about equal numbers of reference values.

    A value belongs to bin i if edges[i−1] < value ≤ edges[i]. Equal quantiles (ties) share one edge, so a very frequent
    value has a bin of its own; a constant reference has two bins: up to the constant, and above it.
    """
    if not len(ascending):
        return np.empty(0, dtype=np.float32)
    place = np.ceil(np.arange(1, bins) / bins * len(ascending)).astype(np.int64) - 1
    edges = np.unique(np.asarray(ascending[np.maximum(place, 0)], dtype=np.float32))
    return edges


def psi(reference: Ints, current: Ints) -> float:
    """Population stability index Σ (q − p)·ln(q / p) of counts per bin (Siddiqi 2006), each bin's count + SMOOTHING.

    Bins that are empty in both windows are left out. NaN if either window has no rows.
    """
    used = (reference > 0) | (current > 0)
    a, b = reference[used] + SMOOTHING, current[used] + SMOOTHING
    if not reference.sum() or not current.sum():
        return float("nan")
    p, q = a / a.sum(), b / b.sum()
    return float(np.sum((q - p) * np.log(q / p)))


def chi_square(reference: Ints, current: Ints, design_effect: float = 1.0) -> Tested:
    """Homogeneity test of two rows of counts: Cramér's V and the p-value of χ² / design effect (Rao, Scott 1981).

    Bins that are empty in both windows are left out; if fewer than two remain, V is 0 and p is 1. No continuity
    correction. NaN if either window has no rows.
    """
    n, m = int(reference.sum()), int(current.sum())
    if not n or not m:
        return NOTHING
    total = reference + current
    used = total > 0
    freedom = int(used.sum()) - 1
    if freedom < 1:
        return Tested(0.0, 1.0)
    share = total[used] / (n + m)
    statistic = float(
        np.sum((reference[used] - n * share) ** 2 / (n * share))
        + np.sum((current[used] - m * share) ** 2 / (m * share))
    )
    return Tested(float(np.sqrt(statistic / (n + m))), float(gammaincc(freedom / 2, statistic / design_effect / 2)))


def few_clusters(p_value: float, freedom: int) -> float:
    """The p-value corrected for a variance estimated from few clusters: its normal quantile is referred to Student's t.

    freedom: clusters − 2, for the two windows' means (Cameron, Gelbach, Miller 2008 advise t with clusters − 1). 1 if
    no degrees of freedom are left. NaN stays NaN.
    """
    if freedom < 1:
        return 1.0 if p_value == p_value else p_value
    return float(2.0 * stdtr(freedom, ndtri(p_value / 2)))


def benjamini_hochberg(p_values: Floats) -> Floats:
    """Adjusted p-values in the same order: rejecting at p ≤ q has false-discovery rate q (Benjamini, Hochberg 1995).

    NaN (not tested) stays NaN and is not counted.
    """
    adjusted = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    if len(order):
        scaled = p_values[order] * len(order) / np.arange(1, len(order) + 1)
        adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def smaller_of_two(p: float, q: float) -> float:
    """One p-value from two dependent tests of one feature (Bonferroni); NaN means that a test was not made."""
    made = [value for value in (p, q) if value == value]
    return min(1.0, len(made) * min(made)) if made else float("nan")


class Sample(NamedTuple):
    """A feature in both windows: ascending values without NaN; counts int64 (2, bins + 1), NaN last."""

    reference: NDArray[np.float32]
    current: NDArray[np.float32]
    counts: Ints


class EffectSize(NamedTuple):
    """A measure of how much two windows differ. levels: where low, medium, high and critical begin; the first is the
    floor, below which there is no drift, whatever the p-value.

    compute returns NaN if there is nothing to compare. kinds: the kinds of features it applies to; `title` heads its
    column, `meaning` describes it in docs/drift.md.
    """

    name: str
    title: str
    kinds: tuple[Literal["numeric", "categorical"], ...]
    levels: tuple[float, float, float, float]
    compute: Callable[[Sample], float]
    meaning: str


def _ks(sample: Sample) -> float:
    if not len(sample.reference) or not len(sample.current):
        return float("nan")
    return float(kernels.ks_distance(sample.reference, sample.current))


EFFECTS: tuple[EffectSize, ...] = (
    EffectSize("ks", "KS D", ("numeric",), (0.1, 0.2, 0.3, 0.45), _ks, "KS distance D"),
    EffectSize(
        "cramers_v",
        "V",
        ("categorical",),
        (0.1, 0.2, 0.3, 0.5),
        lambda sample: chi_square(*sample.counts).effect,
        "Cramér's V; of Cohen's w (1988), 0.1, 0.3 and 0.5 are small, medium and large",
    ),
    EffectSize(
        "psi",
        "PSI",
        ("numeric", "categorical"),
        (0.1, 0.25, 0.5, 1.0),
        lambda sample: psi(*sample.counts),
        "PSI over the reference's deciles, with a separate bin for NaN; by the credit industry's convention < 0.1 is "
        "no change and > 0.25 a major one (Siddiqi 2006)",
    ),
)
"""The effect sizes of features. If several reach the same level, the first one is reported."""


def effects(kind: str, sample: Sample) -> dict[str, float]:
    """The effect sizes that apply to a kind of feature, by name, except those with nothing to compare."""
    found = {each.name: each.compute(sample) for each in EFFECTS if kind in each.kinds}
    return {name: effect for name, effect in found.items() if effect == effect}
