"""Each account's verdicts as features count them. Part of the account state; pure.

`fraud_verdicts`, `legitimate_verdicts` and `days_since_fraud` count the verdicts that pass the checks possible on one
account's own feedback (`core.verdicts`). A verdict before its payment (as the verdict dates it) or too long after it
does not count, nor does a rater's repetition of itself, in the order in which verdicts were said. Whether a rater
exceeds its rate can be seen only across all partitions: a control event says so (SourceQuarantined), and from its
position on those verdicts are left out. A verdict on a payment that the log does not hold does count.

An account's verdicts are kept one by one, because a verdict delivered late may turn another into a repetition, or a
repetition into a new one. At most WORDS_MAX are kept: beyond that, the payment with the least recent verdict is
dropped, and what its verdicts counted for stays counted.

Also kept here: when an account's last signed block or unblock was told, so that no copy of an older one has an effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.events import AccountBlocked, AccountUnblocked, FeedbackReceived
from core.features import spec
from core.times import DAY_MS, HOUR_MS
from core.verdicts import RatedHour, VerdictRecord, brief_record, in_order_given, is_timely, news, rated_hour

WORDS_MAX = 100

_FRAUDS = spec.index("fraud_verdicts")
_SINCE_FRAUD = spec.index("days_since_fraud")
_LEGITIMATES = spec.index("legitimate_verdicts")


class Count(NamedTuple):
    """Verdicts that count. last_fraud_at: time of the latest fraud verdict, epoch ms; meaningless if frauds is 0."""

    frauds: int = 0
    legitimates: int = 0
    last_fraud_at: int = 0


class _Payment(msgspec.Struct, array_like=True):
    """A payment's verdicts, in log order, and how many of them count."""

    words: list[VerdictRecord] = []
    count: Count = Count()


class _Account(msgspec.Struct, array_like=True):
    """payments: in the order of their latest verdicts. words: how many verdicts they have together. count: of all the
    account's verdicts. settled: the count of those no longer kept.
    """

    payments: dict[str, _Payment] = {}
    words: int = 0
    count: Count = Count()
    settled: Count = Count()


class AccountVerdicts:
    """The verdicts of one partition's accounts. Not thread-safe; one owner. About 500 bytes per verdict."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._quarantined: frozenset[RatedHour] = frozenset()
        self._without: dict[str, Count] = {}
        self._acted: dict[str, int] = {}

    def acted_at(self, account_id: str) -> int:
        """When the account's last signed block or unblock was told, epoch ms; 0 for none."""
        return self._acted.get(account_id, 0)

    def acted(self, event: AccountBlocked | AccountUnblocked) -> None:
        """Remember when a block or unblock was told, if it is signed (`core.feedback_signing.repeats`)."""
        if event.key:
            self._acted[event.account_id] = max(event.occurred_at, self.acted_at(event.account_id))

    def add(self, event: FeedbackReceived) -> Count:
        """Add a verdict. Returns its account's new count. Cost: about 5 µs."""
        account = self._accounts.setdefault(event.account_id, _Account())
        word = brief_record(event, event.recorded_at // HOUR_MS * HOUR_MS)  # a rate needs only the hour
        payment = account.payments.pop(event.transaction_id, None) or _Payment()
        account.payments[event.transaction_id] = payment
        if word in payment.words:  # a copy sent within the hour adds nothing, now or later
            return account.count
        payment.words.append(word)
        account.words += 1
        before, payment.count = payment.count, _counted(payment.words)
        account.count = _changed(account, before, payment.count)
        while account.words > WORDS_MAX:
            longest = account.payments.pop(next(iter(account.payments)))
            account.words -= len(longest.words)
            account.settled = _added(account.settled, longest.count)
        if self._quarantined:
            self._leave_out(event.account_id)
        return account.count

    def forget(self, account_id: str) -> None:
        """Drop an account that is evicted."""
        self._accounts.pop(account_id, None)
        self._without.pop(account_id, None)
        self._acted.pop(account_id, None)

    def without(self, quarantined: frozenset[RatedHour]) -> Mapping[str, Count]:
        """The count, without the verdicts of these hours, of each account that has kept a verdict from them.

        Cost: a pass over all verdicts whenever `quarantined` changes.
        """
        if quarantined is not self._quarantined:
            is_other = quarantined != self._quarantined
            self._quarantined = quarantined
            if is_other:
                self._without = {}
                for account_id in self._accounts if quarantined else ():
                    self._leave_out(account_id)
        return self._without

    def _leave_out(self, account_id: str) -> None:
        account, hours = self._accounts[account_id], self._quarantined
        kept = [[w for w in p.words if rated_hour(w, account_id) not in hours] for p in account.payments.values()]
        if sum(map(len, kept)) < account.words:
            self._without[account_id] = reduce(_added, map(_counted, kept), account.settled)
        else:
            self._without.pop(account_id, None)

    def to_bytes(self) -> bytes:
        """All verdicts and times of signed acts; equal ones in equal order give equal bytes."""
        content = msgspec.json.encode(self._accounts)
        return content + b"\n" + msgspec.json.encode(self._acted) if self._acted else content

    @classmethod
    def from_bytes(cls, content: bytes) -> AccountVerdicts:
        """Read what `to_bytes` wrote. Raises msgspec.MsgspecError if it does not decode."""
        verdicts = cls()
        accounts, _, acted = content.partition(b"\n")  # JSON holds no line break of its own
        verdicts._accounts = _decoder.decode(accounts)
        verdicts._acted = _acted_decoder.decode(acted) if acted else {}
        return verdicts


def leave_out(features: NDArray[np.float32], times: NDArray[np.int64], rows: Iterable[tuple[int, Count]]) -> None:
    """Replace the verdict counts in rows of `features` (n, WIDTH). times: receive times of all rows, epoch
    ms (n,)."""
    for row, count in rows:
        features[row, _FRAUDS] = count.frauds
        features[row, _LEGITIMATES] = count.legitimates
        features[row, _SINCE_FRAUD] = (int(times[row]) - count.last_fraud_at) / DAY_MS if count.frauds else np.nan


_decoder = msgspec.json.Decoder(dict[str, _Account])
_acted_decoder = msgspec.json.Decoder(dict[str, int])


def _counted(words: list[VerdictRecord]) -> Count:
    """How many of one payment's verdicts count."""
    ordered = in_order_given(word for word in words if is_timely(word, word.claimed_at))
    kept = [word for word, is_news in zip(ordered, news(ordered), strict=True) if is_news]
    frauds = [word.occurred_at for word in kept if word.verdict == "fraud"]
    return Count(len(frauds), sum(word.verdict == "legitimate" for word in kept), max(frauds, default=0))


def _changed(account: _Account, before: Count, after: Count) -> Count:
    """The account's count once one payment's count has changed from `before` to `after`."""
    count = account.count
    last = max(count.last_fraud_at, after.last_fraud_at)
    if (
        before.frauds and before.last_fraud_at == count.last_fraud_at != after.last_fraud_at
    ):  # it may have been the last
        last = max(account.settled.last_fraud_at, *(each.count.last_fraud_at for each in account.payments.values()))
    return Count(
        count.frauds + after.frauds - before.frauds, count.legitimates + after.legitimates - before.legitimates, last
    )


def _added(one: Count, other: Count) -> Count:
    last = max(one.last_fraud_at, other.last_fraud_at)
    return Count(one.frauds + other.frauds, one.legitimates + other.legitimates, last)
