"""CatBoost's JSON models against CatBoost itself: margins bit for bit, and what is refused."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import catboost
import numpy as np
import pytest

from core.errors import BadInput, Corrupt
from models import catboost_json
from models.forest import ForestScorer
from models.trees import Tree
from tests.builders.odd_rows import odd_rows, same_bits

WIDTH = 6
COMMON: dict[str, Any] = {"iterations": 40, "depth": 6, "thread_count": 1, "verbose": 0, "random_seed": 1}


def data(seed: int, rows: int = 1200) -> tuple[np.ndarray, np.ndarray]:
    """Every column has missing values in training, so that CatBoost takes them in prediction; the last is constant."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, WIDTH)).astype(np.float32)
    x[:, 4] = random.integers(0, 4, rows)
    x[:, 5] = 1.0
    x[random.random(x.shape) < 0.1] = np.nan
    x[random.random(x.shape) < 0.1] = 0.0
    return x, (np.nan_to_num(x[:, 0]) + 2 * np.isnan(x[:, 1]) - (x[:, 2] == 0) + random.normal(size=rows) > 0.8) * 1.0


def train(names: list[str] | None = None, **parameters: Any) -> catboost.CatBoost:
    x, y = data(0)
    model = catboost.CatBoost({"loss_function": "Logloss"} | COMMON | {"allow_writing_files": False} | parameters)
    return model.fit(catboost.Pool(x, y, feature_names=names))


def content_of(model: catboost.CatBoost) -> bytes:
    with TemporaryDirectory() as folder:
        model.save_model(f"{folder}/model.json", format="json")
        return Path(folder, "model.json").read_bytes()


def load(content: bytes) -> ForestScorer:
    return ForestScorer.load(content, version="c-1.0.0", spec=1, parse=catboost_json.parse)


def assert_same_bits(model: catboost.CatBoost, content: bytes, rows: int = 3000) -> None:
    """Rows in one call, in one that is no multiple of CatBoost's blocks, and alone."""
    x = odd_rows(catboost_json.parse(content), rows)
    margins = load(content).margins(x)
    same_bits(margins, model.predict(x, prediction_type="RawFormulaVal", thread_count=1), x)
    same_bits(margins[:77], model.predict(x[:77], prediction_type="RawFormulaVal", thread_count=1), x)
    for i in range(10):
        same_bits(margins[i : i + 1], model.predict(x[i : i + 1], prediction_type="RawFormulaVal"), x[i : i + 1])


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "missing above": {"nan_mode": "Max"},
    "deep": {"depth": 10, "iterations": 10},
    "shallow": {"depth": 1},
    "leaf-wise": {"grow_policy": "Lossguide", "max_leaves": 20},
    "leaf-wise, missing above": {"grow_policy": "Lossguide", "max_leaves": 20, "nan_mode": "Max"},
    "chains": {"grow_policy": "Lossguide", "max_leaves": 30, "depth": 16, "min_data_in_leaf": 1},
    "level-wise": {"grow_policy": "Depthwise"},
    "from the average": {"boost_from_average": True},
    "many": {"iterations": 131, "depth": 3},
    "one tree": {"iterations": 1},
    "cross entropy": {"loss_function": "CrossEntropy"},
    "few borders": {"border_count": 2},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_margins_have_the_bits_of_catboost(variant: str) -> None:
    """Each way of training gives a model that we score exactly as CatBoost does, odd rows included."""
    model = train(**VARIANTS[variant])
    assert_same_bits(model, content_of(model))


def test_scale_and_bias_have_the_bits_of_catboost() -> None:
    """A sum of trees is scaled, then moved: two roundings."""
    model = train()
    for scale, bias in ((0.3712345, -0.7654321), (-3.1, 1e-9), (1.0, 0.1), (0.1, 0.0)):
        model.set_scale_and_bias(scale, bias)
        assert_same_bits(model, content_of(model), 500)


@pytest.mark.parametrize("grow_policy", ["SymmetricTree", "Lossguide"])
def test_any_border_has_the_bits_of_catboost(grow_policy: str) -> None:
    """±0, denormals and extremes as borders, written into a model that CatBoost reads again.

    Leaf values are short, since CatBoost's reader of JSON does not round long ones correctly.
    """
    document = json.loads(content_of(train(iterations=20, grow_policy=grow_policy, border_count=5)))
    values = [0.0, 1e-45, -1e-45, 1e-39, 1e-35, 3.4028234663852886e38, -3.4028234663852886e38, 0.1, -0.5]
    feature = document["features_info"]["float_features"]
    random = np.random.default_rng(0)
    for each in feature:
        each["borders"] = sorted(random.choice(np.array(values), len(each["borders"]), replace=False).tolist())

    def move(split: dict[str, Any]) -> None:
        mine = feature[split["float_feature_index"]]["borders"]
        split["border"] = mine[split["split_index"] % len(mine)]

    for tree in document.get("oblivious_trees", []):
        tree["leaf_values"] = [round(value * 64) / 64 for value in tree["leaf_values"]]
        for split in tree["splits"]:
            move(split)
    stack = list(document.get("trees", []))
    while stack:
        node = stack.pop()
        if "split" in node:
            move(node["split"])
            stack += [node["left"], node["right"]]
        else:
            node["value"] = round(node["value"] * 64) / 64
    content = json.dumps(document).encode()
    model = catboost.CatBoost()
    with TemporaryDirectory() as folder:
        Path(folder, "model.json").write_bytes(content)
        model.load_model(f"{folder}/model.json", format="json")
    assert_same_bits(model, content, 2000)


