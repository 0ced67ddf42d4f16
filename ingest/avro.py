"""Avro records of somebody else's schema, as plain values: what a payment or a verdict can be made of, and no more.

    record, or a union of records    of fields that are
      null boolean int long float double string, enum, and unions of these
      decimal (bytes or fixed)       of up to 16 bytes: a Decimal
      timestamp-millis, -micros, -nanos    epoch ms
      map of these, array of strings   also in a union with null

Everything else is refused when the schema is read: records within records, bytes that are no decimal, which the edge
could not look into, dates and times without a zone. So what a message becomes is bounded by its own length and its
schema's, and is read in one pass; arrays of nothing, recursion and huge numbers, by which few bytes take a general
reader's memory or stack, can't be written down. A map that has a key twice is refused, like such a JSON.

Cost: see `benchmarks/wire_format.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from struct import Struct
from typing import Any

import msgspec

from core.errors import UNDECODABLE

SCHEMA_CHARACTERS_MAX = 256 * 1024
FIELDS_MAX = 1_024
"""Of all records together; so with the branches of a union, and the symbols of an enum."""
DECIMAL_BYTES_MAX = 16
_LONG_BITS = 64
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
Read = Callable[[bytes, int], tuple[Any, int]]
"""From bytes and a place in them: the value, and the place after it. Raises IndexError or ValueError."""


class NotSupported(ValueError):
    """Says what of a schema can't be read."""


class Malformed(ValueError):
    """The bytes are no record of the schema. reason: a code of `core.validation.REASONS`."""

    def __init__(self, message: str, reason: str = "not_by_schema") -> None:
        super().__init__(message)
        self.reason = reason


def reader(text: str) -> Callable[[bytes], dict[str, Any]]:
    """What reads a record of this schema, without fields that are null. It raises Malformed. Raises NotSupported."""
    if len(text) > SCHEMA_CHARACTERS_MAX:
        raise NotSupported(f"it is longer than {SCHEMA_CHARACTERS_MAX} characters")
    try:
        schema = msgspec.json.decode(text)
    except UNDECODABLE:
        raise NotSupported("it is not JSON") from None
    names: dict[str, Read] = {}
    branches = schema if isinstance(schema, list) else [schema]
    if sum(len(each["fields"]) for each in branches if _is_record(each)) > FIELDS_MAX or len(branches) > FIELDS_MAX:
        raise NotSupported(f"it has more than {FIELDS_MAX} fields")
    records = [_record(each, names) for each in branches]
    if not records:
        raise NotSupported("it is an empty union")
    read = _union(records) if isinstance(schema, list) else records[0]

    def read_all(content: bytes) -> dict[str, Any]:
        try:
            found, end = read(content, 0)
        except IndexError:
            raise Malformed("the record ends too soon") from None
        except UnicodeError:
            raise Malformed("a text is not UTF-8") from None
        if end != len(content):
            raise Malformed(f"{len(content) - end} bytes are left after the record")
        return found  # type: ignore[no-any-return]  # of a record

    return read_all


