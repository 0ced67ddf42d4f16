"""Our reader of Avro against fastavro; schemas and bytes made to hurt; what a reader of payments has no use for."""

from __future__ import annotations

import io
import json
import math
from contextlib import suppress
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console import edge_schemas
from ingest.avro import Malformed, NotSupported, reader

KEYS = ["type", "name", "namespace", "fields", "values", "items", "symbols", "logicalType", "size", "scale"]
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
SCALARS: list[Any] = [
    "null",
    "boolean",
    "int",
    "long",
    "float",
    "double",
    "string",
    {"type": "string", "logicalType": "uuid"},
    {"type": "long", "logicalType": "timestamp-millis"},
    MICROS,
]


def record(*types: Any) -> dict[str, Any]:
    """A record whose fields f0, f1 … have these types."""
    fields = [{"name": f"f{n}", "type": each} for n, each in enumerate(types)]
    return {"type": "record", "name": "a.b.R", "fields": fields}


def packed(schema: Any, value: Any) -> bytes:
    """By fastavro."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


def plain(schema: Any) -> Any:
    """The schema without logical types: what lies in the bytes."""
    if isinstance(schema, list):
        return [plain(each) for each in schema]
    if isinstance(schema, dict):
        return {name: plain(value) for name, value in schema.items() if name != "logicalType"}
    return schema


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """What may lie in a field."""
    if isinstance(kind, list):
        return st.one_of([values_of(each) for each in kind])
    name = kind["type"] if isinstance(kind, dict) else kind
    if name == "map":
        return st.dictionaries(st.text(max_size=5), values_of(kind["values"]), max_size=5)
    if name == "array":
        return st.lists(st.text(max_size=5), max_size=5)
    if name == "enum":
        return st.sampled_from(kind["symbols"])
    bits = {"int": 31, "long": 63}
    if name in bits:
        return st.integers(-(2 ** bits[name]), 2 ** bits[name] - 1)
    floats = st.floats(allow_nan=False, allow_infinity=False, width=32 if name == "float" else 64)
    known = {"null": st.none(), "boolean": st.booleans(), "string": st.text(max_size=20)}
    return known.get(name, floats)


def types(number: int) -> st.SearchStrategy[Any]:
    """Types of a field. number: of the field, after which its enum is named."""
    enum = {"type": "enum", "name": f"E{number}", "symbols": ["A", "B", "C"]}
    scalar = st.sampled_from(SCALARS)
    inner = scalar | scalar.filter(lambda each: each != "null").map(lambda each: ["null", each])
    maps = inner.map(lambda each: {"type": "map", "values": each})
    return inner | maps | st.sampled_from([enum, ["null", enum, "double"], {"type": "array", "items": "string"}])


def as_read(kind: Any, value: Any) -> Any:
    """What ours makes of a value that lies in the bytes."""
    if value is None:
        return None
    if isinstance(kind, list):
        return as_read(kind[1], value)
    if isinstance(kind, dict) and kind["type"] == "map":
        return {name: as_read(kind["values"], each) for name, each in value.items() if each is not None}
    return value // 1000 if kind == MICROS else value


@st.composite
def schemas_and_values(draw: st.DrawFn) -> tuple[Any, dict[str, Any]]:
    """A schema, and a record of it."""
    kinds = [draw(types(number)) for number in range(draw(st.integers(1, 6)))]
    return record(*kinds), {f"f{n}": draw(values_of(each)) for n, each in enumerate(kinds)}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(schemas_and_values())
def test_it_reads_what_another_reader_reads(given_: tuple[Any, dict[str, Any]]) -> None:
    """Whatever fastavro writes by a schema: the same values, without nulls, and timestamps in ms."""
    schema, value = given_
    content = packed(plain(schema), value)
    expected = fastavro.schemaless_reader(io.BytesIO(content), fastavro.parse_schema(plain(schema)), None)
    assert isinstance(expected, dict)
    found = reader(json.dumps(schema))(content)
    wanted = {field["name"]: as_read(field["type"], expected[field["name"]]) for field in schema["fields"]}
    assert found == {name: each for name, each in wanted.items() if each is not None}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(schemas_and_values(), st.data())
def test_bytes_that_are_changed_are_a_record_or_none(given_: tuple[Any, dict[str, Any]], data: st.DataObject) -> None:
    """Cut, changed or random: Malformed, never another error."""
    schema, value = given_
    content = bytearray(packed(plain(schema), value))
    for _ in range(data.draw(st.integers(0, 3))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(content[: data.draw(st.integers(0, len(content)))]) + data.draw(st.binary(max_size=10))
    try:
        assert isinstance(reader(json.dumps(schema))(cut), dict)
    except Malformed as error:
        assert error.reason in ("not_by_schema", "not_finite", "duplicate_key")


@pytest.mark.parametrize("name", ["transaction", "feedback"])
def test_the_published_schemas_are_read(name: str) -> None:
    """Those of docs/schemas."""
    assert reader(edge_schemas.text(name, "avro"))


@pytest.mark.parametrize("scale", [0, 2, 9])
def test_decimals_are_exact(scale: int) -> None:
    """As bytes and fixed, of both signs, up to 16 bytes."""
    of_bytes = {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": scale}
    of_fixed = {"type": "fixed", "name": "D", "size": 16, "logicalType": "decimal", "precision": 38, "scale": scale}
    for digits in (0, 1, -1, 1250, -(10**30) + 1, 2**127 - 1, -(2**127)):
        raw = digits.to_bytes(16, "big", signed=True)
        for schema, content in ((of_bytes, b"\x20" + raw), (of_fixed, raw)):
            found = reader(json.dumps(record(schema)))(content)["f0"]
            assert found.as_tuple() == Decimal(f"{digits}e-{scale}").as_tuple()
    with pytest.raises(Malformed, match="16 bytes"):
        reader(json.dumps(record(of_bytes)))(b"\x22" + bytes(17))


HOSTILE: dict[str, Any] = {
    "an array of nothing": {"type": "array", "items": "null"},
    "an array of records": {"type": "array", "items": record("null")},
    "a record within a record": record("string"),
    "a record that holds itself": ["null", "a.b.R"],
    "bytes that are no decimal": "bytes",
    "bytes in a map": {"type": "map", "values": "bytes"},
    "fixed that is no decimal": {"type": "fixed", "name": "F", "size": 4},
    "a decimal of many bytes": {"type": "fixed", "name": "F", "size": 60_000, "logicalType": "decimal"},
    "a date": {"type": "int", "logicalType": "date"},
    "a time without a zone": {"type": "long", "logicalType": "local-timestamp-millis"},
    "a map of maps": {"type": "map", "values": {"type": "map", "values": "string"}},
    "a long symbol": {"type": "enum", "name": "E", "symbols": ["A" * 100_000]},
    "a union within a union": ["null", ["string"]],
    "an unknown name": "Elsewhere",
    "no type": None,
    "a number": 7,
    "a logical type that is a list": {"type": {"type": "long", "logicalType": []}},
    "types within types": {"type": {"type": [[[[1]]]]}},
    "a symbol that is no name": {"type": "enum", "name": "E", "symbols": ["A\u0000"]},
    "a scale that is none": {"type": "bytes", "logicalType": "decimal", "scale": True},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_has_no_place_in_a_payment_is_refused_by_name(what: str) -> None:
    """When the schema is read, before any message is."""
    with pytest.raises(NotSupported, match="field f0"):
        reader(json.dumps(record(HOSTILE[what])))


def test_what_is_no_schema_is_refused() -> None:
    """Whatever a registry was given."""
    large = json.dumps(record(*["null"] * 20_000))
    many = json.dumps(record(*["null"] * 1_025))
    for text in ("", "no JSON", '"string"', "[]", "{}", "[" * 100_000, large, many, "7", "null"):
        with pytest.raises(NotSupported):
            reader(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["string", "long", "record", "map", "enum", "decimal"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=12,
)


@settings(max_examples=1000, deadline=None, derandomize=True)
@given(JSON)
def test_any_json_is_a_schema_or_refused(value: Any) -> None:
    """As a schema, and as a field's type."""
    for schema in (value, record(value), [record(value)]):
        with suppress(NotSupported):
            reader(json.dumps(schema))


