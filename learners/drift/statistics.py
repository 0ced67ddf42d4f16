"""Effect sizes of drift on plain arrays: no log, no clock, no randomness. `EFFECTS` lists them.

Everything here is a function of the two windows' counts per bin and sorted values. Counts are floats where an account's
rows weigh one together (`figures`). Their last digits may depend on the CPU (logarithm, arc sine): they are logged as
found, and nothing recomputes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from learners.drift import kernels

Floats = NDArray[np.float64]
Counts = NDArray[np.int64] | NDArray[np.float64]

SMOOTHING = 0.5
"""Added to every bin's count before a logarithm (Jeffreys), so that the effect of an empty bin depends on the window's
size and not on an arbitrary epsilon."""


def quantile_edges(
    ascending: NDArray[np.float32] | Floats, bins: int, weights: Floats | None = None
) -> NDArray[np.float32]:
    """Inner edges, float32 (≤ bins − 1,) strictly ascending, of bins with about equal numbers of reference values, or
    of their weights.

    A value belongs to bin i if edges[i−1] < value ≤ edges[i]. Equal quantiles (ties) share one edge, so a very frequent
    value has a bin of its own; a constant reference has two bins: up to the constant, and above it.
    """
    if not len(ascending):
        return np.empty(0, dtype=np.float32)
    if weights is None:
        place = np.ceil(np.arange(1, bins) / bins * len(ascending)).astype(np.int64) - 1
    else:
        whole = np.cumsum(weights)
        place = np.minimum(np.searchsorted(whole, np.arange(1, bins) / bins * whole[-1]), len(ascending) - 1)
    edges = np.unique(np.asarray(ascending[np.maximum(place, 0)], dtype=np.float32))
    return edges


def psi(reference: Counts, current: Counts) -> float:
    """Population stability index Σ (q − p)·ln(q / p) of counts per bin (Siddiqi 2006), each bin's count + SMOOTHING.

    Bins that are empty in both windows are left out. NaN if either window has no rows.
    """
    used = (reference > 0) | (current > 0)
    a, b = reference[used] + SMOOTHING, current[used] + SMOOTHING
    if not reference.sum() or not current.sum():
        return float("nan")
    p, q = a / a.sum(), b / b.sum()
    return float(np.sum((q - p) * np.log(q / p)))


def cramers_v(reference: Counts, current: Counts) -> float:
    """Cramér's V of two rows of counts: √(χ² / rows). Bins that are empty in both windows are left out; if fewer than
    two remain, V is 0. NaN if either window has no rows.
    """
    n, m = float(reference.sum()), float(current.sum())
    if not n or not m:
        return float("nan")
    total = reference + current
    used = total > 0
    if used.sum() < 2:
        return 0.0
    share = total[used] / (n + m)
    statistic = float(
        np.sum((reference[used] - n * share) ** 2 / (n * share))
        + np.sum((current[used] - m * share) ** 2 / (m * share))
    )
    return float(np.sqrt(statistic / (n + m)))


def cohens_h(reference: Counts, current: Counts) -> float:
    """The largest Cohen's h of any bin, |2·asin√q − 2·asin√p| (Cohen 1988): a scale on which a share that rises from
    1 % to 5 % changes as much as one from 40 % to 52 %. NaN if either window has no rows.
    """
    n, m = float(reference.sum()), float(current.sum())
    if not n or not m:
        return float("nan")
    p, q = reference / n, current / m
    return float(2.0 * np.max(np.abs(np.arcsin(np.sqrt(q)) - np.arcsin(np.sqrt(p)))))


class Sample(NamedTuple):
    """A feature in both windows: ascending values without NaN; counts (2, bins + 1), NaN last."""

    reference: NDArray[np.float32]
    current: NDArray[np.float32]
    counts: Counts


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
        lambda sample: cramers_v(*sample.counts),
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
    EffectSize(
        "h",
        "h",
        ("numeric", "categorical"),
        (0.2, 0.35, 0.5, 0.8),
        lambda sample: cohens_h(*sample.counts),
        "Cohen's h of the bin that changes most; 0.2, 0.5 and 0.8 are small, medium and large (1988): it sees what is "
        "rare, such as a share that rises from 1 % to 5 %",
    ),
)
"""The effect sizes of features. If several reach the same level, the first one is reported."""


def effects(kind: str, sample: Sample) -> dict[str, float]:
    """The effect sizes that apply to a kind of feature, by name, except those with nothing to compare."""
    found = {each.name: each.compute(sample) for each in EFFECTS if kind in each.kinds}
    return {name: effect for name, effect in found.items() if effect == effect}
