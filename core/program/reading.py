"""All aggregates before one payment, from its account's record: reads only. What they mean: `core.program.folding`."""

from __future__ import annotations

import numpy as np

from core.features.kernel import LINEAR_COUNT
from core.jit import njit
from core.program import tables as t
from core.program.bits import set_bits, trailing_zeros
from core.program.cells import COUNT_BITS, COUNT_MAX, entity_key, entry_begin, find, key_of, tick
from core.program.memory import Floats, Given, Ints, Results, Words


@njit
def _gather(ints: Ints, head: int, body: int, stride: int, n: int, epoch: int, places: Ints) -> int:
    """Put the words at which the window's buckets begin into `places`, in ring order. Returns how many there are."""
    found = 0
    oldest = epoch - n
    if epoch < ints[head]:  # late: also buckets that have left the newest window
        for j in range(n):
            at = body + j * stride
            held = ints[at] >> COUNT_BITS
            if ints[at] & COUNT_MAX != 0 and held > oldest and held <= epoch:
                places[found] = at
                found += 1
        return found
    for w in range((n + 63) >> 6):
        used = ints[head + 1 + w]
        while used != 0:
            at = body + (64 * w + trailing_zeros(used)) * stride
            used &= used - 1
            if ints[at] >> COUNT_BITS > oldest:
                places[found] = at
                found += 1
    return found


@njit
def _total(floats: Floats, places: Ints, found: int, offset: int) -> float:
    total = 0.0
    for i in range(found):
        total += floats[places[i] + offset]
    return total


@njit
def _extreme(floats: Floats, places: Ints, found: int, offset: int, largest: bool) -> float:
    value: float = floats[places[0] + offset]
    for i in range(1, found):
        other = floats[places[i] + offset]
        if (other > value if largest else other < value) or other != other:
            value = other
    return value


@njit
def _deviation(words: Words, places: Ints, found: int, offset: int) -> float:
    """Square root of the mean squared deviation, by Chan's merge of the buckets' (count, mean, squares)."""
    count = words.ints[places[0]] & COUNT_MAX
    mean = words.floats[places[0] + offset]
    squares = words.floats[places[0] + offset + 1]
    for i in range(1, found):
        more = words.ints[places[i]] & COUNT_MAX
        delta = words.floats[places[i] + offset] - mean
        both = count + more
        mean += delta * (more / both)
        squares += words.floats[places[i] + offset + 1] + delta * delta * (count * (more / both))
        count = both
    return float(np.sqrt(max(squares, 0.0) / count)) if squares == squares else np.nan


@njit
def _distinct(ints: Ints, places: Ints, found: int, offset: int) -> float:
    seen = 0
    for i in range(found):
        seen |= ints[places[i] + offset]
    return float(LINEAR_COUNT[set_bits(seen)])


@njit
def _put(out: Results, place: int, row: int, value: float, there: bool) -> None:
    at = place * out.n + row
    if not there:
        value = 0.0
    elif value != value:
        value = np.nan  # one NaN pattern: the sign bit of inf − inf depends on the processor
    out.floats[at] = value
    out.valid[at] = there


@njit
def _read_ring(
    table: Ints, c: int, words: Words, base: int, epoch: int, places: Ints, row: int, out: Results
) -> int:  # fmt: skip
    """Everything that is read from one ring; returns the count."""
    head, body = base + table[c + t.CELL_HEAD], base + table[c + t.CELL_BODY]
    found = _gather(words.ints, head, body, table[c + t.CELL_STRIDE], table[c + t.CELL_NUMBER], epoch, places)
    count = 0
    for i in range(found):
        count += words.ints[places[i]] & COUNT_MAX
    summed = -1
    total = 0.0
    for r in range(table[c + t.CELL_READS], table[c + t.CELL_READS_END], t.COLUMNS):
        function = table[r + t.OUT_FUNCTION]
        offset = table[r + t.OUT_OFFSET]
        there = count > 0
        value = 0.0
        if function == t.READ_COUNT:
            value = float(count)
            there = True
        elif function in (t.READ_SUM, t.READ_MEAN):
            if summed != offset:
                total = _total(words.floats, places, found, offset)
                summed = offset
            if function == t.READ_SUM:
                value = total
                there = True
            elif there:
                value = total / count
        elif function == t.READ_DISTINCT:
            value = _distinct(words.ints, places, found, offset)
            there = True
        elif there:
            if function == t.READ_STD:
                value = _deviation(words, places, found, offset)
            else:
                value = _extreme(words.floats, places, found, offset, function == t.READ_MAX)
        _put(out, table[r + t.OUT_PLACE], row, value, there)
    return count


