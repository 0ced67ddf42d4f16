"""What reading and updating aggregates share: the current bucket of each clock, keys, and a record's local entities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.jit import njit
from core.program import tables as t
from core.program.bits import mixed

COUNT_BITS = 28
COUNT_MAX = (1 << COUNT_BITS) - 1
"""A bucket's first word holds its epoch above its count; a count stops there. Count 0: empty."""


@njit
def key_of(word: int, form: int) -> int:
    """A value as a key, never 0: equal numbers have equal keys, and every bit of a key depends on the value."""
    if form == t.STRING:
        return word if word != 0 else 1
    if form == t.NUMBER:
        if word == -0x8000000000000000:  # -0.0
            word = 0
        elif word & 0x7FFFFFFFFFFFFFFF > 0x7FF0000000000000:  # any NaN
            word = 0x7FF8000000000000
    key = mixed(word)
    return key if key != 0 else 1


@njit
def tick(table: NDArray[np.int64], clock: NDArray[np.int64], time: int) -> None:
    """clock: int64 (clocks, 3), the bucket of `time`: its begin, epoch and place in the ring. Divides only when a
    bucket ends.
    """
    for c in range(clock.shape[0]):
        row = table[0, t.CLOCKS] + c
        width = table[row, t.CLOCK_WIDTH]
        elapsed = time - clock[c, 0]
        if elapsed < 0 or elapsed >= width:
            epoch = time // width
            clock[c, 0] = epoch * width
            clock[c, 1] = epoch
            clock[c, 2] = epoch % table[row, t.CLOCK_BUCKETS]


@njit
def find(
    table: NDArray[np.int64],
    g: int,
    ints: NDArray[np.int64],
    column: int,
    inputs: NDArray[np.int64],
    present: NDArray[np.uint8],
    row: int,
) -> tuple[int, int]:
    """(key, entry) of the event's local entity; key 0: it has none; entry −1: it is not in the table."""
    key = 0
    for k in range(table[g, t.GROUP_KEYS], table[g, t.GROUP_KEYS_END]):
        at = table[k, column]
        if present[at, row] == 0:
            return 0, -1
        key = mixed(key ^ key_of(inputs[at, row], table[k, t.KEY_FORM]))
    if key == 0:
        key = 1
    first = table[g, t.GROUP_BASE] + 1
    for j in range(table[g, t.GROUP_ENTRIES]):
        if ints[first + j] == key:
            return key, j
    return key, -1


@njit
def entry_begin(table: NDArray[np.int64], g: int, entry: int) -> int:
    """The word at which an entry of a local entity begins; 0 for the account itself."""
    entries = table[g, t.GROUP_ENTRIES]
    return table[g, t.GROUP_BASE] + 1 + 2 * entries + entry * table[g, t.GROUP_WORDS] if entries else 0
