"""A forest as checked arrays: what every parser of a forest yields, and all that `models.layout` needs to know of it.

Owns the record of a tree and the limits; knows no file format. A tree that `tree_of` made, or that a parser has checked
itself, is safe to walk: it is known to be a tree, every index is in range, no number is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput, Corrupt
from core.jit import njit
from models.sums import Sum

BYTES_MAX = 32 * 2**20
TREES_MAX = 10_000
LEAVES_MAX = 32_768
LEAVES_TOTAL_MAX = 400_000
FEATURES_MAX = 65_536
DEPTH_MAX = 512
"""The limits bound the time and memory that loading a model takes, whoever wrote it: a worker loads a new model between
two batches. The deepest tree is limited because explaining a score takes time that grows with the square of the depth.
"""

MISSING_NONE, MISSING_ZERO, MISSING_NAN = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree with n leaves and n − 1 inner nodes; node 0 is the root, child c ≥ 0 is node c, c < 0 is leaf −1 − c.

    A row goes left where x ≤ threshold. feature, left, right: int64 (n−1,). threshold: float64 (n−1,), +inf where only
    missing values go right; for a categorical node the index into `categories`.
    categorical, default_left: bool (n−1,). missing: int64 (n−1,), MISSING_*: which values follow `default_left`.
    leaf_value: float64 (n,). leaf_count: float64 (n,), the leaf's weight in the training data, for explanations only.
    categories: per index a bitset of uint32 words; set members go left.
    A child's number is above its parent's, and every node and leaf has exactly one parent.
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    categorical: NDArray[np.bool_]
    default_left: NDArray[np.bool_]
    missing: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    leaf_value: NDArray[np.float64]
    leaf_count: NDArray[np.float64]
    categories: tuple[NDArray[np.uint32], ...] = ()


@dataclass(frozen=True, slots=True)
class Model:
    """A binary classifier's forest. width: columns of a row. feature_names: their names, () if the file gives none.

    sum: how leaf values become the margin. zero: a value of this magnitude or less counts as 0. is_weighted: whether
    `leaf_count` comes from the file.
    """

    feature_names: tuple[str, ...]
    trees: tuple[Tree, ...]
    width: int
    sum: Sum = field(default_factory=Sum)
    zero: float = 0.0
    is_weighted: bool = True


class Nodes(NamedTuple):
    """A tree as most libraries store it: N nodes, in any order, some of them perhaps unused.

    left, right: int64 (N,), node numbers; left is −1 for a leaf. feature int64, threshold float64, default_left bool,
    value float64: (N,) each; value is read for leaves only, the others for inner nodes only. weight: float64 (N,), of
    leaves; None if the format has none: every split then sends half of the rows each way.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    default_left: NDArray[np.bool_]
    value: NDArray[np.float64]
    weight: NDArray[np.float64] | None


_FINE, _OUT_OF_RANGE, _SHARED, _DEEP = range(4)


@njit
def _walk(
    left: NDArray[np.int64], right: NDArray[np.int64], root: int, depth_max: int
) -> tuple[int, NDArray[np.int64], NDArray[np.int64], int]:
    """Breadth first from the root: (what is wrong, nodes in order, their depths, how many there are)."""
    count = left.shape[0]
    order, depth = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    seen = np.zeros(count, dtype=np.bool_)
    order[0] = root
    seen[root] = True
    found, at = 1, 0
    while at < found:
        node = order[at]
        if left[node] >= 0:
            if depth[at] >= depth_max:
                return _DEEP, order, depth, found
            for child in (left[node], right[node]):
                if child < 0 or child >= count:
                    return _OUT_OF_RANGE, order, depth, found
                if seen[child]:
                    return _SHARED, order, depth, found
                seen[child] = True
                order[found], depth[found] = child, depth[at] + 1
                found += 1
        at += 1
    return _FINE, order, depth, found


