"""Reference tables: what is known about merchants and devices across all partitions, immutable and content-addressed.

A projection over the whole log computes a table as of a moment of event time and publishes it as a control event.
Workers load it by digest, and each score names it through its control position (Flink calls this broadcast state). A
table's bytes:

    sentinel-reference-1\n  {"kind":…,"as_of":…,"rows":n}\n  keys: uint64 little-endian (n,) ascending  values: float32
    (n, columns)

Keys are `core.hashing.hash_strings` of the merchant's or device's ID with the log's key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.errors import UNDECODABLE, Corrupt
from core.features import spec
from core.jit import njit

Kind = Literal["merchant", "device"]
_KINDS: tuple[Kind, ...] = get_args(Kind)
_NAMES = {
    kind: [f.name for f in spec.FEATURES if f.window == "reference" and f.name.startswith(f"{kind}_")]
    for kind in _KINDS
}
FIRST_COLUMN: dict[Kind, str] = {kind: names[0] for kind, names in _NAMES.items()}
COLUMNS: dict[Kind, int] = {kind: len(names) for kind, names in _NAMES.items()}
"""A kind's columns are adjacent in the feature vector: the name of the first, and how many there are."""
_MAGIC = b"sentinel-reference-1\n"


class _Header(msgspec.Struct, frozen=True):
    kind: Kind
    as_of: int
    rows: int


@dataclass(frozen=True, slots=True)
class ReferenceTable:
    """`keys` uint64 (n,) strictly ascending, `values` float32 (n, COLUMNS[kind]), `as_of` epoch ms."""

    kind: Kind
    as_of: int
    keys: NDArray[np.uint64]
    values: NDArray[np.float32]

    def to_bytes(self) -> bytes:
        header = msgspec.json.encode(_Header(kind=self.kind, as_of=self.as_of, rows=len(self.keys)))
        return _MAGIC + header + b"\n" + self.keys.astype("<u8").tobytes() + self.values.astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, content: bytes) -> ReferenceTable:
        """Raises Corrupt if the bytes are not a well-formed table."""
        try:
            if not content.startswith(_MAGIC):
                raise Corrupt("not a reference table")
            end = content.index(b"\n", len(_MAGIC))
            header = msgspec.json.decode(content[len(_MAGIC) : end], type=_Header)
            body = memoryview(content)[end + 1 :]
            width = COLUMNS[header.kind]
            if header.rows < 0 or len(body) != header.rows * (8 + 4 * width):
                raise Corrupt("the reference table does not have the length that its header implies")
            keys = np.frombuffer(body[: header.rows * 8], dtype="<u8").astype(np.uint64)
            values = np.frombuffer(body[header.rows * 8 :], dtype="<f4").astype(np.float32).reshape(-1, width)
        except (ValueError, *UNDECODABLE) as error:
            raise Corrupt(f"the reference table does not decode: {error}") from error
        if header.rows > 1 and not bool(np.all(keys[1:] > keys[:-1])):
            raise Corrupt("the reference table's keys are not in ascending order")
        return cls(header.kind, header.as_of, keys, values)


@njit
def _join(
    keys: NDArray[np.uint64],
    values: NDArray[np.float32],
    wanted: NDArray[np.uint64],
    first: int,
    out: NDArray[np.float32],
) -> None:
    width = values.shape[1]
    for i in range(wanted.shape[0]):
        low = 0
        high = keys.shape[0]
        key = wanted[i]
        while low < high:
            middle = (low + high) // 2
            if keys[middle] < key:
                low = middle + 1
            else:
                high = middle
        found = key != np.uint64(0) and low < keys.shape[0] and keys[low] == key
        for c in range(width):
            out[i, first + c] = values[low, c] if found else np.nan


def join(table: ReferenceTable | None, kind: Kind, hashes: NDArray[np.uint64], features: NDArray[np.float32]) -> None:
    """Fill the kind's columns of `features` (n, WIDTH) from the table by `hashes` (n,); NaN where there is no row or
    table.
    """
    first = spec.index(FIRST_COLUMN[kind])
    if table is None:
        features[:, first : first + COLUMNS[kind]] = np.nan
    else:
        _join(table.keys, table.values, hashes, first, features)