def _is_record(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "record" and isinstance(schema.get("fields"), list)


def _record(schema: Any, names: dict[str, Read]) -> Read:
    if not _is_record(schema):
        raise NotSupported("it is not of a record")
    space = _namespace(schema, "")
    fields: list[tuple[str, Read]] = []
    for field in schema["fields"]:
        if not isinstance(field, dict) or not isinstance(field.get("name"), str):
            raise NotSupported("a field has no name")
        try:
            fields.append((field["name"], _value(field.get("type"), names, space)))
        except NotSupported as error:
            raise NotSupported(f"field {field['name'][:64]}: {error}") from None
    if len({name for name, _ in fields}) != len(fields):
        raise NotSupported("a field's name comes twice")

    def read(content: bytes, at: int) -> tuple[dict[str, Any], int]:
        found = {}
        for name, read_field in fields:
            value, at = read_field(content, at)
            if value is not None:
                found[name] = value
        return found, at

    return read


def _value(schema: Any, names: dict[str, Read], space: str, *, in_map: bool = False, in_union: bool = False) -> Read:
    """What reads a field."""
    if isinstance(schema, str):
        return _referred(schema, names, space)
    if isinstance(schema, list):
        if in_union or len(schema) > FIELDS_MAX:
            raise NotSupported("a union within a union, or of too many types")
        return _union([_value(each, names, space, in_map=in_map, in_union=True) for each in schema])
    if not isinstance(schema, dict):
        raise NotSupported("it is not a type")
    kind, logical = schema.get("type"), schema.get("logicalType")
    if not isinstance(kind, str):
        raise NotSupported("a type within a type")
    meaning = (kind, logical) if isinstance(logical, str) else (kind, "")
    if kind == "map" and not in_map:
        return _map(_value(schema.get("values"), names, space, in_map=True))
    if kind == "array" and not in_map and _is_plain_string(schema.get("items")):
        return _array(_string)
    if kind == "enum":
        return _named(schema, names, space, _enum(schema))
    if kind in ("bytes", "fixed") and logical == "decimal":
        read = _decimal(schema)
        return _named(schema, names, space, read) if kind == "fixed" else read
    if meaning in _TIMES:
        return _time(_TIMES[meaning])
    if meaning in _NOT_READ:
        raise NotSupported(f"logical type {logical} is not supported")
    return _referred(kind, names, space)


def _referred(name: str, names: dict[str, Read], space: str) -> Read:
    """A plain type, or one that was named before: within the namespace, if the name has none itself."""
    known = _PLAIN.get(name) or (None if "." in name else names.get(f"{space}.{name}")) or names.get(name)
    if known is None:
        raise NotSupported(f"type {name[:64]} is not supported here")
    return known


def _is_plain_string(schema: Any) -> bool:
    return schema == "string" or (isinstance(schema, dict) and schema.get("type") == "string")


def _namespace(schema: dict[str, Any], around: str) -> str:
    name = schema.get("name")
    if isinstance(name, str) and "." in name:
        return name.rpartition(".")[0]
    space = schema.get("namespace", around)
    return space if isinstance(space, str) else around


def _named(schema: dict[str, Any], names: dict[str, Read], around: str, read: Read) -> Read:
    """Remember a type by its name, by which later ones may refer to it."""
    name = schema.get("name")
    if not isinstance(name, str) or not name:
        raise NotSupported("a type has no name")
    space = _namespace(schema, around)
    full = name if "." in name or not space else f"{space}.{name}"
    names[full] = read
    return read


def _long(content: bytes, at: int) -> tuple[int, int]:
    found = shift = 0
    while True:
        byte = content[at]
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > _LONG_BITS:
            raise Malformed("a number has more than 64 bits")
    if found >> _LONG_BITS:
        raise Malformed("a number has more than 64 bits")
    return (found >> 1) ^ -(found & 1), at


def _int(content: bytes, at: int) -> tuple[int, int]:
    found, at = _long(content, at)
    if not -(2**31) <= found < 2**31:
        raise Malformed("an int has more than 32 bits")
    return found, at


def _string(content: bytes, at: int) -> tuple[str, int]:
    text, at = _bytes(content, at)
    return text.decode("utf-8"), at


def _bytes(content: bytes, at: int) -> tuple[bytes, int]:
    size, at = _long(content, at)
    if size < 0 or at + size > len(content):
        raise Malformed("a text or number ends after the record")
    return content[at : at + size], at + size


def _boolean(content: bytes, at: int) -> tuple[bool, int]:
    if content[at] > 1:
        raise Malformed("a boolean is neither 0 nor 1")
    return content[at] == 1, at + 1


def _null(content: bytes, at: int) -> tuple[None, int]:
    return None, at


def _floating(form: Struct) -> Read:
    def read(content: bytes, at: int) -> tuple[float, int]:
        if at + form.size > len(content):
            raise IndexError
        found: float = form.unpack_from(content, at)[0]
        if not math.isfinite(found):
            raise Malformed("a number is not finite", reason="not_finite")
        return found, at + form.size

    return read


def _time(units: int) -> Read:
    """units: how many of them are a millisecond."""

    def read(content: bytes, at: int) -> tuple[int, int]:
        found, at = _long(content, at)
        return found // units, at

    return read


def _decimal(schema: dict[str, Any]) -> Read:
    scale, size = schema.get("scale", 0), schema.get("size", 0)
    if type(scale) is not int or not 0 <= scale <= 8 * DECIMAL_BYTES_MAX:
        raise NotSupported("a decimal's scale is out of range")
    if schema["type"] == "fixed" and (type(size) is not int or not 0 < size <= DECIMAL_BYTES_MAX):
        raise NotSupported(f"a decimal has more than {DECIMAL_BYTES_MAX} bytes")

    def number(digits: bytes) -> Decimal:
        sign, whole, _ = Decimal(int.from_bytes(digits, "big", signed=True)).as_tuple()
        return Decimal((sign, whole, -scale))  # no rounding

    def of_fixed(content: bytes, at: int) -> tuple[Decimal, int]:
        if at + size > len(content):
            raise IndexError
        return number(content[at : at + size]), at + size

    def of_bytes(content: bytes, at: int) -> tuple[Decimal, int]:
        digits, at = _bytes(content, at)
        if len(digits) > DECIMAL_BYTES_MAX:
            raise Malformed(f"a decimal has more than {DECIMAL_BYTES_MAX} bytes")
        return number(digits), at

    return of_fixed if schema["type"] == "fixed" else of_bytes


def _enum(schema: dict[str, Any]) -> Read:
    symbols = schema.get("symbols")
    if not isinstance(symbols, list) or len(symbols) > FIELDS_MAX:
        raise NotSupported(f"an enum does not have up to {FIELDS_MAX} symbols")
    if not all(isinstance(each, str) and _SYMBOL.fullmatch(each) for each in symbols):
        raise NotSupported("an enum's symbols are not names of up to 128 characters")

    def read(content: bytes, at: int) -> tuple[str, int]:
        number, at = _long(content, at)
        return _chosen(symbols, number), at

    return read


def _chosen(among: list[Any], number: int) -> Any:
    if not 0 <= number < len(among):
        raise Malformed(f"choice {number} of {len(among)}")
    return among[number]


def _union(branches: list[Read]) -> Read:
    def read(content: bytes, at: int) -> tuple[Any, int]:
        number, at = _long(content, at)
        found: tuple[Any, int] = _chosen(branches, number)(content, at)
        return found

    return read


def _block(content: bytes, at: int) -> tuple[int, int]:
    """How many items follow. A negative number has the size of the block after it."""
    count, at = _long(content, at)
    if count < 0:
        _, at = _long(content, at)
        count = -count
    if count > len(content) - at:
        raise Malformed("a list has more items than bytes")
    return count, at


def _array(read_item: Read) -> Read:
    def read(content: bytes, at: int) -> tuple[list[Any], int]:
        found: list[Any] = []
        while True:
            count, at = _block(content, at)
            if not count:
                return found, at
            for _ in range(count):
                item, at = read_item(content, at)
                found.append(item)

    return read


def _map(read_value: Read) -> Read:
    def entry(content: bytes, at: int) -> tuple[tuple[str, Any], int]:
        key, at = _string(content, at)
        value, at = read_value(content, at)
        return (key, value), at

    read_entries = _array(entry)

    def read(content: bytes, at: int) -> tuple[dict[str, Any], int]:
        entries, at = read_entries(content, at)
        found = dict(entries)
        if len(found) != len(entries):
            raise Malformed("a map has a key twice", reason="duplicate_key")
        return {key: value for key, value in found.items() if value is not None}, at

    return read


_TIMES = {
    ("long", "timestamp-millis"): 1,
    ("long", "timestamp-micros"): 1_000,
    ("long", "timestamp-nanos"): 1_000_000,
}
_NOT_READ = {("int", "date"), ("int", "time-millis"), ("long", "time-micros")} | {
    ("long", f"local-timestamp-{unit}") for unit in ("millis", "micros", "nanos")
}
_PLAIN: dict[str, Read] = {
    "null": _null,
    "boolean": _boolean,
    "int": _int,
    "long": _long,
    "float": _floating(Struct("<f")),
    "double": _floating(Struct("<d")),
    "string": _string,
}
