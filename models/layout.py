"""A forest laid out for the walk of `models.forest`: nodes of one int64 each, slots, roots. Made once, at loading.

Owns the layout and its limits; never walks it and never trusts a file (see the parsers). A float32 x and a threshold t
compare like integers: x ≤ t iff key(x) ≤ key(largest float32 ≤ t). So a node is one int64: threshold key (32 bits),
slot (16), distance to its left child (16).
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from models import shap
from models.trees import DEPTH_MAX, MISSING_NAN, MISSING_NONE, Model, Tree

LANES = 8
SLOTS_MAX = 65_536
STEPS_MAX = 32_768
"""The steps that one row may take in all trees together, LANES trees at once: about 0.1 ms."""

KEY_MIN, KEY_MAX = -(2**31), 2**31 - 1


def threshold_key(threshold: float) -> int:
    """The key k of a float64 threshold t (not NaN): for every float32 x but NaN and −0.0, x ≤ t iff key(x) ≤ k."""
    with np.errstate(over="ignore", under="ignore"):
        below = np.float32(threshold)
        if float(below) > threshold:
            below = np.nextafter(below, np.float32(-np.inf))
    bits = int((below + np.float32(0.0)).view(np.int32))  # + 0.0: −0.0 becomes 0.0
    return bits if bits >= 0 else bits ^ 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class Layout:
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
        default = KEY_MIN if tree.default_left[node] else KEY_MAX
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


def lay_out(model: Model) -> Layout:
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
    padding = -len(roots) % LANES  # trees of one leaf worth −0.0: adding it to any sum changes no bit
    if padding:
        roots += [len(nodes)] * padding
        depths += [0] * padding
        nodes.append(KEY_MAX << 32)
        values.append(-0.0)
        covers.append(0.0)
    numeric, categorical, words = slots.tables()
    steps = np.array(depths, dtype=np.int64).reshape(-1, LANES).max(axis=1)
    if int(steps.sum()) > STEPS_MAX:
        raise BadInput(
            f"model's trees are too deep together: a row takes {int(steps.sum())} steps, above the limit of {STEPS_MAX}"
        )
    return Layout(
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
            nodes.append(KEY_MAX << 32)
            values.append(float(tree.leaf_value[-1 - node]))
            covers.append(float(tree.leaf_count[-1 - node]))
            continue
        key = 0 if tree.categorical[node] else threshold_key(float(tree.threshold[node]))
        nodes.append((key << 32) | (slot_of[node] << 16) | (len(order) - position))
        values.append(0.0)
        covers.append(rows[node])
        order += [(left[node], level + 1), (right[node], level + 1)]
    return depth


def unpacked(layout: Layout) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """Each node's left child uint32 (N,), 0 for a leaf, and the feature that it splits on int32 (N,)."""
    distance = layout.nodes & 0xFFFF
    numbers = np.arange(len(layout.nodes), dtype=np.int64)
    features = np.concatenate([layout.numeric[0], layout.categorical[0], np.zeros(1, dtype=np.int32)])
    left = np.where(distance > 0, numbers + distance, 0).astype(np.uint32)
    return left, np.where(distance > 0, features[(layout.nodes >> 16) & 0xFFFF], 0).astype(np.int32)