def test_names_are_found_in_their_namespace_first() -> None:
    """An enum of the record's namespace hides one without a namespace; both can be referred to."""
    outer = {"type": "enum", "name": "E", "namespace": "", "symbols": ["OUTER"]}
    inner = {"type": "enum", "name": "E", "symbols": ["INNER"]}
    read = reader(json.dumps(record(outer, inner, "E", {"type": "a.b.E"})))
    assert list(read(bytes(4)).values()) == ["OUTER", "INNER", "INNER", "INNER"]


def test_what_does_not_fit_its_logical_type_is_read_as_it_is() -> None:
    """As the specification has it."""
    read = reader(json.dumps(record({"type": "string", "logicalType": "date"}, {"type": "int", "logicalType": "x"})))
    assert read(b"\x02a\x04") == {"f0": "a", "f1": 2}
    attributes = ["null", {"type": "map", "values": ["null", "string"]}]
    assert reader(json.dumps(record(attributes)))(b"\x02\x02\x02a\x02\x02b\x00") == {"f0": {"a": "b"}}


def test_numbers_that_json_has_not_and_keys_that_come_twice_have_reasons() -> None:
    """The codes that the edge has for such JSON."""
    read = reader(json.dumps(record("double", {"type": "map", "values": "long"})))
    for bad in (math.nan, math.inf):
        with pytest.raises(Malformed) as told:
            read(packed(record("double", {"type": "map", "values": "long"}), {"f0": bad, "f1": {}}))
        assert told.value.reason == "not_finite"
    with pytest.raises(Malformed) as told:
        read(bytes(8) + b"\x04\x02a\x02\x02a\x04\x00")
    assert told.value.reason == "duplicate_key"


def test_a_count_beyond_the_bytes_is_refused_at_once() -> None:
    """2⁶² items in nine bytes."""
    read = reader(json.dumps(record({"type": "array", "items": "string"})))
    with pytest.raises(Malformed, match="more items than bytes"):
        read(b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f")
