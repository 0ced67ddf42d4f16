"""Feature vectors as scores carry them: every bit of every float32, in half the bytes.

Most columns of a decision are zero, unknown, or a small count. A packed vector classifies each column in two bits and
spends bytes only on the rest:

    2 bytes           WIDTH, the number of columns, little-endian
    ⌈WIDTH / 4⌉       two bits per column, the first column in the lowest: 0 = +0.0, 1 = the quiet NaN 0x7fc00000,
                      2 = a whole number 1 … 255, 3 = anything else; unused bits are 0
    then by column    nothing, nothing, 1 byte, 4 bytes little-endian

A vector has exactly one packing, so equal vectors have equal bytes. Signed zeros and other NaNs are "anything else", so
every bit is restored (I3). Cost: 0.2 µs per vector either way, in batches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.errors import Corrupt
from core.jit import njit
from core.nans import MISSING

WIDTH_MAX = 65_535
_HEAD = 2
_ZERO, _UNKNOWN, _COUNT, _OTHER = 0, 1, 2, 3


@njit
def _code(bits: np.uint32, value: np.float32) -> int:
    if bits == np.uint32(0):
        return 0
    if bits == MISSING:
        return 1
    if value >= np.float32(1.0) and value <= np.float32(255.0) and value == np.float32(np.int64(value)):
        return 2
    return 3


@njit
def _pack(rows: NDArray[np.float32], out: NDArray[np.uint8], ends: NDArray[np.int64]) -> None:
    width = rows.shape[1]
    head = _HEAD + (width + 3) // 4
    at = 0
    for i in range(rows.shape[0]):
        bits = rows[i].view(np.uint32)
        start = at
        out[start] = np.uint8(width & 0xFF)
        out[start + 1] = np.uint8(width >> 8)
        for k in range(_HEAD, head):
            out[start + k] = 0
        at = start + head
        for c in range(width):
            code = _code(bits[c], rows[i, c])
            out[start + _HEAD + c // 4] |= np.uint8(code << (2 * (c % 4)))
            if code == 2:
                out[at] = np.uint8(np.int64(rows[i, c]))
                at += 1
            elif code == 3:
                for k in range(4):
                    out[at + k] = np.uint8((bits[c] >> np.uint32(8 * k)) & np.uint32(255))
                at += 4
        ends[i] = at


@njit
def _unpack(packed: NDArray[np.uint8], starts: NDArray[np.int64], out: NDArray[np.float32]) -> int:
    """Fills `out`. Returns the first row that is not a valid packing of its width, or -1."""
    width = out.shape[1]
    head = _HEAD + (width + 3) // 4
    for i in range(out.shape[0]):
        start, end = starts[i], starts[i + 1]
        if end - start < head or np.int64(packed[start]) + 256 * np.int64(packed[start + 1]) != width:
            return i
        at = start + head
        if width % 4 and packed[at - 1] >> np.uint8(2 * (width % 4)):
            return i
        bits = out[i].view(np.uint32)
        for c in range(width):
            code = (packed[start + _HEAD + c // 4] >> np.uint8(2 * (c % 4))) & np.uint8(3)
            if code == 0:
                bits[c] = np.uint32(0)
            elif code == 1:
                bits[c] = MISSING
            elif code == 2:
                if at + 1 > end:
                    return i
                out[i, c] = np.float32(packed[at])
                at += 1
            else:
                if at + 4 > end:
                    return i
                word = np.uint32(0)
                for k in range(4):
                    word |= np.uint32(packed[at + k]) << np.uint32(8 * k)
                bits[c] = word
                at += 4
        if at != end:
            return i
    return -1


def pack(rows: NDArray[np.float32]) -> list[bytes]:
    """Float32 (n, WIDTH ≤ WIDTH_MAX) → n packed vectors."""
    n, width = rows.shape
    if not n:
        return []
    out = np.empty(n * (_HEAD + (width + 3) // 4 + 4 * width), dtype=np.uint8)
    ends = np.empty(n, dtype=np.int64)
    _pack(np.ascontiguousarray(rows, dtype=np.float32), out, ends)
    content = out[: ends[-1]].tobytes()
    stops = ends.tolist()
    return [content[a:b] for a, b in zip([0, *stops[:-1]], stops, strict=True)]


def unpack(packed: Sequence[bytes], width: int) -> NDArray[np.float32]:
    """N packed vectors of `width` columns → float32 (n, width). Raises Corrupt if one is not valid."""
    out = np.empty((len(packed), width), dtype=np.float32)
    if not packed:
        return out
    starts = np.zeros(len(packed) + 1, dtype=np.int64)
    np.cumsum([len(vector) for vector in packed], out=starts[1:])
    content = np.frombuffer(b"".join(packed), dtype=np.uint8) if starts[-1] else np.zeros(1, np.uint8)
    bad = _unpack(content, starts, out)
    if bad >= 0:
        raise Corrupt(f"a score's features are not a valid packed vector of {width} columns: {packed[bad][:20]!r}")
    return out


def width_of(features: bytes) -> int:
    """The number of columns of a packed vector; 0 if there is none."""
    return int.from_bytes(features[:_HEAD], "little")


def plain(features: bytes) -> bytes:
    """A score's features as float32 little-endian bytes; b"" if it has none. Raises Corrupt."""
    return unpack([features], width_of(features)).astype("<f4", copy=False).tobytes() if features else features


def plain_rows(features: Sequence[bytes]) -> list[bytes | None]:
    """`plain` of many scores; None for one without a valid vector."""
    out: list[bytes | None] = list(features)
    by_width: dict[int, list[int]] = {}
    for i, content in enumerate(features):
        if content:
            by_width.setdefault(width_of(content), []).append(i)
    for width, rows in by_width.items():
        try:
            content = unpack([features[i] for i in rows], width).astype("<f4", copy=False).tobytes()
        except Corrupt:
            for i in rows:
                out[i] = _or_none(features[i])
            continue
        for k, i in enumerate(rows):
            out[i] = content[4 * width * k : 4 * width * (k + 1)]
    return out


def _or_none(features: bytes) -> bytes | None:
    try:
        return plain(features)
    except Corrupt:
        return None


def wire_rows(vectors: Sequence[bytes | None]) -> list[bytes | None]:
    """The inverse of `plain_rows`: vectors as scores carry them."""
    out = list(vectors)
    by_length: dict[int, list[int]] = {}
    for i, content in enumerate(vectors):
        if content and len(content) % 4 == 0 and len(content) <= 4 * WIDTH_MAX:
            by_length.setdefault(len(content), []).append(i)
    for length, rows in by_length.items():
        joined = b"".join(vectors[i] or b"" for i in rows)
        packed = pack(np.frombuffer(joined, dtype="<f4").reshape(len(rows), length // 4))
        for i, content in zip(rows, packed, strict=True):
            out[i] = content
    return out


def vector(features: bytes) -> NDArray[np.float32]:
    """A score's features, float32 (WIDTH,). Raises Corrupt."""
    return np.frombuffer(plain(features), dtype="<f4").astype(np.float32)
