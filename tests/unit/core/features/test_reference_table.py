"""Reference tables: bytes round trip, damage is Corrupt, and the join by key."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Corrupt
from core.features import spec
from core.features.reference import COLUMNS, FIRST_COLUMN, Kind, ReferenceTable, join
from core.hashing import hash_strings
from core.identity import FIXED
from tests.builders.events import T0, fuzz


def table(names: list[str], kind: Kind = "merchant") -> ReferenceTable:
    keys = np.sort(np.unique(hash_strings([n for n in names if n], FIXED.key)))
    width = COLUMNS[kind]
    return ReferenceTable(kind, T0, keys, np.arange(len(keys) * width, dtype=np.float32).reshape(-1, width))


@fuzz(max_examples=60)
@given(st.lists(st.text("abc", max_size=4), max_size=20), st.sampled_from(["merchant", "device"]))
def test_bytes_round_trip(names: list[str], kind: Kind) -> None:
    """A table's bytes read back to the same table and the same bytes, the empty table's too."""
    before = table(names, kind)
    after = ReferenceTable.from_bytes(before.to_bytes())
    assert (after.kind, after.as_of) == (kind, T0) and after.to_bytes() == before.to_bytes()
    assert np.array_equal(after.keys, before.keys) and np.array_equal(after.values, before.values)


def test_golden_bytes() -> None:
    """The layout is the one that stands in logs' blobs."""
    content = ReferenceTable(
        "device", 5, np.array([1, 2], np.uint64), np.array([[1, 2], [3, 4]], np.float32)
    ).to_bytes()
    assert content == (
        b'sentinel-reference-1\n{"kind":"device","as_of":5,"rows":2}\n'
        + bytes([1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0])
        + b"\0\0\x80?\0\0\0@\0\0@@\0\0\x80@"
    )


def test_damage_is_corrupt() -> None:
    """A cut or lengthened table, a damaged header, and keys out of order are refused.

    A flipped bit among the values can't be seen here: the table's SHA-256 is its name, and get_blob checks it.
    """
    good = table(["a", "b", "c"]).to_bytes()
    header_end = good.index(b"}\n") + 2
    for size in range(len(good)):
        with pytest.raises(Corrupt):
            ReferenceTable.from_bytes(good[:size])
    swapped = (
        good[:header_end]
        + good[header_end + 8 : header_end + 16]
        + good[header_end : header_end + 8]
        + good[header_end + 16 :]
    )
    bad = [
        good + b"\0",
        swapped,
        b"x" + good,
        good.replace(b"merchant", b"customer"),
        good.replace(b'"rows":3', b'"rows":-3'),
        good.replace(b'"rows":3', b'"rows":2'),
        good.replace(b'"rows":3', b'"rows":1e99'),
        good.replace(b"as_of", b"as_at"),
        good.replace(b'"rows":3', b'"rows":"3"'),
        good.replace(b"{", b"["),
        good.replace(b"kind", b"ki\xffd"),
        b"",
    ]
    for content in bad:
        with pytest.raises(Corrupt):
            ReferenceTable.from_bytes(content)


@fuzz(max_examples=80)
@given(
    st.lists(st.text("abc", max_size=3), max_size=15),
    st.lists(st.text("abcd", max_size=3), min_size=1, max_size=15),
    st.sampled_from(["merchant", "device"]),
)
def test_join_finds_what_is_there(names: list[str], wanted: list[str], kind: Kind) -> None:
    """Each row gets its key's values in the kind's columns only, or NaN if unknown or not in the table."""
    t = table(names, kind)
    features = np.full((len(wanted), spec.WIDTH), -1.0, dtype=np.float32)
    join(t, kind, hash_strings(wanted, FIXED.key), features)
    first = spec.index(FIRST_COLUMN[kind])
    rows = dict(zip(t.keys.tolist(), t.values, strict=True))
    for row, name in zip(features, wanted, strict=True):
        key = int(hash_strings([name], FIXED.key)[0])
        expected = rows.get(key, np.full(COLUMNS[kind], np.nan)) if name else np.full(COLUMNS[kind], np.nan)
        np.testing.assert_array_equal(row[first : first + COLUMNS[kind]], expected)
        assert (np.delete(row, range(first, first + COLUMNS[kind])) == -1.0).all()
    join(None, kind, hash_strings(wanted, FIXED.key), features)
    assert np.isnan(features[:, first : first + COLUMNS[kind]]).all()


def test_the_unknown_is_never_found() -> None:
    """A table that holds key 0, which no name has, still gives NaN where the merchant is unknown."""
    odd = ReferenceTable("merchant", T0, np.array([0, 5], np.uint64), np.ones((2, COLUMNS["merchant"]), np.float32))
    features = np.zeros((1, spec.WIDTH), dtype=np.float32)
    join(odd, "merchant", hash_strings([""], FIXED.key), features)
    assert np.isnan(features[0, spec.index("merchant_count_1d")])
