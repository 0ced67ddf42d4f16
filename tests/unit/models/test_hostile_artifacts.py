"""Artifacts are untrusted bytes: whatever is done to one, it is refused with a sentence or scores any row, soon."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInput, Corrupt, SentinelError
from models import artifacts, json_text, trees
from tests.builders.artifacts import ARTIFACTS, NAMES, rows

FEW = settings(max_examples=100, deadline=5000, derandomize=True, database=None)
JSON_KINDS = ("catboost", "xgboost")

DIGITS = b'0123456789-.eE,:[]{}" \n\x00\xff'
WAYS = ("flip", "set", "cut", "repeat")
EDITS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from(WAYS), st.integers(0, 255)),
    min_size=1,
    max_size=4,
)
VALUES = st.sampled_from(
    (
        -1,
        0,
        1,
        7,
        2**31,
        2**63,
        -(2**63),
        10**30,
        1e39,
        -1e300,
        5e-324,
        None,
        True,
        "",
        "x",
        "-1",
        "9" * 400,
        [],
        {},
        [[]],
    )
)


@cache
def small(kind: str) -> bytes:
    return ARTIFACTS[kind]()


def survives(content: bytes) -> bool:
    """Whether the bytes load, and then score; every refusal is one line of ours."""
    digest = hashlib.sha256(content).hexdigest()
    try:
        scorer = artifacts.load_scorer(content, version="h-1.0.0", expected_digest=digest, spec=3, columns=NAMES)
    except SentinelError as refusal:
        assert "\n" not in str(refusal) and len(str(refusal)) < 400
        return False
    x = rows(20)
    x[0], x[1], x[2] = np.nan, np.inf, -np.inf
    assert scorer.margins(x).shape == (20,)
    assert scorer.contributions(x[3])[1].shape == (len(NAMES),)
    return True


@pytest.fixture(scope="module", autouse=True)
def _trained_and_compiled() -> None:
    """Also shows that the refusals below are due to the changes."""
    assert all(survives(small(kind)) for kind in ARTIFACTS)


@pytest.mark.parametrize("kind", sorted(ARTIFACTS))
@FEW
@given(edits=EDITS)
def test_changed_bytes_never_crash(kind: str, edits: list[tuple[float, str, int]]) -> None:
    """Flipped, replaced, removed and repeated bytes."""
    changed = bytearray(small(kind))
    for where, how, amount in edits:
        if not changed:
            break
        at = int(where * len(changed))
        if how == "flip":
            changed[at] ^= 1 << amount % 8
        elif how == "set":
            changed[at] = DIGITS[amount % len(DIGITS)]
        elif how == "cut":
            del changed[at : at + amount]
        else:
            changed[at:at] = changed[at : at + amount]
    survives(bytes(changed))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to some members of a document: of lists, the first, a middle and the last one."""
    found = [path] if path else []
    if isinstance(value, dict):
        inside = list(value)
    elif isinstance(value, list) and value:
        inside = sorted({0, len(value) // 2, len(value) - 1})
    else:
        inside = []
    return found + [place for name in inside for place in places(value[name], (*path, name))]


@pytest.mark.parametrize("kind", JSON_KINDS)
@FEW
@given(data=st.data())
def test_changed_values_never_crash(kind: str, data: st.DataObject) -> None:
    """A value is replaced, removed or repeated elsewhere: well-formed JSON that means nothing good."""
    document = json.loads(small(kind))
    for _ in range(data.draw(st.integers(1, 3))):
        if not (found := places(document)):
            break
        *path, last = data.draw(st.sampled_from(found))
        parent = document
        for name in path:
            parent = parent[name]
        if data.draw(st.booleans()):
            parent[last] = data.draw(VALUES)
        elif isinstance(parent, dict):
            del parent[last]
        else:
            parent[last] = parent[0]
    survives(json.dumps(document).encode())


def test_huge_and_deep_documents_are_refused_before_they_are_decoded() -> None:
    """Too many bytes, too many values, nesting without end."""
    head = b'{"version":[3,2,0],"learner":'
    for content, words in (
        (head + b" " * trees.BYTES_MAX + b"1}", "above the limit"),
        (head + b"[" + b"1," * (json_text.VALUES_MAX + 1) + b"1]}", "not a model"),
        (head + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}", "not a model"),
    ):
        with pytest.raises((BadInput, Corrupt), match=words):
            artifacts.load_scorer(
                content, version="h", expected_digest=hashlib.sha256(content).hexdigest(), spec=1, columns=NAMES
            )
