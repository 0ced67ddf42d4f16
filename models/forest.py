"""The scorer: a LightGBM forest laid out for one small numba kernel, with the same bits as LightGBM's own predict.

Owns the layout and the walk; never reads files and never trusts text (see `models.lightgbm_text`). The idea:

1. Order-preserving integers. A float32 x and a float64 threshold t compare like integers: x ≤ t iff
   key(x) ≤ key(largest float32 ≤ t). So a node is one int64: threshold key (32 bits), slot (16), distance to its left
   child (16).
2. Slots. What LightGBM does with missing values, zeros and categories depends only on the row and the kind of split,
   not on the tree. So each row is first turned into `slots`, one key per (feature, treatment of NaN and zero) or per
   categorical set: a missing value becomes the smallest or the largest key, a set's member 0 and anything else 1. Then
   every node of every tree takes the same step: node + distance + (slot > threshold).
3. Nothing to mispredict. Leaves point to themselves, so LANES trees are walked in parallel for a fixed number of steps.

Leaf values are added in the order of the trees, from 0.0, as LightGBM does. Cost: about 1.5 µs per row for 150 trees of
31 leaves, plus about 1 µs per call (benchmarks/forest.py).
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from core.jit import njit
from models import shap
from models.lightgbm_text import MISSING_NAN, MISSING_NONE, Model, Tree, parse
from models.rows import check_row, check_rows, checked_digest, contiguous

LANES = 8
SLOTS_MAX = 65_536
STEPS_MAX = 32_768
"""The steps that one row may take in all trees together, LANES trees at once: about 0.1 ms."""
DEPTH_MAX = 512
"""The deepest tree. Explaining a score takes time that grows with the square of the depth."""

_KEY_MIN, _KEY_MAX = -(2**31), 2**31 - 1
_MAGNITUDE = np.int32(0x7FFFFFFF)
_SIGN_SHIFT = np.int32(31)
_INFINITY_BITS = np.int32(0x7F800000)
_CATEGORIES_MAX = np.float32(2.0**31)
# LightGBM's kZeroThreshold: its predict() reads anything this small, denormals included, as 0 (src/c_api.cpp, meta.h).
_ZERO_BITS = np.int32(np.float32(1e-35).view(np.int32))


def threshold_key(threshold: float) -> int:
    """The key k of a float64 threshold t (not NaN): for every float32 x but NaN and −0.0, x ≤ t iff key(x) ≤ k."""
    with np.errstate(over="ignore", under="ignore"):
        below = np.float32(threshold)
        if float(below) > threshold:
            below = np.nextafter(below, np.float32(-np.inf))
    bits = int((below + np.float32(0.0)).view(np.int32))  # + 0.0: −0.0 becomes 0.0
    return bits if bits >= 0 else bits ^ 0x7FFFFFFF


@njit
def _fill_slots(
    row: NDArray[np.int32],
    numeric: NDArray[np.int32],
    categorical: NDArray[np.int32],
    words: NDArray[np.uint32],
    slots: NDArray[np.int32],
) -> None:
    """One row's float32 bits (F,) → its keys (S,): numeric slots first, then categorical ones."""
    count = numeric.shape[1]
    for k in range(count):
        bits = row[numeric[0, k]]
        magnitude = bits & _MAGNITUDE
        key = bits ^ ((bits >> _SIGN_SHIFT) & _MAGNITUDE)
        key = numeric[2, k] if magnitude <= _ZERO_BITS else key
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
    values: NDArray[np.float64],
    roots: NDArray[np.uint32],
    steps: NDArray[np.int64],
    numeric: NDArray[np.int32],
    categorical: NDArray[np.int32],
    words: NDArray[np.uint32],
) -> NDArray[np.float64]:
    """Float32 bits of rows (n, F) → margins (n,)."""
    out = np.empty(rows.shape[0], dtype=np.float64)
    slots = np.empty(numeric.shape[1] + categorical.shape[1], dtype=np.int32)
    at = np.empty(LANES, dtype=np.uint32)
    for i in range(rows.shape[0]):
        _fill_slots(rows[i], numeric, categorical, words, slots)
        total = 0.0
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
) -> NDArray[np.uint32]:
    """The child to which a row would go at each node (N,); a leaf's is the leaf itself."""
    slots = np.empty(numeric.shape[1] + categorical.shape[1], dtype=np.int32)
    _fill_slots(row, numeric, categorical, words, slots)
    out = np.empty(nodes.shape[0], dtype=np.uint32)
    for node in range(nodes.shape[0]):
        out[node] = _step(nodes[node], np.uint32(node), slots)
    return out


