"""The compiled loops of `batch`, `deciding` and `rings`, apart from them: a change there compiles nothing anew."""

from __future__ import annotations

import numpy as np
from numba import carray  # type: ignore[attr-defined]
from numpy.typing import NDArray

from core.features.kernel import pointer
from core.jit import njit
from core.nans import COMPUTED, MISSING
from core.program.folding import fold


@njit
def gather(
    matrix: NDArray[np.float32],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    places: NDArray[np.int64],
    words: NDArray[np.float64],
    valid: NDArray[np.uint8],
) -> None:
    bits = matrix.view(np.uint32)
    for k in range(columns.shape[0]):
        column, place = columns[k], places[k]
        for i in range(rows.shape[0]):
            missing = bits[rows[i], column] == MISSING
            valid[place, i] = np.uint8(0) if missing else np.uint8(1)
            words[place, i] = 0.0 if missing else np.float64(matrix[rows[i], column])


@njit
def fill_presence(
    hashes: NDArray[np.uint64],
    which: NDArray[np.int64],
    places: NDArray[np.int64],
    rows: NDArray[np.int64],
    words: NDArray[np.float64],
    valid: NDArray[np.uint8],
) -> None:
    """Columns of zeros that are missing where the hash of a field is 0."""
    for k in range(places.shape[0]):
        for i in range(rows.shape[0]):
            words[places[k], i] = 0.0
            valid[places[k], i] = np.uint8(hashes[which[k], rows[i]] != np.uint64(0))


@njit
def store(
    words: NDArray[np.float64],
    valid: NDArray[np.uint8],
    rows: NDArray[np.int64],
    first: int,
    matrix: NDArray[np.float32],
) -> None:
    bits = matrix.view(np.uint32)
    for k in range(words.shape[0]):
        for i in range(words.shape[1]):
            value = words[k, i]
            if valid[k, i] == 0:
                bits[rows[i], first + k] = MISSING
            elif value != value:
                bits[rows[i], first + k] = COMPUTED
            else:
                matrix[rows[i], first + k] = np.float32(value)


@njit
def _mixed(x: np.uint64) -> np.uint64:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit
def settle(
    words: NDArray[np.float64],
    valid: NDArray[np.uint8],
    effects: NDArray[np.int64],
    shares: NDArray[np.uint64],
    salts: NDArray[np.uint64],
    owners: NDArray[np.uint64],
    live: NDArray[np.uint8],
    shadow: NDArray[np.uint8],
    counts: NDArray[np.int64],
) -> None:
    whole = np.uint64(1) << np.uint64(32)
    for k in range(words.shape[0]):
        for i in range(words.shape[1]):
            if valid[k, i] == 0 or words[k, i] == 0.0:
                continue
            if shares[k] == whole or (_mixed(owners[i] ^ salts[k]) >> np.uint64(32)) < shares[k]:
                live[i, k] = 1
                counts[i, effects[k]] += 1
            else:
                shadow[i, k] = 1


@njit
def fold_all(
    states: NDArray[np.int64],
    words: int,
    ends: NDArray[np.int64],
    table: NDArray[np.int64],
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
    """`fold` for several partitions. states: int64 (partitions, 2), address and slots of the records of each; 0 slots
    for a partition that does not hold them.
    """
    begin = 0
    for p in range(ends.shape[0]):
        if states[p, 1] > 0:
            records = carray(pointer(states[p, 0]), (states[p, 1], words), np.uint64)
            mine = rows[begin : ends[p]]
            fold(
                table, records, mine, slots, times, inputs, present,
                verdict_slots, verdict_times, verdict_inputs, verdict_present, out, valid,
            )  # fmt: skip
        begin = ends[p]
