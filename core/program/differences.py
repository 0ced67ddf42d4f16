"""What distinguishes two programs, in words: what a reviewer reads before approving one. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from core.program.document import Program
from core.program.document_writing import tables, value_text

_SINGULAR = {
    "fields": "field",
    "parameters": "parameter",
    "entities": "entity",
    "features": "feature",
    "limits": "limit",
}


def differences(before: Program, after: Program) -> list[str]:
    """One line for each difference, in the order of the document; none if both are the same program."""
    old, new = tables(before), tables(after)
    found = list(_head(before, after))
    for table, word in _SINGULAR.items():
        found += _table(word, _mapping(old, table), _mapping(new, table))
    found += _listed("rule", "code", old.get("rules", []), new.get("rules", []))
    found += _table("decision", _flat(old.get("decision", {})), _flat(new.get("decision", {})))
    found += _listed("example", "name", old.get("examples", []), new.get("examples", []))
    return found


def _head(before: Program, after: Program) -> Iterator[str]:
    if before.label != after.label:
        yield f"program {before.label} → {after.label}"
    for label in sorted({*before.uses, *after.uses}):
        was, now = before.uses.get(label), after.uses.get(label)
        if was != now:
            yield f"library {label} {'no longer used' if now is None else 'used' if was is None else 'in another text'}"


def _mapping(found: Mapping[str, Any], table: str) -> dict[str, Any]:
    return {name: value for name, value in found.get(table, {}).items()}


def _flat(decision: Mapping[str, Any]) -> dict[str, Any]:
    """`severity.high` and so on, as keys of one table."""
    flat: dict[str, Any] = {}
    for key, value in decision.items():
        flat |= {f"{key}.{inner}": each for inner, each in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _table(word: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys([*old, *new]):
        if name not in new:
            yield f"{word} {name} removed (was {value_text(old[name])})"
        elif name not in old:
            yield f"{word} {name} added: {value_text(new[name])}"
        elif old[name] != new[name]:
            yield from _changed(f"{word} {name}", old[name], new[name])


def _listed(word: str, key: str, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[str]:
    was, now = ({each[key]: each for each in some} for some in (old, new))
    for name in was:
        if name not in now:
            yield f"{word} {name} removed"
    for name, each in now.items():
        if name not in was:
            yield f"{word} {name} added: {_without(each, key)}"
        elif was[name] != each:
            yield from _changed(f"{word} {name}", was[name], each)
    kept = [name for name in was if name in now]
    if kept != [name for name in now if name in was]:
        yield f"order of {word}s: {', '.join(kept)} → {', '.join(name for name in now if name in was)}"


def _changed(what: str, old: Any, new: Any) -> Iterator[str]:
    if not isinstance(old, dict) or not isinstance(new, dict):
        old, new = ({"value": each} if not isinstance(each, dict) else each for each in (old, new))
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) != new.get(key):
            name = what if key == "value" else f"{what}, {key}"
            yield f"{name}: {_shown(old.get(key))} → {_shown(new.get(key))}"


def _shown(value: Any) -> str:
    return "nothing" if value is None else value_text(value)


def _without(record: Mapping[str, Any], key: str) -> str:
    return ", ".join(f"{name} {value_text(value)}" for name, value in record.items() if name != key)
