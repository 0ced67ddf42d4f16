"""Op codes of the engine: which number stands for which operation. Pure data.

Numbers never change meaning and are never used again; new ones go last. A change of what an operation, or anything else
that no text in the log defines, computes is a new ENGINE, the version of the semantics that every score names.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from core.program.typed import CHARACTERS, OPERATIONS

ENGINE = 1
"""The version of all that decides and is no text in the log: the operations, the state of aggregates, the kernel's
columns and named functions (`core.features`), canonical forms, and the layout of a score's vector. Logged vectors of
another engine are not comparable, and its decisions can't be made again here. See docs/development.md.
"""


class Op(IntEnum):
    """The operations of typed.OPERATIONS, in capitals, without those that read characters; and before them what moves
    values. `min` and `max` of more than two arguments are several instructions.
    """

    LOAD = 0  # a leaf that is no number: its bits
    LOAD_NUMBER = 1  # a leaf that is a number: NaN becomes the engine's
    STORE = 2
    CONSTANT = 3
    NEGATE = 4
    ADD = 5
    SUBTRACT = 6
    MULTIPLY = 7
    DIVIDE = 8
    REMAINDER = 9
    RATIO = 10
    ABS = 11
    MIN = 12
    MAX = 13
    FLOOR = 14
    CEIL = 15
    ROUND = 16
    SQRT = 17
    LOG10 = 18
    EXP = 19
    SINGLE = 20
    LESS = 21
    LESS_EQUAL = 22
    EQUAL = 23
    UNEQUAL = 24
    LESS_SINGLE = 25
    LESS_EQUAL_SINGLE = 26
    EQUAL_SINGLE = 27
    UNEQUAL_SINGLE = 28
    LESS_TIME = 29
    LESS_EQUAL_TIME = 30
    EQUAL_TIME = 31
    UNEQUAL_TIME = 32
    EQUAL_BOOL = 33
    UNEQUAL_BOOL = 34
    EQUAL_STRING = 35
    UNEQUAL_STRING = 36
    IN_NUMBERS = 37
    IN_NUMBERS_SINGLE = 38
    IN_STRINGS = 39
    NOT = 40
    AND = 41
    OR = 42
    CHOOSE = 43
    HAS = 44
    DEFAULT = 45
    ELAPSED = 46
    HOUR = 47
    WEEKDAY = 48


CODES: dict[str, Op] = {name: Op[name.upper()] for name in OPERATIONS if name not in CHARACTERS}
"""The code of every operation that the engine computes."""

MOVING = (Op.LOAD, Op.LOAD_NUMBER, Op.STORE, Op.CONSTANT)


class Kind(IntEnum):
    """Which loop of `core.program.evaluating` an op code belongs to. Not part of the semantics."""

    MOVE = 0
    ARITHMETIC = 1
    FUNCTION = 2
    COMPARISON = 3
    IDENTITY = 4
    LIST = 5
    TIME = 6
    LOGIC = 7


def _kinds() -> NDArray[np.uint8]:
    kinds = np.empty(max(Op) + 1, dtype=np.uint8)
    for first, kind in (
        (Op.LOAD, Kind.MOVE),
        (Op.NEGATE, Kind.ARITHMETIC),
        (Op.FLOOR, Kind.FUNCTION),
        (Op.LESS, Kind.COMPARISON),
        (Op.EQUAL_STRING, Kind.IDENTITY),
        (Op.IN_NUMBERS, Kind.LIST),
        (Op.NOT, Kind.LOGIC),
        (Op.ELAPSED, Kind.TIME),
    ):
        kinds[first:] = kind
    kinds[Op.RATIO] = Kind.LOGIC
    kinds[Op.NOT] = Kind.IDENTITY
    kinds[Op.REMAINDER] = Kind.FUNCTION
    return kinds


KINDS = _kinds()
"""The kind of every op code: uint8 (codes,)."""