@njit
def _read_other(
    table: Ints, c: int, words: Words, base: int, time: int, given: Given, row: int, out: Results
) -> None:  # fmt: skip
    """Everything that is read from a cell that is no ring."""
    kind = table[c + t.CELL_KIND]
    head = base + table[c + t.CELL_HEAD]
    for r in range(table[c + t.CELL_READS], table[c + t.CELL_READS_END], t.COLUMNS):
        place = table[r + t.OUT_PLACE]
        there = words.ints[head] != 0
        if kind == t.DECAYED:
            _put(out, place, row, words.floats[head + 2], there)
        elif kind == t.TYPICAL:
            _put(out, place, row, words.floats[head + 1], there)
        elif kind == t.RECENT:
            own = table[r + t.OUT_OWN] * given.n + row
            fresh = 1.0
            if given.present[own]:
                key = key_of(given.ints[own], table[r + t.OUT_FORM])
                for j in range(head, head + table[c + t.CELL_NUMBER]):
                    if words.ints[j] == key:
                        fresh = 0.0
                        break
            _put(out, place, row, fresh, given.present[own] != 0)
        elif table[r + t.OUT_FUNCTION] == t.READ_SINCE:
            _put(out, place, row, max(time - (words.ints[head] >> 1), 0) / 1000.0, there)
        else:
            out.ints[place * out.n + row] = words.ints[head + table[r + t.OUT_OFFSET]] if there else 0
            out.valid[place * out.n + row] = there


@njit
def _read_nothing(table: Ints, c: int, row: int, out: Results) -> None:
    """What is read from a cell of an entity without events."""
    for r in range(table[c + t.CELL_READS], table[c + t.CELL_READS_END], t.COLUMNS):
        function = table[r + t.OUT_FUNCTION]
        there = function in (t.READ_COUNT, t.READ_SUM, t.READ_DISTINCT)
        _put(out, table[r + t.OUT_PLACE], row, 0.0, there)


@njit
def read_event(
    table: Ints,
    words: Words,
    record: int,
    time: int,
    clock: Ints,
    counts: Ints,
    places: Ints,
    given: Given,
    row: int,
    out: Results,
) -> None:
    """All aggregates before one payment. record: the word at which the account's begins. Scratch: clock (`tick`);
    counts, one a cell; places, one a bucket of the longest ring.
    """
    tick(table, clock, time)
    cell = 0
    for g in range(table[t.GROUPS], table[t.CELLS], t.COLUMNS):
        base = record
        if table[g + t.GROUP_ENTRIES]:
            entry = find(table, g, words.ints, record, entity_key(table, g, t.KEY_OWN, given, row))
            base = entry_begin(table, g, record, entry) if entry >= 0 else -1
        known = base >= 0 and words.ints[base + table[g + t.GROUP_EVENTS]] != 0
        for c in range(table[g + t.GROUP_CELLS], table[g + t.GROUP_CELLS_END], t.COLUMNS):
            counts[cell] = 0
            if not known:
                _read_nothing(table, c, row, out)
            elif table[c + t.CELL_KIND] == t.RING:
                epoch = clock[table[c + t.CELL_CLOCK] + 1]
                counts[cell] = _read_ring(table, c, words, base, epoch, places, row, out)
            else:
                _read_other(table, c, words, base, time, given, row, out)
            cell += 1
        for s in range(table[g + t.GROUP_SHARES], table[g + t.GROUP_SHARES_END], t.COLUMNS):
            whole = counts[table[s + t.SHARE_WHOLE]]
            share = counts[table[s + t.SHARE_PART]] / whole if whole else 0.0
            _put(out, table[s + t.SHARE_PLACE], row, share, whole > 0)
