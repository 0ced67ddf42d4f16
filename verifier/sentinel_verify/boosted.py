"""Forests as XGBoost and CatBoost write them in JSON. Their sums have the libraries' bits: XGBoost adds in float32, to
a base margin that it takes with the C library's logf; CatBoost in float64, then scale · sum + bias.
"""

import json
import struct
from collections.abc import Callable
from typing import Any

from .errors import NotRecomputed, Refused
from .numbers import single

Margin = Callable[[list[float]], float]


def xgboost(document: dict[str, Any]) -> Margin:
    """A booster `gbtree` with one output: left where x < threshold, NaN in the node's default direction."""
    learner = document["learner"]
    booster, objective = learner["gradient_booster"], learner["objective"]["name"]
    if booster["name"] != "gbtree" or objective not in ("binary:logistic", "binary:logitraw"):
        raise NotRecomputed(f"its model is XGBoost's {booster['name']} for {objective}")
    trees = booster["model"]["trees"]
    if any(tree.get("categories_nodes") or any(tree.get("split_type", [])) for tree in trees):
        raise NotRecomputed("its model is XGBoost's with splits on categories")
    base = json.loads(learner["learner_model_param"]["base_score"])
    base = single(float(base[0] if isinstance(base, list) else base))
    start = base if objective == "binary:logitraw" else -_logf(single(single(1.0 / base) - 1.0))

    def margin(row: list[float]) -> float:
        total = start
        for tree in trees:
            node = steps = 0
            while (left := tree["left_children"][node]) >= 0:
                steps += 1
                if steps > len(tree["left_children"]):
                    raise Refused("the model has a tree that is none")
                x, threshold = row[tree["split_indices"][node]], single(float(tree["split_conditions"][node]))
                goes_left = bool(tree["default_left"][node]) if x != x else x < threshold
                node = left if goes_left else tree["right_children"][node]
            total = single(total + single(float(tree["split_conditions"][node])))
        return total

    return margin


def catboost(document: dict[str, Any]) -> Margin:
    """Trees over float features: right where x > border, NaN on the side that the feature says."""
    features = document["features_info"]
    if any(features.get(f"{kind}_features") for kind in ("categorical", "text", "embedding")):
        raise NotRecomputed("its model is CatBoost's with other features than numbers")
    nan_right = [each["nan_value_treatment"] == "AsTrue" for each in features["float_features"]]
    scale, bias = document["scale_and_bias"]
    bias = bias[0] if isinstance(bias, list) else bias

    def is_right(split: dict[str, Any], row: list[float]) -> bool:
        feature = split["float_feature_index"]
        x = row[feature]
        return bool(nan_right[feature] if x != x else x > single(float(split["border"])))

    def leaf(tree: dict[str, Any], row: list[float]) -> float:
        if "leaf_values" in tree:  # symmetric: one split a level, bit i of the leaf's number for split i
            bits = [is_right(split, row) for split in tree.get("splits") or []]
            return float(tree["leaf_values"][sum(bit << i for i, bit in enumerate(bits))])
        while tree.get("split") is not None:
            tree = tree["right" if is_right(tree["split"], row) else "left"]
        return float(tree["value"])

    trees = document.get("oblivious_trees")
    trees = document["trees"] if trees is None else trees

    def margin(row: list[float]) -> float:
        total = 0.0
        for tree in trees:
            total += leaf(tree, row)
        return total * float(scale) + float(bias)

    return margin


def _logf(x: float) -> float:
    """The C library's logf of a float32 above 0 (ARM's optimized routines, as in glibc and musl)."""
    bits = struct.unpack("<i", struct.pack("<f", x))[0]
    if bits == 0x3F800000:
        return 0.0
    if bits < 0x00800000:
        bits = struct.unpack("<i", struct.pack("<f", single(x * 2.0**23)))[0] - (23 << 23)
    offset = bits - 0x3F330000
    inverse, logarithm = _PARTS[offset >> 19 & 15]
    z = struct.unpack("<f", struct.pack("<i", bits - (offset >> 23 << 23)))[0]
    r = z * inverse - 1.0
    base = logarithm + (offset >> 23) * _LN2
    square = r * r
    y = _TERMS[0] * square + (_TERMS[1] * r + _TERMS[2])
    return single(y * square + (base + r))


_LN2 = float.fromhex("0x1.62e42fefa39efp-1")
_TERMS = tuple(map(float.fromhex, ("-0x1.00ea348b88334p-2", "0x1.5575b0be00b6ap-2", "-0x1.ffffef20a4123p-2")))
_PARTS = [
    (float.fromhex(inverse), float.fromhex(logarithm))
    for inverse, logarithm in zip(
        """
        0x1.661ec79f8f3bep+0 0x1.571ed4aaf883dp+0 0x1.49539f0f010bp+0 0x1.3c995b0b80385p+0 0x1.30d190c8864a5p+0
        0x1.25e227b0b8eap+0 0x1.1bb4a4a1a343fp+0 0x1.12358f08ae5bap+0 0x1.0953f419900a7p+0 0x1p+0
        0x1.e608cfd9a47acp-1 0x1.ca4b31f026aap-1 0x1.b2036576afce6p-1 0x1.9c2d163a1aa2dp-1 0x1.886e6037841edp-1
        0x1.767dcf5534862p-1
        """.split(),
        """
        -0x1.57bf7808caadep-2 -0x1.2bef0a7c06ddbp-2 -0x1.01eae7f513a67p-2 -0x1.b31d8a68224e9p-3 -0x1.6574f0ac07758p-3
        -0x1.1aa2bc79c81p-3 -0x1.a4e76ce8c0e5ep-4 -0x1.1973c5a611cccp-4 -0x1.252f438e10c1ep-5 0x0p+0
        0x1.aa5aa5df25984p-5 0x1.c5e53aa362eb4p-4 0x1.526e57720db08p-3 0x1.bc2860d22477p-3 0x1.1058bc8a07ee1p-2
        0x1.4043057b6ee09p-2
        """.split(),
    )
]
