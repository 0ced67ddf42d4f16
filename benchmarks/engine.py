"""What the engine of programs costs: an operation and row by batch size, a transaction by number of rules, compiling.

    python -m benchmarks.engine [--rounds 30] [--json PATH]

"conditions" are rules of two comparisons with constants and `&&` over 40 columns, "formulas" six arithmetic operations
and a comparison. Each is measured on full columns and with a tenth of the values missing. The opponent computes the
same operations column by column with NumPy, which is less: no missing values, one NaN pattern or common subexpressions.
Times are minima of many rounds in turn, because the machine may be shared; per operation, they contain what moves
constants, leaves and outputs.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.hashing import HashKey
from core.program.compiling import Bound, compile_expressions
from core.program.evaluating import evaluate
from core.program.typed import Apply, Column, Constant, Expression

COLUMNS = 40
SIZES = (10, 43, 200, 1_000, 10_000)
RULES = (1, 10, 30, 100, 300)
KEY = HashKey(1, 2)
NUMPY: dict[str, Callable[..., Any]] = {
    "less": np.less,
    "less_equal": np.less_equal,
    "and": np.logical_and,
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
}


def conditions(count: int, seed: int = 0) -> list[Expression]:
    """Rules as people write them: two comparisons and `&&`."""
    source = random.Random(seed)

    def compared() -> Expression:
        constant = Constant("number", round(source.random(), 4))
        return Apply("bool", source.choice(("less", "less_equal")), (constant, _column(source)))

    return [Apply("bool", "and", (compared(), compared())) for _ in range(count)]


def formulas(count: int, seed: int = 0) -> list[Expression]:
    """Six arithmetic operations over columns, and a comparison."""
    source = random.Random(seed)
    made: list[Expression] = []
    for _ in range(count):
        total: Expression = _column(source)
        for _ in range(6):
            operation = source.choice(("add", "subtract", "multiply", "divide"))
            total = Apply("number", operation, (total, _column(source)))
        made.append(Apply("bool", "less", (Constant("number", source.random()), total)))
    return made


def _column(source: random.Random) -> Column:
    return Column("number", "field", f"x{source.randrange(COLUMNS)}")


def with_numpy(expression: Expression, columns: dict[str, NDArray[np.float64]]) -> Any:
    """The opponent: one call of NumPy an operation."""
    match expression:
        case Apply(_, operation, arguments):
            return NUMPY[operation](*(with_numpy(each, columns) for each in arguments))
        case Constant():
            return expression.value
        case Column():
            return columns[expression.name]
        case _:
            raise TypeError(expression)


def fastest(works: list[Callable[[], object]], rounds: int) -> list[float]:
    """Seconds of each piece of work: the minimum over rounds, in each of which all have their turn."""
    best = [float("inf")] * len(works)
    for work in works:
        work()
    for _ in range(rounds):
        for k, work in enumerate(works):
            begin = time.perf_counter()
            work()
            best[k] = min(best[k], time.perf_counter() - begin)
    return best


def leaves(bound: Bound, rows: int, gaps: float) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Random columns for the code; a share of `gaps` is missing."""
    source = np.random.default_rng(rows)
    shape = (len(bound.code.leaves), rows)
    return source.random(shape), (source.random(shape) >= gaps).astype(np.uint8)


def by_size(expressions: list[Expression], rounds: int) -> list[dict[str, float]]:
    """A line for each batch size: ns an operation and row."""
    bound = compile_expressions(expressions).bind(KEY, {})
    lines = []
    for rows in SIZES:
        full, gaps = leaves(bound, rows, 0.0), leaves(bound, rows, 0.1)
        columns = {leaf.name: full[0][k] for k, leaf in enumerate(bound.code.leaves) if isinstance(leaf, Column)}
        seconds = fastest(
            [
                lambda full=full: evaluate(bound, *full),  # type: ignore[misc]
                lambda gaps=gaps: evaluate(bound, *gaps),  # type: ignore[misc]
                lambda columns=columns: [with_numpy(each, columns) for each in expressions],  # type: ignore[misc]
            ],
            rounds,
        )
        each_ns = [1e9 * taken / rows / bound.code.operations for taken in seconds]
        lines.append({"rows": rows, "full_ns": each_ns[0], "gaps_ns": each_ns[1], "numpy_ns": each_ns[2]})
    return lines


def by_rules(rounds: int, rows: int = 43) -> list[dict[str, float]]:
    """A line for each number of rules: compiling, and µs a call and ns a transaction in batches of `rows`."""
    lines = []
    for count in RULES:
        expressions = conditions(count)
        begin = time.perf_counter()
        bound = compile_expressions(expressions).bind(KEY, {})
        compiled = time.perf_counter() - begin
        full = leaves(bound, rows, 0.0)
        (taken,) = fastest([lambda bound=bound, full=full: evaluate(bound, *full)], rounds * 10)  # type: ignore[misc]
        lines.append(
            {"rules": count, "compile_ms": compiled * 1e3, "call_us": taken * 1e6, "transaction_ns": taken * 1e9 / rows}
        )
    return lines


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    for name in ("conditions", "formulas"):
        print(f"100 {name}, ns an operation and row\n    rows     full     gaps    NumPy  NumPy/full")
        for line in result[name]:
            full, gaps, opponent = line["full_ns"], line["gaps_ns"], line["numpy_ns"]
            print(f"{line['rows']:>8,} {full:>8.2f} {gaps:>8.2f} {opponent:>8.2f} {opponent / full:>11.1f}")
    print("conditions in batches of 43\n   rules    compile       call    transaction")
    for line in result["rules"]:
        compiled, call = f"{line['compile_ms']:>7.1f} ms", f"{line['call_us']:>7.1f} µs"
        print(f"{line['rules']:>8} {compiled} {call} {line['transaction_ns']:>11.0f} ns")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "conditions": by_size(conditions(100), arguments.rounds),
        "formulas": by_size(formulas(100), arguments.rounds),
        "rules": by_rules(arguments.rounds),
    }
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
