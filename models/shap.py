"""SHAP values of a forest: path-dependent TreeSHAP (Lundberg, Erion, Lee 2018), for alerts that are read.

A tree's value is a sum over leaves. For one leaf with value v, let each feature i on its path have o_i = 1 if the row
satisfies all of the feature's splits there, else 0, and z_i, the share of training rows that do (the product of the
covers' ratios). The leaf's part of the Shapley value of feature i is

    v · (o_i − z_i) · Σ over subsets T of the other features   |T|! (d − 1 − |T|)! / d! · Π in T o_j · Π not in T z_j
  = v · (o_i − z_i) · ∫₀¹ Π over j ≠ i of (o_j·t + z_j·(1 − t)) dt

since k! (d − 1 − k)! / d! = ∫ t^k (1 − t)^(d−1−k) dt. The integrand is a polynomial of degree d − 1, so Gauss-Legendre
quadrature with d / 2 points is exact but for rounding. The products are carried down the tree and the leaves' sums up,
as in Linear TreeSHAP (Yu, Xu, Zhou, Chen, Zhu 2022): a split costs a few operations per point. Where a feature is split
on again, its factor is replaced, and what the leaves below add for the former one is taken off.

Cost: 0.1 ms per row for the 128 trees of the shipped baseline; only readers of alerts need it. IEEE operations only, in
a fixed order.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from core.jit import njit
from models.trees import Tree

METHOD = "SHAP values, path-dependent TreeSHAP (Lundberg, Erion, Lee 2018)"
UNWEIGHTED_METHOD = f"{METHOD}; the file has no row counts, so every split counts as sending half of the rows each way"


def quadrature(points: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(nodes, weights) of the Gauss-Legendre rule on (0, 1), float64 (points,): exact to degree 2·points − 1.

    The roots of the Legendre polynomial are found by bisection between those of the one before, which they interlace,
    so that the bits depend on IEEE arithmetic only. Raises ValueError below one point.
    """
    if points < 1:
        raise ValueError("at least one point")
    roots: list[float] = []
    for degree in range(1, points + 1):
        edges = [-1.0, *roots, 1.0]
        roots = [_root(degree, low, high) for low, high in pairwise(edges)]
    weights = []
    for x in roots:
        value, before = _legendre(points, x)
        slope = points * (x * value - before) / (x * x - 1.0)
        weights.append(2.0 / ((1.0 - x * x) * slope * slope))
    return 0.5 * (1.0 + np.array(roots)), 0.5 * np.array(weights)


def _root(degree: int, low: float, high: float) -> float:
    """The one root of the Legendre polynomial between two points at which its signs differ."""
    falling = _legendre(degree, low)[0] > 0.0
    while True:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            return middle
        if (_legendre(degree, middle)[0] > 0.0) == falling:
            low = middle
        else:
            high = middle


def _legendre(degree: int, x: float) -> tuple[float, float]:
    """(P_degree(x), P_degree−1(x)) by Bonnet's recursion."""
    value, before = x, 1.0
    for k in range(2, degree + 1):
        value, before = ((2 * k - 1) * x * value - (k - 1) * before) / k, value
    return value, before


@njit
def _add_shares(
    taken: NDArray[np.uint32],
    roots: NDArray[np.uint32],
    left: NDArray[np.uint32],
    feature: NDArray[np.int32],
    values: NDArray[np.float64],
    covers: NDArray[np.float64],
    needed: NDArray[np.int64],
    rules: NDArray[np.float64],
    depth_max: int,
    shares: NDArray[np.float64],
) -> None:
    """Add every tree's SHAP values of a row to `shares` (F,).

    needed int64 (T,): quadrature points. rules float64 (Q + 1, 2, Q): nodes and weights by the number of points.
    """
    most = rules.shape[2]
    features = shares.shape[0]
    product = np.ones((depth_max + 1, most))  # by depth on the path: the factors' product
    below = np.zeros((depth_max + 1, most))  # the sum over the leaves visited below
    at = np.zeros((depth_max + 1, 2), dtype=np.int64)  # the node, and how many children have been visited
    # The factor of each feature on the path, its inverse, o and z; and by depth, what it was before the edge.
    inverse, inverse_before = np.ones((features, most)), np.ones((depth_max + 1, most))
    hit, hit_before = np.ones(features), np.ones(depth_max + 1)
    share, share_before = np.ones(features), np.ones(depth_max + 1)
    for tree in range(roots.shape[0]):
        points = needed[tree]
        nodes, weights = rules[points, 0], rules[points, 1]
        depth = 0
        at[0, 0], at[0, 1] = roots[tree], 0
        below[0] = 0.0
        while depth >= 0:
            node = at[depth, 0]
            if left[node] and at[depth, 1] < 2:
                child = left[node] + at[depth, 1]
                at[depth, 1] += 1
                f = feature[node]
                z = share[f] * (covers[child] / covers[node] if covers[node] > 0.0 else 0.5)
                o = hit[f] if taken[node] == child else 0.0
                if z == 0.0 and o == 0.0:
                    continue  # no training row and not this one: nothing below counts
                if not left[child]:  # its product without the feature's factor needs no division
                    now = before = 0.0
                    for q in range(points):
                        without = values[child] * weights[q] * product[depth, q] * inverse[f, q]
                        whole = without * (z + (o - z) * nodes[q])
                        now += without
                        before += whole * inverse[f, q]
                        below[depth, q] += whole
                    shares[f] += (o - z) * now - (hit[f] - share[f]) * before
                    continue
                depth += 1
                at[depth, 0], at[depth, 1] = child, 0
                hit_before[depth], share_before[depth] = hit[f], share[f]
                for q in range(points):
                    factor = z + (o - z) * nodes[q]
                    inverse_before[depth, q] = inverse[f, q]
                    product[depth, q] = product[depth - 1, q] * factor * inverse[f, q]
                    inverse[f, q] = 1.0 / factor
                    below[depth, q] = 0.0
                hit[f], share[f] = o, z
                continue
            if depth:
                f = feature[at[depth - 1, 0]]
                now = before = 0.0
                for q in range(points):
                    now += below[depth, q] * inverse[f, q]
                    before += below[depth, q] * inverse_before[depth, q]
                    below[depth - 1, q] += below[depth, q]
                    inverse[f, q] = inverse_before[depth, q]
                shares[f] += (hit[f] - share[f]) * now - (hit_before[depth] - share_before[depth]) * before
                hit[f], share[f] = hit_before[depth], share_before[depth]
            depth -= 1


