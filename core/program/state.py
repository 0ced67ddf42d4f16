"""The records of one partition's accounts under one layout, in one array of words. No I/O.

A record belongs to the slot that `core.features.state.AccountState` gives the account. A slot that is new, or is given
to another account, must be begun before anything is folded into it. `core.program.folding` is the only writer.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import UNDECODABLE, Corrupt
from core.program.layout import Layout

_MAGIC = b"sentinel-aggregates-1\n"


class _Header(msgspec.Struct, frozen=True):
    layout: str
    words: int
    count: int
    digest: str


class ProgramState:
    """Not thread-safe; one owner. records: uint64 (slots reserved, layout.words); those beyond `count` are zeros, which
    take no memory.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.count = 0
        """Slots in use: one more than the highest that was begun."""
        self.records: NDArray[np.uint64] = np.zeros((0, layout.words), dtype=np.uint64)

    @property
    def nbytes(self) -> int:
        """Bytes of the records in use."""
        return self.count * self.layout.bytes_account

    def begin(self, slots: ArrayLike) -> None:
        """Make accounts without history at these slots: (n,) of any integer type. Repeating a slot does no harm."""
        at = np.asarray(slots, dtype=np.int64)
        if not at.size:
            return
        self.reserve(int(at.max()) + 1)
        self.count = max(self.count, int(at.max()) + 1)
        self.records[at] = 0

    def reserve(self, slots: int) -> None:
        """Make room for so many slots. Growing copies the records, so it at least doubles them."""
        if slots > len(self.records):
            grown = np.zeros((max(slots, 2 * len(self.records)), self.layout.words), dtype=np.uint64)
            grown[: self.count] = self.records[: self.count]
            self.records = grown

    def digest(self) -> str:
        """SHA-256 over layout and records: equal states have equal digests."""
        return _digest(self.layout.digest, self._body())

    def _body(self) -> bytes:
        return self.records[: self.count].astype("<u8", copy=False).tobytes()

    def copy(self) -> ProgramStateCopy:
        """What it holds now."""
        return ProgramStateCopy(self.layout, self.count, self._body())

    def to_bytes(self) -> bytes:
        """A self-describing snapshot with a checksum."""
        return b"".join(self.copy().parts())

    @classmethod
    def from_bytes(cls, content: bytes, layout: Layout) -> ProgramState:
        """Read what `to_bytes` wrote. Raises Corrupt if it is not intact, or is of another layout."""
        try:
            if not content.startswith(_MAGIC):
                raise Corrupt("not a snapshot of a program's aggregates")
            size_end = content.index(b"\n", len(_MAGIC))
            start = size_end + 1 + int(content[len(_MAGIC) : size_end])
            header = msgspec.json.decode(content[size_end + 1 : start], type=_Header)
        except (ValueError, *UNDECODABLE) as error:
            raise Corrupt(f"the header of the aggregates' snapshot does not decode: {error}") from error
        if header.layout != layout.digest or header.words != layout.words:
            raise Corrupt("the aggregates' snapshot was written under another layout")
        body = content[start:]
        if len(body) != header.count * layout.bytes_account or _digest(header.layout, body) != header.digest:
            raise Corrupt("the aggregates' snapshot does not match its checksum")
        state = cls(layout)
        state.reserve(header.count)
        state.count = header.count
        state.records[: header.count] = np.frombuffer(body, dtype="<u8").reshape(header.count, layout.words)
        return state


class ProgramStateCopy(NamedTuple):
    """The aggregates as they were when they were copied. slots: those in use; body: their records."""

    layout: Layout
    slots: int
    body: bytes

    def parts(self) -> tuple[bytes, bytes]:
        """A self-describing snapshot with a checksum: its bytes, in two parts."""
        digest = _digest(self.layout.digest, self.body)
        header = msgspec.json.encode(_Header(self.layout.digest, self.layout.words, self.slots, digest))
        return b"%b%d\n%b" % (_MAGIC, len(header), header), self.body


def _digest(layout: str, body: bytes) -> str:
    digest = hashlib.sha256(layout.encode())
    digest.update(body)
    return digest.hexdigest()
