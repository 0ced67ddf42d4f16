"""The engine against Google's C++ CEL and a slow evaluator, bit for bit (tests/builders/engine_oracle.py runs more)."""

from __future__ import annotations

import itertools
import random
import struct

import numpy as np
import pytest

from core.numeric import remainder_of
from core.program.characters import Characters
from core.program.codes import CODES
from core.program.compiling import compile_expressions
from core.program.evaluating import evaluate
from core.program.typed import CHARACTERS, Apply, Constant
from tests.builders import cel, slow_engine
from tests.builders.engine_oracle import KEY, leaf_columns, run
from tests.builders.expressions import NUMBERS, PARAMETERS, Generator


@pytest.mark.parametrize("seed", range(1, 5))
def test_random_expressions_have_the_bits_of_cel(seed: int) -> None:
    """Values and gaps of 600 random expressions, four rows each, are those of both oracles; all operations occur."""
    outcome = run(600, seed)
    assert outcome.differences == []
    assert outcome.expressions == 600
    assert {*CODES, *CHARACTERS} - set(outcome.operations) == {"log10", "exp"}
    assert 0.05 < outcome.missing / outcome.values < 0.5


def test_the_oracles_are_two() -> None:
    """CEL computes what the slow evaluator gives it only where CEL has no such operation."""
    x = Constant("number", 2.5)
    assert cel.Program(Apply("number", "round", (x,))).keys == {}
    assert cel.Program(Apply("number", "min", (x, x, x))).keys == {}
    assert len(cel.Program(Apply("number", "remainder", (x, x))).keys) == 1


@pytest.mark.parametrize("seed", range(3))
def test_batch_boundaries_do_not_matter(seed: int) -> None:
    """A batch of 2,500 rows, split anywhere, gives the same bits: alone, in pieces, and at once."""
    generator = Generator(seed)
    expressions = [generator.any(5) for _ in range(30)]
    code = compile_expressions(expressions)
    rows = [generator.row(generator.random.choice((0.0, 0.2))) for _ in range(250)]
    values, valid = leaf_columns(code, rows)
    values, valid = np.tile(values, 10), np.tile(valid, 10)
    bound = code.bind(KEY, PARAMETERS)
    whole, whole_valid = evaluate(bound, values, valid)
    cuts = sorted({0, 1, 2, 33, 500, 2500, *random.Random(seed).sample(range(2500), 20)})
    for first, last in itertools.pairwise(cuts):
        part, part_valid = evaluate(bound, values[:, first:last].copy(), valid[:, first:last].copy())
        assert part.tobytes() == whole[:, first:last].tobytes()
        assert part_valid.tobytes() == whole_valid[:, first:last].tobytes()


def test_missing_values_may_hold_anything() -> None:
    """What a leaf's column holds where its value is missing changes no bit of the result, which holds 0.0 there."""
    generator = Generator(7)
    code = compile_expressions([generator.any(5) for _ in range(60)])
    values, valid = leaf_columns(code, [generator.row(0.4) for _ in range(40)])
    bound = code.bind(KEY, PARAMETERS)
    wanted, wanted_valid = evaluate(bound, values, valid)
    other = np.where(valid == 1, values.view(np.uint64), np.uint64(2**64 - 3)).view(np.float64)
    found, found_valid = evaluate(bound, other, valid)
    assert found.tobytes() == wanted.tobytes() and found_valid.tobytes() == wanted_valid.tobytes()
    assert not found.view(np.uint64)[found_valid == 0].any()


def test_the_order_of_expressions_does_not_matter() -> None:
    """Registers are shared without a trace: each expression alone has the bits that it has among others."""
    generator = Generator(11)
    expressions = [generator.any(4) for _ in range(100)]
    rows = [generator.row(0.2) for _ in range(5)]

    def bits(k: list[int]) -> list[tuple[bytes, bytes]]:
        code = compile_expressions([expressions[each] for each in k])
        values, valid = evaluate(code.bind(KEY, PARAMETERS), *leaf_columns(code, rows))
        return [(row.tobytes(), mask.tobytes()) for row, mask in zip(values, valid, strict=True)]

    together = bits(list(range(100)))
    assert bits(list(range(100))[::-1]) == together[::-1]
    assert [bits([k])[0] for k in range(100)] == together


def test_remainder_is_exact() -> None:
    """The remainder of 200,000 pairs has the bits of C's fmod: hard numbers, equal exponents, far ones, subnormals."""
    source = random.Random(3)
    for _ in range(200_000):
        x, y = (source.choice(NUMBERS) if source.random() < 0.2 else _any_float(source) for _ in range(2))
        bits = remainder_of(*(np.uint64(struct.unpack("<Q", struct.pack("<d", z))[0]) for z in (x, y)))
        found = struct.unpack("<d", struct.pack("<Q", bits))[0]
        assert slow_engine.bits(found) == slow_engine.bits(slow_engine.remainder(x, y)), (x, y)


def _any_float(source: random.Random) -> float:
    kind = source.random()
    if kind < 0.4:
        return float(struct.unpack("<d", source.randbytes(8))[0])
    return source.uniform(-1, 1) * 2.0 ** source.randint(-1074, 1000 if kind < 0.6 else 10)


def test_a_leaf_is_computed_once_per_distinct_text() -> None:
    """Characters are read once for every distinct combination of texts, across batches."""
    generator = Generator(2)
    text = generator.readable(0)
    characters = Characters([Apply("number", "size", (text,))], KEY)
    (column,) = characters.columns
    values, valid = characters.evaluate({column: ["abc", "", "日本", "abc"]}, 4)
    assert values.tolist() == [[3.0, 0.0, 2.0, 3.0]] and valid.tolist() == [[1, 0, 1, 1]]
