"""Logged decisions as tables of columns, from archive and hot log, and filters over them. Reads only."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core.events import START, Position
from core.log.archive.archived import ArchivedLog
from core.log.archive.columns import decisions_table
from core.log.archive.segment import with_columns
from core.log.base import EventLog
from core.log.paging import decision_pages
from projections.audit.whatif import Scope
from projections.labelling.view import LabelView

_BITS = 22


def tables(
    log: EventLog, partition: int, columns: Sequence[str], after: Position, until: Position, threads: int
) -> Iterator[pa.Table]:
    """The decisions with after < ID ≤ until as columns, from archive and hot log. Segments are read ahead in threads:
    decoding holds no lock.
    """
    seam = START
    if isinstance(log, ArchivedLog):
        seam = log.archive.end(partition).transactions
        parts = log.archive.column_parts(partition, columns, after, min(seam, until))
        with ThreadPoolExecutor(threads) as pool:
            waiting = deque(pool.submit(part) for part in islice(parts, threads + 1))
            while waiting:
                found = waiting.popleft().result()
                waiting.extend(pool.submit(part) for part in islice(parts, 1))
                yield found
    if seam >= until:
        return
    for transactions, scores in decision_pages(log, partition, max(after, seam), until):
        yield with_columns(decisions_table(transactions, scores), columns)


def in_range(table: pa.Table, scope: Scope) -> pa.Table:
    """The rows whose event time is in the range."""
    if scope.start_ms is None and scope.end_ms is None:
        return table
    times = table["occurred_at"].cast(pa.int64()).fill_null(0).to_numpy()
    wanted = np.ones(len(table), dtype=np.bool_)
    if scope.start_ms is not None:
        wanted &= times >= scope.start_ms
    if scope.end_ms is not None:
        wanted &= times < scope.end_ms
    return table if wanted.all() else table.filter(pa.array(wanted))


def readable(table: pa.Table) -> pa.Table:
    """Without the rows that the archive holds only as they were logged, because they can't be decoded."""
    nulls = [name for name in ("width", "decision", "occurred_at") if table[name].null_count]
    for name in nulls:
        table = table.filter(table[name].is_valid())
    return table


@dataclass(frozen=True)
class Times:
    """The times of labelled payments, as a filter: which rows may have a label. bits: bool (2 ** BITS,)."""

    bits: NDArray[np.bool_]

    @classmethod
    def of(cls, labels: LabelView) -> Times | None:
        """None if nothing is labelled."""
        found = [each.judged.payment_at for each in labels.transactions if each.consensus is not None]
        if not found:
            return None
        if 0 in found:  # a payment of unknown time
            return cls(np.ones(1 << _BITS, dtype=np.bool_))
        bits = np.zeros(1 << _BITS, dtype=np.bool_)
        bits[_slots(np.array(found, dtype=np.int64))] = True
        return cls(bits)

    def may_hold(self, times: NDArray[np.int64]) -> NDArray[np.bool_]:
        """times: event times, epoch ms (n,)."""
        found: NDArray[np.bool_] = self.bits[_slots(times)]
        return found


def _slots(times: NDArray[np.int64]) -> NDArray[np.uint64]:
    seconds = times // 1000  # the labels' read model remembers seconds
    return (seconds.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - _BITS)
