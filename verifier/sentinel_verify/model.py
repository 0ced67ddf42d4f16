"""Models as the log holds them, of every kind that it takes: the margin (log-odds) of a row.

A leaf's value is added in float64 in the order of the trees, so the margin has the library's own bits.
"""

import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from . import boosted, onnx
from .errors import NotRecomputed, Refused

ZERO = 1e-35
"""LightGBM reads anything this small as 0."""
RULES_ONLY = b'{"format":"sentinel_rules_only.v1"}'


class Input(NamedTuple):
    """What a model reads: a feature or field, by the SHA-256 of its definition. levels: of a category."""

    identity: str
    name: str
    kind: str
    levels: list[str]


class Model(NamedTuple):
    """inputs: what it reads, in order; None: the engine's columns."""

    inputs: list[Input] | None
    margin: Callable[[list[float]], float]


def load(content: bytes) -> Model:
    """The model of a blob. Raises NotRecomputed for a format that is not computed here."""
    inputs = None
    if content.startswith(b'{"format":"sentinel_inputs.v1",'):
        head, _, content = content.partition(b"\n")
        inputs = [
            Input(each["identity"], each["name"], each["kind"], each.get("levels", []))
            for each in json.loads(head)["inputs"]
        ]
    if content.startswith(b"tree\n"):
        return Model(inputs, _forest(content.decode()))
    if content.startswith(b'{"format":"sentinel_linear.v1",'):
        return Model(inputs, _linear(json.loads(content)))
    if content == RULES_ONLY:
        return Model(inputs, lambda row: -1000.0)
    document = json.loads(content) if content.startswith(b"{") else {}
    if {"learner", "version"} <= document.keys():
        return Model(inputs, boosted.xgboost(document))
    if {"features_info", "scale_and_bias"} <= document.keys():
        return Model(inputs, boosted.catboost(document))
    if content.startswith(b"\x08"):
        return Model(inputs, onnx.load(content))
    raise NotRecomputed("its model is of another kind than is computed here")


def _forest(text: str) -> Callable[[list[float]], float]:
    trees = [_tree(block) for block in text.partition("\nend of trees\n")[0].split("\nTree=")[1:]]
    if not trees:
        raise Refused("the model has no trees")

    def margin(row: list[float]) -> float:
        total = 0.0
        for tree in trees:
            total += _walk(tree, row)
        return total

    return margin


class _Tree(NamedTuple):
    """Node 0 is the root; a child c ≥ 0 is node c, c < 0 is leaf −1 − c."""

    feature: list[int]
    threshold: list[float]
    decision: list[int]
    left: list[int]
    right: list[int]
    values: list[float]
    boundaries: list[int]
    words: list[int]


def _tree(block: str) -> _Tree:
    lines = dict(line.split("=", 1) for line in block.split("\n")[1:] if "=" in line)

    def of(name: str, read: Callable[[str], Any]) -> list[Any]:
        return [read(each) for each in lines.get(name, "").split()]

    return _Tree(
        of("split_feature", int), of("threshold", float), of("decision_type", int), of("left_child", int),
        of("right_child", int), of("leaf_value", float), of("cat_boundaries", int), of("cat_threshold", int),
    )  # fmt: skip


def _walk(tree: _Tree, row: list[float]) -> float:
    node = 0 if tree.feature else -1
    for _ in tree.feature:  # a walk that is longer would go round
        if node < 0:
            break
        node = tree.left[node] if _goes_left(tree, node, row[tree.feature[node]]) else tree.right[node]
    if node >= 0:
        raise Refused("the model has a tree that is none")
    return tree.values[-1 - node]


def _goes_left(tree: _Tree, node: int, x: float) -> bool:
    """decision: bit 0 categorical, bit 1 missing values go left, from bit 2 on what is missing: 0 nothing (NaN counts
    as 0), 1 zero and NaN, 2 NaN.
    """
    decision = tree.decision[node]
    if decision & 1:
        if not -1.0 < x < 2.0**31:  # also NaN
            return False
        category, which = int(x), int(tree.threshold[node])
        words = tree.words[tree.boundaries[which] : tree.boundaries[which + 1]]
        return category >> 5 < len(words) and bool(words[category >> 5] >> (category & 31) & 1)
    missing = decision >> 2
    is_zero = abs(x) <= ZERO
    if (x != x and missing != 0) or (is_zero and missing == 1):
        return bool(decision & 2)
    return (0.0 if x != x or is_zero else x) <= tree.threshold[node]


def _linear(model: dict[str, Any]) -> Callable[[list[float]], float]:
    """Bias + Σ slope · (x − mean, cut at ± clip deviations), slope = weight / deviation; NaN counts as the mean."""

    def margin(row: list[float]) -> float:
        total = float(model["intercept"]) + float(model["offset"])
        for x, mean, variance, weight in zip(row, model["means"], model["variances"], model["weights"]):
            deviation = math.sqrt(variance)
            slope = weight / deviation if deviation > 0.0 else 0.0
            bound = model["clip"] * deviation
            distance = x - mean
            distance = 0.0 if distance != distance else min(max(distance, -bound), bound)
            total += slope * distance
        return total

    return margin
