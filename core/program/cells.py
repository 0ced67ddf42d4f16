"""What reading and updating aggregates share: the current bucket of each clock, keys, and a record's local entities.

Here and in `reading` and `updating`, a row of `Layout.table` is the place of its first number in the flat table.
"""

from __future__ import annotations

from core.jit import njit
from core.program import tables as t
from core.program.bits import mixed
from core.program.memory import Given, Ints

COUNT_BITS = 28
COUNT_MAX = (1 << COUNT_BITS) - 1
"""A bucket's first word holds its epoch above its count; a count stops there. Count 0: empty."""


@njit
def tick(table: Ints, clock: Ints, time: int) -> None:
    """Set the clocks, zeros at first, to the buckets of `time`. Divides only when a bucket ends."""
    at = 0
    for row in range(table[t.CLOCKS], table[t.GATES], t.COLUMNS):
        width = table[row + t.CLOCK_WIDTH]
        elapsed = time - clock[at]
        if elapsed < 0 or elapsed >= width:
            epoch = time // width
            clock[at] = epoch * width
            clock[at + 1] = epoch
            clock[at + 2] = epoch % table[row + t.CLOCK_BUCKETS]
        at += t.CLOCK_WORDS


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
def entity_key(table: Ints, g: int, column: int, given: Given, row: int) -> int:
    """The key of the event's local entity; 0 if a field is missing. column: KEY_OWN or KEY_INPUT."""
    key = 0
    for k in range(table[g + t.GROUP_KEYS], table[g + t.GROUP_KEYS_END], t.COLUMNS):
        at = table[k + column] * given.n + row
        if given.present[at] == 0:
            return 0
        key = mixed(key ^ key_of(given.ints[at], table[k + t.KEY_FORM]))
    return key if key != 0 else 1


@njit
def find(table: Ints, g: int, ints: Ints, record: int, key: int) -> int:
    """The entry that a local entity has in the account's table, −1 if none. record: the word at which the account's
    begins.
    """
    first = record + table[g + t.GROUP_BASE] + 1
    for j in range(table[g + t.GROUP_ENTRIES]):
        if ints[first + j] == key:
            return j
    return -1


@njit
def entry_begin(table: Ints, g: int, record: int, entry: int) -> int:
    """The word at which an entry begins."""
    first = record + table[g + t.GROUP_BASE] + 1 + 2 * table[g + t.GROUP_ENTRIES]
    return int(first + entry * table[g + t.GROUP_WORDS])
