"""XGBoost's JSON models against XGBoost itself: margins bit for bit, and what is refused."""

from __future__ import annotations

import ctypes
import json
from typing import Any

import numpy as np
import pytest
import xgboost

from core.errors import BadInput, Corrupt
from models import trees, xgboost_json
from models.forest import ForestScorer
from models.sums import logf
from tests.builders.odd_rows import odd_rows, same_bits

WIDTH = 6
COMMON: dict[str, Any] = {"objective": "binary:logistic", "max_depth": 4, "nthread": 1, "seed": 3}


def data(seed: int, rows: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, WIDTH)).astype(np.float32)
    x[:, 4] = random.integers(0, 4, rows)
    x[random.random(x.shape) < 0.1] = np.nan
    x[random.random(x.shape) < 0.1] = 0.0
    return x, (np.nan_to_num(x[:, 0]) + 2 * np.isnan(x[:, 1]) - (x[:, 2] == 0) + random.normal(size=rows) > 0.8) * 1.0


def train(rounds: int = 40, names: list[str] | None = None, **parameters: Any) -> xgboost.Booster:
    x, y = data(0)
    return xgboost.train(COMMON | parameters, xgboost.DMatrix(x, y, feature_names=names), rounds)


def content_of(booster: xgboost.Booster) -> bytes:
    return bytes(booster.save_raw("json"))


def load(content: bytes) -> ForestScorer:
    return ForestScorer.load(content, version="x-1.0.0", spec=1, parse=xgboost_json.parse)


