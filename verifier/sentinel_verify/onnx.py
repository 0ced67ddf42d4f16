"""ONNX files whose graph is one tree ensemble of float32, as scikit-learn and other libraries are converted.

The margin is what onnxruntime computes with one thread: float32 leaf values, added from 0 in the order of the trees,
divided if averaged, then the base value. Where that is a probability, the margin is its log-odds.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any

from . import numbers
from .errors import NotRecomputed, Refused
from .numbers import single

Attributes = dict[str, dict[int, list[Any]]]
_COMPARE: dict[bytes, Callable[[float, float], bool]] = {
    b"BRANCH_LEQ": lambda x, t: x <= t, b"BRANCH_LT": lambda x, t: x < t,
    b"BRANCH_GTE": lambda x, t: x >= t, b"BRANCH_GT": lambda x, t: x > t,
}  # fmt: skip
_SMALLEST = 2.0**-24


def load(content: bytes) -> Callable[[list[float]], float]:
    """A row's margin. Raises NotRecomputed for a graph that computes anything else."""
    graph = _fields(_fields(content)[7][0])
    nodes = [_fields(each) for each in graph[1]]
    kinds = [node[4][0] for node in nodes]
    ensembles = [node for node, kind in zip(nodes, kinds) if kind.startswith(b"TreeEnsemble")]
    if len(ensembles) != 1 or not set(kinds) - {ensembles[0][4][0]} <= {b"Identity", b"Cast", b"ZipMap"}:
        raise NotRecomputed("its model is an ONNX graph of another form than one tree ensemble")
    attributes: Attributes = {}
    for each in ensembles[0].get(5, []):
        attribute = _fields(each)
        attributes[attribute[1][0].decode()] = attribute
    is_classifier = ensembles[0][4][0] == b"TreeEnsembleClassifier"
    leaves, finish = _classifier(attributes) if is_classifier else _regressor(attributes)
    trees = _trees(attributes, leaves)
    if _text(attributes, "aggregate_function") == b"AVERAGE":
        count = float(len(trees))
        whole = finish
        finish = lambda total: whole(single(total / count))  # noqa: E731

    def margin(row: list[float]) -> float:
        total = 0.0
        for nodes_of, root in trees:
            found, steps = nodes_of[root], 0
            while found[0] is not None:
                steps += 1
                if steps > len(nodes_of):
                    raise Refused("the model has a tree that is none")
                compare, feature, threshold, true, false, tracks = found
                x = row[feature]
                found = nodes_of[true if (tracks if x != x else compare(x, threshold)) else false]
            total = single(total + found[1])
        return finish(total)

    return margin


def _classifier(attributes: Attributes) -> tuple[dict[tuple[int, int], float], Callable[[float], float]]:
    """The leaves' values of the second class, by tree and node, and how their sum becomes the margin."""
    votes = list(
        zip(
            _integers(attributes, "class_ids"),
            _integers(attributes, "class_treeids"),
            _integers(attributes, "class_nodeids"),
            _singles(attributes, "class_weights"),
        )
    )
    classes = {vote[0] for vote in votes}
    base = [] if len(classes) == 2 else _singles(attributes, "base_values")
    leaves = {(tree, node): weight for which, tree, node, weight in votes if len(classes) < 2 or which == 1}
    end = base[-1] if base else -0.0
    if _text(attributes, "post_transform") == b"LOGISTIC":
        return leaves, lambda total: single(total + end)
    if min(vote[3] for vote in votes) < 0.0:
        raise NotRecomputed("its model is an ONNX classifier whose scores are no probabilities")
    return leaves, lambda total: _log_odds(single(total + end))


def _regressor(attributes: Attributes) -> tuple[dict[tuple[int, int], float], Callable[[float], float]]:
    places = zip(_integers(attributes, "target_treeids"), _integers(attributes, "target_nodeids"))
    leaves = dict(zip(places, _singles(attributes, "target_weights")))
    base = _singles(attributes, "base_values")
    end = base[0] if base else -0.0
    return leaves, lambda total: single(total + end)


def _log_odds(probability: float) -> float:
    clipped = min(max(probability, _SMALLEST), 1.0 - _SMALLEST)
    return numbers.log(clipped / (1.0 - clipped))


def _trees(attributes: Attributes, leaves: dict[tuple[int, int], float]) -> list[tuple[dict[int, Any], int]]:
    """Each tree as its nodes by number, and its root: a split, or (None, value)."""
    names = ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids")
    columns = [_integers(attributes, f"nodes_{name}") for name in names]
    tracks = _integers(attributes, "nodes_missing_value_tracks_true") or [0] * len(columns[0])
    modes = attributes["nodes_modes"].get(9, [])
    found: dict[int, tuple[dict[int, Any], int]] = {}
    for tree, node, feature, true, false, mode, threshold, track in zip(
        *columns, modes, _singles(attributes, "nodes_values"), tracks
    ):
        nodes, _ = found.setdefault(tree, ({}, node))
        if mode == b"LEAF":
            nodes[node] = (None, leaves.get((tree, node), 0.0))
        else:
            nodes[node] = (_COMPARE[mode], feature, threshold, true, false, track == 1)
    return [found[tree] for tree in sorted(found)]


# --- Protocol Buffers --------------------------------------------------------------------------------------------


def _fields(content: bytes) -> dict[int, list[Any]]:
    """The fields of a message, by number: whole numbers, or bytes."""
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        kind = tag & 7
        value: int | bytes
        if kind == 0:
            value, at = _varint(content, at)
        else:
            size, at = _varint(content, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
            value, at = content[at : at + size], at + size
        found.setdefault(tag >> 3, []).append(value)
    return found


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (content[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if content[at - 1] < 128:
            return value, at


def _integers(attributes: Attributes, name: str) -> list[int]:
    return [number for each in attributes.get(name, {}).get(8, []) for number in _unpacked(each)]


def _unpacked(value: int | bytes) -> Iterator[int]:
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        number, at = _varint(value, at)
        yield number


def _singles(attributes: Attributes, name: str) -> list[float]:
    content = b"".join(attributes.get(name, {}).get(7, []))
    return list(struct.unpack(f"<{len(content) // 4}f", content))


def _text(attributes: Attributes, name: str) -> bytes:
    found: bytes = attributes.get(name, {}).get(4, [b""])[0]
    return found
