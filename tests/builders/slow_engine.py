"""A slow, obvious evaluator of typed expressions, written from the definitions in core/program/typed.py, row by row.

It shares no code with the engine: Python's floats, integers, strings, `math.fmod` and `re`; None is missing. Where CEL
can express an operation, tests/builders/cel.py checks this evaluator too.
"""

from __future__ import annotations

import datetime
import math
import operator
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction

from core import canonical
from core.program.typed import Aggregate, Apply, Column, Constant, Expression
from tests.builders.feature_oracle import string_hash

Value = float | bool | str | None
Row = Mapping[str, Value]
"""The values of one payment by `leaf_name`."""

QUIET_NAN = 0x7FF8000020000000
"""The float64 of the float32 0x7fc00001."""
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def leaf_name(leaf: Expression) -> str:
    """A name that is equal for equal leaves only."""
    return repr(leaf)


def bits(value: Value) -> int:
    """The word in which the engine holds the value; 0 if it is missing."""
    if value is None:
        return 0
    if isinstance(value, str):
        return string_hash(value)
    number = float(value)
    return QUIET_NAN if math.isnan(number) else int(struct.unpack("<Q", struct.pack("<d", number))[0])


def settled(expression: Expression, form: str = "raw") -> Expression:
    """The expression with every string constant in the canonical form of the column beside which it stands."""
    match expression:
        case Constant("string", value):
            return replace(expression, value=in_form(form, str(value)))
        case Apply(_, "in_strings", (value, Constant(kind, items))):
            inner = _one(value) or "raw"
            return replace(
                expression,
                arguments=(settled(value, inner), Constant(kind, tuple(in_form(inner, str(x)) for x in items))),  # type: ignore[union-attr]
            )
        case Apply(_, "equal_string" | "unequal_string", (first, second)):
            return replace(
                expression, arguments=tuple(settled(x, _one(first, second) or "raw") for x in (first, second))
            )
        case Apply("string", "choose", (condition, first, second)):
            inner = _one(first, second) or form
            return replace(expression, arguments=(settled(condition), settled(first, inner), settled(second, inner)))
        case Apply("string", "default", (first, second)):
            inner = _one(first, second) or form
            return replace(expression, arguments=(settled(first, inner), settled(second, inner)))
        case Apply(_, operation, arguments) if operation in CHARACTERS:
            return replace(expression, arguments=tuple(_as_written(each) for each in arguments))
        case Apply(_, _, arguments):
            return replace(expression, arguments=tuple(settled(each) for each in arguments))
        case _:
            return expression


def _as_written(expression: Expression) -> Expression:
    """Texts whose characters are read: constants stay as they are, but conditions among them are settled."""
    match expression:
        case Apply("string", "choose", (condition, first, second)):
            return replace(expression, arguments=(settled(condition), _as_written(first), _as_written(second)))
        case Apply("string", _, arguments):
            return replace(expression, arguments=tuple(_as_written(each) for each in arguments))
        case _:
            return expression


def _one(*texts: Expression) -> str:
    forms = set().union(*map(_forms, texts))
    return "raw" if len(forms) > 1 else "".join(forms)


def _forms(text: Expression) -> set[str]:
    match text:
        case Column():
            return {text.form or "raw"}
        case Aggregate(value=Column() as value):
            return _forms(value)
        case Apply(_, "choose", (_, first, second)) | Apply(_, "default", (first, second)):
            return {_one(first, second)} - {""}
        case Apply():
            return {"raw"}
        case _:
            return set()


def in_form(form: str, text: str) -> str:
    """The canonical form of a constant."""
    if form == "raw":
        return text
    return canonical.text(text) if form == "text" else canonical.canonical(form, text)  # type: ignore[arg-type]


def value_of(expression: Expression, row: Row) -> Value:
    """The value of a settled expression; None if it is missing."""
    match expression:
        case Constant():
            return expression.value  # type: ignore[return-value]
        case Apply(_, operation, arguments):
            return _applied(operation, arguments, row)
        case _:
            return row[leaf_name(expression)]


def _applied(operation: str, arguments: tuple[Expression, ...], row: Row) -> Value:
    values = [value_of(each, row) for each in arguments]
    first = values[0]
    match operation:
        case "and" | "or":
            decides = operation == "or"
            if any(value is decides for value in values):
                return decides
            return None if None in values else not decides
        case "has":
            return first is not None
        case "default":
            return values[1] if first is None else first
        case "choose":
            return None if first is None else values[1 if first else 2]
        case _:
            return None if any(value is None for value in values) else FUNCTIONS[operation](*values)


