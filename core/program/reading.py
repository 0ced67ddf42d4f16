"""All aggregates before one payment, from its account's record: reads only. What they mean: `core.program.folding`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.features.kernel import LINEAR_COUNT
from core.jit import njit
from core.program import tables as t
from core.program.bits import set_bits, trailing_zeros
from core.program.cells import COUNT_BITS, COUNT_MAX, entry_begin, find, key_of, tick


@njit
def _gather(
    ints: NDArray[np.int64], head: int, body: int, stride: int, n: int, epoch: int, places: NDArray[np.int64]
) -> int:
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
def _total(floats: NDArray[np.float64], places: NDArray[np.int64], found: int, offset: int) -> float:
    total = 0.0
    for i in range(found):
        total += floats[places[i] + offset]
    return total


@njit
def _extreme(floats: NDArray[np.float64], places: NDArray[np.int64], found: int, offset: int, largest: bool) -> float:
    value: float = floats[places[0] + offset]
    for i in range(1, found):
        other = floats[places[i] + offset]
        if (other > value if largest else other < value) or other != other:
            value = other
    return value


@njit
def _deviation(
    ints: NDArray[np.int64], floats: NDArray[np.float64], places: NDArray[np.int64], found: int, offset: int
) -> float:
    """Square root of the mean squared deviation, by Chan's merge of the buckets' (count, mean, squares)."""
    count = ints[places[0]] & COUNT_MAX
    mean = floats[places[0] + offset]
    squares = floats[places[0] + offset + 1]
    for i in range(1, found):
        more = ints[places[i]] & COUNT_MAX
        delta = floats[places[i] + offset] - mean
        both = count + more
        mean += delta * (more / both)
        squares += floats[places[i] + offset + 1] + delta * delta * (count * (more / both))
        count = both
    return float(np.sqrt(max(squares, 0.0) / count)) if squares == squares else np.nan


@njit
def _distinct(ints: NDArray[np.int64], places: NDArray[np.int64], found: int, offset: int) -> float:
    seen = 0
    for i in range(found):
        seen |= ints[places[i] + offset]
    return float(LINEAR_COUNT[set_bits(seen)])


@njit
def _put(out: NDArray[np.float64], valid: NDArray[np.uint8], place: int, row: int, value: float, there: bool) -> None:
    if not there:
        value = 0.0
    elif value != value:
        value = np.nan  # one NaN pattern: the sign bit of inf − inf depends on the processor
    out[place, row] = value
    valid[place, row] = there


@njit
def _read_ring(
    table: NDArray[np.int64],
    c: int,
    ints: NDArray[np.int64],
    floats: NDArray[np.float64],
    base: int,
    epoch: int,
    places: NDArray[np.int64],
    row: int,
    out: NDArray[np.float64],
    valid: NDArray[np.uint8],
) -> int:
    """Everything that is read from one ring; returns the count."""
    found = _gather(
        ints,
        base + table[c, t.CELL_HEAD],
        base + table[c, t.CELL_BODY],
        table[c, t.CELL_STRIDE],
        table[c, t.CELL_NUMBER],
        epoch,
        places,
    )
    count = 0
    for i in range(found):
        count += ints[places[i]] & COUNT_MAX
    summed = -1
    total = 0.0
    for r in range(table[c, t.CELL_READS], table[c, t.CELL_READS_END]):
        function = table[r, t.OUT_FUNCTION]
        offset = table[r, t.OUT_OFFSET]
        there = count > 0
        value = 0.0
        if function == t.READ_COUNT:
            value = float(count)
            there = True
        elif function == t.READ_SUM or function == t.READ_MEAN:
            if summed != offset:
                total = _total(floats, places, found, offset)
                summed = offset
            if function == t.READ_SUM:
                value = total
                there = True
            elif there:
                value = total / count
        elif function == t.READ_DISTINCT:
            value = _distinct(ints, places, found, offset)
            there = True
        elif there:
            if function == t.READ_STD:
                value = _deviation(ints, floats, places, found, offset)
            else:
                value = _extreme(floats, places, found, offset, function == t.READ_MAX)
        _put(out, valid, table[r, t.OUT_PLACE], row, value, there)
    return count


@njit
def _read_other(
    table: NDArray[np.int64],
    c: int,
    ints: NDArray[np.int64],
    floats: NDArray[np.float64],
    base: int,
    known: bool,
    time: int,
    own: NDArray[np.int64],
    present: NDArray[np.uint8],
    row: int,
    out: NDArray[np.float64],
    out_ints: NDArray[np.int64],
    valid: NDArray[np.uint8],
) -> None:
    """Everything that is read from a cell that is no ring."""
    kind = table[c, t.CELL_KIND]
    head = base + table[c, t.CELL_HEAD]
    for r in range(table[c, t.CELL_READS], table[c, t.CELL_READS_END]):
        place = table[r, t.OUT_PLACE]
        there = ints[head] != 0
        if kind == t.DECAYED:
            _put(out, valid, place, row, floats[head + 2], there)
        elif kind == t.TYPICAL:
            _put(out, valid, place, row, floats[head + 1], there)
        elif kind == t.RECENT:
            there = known and present[table[r, t.OUT_OWN], row] != 0
            fresh = 1.0
            if there:
                key = key_of(own[table[r, t.OUT_OWN], row], table[r, t.OUT_FORM])
                for j in range(head, head + table[c, t.CELL_NUMBER]):
                    if ints[j] == key:
                        fresh = 0.0
                        break
            _put(out, valid, place, row, fresh, there)
        elif table[r, t.OUT_FUNCTION] == t.READ_SINCE:
            _put(out, valid, place, row, max(time - (ints[head] >> 1), 0) / 1000.0, there)
        else:
            out_ints[place, row] = ints[head + table[r, t.OUT_OFFSET]] if there else 0
            valid[place, row] = there


@njit
def read_event(
    table: NDArray[np.int64],
    ints: NDArray[np.int64],
    blank: NDArray[np.int64],
    time: int,
    clock: NDArray[np.int64],
    places: NDArray[np.int64],
    counts: NDArray[np.int64],
    inputs: NDArray[np.int64],
    present: NDArray[np.uint8],
    row: int,
    out: NDArray[np.float64],
    valid: NDArray[np.uint8],
) -> None:
    """All aggregates before one payment. blank: the words of an entity without events."""
    tick(table, clock, time)
    first = table[0, t.CELLS]
    for g in range(table[0, t.GROUPS], table[0, t.CELLS]):
        held, base = ints, 0
        if table[g, t.GROUP_ENTRIES]:
            _, entry = find(table, g, ints, t.KEY_OWN, inputs, present, row)
            if entry < 0:
                held = blank
            else:
                base = entry_begin(table, g, entry)
        floats = held.view(np.float64)
        known = held[base + table[g, t.GROUP_EVENTS]] != 0
        for c in range(table[g, t.GROUP_CELLS], table[g, t.GROUP_CELLS_END]):
            if table[c, t.CELL_KIND] == t.RING:
                epoch = clock[table[c, t.CELL_CLOCK], 1]
                counts[c - first] = _read_ring(table, c, held, floats, base, epoch, places, row, out, valid)
            else:
                _read_other(
                    table, c, held, floats, base, known, time, inputs, present, row, out, out.view(np.int64), valid
                )
        for s in range(table[g, t.GROUP_SHARES], table[g, t.GROUP_SHARES_END]):
            whole = counts[table[s, t.SHARE_WHOLE]]
            share = counts[table[s, t.SHARE_PART]] / whole if whole else 0.0
            _put(out, valid, table[s, t.SHARE_PLACE], row, share, whole > 0)


@njit
def blank_words(table: NDArray[np.int64]) -> NDArray[np.int64]:
    """Words of a local entity without events."""
    words = 0
    for g in range(table[0, t.GROUPS], table[0, t.CELLS]):
        if table[g, t.GROUP_ENTRIES]:
            words = max(words, table[g, t.GROUP_WORDS])
    return np.zeros(words, dtype=np.int64)
