"""Keys that stand twice in an object, held against the standard library's parser."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.duplicate_keys import duplicate_key, scan
from core.events import Transaction
from core.validation import FEEDBACK_FIELDS
from tests.builders.events import fuzz

_keys = st.text(alphabet=st.sampled_from('ab"\\\\{},:[]é\\u0000😀 '), max_size=3)
_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _keys


def _object(pairs: list[tuple[str, str]], ascii_only: list[bool], space: str) -> str:
    texts = (
        json.dumps(key, ensure_ascii=flag) + space + ":" + space + value
        for (key, value), flag in zip(pairs, ascii_only, strict=True)
    )
    return "{" + space + f"{space},".join(texts) + "}"


@st.composite
def documents(draw: st.DrawFn) -> str:
    """JSON objects whose keys may stand twice: scalars, inner objects, arrays; escapes and white space anywhere."""

    def object_of(values: st.SearchStrategy[str]) -> str:
        pairs = draw(st.lists(st.tuples(_keys, values), max_size=6))
        flags = draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs)))
        return _object(pairs, flags, draw(st.sampled_from(["", " ", "\n\t"])))

    scalars = _scalars.map(json.dumps)
    inner = [object_of(scalars) for _ in range(draw(st.integers(0, 2)))]
    deep = [f'{{"x":{each}}}' for each in inner[:1]] + [f"[{each}]" for each in inner[1:]]
    return object_of(scalars | st.sampled_from([*inner, *deep, "{}", "[]"]))


def oracle(document: str) -> bool:
    """Whether some object names a key twice."""
    found = []

    def keep(pairs: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in pairs]
        found.append(len(names) != len(set(names)))

    json.loads(document, object_pairs_hook=keep)
    return any(found)


@fuzz(max_examples=2000)
@given(documents())
def test_found_exactly_where_the_standard_parser_finds_it(document: str) -> None:
    """On documents with every kind of nesting and escape."""
    assert (duplicate_key(document.encode()) is not None) == oracle(document)


@fuzz(max_examples=500)
@given(st.lists(documents(), min_size=1, max_size=4))
def test_several_documents_are_scanned_as_each_alone(found: list[str]) -> None:
    """One scan of documents one after the other is sure exactly where the scans of all of them are."""
    assert scan("".join(found).encode()) == max(scan(document.encode()) for document in found)


@given(st.lists(st.text(max_size=4), min_size=1, max_size=700), st.booleans())
def test_many_keys(names: list[str], is_inner: bool) -> None:
    """On wide objects, whatever their hashes."""
    document = "{" + ",".join(f"{json.dumps(name, ensure_ascii=False)}:1" for name in names) + "}"
    if is_inner:
        document = f'{{"a":{document},"b":2}}'
    assert (duplicate_key(document.encode()) is not None) == (len(names) != len(set(names)))


@pytest.mark.parametrize("count", [48, 49, 600, 2000])
def test_more_keys_than_the_tables_hold(count: int) -> None:
    """The tables' limits are not limits of the check."""
    names = [f"k{i}" for i in range(count)]
    for document, twice in ((names, False), ([*names, names[-1]], True)):
        for text in ("{" + ",".join(f'"{n}":1' for n in document) + "}",):
            assert (duplicate_key(text.encode()) is not None) == twice
            assert (duplicate_key(f'{{"a":{text}}}'.encode()) is not None) == twice


@given(st.binary(max_size=80))
def test_the_scan_ends_on_any_bytes(content: bytes) -> None:
    """It stays within the text, whatever it is given."""
    assert scan(content) in (0, 1)


@pytest.mark.parametrize("fields", [Transaction.__struct_fields__, *FEEDBACK_FIELDS.values()])
def test_no_event_needs_the_slow_parser(fields: Sequence[str]) -> None:
    """The keys of each event have distinct hashes; a new field that shares one needs another `_HASH`."""
    document = "{" + ",".join(f'"{name}":"x\\"y\\\\"' for name in fields) + "}"
    assert scan(document.encode()) == 0
    assert scan(document.replace("}", ',"attributes":{"a":1,"b":"c"}}').encode()) == ("attributes" in fields)
