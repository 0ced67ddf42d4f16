"""ONNX files whose graph is one tree ensemble → checked arrays. Owns the format; never imports onnx or onnxruntime.

Read are TreeEnsembleClassifier and TreeEnsembleRegressor (ai.onnx.ml 1 to 3) with float32 attributes, as skl2onnx,
onnxmltools and CatBoost write them. Beside it the graph may only rename, cast and zip. The margin is what onnxruntime
computes with one thread before the post-transform: float32 leaf values, added from 0 in the order of the trees, divided
if averaged, then the base value (onnxruntime/core/providers/cpu/ml/tree_ensemble_aggregator.h). Where the scores are
probabilities (a random forest), the margin is their log-odds.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput, Corrupt
from models.protobuf import Message
from models.sums import Sum
from models.trees import Model, Nodes, Tree, check_counts, check_names, check_size, just_below, tree_of

WHAT = "ONNX model"
ENSEMBLES = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")
OPSETS_MAX = 4
_FLOAT = 1
_BESIDE = ("Identity", "Cast", "ZipMap")
BRANCHES = (b"BRANCH_LEQ", b"BRANCH_LT", b"BRANCH_GTE", b"BRANCH_GT")
_NODES_MAX = 800_000


class _Operator(NamedTuple):
    """A node of the graph."""

    kind: str
    domain: str
    inputs: list[bytes]
    outputs: list[bytes]
    attributes: dict[str, Message]


class _Leaves(NamedTuple):
    """Each leaf's tree, node and value."""

    trees: NDArray[np.int64]
    nodes: NDArray[np.int64]
    values: NDArray[np.float32]


def parse(content: bytes) -> Model:
    """A file's bytes → Model. Raises Corrupt (not intact) or BadInput (not supported here)."""
    check_size(content, WHAT)
    try:
        return _model(Message.of(np.frombuffer(content, dtype=np.uint8), 0, len(content)))
    except Corrupt as error:
        raise Corrupt(_said(error)) from None
    except BadInput as error:
        raise BadInput(_said(error)) from None


def _said(error: Exception) -> str:
    return str(error) if str(error).startswith(WHAT) else f"{WHAT}: {error}"


def _model(document: Message) -> Model:
    graph = document.message(7)
    if graph is None:
        raise Corrupt("it has no graph")
    for opset in document.messages(8):
        if opset.string(1) == "ai.onnx.ml" and not 1 <= opset.integer(2) <= OPSETS_MAX:
            raise BadInput(f"ai.onnx.ml {opset.integer(2)} is not supported, only 1 to {OPSETS_MAX}")
    operators = [_operator(node) for node in graph.messages(1)]
    ensemble = _only_ensemble(operators)
    width = _width(graph, operators, ensemble)
    check_names((), width, WHAT)
    for name in ensemble.attributes:
        if name.endswith("_as_tensor"):
            raise BadInput(f"its attribute {name[:40]!r} is in float64, which is not supported; convert it in float32")
    leaves, total = _classifier(ensemble) if ensemble.kind == ENSEMBLES[0] else _regressor(ensemble)
    trees = _trees(ensemble, leaves, width)
    if ensemble.kind == ENSEMBLES[1] and _text(ensemble, "aggregate_function", "SUM") == "AVERAGE":
        total = Sum(single=True, divisor=float(len(trees)), end=total.end)
    return Model((), trees, width, total, is_weighted=False)


def _operator(node: Message) -> _Operator:
    attributes = {attribute.string(1): attribute for attribute in node.messages(5)}
    return _Operator(node.string(4), node.string(7), node.strings(1), node.strings(2), attributes)


def _only_ensemble(operators: list[_Operator]) -> _Operator:
    """The graph's one ensemble. Raises BadInput if the graph computes anything else, and names it."""
    found = [each for each in operators if each.kind in ENSEMBLES and each.domain == "ai.onnx.ml"]
    others = [each for each in operators if each.kind not in (*ENSEMBLES, *_BESIDE)]
    if others:
        raise BadInput(
            f"its graph has the operator {others[0].kind[:40]!r}; supported is one {' or '.join(ENSEMBLES)}, beside"
            f" {', '.join(_BESIDE)}"
        )
    if len(found) != 1:
        raise BadInput(f"its graph has {len(found)} tree ensembles, not one")
    return found[0]


