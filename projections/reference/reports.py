"""Fraud reports for the reference tables: the first accepted fraud verdict on each payment. A fold.

Verdicts pass the labels' quality control (`projections.labelling.quality`) over all partitions, as of everything folded
so far. A quarantined verdict is not a report, and a report is withdrawn if its verdict is quarantined later (its rater
exceeds the rate within the hour). A payment is reported once, however many sources confirm it and however much later.

Only payments affected by a change are judged again. Memory: the labels' read model, and about 200 bytes per verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from core.events import FeedbackReceived
from core.features.columns import TransactionLike
from core.receipt import receive_time
from core.verdicts import RatedHour, is_rated, rated_hour
from projections.labelling.quality import RULES, Rules, judge
from projections.views import labels as labels_view
from projections.views.labels import Labels

Payment = tuple[int, str, str]
"""Partition, account, transaction."""


class FraudReport(NamedTuple):
    """When it was given (epoch ms), the merchant and device it names ("" if none), the payment's time as claimed (epoch
    ms), and the disputed amount.
    """

    at: int
    merchant_id: str
    device_id: str
    paid_at: int
    amount: float


class Reports:
    """Folds payments and verdicts, in any order of partitions."""

    def __init__(self, rules: Rules = RULES) -> None:
        self._rules = rules
        self._labels: dict[int, Labels] = {}
        self._found: dict[Payment, FraudReport] = {}
        self._changed: dict[Payment, None] = {}
        self._hours: dict[RatedHour, list[Payment]] = {}
        self._over: dict[RatedHour, int] = {}
        self._oldest = 0

    def add_payments(self, partition: int, transactions: Iterable[TransactionLike]) -> None:
        """Fold decided transactions."""
        state = self._labels.setdefault(partition, Labels())
        for t in transactions:
            labels_view.add_payment(state, t.account_id, t.transaction_id, t.occurred_at, receive_time(t))
            judged = state.accounts.get(t.account_id)
            if judged is not None and t.transaction_id in judged.verdicts:
                self._changed[partition, t.account_id, t.transaction_id] = None

    def add_verdict(self, partition: int, event: FeedbackReceived, recorded_at: int) -> None:
        """Fold a verdict. recorded_at: log time, epoch ms."""
        state = self._labels.setdefault(partition, Labels())
        word = labels_view.add_verdict(state, event, recorded_at)
        payment = (partition, event.account_id, event.transaction_id)
        self._changed[payment] = None
        if not is_rated(word, self._rules.per_hour):
            return
        hour = rated_hour(word, event.account_id)
        held = self._hours.setdefault(hour, [])
        held.append(payment)
        if len(held) == self._rules.per_hour[word.source] + 1:
            self._over[hour] = recorded_at
            self._changed |= dict.fromkeys(held)

    @property
    def over_rate(self) -> Sequence[RatedHour]:
        """The hours in which a rater exceeded its rate over all partitions, in the order in which this was detected."""
        return list(self._over)

    def current(self, oldest: int) -> Iterable[FraudReport]:
        """The report of every payment that has one. Reports returned before may be missing if both report and payment
        are older than `oldest` (epoch ms, which must not decrease).
        """
        if oldest > self._oldest:
            self._found = {p: each for p, each in self._found.items() if max(each.at, each.paid_at) >= oldest}
            self._oldest = oldest
        newest = labels_view.newest(self._labels)
        again: dict[Payment, None] = {}
        for payment in self._changed:
            partition, account, transaction = payment
            claims = labels_view.claims_on(partition, self._labels[partition], account, transaction)
            judged = judge(claims, self._over, newest, self._rules)
            assert judged is not None
            first = next((word for word in judged.accepted if word.verdict == "fraud"), None)
            if first is None:
                self._found.pop(payment, None)
            else:
                self._found[payment] = FraudReport(
                    first.occurred_at, first.merchant_id, first.device_id, first.claimed_at, first.amount
                )
            if any(status in ("impossible_time", "unknown_transaction") for status in judged.quality):
                again[payment] = None  # may change later: newer payments may arrive, or this one be forgotten
        self._changed = again
        return self._found.values()
