"""One payment or verdict folded into its account's record, which nothing else changes. What the aggregates mean:
`core.program.folding`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.features import spec
from core.jit import njit
from core.numeric import exp2
from core.program import tables as t
from core.program.bits import clear
from core.program.cells import COUNT_BITS, COUNT_MAX, entry_begin, find, key_of, tick


@njit
def _update_ring(
    table: NDArray[np.int64],
    c: int,
    ints: NDArray[np.int64],
    floats: NDArray[np.float64],
    base: int,
    epoch: int,
    spot: int,
    inputs: NDArray[np.int64],
    numbers: NDArray[np.float64],
    present: NDArray[np.uint8],
    row: int,
) -> None:
    n = table[c, t.CELL_NUMBER]
    head = base + table[c, t.CELL_HEAD]
    at = base + table[c, t.CELL_BODY] + spot * table[c, t.CELL_STRIDE]
    held = ints[at] >> COUNT_BITS
    count = ints[at] & COUNT_MAX
    if count and held > epoch:
        return  # too late for this window: a newer bucket has taken the place
    newest = ints[head]
    if epoch > newest:
        _advance(ints, head + 1, n, epoch - newest, spot)
        ints[head] = newest = epoch
    if epoch > newest - n:
        ints[head + 1 + (spot >> 6)] |= 1 << (spot & 63)
    if held < epoch:
        count = 0
    ints[at] = (epoch << COUNT_BITS) | min(count + 1, COUNT_MAX)
    for p in range(table[c, t.CELL_PARTS], table[c, t.CELL_PARTS_END]):
        kind = table[p, t.PART_KIND]
        place = at + table[p, t.PART_OFFSET]
        source = table[p, t.PART_INPUT]
        if kind == t.DISTINCT:
            seen = ints[place] if count else 0
            if present[source, row]:
                seen |= 1 << ((key_of(inputs[source, row], table[p, t.PART_FORM]) >> 58) & 63)
            ints[place] = seen
        else:
            _update_part(floats, place, kind, count, numbers[source, row])


@njit
def _advance(ints: NDArray[np.int64], bits: int, n: int, steps: int, spot: int) -> None:
    """Clear the bits of the buckets that leave the newest window: the last `steps` up to `spot`."""
    if steps >= n:
        clear(ints, bits, 0, n)
        return
    start = spot + 1 - steps
    if start >= 0:
        clear(ints, bits, start, spot + 1)
    else:
        clear(ints, bits, 0, spot + 1)
        clear(ints, bits, start + n, n)


@njit
def _update_part(floats: NDArray[np.float64], place: int, kind: int, count: int, value: float) -> None:
    """Add a value to a bucket's part; count: the bucket's events before."""
    if value != value:
        value = np.nan
    if kind == t.SUM:
        total = (floats[place] if count else 0.0) + value
        floats[place] = total if total == total else np.nan
    elif kind == t.MOMENTS:
        mean = floats[place] if count else 0.0
        squares = floats[place + 1] if count else 0.0
        delta = value - mean
        mean += delta / (count + 1)
        squares += delta * (value - mean)
        floats[place] = mean if mean == mean else np.nan
        floats[place + 1] = squares if squares == squares else np.nan
    elif not count or value != value or (value > floats[place] if kind == t.MAX else value < floats[place]):
        floats[place] = value


@njit
def _update_other(
    table: NDArray[np.int64],
    c: int,
    ints: NDArray[np.int64],
    floats: NDArray[np.float64],
    base: int,
    time: int,
    inputs: NDArray[np.int64],
    numbers: NDArray[np.float64],
    row: int,
) -> None:
    kind = table[c, t.CELL_KIND]
    head = base + table[c, t.CELL_HEAD]
    first = table[c, t.CELL_PARTS]
    if kind == t.LATEST or kind == t.EARLIEST:
        held = ints[head] >> 1
        if ints[head] == 0 or (time >= held if kind == t.LATEST else time < held):
            ints[head] = time << 1 | 1
            for p in range(first, table[c, t.CELL_PARTS_END]):
                source = table[p, t.PART_INPUT]
                if table[p, t.PART_FORM] == t.NUMBER and numbers[source, row] != numbers[source, row]:
                    floats[head + table[p, t.PART_OFFSET]] = np.nan
                else:
                    ints[head + table[p, t.PART_OFFSET]] = inputs[source, row]
        return
    source = table[first, t.PART_INPUT]
    if kind == t.RECENT:
        _touch(ints, head, table[c, t.CELL_NUMBER], key_of(inputs[source, row], table[first, t.PART_FORM]))
        return
    value = numbers[source, row]
    if value - value != 0.0:
        return  # NaN or infinite
    if kind == t.DECAYED:
        _update_decayed(ints, floats, head, time, table[c, t.CELL_NUMBER], value)
        return
    n = ints[head]
    typical = floats[head + 1]
    if n >= spec.TYPICAL_PLAIN:
        value = min(value, spec.TYPICAL_CUT * typical + 1.0)
    floats[head + 1] = typical + (value - typical) / min(n + 1, spec.TYPICAL_MEMORY)
    ints[head] = n + 1


@njit
def _touch(ints: NDArray[np.int64], head: int, size: int, key: int) -> None:
    """Move a key to the front of a most-recently-used list, dropping the last if it is new."""
    at = head + size - 1
    for j in range(head, head + size):
        if ints[j] == key:
            at = j
            break
    for j in range(at, head, -1):
        ints[j] = ints[j - 1]
    ints[head] = key


@njit
def _update_decayed(
    ints: NDArray[np.int64], floats: NDArray[np.float64], head: int, time: int, half_life: int, value: float
) -> None:
    """West's weighted mean (1979); a late event enters with its decayed weight."""
    weight = 1.0
    last = ints[head] >> 1
    if ints[head] == 0:
        ints[head] = time << 1 | 1
    elif time >= last:
        floats[head + 1] *= exp2(-(time - last) / half_life)
        ints[head] = time << 1 | 1
    else:
        weight = exp2(-(last - time) / half_life)
    floats[head + 1] += weight
    if floats[head + 1] > 0.0:
        floats[head + 2] += (value - floats[head + 2]) * (weight / floats[head + 1])


