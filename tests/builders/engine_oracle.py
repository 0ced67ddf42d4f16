"""The engine against two oracles, bit for bit: Google's C++ CEL and a slow evaluator, on random expressions and rows.

python -m tests.builders.engine_oracle [--expressions 100000] [--seed 1]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.hashing import HashKey
from core.program.characters import Characters
from core.program.codes import CODES
from core.program.compiling import Code, compile_expressions
from core.program.evaluating import evaluate
from core.program.typed import CHARACTERS, Apply, Expression
from tests.builders import cel, slow_engine
from tests.builders.expressions import PARAMETERS, Generator
from tests.builders.slow_engine import Row, leaf_name

KEY = HashKey.of(bytes(range(16)).hex())
GROUP = 8
"""Expressions that are compiled together, so that they share what they have in common."""
ROWS = 4
DEPTHS = (2, 4, 6, 8)


@dataclass
class Outcome:
    """Values that were compared, and the first differences in words. missing: how many of the values are."""

    expressions: int = 0
    values: int = 0
    missing: int = 0
    unequal_slow: int = 0
    unequal_cel: int = 0
    operations: dict[str, int] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)


def leaf_columns(code: Code, rows: Sequence[Row]) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """The columns of the leaves as the engine takes them; missing values hold a random-looking word."""
    bits = np.full((len(code.leaves), len(rows)), 0x7FF0123456789ABC, dtype=np.uint64)
    valid = np.zeros(bits.shape, dtype=np.uint8)
    characters = Characters(code.leaves, KEY)
    texts = {column: [str(row[leaf_name(column)] or "") for row in rows] for column in characters.columns}
    read, is_read = characters.evaluate(texts, len(rows))
    place = 0
    for k, leaf in enumerate(code.leaves):
        if isinstance(leaf, Apply):
            bits[k], valid[k] = read.view(np.uint64)[place], is_read[place]
            place += 1
            continue
        for i, row in enumerate(rows):
            value = row[leaf_name(leaf)]
            if value is not None:
                bits[k, i], valid[k, i] = slow_engine.bits(value), 1
    return bits.view(np.float64), valid


def compare(expressions: Sequence[Expression], rows: Sequence[Row], outcome: Outcome) -> None:
    """Evaluate the expressions for the rows three times and add up what is equal."""
    code = compile_expressions(expressions)
    values, valid = evaluate(code.bind(KEY, PARAMETERS), *leaf_columns(code, rows))
    for expression, words, is_there in zip(expressions, values.view(np.uint64).tolist(), valid.tolist(), strict=True):
        settled = slow_engine.settled(expression)
        program = cel.Program(settled)
        outcome.expressions += 1
        for row, word, there in zip(rows, words, is_there, strict=True):
            slow, official = slow_engine.value_of(settled, row), program.value(row)
            outcome.values += 1
            outcome.missing += not there
            found = (bool(there), word)
            as_slow = found == (slow is not None, slow_engine.bits(slow))
            as_cel = found == (official is not None, slow_engine.bits(official))
            outcome.unequal_slow += not as_slow
            outcome.unequal_cel += not as_cel
            if not (as_slow and as_cel):
                shown = np.array(word, dtype=np.uint64).view(np.float64) if there else None
                used = {name: value for name, value in row.items() if name in repr(settled)}
                outcome.differences.append(
                    f"{settled}\nCEL {program.text}\nrow {used}\nengine {shown}, slow {slow}, CEL {official}"
                )


def count_operations(expression: Expression, counts: dict[str, int]) -> None:
    """Add the operations of an expression to the counts."""
    if isinstance(expression, Apply):
        counts[expression.operation] = counts.get(expression.operation, 0) + 1
        for each in expression.arguments:
            count_operations(each, counts)


def run(count: int, seed: int, *, differences_max: int = 5) -> Outcome:
    """Compare `count` expressions; ends early after some differences."""
    generator = Generator(seed)
    outcome = Outcome()
    for k in range(0, count, GROUP):
        depth = DEPTHS[k // GROUP % len(DEPTHS)]
        expressions = [generator.any(depth) for _ in range(min(GROUP, count - k))]
        rows = [generator.row(gaps) for gaps in (0.0, 0.1, 0.3, 0.6)[:ROWS]]
        if k // GROUP % 2:
            rows = [generator.row(0.0) for _ in range(ROWS)]
        compare(expressions, rows, outcome)
        for each in expressions:
            count_operations(each, outcome.operations)
        if len(outcome.differences) >= differences_max:
            break
    return outcome


def main() -> None:
    """Compare as many expressions as asked for and print the counts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--expressions", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    begin = time.perf_counter()
    outcome = run(arguments.expressions, arguments.seed)
    for difference in outcome.differences[:5]:
        print(difference, end="\n\n")
    never = sorted({*CODES, *CHARACTERS} - set(outcome.operations) - {"log10", "exp"})
    print(
        f"{outcome.expressions:,} expressions of {sum(outcome.operations.values()):,} operations, {outcome.values:,} "
        f"values ({outcome.missing:,} missing), {time.perf_counter() - begin:.0f} s\n"
        f"C++ CEL: {outcome.values - outcome.unequal_cel:,} equal to the last bit, {outcome.unequal_cel:,} unequal\n"
        f"slow evaluator: {outcome.values - outcome.unequal_slow:,} equal, {outcome.unequal_slow:,} unequal\n"
        f"operations that never occurred: {', '.join(never) or 'none'}"
    )


if __name__ == "__main__":
    main()
