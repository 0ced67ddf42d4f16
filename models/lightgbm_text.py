"""LightGBM's model text (format version 4) → checked numpy arrays. Owns the format; never imports lightgbm.

A model accepted here is safe to walk: every tree is known to be a tree, every index is in range, no number is NaN. What
LightGBM can write but we do not score (linear trees, averaged forests, other objectives) is BadInput; anything that
LightGBM would not write is Corrupt. The reference is LightGBM's src/io/tree.cpp and src/boosting/gbdt_model_text.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput, Corrupt
from models.trees import FEATURES_MAX, LEAVES_MAX, Model, Tree, check_counts, check_size

ZERO = 1e-35
"""LightGBM's kZeroThreshold: its predict() reads anything this small, also denormals, as 0 (src/c_api.cpp, meta.h)."""

_HEADER_REQUIRED = frozenset(
    {"version", "num_class", "num_tree_per_iteration", "label_index", "max_feature_idx"}
    | {"feature_names", "feature_infos", "tree_sizes"}
)
_HEADER_OPTIONAL = frozenset(("objective", "average_output", "monotone_constraints"))
_NODE_KEYS = frozenset(
    {"split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child"}
    | {"internal_value", "internal_weight", "internal_count"}
)
_LEAF_KEYS = frozenset(("leaf_value", "leaf_weight", "leaf_count"))
_TREE_REQUIRED = _NODE_KEYS | _LEAF_KEYS | {"num_leaves", "num_cat", "is_linear", "shrinkage"}
_CATEGORY_KEYS = frozenset(("cat_boundaries", "cat_threshold"))

_INT = re.compile(r"-?[0-9]{1,10}")
_FLOAT = re.compile(r"[+-]?[0-9]{1,400}(\.[0-9]{0,400})?([eE][+-]?[0-9]{1,4})?")


def parse(content: bytes) -> Model:
    """A model file's bytes → Model. Raises Corrupt (not what LightGBM writes) or BadInput (not supported here)."""
    check_size(content, "model text")
    head, separator, body = content.partition(b"\n\n")
    if not separator or not head.startswith(b"tree\n"):
        raise Corrupt("model text: does not begin like LightGBM's text format, or is truncated within its header")
    header = _keys(_text(head[len(b"tree\n") :], "header"), "header")
    names = _check_header(header)
    sizes = _ints(header["tree_sizes"], None, "tree_sizes")
    if (sizes <= 0).any() or int(sizes.sum()) > len(body):
        raise Corrupt("model text: tree_sizes does not match the text; it is truncated")
    check_counts(len(sizes), 0, "model text")
    trees: list[Tree] = []
    start = leaves = 0
    for index, size in enumerate(sizes.tolist()):
        trees.append(_tree(body[start : start + size], index, len(names)))
        start += size
        leaves += len(trees[-1].leaf_value)
        check_counts(len(sizes), leaves, "model text")
    _check_tail(body[start:])
    return Model(names, tuple(trees), len(names), zero=ZERO)


def shrinkages(content: bytes) -> tuple[float, ...]:
    """The factor by which each tree's values were multiplied when it was grown; 1 for a first tree that includes the
    base rate. `content` must have passed `parse`.
    """
    return tuple(
        float(line) for line in re.findall(rb"\nshrinkage=([^\n]+)\n", content.partition(b"end of trees\n")[0])
    )


def leaf_weights(content: bytes) -> tuple[float, ...]:
    """The first tree's hessians by leaf; () if its text omits them. `content` must have passed `parse`."""
    return _of_first_tree(content, b"leaf_weight")


def leaf_counts(content: bytes) -> tuple[float, ...]:
    """The first tree's rows by leaf; () if its text omits them. `content` must have passed `parse`."""
    return _of_first_tree(content, b"leaf_count")


def _of_first_tree(content: bytes, name: bytes) -> tuple[float, ...]:
    found = re.search(rb"\n" + name + rb"=([^\n]*)\n", content.partition(b"\nTree=1\n")[0])
    return tuple(map(float, found[1].split())) if found else ()


def with_leaf_values(content: bytes, values: Sequence[NDArray[np.float64]]) -> bytes:
    """The same trees with other leaf values: float64 (leaves,) per tree. Only lines that change are rewritten.

    The inner nodes' values, which nothing here reads, stay as they were. Raises Corrupt or BadInput as `parse`, and
    BadInput if a value is not finite or the counts do not match.
    """
    model = parse(content)
    if [len(tree.leaf_value) for tree in model.trees] != [len(new) for new in values]:
        raise BadInput("model text: the numbers of new leaf values do not match the trees")
    if not all(np.isfinite(new).all() for new in values):
        raise BadInput("model text: a new leaf value is not finite")
    head, _, body = content.partition(b"\n\n")
    sizes_line = next(line for line in head.split(b"\n") if line.startswith(b"tree_sizes="))
    blocks: list[bytes] = []
    start = 0
    for size, tree, new in zip(map(int, sizes_line.partition(b"=")[2].split()), model.trees, values, strict=True):
        blocks.append(_with_values(body[start : start + size], tree, new))
        start += size
    sizes = " ".join(str(len(block)) for block in blocks)
    return b"".join((head.replace(sizes_line, b"tree_sizes=" + sizes.encode()), b"\n\n", *blocks, body[start:]))