def _width(graph: Message, operators: list[_Operator], ensemble: _Operator) -> int:
    """The columns of the graph's input, which reaches the ensemble unchanged."""
    makers = {output: each for each in operators for output in each.outputs}
    name = ensemble.inputs[0] if ensemble.inputs else b""
    was_cast = False
    for _ in range(len(operators)):
        if name not in makers:
            break
        maker = makers[name]
        if maker.kind == "Cast" and _integer(maker, "to", 0) != _FLOAT:
            raise BadInput("its input is cast to another type than float32")
        if maker.kind not in ("Cast", "Identity") or not maker.inputs:
            raise BadInput(f"its ensemble does not read the input, but what {maker.kind[:40]!r} makes of it")
        was_cast = was_cast or maker.kind == "Cast"
        name = maker.inputs[0]
    for given in graph.messages(11):
        if given.strings(1) == [name]:
            tensor = _inside(_inside(given, 2), 1)
            if tensor.integer(1) != _FLOAT and not was_cast:
                raise BadInput("its input is not float32")
            shape = _inside(tensor, 2).messages(1)
            if len(shape) != 2 or shape[1].integer(1) < 1:
                raise BadInput("its input does not say how many columns it has: [None, columns]")
            return shape[1].integer(1)
    raise Corrupt("its ensemble reads an input that the graph does not have")


def _inside(message: Message, number: int) -> Message:
    found = message.message(number)
    if found is None:
        raise BadInput("its input is not a tensor of a known shape")
    return found


def _classifier(ensemble: _Operator) -> tuple[_Leaves, Sum]:
    """The leaves' values of the second class, and how they become the margin."""
    labels = [_floats_or_ints(ensemble, name) for name in ("classlabels_int64s", "classlabels_strings")]
    if sum(labels) != 2:
        raise BadInput(f"it has {sum(labels)} classes; only two are supported")
    classes, weights = _integers(ensemble, "class_ids"), _singles(ensemble, "class_weights")
    leaves = _Leaves(_integers(ensemble, "class_treeids"), _integers(ensemble, "class_nodeids"), weights)
    _same_lengths([*leaves, classes], "class")
    if ((classes < 0) | (classes > 1)).any():
        raise Corrupt("a leaf votes for a class that does not exist")
    base = _singles(ensemble, "base_values")
    both = len(np.unique(classes)) == 2
    positive = bool((weights >= 0.0).all())
    if both:  # onnxruntime then keeps a score for each class; otherwise the one score is the second class's
        leaves = _Leaves(*(column[classes == 1] for column in leaves))
        if base.any():
            raise BadInput("its leaves vote for both classes beside base values, which is not supported")
        base = base[:0]
    if len(base) > 2:
        raise Corrupt("it has more base values than classes")
    end = float(base[-1]) if len(base) else -0.0
    transform = _text(ensemble, "post_transform", "NONE")
    if transform == "LOGISTIC":
        return leaves, Sum(single=True, end=end)
    if transform == "NONE" and positive:
        return leaves, Sum(single=True, end=end, is_probability=True)
    raise BadInput(
        f"post_transform {transform[:20]!r} of {'votes of 0 or more' if positive else 'votes of both signs'} is not"
        " supported: only LOGISTIC of margins, and NONE of probabilities"
    )


def _regressor(ensemble: _Operator) -> tuple[_Leaves, Sum]:
    transform, aggregate = _text(ensemble, "post_transform", "NONE"), _text(ensemble, "aggregate_function", "SUM")
    if transform != "LOGISTIC":
        raise BadInput(
            f"a regressor with post_transform {transform[:20]!r}: its scale is not known; convert a classifier"
        )
    if aggregate not in ("SUM", "AVERAGE"):
        raise BadInput(f"aggregate_function {aggregate[:20]!r} is not supported, only SUM and AVERAGE")
    if _integer(ensemble, "n_targets", 1) != 1 or _integers(ensemble, "target_ids").any():
        raise BadInput("only models with one output are supported")
    leaves = _Leaves(
        _integers(ensemble, "target_treeids"),
        _integers(ensemble, "target_nodeids"),
        _singles(ensemble, "target_weights"),
    )
    _same_lengths(list(leaves), "target")
    base = _singles(ensemble, "base_values")
    if len(base) > 1:
        raise Corrupt("it has more base values than targets")
    return leaves, Sum(single=True, end=float(base[0]) if len(base) else -0.0)


