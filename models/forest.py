"""The scorer of every kind of forest: one small numba kernel with the same bits as the library that trained it.

Owns the walk; never reads files and never trusts them (see the parsers, which yield a `models.trees.Model`). The idea:

1. Order-preserving integers. A float32 compares with a threshold like two integers (`models.layout`).
2. Slots. What a library does with missing values, zeros and categories depends only on the row and the kind of split,
   not on the tree. So each row is first turned into `slots`, one key per (feature, treatment of NaN and zero) or per
   categorical set: a missing value becomes the smallest or the largest key, a set's member 0 and anything else 1. Then
   every node of every tree takes the same step: node + distance + (slot > threshold).
3. Nothing to mispredict. Leaves point to themselves, so LANES trees are walked in parallel for a fixed number of steps.

Leaf values are added in the order of the trees, in the precision of the library (`models.sums`). Cost: about 1.5 µs per
row for 150 trees of 31 leaves, plus about 1 µs per call (benchmarks/forest.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.jit import njit
from models import lightgbm_text, shap
from models.layout import LANES, lay_out, unpacked
from models.rows import check_row, check_rows, checked_digest, contiguous
from models.trees import Model

_MAGNITUDE = np.int32(0x7FFFFFFF)
_SIGN_SHIFT = np.int32(31)
_INFINITY_BITS = np.int32(0x7F800000)
_CATEGORIES_MAX = np.float32(2.0**31)


@njit
def _fill_slots(
    row: NDArray[np.int32],
    numeric: NDArray[np.int32],
    categorical: NDArray[np.int32],
    words: NDArray[np.uint32],
    zero: int,
    slots: NDArray[np.int32],
) -> None:
    """One row's float32 bits (F,) → its keys (S,): numeric slots first, then categorical ones."""
    count = numeric.shape[1]
    for k in range(count):
        bits = row[numeric[0, k]]
        magnitude = bits & _MAGNITUDE
        key = bits ^ ((bits >> _SIGN_SHIFT) & _MAGNITUDE)
        key = numeric[2, k] if magnitude <= np.int32(zero) else key
        slots[k] = numeric[1, k] if magnitude > _INFINITY_BITS else key
    floats = row.view(np.float32)
    for k in range(categorical.shape[1]):
        value = floats[categorical[0, k]]
        outside = 1
        # NaN fails the comparison. Fractions are truncated, so −0.5 is category 0.
        if value > np.float32(-1.0) and value < _CATEGORIES_MAX:
            category = int(value)
            if category >> 5 < categorical[2, k]:
                outside = 1 - ((int(words[categorical[1, k] + (category >> 5)]) >> (category & 31)) & 1)
        slots[count + k] = outside


@njit
def _step(packed: np.int64, node: np.uint32, slots: NDArray[np.int32]) -> np.uint32:
    """The child to which a row goes; a leaf's child is the leaf itself."""
    distance = np.uint32(packed & 0xFFFF)
    right = slots[np.uint32((packed >> 16) & 0xFFFF)] > np.int32(packed >> 32)
    return node + distance + np.uint32(right)


@njit
def _margins(
    rows: NDArray[np.int32],
    nodes: NDArray[np.int64],
    values: NDArray[Any],
    begin: Any,
    roots: NDArray[np.uint32],
    steps: NDArray[np.int64],
    numeric: NDArray[np.int32],
    categorical: NDArray[np.int32],
    words: NDArray[np.uint32],
    zero: int,
) -> NDArray[np.float64]:
    """Float32 bits of rows (n, F) → begin plus the leaf values (n,), added in the type that these have."""
    out = np.empty(rows.shape[0], dtype=np.float64)
    slots = np.empty(numeric.shape[1] + categorical.shape[1], dtype=np.int32)
    at = np.empty(LANES, dtype=np.uint32)
    for i in range(rows.shape[0]):
        _fill_slots(rows[i], numeric, categorical, words, zero, slots)
        total = begin
        for group in range(steps.shape[0]):
            for lane in range(LANES):
                at[lane] = roots[group * LANES + lane]
            for _ in range(steps[group]):
                for lane in range(LANES):
                    at[lane] = _step(nodes[at[lane]], at[lane], slots)
            for lane in range(LANES):
                total += values[at[lane]]
        out[i] = total
    return out


