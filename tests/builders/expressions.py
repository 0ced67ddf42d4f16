"""Random well-typed expressions and rows of values for them, from a seed: hard numbers, gaps, other scripts; and any
expression in the form of the stand-alone verifier.
"""

from __future__ import annotations

import math
import random
import struct
from typing import Any

from core.program.typed import Aggregate, Apply, Column, Constant, Expression, Form, Hit, Listed, Type
from tests.builders.slow_engine import Row, Value, in_form, leaf_name

NUMBERS = (
    0.0, -0.0, 1.0, -1.0, 2.0, 3.0, 0.5, -0.5, 2.5, -2.5, 0.1, 99.99, 100.0, 1e-5, 1000.0, 0.49999999999999994,
    2.0**53, 2.0**53 - 1, 2.0**53 + 2, -(2.0**53), 2.0**31, 5e-324, -5e-324, 2.2250738585072014e-308, 1e-40, 1e300,
    -1e300, 1.7976931348623157e308, 3.4028235677973366e38, 3.5e38, math.inf, -math.inf, math.nan,
)  # fmt: skip
TIMES = (
    0, -1, 1, 3_599_999, 3_600_000, 86_399_999, 86_400_000, -86_400_001, 1_709_164_800_000, 1_709_251_199_999,
    1_700_000_000_123, 4_102_444_800_000, -62_135_596_800_000, 2**53 - 1, 2**53, -(2**53),
)  # fmt: skip
OFFSETS_MS = (0, 7_200_000, -43_200_000, 50_400_000, 20_700_000)
TEXTS = (
    "a", "B", "shop-66", "SHOP-66", " shop-66 ", "DE", "de", "fr", "10.0.0.1", "::ffff:10.0.0.1", "4929 1234",
    "49291234", "Ünï", "straße", "日本", "😀x", "a'b\"c\\", "abc", "ABC", "x y", "42", "a.c", "É",
)  # fmt: skip
PATTERNS = ("^a", "b+c?", "ö|ß|ï", "[0-9]{2}", "^.$", "a.c", "x$", "", "[A-Z]+", "(?:ab)+c|^sh")
FORMS: tuple[Form, ...] = ("raw", "text", "card", "ip", "country")

NUMBER_COLUMNS = (
    Column("number", "field", "amount"),
    Column("number", "field", "distance"),
    Column("number", "library", "count_24h"),
    Column("number", "outcome", "probability"),
    Aggregate("number", "sum", (), 3_600_000, Column("number", "field", "amount")),
    Aggregate("number", "count", ("merchant_id",), 86_400_000),
)
SINGLE_COLUMNS = (Column("number", "feature", "mean_30d"), Column("number", "feature", "ratio_7d"))
PARAMETERS = {"limit": 100.0, "share": 0.1}
BOOL_COLUMNS = (
    Column("bool", "field", "currency_known"),
    Column("bool", "feature", "is_new"),
    Hit("FAST"),
    Listed(Column("string", "field", "merchant_id", "text"), "watch"),
    Aggregate("bool", "last", (), 0, Column("bool", "outcome", "alerted")),
)
TEXT_COLUMNS = tuple(Column("string", "field", f"{form}_{k}", form) for form in FORMS for k in range(2))
HASHED = (Aggregate("string", "last", (), 0, TEXT_COLUMNS[2]), Aggregate("string", "first", (), 0, TEXT_COLUMNS[8]))
TIME_COLUMNS = (Column("time", "field", "occurred_at"), Column("time", "field", "received_at"))

ARITHMETIC = ("add", "subtract", "multiply", "divide", "remainder", "ratio")
UNARY = ("negate", "abs", "floor", "ceil", "round", "sqrt", "single")
COMPARISONS = ("less", "less_equal", "equal", "unequal")


