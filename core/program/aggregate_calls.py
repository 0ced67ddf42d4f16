"""Calls of aggregates: whose payments, which window, and what is read of an earlier payment or verdict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from core.errors import BadInput
from core.program import checking, windows
from core.program.errors import ProgramError, listed, meant, quoted
from core.program.fields import STANDARD
from core.program.formatting import formatted
from core.program.functions import BY_NAME, SIZE_MAX, Function, Parameter
from core.program.scope import ACCOUNT, Scope
from core.program.syntax import Call, Name, Node, Number, Text, start
from core.program.typed import Aggregate, Apply, Column, Constant, Expression, Type

ENTITY_FIELD = "account_id"
_VERDICT_FUNCTIONS = ("count", "share", "since")


def aggregate(node: Call, function: Function, arguments: list[tuple[Parameter, Node]], scope: Scope) -> Expression:
    """What the call of an aggregate becomes. Raises ProgramError."""
    found: dict[str, Any] = {}
    events = scope.of_events()
    for index, (parameter, given) in enumerate(arguments):
        what = f"the {function.ordinal(index)} argument of {node.name}"
        match parameter.kind:
            case "entity":
                found["entity"] = _entity(node, given, scope)
            case "window":
                found["window_ms"] = _duration(given, "window", function)
                _check_window(given, found["window_ms"])
            case "half_life":
                found["window_ms"] = _duration(given, "half-life", function)
            case "value":
                found["value"] = checking.of_type(given, events, "number", what)
            case "field":
                found["value"] = _field(given, scope, what, function)
            case "condition":
                found["condition"] = checking.condition(given, events)
            case _:
                found["size"] = _size(given, what)
    if _reads_verdict(found.get("value")) or _reads_verdict(found.get("condition")):
        _check_verdict(node, arguments, function, found)
        found["on_verdicts"] = True
    result: Type = found["value"].type if function.result == "any" else function.result
    return Aggregate(result, function.operation, **found)


def _entity(node: Call, given: Node, scope: Scope) -> tuple[str, ...]:
    """The entity's fields besides the account."""
    names = scope.entity_names()
    if not isinstance(given, Name) or not scope.is_entity(given.name):
        near = meant(given.name, names) if isinstance(given, Name) else ""
        raise ProgramError(
            f"{node.name} first names the entity whose payments it reads, as in {BY_NAME[node.name][-1].example}; "
            f"{quoted(formatted(given))} is not an entity{near}",
            *start(given),
        )
    if given.name == ACCOUNT:
        return ()
    fields = scope.entities[given.name]
    if ENTITY_FIELD not in fields:
        raise ProgramError(
            f"the entity {quoted(given.name)} does not contain account_id, so its payments are in several partitions, "
            "and aggregates don't reach across them. Add the account: "
            f"{given.name} = {_toml_list((ENTITY_FIELD, *fields))}",
            *given.at,
        )
    return tuple(name for name in fields if name != ENTITY_FIELD)


def _toml_list(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def _duration(given: Node, what: str, function: Function) -> int:
    if not isinstance(given, Text):
        raise ProgramError(
            f"a {what} is a duration in quotes, as in {function.example}; found {quoted(formatted(given))}",
            *start(given),
        )
    try:
        return windows.milliseconds(given.value)
    except BadInput as error:
        raise ProgramError(str(error), *given.at) from None


def _check_window(given: Node, window_ms: int) -> None:
    try:
        windows.buckets(window_ms)
    except BadInput as error:
        raise ProgramError(str(error), *start(given)) from None


def _field(given: Node, scope: Scope, what: str, function: Function) -> Column:
    column = scope.field(given.name) if isinstance(given, Name) else None
    if column is None:
        near = meant(given.name, [*STANDARD, *scope.fields]) if isinstance(given, Name) else ""
        raise ProgramError(
            f"{what} must be a field of the payment, as in {function.example}, "
            f"and {quoted(formatted(given))} is not one{near}",
            *start(given),
        )
    inner = scope.of_events()
    if isinstance(given, Name) and inner.column(given.name) is None:
        raise inner.unknown(given)
    return column


def _size(given: Node, what: str) -> int:
    if not isinstance(given, Number) or given.value != int(given.value) or not 1 <= given.value <= SIZE_MAX:
        raise ProgramError(
            f"{what} must be a whole number from 1 to {SIZE_MAX}, not {quoted(formatted(given))}", *start(given)
        )
    return int(given.value)


def _leaves(expression: Expression) -> Iterator[Expression]:
    if isinstance(expression, Apply):
        for each in expression.arguments:
            yield from _leaves(each)
    else:
        yield expression


def _reads_verdict(expression: Expression | None) -> bool:
    return expression is not None and any(_is_verdict(each) for each in _leaves(expression))


def _is_verdict(expression: Expression) -> bool:
    return isinstance(expression, Column) and expression.source == "outcome" and expression.name == "verdict"


def _check_verdict(
    node: Call, arguments: list[tuple[Parameter, Node]], function: Function, found: dict[str, Any]
) -> None:
    """Verdicts are events of the account, with nothing but themselves to read."""
    if function.name not in _VERDICT_FUNCTIONS:
        raise ProgramError(
            f"{node.name} can't read verdicts; {listed(_VERDICT_FUNCTIONS)} can, as in "
            "count(account, '30d', verdict == 'fraud')",
            *node.at,
        )
    if found["entity"]:
        raise ProgramError(
            f"verdicts are about the account, so the entity must be account: {node.name}(account, …)",
            *start(arguments[0][1]),
        )
    given = next(each for parameter, each in arguments if parameter.kind == "condition")
    if any(not isinstance(each, Constant) and not _is_verdict(each) for each in _leaves(found["condition"])):
        raise ProgramError(
            "a condition on verdicts reads nothing else, because a verdict has no amount or merchant: "
            "verdict == 'fraud' stands alone",
            *start(given),
        )
