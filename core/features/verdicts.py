"""Each account's verdicts as features count them. Part of the account state; pure.

`fraud_verdicts`, `legitimate_verdicts` and `days_since_fraud` count the verdicts that pass what one account's own
feedback can tell (`core.verdicts`): a verdict before its payment (as it dates it) or too long after it does not count,
nor does one that its voice only repeats, in the order in which words were said. That a voice is over its rate takes all
partitions to know: a control event says so (SourceQuarantined), and from its position on those verdicts are left out.
A verdict on a payment that the log does not hold does count.

An account's verdicts are kept one by one, since one that was delivered late may make a repetition of another, or news
of one. At most WORDS_MAX are: beyond it the payment that was longest not spoken of is let go, and what its verdicts
counted for stays counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.events import FeedbackReceived
from core.features import spec
from core.times import DAY_MS, HOUR_MS
from core.verdicts import RatedHour, Said, brief, in_order_said, is_timely, news, rated_hour

WORDS_MAX = 100

_FRAUDS = spec.index("fraud_verdicts")
_SINCE_FRAUD = spec.index("days_since_fraud")
_LEGITIMATES = spec.index("legitimate_verdicts")


class Count(NamedTuple):
    """Verdicts that count. last_fraud_at: when fraud was said last, epoch ms; means nothing without a fraud."""

    frauds: int = 0
    legitimates: int = 0
    last_fraud_at: int = 0


class _Payment(msgspec.Struct, array_like=True):
    """What was said of a payment, in log order, and what of it counts."""

    words: list[Said] = []
    count: Count = Count()


class _Account(msgspec.Struct, array_like=True):
    """payments: in the order in which they were last spoken of. words: of them all. count: of all its verdicts.
    settled: what counted of those that are no longer kept.
    """

    payments: dict[str, _Payment] = {}
    words: int = 0
    count: Count = Count()
    settled: Count = Count()


class AccountVerdicts:
    """The verdicts of one partition's accounts. Not thread-safe; one owner. Some 500 bytes a verdict."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}
        self._quarantined: frozenset[RatedHour] = frozenset()
        self._without: dict[str, Count] = {}

    def add(self, event: FeedbackReceived) -> Count:
        """Take in a verdict; what now counts of its account. Cost: some 5 µs."""
        account = self._accounts.setdefault(event.account_id, _Account())
        word = brief(event, event.recorded_at // HOUR_MS * HOUR_MS)  # the hour tells all that a rate needs
        payment = account.payments.pop(event.transaction_id, None) or _Payment()
        account.payments[event.transaction_id] = payment
        if word in payment.words:  # sent again in the same hour it tells nothing, now or later
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

    def without(self, quarantined: frozenset[RatedHour]) -> Mapping[str, Count]:
        """What counts of each account that has a verdict of these hours if those are left out, of what is kept.

        Cost: a pass over all verdicts whenever `quarantined` is another.
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
        """All of them; equal verdicts in equal order, equal bytes."""
        return msgspec.json.encode(self._accounts)

    @classmethod
    def from_bytes(cls, content: bytes) -> AccountVerdicts:
        """Read what `to_bytes` wrote. Raises msgspec.MsgspecError if it is damaged."""
        verdicts = cls()
        verdicts._accounts = _decoder.decode(content)
        return verdicts


def leave_out(features: NDArray[np.float32], times: NDArray[np.int64], rows: Iterable[tuple[int, Count]]) -> None:
    """Give rows of `features` (n, WIDTH) another count of verdicts. times: of all rows, epoch ms (n,)."""
    for row, count in rows:
        features[row, _FRAUDS] = count.frauds
        features[row, _LEGITIMATES] = count.legitimates
        features[row, _SINCE_FRAUD] = (int(times[row]) - count.last_fraud_at) / DAY_MS if count.frauds else np.nan


_decoder = msgspec.json.Decoder(dict[str, _Account])


def _counted(words: list[Said]) -> Count:
    """What counts of the words on one payment."""
    ordered = in_order_said(word for word in words if is_timely(word, word.claimed_at))
    kept = [word for word, is_news in zip(ordered, news(ordered), strict=True) if is_news]
    frauds = [word.occurred_at for word in kept if word.verdict == "fraud"]
    return Count(len(frauds), sum(word.verdict == "legitimate" for word in kept), max(frauds, default=0))


def _changed(account: _Account, before: Count, after: Count) -> Count:
    """The account's count, of which `after` takes the place of one payment's `before`."""
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