def assert_same_bits(content: bytes, rows: int = 4000) -> None:
    """Rows in one call and alone. XGBoost refuses infinite values, so there are none."""
    booster = xgboost.Booster(model_file=bytearray(content))
    booster.set_param({"nthread": 1})
    x = odd_rows(xgboost_json.parse(content), rows, infinite=False)
    scorer = load(content)
    same_bits(scorer.margins(x), booster.predict(xgboost.DMatrix(x), output_margin=True), x)
    for row in x[:5]:
        same_bits(scorer.margins(row[None]), booster.predict(xgboost.DMatrix(row[None]), output_margin=True), row[None])


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deep": {"max_depth": 12, "min_child_weight": 0, "rounds": 60},
    "leaf-wise": {"grow_policy": "lossguide", "max_leaves": 60, "max_depth": 0},
    "forests": {"num_parallel_tree": 3, "subsample": 0.5},
    "exact": {"tree_method": "exact"},
    "approx": {"tree_method": "approx"},
    "half": {"base_score": 0.5},
    "rare": {"base_score": 0.00123},
    "raw margins": {"objective": "binary:logitraw"},
    "pruned to single leaves": {"gamma": 1e6},
    "monotone": {"monotone_constraints": "(1,-1,0,0,1,0)"},
    "weighted": {"scale_pos_weight": 30, "max_delta_step": 1},
    "one tree": {"rounds": 1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_margins_have_the_bits_of_xgboost(variant: str) -> None:
    """Each way of training gives a model that we score exactly as XGBoost does, odd rows included."""
    assert_same_bits(content_of(train(**VARIANTS[variant])))


@pytest.mark.parametrize("seed", range(4))
def test_any_threshold_and_default_has_the_bits_of_xgboost(seed: int) -> None:
    """Thresholds, leaves and defaults that no training would give (±0, denormals, extremes) are walked alike."""
    random = np.random.default_rng(seed)
    document = json.loads(content_of(train(20)))
    values = np.array([0.0, -0.0, 1e-45, -1e-45, 1e-39, 1e-35, 3.4e38, -3.4e38, 0.1, 1.0, -0.5], dtype=np.float32)
    for tree in document["learner"]["gradient_booster"]["model"]["trees"]:
        for node, left in enumerate(tree["left_children"]):
            if left >= 0:
                tree["split_conditions"][node] = float(random.choice(values))
                tree["default_left"][node] = int(random.integers(0, 2))
            else:
                tree["split_conditions"][node] = float(np.float32(random.normal() * 10 ** random.uniform(-8, 3)))
    assert_same_bits(json.dumps(document).encode())


def test_the_base_margin_has_the_bits_of_xgboost() -> None:
    """For 200 base rates, some near 0 and 1: it comes from the C library's logf, which is not correctly rounded."""
    random = np.random.default_rng(0)
    document = json.loads(content_of(train(1, gamma=1e6)))
    document["learner"]["gradient_booster"]["model"]["trees"][0]["split_conditions"] = [-0.0]  # changes no bit
    rates = np.concatenate(
        [random.random(100), 10 ** random.uniform(-5.9, -1, 30), 1 - 10 ** random.uniform(-5.9, -1, 20)]
    )
    for rate in rates.astype(np.float32):
        document["learner"]["learner_model_param"]["base_score"] = f"[{rate:.9E}]"
        content = json.dumps(document).encode()
        booster = xgboost.Booster(model_file=bytearray(content))
        wanted = booster.predict(xgboost.DMatrix(np.zeros((1, WIDTH))), output_margin=True)
        assert xgboost_json.parse(content).sum.start == float(wanted[0]), rate


def test_logf_is_the_c_librarys() -> None:
    """On 40,000 numbers of all magnitudes; some of them would differ with a correctly rounded logarithm."""
    library = ctypes.CDLL("libm.so.6")
    library.logf.restype, library.logf.argtypes = ctypes.c_float, [ctypes.c_float]
    random = np.random.default_rng(1)
    x = np.concatenate([random.random(20_000) * 4, 10 ** random.uniform(-44, 38, 20_000)]).astype(np.float32)
    x = x[x > 0].tolist()
    found = np.array([logf(value) for value in x], dtype=np.float32)
    assert found.tobytes() == np.array([library.logf(value) for value in x], dtype=np.float32).tobytes()
    assert (found != np.log(np.array(x)).astype(np.float32)).sum() > 20


def test_documents_of_earlier_versions_are_read() -> None:
    """Version 2 wrote base_score without brackets, version 1 default_left as true and false: the same margins."""
    document = json.loads(content_of(train(base_score=0.25)))
    wanted = load(json.dumps(document).encode())
    learner = document["learner"]
    learner["learner_model_param"]["base_score"] = "2.5E-1"
    del learner["gradient_booster"]["model"]["cats"]
    document["version"] = [1, 7, 6]
    for tree in learner["gradient_booster"]["model"]["trees"]:
        tree["default_left"] = [bool(each) for each in tree["default_left"]]
    x = data(4)[0]
    assert load(json.dumps(document).encode()).margins(x).tobytes() == wanted.margins(x).tobytes()


def test_contributions_are_those_of_xgboost() -> None:
    """To float32's precision on 100 rows, the bias included; XGBoost weighs nodes by the sum of hessians, as we do."""
    booster = train()
    x = data(8, 100)[0]
    wanted = booster.predict(xgboost.DMatrix(x), pred_contribs=True)
    found = np.array([[*shares, bias] for bias, shares in map(load(content_of(booster)).contributions, x)])
    assert np.abs(found - wanted).max() < 1e-5


def test_names_are_kept() -> None:
    """The names with which it was trained, in order; none if it was trained on an array."""
    names = [f"f{j}" for j in range(WIDTH)]
    assert load(content_of(train(2, names))).names == tuple(names)
    assert load(content_of(train(2))).names == () and load(content_of(train(2))).width == WIDTH


def with_change(change: Any, **parameters: Any) -> bytes:
    document = json.loads(content_of(train(3, **parameters)))
    change(document, document["learner"]["gradient_booster"]["model"]["trees"])
    return json.dumps(document).encode()


def _set(tree: dict[str, Any], name: str, node: int, value: Any) -> None:
    tree[name][node] = value


CORRUPT: dict[str, Any] = {
    "child out of range": lambda _, t: _set(t[0], "left_children", 0, 77),
    "child is the root": lambda _, t: _set(t[0], "left_children", 0, 0),
    "child used twice": lambda _, t: _set(t[0], "right_children", 0, t[0]["left_children"][0]),
    "right child missing": lambda _, t: _set(t[0], "right_children", 0, -1),
    "column out of range": lambda _, t: _set(t[0], "split_indices", 0, WIDTH),
    "negative column": lambda _, t: _set(t[0], "split_indices", 0, -1),
    "huge number": lambda _, t: _set(t[0], "left_children", 0, 2**64),
    "threshold beyond float32": lambda _, t: _set(t[0], "split_conditions", 0, 1e39),
    "negative weight": lambda _, t: t[0].update(sum_hessian=[-1.0] * len(t[0]["sum_hessian"])),
    "short list": lambda _, t: t[0]["default_left"].pop(),
    "another number of nodes": lambda _, t: t[0]["tree_param"].update(num_nodes="3"),
    "no nodes": lambda _, t: t[0].update({k: [] for k in t[0] if isinstance(t[0][k], list)}),
    "text for a number": lambda _, t: _set(t[0], "split_conditions", 0, "x"),
    "an empty forest": lambda _, t: t.clear(),
    "no trees at all": lambda d, _: d["learner"]["gradient_booster"].pop("model"),
    "names": lambda d, _: d["learner"].update(feature_names=["a", "a", "b", "c", "d", "e"]),
    "number of columns": lambda d, _: d["learner"]["learner_model_param"].update(num_feature="six"),
    "base score": lambda d, _: d["learner"]["learner_model_param"].update(base_score="[1.5]"),
    "two base scores": lambda d, _: d["learner"]["learner_model_param"].update(base_score="[0.5,0.5]"),
}


@pytest.mark.parametrize("case", CORRUPT)
def test_damage_is_corrupt(case: str) -> None:
    """Each inconsistency is refused with one line."""
    with pytest.raises(Corrupt) as refusal:
        xgboost_json.parse(with_change(CORRUPT[case]))
    assert str(refusal.value).startswith("XGBoost model") and "\n" not in str(refusal.value)


UNSUPPORTED: dict[str, tuple[dict[str, Any], str]] = {
    "dart": ({"booster": "dart"}, "'dart' is not supported"),
    "linear": ({"booster": "gblinear"}, "'gblinear' is not supported"),
    "regression": ({"objective": "reg:squarederror"}, "not a binary classifier's"),
    "classes": ({"objective": "multi:softprob", "num_class": 3}, "not a binary classifier's"),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_real_models_of_other_kinds_are_bad_input(case: str) -> None:
    """XGBoost's own models that are not scored here are refused with the reason."""
    parameters, words = UNSUPPORTED[case]
    with pytest.raises(BadInput, match=words):
        xgboost_json.parse(content_of(train(3, **parameters)))


def test_a_base_score_that_versions_read_differently_is_bad_input() -> None:
    """Below 1e-6 XGBoost's version 3 uses 1e-6 instead, earlier versions did not."""
    with pytest.raises(BadInput, match="too near to 0 or 1"):
        xgboost_json.parse(content_of(train(1, base_score=1e-9)))


def test_categories_are_bad_input() -> None:
    """A real model with categorical splits."""
    random = np.random.default_rng(0)
    x = random.integers(0, 9, (500, 2)).astype(np.float32)
    matrix = xgboost.DMatrix(x, (x[:, 0] % 3 == 0) * 1.0, feature_types=["c", "c"], enable_categorical=True)
    with pytest.raises(BadInput, match="categories"):
        xgboost_json.parse(content_of(xgboost.train({"objective": "binary:logistic"}, matrix, 3)))


def test_an_early_stopped_model_must_be_cut() -> None:
    """XGBoost's interfaces use different trees of it; the cut one is scored."""
    x, y = data(0)
    other = xgboost.DMatrix(data(1)[0], np.random.default_rng(0).integers(0, 2, 1500))
    booster = xgboost.train(
        COMMON | {"eta": 0.9},
        xgboost.DMatrix(x, y),
        50,
        evals=[(other, "v")],
        early_stopping_rounds=3,
        verbose_eval=False,
    )
    with pytest.raises(BadInput, match="best iteration"):
        xgboost_json.parse(content_of(booster))
    assert_same_bits(content_of(booster[: booster.best_iteration + 1]), 200)


def test_limits_of_depth_and_trees() -> None:
    """A chain deeper than the limit, and more trees than the limit, are refused before they are laid out."""
    deep = trees.DEPTH_MAX + 1

    def chain(tree: dict[str, Any]) -> None:
        count = 2 * deep + 1
        inner = range(0, count - 1, 2)
        tree.update({k: [0] * count for k in ("split_indices", "split_conditions", "default_left", "sum_hessian")})
        tree["left_children"] = [node + 1 if node in inner else -1 for node in range(count)]
        tree["right_children"] = [node + 2 if node in inner else -1 for node in range(count)]
        tree["split_type"] = []
        tree["tree_param"]["num_nodes"] = str(count)

    with pytest.raises(BadInput, match="splits deep"):
        xgboost_json.parse(with_change(lambda _, t: chain(t[0])))
    with pytest.raises(BadInput, match="trees are above the limit"):
        xgboost_json.parse(with_change(lambda _, t: t.extend([t[0]] * trees.TREES_MAX), max_depth=1))
