"""Typed expressions: what the checker makes of a text; engine, planner and digests read them. Pure data.

    text ──parsing──► syntax tree ──checking──► typed expression ──planning──► op codes and rings

Every expression has one type, known before anything runs. Its value for a payment is a value of that type or *missing*:
CEL's error, absorbed by `&&` and `||` (docs/language.md). Types and their values:

    number   float64. A named feature is stored as float32, and whoever reads it by its name reads the stored value
    bool
    string   compared by keyed hash; functions that read characters run once per distinct value of a batch
    time     epoch ms UTC, exact below 2^53
    numbers, strings   lists, as the right side of `in` only

Comparisons of a `single` value (a number with float32 precision: a feature, or what is chosen among features) are
explicit operations that round both sides to float32, so `mean_30d >= 99.99` holds for a mean of 99.99.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from core.canonical import Form

Type = Literal["number", "bool", "string", "time", "numbers", "strings"]

Source = Literal["field", "feature", "parameter", "library", "outcome"]
"""Where a column comes from. field: the payment itself. feature: the float32 value stored under its name. parameter: a
number that a control event can change. library: a column of the feature kernel (`core.features.spec`). outcome: what
was decided (probability, decision, severity, alerted), or `verdict`.
"""


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal. For lists, a tuple of numbers or strings."""

    type: Type
    value: float | bool | str | tuple[float, ...] | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A value of the payment that is decided; in the condition of an aggregate, of an earlier one."""

    type: Type
    source: Source
    name: str
    form: Form = ""


@dataclass(frozen=True, slots=True)
class Apply:
    """An operation of OPERATIONS."""

    type: Type
    operation: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """Whether a field's value is on the list of an effect (`merchant_id in list('watch')`); missing if the value is."""

    value: Column
    effect: str

    @property
    def type(self) -> Type:
        return "bool"


