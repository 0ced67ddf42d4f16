"""Which payments an account has already sent: the same content again is a duplicate, other content under a known ID is
a conflict. Part of the account state; a pure function of the log's prefix.

An account's record holds its last `spec.DUPLICATE_MEMORY` payments (hash of the ID, hash of the content, receive time),
whatever their age. One that is pushed out while younger than HORIZON_MS moves to its partition's `Remembered`: a set of
keyed hashes that forgets in log order. Two keys stand for a payment, that of its content and that of its account and
ID, and recognise it for at least a day of receive time, however many payments the account makes meanwhile.

    not known                     scored, remembered
    known ID, known content       duplicate: rejected (`duplicate_transaction`), changes nothing
    known ID, other content       conflict: scored, remembered as well, rule ID_CONFLICT

Bounds: KEYS_MAX keys per partition, about 50 MB; an account adds at most an eighth of that in payments per day of
receive time (262,144), so that it can't push out those of others. What does not fit is forgotten early: at the first
bound the oldest keys, at the second the account's own payments that leave its record. `forgotten` counts both.

Cost: 0.03 µs per payment while the set is empty, 0.1 µs per payment that is added to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.jit import njit
from core.times import DAY_MS

HORIZON_MS = DAY_MS + 1_000
"""A day, and a second because records hold whole seconds."""
KEYS_MAX = 2**21
"""Keys that a partition remembers beyond the accounts' records: two for each of a million payments."""
CAPACITY_MIN = 1_024

NEW, DUPLICATE, CONFLICT = 0, 1, 2
"""What a payment is."""

KEY = np.dtype([("key", np.uint64), ("time", np.int64)])
"""An item of the ring: a key (0: removed), and the partition's receive time when it was added, epoch ms."""

# The header: fields of an int64 array.
_FIRST, _COUNT, _LIMIT, _CLOCK, _FORGOTTEN = range(5)
HEADER_SIZE = 5
_EMPTY = np.int32(-1)
_ODD = np.uint64(0x9E3779B97F4A7C15)