@njit
def _taken(
    row: NDArray[np.int32],
    nodes: NDArray[np.int64],
    numeric: NDArray[np.int32],
    categorical: NDArray[np.int32],
    words: NDArray[np.uint32],
    zero: int,
) -> NDArray[np.uint32]:
    """The child to which a row would go at each node (N,); a leaf's is the leaf itself."""
    slots = np.empty(numeric.shape[1] + categorical.shape[1] + 1, dtype=np.int32)  # a leaf reads slot 0
    _fill_slots(row, numeric, categorical, words, zero, slots)
    out = np.empty(nodes.shape[0], dtype=np.uint32)
    for node in range(nodes.shape[0]):
        out[node] = _step(nodes[node], np.uint32(node), slots)
    return out


Parse = Callable[[bytes], Model]
"""An artifact's bytes → its forest. Raises Corrupt if they are not intact, BadInput if they are not supported."""


class ForestScorer:
    """A binary classifier's forest as a `core.scoring.Scorer`. Immutable; may be shared between threads."""

    def __init__(self, model: Model, *, version: str, digest: str, spec: int) -> None:
        self._version, self._digest, self._spec = version, digest, spec
        self._names, self._width, self._sum = model.feature_names, model.width, model.sum
        self._method = shap.METHOD if model.is_weighted else shap.UNWEIGHTED_METHOD
        self._is_plain = model.sum.is_plain
        layout = lay_out(model)
        zero = int(np.float32(model.zero).view(np.int32))
        values = layout.values.astype(model.sum.dtype)
        self._tables = (layout.numeric, layout.categorical, layout.words, zero)
        begin = np.float32(model.sum.start) if model.sum.single else model.sum.start
        self._arguments = (layout.nodes, values, begin, layout.roots, layout.steps, *self._tables)
        self._explainer = shap.Explainer(
            model.trees,
            *unpacked(layout),
            layout.roots,
            layout.values,
            layout.covers,
            int(layout.steps.max(initial=0)),
        )
        empty = np.zeros((1, self._width), dtype=np.float32)
        self.margins(empty)  # compile, or load from the cache, now rather than during a payment
        self.contributions(empty[0])

    @classmethod
    def load(
        cls,
        content: bytes,
        *,
        version: str,
        spec: int,
        expected_digest: str | None = None,
        parse: Parse = lightgbm_text.parse,
    ) -> ForestScorer:
        """An artifact's bytes → scorer.

        version: the label, `baseline-1.0.0`. spec: the feature spec it reads; the caller compares `names`.
        expected_digest: SHA-256 (hex) that the bytes must have. parse: of the artifact's format. Raises Corrupt if the
        bytes have another digest or are not intact, BadInput if this kernel does not support the kind of model.
        """
        digest = checked_digest(content, version, expected_digest)
        return cls(parse(content), version=version, digest=digest, spec=spec)

    @property
    def version(self) -> str:
        """Name and semantic version, `baseline-1.0.0`."""
        return self._version

    @property
    def digest(self) -> str:
        """SHA-256 (64 hex digits) of the artifact's bytes."""
        return self._digest

    @property
    def spec(self) -> int:
        """The feature spec version whose columns the model reads."""
        return self._spec

    @property
    def inputs(self) -> None:
        """The file itself says nothing of definitions (`models.inputs`)."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that the model was trained on, in order, as its file names them; () if it names none."""
        return self._names

    @property
    def width(self) -> int:
        """The number of columns."""
        return self._width

    def margins(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log-odds: float32 (n, F) → float64 (n,), the bits of the library's raw score (docs/training.md).

        NaN is 'missing'. A read-only or strided array is copied first. Raises BadInput on another dtype or width.
        """
        check_rows(features, self._width, self._version)
        totals: NDArray[np.float64] = _margins(_bits(features), *self._arguments)
        return totals if self._is_plain else self._sum.margins(totals)

    @property
    def method(self) -> str:
        """How `contributions` are computed, in words."""
        return self._method

    def contributions(self, row: NDArray[np.float32]) -> tuple[float, NDArray[np.float64]]:
        """(bias, shares (F,)) of one row (F,), all in log-odds: bias + sum(shares) = margin within rounding.

        SHAP values (`models.shap`); the bias is the mean margin of the training rows. Where the library adds in
        float32, only the margin has the rounding of its sum. Raises BadInput on another dtype or width.
        """
        check_row(row, self._width, self._version)
        taken = _taken(_bits(row), self._arguments[0], *self._tables)
        return self._sum.explained(*self._explainer.shares(taken, self._width))


def _bits(features: NDArray[np.float32]) -> NDArray[np.int32]:
    """The float32 bits as int32, contiguous."""
    return contiguous(features).view(np.int32)