@dataclass(frozen=True, slots=True)
class Hit:
    """Whether the rule hit: `hit('CODE')`. Never missing."""

    code: str

    @property
    def type(self) -> Type:
        return "bool"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A figure over the earlier events of the payment's account, or of a local entity: the account and more fields.

    function: a name of AGGREGATES. entity: the fields besides the account, in order; () = the account alone.
    window_ms: the window, or the half-life of `decayed`; 0 if the function has none. size: n of `is_new`, else 0.
    value, condition: over the earlier event; an event whose condition is missing or false does not count, nor does one
    whose value is missing. on_verdicts: the events are verdicts on the account, at the time at which they came.
    """

    type: Type
    function: str
    entity: tuple[str, ...] = ()
    window_ms: int = 0
    value: Expression | None = None
    condition: Expression | None = None
    size: int = 0
    on_verdicts: bool = False


Expression = Constant | Column | Apply | Listed | Hit | Aggregate


class Operation(NamedTuple):
    """Argument types and result; "any": the same type wherever it stands, and as the result. repeated: the last
    argument may come any number of times.
    """

    arguments: tuple[str, ...]
    result: str
    repeated: bool = False


OPERATIONS: dict[str, Operation] = {
    # Arithmetic in float64; IEEE 754, so x / 0 is an infinity or NaN, which are values and not missing.
    "negate": Operation(("number",), "number"),
    "add": Operation(("number", "number"), "number"),
    "subtract": Operation(("number", "number"), "number"),
    "multiply": Operation(("number", "number"), "number"),
    "divide": Operation(("number", "number"), "number"),
    "remainder": Operation(("number", "number"), "number"),  # x − y · trunc(x / y), exact, the sign of x (C's fmod)
    "ratio": Operation(("number", "number"), "number"),  # x / y; missing unless y > 0
    "abs": Operation(("number",), "number"),
    "min": Operation(("number", "number"), "number", True),  # NaN if any is NaN
    "max": Operation(("number", "number"), "number", True),
    "floor": Operation(("number",), "number"),
    "ceil": Operation(("number",), "number"),
    "round": Operation(("number",), "number"),  # halves away from zero
    "sqrt": Operation(("number",), "number"),
    "log10": Operation(("number",), "number"),
    "exp": Operation(("number",), "number"),
    "single": Operation(("number",), "number"),  # rounded to float32; NaN becomes the quiet NaN 0x7fc00001
    # Comparison; false for NaN, but != is true. "…_single": both sides are rounded to float32 first.
    "less": Operation(("number", "number"), "bool"),
    "less_equal": Operation(("number", "number"), "bool"),
    "equal": Operation(("number", "number"), "bool"),
    "unequal": Operation(("number", "number"), "bool"),
    "less_single": Operation(("number", "number"), "bool"),
    "less_equal_single": Operation(("number", "number"), "bool"),
    "equal_single": Operation(("number", "number"), "bool"),
    "unequal_single": Operation(("number", "number"), "bool"),
    "less_time": Operation(("time", "time"), "bool"),
    "less_equal_time": Operation(("time", "time"), "bool"),
    "equal_time": Operation(("time", "time"), "bool"),
    "unequal_time": Operation(("time", "time"), "bool"),
    "equal_bool": Operation(("bool", "bool"), "bool"),
    "unequal_bool": Operation(("bool", "bool"), "bool"),
    "equal_string": Operation(("string", "string"), "bool"),
    "unequal_string": Operation(("string", "string"), "bool"),
    "in_numbers": Operation(("number", "numbers"), "bool"),
    "in_numbers_single": Operation(("number", "numbers"), "bool"),
    "in_strings": Operation(("string", "strings"), "bool"),
    # Logic, as CEL has it: a missing side is absorbed if the other one decides.
    "not": Operation(("bool",), "bool"),
    "and": Operation(("bool", "bool"), "bool"),
    "or": Operation(("bool", "bool"), "bool"),
    "choose": Operation(("bool", "any", "any"), "any"),  # missing if the condition is; the other branch never matters
    "has": Operation(("any",), "bool"),
    "default": Operation(("any", "any"), "any"),
    # Time. An offset from UTC is a constant number of ms: zones by name change with the time zone database.
    "elapsed": Operation(("time", "time"), "number"),  # seconds
    "hour": Operation(("time", "number"), "number"),
    "weekday": Operation(("time", "number"), "number"),  # 0 = Monday … 6
    # Characters: code points of the canonical form. Evaluated once per distinct value.
    "size": Operation(("string",), "number"),
    "starts_with": Operation(("string", "string"), "bool"),
    "ends_with": Operation(("string", "string"), "bool"),
    "contains": Operation(("string", "string"), "bool"),
    "matches": Operation(("string", "string"), "bool"),  # RE2, a constant pattern; true if it matches anywhere
    "lower": Operation(("string",), "string"),  # ASCII letters only
    "concat": Operation(("string", "string"), "string"),
}

CHARACTERS = ("size", "starts_with", "ends_with", "contains", "matches", "lower", "concat")
"""The operations that read characters."""

AGGREGATES = (
    "count", "sum", "mean", "min", "max", "std", "distinct", "share",
    "first", "last", "since", "decayed", "typical", "is_new",
)  # fmt: skip
"""The functions of aggregates. Over no event, count, sum and distinct are 0, is_new is 1 (missing if the entity has no
event at all, or the payment's own value is missing), and the others are missing.
"""


def is_single(expression: Expression) -> bool:
    """Whether the number has float32 precision: a feature, a kernel's column, or what is chosen among these and
    constants.
    """
    match expression:
        case Column():
            return expression.source in ("feature", "library")
        case Apply("number", "single"):
            return True
        case Apply("number", "negate" | "abs" | "min" | "max" | "default", arguments):
            return _of_single(arguments)
        case Apply("number", "choose", arguments):
            return _of_single(arguments[1:])
        case _:
            return False


def _of_single(arguments: tuple[Expression, ...]) -> bool:
    chosen = [each for each in arguments if not isinstance(each, Constant)]
    return bool(chosen) and all(map(is_single, chosen))
