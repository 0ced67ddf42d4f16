"""Comparisons that can have one answer only: values that an outcome, an hour or a field never has.

They are mistakes, so they are refused with the value that was probably meant.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

from core import canonical
from core.errors import BadInput
from core.program import spelling
from core.program.errors import ProgramError, listed, meant, quoted
from core.program.fields import OUTCOME_VALUES
from core.program.formatting import formatted, number_text
from core.program.syntax import Binary, Node, Number, Text, start
from core.program.typed import Apply, Column, Constant, Expression

OUTCOME_EXAMPLES = {name: f"{name} == '{values[-1]}'" for name, values in OUTCOME_VALUES.items()} | {
    "verdict": "verdict == 'fraud'"
}
_HOURS, _DAYS = tuple(map(float, range(24))), tuple(map(float, range(7)))
_DOMAINS: dict[str, tuple[tuple[float, ...], str]] = {
    "hour": (_HOURS, "an hour is 0 to 23"),
    "weekday": (_DAYS, "a weekday is 0 (Monday) to 6 (Sunday)"),
}
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_CURRENCY = re.compile(r"[A-Z]{3}")


def check_comparison(node: Binary, left: Expression, right: Expression) -> None:
    """Refuse it if one side is a constant that decides it alone, or if an outcome meets anything but its values."""
    for here, there, constant, is_turned in (
        (node.left, left, right, False),
        (node.right, right, left, True),
    ):
        written = node.right if here is node.left else node.left
        if isinstance(there, Column) and there.source == "outcome" and there.type == "string":
            if not isinstance(constant, Constant):
                raise ProgramError(
                    f"{quoted(there.name)} can be compared only with its values, as in {OUTCOME_EXAMPLES[there.name]}",
                    *start(written),
                )
            _check_outcome(there, written)
        elif isinstance(constant, Constant) and constant.type == "string":
            _check_text(here, there, written)
            spelling.check_whole(here, there, written, str(constant.value))
        elif isinstance(constant, Constant) and (domain := _domain(there)) is not None:
            values, words = domain
            bound = float(constant.value)  # type: ignore[arg-type]
            compare = _OPERATORS[node.operator]
            answers = {compare(bound, value) if is_turned else compare(value, bound) for value in values}
            if len(answers) == 1:
                always = "always true" if answers == {True} else "never true"
                raise ProgramError(f"{quoted(formatted(node))} is {always}: {words}", *start(written))


def check_member(node: Node, left: Expression, item: Number | Text) -> None:
    """Refuse a constant of a list that the left side never equals."""
    if isinstance(item, Number):
        if (domain := _domain(left)) is not None and item.value not in domain[0]:
            raise ProgramError(f"{number_text(item.value)} is never found here: {domain[1]}", *item.at)
    elif isinstance(left, Column) and left.source == "outcome":
        _check_outcome(left, item)
    else:
        _check_text(node, left, item)
        spelling.check_whole(node, left, item, item.value)


def _domain(expression: Expression) -> tuple[tuple[float, ...], str] | None:
    match expression:
        case Column(source="field", name="hour" | "weekday" as name):
            return _DOMAINS[name]
        case Apply(operation="hour" | "weekday" as name):
            return _DOMAINS[name]
        case _:
            return None


def _check_outcome(column: Column, written: Node) -> None:
    values = OUTCOME_VALUES[column.name]
    if isinstance(written, Text) and written.value not in values:
        shown = [f"'{value}'" for value in values]
        near = meant(written.value, values).replace("mean ", "mean '").replace("?", "'?")
        raise ProgramError(
            f"{quoted(column.name)} is never {quoted(written.value)}: it is {listed(shown)}{near}", *written.at
        )


def _check_text(node: Node, found: Expression, written: Node) -> None:
    """Refuse a text that the field never has."""
    if not isinstance(found, Column) or found.source != "field" or not isinstance(written, Text):
        return
    value, name = written.value, quoted(found.name)
    reason = ""
    if not (canonical.text(value) if found.form not in ("", "raw") else value):
        reason = f"{name} is never empty: it is missing or has text; write !has({found.name})"
    elif found.name == "currency":
        if not _CURRENCY.fullmatch(value):
            reason = f"{name} is never {quoted(value)}; write three capital letters (ISO 4217), such as EUR"
    elif found.form == "country":
        try:
            canonical.listed("country", value)
        except BadInput as error:
            reason = str(error)
    elif found.form == "ip" and "/" in value and canonical.network(value) is not None:
        reason = f"{name} is never a network; put {quoted(value)} on a list and write ip in list('watch')"
    if reason:
        raise ProgramError(reason, *written.at)