@njit
def _features_on_a_path(root: np.uint32, left: NDArray[np.uint32], feature: NDArray[np.int32], depth_max: int) -> int:
    """The number of distinct features on the path from the root that has most."""
    at = np.zeros((depth_max + 1, 2), dtype=np.int64)
    splits = np.zeros(feature.max() + 1, dtype=np.int64)  # of each feature on the path
    at[0, 0] = root
    depth = distinct = most = 0
    while depth >= 0:
        node = at[depth, 0]
        if left[node] and at[depth, 1] < 2:
            f = feature[node]
            splits[f] += 1
            distinct += splits[f] == 1
            most = max(most, distinct)
            depth += 1
            at[depth, 0], at[depth, 1] = left[node] + at[depth - 1, 1], 0
            at[depth - 1, 1] += 1
            continue
        if depth:
            f = feature[at[depth - 1, 0]]
            distinct -= splits[f] == 1
            splits[f] -= 1
        depth -= 1
    return most


class Explainer:
    """Computes a forest's SHAP values. N nodes as `models.forest` lays them out; T roots.

    left uint32 (N,): left child, 0 for a leaf; the right one follows it. feature int32 (N,). values float64 (N,): of
    leaves, log-odds. covers float64 (N,): training rows.
    """

    def __init__(
        self,
        trees: Sequence[Tree],
        left: NDArray[np.uint32],
        feature: NDArray[np.int32],
        roots: NDArray[np.uint32],
        values: NDArray[np.float64],
        covers: NDArray[np.float64],
        depth_max: int,
    ) -> None:
        on_a_path = [_features_on_a_path(root, left, feature, depth_max) for root in roots]
        needed = np.array([max(1, (n + 1) // 2) for n in on_a_path], dtype=np.int64)
        most = int(needed.max(initial=1))
        rules = np.zeros((most + 1, 2, most))
        for points in sorted(set(needed.tolist())):
            rules[points, :, :points] = quadrature(points)
        self._forest = (roots, left, feature, values, covers, needed, rules, depth_max)
        self._bias = float(sum(map(_mean, trees)))

    def shares(self, taken: NDArray[np.uint32], width: int) -> tuple[float, NDArray[np.float64]]:
        """(bias, shares (width,)) of the row that goes from each node to the child `taken`, uint32 (N,)."""
        shares = np.zeros(width, dtype=np.float64)
        _add_shares(taken, *self._forest, shares)
        return self._bias, shares


def rows_below(tree: Tree) -> list[float]:
    """The training rows that reached each inner node, by its number."""
    rows = [0.0] * len(tree.feature)
    leaves = tree.leaf_count.tolist()
    for node in range(len(rows) - 1, -1, -1):  # a child's number is above its parent's
        for child in (int(tree.left[node]), int(tree.right[node])):
            rows[node] += leaves[-1 - child] if child < 0 else rows[child]
    return rows


def _mean(tree: Tree) -> float:
    """The mean of the leaf values over the training rows."""
    rows = float(tree.leaf_count.sum())
    return float(np.sum(tree.leaf_value * tree.leaf_count)) / rows if rows > 0.0 else float(tree.leaf_value.mean())
