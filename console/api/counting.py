"""Counts over millions of rows of the index, without sorting or grouping them all."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from console.api.index import DECISIONS, RULES_MAX

BUCKETS = 1 << 18
"""Of values, by the last bits of their hashes."""
GROUPED_MAX = 300_000
"""Rows that are grouped at once: so few gain nothing by buckets."""
_SLICE_BITS = 16


def most_frequent(rows: pl.DataFrame, n: int) -> pl.DataFrame:
    """The n most frequent values of the second column, how often they are, `count`, and where each stands first, `row`:
    of the first column, 0, 1, 2 … Values are hashes of texts; the empty text is none.

    Each bucket is counted for the value that is first in it; the other values of the bucket are grouped.
    """
    if len(rows) <= GROUPED_MAX:
        return grouped(rows, n)
    name = rows.columns[1]
    hashes = rows[name].to_numpy()
    bucket = hashes & (BUCKETS - 1)
    first = np.zeros(BUCKETS, np.uint32)
    first[bucket[::-1]] = np.arange(len(rows), dtype=np.uint32)[::-1]  # the last one written stays: the first row
    is_first = hashes[first][bucket] == hashes
    counts = np.bincount(bucket[is_first], minlength=BUCKETS)
    empty = hash("") & (BUCKETS - 1)
    if hashes[first[empty]] == hash(""):
        counts[empty] = 0
    chosen = np.flatnonzero(counts >= max(_nth_largest(counts, n), 1))
    found = {name: hashes[first[chosen]], "count": counts[chosen].astype(np.uint32), "row": first[chosen]}
    return _most(pl.concat([pl.DataFrame(found), grouped(rows.filter(~is_first), n)]), n)


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
    code = pl.col("at") // step * len(DECISIONS) + pl.col("decision")
    bins: dict[int, dict[str, int]] = {}
    for each, count in rows.select(code.alias("code")).group_by("code").len().sort("code").iter_rows():
        number, decision = divmod(each, len(DECISIONS))
        bins.setdefault(number * step, dict.fromkeys(DECISIONS, 0))[DECISIONS[decision]] = count
    return bins


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
