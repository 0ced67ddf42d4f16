"""Every function of the language, in one table: the checker, an editor's completion and docs/language.md read it.

A function without a row does not exist. What an argument must be stands in its parameter's kind.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from core.features import spec
from core.program.typed import OPERATIONS, Type

Kind = Literal[
    "number", "bool", "string", "time", "any",  # an expression of this type, about the payment
    "entity",     # account, or a declared entity that contains it
    "window",     # a duration that buckets divide
    "half_life",  # a duration
    "value",      # a number, over the earlier event
    "field",      # a field of the earlier event
    "condition",  # over the earlier event
    "size",       # a whole number, constant
    "zone",       # an offset from UTC, constant
    "pattern",    # RE2, constant
    "code",       # a rule's code, constant
    "effect",     # block, watch or allow, constant
]  # fmt: skip
Style = Literal["function", "method"]
Becomes = Literal["operation", "aggregate", "library", "hit", "listed"]

SIZE_MAX = 64
"""n of is_new: how many values are remembered at most."""


_ORDINALS = ("first", "second", "third", "fourth", "fifth")


class Parameter(NamedTuple):
    """is_repeated: may come any number of times more."""

    name: str
    kind: Kind
    is_optional: bool = False
    is_repeated: bool = False


class Function(NamedTuple):
    """style: `f(x)`, or `x.f()`, where the first parameter stands before the point. result "any": the type of its
    arguments. operation: a name of `typed.OPERATIONS`, of `typed.AGGREGATES` or of a library column.
    """

    name: str
    style: Style
    parameters: tuple[Parameter, ...]
    result: Type | Literal["any"]
    becomes: Becomes
    operation: str
    meaning: str
    example: str

    @property
    def signature(self) -> str:
        """`count(E, W, condition?)`."""
        shown = [p.name + ("?" if p.is_optional else ", …" if p.is_repeated else "") for p in self.parameters]
        if self.style == "method":
            return f"{shown[0]}.{self.name}({', '.join(shown[1:])})"
        return f"{self.name}({', '.join(shown)})"

    def ordinal(self, index: int) -> str:
        """`second`, of an argument's index; what stands before the point does not count."""
        return _ORDINALS[max(index - (self.style == "method"), 0)] if index < len(_ORDINALS) else f"{index + 1}th"

    @property
    def required(self) -> int:
        """How many arguments it needs at least."""
        return sum(not p.is_optional for p in self.parameters)


_X = Parameter("x", "number")
_S = Parameter("s", "string")
_E = Parameter("E", "entity")
_W = Parameter("W", "window")
_VALUE = Parameter("x", "value")
_FIELD = Parameter("field", "field")
_CONDITION = Parameter("condition", "condition", is_optional=True)
_ZONE = Parameter("zone", "zone", is_optional=True)


def _arithmetic(name: str, meaning: str, example: str) -> Function:
    return Function(name, "function", (_X,), "number", "operation", name, meaning, example)


def _characters(name: str, operation: str, argument: Parameter | None, meaning: str, example: str) -> Function:
    parameters = (_S,) if argument is None else (_S, argument)
    return Function(name, "method", parameters, OPERATIONS[operation].result, "operation", operation, meaning, example)  # type: ignore[arg-type]


def _aggregate(name: str, parameters: tuple[Parameter, ...], result: str, meaning: str, example: str) -> Function:
    return Function(name, "function", (_E, *parameters), result, "aggregate", name, meaning, example)  # type: ignore[arg-type]


def _windowed(name: str, meaning: str) -> Function:
    return _aggregate(name, (_W, _VALUE, _CONDITION), "number", meaning, f"{name}(account, '7d', amount)")