def reached(tree: Tree, x: np.ndarray) -> np.ndarray:
    """How many rows reach each leaf."""
    counts = np.zeros(len(tree.leaf_value))
    for row in x:
        node = 0 if len(tree.feature) else -1
        while node >= 0:
            value = row[tree.feature[node]]
            goes_left = tree.default_left[node] if np.isnan(value) else value <= tree.threshold[node]
            node = int(tree.left[node] if goes_left else tree.right[node])
        counts[-1 - node] += 1
    return counts


@pytest.mark.parametrize("grow_policy", ["SymmetricTree", "Lossguide", "Depthwise"])
def test_leaf_weights_are_the_training_rows(grow_policy: str) -> None:
    """The weights that explanations rely on belong to the leaves to which we give them."""
    model = catboost_json.parse(content_of(train(iterations=3, grow_policy=grow_policy)))
    assert model.is_weighted
    for tree in model.trees:
        assert tree.leaf_count.tolist() == reached(tree, data(0)[0]).tolist()


def test_contributions_are_those_of_catboost() -> None:
    """To 1e-9 on 100 rows for symmetric trees, the bias included."""
    model = train(boost_from_average=True)
    x = data(8, 100)[0]
    wanted = model.get_feature_importance(catboost.Pool(x, np.zeros(100)), type="ShapValues")
    found = np.array([[*shares, bias] for bias, shares in map(load(content_of(model)).contributions, x)])
    assert np.abs(found - wanted).max() < 1e-9


def test_names_are_kept() -> None:
    """The names with which it was trained, in order; none if it was trained on an array."""
    names = [f"f{j}" for j in range(WIDTH)]
    assert load(content_of(train(names, iterations=2))).names == tuple(names)
    unnamed = load(content_of(train(iterations=2)))
    assert unnamed.names == () and unnamed.width == WIDTH


@cache
def small(grow_policy: str) -> bytes:
    return content_of(train(iterations=2, depth=3, grow_policy=grow_policy))


def _first(document: dict[str, Any]) -> dict[str, Any]:
    return document["oblivious_trees"][0]


def _node(document: dict[str, Any]) -> dict[str, Any]:
    return document["trees"][0]


CORRUPT: dict[str, tuple[str, Any]] = {
    "a leaf value too few": ("SymmetricTree", lambda d: _first(d)["leaf_values"].pop()),
    "a leaf weight too few": ("SymmetricTree", lambda d: _first(d)["leaf_weights"].pop()),
    "negative weight": ("SymmetricTree", lambda d: _first(d)["leaf_weights"].__setitem__(0, -1)),
    "column out of range": ("SymmetricTree", lambda d: _first(d)["splits"][0].update(float_feature_index=WIDTH)),
    "negative column": ("SymmetricTree", lambda d: _first(d)["splits"][0].update(float_feature_index=-1)),
    "border beyond float32": ("SymmetricTree", lambda d: _first(d)["splits"][0].update(border=1e39)),
    "columns not in order": ("SymmetricTree", lambda d: d["features_info"]["float_features"].reverse()),
    "no trees": ("SymmetricTree", lambda d: d["oblivious_trees"].clear()),
    "unknown treatment of NaN": (
        "SymmetricTree",
        lambda d: d["features_info"]["float_features"][0].update(nan_value_treatment="AsEver"),
    ),
    "a child missing": ("Lossguide", lambda d: _node(d).pop("left")),
    "a split missing": ("Lossguide", lambda d: _node(d).pop("split")),
    "a value missing": ("Lossguide", lambda d: _node(d).update(left={"weight": 1})),
    "a weight below 0": ("Lossguide", lambda d: _node(d).update(left={"weight": -1, "value": 0.0})),
}


@pytest.mark.parametrize("case", CORRUPT)
def test_damage_is_corrupt(case: str) -> None:
    """Each inconsistency is refused with one line."""
    grow_policy, change = CORRUPT[case]
    document = json.loads(small(grow_policy))
    change(document)
    with pytest.raises(Corrupt) as refusal:
        catboost_json.parse(json.dumps(document).encode())
    assert str(refusal.value).startswith("CatBoost model") and "\n" not in str(refusal.value)


def test_regression_is_bad_input() -> None:
    """CatBoost's own regression is recognised and refused."""
    with pytest.raises(BadInput, match="'RMSE' is not a binary classifier's"):
        catboost_json.parse(content_of(train(loss_function="RMSE", iterations=2)))


def test_classes_are_bad_input() -> None:
    """Two outputs, also if the loss function does not say so."""
    x, y = data(0)
    model = catboost.CatBoost(COMMON | {"loss_function": "MultiClass", "iterations": 2, "allow_writing_files": False})
    content = content_of(model.fit(x, y + (x[:, 0] > 1)))
    with pytest.raises(BadInput, match="'MultiClass' is not"):
        catboost_json.parse(content)
    with pytest.raises(BadInput, match="one output"):
        catboost_json.parse(content.replace(b'"MultiClass"', b'"Logloss"'))


def test_categories_are_bad_input() -> None:
    """A real model with a categorical feature."""
    x, y = data(0)
    columns = np.nan_to_num(x).astype(object)
    columns[:, 4] = columns[:, 4].astype(int).astype(str)
    model = catboost.CatBoost(COMMON | {"loss_function": "Logloss", "iterations": 2, "allow_writing_files": False})
    with pytest.raises(BadInput, match="categorical features"):
        catboost_json.parse(content_of(model.fit(catboost.Pool(columns, y, cat_features=[4]))))
