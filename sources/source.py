"""What all sources have in common: tables of transactions in event-time order become a stream of Kafka records.

A source yields *tables* (polars frames, columns below). Everything else is derived from them: the records, with each
verdict at its own later time, the ground truth, and the profile (sources.analysis). This module owns the order of the
stream and the bytes of its values. It never reads a clock, draws a random number or talks to a server.

Order: by time. A verdict comes before the first transaction that is not earlier than it; verdicts of equal time are in
the order of their transactions. The stream therefore does not depend on how it is split into tables or chunks.

A table's columns (text "" = unknown):
    transaction_id, account_id String · amount Float64 · occurred_at Int64, epoch ms UTC, ascending
    currency, merchant_id, merchant_category, country, channel, device_id, ip, card_id String, each optional
    attributes Struct, optional: null fields are left out of the transaction
    is_fraud Boolean (null = unknown) · scenario String ("" = legitimate or not named)
    verdict_at Int64, later than occurred_at, null = never · verdict_source String, a core.events.FeedbackSource
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any, Literal, NamedTuple, cast

import msgspec
import numpy as np
import polars as pl

from core import codec
from core.errors import BadInput
from core.events import FeedbackReceived, FeedbackSource, Transaction
from sources.record import Record

VerdictsFor = Literal["fraud", "all"]

CHUNK_RECORDS = 4096

OPTIONAL_TEXT = (
    "currency",
    "merchant_id",
    "merchant_category",
    "country",
    "channel",
    "device_id",
    "ip",
    "card_id",
)
TRUTH_COLUMNS = ("transaction_id", "account_id", "occurred_at", "amount", "is_fraud", "scenario")


class Source(ABC):
    """A labelled stream. `total` is the number of transactions if known before reading, else None."""

    name: str
    total: int | None

    def __init__(self, *, labels: VerdictsFor = "fraud", flush_feedback: bool = False) -> None:
        """labels: which transactions get a verdict: the frauds or all. flush_feedback: whether to send the verdicts
        that are not yet due after the last transaction, with their own (later) timestamps, or to drop them.
        """
        if labels not in ("fraud", "all"):
            raise BadInput(f"labels must be 'fraud' or 'all', not {labels!r}")
        self.labels: VerdictsFor = labels
        self.flush_feedback = flush_feedback

    @property
    def last(self) -> int | None:
        """No record is later than this, epoch ms; None if that is not known before reading."""
        return None

    @abstractmethod
    def tables(self) -> Iterator[pl.DataFrame]:
        """The transactions in event-time order, from the beginning at every call. Columns: the module's docstring."""

    def records(self, chunk_records: int = CHUNK_RECORDS) -> Iterator[list[Record]]:
        """Transactions and verdicts merged in order of time, in lists of `chunk_records` (the last may be shorter)."""
        if chunk_records < 1:
            raise BadInput(f"a chunk needs at least one record, not {chunk_records}")
        buffer: list[Record] = []
        for part in _merged(self.tables(), self.labels, self.flush_feedback):
            buffer += part
            full = len(buffer) - len(buffer) % chunk_records
            for begin in range(0, full, chunk_records):
                yield buffer[begin : begin + chunk_records]
            del buffer[:full]
        if buffer:
            yield buffer

    def truth(self) -> pl.DataFrame:
        """Ground truth for evaluation, one row per transaction in stream order: TRUTH_COLUMNS."""
        parts = [table.select(TRUTH_COLUMNS) for table in self.tables()]
        return pl.concat(parts) if parts else pl.DataFrame(schema=dict.fromkeys(TRUTH_COLUMNS, pl.String))


class _Verdict(NamedTuple):
    """A verdict waiting for its time. Tuples sort by (at, sequence), which is unique."""

    at: int
    sequence: int
    account_id: str
    transaction_id: str
    source: str
    is_fraud: bool
    amount: float
    merchant_id: str
    device_id: str
    occurred_at: int