class Generator:
    """Expressions and rows from one seed; without `log10` and `exp`, whose bits slow_engine cannot define."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def any(self, depth: int) -> Expression:
        """An expression of a random type; mostly a condition."""
        kind: Type = self.random.choice(("bool", "bool", "bool", "number", "number", "string", "time"))
        return self.of(kind, depth)

    def of(self, kind: Type, depth: int) -> Expression:
        """An expression of the type."""
        chance = self.random.random()
        if depth <= 0 or chance < 0.1:
            return self._leaf(kind)
        if chance < 0.2:
            return Apply(
                kind, "choose", (self.of("bool", depth - 1), self.of(kind, depth - 1), self.of(kind, depth - 1))
            )
        if chance < 0.28:
            return Apply(kind, "default", (self.of(kind, depth - 1), self.of(kind, depth - 1)))
        match kind:
            case "number":
                return self._number(depth)
            case "bool":
                return self._bool(depth)
            case "string":
                return self._text(depth)
            case _:
                return self._leaf(kind)

    def _leaf(self, kind: Type) -> Expression:
        pick = self.random.choice
        if kind == "number":
            leaf = pick((*NUMBER_COLUMNS, *SINGLE_COLUMNS, None, None, None))
            name = pick((*PARAMETERS, None, None, None))
            return leaf or (
                Column("number", "parameter", name) if name else Constant("number", self.number(finite=True))
            )
        if kind == "bool":
            return pick((*BOOL_COLUMNS, Constant("bool", pick((True, False)))))
        if kind == "time":
            return pick((*TIME_COLUMNS, *TIME_COLUMNS, Constant("time", float(pick(TIMES)))))
        return pick((*TEXT_COLUMNS, *HASHED, Constant("string", pick(TEXTS)), Constant("string", pick(TEXTS))))

    def _number(self, depth: int) -> Expression:
        operation = self.random.choice((*ARITHMETIC, *UNARY, "min", "max", "elapsed", "hour", "weekday", "size"))
        below = depth - 1
        if operation in ARITHMETIC:
            return Apply("number", operation, (self.of("number", below), self.of("number", below)))
        if operation in ("min", "max"):
            count = self.random.randint(1, 4)
            return Apply("number", operation, tuple(self.of("number", below) for _ in range(count)))
        if operation == "elapsed":
            return Apply("number", operation, (self.of("time", below), self.of("time", below)))
        if operation in ("hour", "weekday"):
            offset = Constant("number", float(self.random.choice(OFFSETS_MS)))
            return Apply("number", operation, (self.of("time", below), offset))
        if operation == "size":
            return Apply("number", operation, (self.readable(below),))
        return Apply("number", operation, (self.of("number", below),))

    def _bool(self, depth: int) -> Expression:
        below = depth - 1
        pick = self.random.choice
        kind = pick(
            ("logic", "logic", "logic", "not", "has", "number", "number", "time", "bool", "text", "in", "characters")
        )
        match kind:
            case "logic":
                return Apply("bool", pick(("and", "or")), (self.of("bool", below), self.of("bool", below)))
            case "not":
                return Apply("bool", "not", (self.of("bool", below),))
            case "has":
                return Apply("bool", "has", (self.any(below),))
            case "number":
                operation = pick(COMPARISONS) + pick(("", "_single"))
                return Apply("bool", operation, (self.of("number", below), self.of("number", below)))
            case "time":
                return Apply("bool", pick(COMPARISONS) + "_time", (self.of("time", below), self.of("time", below)))
            case "bool":
                return Apply(
                    "bool", pick(("equal_bool", "unequal_bool")), (self.of("bool", below), self.of("bool", below))
                )
            case "text":
                sides = (self.of("string", below), self.of("string", below))
                return Apply("bool", pick(("equal_string", "unequal_string")), sides)
            case "in":
                return self._in(below)
            case _:
                return self._reading(below)

    def _in(self, below: int) -> Expression:
        count = self.random.choice((0, 1, 3, 8, 9, 20))
        if self.random.random() < 0.5:
            texts = tuple(self.random.choice(TEXTS) for _ in range(count))
            return Apply("bool", "in_strings", (self.of("string", below), Constant("strings", texts)))
        numbers = tuple(self.number(finite=True) for _ in range(count))
        operation = self.random.choice(("in_numbers", "in_numbers_single"))
        return Apply("bool", operation, (self.of("number", below), Constant("numbers", numbers)))

    def _reading(self, below: int) -> Expression:
        operation = self.random.choice(("starts_with", "ends_with", "contains", "matches"))
        if operation == "matches":
            return Apply("bool", "matches", (self.readable(below), Constant("string", self.random.choice(PATTERNS))))
        return Apply("bool", operation, (self.readable(below), self.readable(below)))

    def _text(self, depth: int) -> Expression:
        if self.random.random() < 0.5:
            return Apply("string", "lower", (self.readable(depth - 1),))
        return Apply("string", "concat", (self.readable(depth - 1), self.readable(depth - 1)))

    def readable(self, depth: int) -> Expression:
        """A text whose characters can be read: nothing of which only the hash is kept."""
        depth = min(depth, 3)
        pick = self.random.choice
        kind = pick(("column", "column", "constant", "choose", "default", "lower", "concat")) if depth > 0 else "column"
        match kind:
            case "column":
                return pick(TEXT_COLUMNS)
            case "constant":
                return Constant("string", pick((*TEXTS, "")))
            case "lower":
                return Apply("string", kind, (self.readable(depth - 1),))
            case "choose":
                sides = (self.readable(depth - 1), self.readable(depth - 1))
                return Apply("string", kind, (self.of("bool", depth - 1), *sides))
            case _:
                return Apply("string", kind, (self.readable(depth - 1), self.readable(depth - 1)))

    def number(self, *, finite: bool = False) -> float:
        """A hard number, a small whole one, or one of any size. finite: as a literal of the language."""
        chance = self.random.random()
        if chance < 0.4:
            value = self.random.choice(NUMBERS)
        elif chance < 0.7:
            value = float(self.random.randint(-5, 120))
        elif chance < 0.85:
            value = round(self.random.uniform(-10, 1000), 2)
        else:
            value = float(struct.unpack("<d", self.random.randbytes(8))[0])
        return value if not finite or math.isfinite(value) else 7.25

    def row(self, gaps: float) -> Row:
        """A value of every leaf; a share of `gaps` is missing. Parameters are in it too."""
        row: dict[str, Value] = {}
        for leaf in NUMBER_COLUMNS:
            row[leaf_name(leaf)] = self.number()
        for leaf in SINGLE_COLUMNS:
            row[leaf_name(leaf)] = self._single()
        for leaf in BOOL_COLUMNS:
            row[leaf_name(leaf)] = self.random.random() < 0.5
        for leaf in TIME_COLUMNS:
            near = self.random.randint(1_500_000_000_000, 1_800_000_000_000)
            row[leaf_name(leaf)] = float(self.random.choice((*TIMES, near, near)))
        for column in TEXT_COLUMNS:
            row[leaf_name(column)] = in_form(column.form, self.random.choice(TEXTS))
        for aggregate in HASHED:
            assert isinstance(aggregate.value, Column)
            row[leaf_name(aggregate)] = in_form(aggregate.value.form, self.random.choice(TEXTS))
        row = {name: None if self.random.random() < gaps else value for name, value in row.items()}
        return row | {leaf_name(Column("number", "parameter", name)): value for name, value in PARAMETERS.items()}

    def _single(self) -> float:
        while True:
            try:
                return float(struct.unpack("<f", struct.pack("<f", self.number()))[0])
            except OverflowError:
                continue


def as_verified(expression: Expression | None) -> Any:
    """An expression as the stand-alone verifier has it: nested tuples."""
    match expression:
        case Constant(type=kind, value=value):
            return ("const", kind, value)
        case Column():
            return ("col", expression.type, expression.source, expression.name, expression.form)
        case Apply(type=kind, operation=operation, arguments=arguments):
            return ("apply", kind, operation, tuple(map(as_verified, arguments)))
        case Listed(value=value, effect=effect):
            return ("listed", effect, as_verified(value))
        case Hit(code=code):
            return ("hit", code)
        case Aggregate() as a:
            inner = as_verified(a.value), as_verified(a.condition)
            return ("agg", a.type, a.function, a.entity, a.window_ms, a.size, a.on_verdicts, *inner)
    return None
