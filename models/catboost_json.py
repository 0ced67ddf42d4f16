"""CatBoost's JSON model (`model.save_model("model.json", format="json")`) → checked arrays. Never imports catboost.

Symmetric (oblivious) and other trees over float features, a binary classifier with one output. CatBoost goes right
where x > border, gives NaN the side that the feature says, adds float64 leaf values in the order of the trees from 0,
and then computes scale · sum + bias (catboost/libs/model/cpu/evaluator_impl.cpp). The numbers are read correctly
rounded, so the margins are those of the model that wrote the file. CatBoost's own reader of JSON is not as exact: a
model that it loads from the file may differ in the last bit. Categorical, text and embedding features are
BadInput: CatBoost replaces them with statistics of hashed strings, and our columns hold numbers.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput, Corrupt
from models.json_text import decoded
from models.sums import Sum
from models.trees import (
    FEATURES_MAX,
    LEAVES_TOTAL_MAX,
    MISSING_NAN,
    Model,
    Nodes,
    Tree,
    check_counts,
    check_names,
    tree_of,
)

WHAT = "CatBoost model"
LOSSES = ("Logloss", "CrossEntropy")
DEPTH_MAX = 15
"""Of a symmetric tree: it has 2 to the power of its depth leaves."""


class _Feature(msgspec.Struct):
    flat_feature_index: int
    feature_index: int
    nan_value_treatment: Literal["AsIs", "AsFalse", "AsTrue"]
    feature_id: str = ""


class _Features(msgspec.Struct):
    float_features: list[_Feature] = []
    categorical_features: list[dict[str, Any]] = []
    text_features: list[dict[str, Any]] = []
    embedding_features: list[dict[str, Any]] = []


class _Split(msgspec.Struct):
    split_type: str
    border: float = 0.0
    float_feature_index: int = -1


class _Symmetric(msgspec.Struct):
    leaf_values: list[float]
    leaf_weights: list[float] = []
    splits: list[_Split] | None = None


class _Node(msgspec.Struct):
    value: float | list[float] | None = None
    weight: float | None = None
    split: _Split | None = None
    left: _Node | None = None
    right: _Node | None = None


class _Loss(msgspec.Struct):
    type: str


class _Parameters(msgspec.Struct):
    loss_function: _Loss | None = None


class _Information(msgspec.Struct):
    params: _Parameters | None = None


class _Document(msgspec.Struct):
    features_info: _Features
    scale_and_bias: tuple[float, list[float] | float]
    model_info: _Information | None = None
    oblivious_trees: list[_Symmetric] | None = None
    trees: list[_Node] | None = None


_DECODER = msgspec.json.Decoder(_Document)
_Columns = tuple[NDArray[np.int64], NDArray[np.bool_]]
"""By the number of a float feature: its column, and whether NaN goes left."""


def parse(content: bytes) -> Model:
    """A model file's bytes → Model. Raises Corrupt (not what CatBoost writes) or BadInput (not supported here)."""
    document = decoded(content, _DECODER, WHAT)
    _check_kind(document)
    features = document.features_info.float_features
    names, columns = _columns(features)
    if document.oblivious_trees is not None:
        trees = _symmetric_trees(document.oblivious_trees, columns, len(features))
    else:
        trees = _other_trees(document.trees or [], columns, len(features))
    if not trees:
        raise Corrupt(f"{WHAT}: it has no trees")
    scale, bias = document.scale_and_bias
    biases = bias if isinstance(bias, list) else [bias]
    if len(biases) != 1:
        raise BadInput(f"{WHAT}: only models with one output are supported")
    if not np.isfinite([scale, biases[0]]).all():
        raise Corrupt(f"{WHAT}: its scale or bias is not finite")
    return Model(names, trees, len(features), Sum(factor=scale, end=biases[0]), is_weighted=_are_weighted(document))


def _check_kind(document: _Document) -> None:
    """Raise BadInput for what the walk can't score."""
    info = document.features_info
    for words, features in (
        ("categorical", info.categorical_features),
        ("text", info.text_features),
        ("embedding", info.embedding_features),
    ):
        if features:
            raise BadInput(f"{WHAT}: it reads {words} features, which is not supported; encode them as numbers")
    parameters = document.model_info.params if document.model_info is not None else None
    loss = parameters.loss_function.type if parameters is not None and parameters.loss_function is not None else ""
    if loss not in LOSSES:
        wanted = " or ".join(LOSSES)
        raise BadInput(f"{WHAT}: its loss function {loss[:40]!r} is not a binary classifier's: {wanted}")


def _are_weighted(document: _Document) -> bool:
    """Whether every leaf says how many training rows it had."""
    if document.oblivious_trees is not None:
        return all(tree.leaf_weights for tree in document.oblivious_trees)
    return all(node.weight is not None for tree in document.trees or [] for node in _below(tree) if node.split is None)


def _columns(features: list[_Feature]) -> tuple[tuple[str, ...], _Columns]:
    width = len(features)
    if not 1 <= width <= FEATURES_MAX:
        raise BadInput(f"{WHAT}: {width} columns; 1 to {FEATURES_MAX} are supported")
    if [feature.feature_index for feature in features] != list(range(width)):
        raise Corrupt(f"{WHAT}: its float features are not numbered from 0")
    if [feature.flat_feature_index for feature in features] != list(range(width)):
        raise Corrupt(f"{WHAT}: its columns are not numbered from 0")
    names = tuple(feature.feature_id for feature in features)
    if not any(names):
        names = ()
    check_names(names, width, WHAT)
    left = np.array([feature.nan_value_treatment != "AsTrue" for feature in features], dtype=np.bool_)
    return names, (np.arange(width), left)


