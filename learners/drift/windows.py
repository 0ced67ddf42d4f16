"""Reads windows of decisions from the log by receive time: features and margins as logged (I4). Reads only.

The log is in order of arrival, so the position for a moment is found by bisection (a few reads per partition) and
reading starts there. Reading starts at the first row at most `DISORDER_MS` older than the window's start, so earlier
entries are not seen; late arrivals are seen as long as they precede rows `DISORDER_MS` past the window's end. Memory:
about 280 bytes per row of the window; with `share` < 1 whole accounts are sampled by hash, so that an account's rows
stay together.

An archived log is read as columns where possible; the hot part is decoded entry by entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from core.codec import decode_score, decode_transaction
from core.control_stream import identity_of
from core.errors import BadInput, Corrupt
from core.events import START, Position, TransactionScored
from core.features import spec
from core.hashing import HashKey, hash_strings
from core.log.archive.archived import ArchivedLog
from core.log.archive.columns import feature_columns, feature_rows, feature_table
from core.log.archive.segment import with_columns
from core.log.base import EventLog, Stream
from core.log.paging import PAGE, decision_pages, pages, read
from core.program.codes import ENGINE
from core.receipt import receive_time
from core.times import DAY_MS
from learners.drift.rows import Rows, joined

DISORDER_MS = DAY_MS
_COLUMNS = (
    "transaction_id",
    "account_id",
    "merchant_id",
    "merchant_category",
    "received_at",
    "margin",
    "model_digest",
    "spec",
    "engine",
    "degraded",
    "width",
    *feature_columns(spec.WIDTH),
)


class WindowReader:
    """Reads windows from the given partitions of `log`. share: of the accounts, 0 < share ≤ 1, sampled by hash."""

    def __init__(self, log: EventLog, partitions: Sequence[int], share: float = 1.0) -> None:
        if not 0 < share <= 1:
            raise BadInput(f"the share of accounts must be above 0 and at most 1, not {share}")
        self._log = log
        self._partitions = list(partitions)
        self._keep = None if share == 1 else np.uint64(int(share * 2.0**64))

    @cached_property
    def _key(self) -> HashKey:
        return identity_of(self._log).key

    def newest(self) -> int:
        """The greatest receive time (epoch ms) in the last page of decisions of each partition. Raises BadInput if
        there are none.

        The newest payment is among them unless more than a page of older ones arrived after it.
        """
        latest = 0
        for partition in self._partitions:
            end = self._log.head(partition).transactions
            after = Position(end.generation, max(end.offset - PAGE, 0))
            page = read(self._log, partition, "transactions", after, PAGE)
            if not page and end > START:
                *_, page = [[], *pages(self._log, partition, "transactions")]  # none, if all were rejects
            latest = max([latest, *(receive_time(decode_transaction(entry.payload)) for entry in page)])
        if not latest:
            raise BadInput("the log holds no decisions yet")
        return latest

    def newest_since(self, rows: int) -> int:
        """The earliest receive time (epoch ms) such that each partition has at most its share of the newest `rows`
        decisions; 0 if the log holds fewer.
        """
        share = max(rows // max(len(self._partitions), 1), 1)
        since = 0
        for partition in self._partitions:
            end = self._log.head(partition).transactions
            if end.offset > share:
                page = read(self._log, partition, "transactions", Position(end.generation, end.offset - share), 1)
                since = max([since, *(receive_time(decode_transaction(entry.payload)) for entry in page)])
        return since

    def oldest(self) -> int:
        """Event time (epoch ms) of the log's first decision: the earliest of the partitions' first decisions."""
        first = [read(self._log, p, "transactions", START, 1) for p in self._partitions]
        times = [receive_time(decode_transaction(page[0].payload)) for page in first if page]
        if not times:
            raise BadInput("the log holds no decisions yet")
        return min(times)

    def decided_since(self, control: int) -> int | None:
        """Event time (epoch ms) of the first decision made at control position `control` or later; None if there is
        none yet.
        """
        times = []
        for partition in self._partitions:
            place = self._first(partition, "scores", lambda b: decode_score(b).control_position >= control)
            page = read(self._log, partition, "transactions", place, 1)
            times += [receive_time(decode_transaction(entry.payload)) for entry in page]
        return min(times, default=None)

    def read(self, start: int, end: int, with_features: bool = True) -> Rows:
        """The decisions with start ≤ receive time < end (epoch ms). with_features: False leaves out their columns, for
        long windows. Raises Corrupt if scores and transactions don't match.
        """
        parts = []
        for partition in self._partitions:
            place = self._first(
                partition, "transactions", lambda b: receive_time(decode_transaction(b)) >= start - DISORDER_MS
            )
            for table in self._tables(partition, place):
                times = table["received_at"].cast(pa.int64()).to_numpy(zero_copy_only=False)
                parts.append(self._rows(table, times, (times >= start) & (times < end), with_features))
                if len(times) and times.min() >= end + DISORDER_MS:
                    break
        return joined(parts)

    def _tables(self, partition: int, after: Position) -> Iterator[pa.Table]:
        if isinstance(self._log, ArchivedLog):
            yield from self._log.tables(partition, _COLUMNS, after)
            return
        for page, scores in decision_pages(self._log, partition, after):
            yield _table([decode_transaction(e.payload) for e in page], [decode_score(e.payload) for e in scores])

    def _rows(self, table: pa.Table, times: np.ndarray, wanted: np.ndarray, with_features: bool) -> Rows:
        accounts = hash_strings(table["account_id"].to_pylist(), self._key)
        if self._keep is not None:
            wanted &= accounts < self._keep
        readable = np.ones(len(table), dtype=np.bool_)
        for name, known in (("spec", spec.SPEC_VERSION), ("engine", ENGINE)):
            readable &= table[name].to_numpy(zero_copy_only=False) == known
        index = np.flatnonzero(wanted & readable)
        columns = _columns(table, index) if with_features else np.empty((0, len(index)), dtype=np.float32)
        names = table["model_digest"].to_pylist()
        degraded = table["degraded"].to_pylist()
        digests: dict[str, int] = {}
        models = [
            digests.setdefault(names[i], len(digests)) if names[i] and not degraded[i] else -1 for i in index.tolist()
        ]
        ids, shops, categories = (
            table[name].take(pa.array(index)).to_pylist()
            for name in ("transaction_id", "merchant_id", "merchant_category")
        )
        transactions = hash_strings(ids, self._key)
        return Rows(
            columns,
            table["margin"].to_numpy(zero_copy_only=False)[index],
            times[index],
            accounts[index],
            transactions,
            np.where([bool(shop) for shop in shops], hash_strings([s or "" for s in shops], self._key), transactions),
            hash_strings([category or "" for category in categories], self._key),
            np.array(models, dtype=np.int64),
            tuple(digests),
            np.sort(times[wanted & ~readable]),
        )

    def _first(self, partition: int, stream: Stream, reached: Callable[[bytes], bool]) -> Position:
        """The position right before the first entry for which `reached` is true, in the stream's newest generation.

        `reached` must be monotone: once true, true for all later entries. Returns START if it is true for the
        generation's first entry, because it may also be true for an older generation.
        """
        end = self._log.head(partition).transactions
        low, high = 0, end.offset
        while low < high:
            middle = (low + high) // 2
            page = read(self._log, partition, stream, Position(end.generation, middle), 1)
            if not page or reached(page[0].payload):
                high = middle
            else:
                low = page[0].id.offset
        return Position(end.generation, low) if low else START


def _columns(table: pa.Table, index: np.ndarray) -> np.ndarray:
    """The features of these rows, float32 (WIDTH, n). Raises Corrupt if one lacks them."""
    values, present = feature_rows(table, spec.WIDTH)
    if not present[index].all():
        raise Corrupt(f"a score of feature spec {spec.SPEC_VERSION} lacks a vector of {spec.WIDTH} features")
    return np.take(values, index, axis=1)  # in C order, which values[:, index] is not


def _table(transactions: list[Any], scores: list[TransactionScored]) -> pa.Table:
    columns = {
        "transaction_id": [t.transaction_id for t in transactions],
        "account_id": [t.account_id for t in transactions],
        "merchant_id": pa.array([t.merchant_id for t in transactions], pa.string()),
        "merchant_category": pa.array([t.merchant_category for t in transactions], pa.string()),
        "received_at": pa.array([receive_time(t) for t in transactions], pa.int64()),
        "margin": pa.array([s.margin for s in scores], pa.float64()),
        "model_digest": [s.digest for s in scores],
        "spec": pa.array([s.spec for s in scores], pa.int64()),
        "engine": pa.array([s.engine for s in scores], pa.int64()),
        "degraded": pa.array([s.degraded for s in scores], pa.string()),
    }
    return with_columns(pa.table(columns | feature_table(scores)), _COLUMNS)
