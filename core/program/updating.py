"""One payment or verdict folded into its account's record, which nothing else changes. What the aggregates mean:
`core.program.folding`.
"""

from __future__ import annotations

import numpy as np

from core.features import spec
from core.jit import njit
from core.numeric import exp2
from core.program import tables as t
from core.program.bits import clear
from core.program.cells import COUNT_BITS, COUNT_MAX, entity_key, entry_begin, find, key_of, tick
from core.program.memory import Floats, Given, Ints, Words


@njit
def _update_ring(
    table: Ints, c: int, words: Words, base: int, epoch: int, spot: int, given: Given, row: int
) -> None:  # fmt: skip
    ints = words.ints
    n = table[c + t.CELL_NUMBER]
    head = base + table[c + t.CELL_HEAD]
    at = base + table[c + t.CELL_BODY] + spot * table[c + t.CELL_STRIDE]
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
    for p in range(table[c + t.CELL_PARTS], table[c + t.CELL_PARTS_END], t.COLUMNS):
        kind = table[p + t.PART_KIND]
        place = at + table[p + t.PART_OFFSET]
        source = table[p + t.PART_INPUT] * given.n + row
        if kind == t.DISTINCT:
            seen = ints[place] if count else 0
            if given.present[source]:
                seen |= 1 << ((key_of(given.ints[source], table[p + t.PART_FORM]) >> 58) & 63)
            ints[place] = seen
        else:
            _update_part(words.floats, place, kind, count, given.floats[source])


@njit
def _advance(ints: Ints, bits: int, n: int, steps: int, spot: int) -> None:
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
def _update_part(floats: Floats, place: int, kind: int, count: int, value: float) -> None:
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
def _update_other(table: Ints, c: int, words: Words, base: int, time: int, given: Given, row: int) -> None:
    """Add an event to a cell that is no ring."""
    kind = table[c + t.CELL_KIND]
    head = base + table[c + t.CELL_HEAD]
    first = table[c + t.CELL_PARTS]
    if kind in (t.LATEST, t.EARLIEST):
        held = words.ints[head] >> 1
        if words.ints[head] == 0 or (time >= held if kind == t.LATEST else time < held):
            words.ints[head] = time << 1 | 1
            for p in range(first, table[c + t.CELL_PARTS_END], t.COLUMNS):
                _keep(table, p, words, head, given, row)
        return
    source = table[first + t.PART_INPUT] * given.n + row
    if kind == t.RECENT:
        key = key_of(given.ints[source], table[first + t.PART_FORM])
        _touch(words.ints, head, table[c + t.CELL_NUMBER], key)
        return
    value = given.floats[source]
    if value - value != 0.0:
        return  # NaN or infinite
    if kind == t.DECAYED:
        _update_decayed(words, head, time, table[c + t.CELL_NUMBER], value)
    else:
        _update_typical(words, head, value)


@njit
def _keep(table: Ints, p: int, words: Words, head: int, given: Given, row: int) -> None:
    """Store a value as it is, but for the bits of NaN."""
    source = table[p + t.PART_INPUT] * given.n + row
    place = head + table[p + t.PART_OFFSET]
    if table[p + t.PART_FORM] == t.NUMBER and given.floats[source] != given.floats[source]:
        words.floats[place] = np.nan
    else:
        words.ints[place] = given.ints[source]


@njit
def _touch(ints: Ints, head: int, size: int, key: int) -> None:
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
def _update_decayed(words: Words, head: int, time: int, half_life: int, value: float) -> None:
    """West's weighted mean (1979); a late event enters with its decayed weight."""
    weight = 1.0
    last = words.ints[head] >> 1
    if words.ints[head] == 0:
        words.ints[head] = time << 1 | 1
    elif time >= last:
        words.floats[head + 1] *= exp2(-(time - last) / half_life)
        words.ints[head] = time << 1 | 1
    else:
        weight = exp2(-(last - time) / half_life)
    words.floats[head + 1] += weight
    if words.floats[head + 1] > 0.0:
        words.floats[head + 2] += (value - words.floats[head + 2]) * (weight / words.floats[head + 1])


@njit
def _update_typical(words: Words, head: int, value: float) -> None:
    """The running mean of `core.features.spec` that cuts outliers."""
    n = words.ints[head]
    typical = words.floats[head + 1]
    if n >= spec.TYPICAL_PLAIN:
        value = min(value, spec.TYPICAL_CUT * typical + 1.0)
    words.floats[head + 1] = typical + (value - typical) / min(n + 1, spec.TYPICAL_MEMORY)
    words.ints[head] = n + 1


@njit
def _enter(table: Ints, g: int, ints: Ints, record: int, key: int) -> int:
    """Make a local entity the most recently used, in the place of the least recently used if it is new. Returns the
    word at which its entry begins.
    """
    entries = table[g + t.GROUP_ENTRIES]
    counter = record + table[g + t.GROUP_BASE]
    used = counter + 1 + entries
    entry = find(table, g, ints, record, key)
    if entry < 0:
        entry = 0
        for j in range(1, entries):
            if ints[used + j] < ints[used + entry]:
                entry = j
        ints[counter + 1 + entry] = key
        begin = entry_begin(table, g, record, entry)
        for j in range(begin, begin + table[g + t.GROUP_WORDS]):
            ints[j] = 0
    ints[counter] += 1
    ints[used + entry] = ints[counter]
    return int(entry_begin(table, g, record, entry))


@njit
def _open(table: Ints, gates: Ints, given: Given, row: int, verdicts: int) -> None:
    """Set each gate to whether its condition is true and its value there, for events of its kind."""
    for q in range((table[t.KEYS] - table[t.GATES]) // t.COLUMNS):
        gate = table[t.GATES] + q * t.COLUMNS
        condition = table[gate + t.GATE_CONDITION]
        presence = table[gate + t.GATE_PRESENCE]
        passed = table[gate + t.GATE_VERDICTS] == verdicts
        if passed and condition >= 0:
            at = condition * given.n + row
            passed = given.present[at] != 0 and given.ints[at] != 0
        if passed and presence >= 0:
            passed = given.present[presence * given.n + row] != 0
        gates[q] = passed


@njit
def update_event(
    table: Ints,
    words: Words,
    record: int,
    time: int,
    clock: Ints,
    gates: Ints,
    given: Given,
    row: int,
    verdicts: int,
) -> None:
    """Fold one payment, or one verdict, into all its cells. record: the word at which the account's begins. Scratch:
    clock (`tick`); gates, one each.
    """
    tick(table, clock, time)
    _open(table, gates, given, row, verdicts)
    for g in range(table[t.GROUPS], table[t.CELLS], t.COLUMNS):
        if table[g + t.GROUP_VERDICTS] != verdicts:
            continue
        base = record
        if table[g + t.GROUP_ENTRIES]:
            key = entity_key(table, g, t.KEY_INPUT if verdicts else t.KEY_OWN, given, row)
            if key == 0:
                continue
            base = _enter(table, g, words.ints, record, key)
        words.ints[base + table[g + t.GROUP_EVENTS]] += 1
        for c in range(table[g + t.GROUP_CELLS], table[g + t.GROUP_CELLS_END], t.COLUMNS):
            if gates[table[c + t.CELL_GATE]] == 0:
                continue
            if table[c + t.CELL_KIND] == t.RING:
                at = table[c + t.CELL_CLOCK]
                _update_ring(table, c, words, base, clock[at + 1], clock[at + 2], given, row)
            else:
                _update_other(table, c, words, base, time, given, row)