def _trees(ensemble: _Operator, leaves: _Leaves, width: int) -> tuple[Tree, ...]:
    """The trees, in the order in which onnxruntime adds them."""
    tree_ids, node_ids = _integers(ensemble, "nodes_treeids"), _integers(ensemble, "nodes_nodeids")
    if len(tree_ids) > _NODES_MAX:
        raise BadInput(f"it has more than {_NODES_MAX} nodes")
    modes = _strings(ensemble, "nodes_modes")
    columns = [_integers(ensemble, f"nodes_{name}") for name in ("featureids", "truenodeids", "falsenodeids")]
    thresholds = _singles(ensemble, "nodes_values")
    tracks = _integers(ensemble, "nodes_missing_value_tracks_true")
    tracks = tracks if len(tracks) else np.zeros(len(tree_ids), dtype=np.int64)
    _same_lengths([tree_ids, node_ids, *columns, thresholds, tracks], "nodes")
    if len(modes) != len(tree_ids) or not modes:
        raise Corrupt("its lists of nodes are empty or have different lengths")
    strange = set(modes) - {*BRANCHES, b"LEAF"}
    if strange:
        raise BadInput(f"nodes of mode {min(strange)[:20].decode(errors='replace')!r} are not supported")
    ids = np.concatenate([tree_ids, node_ids, leaves.trees, leaves.nodes])
    if ((ids < 0) | (ids >= 2**31)).any() or (np.diff(tree_ids) < 0).any():
        raise Corrupt("its trees or nodes have numbers below 0, above 31 bits, or trees that are not in order")
    mode = np.array([BRANCHES.index(each) if each != b"LEAF" else -1 for each in modes], dtype=np.int64)
    keys = tree_ids * 2**31 + node_ids
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    if (np.diff(ordered) == 0).any():
        raise Corrupt("a tree has two nodes of the same number")
    true = _found(order, ordered, np.where(mode >= 0, tree_ids * 2**31 + columns[1], keys))
    false = _found(order, ordered, np.where(mode >= 0, tree_ids * 2**31 + columns[2], keys))
    at = _found(order, ordered, leaves.trees * 2**31 + leaves.nodes)
    if (mode[at] >= 0).any() or len(np.unique(at)) != len(at):
        raise Corrupt("a vote is not at a leaf, or a leaf has two for the same class")
    value = np.zeros(len(keys))
    value[at] = leaves.values
    swapped = mode >= 2  # x ≥ t and x > t: what is below goes left
    excluded = (mode == 1) | (mode == 2)
    if (np.isnan(thresholds) & (mode >= 0)).any() or (excluded & (thresholds == -np.inf)).any():
        raise Corrupt("a threshold is NaN, or -infinity where nothing is below it")
    whole = Nodes(
        left=np.where(mode >= 0, np.where(swapped, false, true), -1),
        right=np.where(swapped, true, false),
        feature=columns[0],
        threshold=np.where(excluded, just_below(np.where(excluded, thresholds, 0)), thresholds.astype(np.float64)),
        default_left=(tracks == 1) != swapped,  # NaN compares as false
        value=value,
        weight=None,
    )
    starts = [0, *(np.flatnonzero(np.diff(tree_ids)) + 1).tolist(), len(tree_ids)]
    check_counts(len(starts) - 1, int((mode < 0).sum()), WHAT)
    return tuple(_tree(whole, start, stop, width, index) for index, (start, stop) in enumerate(pairwise(starts)))


def _tree(whole: Nodes, start: int, stop: int, width: int, index: int) -> Tree:
    """The nodes start … stop, of which the first is the root."""
    mine = slice(start, stop)
    left = whole.left[mine]
    part = Nodes(
        np.where(left >= 0, left - start, -1),
        whole.right[mine] - start,
        whole.feature[mine],
        whole.threshold[mine],
        whole.default_left[mine],
        whole.value[mine],
        None,
    )
    tree = tree_of(part, 0, width, f"{WHAT}: tree {index}")
    if 2 * len(tree.leaf_value) - 1 != stop - start:
        raise Corrupt(f"tree {index} has nodes that its first node does not reach")
    return tree


def _found(order: NDArray[np.intp], ordered: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each key is among the nodes."""
    at = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
    if (ordered[at] != keys).any():
        raise Corrupt("a child or a vote belongs to a node that does not exist")
    return order[at].astype(np.int64)


def _same_lengths(columns: list[NDArray[np.int64] | NDArray[np.float32]], what: str) -> None:
    if len({len(column) for column in columns}) != 1:
        raise Corrupt(f"its lists {what}_… have different lengths")


def _integers(operator: _Operator, name: str) -> NDArray[np.int64]:
    attribute = operator.attributes.get(name)
    return attribute.integers(8) if attribute is not None else np.empty(0, dtype=np.int64)


def _singles(operator: _Operator, name: str) -> NDArray[np.float32]:
    attribute = operator.attributes.get(name)
    return attribute.singles(7) if attribute is not None else np.empty(0, dtype=np.float32)


def _strings(operator: _Operator, name: str) -> list[bytes]:
    attribute = operator.attributes.get(name)
    return attribute.strings(9) if attribute is not None else []


def _floats_or_ints(operator: _Operator, name: str) -> int:
    return len(_strings(operator, name)) + len(_integers(operator, name))


def _integer(operator: _Operator, name: str, default: int) -> int:
    attribute = operator.attributes.get(name)
    return attribute.integer(3) if attribute is not None else default


def _text(operator: _Operator, name: str, default: str) -> str:
    attribute = operator.attributes.get(name)
    return attribute.string(4) if attribute is not None else default
