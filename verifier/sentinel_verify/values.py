"""The value of an expression for one payment: a number, a bool, a text, None if it is missing, UNKNOWN if it is not
known here. docs/language.md of Stream-Sentinel defines every operation.
"""

import math
import operator
import re
from collections.abc import Callable
from typing import Any, Protocol

from . import numbers
from .errors import NotRecomputed
from .forms import in_form
from .language import CHARACTERS, Expression


class Unknown:
    """Something that the proof does not contain."""


UNKNOWN = Unknown()

Value = float | bool | str | Unknown | None


class Row(Protocol):
    """Gives what is not computed: columns, memberships of lists and hits of rules."""

    def leaf(self, expression: Expression) -> Value:
        """The value of a column, a list or a hit."""


def value_of(expression: Expression, row: Row) -> Value:
    """The value of an expression that was `settled`."""
    if expression[0] == "const":
        constant: Value = expression[2]
        return constant
    if expression[0] != "apply":
        return row.leaf(expression)
    operation: str = expression[2]
    values: list[Value] = [value_of(each, row) for each in expression[3]]
    if operation in ("and", "or"):
        decides = operation == "or"
        if any(value is decides for value in values):
            return decides
        return UNKNOWN if UNKNOWN in values else None if None in values else not decides
    first = values[0]
    if first is UNKNOWN:
        return UNKNOWN
    if operation == "choose":
        chosen: Value = values[1 if first else 2]
        return None if first is None else chosen
    if operation == "default":
        return values[1] if first is None else first
    if operation == "has":
        return first is not None
    if any(value is UNKNOWN for value in values):
        return UNKNOWN
    if None in values:
        return None
    return _computed(operation, values)


def _computed(operation: str, values: list[Value]) -> Value:
    found: Value = OPERATIONS[operation](*values)
    return found


# --- texts are compared in the form of the column beside which they stand ----------------------------------------


def settled(expression: Expression, form: str = "raw") -> Expression:
    """The expression with every text constant in its canonical form."""
    if expression[:2] == ("const", "string"):
        return ("const", "string", in_form(form, expression[2]))
    if expression[0] != "apply":
        return expression
    _, kind, operation, arguments = expression
    if operation == "in_strings":
        inner = _one(arguments[0]) or "raw"
        items = ("const", "strings", tuple(in_form(inner, each) for each in arguments[1][2]))
        return ("apply", kind, operation, (settled(arguments[0], inner), items))
    if operation in ("equal_string", "unequal_string"):
        inner = _one(*arguments) or "raw"
        return ("apply", kind, operation, tuple(settled(each, inner) for each in arguments))
    if kind == "string" and operation in ("choose", "default"):
        inner = _one(*arguments[-2:]) or form
        before = tuple(map(settled, arguments[:-2]))
        return ("apply", kind, operation, (*before, *(settled(each, inner) for each in arguments[-2:])))
    if operation in CHARACTERS:
        return ("apply", kind, operation, tuple(map(_as_written, arguments)))
    return ("apply", kind, operation, tuple(map(settled, arguments)))


def _as_written(expression: Expression) -> Expression:
    """A text whose characters are read: constants stay, but conditions in it are settled."""
    if expression[0] != "apply" or expression[1] != "string":
        return expression
    _, kind, operation, arguments = expression
    if operation == "choose":
        return ("apply", kind, operation, (settled(arguments[0]), *map(_as_written, arguments[1:])))
    return ("apply", kind, operation, tuple(map(_as_written, arguments)))


def _one(*texts: Expression) -> str:
    forms = {form for each in texts for form in _forms(each)}
    return "raw" if len(forms) > 1 else "".join(forms)


def _forms(text: Expression) -> set[str]:
    if text[0] == "col":
        return {text[4] or "raw"}
    if text[0] == "agg":
        return _forms(text[7]) if text[7] is not None and text[7][0] == "col" else set()
    if text[0] == "apply" and text[2] in ("choose", "default"):
        return {_one(*text[3][-2:])} - {""}
    return {"raw"} if text[0] == "apply" else set()


# --- operations on values that are there -------------------------------------------------------------------------


def _smallest(*values: float) -> float:
    return math.nan if any(value != value for value in values) else min(values)


def _largest(*values: float) -> float:
    return math.nan if any(value != value for value in values) else max(values)


def _whole(function: Callable[[float], int]) -> Callable[[float], float]:
    return lambda x: math.copysign(float(function(x)), x) if math.isfinite(x) else x


def _of_single(function: Callable[[float, float], bool]) -> Callable[[float, float], bool]:
    return lambda x, y: function(numbers.single(x), numbers.single(y))


def _part_of_time(unit_ms: int, shift: int, modulus: int) -> Callable[[float, float], float]:
    def found(time: float, offset_ms: float) -> float:
        local = int(time) + int(offset_ms)
        return math.nan if abs(local) > 2**53 else float((local // unit_ms + shift) % modulus)

    return found


_SAFE = re.compile(
    r"(?:[^\\.$(){}?*+|^\[\]\x80-\U0010ffff]|\\[.$(){}?*+|^\[\]\\/-]|[.^$|()]|\[\^?[A-Za-z0-9_ .:,;@/*+?(){}-]+\]"
    r"|[*+?]|\{[0-9]{1,3}(?:,[0-9]{0,3})?\})*"
)
"""Patterns that mean the same to RE2 and to Python."""


def _matches(text: str, pattern: str) -> bool:
    if not _SAFE.fullmatch(pattern) or "(?" in pattern or re.search(r"[*+?}][*+?{]", pattern):
        raise NotRecomputed(f"the pattern {pattern!r} is outside of what is matched here")
    return re.search(pattern.replace("\\$", "\\x24").replace("$", "\\Z"), text) is not None


def _lower(text: str) -> str:
    return "".join(chr(ord(char) + 32) if "A" <= char <= "Z" else char for char in text)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "negate": operator.neg, "add": operator.add, "subtract": operator.sub, "multiply": operator.mul,
    "divide": numbers.divided, "remainder": numbers.remainder,
    "ratio": lambda x, y: numbers.divided(x, y) if y > 0.0 else None,
    "abs": abs, "min": _smallest, "max": _largest, "floor": _whole(math.floor), "ceil": _whole(math.ceil),
    "round": numbers.rounded, "sqrt": lambda x: math.nan if x < 0.0 else math.sqrt(x),
    "log10": numbers.log10, "exp": numbers.exp, "single": numbers.single,
    "less": operator.lt, "less_equal": operator.le, "equal": operator.eq, "unequal": operator.ne,
    "less_single": _of_single(operator.lt), "less_equal_single": _of_single(operator.le),
    "equal_single": _of_single(operator.eq), "unequal_single": _of_single(operator.ne),
    "less_time": operator.lt, "less_equal_time": operator.le, "equal_time": operator.eq, "unequal_time": operator.ne,
    "equal_bool": operator.eq, "unequal_bool": operator.ne,
    "equal_string": operator.eq, "unequal_string": operator.ne,
    "in_numbers": lambda x, items: any(x == item for item in items),
    "in_numbers_single": lambda x, items: any(numbers.single(x) == numbers.single(item) for item in items),
    "in_strings": lambda x, items: x in items,
    "not": operator.not_, "elapsed": lambda x, y: float(int(x) - int(y)) / 1000.0,
    "hour": _part_of_time(3_600_000, 0, 24), "weekday": _part_of_time(86_400_000, 3, 7),
    "size": lambda text: float(len(text)), "starts_with": str.startswith, "ends_with": str.endswith,
    "contains": operator.contains, "matches": _matches, "lower": _lower, "concat": operator.add,
}  # fmt: skip
