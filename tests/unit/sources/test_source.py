"""The order and the bytes of a source's stream, on a source made by hand."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import codec
from core.errors import BadInput
from core.events import FeedbackReceived, Transaction
from sources.record import Record
from sources.source import Source, VerdictsFor

DELAY_MS = 50


class ByHand(Source):
    """Rows (time, is fraud) in tables of a given size."""

    name = "by-hand"

    def __init__(
        self, rows: list[tuple[int, bool | None]], table_rows: int, delay_ms: int = DELAY_MS, **options: object
    ):
        super().__init__(**options)  # type: ignore[arg-type]
        self.total = len(rows)
        self._rows = rows
        self._table_rows = table_rows
        self._delay_ms = delay_ms

    def tables(self) -> Iterator[pl.DataFrame]:
        for first in range(0, len(self._rows), self._table_rows):
            part = self._rows[first : first + self._table_rows]
            yield pl.DataFrame(
                {
                    "transaction_id": [f"t{first + i}" for i in range(len(part))],
                    "account_id": [f"a{(first + i) % 3}" for i in range(len(part))],
                    "amount": [1.5 * (first + i + 1) for i in range(len(part))],
                    "occurred_at": [time for time, _ in part],
                    "merchant_id": ["m1"] * len(part),
                    "device_id": ["d1"] * len(part),
                    "is_fraud": pl.Series([fraud for _, fraud in part], dtype=pl.Boolean),
                    "scenario": [""] * len(part),
                    "verdict_at": pl.Series(
                        [None if fraud is None else time + self._delay_ms for time, fraud in part], dtype=pl.Int64
                    ),
                    "verdict_source": ["chargeback"] * len(part),
                }
            )


def stream(source: Source, chunk_records: int = 4096) -> list[Record]:
    return [record for chunk in source.records(chunk_records) for record in chunk]


def test_a_verdict_comes_at_its_own_time_between_the_transactions() -> None:
    """A verdict stands before the first transaction that is not earlier than it."""
    source = ByHand([(0, True), (49, False), (50, False), (60, False)], 100)
    assert [(r.topic, r.timestamp) for r in stream(source)] == [
        ("transactions", 0),
        ("transactions", 49),
        ("feedback", 50),
        ("transactions", 50),
        ("transactions", 60),
    ]


def test_a_verdict_says_which_transaction_it_is_about() -> None:
    """Feedback carries the verdict's and the transaction's time, the amount, the merchant and the device."""
    (record,) = (r for r in stream(ByHand([(7, True)], 1, flush_feedback=True)) if r.topic == "feedback")
    assert record.key == "a0" and record.timestamp == 57
    assert codec.decode_account_event(record.value) == FeedbackReceived(
        account_id="a0",
        transaction_id="t0",
        occurred_at=57,
        source="chargeback",
        verdict="fraud",
        amount=1.5,
        merchant_id="m1",
        device_id="d1",
        transaction_occurred_at=7,
    )


def test_transactions_pass_the_strict_decoder_with_their_key_and_time() -> None:
    """A value is a Transaction without unknown fields; key and timestamp repeat its account and time."""
    for record in stream(ByHand([(5, False), (9, None)], 1)):
        transaction = msgspec.json.decode(record.value, type=Transaction)
        assert (record.key, record.timestamp) == (transaction.account_id, transaction.occurred_at)


@pytest.mark.parametrize(
    ("labels", "flush", "expected"),
    [
        ("fraud", False, ["t0"]),
        ("fraud", True, ["t0", "t3"]),
        ("all", False, ["t0", "t1"]),
        ("all", True, ["t0", "t1", "t3"]),
    ],
)
def test_labels_and_flush_choose_the_verdicts(labels: VerdictsFor, flush: bool, expected: list[str]) -> None:
    """Only frauds or all known labels get verdicts, and those not due at the end are dropped or sent; t2 has none."""
    source = ByHand([(0, True), (1, False), (2, None), (100, True)], 2, labels=labels, flush_feedback=flush)
    verdicts = [codec.decode_account_event(r.value) for r in stream(source) if r.topic == "feedback"]
    assert [v.transaction_id for v in verdicts if isinstance(v, FeedbackReceived)] == expected


@settings(deadline=None, max_examples=60)
@given(
    gaps=st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=60),
    table_rows=st.integers(1, 70),
    chunk_records=st.integers(1, 90),
    delay_ms=st.integers(1, 120),
    flush=st.booleans(),
)
def test_the_stream_does_not_depend_on_how_it_is_cut(
    gaps: list[tuple[int, bool]], table_rows: int, chunk_records: int, delay_ms: int, flush: bool
) -> None:
    """Any table and chunk size gives the same records, ascending in time, all chunks full but the last."""
    rows: list[tuple[int, bool | None]] = []
    now = 0
    for gap, fraud in gaps:
        now += gap
        rows.append((now, fraud))
    whole = stream(ByHand(rows, 1_000, delay_ms, flush_feedback=flush))
    cut = ByHand(rows, table_rows, delay_ms, flush_feedback=flush)
    chunks = list(cut.records(chunk_records))
    assert [r for chunk in chunks for r in chunk] == whole
    assert {len(chunk) for chunk in chunks[:-1]} <= {chunk_records}
    assert all(a.timestamp <= b.timestamp for a, b in pairwise(whole))
    due = sum(fraud is True and (flush or time + delay_ms <= now) for time, fraud in rows)
    assert sum(r.topic == "feedback" for r in whole) == due


def test_a_source_that_goes_back_in_time_is_refused() -> None:
    """Disorder within a table or between two is an error, not a silently wrong stream."""
    for table_rows in (1, 5):
        with pytest.raises(BadInput, match="order of time"):
            stream(ByHand([(10, False), (9, False)], table_rows))


def test_truth_has_every_transaction_in_stream_order() -> None:
    """Ground truth names each transaction once, with its label."""
    truth = ByHand([(0, True), (3, None), (4, False)], 2).truth()
    assert truth["transaction_id"].to_list() == ["t0", "t1", "t2"]
    assert truth["is_fraud"].to_list() == [True, None, False]


def test_unknown_labels_option_is_refused() -> None:
    """A typing slip in an option is the caller's fault and says so."""
    with pytest.raises(BadInput, match="labels"):
        ByHand([(0, True)], 1, labels="frauds")
