"""Labels: every verdict on every payment, folded by account, and the payments of each account.

The state contains verdicts, not labels: quality control, reliabilities and consensus are pure functions of it
(`projections.labelling`). The method of labelling can therefore change without a new version, and a verdict on an
unknown payment becomes valid when the payment arrives.

An account's transactions are kept as 8 bytes of BLAKE2b and 4 bytes of event time (epoch s) each, for the account's
last SEEN_DAYS of event time and at most SEEN_MAX: 12 bytes per transaction and about 160 per account, so 1.2 GB for 100
million transactions in 180 days. An unknown ID is mistaken for a known one with probability below
SEEN_MAX × 2^-64 ≈ 1e-15.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from itertools import islice

import msgspec
import pyarrow as pa

from core.events import FeedbackReceived
from core.receipt import receive_time
from core.times import DAY_MS
from core.verdicts import VerdictRecord, verdict_record
from projections.engine.base import ByColumns, ColumnarBatch, DecidedTransaction, Fact, Handler, Projection
from projections.labelling.verdicts import Claims

SEEN_DAYS = 180
SEEN_MAX = 20_000


class AccountLabels(msgspec.Struct):
    """Verdicts by transaction ID, in log order. payments: event times (epoch ms, whole seconds) of those transactions
    that are in the log.
    """

    verdicts: dict[str, list[VerdictRecord]] = {}
    payments: dict[str, int] = {}


class Labels(msgspec.Struct):
    """Verdicts by account, and the transactions of each day of event time (epoch day → count).

    seen: by account, its transactions (see the module's head). forgotten: by account, the event time (epoch ms) before
    which `seen` may be incomplete.
    """

    accounts: dict[str, AccountLabels] = {}
    days: dict[int, int] = {}
    seen: dict[str, bytearray] = {}
    forgotten: dict[str, int] = {}


def claims(states: Mapping[int, Labels]) -> Iterator[Claims]:
    """All verdicts, payment by payment. states: by partition."""
    for partition, state in states.items():
        for account in state.accounts:
            yield from claims_of(partition, state, account)


def claims_of(partition: int, state: Labels, account: str) -> Iterator[Claims]:
    """The verdicts on one account's payments."""
    of = state.accounts.get(account)
    if of is None:
        return
    for transaction in of.verdicts:
        yield claims_on(partition, state, account, transaction)


def claims_on(partition: int, state: Labels, account: str, transaction: str) -> Claims:
    """The verdicts on one payment. Raises KeyError if there are none."""
    of, forgotten = state.accounts[account], state.forgotten.get(account, 0)
    return Claims(partition, account, transaction, of.payments.get(transaction, 0), forgotten, of.verdicts[transaction])


def newest(states: Mapping[int, Labels]) -> int:
    """The end of the newest payment's day, epoch ms."""
    return (max((day for state in states.values() for day in state.days), default=-1) + 1) * DAY_MS


_SEEN = struct.Struct("<8sI")


def _hash(transaction_id: str) -> bytes:
    return hashlib.blake2b(transaction_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _decided(state: Labels, fact: Fact) -> None:
    decided: DecidedTransaction = fact.event
    transaction = decided.transaction
    times = transaction.occurred_at, receive_time(transaction)
    add_payment(state, transaction.account_id, transaction.transaction_id, *times)


def add_payment(state: Labels, account: str, transaction_id: str, occurred_at: int, received_at: int) -> None:
    """Fold a decided transaction. Times in epoch ms: the source's dates the payment, against which its verdicts are
    judged; the receive time moves the newest day, against which everything is.
    """
    day = received_at // DAY_MS
    state.days[day] = state.days.get(day, 0) + 1
    second = max(occurred_at // 1000, 0)
    seen = state.seen.setdefault(account, bytearray())
    seen += _SEEN.pack(_hash(transaction_id), second)
    _forget(state, account, seen, second)
    of = state.accounts.get(account)
    if of is not None and transaction_id in of.verdicts:
        of.payments.setdefault(transaction_id, second * 1000)


def _forget(state: Labels, account: str, seen: bytearray, second: int) -> None:
    """Drop transactions beyond the horizon or the bound, in order of arrival."""
    while True:
        oldest = _SEEN.unpack_from(seen)[1]
        if oldest >= second - SEEN_DAYS * DAY_MS // 1000 and len(seen) <= SEEN_MAX * _SEEN.size:
            return
        del seen[: _SEEN.size]
        state.forgotten[account] = max(state.forgotten.get(account, 0), (oldest + 1) * 1000)


def _payment(state: Labels, account: str, transaction_id: str) -> int | None:
    """The event time of the account's transaction (epoch ms), if it is among those kept."""
    seen = state.seen.get(account)
    if not seen:
        return None
    digest = _hash(transaction_id)
    at = seen.find(digest)
    while at >= 0 and at % _SEEN.size:
        at = seen.find(digest, at + 1)
    return None if at < 0 else int(_SEEN.unpack_from(seen, at)[1]) * 1000


def _verdict(state: Labels, fact: Fact) -> None:
    add_verdict(state, fact.event, fact.recorded_at)


def add_verdict(state: Labels, event: FeedbackReceived, recorded_at: int) -> VerdictRecord:
    """Fold a verdict and return its record. recorded_at: log time, epoch ms."""
    account = state.accounts.setdefault(event.account_id, AccountLabels())
    held = account.verdicts.setdefault(event.transaction_id, [])
    if not held:
        payment = _payment(state, event.account_id, event.transaction_id)
        if payment is not None:
            account.payments[event.transaction_id] = payment
    word = verdict_record(event, recorded_at)
    held.append(word)
    return word


class _LabelColumns:
    """`projections.engine.base.Columns` over labels: the work of the handlers without decoding entries."""

    def __init__(self, state: Labels, handlers: Mapping[type, Handler[Labels]]) -> None:
        self._state = state
        self._handlers = handlers
        self._batches: list[ColumnarBatch] = []

    def take(self, batch: ColumnarBatch) -> None:
        """See Columns."""
        self._batches.append(batch)

    def finish(self) -> None:
        """See Columns."""
        state = self._state
        for batch in self._batches:
            columns = (batch.decisions[name].to_pylist() for name in ("account_id", "transaction_id"))
            times = (batch.decisions[name].cast(pa.int64()).to_pylist() for name in ("occurred_at", "received_at"))
            rows = zip(*columns, *times, strict=True)
            at = 0
            for row, fact in batch.events:
                for payment in islice(rows, row - at):
                    add_payment(state, *payment)
                at = row
                handler = self._handlers.get(type(fact.event))
                if handler is not None:
                    handler(state, fact)
            for payment in rows:
                add_payment(state, *payment)


LABELS = Projection(
    name="labels",
    holds=(
        "every verdict, and 12 bytes for each transaction of the last 180 days, to know which exist; quality "
        "control and consensus are computed on request"
    ),
    version=4,
    state_type=Labels,
    handlers={DecidedTransaction: _decided, FeedbackReceived: _verdict},
    columnar=ByColumns(("account_id", "transaction_id", "occurred_at", "received_at"), _LabelColumns),
)