@dataclass(frozen=True, slots=True)
class _Layout:
    """nodes int64 (N,), values float64 (N,): a leaf's value, else 0; covers float64 (N,): training rows; roots uint32
    (T,), T a multiple of LANES; steps int64 (T / LANES,): the deepest leaf of each group. numeric int32 (3, S):
    feature, key of NaN, key of zero. categorical int32 (3, C): feature, first word, number of words; words uint32.
    """

    nodes: NDArray[np.int64]
    values: NDArray[np.float64]
    covers: NDArray[np.float64]
    roots: NDArray[np.uint32]
    steps: NDArray[np.int64]
    numeric: NDArray[np.int32]
    categorical: NDArray[np.int32]
    words: NDArray[np.uint32]


class _Slots:
    """Numbers every distinct numeric treatment and categorical set, in order of appearance."""

    def __init__(self, model: Model) -> None:
        self.numeric: dict[tuple[int, int, int], int] = {}
        self.categorical: dict[tuple[int, bytes], int] = {}
        self.of: list[list[int]] = [
            [self._register(tree, node) for node in range(len(tree.feature))] for tree in model.trees
        ]
        count = len(self.numeric)
        if count + len(self.categorical) > SLOTS_MAX:
            raise BadInput(f"model has more than {SLOTS_MAX} distinct splits on categories and missing values")
        # Categorical slots were numbered −1, −2, …: they follow the numeric ones.
        self.of = [[slot if slot >= 0 else count - 1 - slot for slot in slots] for slots in self.of]

    def _register(self, tree: Tree, node: int) -> int:
        feature = int(tree.feature[node])
        if tree.categorical[node]:
            members = (feature, tree.categories[int(tree.threshold[node])].tobytes())
            return -1 - self.categorical.setdefault(members, len(self.categorical))
        default = _KEY_MIN if tree.default_left[node] else _KEY_MAX
        if tree.missing[node] == MISSING_NAN:
            treatment = (feature, default, 0)
        elif tree.missing[node] == MISSING_NONE:
            treatment = (feature, 0, 0)
        else:
            treatment = (feature, default, default)
        return self.numeric.setdefault(treatment, len(self.numeric))

    def tables(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint32]]:
        """(numeric, categorical, words) of the layout."""
        numeric = np.array(list(self.numeric), dtype=np.int32).reshape(-1, 3).T.copy()
        sets = [np.frombuffer(members, dtype=np.uint32) for _, members in self.categorical]
        features = [feature for feature, _ in self.categorical]
        sizes = [len(words) for words in sets]
        starts = np.cumsum([0, *sizes])[:-1]
        categorical = np.array([features, starts, sizes], dtype=np.int32).reshape(3, -1)
        return numeric, categorical, np.concatenate([np.empty(0, dtype=np.uint32), *sets])


def _lay_out(model: Model) -> _Layout:
    """Lay the trees out breadth first, so that siblings are adjacent and the top of a tree shares cache lines."""
    slots = _Slots(model)
    nodes: array[int] = array("q")
    values: array[float] = array("d")
    covers: array[float] = array("d")
    roots: list[int] = []
    depths: list[int] = []
    for index, (tree, slot_of) in enumerate(zip(model.trees, slots.of, strict=True)):
        roots.append(len(nodes))
        depths.append(_append_tree(tree, slot_of, nodes, values, covers))
        if depths[-1] > DEPTH_MAX:
            raise BadInput(f"model's tree {index} is {depths[-1]} splits deep, above the limit of {DEPTH_MAX}")
    padding = -len(roots) % LANES  # trees of one leaf worth 0.0: adding 0.0 to a sum that began with 0.0 changes no bit
    if padding:
        roots += [len(nodes)] * padding
        depths += [0] * padding
        nodes.append(_KEY_MAX << 32)
        values.append(0.0)
        covers.append(0.0)
    numeric, categorical, words = slots.tables()
    steps = np.array(depths, dtype=np.int64).reshape(-1, LANES).max(axis=1)
    if int(steps.sum()) > STEPS_MAX:
        raise BadInput(
            f"model's trees are too deep together: a row takes {int(steps.sum())} steps, above the limit of {STEPS_MAX}"
        )
    return _Layout(
        nodes=np.array(nodes, dtype=np.int64),
        values=np.array(values, dtype=np.float64),
        covers=np.array(covers, dtype=np.float64),
        roots=np.array(roots, dtype=np.uint32),
        steps=steps,
        numeric=numeric,
        categorical=categorical,
        words=words,
    )


