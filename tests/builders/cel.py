"""Typed expressions as texts of CEL, evaluated by Google's C++ implementation: the oracle of the language's semantics.

A missing value is a key that its map lacks, which CEL answers with an error. What CEL cannot say (fmod, float32, hours,
and whether any expression is missing) is cut out: its arguments are evaluated by CEL, it by slow_engine, and its value
is one more key.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from cel_expr_python import cel
from cel_expr_python.ext import ext_bindings, ext_math, ext_strings

from core.program.typed import Apply, Constant, Expression, Type
from tests.builders import slow_engine
from tests.builders.slow_engine import Row, Value, leaf_name

MAPS: dict[Type, str] = {"number": "n", "bool": "b", "string": "s", "time": "t"}
_TYPES = {"n": cel.Type.DOUBLE, "b": cel.Type.BOOL, "s": cel.Type.STRING, "t": cel.Type.INT}
ENVIRONMENT = cel.NewEnv(
    variables={name: cel.Type.Map(cel.Type.STRING, kind) for name, kind in _TYPES.items()},
    extensions=[ext_math.ExtMath(), ext_strings.ExtStrings(), ext_bindings.ExtBindings()],
)

INFIX = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "less": "<", "less_equal": "<=", "equal": "==",
    "unequal": "!=", "in_numbers": "in", "in_strings": "in", "and": "&&", "or": "||", "concat": "+",
}  # fmt: skip
CALLS = {"negate": "-", "not": "!"} | {name: f"math.{name}" for name in ("abs", "floor", "ceil", "round", "sqrt")}
METHODS = {
    "size": "size", "starts_with": "startsWith", "ends_with": "endsWith", "contains": "contains", "matches": "matches",
    "lower": "lowerAscii",
}  # fmt: skip
CUT = ("remainder", "single", "hour", "weekday", "has", "default")


@dataclass
class Program:
    """A settled expression in CEL, and what is cut out of it."""

    expression: Expression
    text: str = ""
    keys: dict[str, tuple[str, str, Callable[[Row], Value]]] = field(default_factory=dict)
    """By what they stand for: map, key and value of everything that the text reads."""
    bound: int = 0

    def __post_init__(self) -> None:
        """Write the text and compile it."""
        self.text = self._text(self.expression)
        self._compiled = ENVIRONMENT.compile(self.text)

    def value(self, row: Row) -> Value:
        """What CEL makes of a row; None for an error."""
        data: dict[str, dict[str, Value]] = {name: {} for name in _TYPES}
        for name, key, read in self.keys.values():
            if (value := read(row)) is not None:
                data[name][key] = int(value) if name == "t" else value
        result = self._compiled.eval(data=data)
        if result.type() == cel.Type.ERROR:
            assert "NOT_FOUND" in result.value(), (self.text, result.value())
            return None
        found = result.value()
        return float(found) if self.expression.type in ("number", "time") else found

    def _key(self, kind: Type, identity: str, read: Callable[[Row], Value]) -> str:
        name, key, _ = self.keys.setdefault(identity, (MAPS[kind], f"k{len(self.keys)}", read))
        return f"{name}.{key}"

    def _missing(self) -> str:
        return self._key("number", "nothing", lambda row: None)

    def _name(self) -> str:
        self.bound += 1
        return f"v{self.bound}"

    def _text(self, expression: Expression) -> str:
        match expression:
            case Constant():
                return literal(expression)
            case Apply(_, operation, arguments) if operation in CUT:
                return self._cut(expression)
            case Apply(_, operation, arguments) if operation.endswith("_single"):
                return self._rounded(operation.removesuffix("_single"), arguments)
            case Apply(_, operation, arguments):
                return self._applied(operation, list(map(self._text, arguments)))
            case _:
                name = leaf_name(expression)
                return self._key(expression.type, name, lambda row: row[name])

    def _rounded(self, operation: str, arguments: tuple[Expression, ...]) -> str:
        sides: list[Expression] = []
        for each in arguments:
            if isinstance(each, Constant) and isinstance(each.value, tuple):
                sides.append(Constant(each.type, tuple(slow_engine.single(float(item)) for item in each.value)))
            else:
                sides.append(Apply("number", "single", (each,)))
        return self._text(Apply("bool", operation, tuple(sides)))

    def _applied(self, operation: str, texts: list[str]) -> str:
        base = operation
        for kind in ("_time", "_bool", "_string"):
            base = base.removesuffix(kind)
        match base:
            case _ if base in INFIX:
                return f"({texts[0]} {INFIX[base]} {texts[1]})"
            case _ if base in CALLS:
                return f"{CALLS[base]}({texts[0]})"
            case _ if base in METHODS:
                call = f"({texts[0]}).{METHODS[base]}({', '.join(texts[1:])})"
                return f"double({call})" if base == "size" else call
            case "choose":
                return f"({texts[0]} ? {texts[1]} : {texts[2]})"
            case "elapsed":
                return f"(double({texts[0]} - {texts[1]}) / 1000.0)"
            case "ratio":
                y = self._name()
                return f"cel.bind({y}, {texts[1]}, {y} > 0.0 ? {texts[0]} / {y} : {self._missing()})"
            case "min" | "max":
                total = texts[0]
                for text in texts[1:]:
                    total = self._extreme("<" if base == "min" else ">", total, text)
                return total
            case _:
                raise AssertionError(operation)

    def _extreme(self, sign: str, first: str, second: str) -> str:
        x, y = self._name(), self._name()
        chosen = f"{y} {sign} {x} ? {y} : ({x} != {x} ? {x} : ({y} != {y} ? {y} : {x}))"
        return f"cel.bind({x}, {first}, cel.bind({y}, {second}, {chosen}))"

    def _cut(self, expression: Apply) -> str:
        parts = [Program(each) for each in expression.arguments]
        operation = expression.operation

        def read(row: Row) -> Value:
            values = [part.value(row) for part in parts]
            if operation == "has":
                return values[0] is not None
            if operation == "default":
                return values[1] if values[0] is None else values[0]
            return None if None in values else slow_engine.FUNCTIONS[operation](*values)

        return self._key(expression.type, repr(expression), read)


def literal(constant: Constant) -> str:
    """A constant as CEL writes it."""
    value = constant.value
    if isinstance(value, tuple):
        kind: Type = "number" if constant.type == "numbers" else "string"
        return f"[{', '.join(literal(Constant(kind, each)) for each in value)}]"
    if isinstance(value, str):
        return '"' + "".join(c if c.isascii() and c.isalnum() else f"\\U{ord(c):08x}" for c in value) + '"'
    if constant.type == "bool":
        return "true" if value else "false"
    if constant.type == "time":
        return f"({int(value)})"
    number = float(value)
    if not math.isfinite(number):
        return f'double("{number}")'
    text = repr(number)
    return f"({text if '.' in text or 'e' in text else text + '.0'})"
