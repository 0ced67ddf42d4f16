"""The compiled loops of `batch`, `deciding` and `rings`, apart from them: a change there compiles nothing anew."""

from __future__ import annotations

import numpy as np
from numba import carray  # type: ignore[attr-defined]
from numpy.typing import NDArray

from core.features.kernel import pointer
from core.features.remembered import CONFLICT
from core.jit import njit
from core.nans import COMPUTED, MISSING
from core.policy import decided
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
def fill(
    matrix: NDArray[np.float32],
    seen: NDArray[np.uint8],
    hashes: NDArray[np.uint64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    places: NDArray[np.int64],
    listed_hashes: NDArray[np.int64],
    listed_places: NDArray[np.int64],
    conflict: int,
    words: NDArray[np.float64],
    valid: NDArray[np.uint8],
) -> None:
    """Columns of the feature matrix, of lists that are empty, and, at place `conflict` unless it is −1, of IDs that
    came again with other content.
    """
    gather(matrix, rows, columns, places, words, valid)
    fill_presence(hashes, listed_hashes, listed_places, rows, words, valid)
    if conflict >= 0:
        for i in range(rows.shape[0]):
            words[conflict, i] = 1.0 if seen[rows[i]] == CONFLICT else 0.0
            valid[conflict, i] = np.uint8(1)


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
    rows: NDArray[np.int64],
    live: NDArray[np.uint8],
    shadow: NDArray[np.uint8],
    counts: NDArray[np.int64],
) -> None:
    """Whether each rule hits with effect or without, and the hits by effect. words, valid: one row for each rule, and
    perhaps others after these. owners: of all payments of the batch; rows: those that are settled.
    """
    whole = np.uint64(1) << np.uint64(32)
    for k in range(effects.shape[0]):
        for i in range(words.shape[1]):
            if valid[k, i] == 0 or words[k, i] == 0.0:
                continue
            if shares[k] == whole or (_mixed(owners[rows[i]] ^ salts[k]) >> np.uint64(32)) < shares[k]:
                live[i, k] = 1
                counts[i, effects[k]] += 1
            else:
                shadow[i, k] = 1


@njit
def conclude(
    words: NDArray[np.float64],
    valid: NDArray[np.uint8],
    decline: int,
    review: int,
    counts: NDArray[np.int64],
    asked: NDArray[np.bool_],
    decisions: NDArray[np.uint8],
) -> None:
    """What the program's `[decision]` asks for, and the decision. decline, review: places among the words, −1 if the
    program does not ask for that.
    """
    for i in range(words.shape[1]):
        declines = decline >= 0 and valid[decline, i] != 0 and words[decline, i] != 0.0
        reviews = review >= 0 and valid[review, i] != 0 and words[review, i] != 0.0
        asked[i] = declines or reviews
        decisions[i] = decided(declines, reviews, counts[i])


@njit
def grade(
    words: NDArray[np.float64],
    valid: NDArray[np.uint8],
    grades: NDArray[np.int8],
    alerts: NDArray[np.int64],
    levels: NDArray[np.int8],
) -> None:
    """The severities of alerts: the first condition that holds gives the grade, if any does."""
    for i in range(alerts.shape[0]):
        for k in range(grades.shape[0]):
            if valid[k, i] != 0 and words[k, i] != 0.0:
                levels[alerts[i]] = grades[k]
                break


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