def single(x: float) -> float:
    """The nearest float32, ties to even; too large is infinite."""
    if math.isnan(x) or math.isinf(x):
        return x
    _, exponent = math.frexp(x)
    unit = Fraction(2) ** (max(exponent, -125) - 24)
    rounded = round(Fraction(x) / unit) * unit  # Fraction rounds halves to even
    return math.copysign(math.inf if abs(rounded) >= 2**128 else float(abs(rounded)), x)


def divided(x: float, y: float) -> float:
    """IEEE 754 division."""
    if y != 0.0:
        return x / y
    if x == 0.0 or math.isnan(x) or math.isnan(y):
        return math.nan
    return math.copysign(math.inf, x) * math.copysign(1.0, y)


def remainder(x: float, y: float) -> float:
    """C's fmod; NaN where Python raises."""
    return math.nan if math.isinf(x) or y == 0.0 else math.fmod(x, y)


def smallest(*numbers: float) -> float:
    """NaN if any is; of equal ones the first."""
    return math.nan if any(map(math.isnan, numbers)) else min(numbers)


def largest(*numbers: float) -> float:
    """NaN if any is; of equal ones the first."""
    return math.nan if any(map(math.isnan, numbers)) else max(numbers)


def whole(function: Callable[[float], int]) -> Callable[[float], float]:
    """`math.floor` or `math.ceil` with floats for results, and the sign of zero."""
    return lambda x: math.copysign(float(function(x)), x) if math.isfinite(x) else x


def rounded(x: float) -> float:
    """Halves away from zero."""
    if not math.isfinite(x):
        return x
    return math.copysign(float(math.floor(abs(Fraction(x)) + Fraction(1, 2))), x)


def root(x: float) -> float:
    """The square root; NaN below zero."""
    return math.nan if x < 0.0 else math.sqrt(x)


def local(part: Callable[[datetime.datetime], int], unit_ms: int, shift: int, modulus: int) -> Callable[..., float]:
    """A part of a local time: by whole numbers, and by datetime where that reaches."""

    def found(t: float, offset_ms: float) -> float:
        local_ms = int(t) + int(offset_ms)
        if abs(float(local_ms)) > 2**53:
            return math.nan
        result = (local_ms // unit_ms + shift) % modulus
        if abs(local_ms) < 10**13:
            assert result == part(EPOCH + datetime.timedelta(milliseconds=local_ms))
        return float(result)

    return found


def _on_single(function: Callable[[float, float], bool]) -> Callable[[float, float], bool]:
    return lambda x, y: function(single(x), single(y))


def _lower(text: str) -> str:
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "negate": operator.neg,
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": divided,
    "remainder": remainder,
    "ratio": lambda x, y: divided(x, y) if y > 0.0 else None,
    "abs": abs,
    "min": smallest,
    "max": largest,
    "floor": whole(math.floor),
    "ceil": whole(math.ceil),
    "round": rounded,
    "sqrt": root,
    "single": single,
    "less": operator.lt,
    "less_equal": operator.le,
    "equal": operator.eq,
    "unequal": operator.ne,
    "less_single": _on_single(operator.lt),
    "less_equal_single": _on_single(operator.le),
    "equal_single": _on_single(operator.eq),
    "unequal_single": _on_single(operator.ne),
    "less_time": operator.lt,
    "less_equal_time": operator.le,
    "equal_time": operator.eq,
    "unequal_time": operator.ne,
    "equal_bool": operator.eq,
    "unequal_bool": operator.ne,
    "equal_string": operator.eq,
    "unequal_string": operator.ne,
    "in_numbers": lambda x, items: any(x == item for item in items),
    "in_numbers_single": lambda x, items: any(single(x) == single(item) for item in items),
    "in_strings": lambda x, items: x in items,
    "not": operator.not_,
    "elapsed": lambda x, y: float(int(x) - int(y)) / 1000.0,
    "hour": local(lambda t: t.hour, 3_600_000, 0, 24),
    "weekday": local(lambda t: t.weekday(), 86_400_000, 3, 7),
    "size": lambda text: float(len(text)),
    "starts_with": lambda text, other: text[: len(other)] == other,
    "ends_with": lambda text, other: text[max(len(text) - len(other), 0) :] == other,
    "contains": lambda text, other: text.find(other) >= 0,
    "matches": lambda text, pattern: re.search(pattern, text) is not None,
    "lower": _lower,
    "concat": lambda text, other: text + other,
}
"""Operations that need all their arguments. `log10` and `exp` are missing: no exact definition of their bits exists
outside core.numeric, whose accuracy its own tests show.
"""
CHARACTERS = ("size", "starts_with", "ends_with", "contains", "matches", "lower", "concat")
