"""The language of decision programs, from outside: texts in, typed expressions and what can be said about them out.

    check("amount > 500 && country == 'DE'", Scope(place="rule"), "bool")

Pure. No text takes more than some milliseconds or nests deeper than `tokens.LEVELS_MAX`. docs/language.md is generated
from `core.program.functions` and `core.program.page`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from core.program import checking
from core.program.formatting import formatted, number_text, string_text
from core.program.functions import FUNCTIONS, LIBRARY
from core.program.parsing import parse
from core.program.scope import ACCOUNT, Scope
from core.program.typed import Aggregate, Apply, Column, Constant, Expression, Hit, Listed, Source, Type

IDENTITY_VERSION = 1
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*$")


class Checked(NamedTuple):
    """A text that makes sense. text: its canonical form."""

    expression: Expression
    text: str


class Reads(NamedTuple):
    """What an expression reads, its aggregates included; each ascending. entities: fields besides the account that
    name whose events are read. codes: of `hit`. lists: (field, effect).
    """

    fields: tuple[str, ...]
    features: tuple[str, ...]
    parameters: tuple[str, ...]
    library: tuple[str, ...]
    outcomes: tuple[str, ...]
    entities: tuple[str, ...]
    codes: tuple[str, ...]
    lists: tuple[tuple[str, str], ...]


class Cost(NamedTuple):
    """operations: nodes that compute, those inside aggregates included. depth: of the typed expression, at least 1."""

    operations: int
    aggregates: int
    depth: int


class Completion(NamedTuple):
    """A name that may stand at the end of what was typed. insert: what to write for it."""

    insert: str
    signature: str
    meaning: str


def check(text: str, scope: Scope, expected: Type | tuple[Type, ...]) -> Checked:
    """The typed expression of a text, which must be of an expected type. Raises ProgramError."""
    tree = parse(text)
    expression = checking.checked(tree, scope, (expected,) if isinstance(expected, str) else expected)
    return Checked(expression, formatted(tree))


def canonical_text(text: str) -> str:
    """The text as the formatter prints it, whatever its names mean. Raises ProgramError."""
    return formatted(parse(text))


def below(expression: Expression) -> tuple[Expression, ...]:
    """The expressions directly below; of an aggregate, its value and condition."""
    match expression:
        case Apply():
            return expression.arguments
        case Listed():
            return (expression.value,)
        case Aggregate():
            return tuple(each for each in (expression.value, expression.condition) if each is not None)
        case _:
            return ()


def walk(expression: Expression) -> Iterator[tuple[int, Expression]]:
    """(level, expression) of the expression (level 1) and of everything below."""
    waiting = [(1, expression)]
    while waiting:
        level, each = waiting.pop()
        yield level, each
        waiting += [(level + 1, part) for part in reversed(below(each))]


def names_read(expression: Expression) -> Reads:
    """Everything that the expression reads by name."""
    columns: dict[Source, set[str]] = {
        "field": set(), "feature": set(), "parameter": set(), "library": set(), "outcome": set()
    }  # fmt: skip
    entities: set[str] = set()
    codes: set[str] = set()
    lists: set[tuple[str, str]] = set()
    for _, each in walk(expression):
        match each:
            case Column():
                columns[each.source].add(each.name)
            case Aggregate():
                entities |= {*each.entity}
            case Hit():
                codes.add(each.code)
            case Listed():
                lists.add((each.value.name, each.effect))
            case _:
                pass
    fields, features, parameters, library, outcomes = (tuple(sorted(names)) for names in columns.values())
    return Reads(
        fields, features, parameters, library, outcomes, tuple(sorted(entities)), tuple(sorted(codes)),
        tuple(sorted(lists)),
    )  # fmt: skip


def cost(expression: Expression) -> Cost:
    """How much there is to compute."""
    operations = aggregates = depth = 0
    for level, each in walk(expression):
        depth = max(depth, level)
        operations += not isinstance(each, Constant | Column)
        aggregates += isinstance(each, Aggregate)
    return Cost(operations, aggregates, depth)


def identity(expression: Expression) -> str:
    """SHA-256 (hex) of a canonical serialisation: equal expressions, and no others, have the same."""
    return hashlib.sha256(f"expression {IDENTITY_VERSION}\n{serialised(expression)}".encode()).hexdigest()


def serialised(expression: Expression) -> str:
    """The expression with everything that it means, on one line. Never changes for an IDENTITY_VERSION."""
    match expression:
        case Constant(type=kind, value=value):
            return f"{kind} {_value(value)}"
        case Column():
            return f"{expression.source} {expression.type} {_quoted(expression.name)} {_quoted(expression.form)}"
        case Apply(type=kind, operation=operation, arguments=arguments):
            return f"{operation} {kind} ({', '.join(map(serialised, arguments))})"
        case Listed():
            return f"listed {_quoted(expression.effect)} ({serialised(expression.value)})"
        case Hit():
            return f"hit {_quoted(expression.code)}"
        case Aggregate():
            return " ".join((
                "aggregate", expression.function, expression.type, f"({', '.join(map(_quoted, expression.entity))})",
                str(expression.window_ms), str(expression.size), "verdicts" if expression.on_verdicts else "payments",
                f"({_optional(expression.value)})", f"({_optional(expression.condition)})",
            ))  # fmt: skip


def _optional(expression: Expression | None) -> str:
    return "" if expression is None else serialised(expression)


def _value(value: float | bool | str | tuple[float, ...] | tuple[str, ...]) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _quoted(value)
        case tuple():
            return f"[{', '.join(map(_value, value))}]"
        case _:
            return number_text(value)


def _quoted(text: str) -> str:
    return string_text(text)


def complete(prefix: str, scope: Scope) -> tuple[Completion, ...]:
    """What the word at the end of the prefix may become, names before functions. Reads nothing else of the prefix."""
    found = _WORD.search(prefix[-128:])
    word = found[0].lower() if found else ""
    before = prefix[: len(prefix) - len(word)].rstrip()
    is_method = before.endswith(".")
    completions: list[Completion] = []
    if not is_method:
        for name in scope.names():
            column = scope.column(name)
            if column is not None and name.lower().startswith(word):
                completions.append(Completion(name, name, f"{column.source}, {checking.TYPE_WORDS[column.type]}"))
        if scope.has_aggregates:
            completions += [
                Completion(name, name, "entity") for name in scope.entity_names() if name.lower().startswith(word)
            ]
    for function in (*FUNCTIONS, *(LIBRARY if scope.has_aggregates and not is_method else ())):
        is_here = (
            function.name.lower().startswith(word)
            and (function.style == "method") == is_method
            and (function.becomes != "aggregate" or scope.has_aggregates)
            and (function.becomes != "hit" or scope.has_hits)
        )
        if is_here:
            completions.append(Completion(f"{function.name}(", function.signature, function.meaning))
    return tuple(completions)


__all__ = [
    "ACCOUNT", "Checked", "Completion", "Cost", "Reads", "Scope", "below", "canonical_text", "check", "complete",
    "cost", "identity", "names_read", "serialised", "walk",
]  # fmt: skip
