"""The aggregates of a program before each payment, and their update after it: one loop over events in order.

Works on what `core.program.layout` lays out. A ring has an epoch (receive time // width) for each bucket and means what
`core.features.spec` says of windows, late events included: an event counts in its own bucket unless a newer bucket has
taken its place, and a window sums the buckets of its n epochs that are still there, in ring order. A ring's head has a
bit for each bucket within the n newest epochs, so a payment in order reads only buckets that hold something. An event
without the value that is added up takes no place; the buckets of distinct, however, are those of count.

What a value that is not an ordinary number does: NaN counts, and sum, mean, min, max and std are NaN as long as it is
in the window; an infinity counts as IEEE 754 has it. Decayed means and typical values leave both out, since they would
never recover. A computed NaN is always the same bits. std is that of the population (÷ n), by the updates of Welford
(1962) in a bucket and of Chan, Golub and LeVeque (1983) between buckets.

`first` and `last` follow the receive time: of equal times the first, or last, to arrive. `since` is 0, not negative,
for a payment that comes late. `is_new` compares with the last n distinct values.

Inputs and outputs are words: the bits of a float64 for a number, a hash for a string, 0 or not 0 for a bool; what is
missing has validity 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.jit import njit
from core.program import tables as t
from core.program.reading import blank_words, read_event
from core.program.updating import update_event


@njit
def read(
    table: NDArray[np.int64],
    records: NDArray[np.uint64],
    rows: NDArray[np.int64],
    slots: NDArray[np.int32],
    times: NDArray[np.int64],
    inputs: NDArray[np.uint64],
    present: NDArray[np.uint8],
    out: NDArray[np.uint64],
    valid: NDArray[np.uint8],
) -> None:
    """All aggregates of some payments before any of these payments is folded; changes no record.

    table: of the layout. records: of ProgramState, uint64 (slots, words). rows: int64 (m,), which of the n payments.
    slots int32 (n,), times int64 (n,): receive times, epoch ms. inputs uint64, present uint8 (layout.inputs, n): only
    the rows of layout.own are read. out: uint64 (aggregates, n), valid uint8 (aggregates, n); only the columns of
    `rows` are written.
    """
    clock = np.zeros((table[0, t.GATES] - table[0, t.CLOCKS], 3), dtype=np.int64)
    places = np.empty(table[0, t.LONGEST], dtype=np.int64)
    counts = np.empty(table[0, t.PARTS] - table[0, t.CELLS], dtype=np.int64)
    blank = blank_words(table)
    held = records.view(np.int64)
    own = inputs.view(np.int64)
    results = out.view(np.float64)
    for i in range(rows.shape[0]):
        row = rows[i]
        read_event(table, held[slots[row]], blank, times[row], clock, places, counts, own, present, row, results, valid)


@njit
def update(
    table: NDArray[np.int64],
    records: NDArray[np.uint64],
    rows: NDArray[np.int64],
    slots: NDArray[np.int32],
    times: NDArray[np.int64],
    inputs: NDArray[np.uint64],
    present: NDArray[np.uint8],
    verdicts: bool,
) -> None:
    """Fold some payments, in order; all of layout.inputs are read. Or verdicts: then the inputs are those of
    layout.verdict_inputs. Arguments as those of `read`.
    """
    clock = np.zeros((table[0, t.GATES] - table[0, t.CLOCKS], 3), dtype=np.int64)
    gates = np.zeros(table[0, t.KEYS] - table[0, t.GATES], dtype=np.uint8)
    held = records.view(np.int64)
    words = inputs.view(np.int64)
    of_verdicts = 1 if verdicts else 0
    for i in range(rows.shape[0]):
        row = rows[i]
        update_event(table, held[slots[row]], times[row], clock, gates, words, present, row, of_verdicts)


@njit
def fold(
    table: NDArray[np.int64],
    records: NDArray[np.uint64],
    rows: NDArray[np.int64],
    slots: NDArray[np.int32],
    times: NDArray[np.int64],
    inputs: NDArray[np.uint64],
    present: NDArray[np.uint8],
    verdict_slots: NDArray[np.int32],
    verdict_times: NDArray[np.int64],
    verdict_inputs: NDArray[np.uint64],
    verdict_present: NDArray[np.uint8],
    out: NDArray[np.uint64],
    valid: NDArray[np.uint8],
) -> None:
    """Read and fold event by event: what `read` and `update` give one event at a time.

    rows: int64 (m,), the events in order: a payment as its number, the k-th verdict as −1 − k. Other arguments as those
    of `read`; verdict_slots int32 (v,), verdict_times int64 (v,), when they came, epoch ms; verdict_inputs uint64 and
    verdict_present uint8 (layout.verdict_inputs, v).
    """
    clock = np.zeros((table[0, t.GATES] - table[0, t.CLOCKS], 3), dtype=np.int64)
    places = np.empty(table[0, t.LONGEST], dtype=np.int64)
    counts = np.empty(table[0, t.PARTS] - table[0, t.CELLS], dtype=np.int64)
    gates = np.zeros(table[0, t.KEYS] - table[0, t.GATES], dtype=np.uint8)
    blank = blank_words(table)
    held = records.view(np.int64)
    words = inputs.view(np.int64)
    verdict_words = verdict_inputs.view(np.int64)
    results = out.view(np.float64)
    for i in range(rows.shape[0]):
        row = rows[i]
        if row < 0:
            row = -1 - row
            time = verdict_times[row]
            of = held[verdict_slots[row]]
            update_event(table, of, time, clock, gates, verdict_words, verdict_present, row, 1)
            continue
        of = held[slots[row]]
        time = times[row]
        read_event(table, of, blank, time, clock, places, counts, words, present, row, results, valid)
        update_event(table, of, time, clock, gates, words, present, row, 0)