def _append_tree(tree: Tree, slot_of: list[int], nodes: array[int], values: array[float], covers: array[float]) -> int:
    """Append one tree; return its depth. `parse` has made sure that this terminates."""
    left, right = tree.left.tolist(), tree.right.tolist()
    rows = shap.rows_below(tree)
    order = [(0 if left else -1, 0)]
    depth = 0
    for position, (node, level) in enumerate(order):  # grows during the loop
        depth = max(depth, level)
        if node < 0:
            nodes.append(_KEY_MAX << 32)
            values.append(float(tree.leaf_value[-1 - node]))
            covers.append(float(tree.leaf_count[-1 - node]))
            continue
        key = 0 if tree.categorical[node] else threshold_key(float(tree.threshold[node]))
        nodes.append((key << 32) | (slot_of[node] << 16) | (len(order) - position))
        values.append(0.0)
        covers.append(rows[node])
        order += [(left[node], level + 1), (right[node], level + 1)]
    return depth


class ForestScorer:
    """A LightGBM binary model as a `core.scoring.Scorer`. Immutable; may be shared between threads."""

    def __init__(self, model: Model, *, version: str, digest: str, spec: int) -> None:
        self._version, self._digest, self._spec = version, digest, spec
        self._feature_names = model.feature_names
        self._width = len(model.feature_names)
        layout = _lay_out(model)
        self._tables = (layout.numeric, layout.categorical, layout.words)
        self._arguments = (layout.nodes, layout.values, layout.roots, layout.steps, *self._tables)
        self._explainer = shap.Explainer(
            model.trees,
            *_unpacked(layout),
            layout.roots,
            layout.values,
            layout.covers,
            int(layout.steps.max(initial=0)),
        )
        empty = np.zeros((1, self._width), dtype=np.float32)
        self.margins(empty)  # compile, or load from the cache, now rather than during a payment
        self.contributions(empty[0])

    @classmethod
    def load(cls, content: bytes, *, version: str, spec: int, expected_digest: str | None = None) -> ForestScorer:
        """A LightGBM text file's bytes → scorer.

        version: the label, `baseline-1.0.0`. spec: the feature spec it reads; the caller compares `feature_names`.
        expected_digest: SHA-256 (hex) that the bytes must have. Raises Corrupt if they have another or the text is not
        intact, BadInput if this kernel does not support the kind of model.
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
    def feature_names(self) -> tuple[str, ...]:
        """The columns that the model was trained on, in order, as its file names them."""
        return self._feature_names

    def margins(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Raw scores (log-odds): float32 (n, F) → float64 (n,), the bits of LightGBM's `predict(raw_score=True)`.

        NaN is 'missing'. A read-only or strided array is copied first. Raises BadInput on another dtype or width.
        """
        check_rows(features, self._width, self._version)
        out: NDArray[np.float64] = _margins(_bits(features), *self._arguments)
        return out

    @property
    def method(self) -> str:
        """How `contributions` are computed, in words."""
        return shap.METHOD

    def contributions(self, row: NDArray[np.float32]) -> tuple[float, NDArray[np.float64]]:
        """(bias, shares (F,)) of one row (F,), all in log-odds: bias + sum(shares) = margin within rounding.

        SHAP values (`models.shap`); the bias is the mean margin of the training rows. Raises BadInput on another dtype
        or width.
        """
        check_row(row, self._width, self._version)
        return self._explainer.shares(_taken(_bits(row), self._arguments[0], *self._tables), self._width)


def _unpacked(layout: _Layout) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """Each node's left child uint32 (N,), 0 for a leaf, and the feature that it splits on int32 (N,)."""
    distance = layout.nodes & 0xFFFF
    numbers = np.arange(len(layout.nodes), dtype=np.int64)
    features = np.concatenate([layout.numeric[0], layout.categorical[0], np.zeros(1, dtype=np.int32)])
    left = np.where(distance > 0, numbers + distance, 0).astype(np.uint32)
    return left, np.where(distance > 0, features[(layout.nodes >> 16) & 0xFFFF], 0).astype(np.int32)


def _bits(features: NDArray[np.float32]) -> NDArray[np.int32]:
    """The float32 bits as int32, contiguous."""
    return contiguous(features).view(np.int32)