def _with_values(block: bytes, tree: Tree, new: NDArray[np.float64]) -> bytes:
    if np.array_equal(new, tree.leaf_value):
        return block
    lines = block.split(b"\n")
    for at, line in enumerate(lines):
        if line.startswith(b"leaf_value="):
            lines[at] = b"leaf_value=" + " ".join(format(value, ".17g") for value in new.tolist()).encode()
    return b"\n".join(lines)


def _check_header(header: dict[str, str]) -> tuple[str, ...]:
    """The feature names. Raises BadInput for what the kernel can't score."""
    _require(header, _HEADER_REQUIRED, _HEADER_OPTIONAL, "header")
    if header["version"] != "v4":
        raise BadInput(f"model text: format version {header['version'][:20]!r} is not supported, only 'v4'")
    if header["num_class"] != "1" or header["num_tree_per_iteration"] != "1":
        raise BadInput("model text: only models with one output are supported (num_class=1)")
    if header.get("objective") != "binary sigmoid:1":
        raise BadInput(f"model text: objective {header.get('objective', '')[:40]!r} is not 'binary sigmoid:1'")
    if "average_output" in header:
        raise BadInput("model text: averaged forests (boosting=rf) are not supported")
    _int(header["label_index"], "label_index")
    names = tuple(header["feature_names"].split(" "))
    if not all(names):
        raise Corrupt("model text: has an empty feature name")
    if len(names) > FEATURES_MAX:
        raise BadInput(f"model text: {len(names)} features are above the limit of {FEATURES_MAX}")
    if _int(header["max_feature_idx"], "max_feature_idx") != len(names) - 1:
        raise Corrupt(f"model text: max_feature_idx does not match {len(names)} feature names")
    for key in ("feature_infos", "monotone_constraints"):
        if key in header and len(header[key].split(" ")) != len(names):
            raise Corrupt(f"model text: {key} does not have {len(names)} entries")
    return names


def _check_tail(tail: bytes) -> None:
    if not tail.startswith(b"end of trees\n"):
        raise Corrupt("model text: 'end of trees' is not where tree_sizes says; the text is truncated or changed")
    if b"\nparameters:\n" in tail and b"\nend of parameters\n" not in tail:
        raise Corrupt("model text: 'end of parameters' is missing; the text is truncated")


def _tree(block: bytes, index: int, features: int) -> Tree:
    where = f"tree {index}"
    head = f"Tree={index}\n"
    text = _text(block, where)
    if not text.startswith(head) or not text.endswith("\n\n\n"):
        raise Corrupt(f"model text: {where} does not begin and end where tree_sizes says")
    keys = _keys(text[len(head) : -3], where)
    if keys.get("is_linear", "0") == "1":
        raise BadInput("model text: linear trees are not supported")
    cats = _int(keys.get("num_cat", ""), f"{where} num_cat")
    _require(keys, _TREE_REQUIRED | (_CATEGORY_KEYS if cats else frozenset()), frozenset(), where)
    leaves = _int(keys["num_leaves"], f"{where} num_leaves")
    if leaves > LEAVES_MAX:
        raise BadInput(f"model text: {where} has {leaves} leaves, above the limit of {LEAVES_MAX}")
    if leaves < 1 or not 0 <= cats < max(leaves, 1) or keys["is_linear"] != "0":
        raise Corrupt(f"model text: {where} has impossible num_leaves, num_cat or is_linear")
    _floats(keys["shrinkage"], 1, f"{where} shrinkage")
    for key in ("split_gain", "internal_weight", "internal_count"):
        _count(keys[key], (leaves - 1,), f"{where} {key}")
    _count(keys["leaf_weight"], (leaves, 0) if leaves == 1 else (leaves,), f"{where} leaf_weight")
    known = keys["leaf_count"] or "1" * (leaves == 1)  # a tree with a single leaf may omit it
    leaf_count = _ints(known, leaves, f"{where} leaf_count")
    if (leaf_count < 0).any():
        raise Corrupt(f"model text: {where} has a leaf_count below 0")

    _floats(keys["internal_value"], leaves - 1, f"{where} internal_value")
    decision = _ints(keys["decision_type"], leaves - 1, f"{where} decision_type")
    if ((decision < 0) | (decision > 11)).any():
        raise Corrupt(f"model text: {where} has an unknown decision_type")
    tree = Tree(
        feature=_ints(keys["split_feature"], leaves - 1, f"{where} split_feature"),
        threshold=_floats(keys["threshold"], leaves - 1, f"{where} threshold", infinity=True),
        categorical=(decision & 1) != 0,
        default_left=(decision & 2) != 0,
        missing=decision >> 2,
        left=_ints(keys["left_child"], leaves - 1, f"{where} left_child"),
        right=_ints(keys["right_child"], leaves - 1, f"{where} right_child"),
        leaf_value=_floats(keys["leaf_value"], leaves, f"{where} leaf_value"),
        leaf_count=leaf_count.astype(np.float64),
        categories=_categories(keys, cats, where) if cats else (),
    )
    _check_tree(tree, where, leaves, features)
    return tree


