"""Counts by buckets and by patterns of bits, against grouping and looking at each row."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from console.api import counting
from console.api.index import DECISIONS
from tests.builders.events import fuzz

BUCKETS, N = 8, 5
HASHES = st.one_of(st.integers(-20, 20), st.integers(-(2**63), 2**63 - 1))
"""Few of them share buckets, many are equal, and 0 is that of no value."""


@fuzz()
@given(st.lists(HASHES, max_size=80))
def test_the_most_frequent_by_buckets_are_those_by_groups(hashes: list[int]) -> None:
    """Counts, order among equals and first rows, however many values share a bucket."""
    rows = pl.DataFrame({"row": range(len(hashes)), "merchant": hashes}, {"row": pl.UInt32, "merchant": pl.Int64})
    with patch.object(counting, "BUCKETS", BUCKETS), patch.object(counting, "GROUPED_MAX", 0):
        found = counting.most_frequent(rows, N)
    assert found.equals(counting.grouped(rows, N)), (found, rows)
    counts = {each: (-hashes.count(each), hashes.index(each)) for each in hashes if each != hash("")}
    assert found["merchant"].to_list() == sorted(counts, key=counts.__getitem__)[:N]


@fuzz()
@given(st.lists(st.one_of(st.just(0), st.integers(0, 2**64 - 1), st.integers(0, 63).map(lambda bit: 1 << bit))))
def test_each_bit_is_counted(rules: list[int]) -> None:
    """All 64 of them."""
    found = counting.hits(pl.Series(rules, dtype=pl.UInt64))
    assert found.tolist() == [sum(each >> bit & 1 for each in rules) for bit in range(64)]


@fuzz()
@given(st.lists(st.tuples(st.integers(-500, 10_000), st.integers(0, len(DECISIONS) - 1))), st.integers(1, 700))
def test_each_bin_has_its_decisions(rows: list[tuple[int, int]], step: int) -> None:
    """Ascending; a bin without a match is left out."""
    at, decision = np.array([each[0] for each in rows], np.int64), np.array([each[1] for each in rows], np.int8)
    with patch.object(counting, "STEPS_MAX", 5):
        found = counting.by_time(pl.DataFrame({"at": at, "decision": decision}), step)
    expected: dict[int, dict[str, int]] = {}
    for each, number in sorted(rows):
        counts = expected.setdefault(each // step * step, dict.fromkeys(DECISIONS, 0))
        counts[DECISIONS[number]] += 1
    assert list(found.items()) == list(expected.items())