def tree_of(nodes: Nodes, root: int, width: int, where: str) -> Tree:
    """Node lists → Tree. `where` names the tree in messages: "model.json: tree 7".

    Raises Corrupt if the nodes that can be reached from the root are no tree, if one splits on a column outside 0 …
    width − 1 or at NaN, or if a leaf's value is not finite; BadInput above a limit.
    """
    left = np.where(nodes.left < 0, -1, nodes.left)
    fault, order, depth, found = _walk(left, nodes.right, root, DEPTH_MAX)
    if fault == _DEEP:
        raise BadInput(f"{where} is more than {DEPTH_MAX} splits deep")
    if fault == _OUT_OF_RANGE:
        raise Corrupt(f"{where} has a child that does not exist")
    if fault == _SHARED:
        raise Corrupt(f"{where} is not a tree: a node has two parents or is below itself")
    order, depth = order[:found], depth[:found]
    leaf = left[order] < 0
    inner, leaves = order[~leaf], order[leaf]
    if len(leaves) > LEAVES_MAX:
        raise BadInput(f"{where} has {len(leaves)} leaves, above the limit of {LEAVES_MAX}")
    feature, threshold, value = nodes.feature[inner], nodes.threshold[inner], nodes.value[leaves]
    if ((feature < 0) | (feature >= width)).any():
        raise Corrupt(f"{where} splits on a column that does not exist")
    if np.isnan(threshold).any() or not np.isfinite(value).all():
        raise Corrupt(f"{where} has a threshold that is NaN or a leaf that is not finite")
    number = np.empty(len(left), dtype=np.int64)
    number[inner] = np.arange(len(inner))
    number[leaves] = -1 - np.arange(len(leaves))
    weight = 0.5 ** depth[leaf] if nodes.weight is None else nodes.weight[leaves]
    if not (np.isfinite(weight).all() and (weight >= 0.0).all()):
        raise Corrupt(f"{where} has a leaf whose weight is not a number of 0 or more")
    return Tree(
        feature=feature,
        threshold=threshold,
        categorical=np.zeros(len(inner), dtype=np.bool_),
        default_left=nodes.default_left[inner],
        missing=np.full(len(inner), MISSING_NAN, dtype=np.int64),
        left=number[left[inner]],
        right=number[nodes.right[inner]],
        leaf_value=value,
        leaf_count=weight.astype(np.float64),
    )


def just_below(thresholds: NDArray[np.float32]) -> NDArray[np.float64]:
    """The float32 before each threshold t, so that for float32 x: x < t iff x ≤ it. t must be above −inf."""
    with np.errstate(over="ignore"):  # before the smallest finite one is -inf, as it should be
        return np.nextafter(thresholds, np.float32(-np.inf)).astype(np.float64)


def check_size(content: bytes, what: str) -> None:
    """Raise BadInput if an artifact is larger than BYTES_MAX."""
    if len(content) > BYTES_MAX:
        raise BadInput(f"{what} of {len(content)} bytes is above the limit of {BYTES_MAX}")


def check_counts(trees: int, leaves: int, what: str) -> None:
    """Raise BadInput if a forest has too many trees or leaves."""
    if trees > TREES_MAX:
        raise BadInput(f"{what}: {trees} trees are above the limit of {TREES_MAX}")
    if leaves > LEAVES_TOTAL_MAX:
        raise BadInput(f"{what}: it has more than {LEAVES_TOTAL_MAX} leaves in all")


def check_names(names: tuple[str, ...], width: int, what: str) -> None:
    """Raise Corrupt unless there are `width` distinct names, or none; BadInput above FEATURES_MAX columns."""
    if not 1 <= width <= FEATURES_MAX:
        raise BadInput(f"{what}: {width} columns; 1 to {FEATURES_MAX} are supported")
    if names and (len(names) != width or not all(names) or len(set(names)) != width):
        raise Corrupt(f"{what}: its column names are not {width} different ones")
