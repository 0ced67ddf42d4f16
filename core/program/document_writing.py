"""From a program back to what its author would write: tables, TOML text, and a document with formatted expressions.

Comments and order are not part of a program, so `toml` can't give them back; `reformatted` changes only the expressions
of the text that it is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from core.program import document_reading
from core.program.document import Payment, Program
from core.program.errors import ProgramError
from core.program.formatting import formatted
from core.program.parsing import parse
from core.program.places import token_at
from core.program.problems import Path

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_COLUMNS = 100


def tables(program: Program) -> dict[str, Any]:
    """The program as `tomllib` would read it: what `toml` writes."""
    found: dict[str, Any] = {"program": {"name": program.name, "version": program.version}}
    if program.uses:
        found["program"]["uses"] = list(program.uses)
    found["fields"] = {name: _field(_plain(each)) for name, each in program.fields.items()}
    found["entities"] = {name: list(fields) for name, fields in program.entities.items()}
    found["parameters"] = dict(program.parameters)
    features = {name: _plain(each) for name, each in program.features.items()}
    found["features"] = {name: each if len(each) > 1 else each["value"] for name, each in features.items()}
    found["rules"] = [_plain(rule) for rule in program.rules]
    found["decision"] = _plain(program.decision)
    found["limits"] = dict(program.limits)
    found["examples"] = [
        _plain(each) | {"payments": [_payment(payment) for payment in each.payments]} for each in program.examples
    ]
    return {name: table for name, table in found.items() if table}


def toml(program: Program) -> str:
    """The program as a TOML document."""
    lines: list[str] = []
    for name, table in tables(program).items():
        if isinstance(table, list):
            for each in table:
                lines += ["", f"[[{name}]]", *_lines(each)]
            continue
        nested = {key: value for key, value in table.items() if name == "decision" and isinstance(value, dict)}
        plain = {key: value for key, value in table.items() if key not in nested}
        lines += ["", f"[{name}]", *_lines(plain)] if plain else []
        for key, value in nested.items():
            lines += ["", f"[{name}.{key}]", *_lines(value)]
    return "\n".join(lines[1:]) + "\n"


def reformatted(content: bytes) -> str:
    """The document with every expression on one line as the formatter prints it; texts of several lines, comments and
    order stay. Raises DocumentError if it is not TOML. Expressions that can't be read stay.
    """
    found, places = document_reading.parsed(content)
    text = places.text
    pieces: list[tuple[int, int, str]] = []
    for path, value in _expressions(found):
        place = places.value_of(path)
        if place is None:
            continue
        token = token_at(text, place)
        if token.startswith(('"""', "'''")) or token[:1] not in ('"', "'"):
            continue
        try:
            pieces.append((place, len(token), _text(formatted(parse(value)))))
        except ProgramError:
            continue
    out: list[str] = []
    end = 0
    for place, length, new in sorted(pieces):
        out += [text[end:place], new]
        end = place + length
    return "".join([*out, text[end:]])


def _expressions(found: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """(path, text) of what stands where a document has expressions, whatever else is wrong with it."""

    def at(*path: str | int) -> Iterator[tuple[Path, str]]:
        value: Any = found
        for part in path:
            inside = (isinstance(value, dict) and part in value) or (isinstance(value, list) and isinstance(part, int))
            value = value[part] if inside else None
        if isinstance(value, str):
            yield path, value

    features = found.get("features")
    for name in features if isinstance(features, dict) else ():
        yield from at("features", name)
        yield from at("features", name, "value")
    rules = found.get("rules")
    for i in range(len(rules) if isinstance(rules, list) else 0):
        yield from at("rules", i, "when")
    for key in ("decline", "review"):
        yield from at("decision", key)
    for grade in ("critical", "high", "medium", "low"):
        yield from at("decision", "severity", grade)


def _plain(record: msgspec.Struct) -> dict[str, Any]:
    """The record without what has its default, keys in the order of its definition."""
    built: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(record))  # lists for tuples
    return {name: built[name] for name in record.__struct_fields__ if name in built}


def _field(given: dict[str, Any]) -> dict[str, Any]:
    return {"from" if key == "source" else key: value for key, value in given.items()}


def _payment(payment: Payment) -> dict[str, Any]:
    given = _plain(payment)
    values: dict[str, Any] = given.pop("values", {})
    return values | given


def _lines(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        yield f"{_key(key)} = {value_text(value)}"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def value_text(value: Any) -> str:
    """A value as TOML: a number, text, bool, list or table."""
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
        case str():
            return _text(value)
        case list() | tuple():
            items = [value_text(each) for each in value]
            line = f"[{', '.join(items)}]"
            return line if len(line) <= _COLUMNS else "[\n  " + ",\n  ".join(items) + ",\n]"
        case dict():
            return "{ " + ", ".join(f"{_key(key)} = {value_text(each)}" for key, each in value.items()) + " }"
        case _:
            return str(value)


def _text(text: str) -> str:
    """A basic string of TOML."""
    return (
        '"' + re.sub(r'["\\\x00-\x1f\x7f]', lambda found: _ESCAPES.get(found[0], f"\\u{ord(found[0]):04x}"), text) + '"'
    )


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