class Remembered:
    """The keys of one partition: a ring in order of time, and a table from key to place in it (open addressing).

    limit: KEYS_MAX; smaller only in tests.
    """

    def __init__(self, limit: int = KEYS_MAX) -> None:
        self.header = np.zeros(HEADER_SIZE, dtype=np.int64)
        self.header[_LIMIT] = limit
        self.ring = np.zeros(CAPACITY_MIN, dtype=KEY)
        self.table = np.full(2 * CAPACITY_MIN, _EMPTY, dtype=np.int32)
        self._spare = 0  # payments for which there is room
        self._locate()

    def _locate(self) -> None:
        """Look the addresses up, which takes microseconds, once for every set of arrays."""
        self.addresses = self.header.ctypes.data, self.ring.ctypes.data, self.table.ctypes.data, len(self.ring)
        """Memory addresses of header, ring and table, and the ring's capacity, for the kernel."""

    def __len__(self) -> int:
        return int(self.header[_COUNT])

    @property
    def forgotten(self) -> int:
        """How many keys were forgotten before their day was over: two for each payment."""
        return int(self.header[_FORGOTTEN])

    def reserve(self, payments: int) -> None:
        """Make room for so many more payments, as far as the limit goes. Cost: it looks at the arrays only if the room
        that it saw last may be used up.
        """
        if payments > self._spare:
            wanted = min(len(self) + 2 * payments, int(self.header[_LIMIT]))
            if wanted > len(self.ring):
                self._resize(wanted)
            self._spare = max((len(self.ring) - len(self)) // 2, payments)
        self._spare -= payments

    def _resize(self, wanted: int) -> None:
        capacity = 1 << (wanted - 1).bit_length()
        ring = np.zeros(capacity, dtype=KEY)
        held = self._in_order()
        ring[: len(held)] = held
        self.ring, self.table = ring, np.full(2 * capacity, _EMPTY, dtype=np.int32)
        self._locate()
        self.header[_FIRST] = 0
        _index(ring, self.table, len(held))

    def _in_order(self) -> NDArray[np.void]:
        first, count = int(self.header[_FIRST]), len(self)
        return np.roll(self.ring, -first)[:count]

    def to_bytes(self) -> bytes:
        """Equal memories give equal bytes, whatever their capacity."""
        return self.header[1:].astype("<i8").tobytes() + self._in_order().tobytes()

    @classmethod
    def from_bytes(cls, content: bytes) -> Remembered:
        """Read what `to_bytes` wrote. Raises ValueError if it is not that."""
        start = 8 * (HEADER_SIZE - 1)
        remembered = cls()
        remembered.header[1:] = np.frombuffer(content[:start], dtype="<i8")
        held = np.frombuffer(content[start:], dtype=KEY)
        if not 0 <= len(held) == len(remembered) <= remembered.header[_LIMIT] <= 2**30:
            raise ValueError("the remembered payments do not have the number that they state")
        remembered._resize(max(len(held), CAPACITY_MIN))
        remembered.ring[: len(held)] = held
        _index(remembered.ring, remembered.table, len(held))
        return remembered


@njit
def _index(ring: NDArray[np.void], table: NDArray[np.int32], count: int) -> None:
    for place in range(count):
        if ring[place].key != np.uint64(0):
            _enter(ring, table, ring[place].key, place)


@njit
def _home(table: NDArray[np.int32], key: np.uint64) -> int:
    """Where the search for a key begins."""
    return np.int64(key & np.uint64(table.shape[0] - 1))  # type: ignore[return-value]


@njit
def _find(ring: NDArray[np.void], table: NDArray[np.int32], key: np.uint64) -> int:
    """The key's place in the table, or −1."""
    at: int = _home(table, key)
    while table[at] >= 0:
        if ring[table[at]].key == key:
            return at
        at = (at + 1) & (table.shape[0] - 1)
    return -1


@njit
def _holds(ring: NDArray[np.void], table: NDArray[np.int32], key: np.uint64, now: int) -> bool:
    at = _find(ring, table, key)
    held: bool = at >= 0 and ring[table[at]].time + HORIZON_MS > now
    return held


@njit
def _enter(ring: NDArray[np.void], table: NDArray[np.int32], key: np.uint64, place: int) -> None:
    at = _home(table, key)
    while table[at] >= 0:
        at = (at + 1) & (table.shape[0] - 1)
    table[at] = place


@njit
def _leave(ring: NDArray[np.void], table: NDArray[np.int32], at: int) -> None:
    """Empty a place of the table, and move later keys up to it (Knuth, The Art of Computer Programming 3, 6.4 R)."""
    mask = table.shape[0] - 1
    hole = at
    while True:
        at = (at + 1) & mask
        if table[at] < 0:
            table[hole] = _EMPTY
            return
        home = _home(table, ring[table[at]].key)
        if (at - home) & mask >= (at - hole) & mask:
            table[hole] = table[at]
            hole = at


@njit
def _forget_oldest(header: NDArray[np.int64], ring: NDArray[np.void], table: NDArray[np.int32]) -> None:
    oldest = ring[header[_FIRST]]
    if oldest.key != np.uint64(0):
        _leave(ring, table, _find(ring, table, oldest.key))
    header[_FIRST] = (header[_FIRST] + 1) & (ring.shape[0] - 1)
    header[_COUNT] -= 1


@njit
def _add(
    header: NDArray[np.int64], ring: NDArray[np.void], table: NDArray[np.int32], key: np.uint64, time: int
) -> None:
    """Add a key, or renew it. The caller has reserved room for it, or the limit is reached."""
    at = _find(ring, table, key)
    if at >= 0:
        place = table[at]
        _leave(ring, table, at)
        ring[place].key = np.uint64(0)
    if header[_COUNT] >= header[_LIMIT]:
        if ring[header[_FIRST]].key != np.uint64(0):
            header[_FORGOTTEN] += 1
        _forget_oldest(header, ring, table)
    place = (header[_FIRST] + header[_COUNT]) & (ring.shape[0] - 1)
    ring[place].key = key
    ring[place].time = time
    header[_COUNT] += 1
    _enter(ring, table, key, place)


@njit
def _named(owner: np.uint64, id_hash: np.uint64) -> np.uint64:
    """The key of an account's transaction ID, from the hashes of both."""
    key = id_hash ^ (owner * _ODD)
    return key if key != np.uint64(0) else np.uint64(1)


@njit
def _is_young(account: Any, place: int, now: int) -> bool:
    young: bool = np.int64(account.recent_times[place]) * 1_000 + HORIZON_MS > now  # type: ignore[assignment]
    return young


@njit
def _move(
    account: Any, place: int, header: NDArray[np.int64], ring: NDArray[np.void], table: NDArray[np.int32]
) -> None:
    """Move a payment that leaves the account's record to the partition's memory, unless its day is over."""
    now = header[_CLOCK]
    if not _is_young(account, place, now):
        return
    day = now // DAY_MS
    if account.kept_day != day:
        account.kept_day = day
        account.kept_today = 0
    if account.kept_today >= header[_LIMIT] // 8:
        header[_FORGOTTEN] += 2
        return
    account.kept_today += 1
    account.kept_until = now + HORIZON_MS
    _add(header, ring, table, account.recent_contents[place], now)
    _add(header, ring, table, _named(account.owner, account.recent_ids[place]), now)


@njit
def recognise(
    account: Any, event: Any, header: NDArray[np.int64], ring: NDArray[np.void], table: NDArray[np.int32]
) -> int:
    """NEW, DUPLICATE or CONFLICT; the payment is remembered unless it is a duplicate. That changes nothing: the log
    does not hold it, so a replay never sees it.
    """
    now = max(header[_CLOCK], event.received)
    known = NEW
    memory = account.recent_ids.shape[0]
    for j in range(memory):
        if account.recent_ids[j] == event.id:
            if account.recent_contents[j] == event.content:
                return DUPLICATE
            known = CONFLICT
    if account.kept_until > now:
        if _holds(ring, table, event.content, now):
            return DUPLICATE
        if known == NEW and _holds(ring, table, _named(event.owner, event.id), now):
            known = CONFLICT
    header[_CLOCK] = now
    while header[_COUNT] > 0:
        oldest = ring[header[_FIRST]]
        if oldest.key != np.uint64(0) and oldest.time + HORIZON_MS > now:
            break
        _forget_oldest(header, ring, table)
    account.owner = event.owner
    place = account.ids_seen % memory
    if account.ids_seen >= memory:
        _move(account, place, header, ring, table)
    account.recent_ids[place] = event.id
    account.recent_contents[place] = event.content
    account.recent_times[place] = now // 1_000
    account.ids_seen += 1
    return known
