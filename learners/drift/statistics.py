"""The statistics of drift on plain arrays: no log, no clock, no randomness. `EFFECTS` lists the effect sizes.

Two windows give counts per bin and sorted values; everything here is a function of those. A p-value takes the numbers
of rows as floats, because rows of one account or one day are not independent: the caller divides them by a design
effect first (`design_effect`), which is how surveys do it (Rao, Scott 1981).
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
"""Added to every bin's count before a logarithm (Jeffreys): an empty bin weighs by its window's size, not by an
arbitrary epsilon."""


class Tested(NamedTuple):
    """An effect size and the p-value of its test; NaN where there is nothing to compare."""

    effect: float
    p_value: float


NOTHING = Tested(float("nan"), float("nan"))


def ks_p_value(distance: float, rows_a: float, rows_b: float) -> float:
    """Asymptotic two-sided p-value of a KS distance (Kolmogorov's limit; Hodges 1958), rows may be effective ones.

    Conservative for ties. NaN for a NaN distance or no rows.
    """
    if not rows_a or not rows_b:
        return float("nan")
    return float(kolmogorov(distance * np.sqrt(rows_a * rows_b / (rows_a + rows_b))))


def quantile_edges(ascending: NDArray[np.float32] | Floats, bins: int) -> NDArray[np.float32]:
    """Inner edges, float32 (≤ bins − 1,) strictly ascending, of bins with about equally many of the reference's values.

    A value belongs to bin i if edges[i−1] < value ≤ edges[i]. Quantiles that are equal (ties) are one edge, so a value
    with much mass is a bin of its own; a constant reference has two bins: up to it, and above it.
    """
    if not len(ascending):
        return np.empty(0, dtype=np.float32)
    place = np.ceil(np.arange(1, bins) / bins * len(ascending)).astype(np.int64) - 1
    edges = np.unique(np.asarray(ascending[np.maximum(place, 0)], dtype=np.float32))
    return edges


def psi(reference: Ints, current: Ints) -> float:
    """Population stability index Σ (q − p)·ln(q / p) of counts per bin (Siddiqi 2006), each bin's count + SMOOTHING.

    Bins that are empty in both are left out. NaN if one window has no row.
    """
    used = (reference > 0) | (current > 0)
    a, b = reference[used] + SMOOTHING, current[used] + SMOOTHING
    if not reference.sum() or not current.sum():
        return float("nan")
    p, q = a / a.sum(), b / b.sum()
    return float(np.sum((q - p) * np.log(q / p)))


def chi_square(reference: Ints, current: Ints, design_effect: float = 1.0) -> Tested:
    """Homogeneity of two rows of counts: Cramér's V and the p-value of χ² / design effect (Rao, Scott 1981).

    Bins that are empty in both are left out; with fewer than two left there is no difference: V 0, p 1. No continuity
    correction. NaN if one window has no row.
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
    """The p-value if its variance was estimated from few clusters: its normal quantile read as one of Student's t.

    freedom: clusters − 2, for the two windows' means (Cameron, Gelbach, Miller 2008 advise t with clusters − 1). With
    no freedom left nothing is known: 1. NaN stays NaN.
    """
    if freedom < 1:
        return 1.0 if p_value == p_value else p_value
    return float(2.0 * stdtr(freedom, ndtri(p_value / 2)))


def benjamini_hochberg(p_values: Floats) -> Floats:
    """Adjusted p-values, same order: p ≤ q rejects with false-discovery rate q (Benjamini, Hochberg 1995).

    NaN (not tested) stays NaN and does not count.
    """
    adjusted = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    if len(order):
        scaled = p_values[order] * len(order) / np.arange(1, len(order) + 1)
        adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def smaller_of_two(p: float, q: float) -> float:
    """One p-value of two dependent tests of one feature (Bonferroni); NaN counts as not made."""
    made = [value for value in (p, q) if value == value]
    return min(1.0, len(made) * min(made)) if made else float("nan")


class Sample(NamedTuple):
    """A feature in both windows: the values, ascending, without NaN; counts int64 (2, bins + 1), of NaN last."""

    reference: NDArray[np.float32]
    current: NDArray[np.float32]
    counts: Ints


class EffectSize(NamedTuple):
    """How different two windows are. levels: from which a difference is low, medium, high, critical; the first is the
    floor, below which nothing is drift, whatever its p-value.

    compute returns NaN where there is nothing to compare. kinds: the features that it applies to; `title` heads its
    column, `meaning` its line in docs/drift.md.
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
        "PSI over the reference's deciles, NaN a bin of its own; the credit industry calls < 0.1 no change and > 0.25 "
        "a major one (Siddiqi 2006)",
    ),
)
"""Every effect size of features. Of those that reach the same level, the first names the drift."""


def effects(kind: str, sample: Sample) -> dict[str, float]:
    """The effect sizes that apply to a kind of feature, by name; without those that have nothing to compare."""
    found = {each.name: each.compute(sample) for each in EFFECTS if kind in each.kinds}
    return {name: effect for name, effect in found.items() if effect == effect}
