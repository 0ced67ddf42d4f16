"""Which of a partition's accounts were active least recently: three lists of slots in order of their last event, of
blocked accounts, of those with a fraud verdict that counts, and of all others. Part of the account state.

The first two are protected. They are apart so that no number of verdicts makes a partition forget a block. A list is
doubly linked through an array, so an event costs the same whatever the number of accounts: about 0.01 µs. Duplicates
are no events: the log does not hold them, so a replay never sees them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.jit import njit

ORDINARY, DEFRAUDED, BLOCKED = KINDS = range(3)
"""The lists. Their heads are nodes 0 to 2 of the links; slot s is node s + HEADS."""
HEADS = len(KINDS)
_UNLINKED = np.int32(-1)


class Recency:
    """links: int32 (slots + HEADS, 2), each node's more and less recent neighbour; kinds: uint8 (slots,)."""

    def __init__(self, slots: int) -> None:
        self.links = np.full((slots + HEADS, 2), _UNLINKED, dtype=np.int32)
        for kind in KINDS:
            self.links[kind] = kind
        self.kinds = np.zeros(slots, dtype=np.uint8)
        self._locate()

    def _locate(self) -> None:
        """Look the addresses up, which takes a microsecond, once for every pair of arrays."""
        self.addresses = self.links.ctypes.data, self.kinds.ctypes.data
        """Memory addresses of links and kinds, for the kernel."""

    def grow(self, slots: int) -> None:
        """Make room for so many slots."""
        links, kinds = self.links, self.kinds
        self.links = np.full((slots + HEADS, 2), _UNLINKED, dtype=np.int32)
        self.links[: len(links)] = links
        self.kinds = np.zeros(slots, dtype=np.uint8)
        self.kinds[: len(kinds)] = kinds
        self._locate()

    def order(self, kind: int) -> NDArray[np.int32]:
        """The slots of a list, least recent first: int32 (n,)."""
        out = np.empty(len(self.kinds), dtype=np.int32)
        return out[: _walk(self.links, kind, len(out), out)].copy()

    def oldest(self, kind: int, count: int) -> NDArray[np.int32]:
        """At most so many slots of a list, least recent first."""
        out = np.empty(max(count, 0), dtype=np.int32)
        return out[: _walk(self.links, kind, len(out), out)]

    def remove(self, slots: NDArray[np.int32]) -> None:
        """Take slots out of their lists."""
        _remove(self.links, self.kinds, slots)

    def to_bytes(self) -> bytes:
        """All lists: their lengths, then their slots."""
        lists = [self.order(kind).astype("<i4") for kind in KINDS]
        return np.array([len(each) for each in lists], dtype="<i4").tobytes() + b"".join(e.tobytes() for e in lists)

    @classmethod
    def from_bytes(cls, content: bytes, slots: int) -> Recency:
        """Read what `to_bytes` wrote. Raises ValueError if it is not that."""
        values = np.frombuffer(content, dtype="<i4")
        lengths, listed = values[:HEADS].astype(np.int64), values[HEADS:]
        if len(lengths) < HEADS or lengths.min() < 0 or len(listed) != lengths.sum():
            raise ValueError("the lists of recent accounts do not have the lengths that they state")
        if len(np.unique(listed)) != len(listed) or (len(listed) and not 0 <= listed.min() <= listed.max() < slots):
            raise ValueError("the lists of recent accounts do not name accounts")
        recency = cls(slots)
        recency.kinds[listed] = np.repeat(np.array(KINDS, dtype=np.uint8), lengths)
        for slot in listed.tolist():
            touch(recency.links, recency.kinds, slot)
        return recency


@njit
def touch(links: NDArray[np.int32], kinds: NDArray[np.uint8], slot: int) -> None:
    """Make the slot the most recent of its kind."""
    node = slot + HEADS
    if links[node, 0] >= 0:
        _unlink(links, node)
    head = np.int64(kinds[slot])
    newest = links[head, 1]
    links[node, 0] = head
    links[node, 1] = newest
    links[newest, 0] = node
    links[head, 1] = node


@njit
def _unlink(links: NDArray[np.int32], node: int) -> None:
    newer, older = links[node, 0], links[node, 1]
    links[newer, 1] = older
    links[older, 0] = newer
    links[node, 0] = _UNLINKED


@njit
def protect(account: Any, kinds: NDArray[np.uint8], slot: int) -> None:
    """Set the slot's kind as its account's state demands; `touch` moves it."""
    if account.blocked != 0:
        kinds[slot] = BLOCKED
    else:
        kinds[slot] = DEFRAUDED if account.frauds > 0 else ORDINARY


@njit
def _walk(links: NDArray[np.int32], head: int, limit: int, out: NDArray[np.int32]) -> int:
    count = 0
    node = links[head, 0]
    while node != head and count < limit:
        out[count] = node - HEADS
        count += 1
        node = links[node, 0]
    return count


@njit
def _remove(links: NDArray[np.int32], kinds: NDArray[np.uint8], slots: NDArray[np.int32]) -> None:
    for i in range(slots.shape[0]):
        _unlink(links, slots[i] + HEADS)
        kinds[slots[i]] = ORDINARY
