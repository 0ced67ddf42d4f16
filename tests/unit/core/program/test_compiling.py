"""From expressions to instructions: sharing, registers, determinism, bounds, constants and their forms."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest

from core.errors import BadInput
from core.hashing import HashKey, hash_strings
from core.program.codes import MOVING, Op
from core.program.compiling import compile_expressions
from core.program.evaluating import evaluate
from core.program.lifting import VARIANTS_MAX
from core.program.typed import Aggregate, Apply, Column, Constant, Expression, Hit, Listed
from tests.builders.expressions import PARAMETERS, Generator

KEY = HashKey(1, 2)
AMOUNT = Column("number", "field", "amount")
MERCHANT = Column("string", "field", "merchant_id", "text")
NOTE = Column("string", "field", "note", "raw")


def less(value: float, of: Expression = AMOUNT) -> Apply:
    """The condition value < of."""
    return Apply("bool", "less", (Constant("number", value), of))


def text(value: str) -> Constant:
    """A string constant."""
    return Constant("string", value)


def test_common_subexpressions_are_computed_once() -> None:
    """An expression that occurs in several places, or twice in one, is one instruction and one leaf."""
    twice = Apply("number", "multiply", (AMOUNT, AMOUNT))
    shared = Apply("number", "add", (twice, twice))
    code = compile_expressions([shared, less(5.0, shared), Apply("number", "negate", (twice,)), shared])
    assert code.leaves == (AMOUNT,)
    assert code.operations == 4
    assert [row[0] for row in code.instructions.tolist()].count(Op.LOAD_NUMBER) == 1
    values, _ = evaluate(code.bind(KEY, {}), np.array([[3.0]]), np.ones((1, 1), dtype=np.uint8))
    assert values[:, 0].tolist() == [18.0, 1.0, -9.0, 18.0]


def test_constants_that_compare_equal_stay_apart() -> None:
    """In Python 0.0 == −0.0, 1 == True: to the engine they are different constants."""
    over = [Apply("number", "divide", (AMOUNT, Constant("number", zero))) for zero in (0.0, -0.0)]
    values, _ = evaluate(compile_expressions(over).bind(KEY, {}), np.array([[1.0]]), np.ones((1, 1), dtype=np.uint8))
    assert values[:, 0].tolist() == [np.inf, -np.inf]
    sums = [Aggregate("number", "sum", (), 60_000, each) for each in over]
    assert sums[0] == sums[1] and len(compile_expressions(sums).leaves) == 2


def test_registers_are_used_again() -> None:
    """The registers follow from what is alive at once, not from the length of the code; no argument is overwritten."""
    chain: Expression = AMOUNT
    for k in range(200):
        chain = Apply("number", "add", (chain, Constant("number", float(k))))
    assert compile_expressions([chain]).registers <= 4
    assert compile_expressions([less(float(k)) for k in range(300)]).registers <= 4
    generator = Generator(5)
    code = compile_expressions([generator.any(6) for _ in range(100)])
    for op, destination, first, second, third, _ in code.instructions.tolist():
        if op not in MOVING:
            read = (first, second, third) if op == Op.CHOOSE else (first, second)
            assert destination not in read


def test_code_is_a_function_of_the_expressions() -> None:
    """Compiling again gives the same leaves, instructions and constants."""
    codes = []
    for _ in range(2):
        generator = Generator(9)
        codes.append(compile_expressions([generator.any(5) for _ in range(50)]))
    first, second = codes
    assert first.leaves == second.leaves and first.texts == second.texts and first.lists == second.lists
    assert first.instructions.tobytes() == second.instructions.tobytes()
    assert first.words.tobytes() == second.words.tobytes()


def test_leaves_come_in_the_order_of_first_use() -> None:
    """Columns, lists, hits and what reads characters are leaves; parameters are not."""
    listed, hit = Listed(MERCHANT, "watch"), Hit("FAST")
    size = Apply("number", "size", (Apply("string", "lower", (NOTE,)),))
    limit = Column("number", "parameter", "limit")
    code = compile_expressions(
        [
            Apply("bool", "and", (hit, listed)),
            Apply("bool", "less", (limit, size)),
            Apply("bool", "equal_string", (NOTE, text("x"))),
            Apply("bool", "and", (listed, Apply("bool", "less", (limit, AMOUNT)))),
        ]
    )
    assert code.leaves == (hit, listed, size, NOTE, AMOUNT)
    assert code.parameters == ((0, "limit"),)
    with pytest.raises(KeyError, match="limit"):
        code.bind(KEY, {})


def test_a_large_program_compiles_in_bounded_time_and_memory() -> None:
    """500 rules of 20 operations: under a second of CPU, under 64 MB, and words for their constants only."""
    generator = Generator(3)
    rules = [
        Apply("bool", "or", (generator.of("bool", 4), Apply("bool", "and", (less(k + 0.5), generator.of("bool", 5)))))
        for k in range(500)
    ]
    begin = time.process_time()
    code = compile_expressions(rules)
    bound = code.bind(KEY, PARAMETERS)
    taken = time.process_time() - begin
    tracemalloc.start()
    compile_expressions(rules)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert code.operations > 5_000
    assert taken < 1.0
    assert peak < 64 * 2**20
    assert bound.words.nbytes < 64 * code.operations


def test_hashes_follow_the_key_and_the_form() -> None:
    """A string constant is the keyed hash of its canonical form: another key, another word; lists are sorted by it."""
    items = Constant("strings", ("Shop 1", "shop 2 ", "SHOP 3", "shop 1"))
    code = compile_expressions([Apply("bool", "in_strings", (MERCHANT, items))])
    for key in (KEY, HashKey(3, 4)):
        wanted = sorted(hash_strings(["shop 1", "shop 2", "shop 3"], key).tolist())
        assert code.bind(key, {}).words.tolist() == wanted


@pytest.mark.parametrize("bad", ["a\x1fb", "\ud800"])
def test_texts_that_no_payment_can_have_are_refused(bad: str) -> None:
    """A constant with the separator of hashes, or that is no Unicode text, is refused wherever it stands."""
    for expression in (
        Apply("bool", "equal_string", (NOTE, text(bad))),
        Apply("bool", "in_strings", (NOTE, Constant("strings", ("a", bad)))),
        Apply("bool", "equal_string", (NOTE, Apply("string", "concat", (NOTE, text(bad))))),
    ):
        with pytest.raises(BadInput, match="no payment can have"):
            compile_expressions([expression])


def test_choices_among_texts_are_bounded() -> None:
    """An operation on characters that would choose among too many texts is refused, not compiled for ever."""
    chosen: Expression = Apply("string", "choose", (less(1.0), NOTE, MERCHANT))
    few = Apply("number", "size", (chosen,))
    assert len(compile_expressions([few]).leaves) == 3
    for _ in range(9):
        chosen = Apply("string", "concat", (chosen, chosen))
    with pytest.raises(BadInput, match=f"more than {VARIANTS_MAX}"):
        compile_expressions([Apply("number", "size", (chosen,))])
