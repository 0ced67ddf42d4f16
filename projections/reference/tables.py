"""The reference projection: history of merchants and devices across all partitions, as tables for the feature spec.

A fold over transactions and fraud verdicts, in columns by day of receive time (UTC; `core.receipt`), so that no message
can date itself into another day and move the tables for everybody. A table as of a moment M of day D contains, for a
label maturity of L days and windows W of 1, 7 and 30 days:

    merchant_count_W   transactions in [D − L − W, D − L)
    merchant_risk_W    the share of these with a fraud verdict given before M
    merchant_reports_7d, device_reports_30d    fraud verdicts given in [D − 7 or 30, D), whatever their transaction's
    day
    device_accounts_30d    distinct accounts in [D − 30, D), by linear counting on 64 bits

and the merchant's recent past as known at M. A transaction on one of the days D − L − 30 … D is known if it has a fraud
verdict given before M, or if it is from before D − L (then it is legitimate unless it has such a verdict):

    merchant_days_since_fraud    D − the newest day with a known fraud; NaN if there is none, as for the next three
    merchant_run_days    D − the first day of the run that ends on that day: days with a known fraud, each at most
    RUN_GAP_DAYS after the one before
    merchant_run_frauds (0 if there is none), merchant_run_share    frauds of the run, and their share of the known
    transactions since its first day
    merchant_run_amount    the smallest disputed amount in the run; NaN if none of its verdicts has an amount
    merchant_legitimate_since_fraud    known legitimate transactions on days after the newest fraud's
    merchant_risk_last_N    share of fraud among the last N known transactions; the day on which N is reached counts in
    proportion

A merchant that leaks card data shows as a long run with a share near 1 and ordinary amounts; a single stolen card used
there shows as a run of one with a high amount. The run's age and the legitimate transactions since show whether it
continues. M need not be a day boundary: verdicts given earlier on day D count, so hourly tables detect a compromise
half a day sooner.

The tables wait for maturity because the frauds of the last days are not known yet, so every recent share would be too
low (Le Borgne et al., Fraud Detection Handbook, 2022, ch. 3.3). Memory: about 1.1 kB per merchant or device, plus the
labels' read model: 12 bytes per transaction, and every verdict.

A fraud verdict counts only if it passes the labels' quality control (`projections.reference.reports`) and names its
merchant or device. It counts once per account and transaction, at the time of the first fraud verdict, however many
sources confirm it. A verdict may claim another day than its payment's, so shares are capped at 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.canonical import texts
from core.errors import BadInput
from core.events import FeedbackReceived
from core.features.columns import TransactionLike, columns
from core.features.reference import COLUMNS, Kind, ReferenceTable
from core.features.spec import LAST_KNOWN, RUN_GAP_DAYS
from core.hashing import HashKey, hash_strings
from core.times import DAY_MS, HOUR_MS
from core.verdicts import RatedHour
from projections.reference.reports import Reports

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]

MATURITY_DAYS = 7
_WINDOWS = (1, 7, 30)
_DAYS = MATURITY_DAYS + 30 + 2
_KNOWN_DAYS = MATURITY_DAYS + 30 + 1

# −64·ln(zeros/64) by set bits, as in core.features.kernel, rounded to whole accounts.
_LINEAR = np.round(64.0 * np.log(64.0 / np.maximum(64 - np.arange(65), 1))).astype(np.float32)


def period_ms(hours: int) -> int:
    """The interval between tables in ms. Raises BadInput unless it divides the day, so that it includes midnight."""
    if hours < 1 or 24 % hours:
        raise BadInput(f"the interval between reference tables must be 1, 2, 3, 4, 6, 8, 12 or 24 hours, not {hours}")
    return hours * HOUR_MS


class _Entity:
    """Columns by day for every merchant or device: a ring buffer of _DAYS days that ends at `newest`."""

    def __init__(self) -> None:
        self.rows: dict[int, int] = {}
        self.newest = -1
        self.count = np.zeros((256, _DAYS), dtype=np.int32)
        self.accounts = np.zeros((256, _DAYS), dtype=np.uint64)

    def locate(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        unique, inverse = np.unique(hashes, return_inverse=True)
        rows = self.rows
        found = np.array([rows.setdefault(key, len(rows)) for key in unique.tolist()], dtype=np.int64)
        if len(rows) > len(self.count):
            size = max(len(rows), 2 * len(self.count))
            for name in ("count", "accounts"):
                old = getattr(self, name)
                grown = np.zeros((size, _DAYS), dtype=old.dtype)
                grown[: len(old)] = old
                setattr(self, name, grown)
        return found[inverse]

    def advance(self, day: int) -> None:
        """Advance the ring to `day`, clearing the columns of the days after `newest`."""
        if day <= self.newest:
            return
        first = max(self.newest + 1, day - _DAYS + 1)
        places = np.arange(first, day + 1) % _DAYS
        for array in (self.count, self.accounts):
            array[:, places] = 0
        self.newest = day

    def window(self, array: NDArray[np.int32], first: int, last: int) -> NDArray[np.int64]:
        """Sums over the days first … last (inclusive) that are still in the ring: (rows,)."""
        sums = np.zeros(len(self.rows), dtype=np.int64)
        for day in range(max(first, self.newest - _DAYS + 1), min(last, self.newest) + 1):
            sums += array[: len(self.rows), day % _DAYS]
        return sums


class _Frauds(NamedTuple):
    """An entity's reports by day of its ring, (rows, _DAYS): frauds by the payment's day, reports by the report's day,
    and the smallest disputed amount by the payment's day (inf: none).
    """

    fraud: NDArray[np.int32]
    reports: NDArray[np.int32]
    amount: NDArray[np.float32]


class ReferenceBuilder:
    """Folds events in any order of partitions. Tables must be requested in ascending order of `as_of`.

    key: the log's. reports: what folds the fraud reports, by default every payment and verdict.
    """

    def __init__(self, key: HashKey, reports: Reports | None = None) -> None:
        self._key = key
        self._entities: dict[Kind, _Entity] = {"merchant": _Entity(), "device": _Entity()}
        self._reports = reports or Reports()

    def add_transactions(self, partition: int, transactions: Sequence[TransactionLike]) -> None:
        """Count decided transactions of a partition."""
        if not transactions:
            return
        self._reports.add_payments(partition, transactions)
        cols = columns(transactions, self._key)
        self.count(cols.received // DAY_MS, {"merchant": cols.merchants, "device": cols.devices}, cols.owners)

    def count(self, days: Ints, hashes: Mapping[Kind, Hashes], accounts: Hashes) -> None:
        """Count n payments by day, but fold no report. hashes: of what each names, 0 if nothing; accounts: of each
        account's ID; all (n,).
        """
        for kind, named in hashes.items():
            entity = self._entities[kind]
            entity.advance(int(days.max()))
            use = (named != 0) & (days > entity.newest - _DAYS)
            rows, places = entity.locate(named[use]), days[use] % _DAYS
            np.add.at(entity.count, (rows, places), 1)
            if kind == "device":
                bits = np.uint64(1) << (accounts[use] >> np.uint64(58))
                np.bitwise_or.at(entity.accounts, (rows, places), bits)

    @property
    def over_rate(self) -> Sequence[RatedHour]:
        """The hours in which a source exceeded its rate over all partitions, as far as events were folded."""
        return self._reports.over_rate

    def add_verdict(self, partition: int, event: FeedbackReceived, recorded_at: int) -> None:
        """Fold a verdict, which counts in tables as of a later moment. recorded_at: log time, epoch ms."""
        self._reports.add_verdict(partition, event, recorded_at)

    def _frauds(self, kind: Kind, before: int) -> _Frauds:
        """The reports given before the moment `before` (epoch ms), on the entity's ring."""
        entity = self._entities[kind]
        named = [
            (name, each)
            for each in self._reports.current((before // DAY_MS - _DAYS) * DAY_MS)
            if each.at < before and (name := each.merchant_id if kind == "merchant" else each.device_id)
        ]
        days = np.array([each.at // DAY_MS for _, each in named], dtype=np.int64)
        entity.advance(int(days.max(initial=-1)))
        rows = entity.locate(hash_strings(texts([name for name, _ in named]), self._key))
        shape = (len(entity.rows), _DAYS)
        found = _Frauds(np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.full(shape, np.inf, np.float32))
        held = days > entity.newest - _DAYS
        np.add.at(found.reports, (rows[held], days[held] % _DAYS), 1)
        paid = np.array([each.paid_at // DAY_MS for _, each in named], dtype=np.int64)
        held = (paid > entity.newest - _DAYS) & (paid <= entity.newest)
        np.add.at(found.fraud, (rows[held], paid[held] % _DAYS), 1)
        amounts = np.array([each.amount for _, each in named], dtype=np.float32)
        held &= amounts > 0.0
        np.minimum.at(found.amount, (rows[held], paid[held] % _DAYS), amounts[held])
        return found

    def table(self, kind: Kind, as_of: int) -> ReferenceTable:
        """The table as of receive time `as_of` (epoch ms), which must not decrease from call to call.

        Verdicts given from that moment on, and transactions of its day or later, are not included even if already
        folded.
        """
        entity = self._entities[kind]
        day = as_of // DAY_MS
        frauds = self._frauds(kind, before=as_of)
        n = len(entity.rows)
        values = np.empty((n, COLUMNS[kind]), dtype=np.float32)
        if kind == "merchant":
            end = day - MATURITY_DAYS - 1
            for column, width in enumerate(_WINDOWS):
                count = entity.window(entity.count, end - width + 1, end)
                fraud = entity.window(frauds.fraud, end - width + 1, end)
                values[:, column] = count
                with np.errstate(invalid="ignore", divide="ignore"):
                    values[:, 3 + column] = np.where(count > 0, np.minimum(fraud, count) / count, np.nan)
            values[:, 6] = entity.window(frauds.reports, day - 7, day - 1)
            values[:, 7:] = _recent_past(entity, frauds, day, values[:, 2] > 0)
        else:
            seen = np.zeros(n, dtype=np.uint64)
            for d in range(day - 30, day):
                if entity.newest - _DAYS < d <= entity.newest:
                    seen |= entity.accounts[:n, d % _DAYS]
            values[:, 0] = _LINEAR[np.bitwise_count(seen)]
            values[:, 1] = entity.window(frauds.reports, day - 30, day - 1)
        keys = np.fromiter(entity.rows, np.uint64, n)
        order = np.argsort(keys)
        return ReferenceTable(kind, as_of, keys[order], values[order])


def _recent_past(entity: _Entity, frauds: _Frauds, day: int, legitimate: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The columns from merchant_days_since_fraud on, as of `day`: (rows, 6 + len(LAST_KNOWN)); see the module's head.

    legitimate: bool (rows,), merchants with known transactions, all of them legitimate unless the ring has a fraud.
    """
    n = len(entity.rows)
    days = np.arange(day, day - _KNOWN_DAYS, -1)  # newest first
    held = (days <= entity.newest) & (days > entity.newest - _DAYS)
    places = days[held] % _DAYS
    has = np.flatnonzero(frauds.fraud.any(axis=1))
    has = has[frauds.fraud[has][:, places].any(axis=1)]
    count, fraud = np.zeros((2, len(has), _KNOWN_DAYS), dtype=np.int64)
    amount = np.full((len(has), _KNOWN_DAYS), np.inf)
    count[:, held], fraud[:, held] = entity.count[has][:, places], frauds.fraud[has][:, places]
    amount[:, held] = frauds.amount[has][:, places]
    mature = np.arange(_KNOWN_DAYS) > MATURITY_DAYS
    known = np.where(mature, np.maximum(count, fraud), fraud)
    out = np.full((n, 6 + len(LAST_KNOWN)), np.nan)
    out[:, 2] = 0.0
    out[legitimate, 6:] = 0.0
    out[has, :6] = _run(fraud, known, amount)
    for i, size in enumerate(LAST_KNOWN):
        out[has, 6 + i] = _share_of_last(fraud, known, size)
    return out


def _run(fraud: NDArray[np.int64], known: NDArray[np.int64], amount: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Days since fraud, and the run's days, frauds, share, smallest amount, and legitimate payments since: (rows, 6).

    Inputs are (rows, days), newest day first; every row has a fraud.
    """
    newest = np.argmax(fraud > 0, axis=1)
    first = newest.copy()
    for day in range(fraud.shape[1]):
        longer = (fraud[:, day] > 0) & (day > first) & (day - first <= RUN_GAP_DAYS)
        first[longer] = day
    index = np.arange(fraud.shape[1])
    inside = index <= first[:, None]
    frauds = np.where(inside, fraud, 0).sum(axis=1)
    smallest = np.where(inside, amount, np.inf).min(axis=1, initial=np.inf)
    later = np.where(index < newest[:, None], known - fraud, 0).sum(axis=1)
    share = frauds / np.where(inside, known, 0).sum(axis=1)
    return np.stack([newest, first, frauds, share, np.where(np.isfinite(smallest), smallest, np.nan), later], axis=1)


def _share_of_last(fraud: NDArray[np.int64], known: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """Share of fraud among the last `size` known transactions: (rows,). Inputs are (rows, days), newest day first;
    every row has a fraud.
    """
    taken = np.zeros(len(fraud), dtype=np.int64)
    frauds = np.zeros(len(fraud))
    for day in range(fraud.shape[1]):
        of_day = np.minimum(known[:, day], size - taken)
        frauds += fraud[:, day] * (of_day / np.maximum(known[:, day], 1))
        taken += of_day
    return frauds / taken
