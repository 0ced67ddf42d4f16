"""XGBoost's JSON model (`Booster.save_model("model.json")`) → checked arrays. Owns the format; never imports xgboost.

Versions 1 to 3, booster gbtree, a binary classifier with one output. XGBoost goes left where x < threshold, sends NaN
in the node's default direction, and adds float32 leaf values to a float32 base margin in the order of the trees
(src/predictor/cpu_predictor.cc); `models.sums.logf` has the base margin's last bit. What XGBoost can write but is not
scored here is BadInput, with the reason; what it would not write is Corrupt.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput, Corrupt
from models.json_text import decoded
from models.sums import Sum, logf
from models.trees import Model, Nodes, Tree, check_counts, check_names, just_below, tree_of

WHAT = "XGBoost model"
OBJECTIVES = ("binary:logistic", "binary:logitraw")
VERSIONS = (1, 2, 3)
_RATE_MIN = np.float32(1e-6)


class _Parameters(msgspec.Struct):
    base_score: str
    num_class: str
    num_feature: str
    num_target: str = "1"


class _TreeParameters(msgspec.Struct):
    num_nodes: str
    size_leaf_vector: str = "0"


class _Tree(msgspec.Struct):
    left_children: list[int]
    right_children: list[int]
    split_indices: list[int]
    split_conditions: list[float]
    default_left: list[bool | int]  # version 1 wrote true and false
    sum_hessian: list[float]
    tree_param: _TreeParameters
    categories_nodes: list[int] = []
    split_type: list[int] = []


class _Boosting(msgspec.Struct):
    num_parallel_tree: str = "1"


class _Forest(msgspec.Struct):
    trees: list[_Tree]
    gbtree_model_param: _Boosting


class _Booster(msgspec.Struct):
    name: str
    model: msgspec.Raw = msgspec.Raw(b"{}")  # of another shape for other boosters


class _Objective(msgspec.Struct):
    name: str


class _Learner(msgspec.Struct):
    gradient_booster: _Booster
    learner_model_param: _Parameters
    objective: _Objective
    attributes: dict[str, str] = {}
    feature_names: list[str] = []


class _Document(msgspec.Struct):
    learner: _Learner
    version: list[int]


_DECODER = msgspec.json.Decoder(_Document)
_FOREST_DECODER = msgspec.json.Decoder(_Forest)


def parse(content: bytes) -> Model:
    """A model file's bytes → Model. Raises Corrupt (not what XGBoost writes) or BadInput (not supported here)."""
    document = decoded(content, _DECODER, WHAT)
    learner = document.learner
    if not document.version or document.version[0] not in VERSIONS:
        raise BadInput(f"{WHAT}: version {document.version[:3]} is not supported, only {VERSIONS[0]} to {VERSIONS[-1]}")
    forest = _supported(learner)
    width = _number(learner.learner_model_param.num_feature, "num_feature")
    names = tuple(learner.feature_names)
    check_names(names, width, WHAT)
    check_counts(len(forest.trees), sum(len(tree.left_children) // 2 + 1 for tree in forest.trees), WHAT)
    trees = tuple(_tree(tree, width, f"{WHAT}: tree {index}") for index, tree in enumerate(forest.trees))
    start = _base_margin(learner.learner_model_param.base_score, learner.objective.name)
    return Model(names, trees, width, Sum(single=True, start=start))


def _supported(learner: _Learner) -> _Forest:
    """The trees. Raises BadInput for what the walk can't score."""
    booster, parameters = learner.gradient_booster, learner.learner_model_param
    if booster.name != "gbtree":
        raise BadInput(f"{WHAT}: booster {booster.name[:20]!r} is not supported, only 'gbtree'")
    if learner.objective.name not in OBJECTIVES:
        wanted = " or ".join(OBJECTIVES)
        raise BadInput(f"{WHAT}: objective {learner.objective.name[:40]!r} is not a binary classifier's: {wanted}")
    if _number(parameters.num_class, "num_class") > 1 or _number(parameters.num_target, "num_target") > 1:
        raise BadInput(f"{WHAT}: only models with one output are supported")
    forest = decoded(bytes(booster.model), _FOREST_DECODER, WHAT)
    if not forest.trees:
        raise Corrupt(f"{WHAT}: it has no trees")
    best, rounds = learner.attributes.get("best_iteration"), _rounds(forest)
    if best is not None and _number(best, "best_iteration") + 1 != rounds:
        raise BadInput(
            f"{WHAT}: its best iteration is {best[:20]} of {rounds} rounds, so XGBoost's own interfaces disagree on the"
            " trees that count; save booster[: booster.best_iteration + 1]"
        )
    return forest


def _rounds(forest: _Forest) -> int:
    parallel = _number(forest.gbtree_model_param.num_parallel_tree, "num_parallel_tree")
    return len(forest.trees) // max(1, parallel)


def _tree(tree: _Tree, width: int, where: str) -> Tree:
    count = len(tree.left_children)
    if not count or _number(tree.tree_param.num_nodes, "num_nodes") != count:
        raise Corrupt(f"{where} does not have as many nodes as it says")
    if _number(tree.tree_param.size_leaf_vector, "size_leaf_vector") > 1:
        raise BadInput(f"{WHAT}: only models with one output are supported")
    if tree.categories_nodes or any(tree.split_type):
        raise BadInput(f"{where} splits on categories, which is not supported; encode them as numbers")
    columns: list[list[Any]] = [tree.right_children, tree.split_indices, tree.split_conditions, tree.default_left]
    if any(len(column) != count for column in [*columns, tree.sum_hessian]):
        raise Corrupt(f"{where} has lists of different lengths")
    conditions = _singles(tree.split_conditions, where)
    left = _whole(tree.left_children, where)
    if ((left >= 0) & (conditions == -np.inf)).any():
        raise Corrupt(f"{where} has a threshold of -infinity")
    return tree_of(
        Nodes(
            left=left,
            right=_whole(tree.right_children, where),
            feature=_whole(tree.split_indices, where),
            threshold=just_below(conditions),
            default_left=_whole(tree.default_left, where) != 0,
            value=conditions.astype(np.float64),  # a leaf's value is in the same list
            weight=_singles(tree.sum_hessian, where).astype(np.float64),
        ),
        0,
        width,
        where,
    )


def _base_margin(text: str, objective: str) -> float:
    """`base_score` as XGBoost turns it into the margin from which it adds: a float32."""
    try:
        value: Any = msgspec.json.decode(text, type=float | list[float])  # a list since version 3.1
    except msgspec.DecodeError:
        value = []
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else float("nan")
    base = np.float32(value)
    if objective == "binary:logitraw":
        if not np.isfinite(base):
            raise Corrupt(f"{WHAT}: base_score is not a number: {text[:40]!r}")
        return float(base)
    if not np.float32(0.0) < base < np.float32(1.0):
        raise Corrupt(f"{WHAT}: base_score is not a probability: {text[:40]!r}")
    if not _RATE_MIN <= base <= np.float32(1.0) - _RATE_MIN:  # version 3 moves it inwards, earlier ones did not
        raise BadInput(f"{WHAT}: base_score {text[:40]!r} is too near to 0 or 1; set another and train again")
    odds = np.float32(1.0) / base - np.float32(1.0)
    return -logf(float(odds))


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise Corrupt(f"{WHAT}: {what} is not a whole number: {text[:40]!r}")
    return int(text)


def _whole(values: list[int], where: str) -> NDArray[np.int64]:
    try:
        return np.array(values, dtype=np.int64)
    except OverflowError:
        raise Corrupt(f"{where} has a number beyond 64 bits") from None


def _singles(values: list[float], where: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        found = np.array(values, dtype=np.float64).astype(np.float32)
    if not np.isfinite(found).all():
        raise Corrupt(f"{where} has a number beyond float32")
    return found
