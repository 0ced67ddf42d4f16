"""Counts over millions of rows of the index, without sorting or grouping them all."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from console.api.index import DECISIONS, RULES_MAX
from core.jit import njit_unlocked

BUCKETS = 1 << 18
"""Of values, by the last bits of their hashes."""
GROUPED_MAX = 300_000
"""Rows that are grouped at once: so few gain nothing by buckets."""
_SLICE_BITS = 16
STEPS_MAX = 10_000
"""Of time that are counted one by one, and as many more as there are rows."""


def most_frequent(rows: pl.DataFrame, n: int) -> pl.DataFrame:
    """The n most frequent values of the second column, how often they are, `count`, and where each stands first, `row`:
    of the first column, 0, 1, 2 … Values are hashes of texts; the empty text is none.

    Each bucket is counted for the value that is first in it; the other values of the bucket are grouped.
    """
    if len(rows) <= GROUPED_MAX:
        return grouped(rows, n)
    name = rows.columns[1]
    hashes = rows[name].to_numpy()
    first, counts = np.zeros(BUCKETS, np.uint32), np.zeros(BUCKETS, np.int64)
    others = np.empty(len(rows), np.uint32)
    others = others[: _count_first(hashes, hash(""), np.zeros(BUCKETS, np.int64), first, counts, others)]
    chosen = np.flatnonzero(counts >= max(_nth_largest(counts, n), 1))
    found = {name: hashes[first[chosen]], "count": counts[chosen].astype(np.uint32), "row": first[chosen]}
    return _most(pl.concat([pl.DataFrame(found), grouped(rows[others], n)]), n)


@njit_unlocked
def _count_first(
    hashes: NDArray[np.int64],
    nothing: int,
    values: NDArray[np.int64],
    first: NDArray[np.uint32],
    counts: NDArray[np.int64],
    others: NDArray[np.uint32],
) -> int:
    """Count, by bucket, the value that is first in it: value, first row, how often. others: the rows of other values;
    returns how many. The length of the buckets is a power of two.
    """
    left = 0
    for row in range(len(hashes)):
        value = hashes[row]
        bucket = value & (len(counts) - 1)
        if value == nothing:
            continue
        if counts[bucket] == 0:
            values[bucket], first[bucket] = value, row
        elif values[bucket] != value:
            others[left] = row
            left += 1
            continue
        counts[bucket] += 1
    return left


def _nth_largest(counts: NDArray[np.int64], n: int) -> int:
    """By n passes: partitioning is slow where most counts are equal."""
    left = counts.copy()
    for _ in range(n - 1):
        left[left.argmax()] = 0
    return int(left.max())


def grouped(rows: pl.DataFrame, n: int) -> pl.DataFrame:
    """As `most_frequent`, by grouping all the rows."""
    name = rows.columns[1]
    groups = rows.filter(pl.col(name) != hash("")).group_by(name).agg(pl.len().alias("count"), pl.col("row").min())
    return _most(groups, n)


def _most(groups: pl.DataFrame, n: int) -> pl.DataFrame:
    return groups.sort(["count", "row"], descending=[True, False]).head(n)


def by_time(rows: pl.DataFrame, step: int) -> dict[int, dict[str, int]]:
    """Rows by `decision` in each step of `at` (ms) that has any, by the step's begin, ascending."""
    if not len(rows):
        return {}
    numbers = rows["at"].to_numpy() // step
    first, last = int(numbers.min()), int(numbers.max())
    if last - first > len(rows) + STEPS_MAX:  # a few rows far from each other
        different, numbers = np.unique(numbers, return_inverse=True)
        begins = different.tolist()
    else:
        numbers, begins = numbers - first, [*range(first, last + 1)]
    codes = numbers * len(DECISIONS) + rows["decision"].to_numpy()
    counts = np.bincount(codes, minlength=len(begins) * len(DECISIONS)).reshape(-1, len(DECISIONS)).tolist()
    found = zip(begins, counts, strict=True)
    return {number * step: dict(zip(DECISIONS, each, strict=True)) for number, each in found if any(each)}


def hits(column: pl.Series) -> NDArray[np.int64]:
    """How many rows have each bit of `rules` (n,): (64,)."""
    rules = column.to_numpy()
    rules = rules[rules != 0]
    found: list[np.int64] = []
    for first in range(0, RULES_MAX, _SLICE_BITS):
        part = (rules >> np.uint64(first)) & np.uint64((1 << _SLICE_BITS) - 1)
        counts = np.bincount(part.astype(np.int64), minlength=1 << _SLICE_BITS)  # by which of these bits a row has
        found += [counts.reshape(-1, 2, 1 << bit)[:, 1].sum() for bit in range(_SLICE_BITS)]
    return np.array(found)
