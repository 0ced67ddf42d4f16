"""The table of op codes: numbers in the log's past mean what they meant."""

from __future__ import annotations

from core.program.codes import CODES, ENGINE, KINDS, Op
from core.program.typed import CHARACTERS, OPERATIONS

TABLE = """
load load_number store constant negate add subtract multiply divide remainder ratio abs min max floor ceil round sqrt
log10 exp single less less_equal equal unequal less_single less_equal_single equal_single unequal_single less_time
less_equal_time equal_time unequal_time equal_bool unequal_bool equal_string unequal_string in_numbers in_numbers_single
in_strings not and or choose has default elapsed hour weekday
"""


def test_numbers_never_change() -> None:
    """The table is exactly this one; who adds an operation adds a line at its end."""
    assert ENGINE == 1
    assert [(op.name.lower(), int(op)) for op in Op] == [(name, number) for number, name in enumerate(TABLE.split())]


def test_every_operation_has_a_code() -> None:
    """What the language can express, engine or characters compute."""
    assert sorted([*CODES, *CHARACTERS]) == sorted(OPERATIONS)
    assert len(KINDS) == len(Op)