# fmt: off
FUNCTIONS: tuple[Function, ...] = (
    Function("has", "function", (Parameter("x", "any"),), "bool", "operation", "has",
        "whether x has a value", "has(merchant_id)"),
    Function("default", "function", (Parameter("x", "any"), Parameter("y", "any")), "any", "operation", "default",
        "x, or y if x is missing", "default(channel, 'unknown')"),
    Function("ratio", "function", (_X, Parameter("y", "number")), "number", "operation", "ratio",
        "x / y; missing unless y is above 0", "ratio(amount, mean_30d)"),
    _arithmetic("abs", "absolute value", "abs(amount - 100)"),
    Function("min", "function", (_X, Parameter("y", "number", is_repeated=True)), "number", "operation", "min",
        "the smallest of two or more numbers", "min(amount, 1000)"),
    Function("max", "function", (_X, Parameter("y", "number", is_repeated=True)), "number", "operation", "max",
        "the largest of two or more numbers", "max(amount, 1)"),
    _arithmetic("floor", "the largest whole number not above x", "floor(amount)"),
    _arithmetic("ceil", "the smallest whole number not below x", "ceil(amount)"),
    _arithmetic("round", "the nearest whole number; halves are rounded away from zero", "round(amount)"),
    _arithmetic("sqrt", "square root; NaN below 0", "sqrt(amount)"),
    _arithmetic("log10", "logarithm to base 10; NaN below 0", "log10(amount)"),
    _arithmetic("exp", "e to the power of x", "exp(-amount / 100)"),
    Function("size", "function", (_S,), "number", "operation", "size",
        "number of characters (code points)", "size(merchant_id) > 20"),
    _characters("startsWith", "starts_with", Parameter("prefix", "string"),
        "whether s begins with the prefix", "merchant_id.startsWith('shop')"),
    _characters("endsWith", "ends_with", Parameter("suffix", "string"),
        "whether s ends with the suffix", "merchant_id.endsWith('gmbh')"),
    _characters("contains", "contains", Parameter("part", "string"),
        "whether the part occurs in s", "merchant_id.contains('casino')"),
    _characters("matches", "matches", Parameter("pattern", "pattern"),
        "whether the pattern (RE2, constant, up to 256 characters) matches anywhere in s",
        "device_id.matches('^emu-[0-9]+$')"),
    _characters("lowerAscii", "lower", None, "s with the letters A to Z in lower case",
        "transaction_id.lowerAscii() == 'test'"),
    Function("list", "function", (Parameter("effect", "effect"),), "strings", "listed", "listed",
        "the field's list of values to block, watch or allow; only after `in`",
        "merchant_id in list('watch')"),
    Function("hour", "function", (Parameter("t", "time"), _ZONE), "number", "operation", "hour",
        "hour of the day, 0 to 23; zone: 'UTC' or an offset such as '+02:00'", "hour(occurred_at, '+02:00') < 6"),
    Function("weekday", "function", (Parameter("t", "time"), _ZONE), "number", "operation", "weekday",
        "day of the week, 0 = Monday to 6 = Sunday", "weekday(occurred_at) >= 5"),
    Function("hit", "function", (Parameter("code", "code"),), "bool", "hit", "hit",
        "whether the rule hit: in [decision] this payment, in an aggregate the earlier one", "hit('AMOUNT_HIGH')"),
    _aggregate("count", (_W, _CONDITION), "number", "number of payments",
        "count(account, '10m', decision == 'decline')"),
    _windowed("sum", "sum of x"),
    _windowed("mean", "mean of x"),
    _windowed("min", "smallest x"),
    _windowed("max", "largest x"),
    _windowed("std", "standard deviation of x, of the population (÷ n)"),
    _aggregate("distinct", (_W, _FIELD, _CONDITION), "number", "number of different values of the field, an estimate",
        "distinct(account, '1h', merchant_id)"),
    _aggregate("share", (_W, Parameter("condition", "condition")), "number",
        "share of the payments for which the condition holds", "share(account, '30d', hour < 6)"),
    _aggregate("first", (_FIELD, _CONDITION), "any", "the field's value in the earliest payment",
        "first(account, country)"),
    _aggregate("last", (_FIELD, _CONDITION), "any", "the field's value in the latest payment",
        "last(account, country) != country"),
    _aggregate("since", (_CONDITION,), "number", "seconds since the latest payment",
        "since(account, verdict == 'fraud') < 86400"),
    _aggregate("decayed", (Parameter("half_life", "half_life"), _VALUE), "number",
        "mean of x in which a payment's weight halves with each half-life", "decayed(account, '30d', amount)"),
    _aggregate("typical", (_VALUE,), "number", "typical x: a running mean that limits outliers",
        "amount > 3 * typical(account, amount)"),
    _aggregate("is_new", (_FIELD, Parameter("n", "size")), "bool",
        f"whether this payment's value is none of the last n different ones (n up to {SIZE_MAX})",
        "is_new(account, device_id, 8)"),
)
# fmt: on
LIBRARY: tuple[Function, ...] = tuple(
    Function(f.name, "function", (), "number", "library", f.name, f.meaning, f"{f.name}()") for f in spec.FEATURES
)
"""The columns of the feature kernel, for definitions that the language can't express."""

BY_NAME: dict[str, tuple[Function, ...]] = {}
for _each in (*FUNCTIONS, *LIBRARY):
    BY_NAME[_each.name] = (*BY_NAME.get(_each.name, ()), _each)
