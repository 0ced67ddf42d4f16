"""The engine on values chosen by hand; tests/unit/core/program/test_oracle.py has random ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from core.hashing import HashKey, hash_strings
from core.program.codes import CODES
from core.program.compiling import compile_expressions
from core.program.evaluating import NAN, evaluate
from core.program.typed import OPERATIONS, Apply, Column, Constant, Expression, Type

KEY = HashKey(1, 2)
INF = math.inf
TYPES: dict[str, Type] = {"number": "number", "bool": "bool", "string": "string", "time": "time"}


def word(value: object) -> float:
    """A value as a register holds it."""
    if isinstance(value, str):
        return float(hash_strings([value], KEY).view(np.float64)[0])
    return NAN if value != value else float(value)  # type: ignore[arg-type]


def run(expression: Expression, *rows: tuple[object, ...]) -> list[object]:
    """The expression's value for each row of values of its leaves; None stands for what is missing."""
    code = compile_expressions([expression])
    values = np.array([[12.5 if each is None else word(each) for each in row] for row in rows]).T.copy()
    valid = np.array([[each is not None for each in row] for row in rows], dtype=np.uint8).T.copy()
    values, valid = values.reshape(-1, len(rows)), valid.reshape(-1, len(rows))
    out, is_there = evaluate(code.bind(KEY, {}), values, valid)
    return [x if there else None for x, there in zip(out[0].tolist(), is_there[0], strict=True)]


def apply(operation: str, *arguments: object) -> object:
    """One operation on values: columns of them, so that nothing is computed before it runs."""
    kinds = OPERATIONS[operation].arguments
    kinds = (*kinds, *kinds[-1:] * (len(arguments) - len(kinds)))
    of_values: Type = "string" if any(isinstance(each, str) for each in arguments) else "number"
    columns: list[Expression] = []
    row = []
    for k, (kind, value) in enumerate(zip(kinds, arguments, strict=True)):
        if isinstance(value, tuple):
            columns.append(Constant("strings" if kind == "strings" else "numbers", value))
        else:
            columns.append(Column(TYPES.get(kind, of_values), "field", f"x{k}", "raw" if of_values == "string" else ""))
            row.append(value)
    result = OPERATIONS[operation].result
    expression = Apply(TYPES.get(result, of_values), operation, tuple(columns))
    nothing = (None,) * len(row)
    alone, beside = run(expression, tuple(row))[0], run(expression, *[tuple(row)] * 20, nothing, tuple(row))
    assert {*map(repr, [*beside[:20], beside[-1]])} == {repr(alone)}
    return beside[-1]


