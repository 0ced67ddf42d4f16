"""Logged decisions as tables of columns, from archive and hot log, and filters over them. Reads only."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core.events import START, Position
from core.jit import njit_unlocked
from core.log.archive.archived import ArchivedLog
from core.log.archive.columns import decisions_table
from core.log.archive.segment import with_columns
from core.log.base import EventLog
from core.log.paging import decision_pages
from projections.audit.whatif import Scope
from projections.labelling.view import LabelView

T = TypeVar("T")
THREADS = os.cpu_count() or 1
"""Of those that read and judge parts of a log."""
_BITS = 22
_SPREAD, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(64 - _BITS)


Part = Callable[[Sequence[str]], pa.Table]
"""Reads columns of one part of a log: the same rows at each call, in any thread."""


def parts(log: EventLog, partition: int, after: Position, until: Position, scope: Scope) -> Iterator[Part]:
    """The decisions with after < ID ≤ until, part by part in order. Rows that are out of scope by their time may be
    left out.
    """
    seam = START
    if isinstance(log, ArchivedLog):
        seam = log.archive.end(partition).transactions
        yield from log.archive.column_parts(partition, after, min(seam, until), scope.start_ms, scope.end_ms)
    if seam >= until:
        return
    for transactions, scores in decision_pages(log, partition, max(after, seam), until):
        yield partial(with_columns, decisions_table(transactions, scores))


class Rows:
    """Rows of a part of a log. A column is read when it is first asked for; `need` reads several at once, and adds them
    to `learned`: what the next parts had better read with their first columns.
    """

    def __init__(self, part: Part, count: int, held: dict[str, pa.ChunkedArray], learned: dict[str, None]) -> None:
        self._part, self._count, self._held, self._learned = part, count, held, learned
        self.at: NDArray[np.int64] | None = None
        """Which rows of the part these are; None for all."""

    @classmethod
    def of(cls, part: Part, columns: Sequence[str], learned: dict[str, None]) -> Rows:
        """The part's rows, with these columns and the learned ones."""
        table = part(list(dict.fromkeys([*columns, *learned])))
        return cls(part, len(table), dict(zip(table.column_names, table.columns, strict=True)), learned)

    def __len__(self) -> int:
        return self._count

    def need(self, names: Sequence[str]) -> None:
        """Read these columns."""
        self._learned.update(dict.fromkeys(name for name in names if name not in self._held))
        self.read(names)

    def read(self, names: Sequence[str]) -> None:
        """Read these columns, for this part only."""
        if lacking := [name for name in dict.fromkeys(names) if name not in self._held]:
            table = self._part(lacking)
            self._held |= zip(table.column_names, table.columns, strict=True)

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of the archive."""
        if name not in self._held:
            self.need([name])
        return self._held[name]

    def only(self, rows: NDArray[np.int64]) -> Rows:
        """Some of the rows, ascending."""
        chosen = pa.array(rows)

        def part(names: Sequence[str]) -> pa.Table:
            self.need(names)
            return pa.table({name: self._held[name].take(chosen) for name in names})

        found = Rows(part, len(rows), {}, {})
        found.at = rows if self.at is None else self.at[rows]
        return found

    def hold(self, name: str, values: NDArray[np.float32]) -> None:
        """Add a column, or replace it."""
        self._held[name] = pa.chunked_array([pa.array(values)])


def in_order(calls: Iterable[Callable[[], T]], threads: int) -> Iterator[T]:
    """What the calls give, in their order; they run ahead in threads, a bounded number at a time."""
    waiting: deque[Future[T]] = deque()
    remaining = iter(calls)
    with ThreadPoolExecutor(threads) as pool:
        waiting.extend(pool.submit(call) for call in islice(remaining, 2 * threads))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(call) for call in islice(remaining, 1))


def in_positions(rows: Rows, scope: Scope) -> NDArray[np.int64] | None:
    """The rows whose positions are in scope, ascending; None for all."""
    if scope.first is None and scope.last is None:
        return None
    generations, offsets = rows.column("generation").to_numpy(), rows.column("offset").to_numpy()
    wanted = np.ones(len(rows), dtype=np.bool_)
    if scope.first is not None:
        generation, offset = map(np.uint64, scope.first)
        wanted &= (generations > generation) | ((generations == generation) & (offsets >= offset))
    if scope.last is not None:
        generation, offset = map(np.uint64, scope.last)
        wanted &= (generations < generation) | ((generations == generation) & (offsets <= offset))
    return np.flatnonzero(wanted)


def rows_in_range(table: Rows, scope: Scope) -> tuple[NDArray[np.int64] | None, int]:
    """The rows that are in scope by their time and can be judged, ascending, or None for all; and how many are in scope
    but can't be: the archive holds them only as they were logged, because they don't decode.
    """
    times = table.column("occurred_at").cast(pa.int64())
    bounds = scope.start_ms is not None or scope.end_ms is not None
    nulls = [name for name in ("width", "decision", "occurred_at") if table.column(name).null_count]
    if not bounds and not nulls:
        return None, 0
    found = times.fill_null(0).to_numpy()
    wanted = np.ones(len(table), dtype=np.bool_)
    if scope.start_ms is not None:
        wanted &= found >= scope.start_ms
    if scope.end_ms is not None:
        wanted &= found < scope.end_ms
    count = int(np.count_nonzero(wanted))
    for name in nulls:
        wanted &= table.column(name).is_valid().to_numpy()
    kept = np.flatnonzero(wanted)
    return None if len(kept) == len(table) else kept, count - len(kept)


@dataclass(frozen=True)
class Times:
    """The times of labelled payments, as a filter: which rows may have a label. bits: 2 ** BITS of them, by the hash of
    the second: uint8 (2 ** BITS / 8,).
    """

    bits: NDArray[np.uint8]

    @classmethod
    def of(cls, labels: LabelView) -> Times | None:
        """None if nothing is labelled."""
        found = [each.judged.payment_at for each in labels.transactions if each.consensus is not None]
        if not found:
            return None
        if 0 in found:  # a payment of unknown time
            return cls(np.full(1 << (_BITS - 3), 255, dtype=np.uint8))
        bits = np.zeros(1 << _BITS, dtype=np.uint8)
        bits[_slots(np.array(found, dtype=np.int64))] = 1
        return cls(np.packbits(bits, bitorder="little"))

    def may_hold(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows whose time is that of a labelled payment, ascending. times: event times, epoch ms (n,)."""
        found: NDArray[np.int64] = at_times(times, self.bits)
        return found


def _slots(times: NDArray[np.int64]) -> NDArray[np.uint64]:
    seconds = times // 1000  # the labels' read model remembers seconds
    return (seconds.view(np.uint64) * _SPREAD) >> _SHIFT


@njit_unlocked
def at_times(times: NDArray[np.int64], bits: NDArray[np.uint8]) -> NDArray[np.int64]:
    rows = np.empty(times.shape[0], dtype=np.int64)
    count = 0
    for i in range(times.shape[0]):
        slot = (np.uint64(times[i] // 1000) * _SPREAD) >> _SHIFT
        rows[count] = i
        count += (bits[slot >> np.uint64(3)] >> (slot & np.uint64(7))) & np.uint8(1)
    return rows[:count]
