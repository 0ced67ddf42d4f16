"""`standard@1` is the definition and the kernel only its compiled form: what the text says, evaluated by the general
engine over its own state, has the bits of the kernel's columns.
"""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from core import pipeline
from core.codec import decode_account_event, decode_transaction
from core.context import Context
from core.events import START, Position
from core.features import spec
from core.features.state import AccountState
from core.identity import FIXED
from core.program import library
from core.program.checked import CheckedProgram, Definition
from core.program.deciding import Program
from core.program.language import names_read
from core.program.plan import plan
from core.program.shipped import LIBRARIES
from core.program.typed import Column
from core.work import Run, Work
from tests.builders.decisions import context
from tests.builders.logs import PARTITIONS, filled

PREFIX = "text_"


def textual() -> tuple[CheckedProgram, list[str]]:
    """A program whose own features are the library's texts, under other names, and none of the kernel's columns."""
    expressions = library.library(LIBRARIES["standard@1"]).expressions
    names = [
        name
        for name, expression in expressions.items()
        if name in spec.NAMES and not isinstance(expression, Column) and not names_read(expression).library
    ]
    assert not any(names_read(expressions[name]).features for name in names)
    features = tuple(Definition(PREFIX + name, expressions[name]) for name in names)
    return CheckedProgram(digest="0" * 64, label="text@1.0.0", features=features), names


def test_most_columns_have_a_text_of_their_own() -> None:
    """The windows, ratios, decayed and typical values and novelties are defined in the language, not only named."""
    _, names = textual()
    assert len(names) >= 33, sorted(set(spec.NAMES) - set(names))


@pytest.mark.parametrize("seed", [1, 2])
def test_the_text_has_the_bits_of_the_kernel(seed: int) -> None:
    """Every column that the text defines, on a stream with late events, duplicates and verdicts, bit for bit."""
    checked, names = textual()
    program = Program(plan(checked, {}), FIXED.key, {})
    assert program.rings is not None
    base: Context = context()
    under = dataclasses.replace(base, program=program)
    log = filled(seed=seed)
    compared = 0
    for partition in range(PARTITIONS):
        state = AccountState(FIXED).hold([program.rings])
        transactions = log.read(partition, "transactions", START, 10**6)
        feedback = log.read(partition, "feedback", START, 10**6)
        cuts = [0, *sorted({len(transactions) // 3, 2 * len(transactions) // 3}), len(transactions)]
        for number, (a, b) in enumerate(pairwise(cuts)):
            said = feedback[number::3]
            run = Run(
                Position(1, b),
                [decode_account_event(entry.payload) for entry in said],
                [entry.id for entry in transactions[a:b]],
                [decode_transaction(entry.payload) for entry in transactions[a:b]],
            )
            rows = pipeline.decide(under, [Work(partition, state, [run])])[0].rows
            kept = ~rows.duplicate
            for name in names:
                kernel = rows.features[kept, spec.index(name)].view(np.uint32)
                text = rows.features[kept, program.plan.names.index(PREFIX + name)].view(np.uint32)
                different = np.flatnonzero(kernel != text)
                assert not len(different), (name, rows.features[kept][different[0]][[spec.index(name)]])
            compared += int(kept.sum())
    assert compared > 500
