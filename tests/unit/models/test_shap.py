"""SHAP values: LightGBM's, those of the definition, and exact quadrature."""

from __future__ import annotations

from itertools import combinations
from math import factorial

import lightgbm
import numpy as np
import pytest
from numpy.typing import NDArray

from models import lightgbm_text, shap, trees
from models.forest import ForestScorer
from tests.builders.forests import data, load, render, train

VARIANTS: dict[str, dict[str, object]] = {
    "plain": {},
    "deep": {"rounds": 30, "num_leaves": 63, "min_data_in_leaf": 2},
    "bagged": {"bagging_fraction": 0.5, "bagging_freq": 1},
    "stumps": {"num_leaves": 2},
    "categorical": {"categorical": True, "min_data_per_group": 5, "cat_smooth": 1.0},
    "dart": {"boosting": "dart"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_contributions_are_those_of_lightgbm(variant: str) -> None:
    """To 1e-9 on 200 rows with missing values, the bias included."""
    booster = train(**VARIANTS[variant])  # type: ignore[arg-type]
    scorer = load(booster.model_to_string())
    rows = data(8, 200)[0]
    wanted = np.asarray(booster.predict(rows, pred_contrib=True))
    found = np.array([[*shares, bias] for bias, shares in map(scorer.contributions, rows)])
    assert np.abs(found - wanted).max() < 1e-9


def conditional(tree: trees.Tree, known: set[int], taken: dict[int, int], node: int = 0) -> float:
    """The tree's value where only the features in `known` are: at other splits, the mean by training rows."""
    if node < 0:
        return float(tree.leaf_value[-1 - node])
    if int(tree.feature[node]) in known:
        return conditional(tree, known, taken, taken[node])
    rows = []
    for child in (int(tree.left[node]), int(tree.right[node])):
        rows.append(float(tree.leaf_count[-1 - child]) if child < 0 else shap.rows_below(tree)[child])
    left = conditional(tree, known, taken, int(tree.left[node]))
    right = conditional(tree, known, taken, int(tree.right[node]))
    return (rows[0] * left + rows[1] * right) / sum(rows)


def shapley(tree: trees.Tree, row: NDArray[np.float32]) -> NDArray[np.float64]:
    """The Shapley values of the definition, over all subsets of features. For numeric splits without missing values."""
    taken = {
        node: int(tree.left[node] if row[tree.feature[node]] <= tree.threshold[node] else tree.right[node])
        for node in range(len(tree.feature))
    }
    n = len(row)
    out = np.zeros(n)
    for i in range(n):
        others = [j for j in range(n) if j != i]
        for size in range(n):
            weight = factorial(size) * factorial(n - 1 - size) / factorial(n)
            for subset in combinations(others, size):
                gain = conditional(tree, {*subset, i}, taken) - conditional(tree, set(subset), taken)
                out[i] += weight * gain
    return out


@pytest.mark.parametrize("empty", [False, True])
def test_contributions_are_the_shapley_values(empty: bool) -> None:
    """Of the definition, for trees that split on a feature several times; also where a leaf has no training row."""
    booster = train(rounds=4, num_leaves=12, max_depth=5, use_missing=False)
    text = booster.model_to_string()
    if empty:
        head, _, rest = text.partition("leaf_count=")
        counts = rest.split("\n", 1)[0].split(" ")
        text = f"{head}leaf_count={' '.join(['0', *counts[1:]])}\n" + rest.split("\n", 1)[1]
        sizes = [len(f"Tree={block}") for block in text.partition("end of trees")[0].split("Tree=")[1:]]
        line = next(each for each in text.split("\n") if each.startswith("tree_sizes="))
        text = text.replace(line, "tree_sizes=" + " ".join(map(str, sizes)))
    trees = lightgbm_text.parse(text.encode()).trees
    assert any(len(np.unique(tree.feature)) < len(tree.feature) for tree in trees)
    assert any(0.0 in tree.leaf_count for tree in trees) == empty
    scorer = load(text)
    rows = np.nan_to_num(data(9, 8)[0])
    for row in rows:
        wanted = sum(shapley(tree, row) for tree in trees)
        assert scorer.contributions(row)[1] == pytest.approx(wanted, abs=1e-12)


def test_a_feature_split_on_again_and_again_is_one_feature() -> None:
    """A chain on a single feature: all of the margin's distance from the mean is its own."""
    random = np.random.default_rng(3)
    x = random.normal(size=(3000, 6)).astype(np.float32)
    y = np.sin(4 * x[:, 2]) + random.normal(size=3000) > 0
    booster = lightgbm.train(
        {"objective": "binary", "num_leaves": 40, "verbose": -1}, lightgbm.Dataset(x[:, [2]], y * 1.0), 20
    )
    scorer = ForestScorer.load(booster.model_to_string().encode(), version="c-1.0.0", spec=1)
    for value in x[:20, [2]]:
        bias, shares = scorer.contributions(value)
        assert shares[0] == pytest.approx(float(scorer.margins(value[None])[0]) - bias, abs=1e-12)


def test_a_forest_without_splits_has_nothing_to_share() -> None:
    """One leaf: the bias is the margin."""
    tree = {"num_leaves": "1", "num_cat": "0", "split_feature": "", "split_gain": "", "threshold": ""}
    tree |= {"decision_type": "", "left_child": "", "right_child": "", "leaf_value": "0.75", "leaf_weight": ""}
    tree |= {"leaf_count": "", "internal_value": "", "internal_weight": "", "internal_count": ""}
    bias, shares = load(render([tree | {"is_linear": "0", "shrinkage": "1"}])).contributions(data(1, 1)[0][0])
    assert bias == 0.75 and not shares.any()


@pytest.mark.parametrize("points", [1, 2, 3, 8, 17, 36])
def test_the_quadrature_is_gauss_legendre(points: int) -> None:
    """Nodes and weights are numpy's, and powers up to degree 2·points − 1 are integrated exactly."""
    nodes, weights = shap.quadrature(points)
    x, w = np.polynomial.legendre.leggauss(points)
    assert nodes == pytest.approx((x + 1) / 2, abs=1e-15) and weights == pytest.approx(w / 2, abs=1e-14)
    for degree in range(2 * points):
        assert float(np.sum(weights * nodes**degree)) == pytest.approx(1.0 / (degree + 1), rel=1e-13)
