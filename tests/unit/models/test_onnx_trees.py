"""ONNX tree ensembles against onnxruntime: scores bit for bit, and what is refused. onnx reads and writes only here."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import catboost
import lightgbm
import numpy as np
import onnx
import onnxmltools
import onnxruntime
import pytest
import skl2onnx
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnxmltools.convert.common.data_types import FloatTensorType as ToolsTensor
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier

from core.errors import BadInput, Corrupt, SentinelError
from models import onnx_trees
from models.forest import ForestScorer
from tests.builders.odd_rows import odd_rows, same_bits

WIDTH = 6


@cache
def data(missing: bool) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.normal(size=(1200, WIDTH)).astype(np.float32)
    x[random.random(x.shape) < 0.1] = np.nan if missing else 0.0
    return x, (np.nan_to_num(x[:, 0]) + (x[:, 1] > 1) + random.normal(size=len(x)) * 0.3 > 0.6) * 1


def sklearn(model: Any, **options: Any) -> onnx.ModelProto:
    model.fit(*data(False))
    return skl2onnx.convert_sklearn(
        model, initial_types=[("X", FloatTensorType([None, WIDTH]))], options={id(model): options}
    )


def of_lightgbm() -> onnx.ModelProto:
    model = lightgbm.LGBMClassifier(n_estimators=103, num_leaves=30, verbose=-1, n_jobs=1).fit(*data(True))
    return onnxmltools.convert_lightgbm(model, initial_types=[("X", ToolsTensor([None, WIDTH]))])


def of_xgboost() -> onnx.ModelProto:
    model = xgboost.XGBClassifier(n_estimators=50, max_depth=5, n_jobs=1).fit(*data(True))
    return onnxmltools.convert_xgboost(model, initial_types=[("X", ToolsTensor([None, WIDTH]))])


def of_catboost(**parameters: Any) -> onnx.ModelProto:
    model = catboost.CatBoostClassifier(
        iterations=50, depth=5, thread_count=1, verbose=0, allow_writing_files=False, **parameters
    )
    model.fit(*data(True))
    with TemporaryDirectory() as folder:
        model.save_model(f"{folder}/model.onnx", format="onnx")
        return onnx.load(Path(folder, "model.onnx"))


VARIANTS: dict[str, Callable[[], onnx.ModelProto]] = {
    "random forest": lambda: sklearn(RandomForestClassifier(30, max_depth=6, random_state=0)),
    "random forest without zipmap": lambda: sklearn(
        RandomForestClassifier(130, max_depth=4, random_state=0), zipmap=False
    ),
    "extra trees": lambda: sklearn(ExtraTreesClassifier(10, random_state=0)),
    "gradient boosting": lambda: sklearn(GradientBoostingClassifier(n_estimators=100, max_depth=4, random_state=0)),
    "one tree": lambda: sklearn(DecisionTreeClassifier(max_depth=5)),
    "a single leaf": lambda: sklearn(DecisionTreeClassifier(max_depth=1, min_samples_leaf=0.5)),
    "lightgbm": of_lightgbm,
    "xgboost": of_xgboost,
    "catboost": of_catboost,
}


@cache
def made(variant: str) -> bytes:
    return VARIANTS[variant]().SerializeToString()


def ensemble_of(model: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type.startswith("TreeEnsemble"))


def attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next(each for each in node.attribute if each.name == name)


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def raw_scores(content: bytes, x: np.ndarray) -> np.ndarray:
    """Scores of the second class by onnxruntime, of the ensemble alone without its post-transform."""
    model = onnx.load_from_string(content)
    ensemble = ensemble_of(model)
    attribute(ensemble, "post_transform").s = b"NONE"
    del model.graph.node[:], model.graph.output[:]
    model.graph.node.append(ensemble)
    model.graph.output.append(helper.make_tensor_value_info(ensemble.output[-1], TensorProto.FLOAT, [None, None]))
    running = session(model)
    return running.run(None, {running.get_inputs()[0].name: x})[0][:, -1]


def load(content: bytes) -> ForestScorer:
    return ForestScorer.load(content, version="o-1.0.0", spec=1, parse=onnx_trees.parse)


def assert_same_bits(content: bytes, rows: int = 2000) -> None:
    """Scores in one call and alone; for probabilities, those from which the margins are taken."""
    model = onnx_trees.parse(content)
    x = odd_rows(model, rows)
    margins = load(content).margins(x)
    wanted = raw_scores(content, x).astype(np.float64)
    alone = np.concatenate([raw_scores(content, x[i : i + 1]) for i in range(3)]).astype(np.float64)
    if model.sum.is_probability:
        inside = (wanted > 2.0**-24) & (wanted < 1 - 2.0**-24)
        with np.errstate(divide="ignore"):
            assert np.abs(margins - np.log(wanted / (1 - wanted)))[inside].max(initial=0.0) < 1e-12
        found = 1 / (1 + np.exp(-margins))
        assert np.array_equal(found[inside].astype(np.float32), wanted[inside].astype(np.float32))
        assert np.abs(margins[~inside]).min(initial=99.0) > 16
        return
    same_bits(margins, wanted, x)
    same_bits(margins[:3], alone, x)


@pytest.mark.parametrize("variant", VARIANTS)
def test_scores_have_the_bits_of_onnxruntime(variant: str) -> None:
    """Forests and boosted trees from five libraries, odd rows included."""
    assert_same_bits(made(variant))


@pytest.mark.parametrize("variant", ["random forest", "gradient boosting", "lightgbm", "catboost"])
def test_probabilities_are_those_of_the_whole_graph(variant: str) -> None:
    """The margin's probability is what the unchanged file gives for the second class, to float32's precision."""
    model = onnx.load_from_string(made(variant))
    x = data(True)[0][:200]
    running = session(model)
    answer = running.run(None, {running.get_inputs()[0].name: x})[1]
    wanted = np.array([each[1] for each in answer]) if isinstance(answer, list) else answer[:, 1]
    assert np.abs(1 / (1 + np.exp(-load(made(variant)).margins(x))) - wanted).max() < 2e-7


@pytest.mark.parametrize("seed", range(4))
def test_all_modes_have_the_bits_of_onnxruntime(seed: int) -> None:
    """Every comparison with every treatment of NaN, at ±0, denormals, extremes and infinities."""
    random = np.random.default_rng(seed)
    model = onnx.load_from_string(made("lightgbm"))
    ensemble = ensemble_of(model)
    values = np.array([0.0, -0.0, 1e-45, -1e-45, 1e-39, 1e-35, 3.4028235e38, -3.4028235e38, 0.1, -0.5, np.inf])
    modes, tracks = attribute(ensemble, "nodes_modes"), attribute(ensemble, "nodes_missing_value_tracks_true")
    thresholds = attribute(ensemble, "nodes_values")
    for node, mode in enumerate(modes.strings):
        if mode != b"LEAF":
            modes.strings[node] = random.choice(onnx_trees.BRANCHES)
            tracks.ints[node] = int(random.integers(0, 2))
            thresholds.floats[node] = float(np.float32(random.choice(values)))
    weights = attribute(ensemble, "class_weights")
    weights.floats[:] = (random.normal(size=len(weights.floats)) * 10 ** random.uniform(-6, 2)).tolist()
    assert_same_bits(model.SerializeToString(), 1500)


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE"])
def test_a_regressor_of_log_odds_has_the_bits_of_onnxruntime(aggregate: str) -> None:
    """With the post-transform LOGISTIC: leaves are added or averaged, then moved by the base value."""
    model = sklearn(RandomForestRegressor(15, max_depth=5, random_state=0))
    ensemble = ensemble_of(model)
    del ensemble.attribute[[each.name for each in ensemble.attribute].index("post_transform")]
    kept = [each for each in ensemble.attribute if each.name not in ("aggregate_function", "base_values")]
    del ensemble.attribute[:]
    ensemble.attribute.extend(kept)
    ensemble.attribute.append(helper.make_attribute("post_transform", "LOGISTIC"))
    ensemble.attribute.append(helper.make_attribute("aggregate_function", aggregate))
    ensemble.attribute.append(helper.make_attribute("base_values", [-0.37]))
    assert_same_bits(model.SerializeToString())


def test_votes_of_one_sign_have_the_bits_of_onnxruntime() -> None:
    """If no vote is below 0, onnxruntime takes another path, but the scores are margins all the same."""

    def positive(_: onnx.ModelProto, ensemble: onnx.NodeProto) -> None:
        weights = attribute(ensemble, "class_weights")
        weights.floats[:] = [abs(weight) for weight in weights.floats]

    content = changed(positive)
    assert_same_bits(content, 500)
    x = data(False)[0][:50]
    wanted = session(onnx.load_from_string(content)).run(None, {"X": x})[1]
    assert np.abs(1 / (1 + np.exp(-load(content).margins(x))) - [each[1] for each in wanted]).max() < 2e-7


def test_explanations_say_that_the_file_has_no_row_counts() -> None:
    """They add up all the same, for margins and for probabilities."""
    for variant in ("gradient boosting", "random forest"):
        scorer = load(made(variant))
        assert "no row counts" in scorer.method
        x = data(True)[0][:50]
        margins = scorer.margins(x)
        for row, margin in zip(x, margins, strict=True):
            bias, shares = scorer.contributions(row)
            assert bias + shares.sum() == pytest.approx(margin, abs=1e-4)


def changed(change: Callable[[onnx.ModelProto, onnx.NodeProto], object], variant: str = "gradient boosting") -> bytes:
    model = onnx.load_from_string(made(variant))
    change(model, ensemble_of(model))
    return model.SerializeToString()


def put(name: str, index: int, value: Any) -> Callable[[onnx.ModelProto, onnx.NodeProto], object]:
    def change(_: onnx.ModelProto, node: onnx.NodeProto) -> None:
        found = attribute(node, name)
        column = found.floats if len(found.floats) else found.strings if len(found.strings) else found.ints
        column[index] = value

    return change


CORRUPT: dict[str, Callable[[onnx.ModelProto, onnx.NodeProto], object]] = {
    "child out of range": put("nodes_truenodeids", 0, 10**6),
    "child is the root": put("nodes_truenodeids", 0, 0),
    "child used twice": lambda _, n: put("nodes_truenodeids", 0, attribute(n, "nodes_falsenodeids").ints[0])(_, n),
    "column out of range": put("nodes_featureids", 0, WIDTH),
    "negative column": put("nodes_featureids", 0, -1),
    "NaN threshold": put("nodes_values", 0, float("nan")),
    "infinite leaf": put("class_weights", 0, float("inf")),
    "node repeated": put("nodes_nodeids", 1, 0),
    "vote at a split": put("class_nodeids", 0, 0),
    "vote at no node": put("class_nodeids", 0, 10**6),
    "vote for no class": put("class_ids", 0, 2),
    "huge number": put("nodes_nodeids", 1, 2**40),
    "trees out of order": put("nodes_treeids", 0, 5),
    "short list": lambda _, n: attribute(n, "nodes_values").floats.pop(),
    "base values": lambda _, n: attribute(n, "base_values").floats.extend([1.0, 2.0]),
    "no graph": lambda m, _: m.ClearField("graph"),
    "no input": lambda m, _: m.graph.input.pop(),
}


@pytest.mark.parametrize("case", CORRUPT)
def test_damage_is_corrupt(case: str) -> None:
    """Each inconsistency is refused with one line."""
    with pytest.raises(Corrupt) as refusal:
        onnx_trees.parse(changed(CORRUPT[case]))
    assert str(refusal.value).startswith("ONNX model") and "\n" not in str(refusal.value)


def _add(model: onnx.ModelProto, operator: str) -> None:
    model.graph.node.append(helper.make_node(operator, ["probabilities"], ["more"]))


UNSUPPORTED: dict[str, tuple[Callable[[onnx.ModelProto, onnx.NodeProto], object], str]] = {
    "another operator": (lambda m, _: _add(m, "Sigmoid"), "operator 'Sigmoid'"),
    "a scaled input": (
        lambda m, n: (
            m.graph.node.insert(0, helper.make_node("Cast", ["X"], ["Y"], to=7)),
            n.input.__setitem__(0, "Y"),
        ),
        "cast to another type",
    ),
    "equality": (put("nodes_modes", 0, b"BRANCH_EQ"), "'BRANCH_EQ' are not supported"),
    "post-transform": (lambda _, n: setattr(attribute(n, "post_transform"), "s", b"SOFTMAX"), "'SOFTMAX'"),
    "three classes": (lambda _, n: attribute(n, "classlabels_int64s").ints.append(2), "3 classes"),
    "unknown columns": (
        lambda m, _: m.graph.input[0].type.tensor_type.shape.dim[1].ClearField("dim_value"),
        "how many columns",
    ),
    "integers": (lambda m, _: setattr(m.graph.input[0].type.tensor_type, "elem_type", 7), "not float32"),
    "opset": (
        lambda m, _: m.opset_import.append(helper.make_opsetid("ai.onnx.ml", 5)),
        "ai.onnx.ml 5 is not supported",
    ),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_we_do_not_score_is_bad_input(case: str) -> None:
    """A sound file of another kind is refused with the reason."""
    change, words = UNSUPPORTED[case]
    with pytest.raises(BadInput, match=words):
        onnx_trees.parse(changed(change))


def test_real_models_of_other_kinds_are_bad_input() -> None:
    """AdaBoost needs other operators, a plain regressor has no known scale, CatBoost's biased export is ambiguous."""
    for model, words in (
        (sklearn(AdaBoostClassifier(n_estimators=3)), "operator '"),
        (sklearn(RandomForestRegressor(3, max_depth=3)), "scale is not known"),
        (of_catboost(boost_from_average=True), "base values"),
    ):
        with pytest.raises(BadInput, match=words):
            onnx_trees.parse(model.SerializeToString())


NUMBERS = st.sampled_from((-1, 0, 1, 2, 3, 7, 1000, 2**31, 2**62, -(2**62)))


@settings(max_examples=150, deadline=5000, derandomize=True, database=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, 30), st.floats(0, 1, exclude_max=True), NUMBERS), min_size=1, max_size=3)
)
def test_changed_attributes_never_crash(edits: list[tuple[int, float, int]]) -> None:
    """Well-formed files whose numbers mean nothing good are refused, or score any row."""
    model = onnx.load_from_string(made("one tree"))
    attributes = ensemble_of(model).attribute
    for which, where, value in edits:
        chosen = attributes[which % len(attributes)]
        for column in (chosen.ints, chosen.floats):
            if len(column):
                column[int(where * len(column))] = value
    try:
        scorer = load(model.SerializeToString())
    except SentinelError as refusal:
        assert "\n" not in str(refusal)
        return
    assert scorer.margins(data(True)[0][:20, : scorer.width]).shape == (20,)