def _borders(splits: list[_Split], features: int, where: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(numbers of float features, borders) of splits."""
    for split in splits:
        if split.split_type != "FloatFeature":
            raise BadInput(f"{where} splits on {split.split_type[:40]!r}, which is not supported, only 'FloatFeature'")
    numbers = [split.float_feature_index for split in splits]
    if any(not 0 <= number < features for number in numbers):
        raise Corrupt(f"{where} splits on a column that does not exist")
    with np.errstate(over="ignore"):
        borders = np.array([split.border for split in splits], dtype=np.float64).astype(np.float32)
    if not np.isfinite(borders).all():
        raise Corrupt(f"{where} has a border beyond float32")
    return np.array(numbers, dtype=np.int64), borders.astype(np.float64)


def _symmetric_trees(trees: list[_Symmetric], columns: _Columns, features: int) -> tuple[Tree, ...]:
    check_counts(len(trees), sum(len(tree.leaf_values) for tree in trees), WHAT)
    return tuple(_symmetric(tree, columns, features, f"{WHAT}: tree {index}") for index, tree in enumerate(trees))


def _symmetric(tree: _Symmetric, columns: _Columns, features: int, where: str) -> Tree:
    """All splits of a level are the same; bit i of a leaf's number says whether x is above the border of split i."""
    splits = tree.splits or []
    depth = len(splits)
    if depth > DEPTH_MAX:
        raise BadInput(f"{where} is {depth} splits deep, above the limit of {DEPTH_MAX} for symmetric trees")
    leaves = 2**depth
    if len(tree.leaf_values) != leaves:
        if len(tree.leaf_values) % leaves == 0 and tree.leaf_values:
            raise BadInput(f"{WHAT}: only models with one output are supported")
        raise Corrupt(f"{where} has {len(tree.leaf_values)} leaf values for {depth} splits")
    if tree.leaf_weights and len(tree.leaf_weights) != leaves:
        raise Corrupt(f"{where} has {len(tree.leaf_weights)} leaf weights for {leaves} leaves")
    numbers, borders = _borders(splits[::-1], features, where)  # the root is the last split, the highest bit
    level = np.repeat(np.arange(depth), 2 ** np.arange(depth))
    child = 2 * np.arange(leaves - 1) + 1
    values = np.array(tree.leaf_values, dtype=np.float64)
    weights = np.array(tree.leaf_weights or [1.0] * leaves, dtype=np.float64)
    if not np.isfinite(values).all() or not np.isfinite(weights).all() or (weights < 0.0).any():
        raise Corrupt(f"{where} has a leaf value that is not finite, or a leaf weight below 0")
    return Tree(
        feature=columns[0][numbers][level],
        threshold=borders[level],
        categorical=np.zeros(leaves - 1, dtype=np.bool_),
        default_left=columns[1][numbers][level],
        missing=np.full(leaves - 1, MISSING_NAN, dtype=np.int64),
        left=np.where(child < leaves - 1, child, leaves - 2 - child),
        right=np.where(child + 1 < leaves - 1, child + 1, leaves - 3 - child),
        leaf_value=values,
        leaf_count=weights,
    )


def _other_trees(trees: list[_Node], columns: _Columns, features: int) -> tuple[Tree, ...]:
    check_counts(len(trees), 0, WHAT)
    found: list[Tree] = []
    leaves = 0
    for index, tree in enumerate(trees):
        found.append(_other(tree, columns, features, f"{WHAT}: tree {index}"))
        leaves += len(found[-1].leaf_value)
        check_counts(len(trees), leaves, WHAT)
    return tuple(found)


def _below(root: _Node) -> list[_Node]:
    """All nodes of a tree, each before its children."""
    nodes = [root]
    for node in nodes:  # grows during the loop
        nodes += [child for child in (node.left, node.right) if child is not None]
        if len(nodes) > 2 * LEAVES_TOTAL_MAX:
            raise BadInput(f"{WHAT}: it has more than {LEAVES_TOTAL_MAX} leaves in all")
    return nodes


def _other(root: _Node, columns: _Columns, features: int, where: str) -> Tree:
    nodes = _below(root)
    number = {id(node): at for at, node in enumerate(nodes)}
    left, right = [-1] * len(nodes), [-1] * len(nodes)
    splits: list[_Split] = []
    values: list[float] = []
    for at, node in enumerate(nodes):
        if node.split is not None:
            if node.left is None or node.right is None:
                raise Corrupt(f"{where} has a split without two children")
            left[at], right[at] = number[id(node.left)], number[id(node.right)]
            splits.append(node.split)
            values.append(0.0)
            continue
        if node.left is not None or node.right is not None or node.value is None:
            raise Corrupt(f"{where} has a node that is neither a split nor a leaf")
        if isinstance(node.value, list):
            raise BadInput(f"{WHAT}: only models with one output are supported")
        splits.append(_NO_SPLIT)
        values.append(node.value)
    weights = [1.0 if node.weight is None else node.weight for node in nodes]
    numbers, borders = _borders(splits, features, where)
    return tree_of(
        Nodes(
            left=np.array(left, dtype=np.int64),
            right=np.array(right, dtype=np.int64),
            feature=columns[0][numbers],
            threshold=borders,
            default_left=columns[1][numbers],
            value=np.array(values, dtype=np.float64),
            weight=np.array(weights, dtype=np.float64),
        ),
        0,
        features,
        where,
    )


_NO_SPLIT = _Split("FloatFeature", 0.0, 0)
