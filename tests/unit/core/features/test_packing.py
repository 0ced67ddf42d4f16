"""Packed feature vectors: every bit comes back, one packing a vector, and nothing else is taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Corrupt
from core.features import packing, spec
from tests.builders.decisions import features_of
from tests.builders.events import fuzz, stream

BITS = st.one_of(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 0x80000000, 0x7FC00000, 0xFFC00000, 0x7F800000, 0x7FC00001, 1]),
    st.integers(0, 300).map(lambda n: int(np.float32(n).view(np.uint32))),
    st.integers(0, 3000).map(lambda n: int(np.float32(n / 10).view(np.uint32))),
)


def rows_of(bits: list[list[int]]) -> np.ndarray:
    return np.array(bits, dtype=np.uint32).view(np.float32)


@fuzz(max_examples=200)
@given(st.integers(1, 80).flatmap(lambda w: st.lists(st.lists(BITS, min_size=w, max_size=w), min_size=1, max_size=5)))
def test_every_bit_comes_back(bits: list[list[int]]) -> None:
    """Unpacking gives the bits that were packed: signed zeros, every NaN, infinities, subnormals."""
    rows = rows_of(bits)
    packed = packing.pack(rows)
    again = packing.unpack(packed, rows.shape[1])
    assert again.view(np.uint32).tolist() == rows.view(np.uint32).tolist()
    for row, one in zip(rows, packed, strict=True):
        assert packing.vector(one).view(np.uint32).tolist() == row.view(np.uint32).tolist()
        assert packing.pack(row[None, :]) == [one]


@fuzz(max_examples=200)
@given(st.lists(BITS, min_size=1, max_size=9), st.integers(0, 200), st.integers(1, 255))
def test_what_is_not_a_packing_is_refused_or_another_vector(bits: list[int], place: int, change: int) -> None:
    """A changed, shortened or longer packing is Corrupt or unpacks to something else; never to the same vector."""
    rows = rows_of([bits])
    one = packing.pack(rows)[0]
    changed = bytearray(one)
    changed[place % len(one)] ^= change
    for content in (bytes(changed), one[:-1], one + b"\0"):
        try:
            again = packing.unpack([content], len(bits))
        except Corrupt:
            continue
        assert again.view(np.uint32).tolist() != rows.view(np.uint32).tolist()


def test_the_layout_never_changes() -> None:
    """These bytes stand in logs for ever."""
    row = np.array([0.0, np.nan, 7.0, 256.0, 0.5], dtype=np.float32)
    row[1:2].view(np.uint32)[0] = 0x7FC00000
    assert packing.pack(row[None, :])[0].hex() == "0500" + "e403" + "07" + "00008043" + "0000003f"


def test_logged_vectors_are_half_as_long() -> None:
    """Real vectors take at most six tenths of their plain bytes."""
    features = features_of(stream(5, 400))
    assert sum(map(len, packing.pack(features))) < 0.6 * features.nbytes and features.shape[1] == spec.WIDTH


def test_missing_and_computed_nan_stay_apart() -> None:
    """A missing value takes two bits and a NaN that was computed four bytes more; both come back as they were."""
    row = np.array([0x7FC00000, 0x7FC00001, 0x7FC00000, 0x7FC00001], dtype=np.uint32).view(np.float32)
    one = packing.pack(row[None, :])[0]
    assert one.hex() == "0400" + "dd" + 2 * "0100c07f"
    assert packing.vector(one).view(np.uint32).tolist() == row.view(np.uint32).tolist()
    assert np.frombuffer(packing.plain(one), "<u4").tolist() == row.view(np.uint32).tolist()
    assert packing.wire_rows(packing.plain_rows([one])) == [one]


def test_many_at_once_are_each_alone() -> None:
    """Scores of several widths, and damaged ones, in one call; and back."""
    rows = features_of(stream(6, 20))
    packed = packing.pack(rows)
    n = len(packed)
    wide = packing.pack(np.tile(rows[:2], (1, 9)))
    features = [*packed, b"plai", b"", packed[0][:-1], packing.pack(rows[:1, :5])[0], *wide]
    plain = packing.plain_rows(features)
    assert plain[:n] == [row.tobytes() for row in rows] and plain[n : n + 3] == [None, b"", None]
    assert plain[n + 3] == rows[0, :5].tobytes()
    assert plain[n + 4 :] == [np.tile(row, 9).tobytes() for row in rows[:2]]
    assert packing.wire_rows(plain) == [*packed, None, b"", None, *features[n + 3 :]]


def test_widths_of_more_than_a_byte() -> None:
    """The width stands before the vector, up to 65,535 columns; what is not a packing of its width is Corrupt."""
    for width in (255, 256, 257, packing.WIDTH_MAX):
        row = np.arange(width, dtype=np.float32)[None, :]
        (one,) = packing.pack(row)
        assert packing.width_of(one) == width and packing.vector(one).tolist() == row[0].tolist()
    assert packing.plain(b"") == b"" and packing.width_of(b"") == 0
    assert packing.vector(b"").tolist() == [] and packing.pack(np.empty((0, 3), np.float32)) == []
    with pytest.raises(Corrupt):
        packing.vector(b"\0")
    with pytest.raises(Corrupt):
        packing.unpack([b""], 3)