def _merged(tables: Iterable[pl.DataFrame], labels: VerdictsFor, flush: bool) -> Iterator[list[Record]]:
    pending: list[_Verdict] = []
    sequence = 0
    last = -(2**63)
    for table in tables:
        if table.is_empty():
            continue
        times = table["occurred_at"].to_numpy()
        if times[0] < last or (times[1:] < times[:-1]).any():
            raise BadInput("the source's transactions are not in order of time")
        last = int(times[-1])
        for verdict in _verdicts(table, labels, sequence):
            heapq.heappush(pending, verdict)
        sequence += table.height
        yield _interleaved(transaction_records(table), times, _due(pending, last))
    if flush:
        yield [_feedback_record(v) for v in _due(pending, None)]


def _due(pending: list[_Verdict], until: int | None) -> list[_Verdict]:
    due: list[_Verdict] = []
    while pending and (until is None or pending[0].at <= until):
        due.append(heapq.heappop(pending))
    return due


def _interleaved(records: list[Record], times: np.ndarray[Any, Any], due: list[_Verdict]) -> list[Record]:
    if not due:
        return records
    places = np.searchsorted(times, np.array([v.at for v in due], dtype=np.int64), side="left").tolist()
    merged: list[Record] = []
    done = 0
    for place, verdict in zip(places, due, strict=True):
        merged += records[done:place]
        merged.append(_feedback_record(verdict))
        done = place
    merged += records[done:]
    return merged


def transaction_records(table: pl.DataFrame) -> list[Record]:
    """One record per row of the table, in the same order. About 2 µs per row."""
    texts = [_text_column(table, name) for name in OPTIONAL_TEXT]
    encode = msgspec.json.Encoder().encode
    rows = zip(
        table["transaction_id"].to_list(),
        table["account_id"].to_list(),
        table["amount"].to_list(),
        table["occurred_at"].to_list(),
        *texts,
        _attributes_column(table),
        strict=False,
    )
    return [
        Record(
            "transactions",
            account,
            occurred_at,
            encode(
                Transaction(
                    transaction_id=transaction,
                    account_id=account,
                    amount=amount,
                    occurred_at=occurred_at,
                    currency=currency,
                    merchant_id=merchant,
                    merchant_category=category,
                    country=country,
                    channel=channel,
                    device_id=device,
                    ip=ip,
                    card_id=card,
                    attributes=attributes,
                )
            ),
        )
        for (
            transaction,
            account,
            amount,
            occurred_at,
            currency,
            merchant,
            category,
            country,
            channel,
            device,
            ip,
            card,
            attributes,
        ) in rows
    ]


def _text_column(table: pl.DataFrame, name: str) -> Iterable[str]:
    return table[name].to_list() if name in table.columns else repeat("")


def _attributes_column(table: pl.DataFrame) -> Iterable[dict[str, float | str]]:
    if "attributes" not in table.columns:
        return repeat({})
    return [{k: v for k, v in row.items() if v is not None} for row in table["attributes"].to_list()]


def _verdicts(table: pl.DataFrame, labels: VerdictsFor, first_sequence: int) -> list[_Verdict]:
    wanted = pl.col("is_fraud").is_not_null() if labels == "all" else pl.col("is_fraud")
    rows = table.with_row_index("row", offset=first_sequence).filter(wanted & pl.col("verdict_at").is_not_null())
    columns = ("verdict_at", "row", "account_id", "transaction_id", "verdict_source", "is_fraud", "amount")
    return [
        _Verdict(*row)
        for row in zip(
            *(rows[name].to_list() for name in columns),
            _text_column(rows, "merchant_id"),
            _text_column(rows, "device_id"),
            rows["occurred_at"].to_list(),
            strict=False,
        )
    ]


def verdict_records(table: pl.DataFrame, labels: VerdictsFor) -> list[Record]:
    """One record per verdict on the table's rows, in their order."""
    return [_feedback_record(verdict) for verdict in _verdicts(table, labels, 0)]


def _feedback_record(verdict: _Verdict) -> Record:
    event = FeedbackReceived(
        account_id=verdict.account_id,
        transaction_id=verdict.transaction_id,
        occurred_at=verdict.at,
        source=cast(FeedbackSource, verdict.source),
        verdict="fraud" if verdict.is_fraud else "legitimate",
        amount=verdict.amount,
        merchant_id=verdict.merchant_id,
        device_id=verdict.device_id,
        transaction_occurred_at=verdict.occurred_at,
    )
    return Record("feedback", verdict.account_id, verdict.at, codec.encode(event))