def _check_tree(tree: Tree, where: str, leaves: int, features: int) -> None:
    """Raise Corrupt unless it is one tree with indices in range.

    If every child's number is above its parent's, there are no cycles; if also each leaf, and each node but the root,
    is a child exactly once, it is one tree. LightGBM numbers nodes in the order of splitting, so its trees always pass.
    """
    if ((tree.feature < 0) | (tree.feature >= features)).any():
        raise Corrupt(f"model text: {where} splits on a feature that does not exist")
    children = np.concatenate((tree.left, tree.right))
    expected = np.concatenate((np.arange(-leaves, 0), np.arange(1, leaves - 1)))
    parents = np.arange(leaves - 1)
    ordered = ((tree.left < 0) | (tree.left > parents)) & ((tree.right < 0) | (tree.right > parents))
    if leaves > 1 and not (ordered.all() and np.array_equal(np.sort(children), expected)):
        raise Corrupt(f"model text: {where} is not a tree: a child is out of range, repeated, missing or in a cycle")
    chosen = tree.threshold[tree.categorical]
    if ((chosen < 0) | (chosen >= len(tree.categories)) | (chosen != np.floor(chosen))).any():
        raise Corrupt(f"model text: {where} has a categorical split without categories")


def _categories(keys: dict[str, str], cats: int, where: str) -> tuple[NDArray[np.uint32], ...]:
    boundaries = _ints(keys["cat_boundaries"], cats + 1, f"{where} cat_boundaries")
    if boundaries[0] != 0 or (np.diff(boundaries) < 0).any():
        raise Corrupt(f"model text: {where} has cat_boundaries that do not ascend from 0")
    words = _ints(keys["cat_threshold"], int(boundaries[-1]), f"{where} cat_threshold")
    if ((words < 0) | (words >= 2**32)).any():
        raise Corrupt(f"model text: {where} has a cat_threshold that is not an unsigned 32-bit number")
    return tuple(np.split(words.astype(np.uint32), boundaries[1:-1].tolist()))


def _text(raw: bytes, where: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Corrupt(f"model text: {where} is not UTF-8") from None


def _keys(text: str, where: str) -> dict[str, str]:
    keys: dict[str, str] = {}
    for line in text.split("\n"):
        key, separator, value = line.partition("=")
        if not separator and key != "average_output":
            raise Corrupt(f"model text: {where} has a line without '=': {line[:40]!r}")
        if key in keys:
            raise Corrupt(f"model text: {where} has {key[:40]!r} twice")
        keys[key] = value
    return keys


def _require(keys: dict[str, str], required: frozenset[str], optional: frozenset[str], where: str) -> None:
    for key in sorted(required - keys.keys()):
        raise Corrupt(f"model text: {where} lacks {key!r}")
    for key in sorted(keys.keys() - required - optional):
        raise Corrupt(f"model text: {where} has an unknown key {key[:40]!r}")


def _count(line: str, counts: tuple[int, ...], what: str) -> list[str]:
    tokens = line.split(" ") if line else []
    if len(tokens) not in counts:
        raise Corrupt(f"model text: {what} has {len(tokens)} entries, not {counts[0]}")
    return tokens


def _int(token: str, what: str) -> int:
    if not _INT.fullmatch(token):
        raise Corrupt(f"model text: {what} is not a whole number: {token[:40]!r}")
    return int(token)


def _ints(line: str, count: int | None, what: str) -> NDArray[np.int64]:
    tokens = line.split(" ") if line else []
    _count(line, (len(tokens) if count is None else count,), what)
    return np.array([_int(token, what) for token in tokens], dtype=np.int64)


def _floats(line: str, count: int, what: str, *, infinity: bool = False) -> NDArray[np.float64]:
    """Numbers, correctly rounded like LightGBM's parser: with 17 digits, bits are restored. NaN is refused."""
    return np.array([_float(token, what, infinity) for token in _count(line, (count,), what)], dtype=np.float64)


def _float(token: str, what: str, infinity: bool) -> float:
    if infinity and token == "inf":
        return float("inf")
    if not _FLOAT.fullmatch(token):
        raise Corrupt(f"model text: {what} is not a number: {token[:40]!r}")
    value = float(token)
    if abs(value) == float("inf"):
        raise Corrupt(f"model text: {what} is not finite")
    return value
