"""How a drifted figure was distributed in its two windows: the reference and the one that differed. Pure, but for
reading both windows from the log.

Cost: a decode of each decision in the windows, about 20 µs, 2 µs where it is archived; of accounts, a sample that holds
about ROWS_MAX decisions.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from core.features import spec
from core.log.base import EventLog
from core.partitions import partitions_of
from learners.drift.policy import POLICIES, SCORE
from learners.drift.rows import Rows
from learners.drift.windows import WindowReader
from projections.views.drift import Detection

ROWS_MAX = 100_000
BINS = 24
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
OUTSIDE = 0.005
"""The share of values beyond either end of the axis; the first and the last bin hold them."""
SKEWED = 20.0
"""The 99th percentile, in medians, from which bins have equal widths in log(1 + x), not in x."""


class Window(msgspec.Struct, frozen=True):
    """One window of receive time, epoch ms, [start, end). rows: decisions read; missing: the share without a value;
    shares: of the values, by bin, or by category; quantiles: 5, 25, 50, 75 and 95 % (numeric only).
    """

    start: int
    end: int
    rows: int
    missing: float
    shares: list[float]
    quantiles: list[float]


class Distributions(msgspec.Struct, frozen=True):
    """Both windows of a detection (`position`: of its control event). edges: of the bins, ascending, one more than
    shares; categories: instead of edges, for a figure with few values. share: of accounts that were read.
    """

    position: int
    feature: str
    meaning: str
    unit: str
    edges: list[float]
    categories: list[float]
    share: float
    reference: Window
    current: Window


def distributions(log: EventLog, found: Detection) -> Distributions:
    """Of a detection. Raises BadInput if the figure is not a value of single decisions."""
    values, meaning, unit = _figure(found.feature)
    share = min(1.0, ROWS_MAX / max(found.rows + found.reference_rows, 1))
    reader = WindowReader(log, partitions_of(log), share)
    before = values(reader.read(found.reference_start, found.reference_end))
    now = values(reader.read(found.window_start, found.window_end))
    policy = POLICIES.get(found.feature)
    categories = list(policy.categories) if policy is not None and policy.kind == "categorical" else []
    edges = [] if categories else bins(np.concatenate([before, now]))

    def window(start: int, end: int, of: NDArray[np.float64]) -> Window:
        held = of[~np.isnan(of)]
        counts = np.array([(held == c).sum() for c in categories]) if categories else _counts(held, edges)
        quantiles = [] if categories or not len(held) else np.quantile(held, QUANTILES).tolist()
        missing = 1.0 - len(held) / len(of) if len(of) else 0.0
        return Window(start, end, len(of), missing, (counts / max(len(held), 1)).tolist(), quantiles)

    return Distributions(
        position=found.position,
        feature=found.feature,
        meaning=meaning,
        unit=unit,
        edges=edges,
        categories=categories,
        share=share,
        reference=window(found.reference_start, found.reference_end, before),
        current=window(found.window_start, found.window_end, now),
    )


def _figure(name: str) -> tuple[Callable[[Rows], NDArray[np.float64]], str, str]:
    """How to take a figure's values (n,) from rows, NaN where missing; its meaning and unit."""
    if name == SCORE:
        return lambda rows: rows.margins, "the model's margin", "log-odds"
    if name not in spec.NAMES:
        raise BadInput(f"{name} is a figure of many decisions, so it has no distribution over single ones")
    feature = spec.FEATURES[spec.index(name)]
    return lambda rows: rows.columns[spec.index(name)].astype(np.float64), feature.meaning, feature.unit


def bins(values: NDArray[np.float64]) -> list[float]:
    """The edges of BINS bins over all but the most extreme values: equal widths, or in log(1 + x) if skewed."""
    held = values[np.isfinite(values)]
    if not len(held):
        return [0.0, 1.0]
    low, high = np.quantile(held, [OUTSIDE, 1 - OUTSIDE]).tolist()
    if low == high:
        return [low - 0.5, high + 0.5]
    if held.min() >= 0 and np.quantile(held, 0.99) > SKEWED * max(float(np.median(held)), 1e-9):
        edges = np.expm1(np.linspace(np.log1p(low), np.log1p(high), BINS + 1))
    else:
        edges = np.linspace(low, high, BINS + 1)
    found: list[float] = edges.tolist()
    return found


def _counts(values: NDArray[np.float64], edges: list[float]) -> NDArray[np.int64]:
    inside = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return np.bincount(inside, minlength=len(edges) - 1)