CASES = [
    ("negate", (2.5,), -2.5),
    ("add", (0.1, 0.2), 0.30000000000000004),
    ("add", (INF, -INF), NAN),
    ("subtract", (1.0, 3.0), -2.0),
    ("multiply", (1e200, 1e200), INF),
    ("divide", (1.0, 0.0), INF),
    ("divide", (0.0, 0.0), NAN),
    ("remainder", (-7.5, 2.0), -1.5),
    ("remainder", (5.0, 0.0), NAN),
    ("ratio", (1.0, 4.0), 0.25),
    ("ratio", (1.0, 0.0), None),
    ("ratio", (1.0, -1.0), None),
    ("ratio", (1.0, NAN), None),
    ("ratio", (INF, INF), NAN),
    ("abs", (-3.0,), 3.0),
    ("min", (3.0, 2.0, 5.0), 2.0),
    ("min", (3.0, NAN), NAN),
    ("min", (0.0, -0.0), 0.0),
    ("min", (-0.0, 0.0), -0.0),
    ("max", (-0.0, 0.0), -0.0),
    ("max", (3.0, 2.0, 5.0), 5.0),
    ("max", (NAN, 3.0), NAN),
    ("floor", (-0.5,), -1.0),
    ("ceil", (0.5,), 1.0),
    ("round", (2.5,), 3.0),
    ("round", (-2.5,), -3.0),
    ("round", (0.49999999999999994,), 0.0),
    ("sqrt", (2.0,), math.sqrt(2.0)),
    ("sqrt", (-1.0,), NAN),
    ("log10", (1e-5,), -5.0),
    ("log10", (0.0,), -INF),
    ("exp", (0.0,), 1.0),
    ("single", (0.1,), float(np.float32(0.1))),
    ("single", (1e300,), INF),
    ("less", (1.0, 2.0), 1.0),
    ("less", (NAN, 2.0), 0.0),
    ("less_equal", (2.0, 2.0), 1.0),
    ("equal", (0.0, -0.0), 1.0),
    ("equal", (NAN, NAN), 0.0),
    ("unequal", (NAN, NAN), 1.0),
    ("less_single", (99.99, float(np.float32(99.99))), 0.0),
    ("less_equal_single", (float(np.float32(99.99)), 99.99), 1.0),
    ("equal_single", (0.1, float(np.float32(0.1))), 1.0),
    ("unequal_single", (0.1, float(np.float32(0.1))), 0.0),
    ("less_time", (1e12, 1e12 + 1), 1.0),
    ("less_equal_time", (1e12, 1e12), 1.0),
    ("equal_time", (1e12, 1e12), 1.0),
    ("unequal_time", (1e12, 1e12), 0.0),
    ("equal_bool", (1.0, 0.0), 0.0),
    ("unequal_bool", (1.0, 0.0), 1.0),
    ("equal_string", ("a", "a"), 1.0),
    ("equal_string", ("a", None), None),
    ("unequal_string", ("a", "b"), 1.0),
    ("in_numbers", (2.0, (1.0, 2.0)), 1.0),
    ("in_numbers", (NAN, (1.0, 2.0)), 0.0),
    ("in_numbers", (2.0, ()), 0.0),
    ("in_numbers", (17.0, tuple(map(float, range(20)))), 1.0),
    ("in_numbers", (17.5, tuple(map(float, range(20)))), 0.0),
    ("in_numbers_single", (float(np.float32(0.1)), (0.3, 0.1)), 1.0),
    ("in_strings", ("b", ("a", "b")), 1.0),
    ("in_strings", ("x7", tuple(f"x{k}" for k in range(40))), 1.0),
    ("in_strings", ("y", tuple(f"x{k}" for k in range(40))), 0.0),
    ("not", (1.0,), 0.0),
    ("not", (None,), None),
    ("and", (None, 0.0), 0.0),
    ("and", (0.0, None), 0.0),
    ("and", (None, 1.0), None),
    ("and", (None, None), None),
    ("or", (None, 1.0), 1.0),
    ("or", (1.0, None), 1.0),
    ("or", (0.0, None), None),
    ("choose", (1.0, 5.0, None), 5.0),
    ("choose", (0.0, 5.0, None), None),
    ("choose", (None, 5.0, 5.0), None),
    ("has", (None,), 0.0),
    ("has", (NAN,), 1.0),
    ("default", (None, 4.0), 4.0),
    ("default", (3.0, None), 3.0),
    ("default", (None, None), None),
    ("elapsed", (2500.0, 1000.0), 1.5),
    ("hour", (-1.0, 0.0), 23.0),
    ("hour", (0.0, 7_200_000.0), 2.0),
    ("hour", (NAN, 0.0), NAN),
    ("weekday", (0.0, 0.0), 3.0),
    ("weekday", (-1.0, 0.0), 2.0),
]


@pytest.mark.parametrize(("operation", "arguments", "wanted"), CASES)
def test_one_operation(operation: str, arguments: tuple[object, ...], wanted: object) -> None:
    """Each operation gives the value of its definition, to the last bit, in a column with and without gaps."""
    found = apply(operation, *arguments)
    assert (found is None) == (wanted is None)
    assert wanted is None or np.float64(found).tobytes() == np.float64(wanted).tobytes()


def test_every_operation_is_tested() -> None:
    """No op code is without a case above."""
    assert {operation for operation, _, _ in CASES} == set(CODES)


@pytest.mark.parametrize("constant", ["de", "DE", " de "])
def test_constants_take_the_form_of_their_column(constant: str) -> None:
    """The country 'de' is the country 'DE', and so through choose, default and in."""
    country = Column("string", "field", "country", "country")
    text = Constant("string", constant)
    for expression in (
        Apply("bool", "equal_string", (country, text)),
        Apply("bool", "equal_string", (text, country)),
        Apply("bool", "in_strings", (country, Constant("strings", ("FR", constant)))),
        Apply("bool", "equal_string", (Apply("string", "default", (country, text)), Constant("string", constant))),
        Apply("bool", "equal_string", (country, Apply("string", "default", (text, Constant("string", "x"))))),
    ):
        assert run(expression, ("DE",), ("FR",))[0] == 1.0
    plain = Column("string", "field", "note", "raw")
    assert run(Apply("bool", "equal_string", (plain, Constant("string", "de"))), ("de",), ("DE",)) == [1.0, 0.0]


def test_parameters_are_constants() -> None:
    """A parameter is no leaf; another value needs no compilation."""
    amount, limit = Column("number", "field", "amount"), Column("number", "parameter", "limit")
    code = compile_expressions([Apply("bool", "less", (limit, amount))])
    assert code.leaves == (amount,)
    values, valid = np.array([[5.0, 15.0]]), np.ones((1, 2), dtype=np.uint8)
    for value, wanted in ((10.0, [0.0, 1.0]), (1.0, [1.0, 1.0])):
        assert evaluate(code.bind(KEY, {"limit": value}), values, valid)[0][0].tolist() == wanted
