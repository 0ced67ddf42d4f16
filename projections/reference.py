"""The reference projection: merchants' and devices' history across all partitions, as tables for the feature spec.

A fold over transactions and fraud verdicts, in day columns of event time (UTC). A table as of a moment D (a day
boundary) holds, for a label delay of L days and windows W of 1, 7 and 30 days:

    merchant_count_W   transactions in [D − L − W, D − L)
    merchant_risk_W    share of those with a fraud verdict that came before D
    merchant_reports_7d, device_reports_30d    fraud verdicts that came in [D − 7 or 30, D), whatever their
    transaction's day
    device_accounts_30d    distinct accounts in [D − 30, D), linear counting on 64 bits

The delay is there because the frauds of the last days are not known yet: without it every recent share would be too low
(Le Borgne et al., Fraud Detection Handbook, 2022, ch. 3.3). Memory: about 1.3 kB a merchant or device; no
per-transaction state except the hashes of transactions with a fraud verdict, for as long as they count.

A verdict counts only if it names its merchant or device, and once per account's transaction however many sources
confirm it. Verdicts may name transactions that were never counted (from before the first one taken in); a share is
therefore cut at 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.events import FeedbackReceived
from core.features.reference import COLUMNS, Kind, ReferenceTable
from core.features.spec import DAY_MS
from core.numeric import hash_strings

LABEL_DELAY_DAYS = 7
_WINDOWS = (1, 7, 30)
_DAYS = LABEL_DELAY_DAYS + 30 + 2
_VERDICTS_DAYS = 120

# −64·ln(zeros/64) by set bits, as in core.features.kernel, rounded to whole accounts.
_LINEAR = np.round(-64.0 * np.log(np.maximum(64 - np.arange(65), 1) / 64.0)).astype(np.float32)


class _Entity:
    """Day columns of every merchant or device: a ring of _DAYS days that ends at `newest`."""

    def __init__(self) -> None:
        self.rows: dict[int, int] = {}
        self.newest = -1
        self.count = np.zeros((256, _DAYS), dtype=np.int32)
        self.fraud = np.zeros((256, _DAYS), dtype=np.int32)
        self.reports = np.zeros((256, _DAYS), dtype=np.int32)
        self.accounts = np.zeros((256, _DAYS), dtype=np.uint64)

    def locate(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        unique, inverse = np.unique(hashes, return_inverse=True)
        rows = self.rows
        found = np.array([rows.setdefault(key, len(rows)) for key in unique.tolist()], dtype=np.int64)
        if len(rows) > len(self.count):
            size = max(len(rows), 2 * len(self.count))
            for name in ("count", "fraud", "reports", "accounts"):
                old = getattr(self, name)
                grown = np.zeros((size, _DAYS), dtype=old.dtype)
                grown[: len(old)] = old
                setattr(self, name, grown)
        return found[inverse]

    def advance(self, day: int) -> None:
        """Clear the columns of the days after `newest` up to `day`."""
        if day <= self.newest:
            return
        first = max(self.newest + 1, day - _DAYS + 1)
        columns = np.arange(first, day + 1) % _DAYS
        for array in (self.count, self.fraud, self.reports, self.accounts):
            array[:, columns] = 0
        self.newest = day

    def window(self, array: NDArray[np.int32], first: int, last: int) -> NDArray[np.int64]:
        """Sum over days first … last (inclusive) that the ring still holds: (rows,)."""
        days = [d for d in range(first, last + 1) if self.newest - _DAYS < d <= self.newest]
        sums: NDArray[np.int64] = array[: len(self.rows), [d % _DAYS for d in days]].sum(axis=1, dtype=np.int64)
        return sums


class ReferenceBuilder:
    """Folds events in any order of partitions; tables are asked for as of days that never go back."""

    def __init__(self) -> None:
        self._entities: dict[Kind, _Entity] = {"merchant": _Entity(), "device": _Entity()}
        self._verdicts: dict[int, int] = {}
        self._waiting: dict[int, list[tuple[int, int, int]]] = {}

    def add_transactions(
        self,
        merchants: NDArray[np.uint64],
        devices: NDArray[np.uint64],
        accounts: NDArray[np.uint64],
        times: NDArray[np.int64],
    ) -> None:
        """Count transactions: hashes by core.numeric.hash_strings (0 = unknown), times epoch ms, all (n,)."""
        if not len(times):
            return
        days = times // DAY_MS
        for kind, hashes in (("merchant", merchants), ("device", devices)):
            entity = self._entities[kind]  # type: ignore[index]
            entity.advance(int(days.max()))
            use = (hashes != 0) & (days > entity.newest - _DAYS)
            rows, columns = entity.locate(hashes[use]), days[use] % _DAYS
            np.add.at(entity.count, (rows, columns), 1)
            if kind == "device":
                bits = np.uint64(1) << (accounts[use] >> np.uint64(58))
                np.bitwise_or.at(entity.accounts, (rows, columns), bits)

    def add_verdict(self, event: FeedbackReceived) -> None:
        """Take in a fraud verdict, which counts from the first table after its day; anything else is ignored."""
        if event.verdict != "fraud":
            return
        day = event.occurred_at // DAY_MS
        transaction, merchant, device = (
            int(h)
            for h in hash_strings([f"{event.account_id}\x1e{event.transaction_id}", event.merchant_id, event.device_id])
        )
        if transaction in self._verdicts:
            return
        self._verdicts[transaction] = day
        self._waiting.setdefault(day, []).append((merchant, device, event.transaction_occurred_at // DAY_MS))

    def _count_verdicts(self, before: int) -> None:
        """Count the waiting verdicts of the days before `before`."""
        for day in sorted(d for d in self._waiting if d < before):
            for merchant, device, fraud_day in self._waiting.pop(day):
                for kind, key in (("merchant", merchant), ("device", device)):
                    if not key:
                        continue
                    entity = self._entities[kind]  # type: ignore[index]
                    entity.advance(day)
                    row = int(entity.locate(np.array([key], dtype=np.uint64))[0])
                    if day > entity.newest - _DAYS:
                        entity.reports[row, day % _DAYS] += 1
                    if entity.newest - _DAYS < fraud_day <= entity.newest:
                        entity.fraud[row, fraud_day % _DAYS] += 1

    def table(self, kind: Kind, as_of: int) -> ReferenceTable:
        """The table as of event time `as_of` (epoch ms, cut down to its day), which must never go back.

        Events of that day and later that have been taken in already don't show in it.
        """
        entity = self._entities[kind]
        day = as_of // DAY_MS
        self._count_verdicts(before=day)
        n = len(entity.rows)
        values = np.empty((n, COLUMNS[kind]), dtype=np.float32)
        if kind == "merchant":
            end = day - LABEL_DELAY_DAYS - 1
            for column, width in enumerate(_WINDOWS):
                count = entity.window(entity.count, end - width + 1, end)
                fraud = entity.window(entity.fraud, end - width + 1, end)
                values[:, column] = count
                with np.errstate(invalid="ignore", divide="ignore"):
                    values[:, 3 + column] = np.where(count > 0, np.minimum(fraud, count) / count, np.nan)
            values[:, 6] = entity.window(entity.reports, day - 7, day - 1)
        else:
            seen = np.zeros(n, dtype=np.uint64)
            for d in range(day - 30, day):
                if entity.newest - _DAYS < d <= entity.newest:
                    seen |= entity.accounts[:n, d % _DAYS]
            values[:, 0] = _LINEAR[np.bitwise_count(seen)]
            values[:, 1] = entity.window(entity.reports, day - 30, day - 1)
        keys = np.fromiter(entity.rows, np.uint64, n)
        order = np.argsort(keys)
        self._verdicts = {t: d for t, d in self._verdicts.items() if d > day - _VERDICTS_DAYS}
        return ReferenceTable(kind, day * DAY_MS, keys[order], values[order])