@njit
def _enter(table: NDArray[np.int64], g: int, ints: NDArray[np.int64], key: int, entry: int) -> int:
    """Make a local entity the most recently used, in the place of the least recently used if it is new. Returns its
    entry.
    """
    entries = table[g, t.GROUP_ENTRIES]
    counter = table[g, t.GROUP_BASE]
    used = counter + 1 + entries
    if entry < 0:
        entry = 0
        for j in range(1, entries):
            if ints[used + j] < ints[used + entry]:
                entry = j
        ints[counter + 1 + entry] = key
        begin = entry_begin(table, g, entry)
        ints[begin : begin + table[g, t.GROUP_WORDS]] = 0
    ints[counter] += 1
    ints[used + entry] = ints[counter]
    return entry


@njit
def update_event(
    table: NDArray[np.int64],
    ints: NDArray[np.int64],
    time: int,
    clock: NDArray[np.int64],
    gates: NDArray[np.uint8],
    inputs: NDArray[np.int64],
    present: NDArray[np.uint8],
    row: int,
    verdicts: int,
) -> None:
    """Fold one payment, or one verdict, into all its cells."""
    tick(table, clock, time)
    first = table[0, t.GATES]
    for q in range(gates.shape[0]):
        condition = table[first + q, t.GATE_CONDITION]
        presence = table[first + q, t.GATE_PRESENCE]
        gates[q] = (
            table[first + q, t.GATE_VERDICTS] == verdicts
            and (condition < 0 or (present[condition, row] != 0 and inputs[condition, row] != 0))
            and (presence < 0 or present[presence, row] != 0)
        )
    floats = ints.view(np.float64)
    numbers = inputs.view(np.float64)
    for g in range(table[0, t.GROUPS], table[0, t.CELLS]):
        if table[g, t.GROUP_VERDICTS] != verdicts:
            continue
        base = 0
        if table[g, t.GROUP_ENTRIES]:
            key, entry = find(table, g, ints, t.KEY_INPUT if verdicts else t.KEY_OWN, inputs, present, row)
            if key == 0:
                continue
            base = entry_begin(table, g, _enter(table, g, ints, key, entry))
        ints[base + table[g, t.GROUP_EVENTS]] += 1
        for c in range(table[g, t.GROUP_CELLS], table[g, t.GROUP_CELLS_END]):
            if gates[table[c, t.CELL_GATE]] == 0:
                continue
            if table[c, t.CELL_KIND] == t.RING:
                which = table[c, t.CELL_CLOCK]
                _update_ring(
                    table, c, ints, floats, base, clock[which, 1], clock[which, 2], inputs, numbers, present, row
                )
            else:
                _update_other(table, c, ints, floats, base, time, inputs, numbers, row)
