"""One partition's verdicts in memory: the labels' read model as of any cut, without a fold.

Only accounts with a verdict matter, so only these are folded, by the read model's own handlers
(`projections.views.labels`), from their first payment on. What the fold forgets is kept beside it: where each verdict
stands in the stream of feedback, from which payment on a verdict's payment was known, and what was forgotten when. The
state as of a cut follows from these by bisection; labels are computed from it as from any other
(`projections.labelling`), so verdicts that come late, are repeated or taken back, and reliabilities that were learned
later, count for no moment before.

An account is followed as the index reads it if its first verdict was known before; else its payments until then are
read from the log by their positions. What is folded may be ahead of what is told: a cut excludes it.

Cost: about 1.3 kB a verdict, 0.5 kB for each account that has one, and 12 bytes for each of such an account's payments
(36 once they are older than the labels' memory). A state takes 1 to 2 µs a verdict.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from core.codec import decode_score, decode_transaction
from core.errors import Corrupt
from core.events import START, FeedbackReceived, Position
from core.log.base import Entry
from core.times import DAY_MS
from projections.engine.base import DecidedTransaction, Fact
from projections.engine.feed import Bound
from projections.views.labels import LABELS, AccountLabels, Labels


class _Account:
    """given: by transaction, where its verdicts stand; known: the payment from which on it is in the log, START if it
    was when the first verdict came. forgotten: (generation, offset) of a payment and the time up to which it forgot
    others, one after the other.
    """

    __slots__ = ("forgotten", "given", "known")

    def __init__(self) -> None:
        self.given: dict[str, list[Position]] = {}
        self.known: dict[str, Position] = {}
        self.forgotten = array("q")

    def forgotten_by(self, position: Position) -> int:
        """What was forgotten after the payment at a position, epoch ms."""
        rows = range(len(self.forgotten) // 3)
        end = bisect_right(rows, position, key=lambda row: Position(*self.forgotten[3 * row : 3 * row + 2]))
        return self.forgotten[3 * end - 1] if end else 0


class Fold:
    """The read model's state of some accounts, and beside it what it was before."""

    def __init__(self) -> None:
        self.state = Labels()
        self.accounts: dict[str, _Account] = {}

    def take(self, fact: Fact) -> None:
        """Fold a decision or an account event."""
        event = fact.event
        if isinstance(event, DecidedTransaction):
            self._paid(fact, event.transaction.account_id, event.transaction.transaction_id)
        elif isinstance(event, FeedbackReceived):
            LABELS.apply(self.state, fact)
            account, transaction = event.account_id, event.transaction_id
            held = self.accounts.setdefault(account, _Account())
            held.given.setdefault(transaction, []).append(fact.id)
            if transaction in self.state.accounts[account].payments:
                held.known.setdefault(transaction, START)

    def _paid(self, fact: Fact, account: str, transaction: str) -> None:
        held = self.accounts.setdefault(account, _Account())
        before = self.state.forgotten.get(account, 0)
        LABELS.apply(self.state, fact)
        after = self.state.forgotten.get(account, 0)
        if after != before:
            held.forgotten.extend((*fact.id, after))
        if transaction in held.given and transaction in self.state.accounts[account].payments:
            held.known.setdefault(transaction, fact.id)

    def merge(self, other: Fold) -> None:
        """Take over accounts that this one does not have."""
        self.accounts |= other.accounts
        self.state.accounts |= other.state.accounts
        self.state.seen |= other.state.seen
        self.state.forgotten |= other.state.forgotten


class LabelsPast:
    """See the module's docstring. One thread follows; readers hold the same lock. unread: accounts with a verdict whose
    payments were indexed before it was known. is_broken: an entry could not be read, so nothing can be told.
    """

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.unread: set[str] = set()
        self.is_broken = False
        self._followed: set[str] = set()
        self._waiting: deque[Fact] = deque()
        self._fold = Fold()

    def expect(self, events: Iterable[Fact], *, is_first: bool) -> None:
        """Feedback ahead of the index, in order. is_first: it has nothing of the partition yet."""
        verdicts = [fact for fact in events if isinstance(fact.event, FeedbackReceived)]
        self._waiting += verdicts
        judged = {fact.event.account_id for fact in verdicts}
        if is_first:
            self._followed |= judged
        else:
            self.unread |= judged - self._followed

    def wants(self, account: str) -> bool:
        """Whether the account's decisions are to be heard."""
        return account in self._followed

    def hear(self, transaction: Entry, score: Entry) -> None:
        """The next decision of an account that it wants; folded at once, after the verdicts that it saw."""
        try:
            decided = DecidedTransaction(decode_transaction(transaction.payload), decode_score(score.payload), None)
            seen = Position.parse(decided.score.feedback_position)
        except (Corrupt, ValueError):
            self.is_broken = True
            return
        self._tell(seen)
        self._fold.take(Fact(self.partition, score.id, decided.transaction.recorded_at, decided))

    def take(self, unread: Fold) -> None:
        """Fold all feedback that was expected. unread: what accounts of this name have up to the same place."""
        self._tell(None)
        self._fold.merge(unread)
        self._followed |= self.unread
        self.unread = set()

    def _tell(self, until: Position | None) -> None:
        while self._waiting and (until is None or self._waiting[0].id <= until):
            fact = self._waiting.popleft()
            if fact.event.account_id in self._followed:
                self._fold.take(fact)

    def labels(self, cut: Bound, received: NDArray[np.int64]) -> Labels:
        """The read model's state as of a cut, as far as an answer reads it: without `seen`, and `forgotten` only of
        accounts with a verdict. received: the receive times of all payments up to the cut, epoch ms (n,).
        """
        found = Labels(days=_days(received))
        for account, held in self._fold.accounts.items():
            if not held.given:
                continue
            own, of = AccountLabels(), self._fold.state.accounts[account]
            for transaction, given in held.given.items():
                count = len(given) if given[-1] <= cut.feedback else bisect_right(given, cut.feedback)
                if not count:
                    continue
                own.verdicts[transaction] = of.verdicts[transaction][:count]
                known = held.known.get(transaction)
                if known is not None and known <= cut.transactions:
                    own.payments[transaction] = of.payments[transaction]
            if own.verdicts:
                found.accounts[account] = own
                if forgotten := held.forgotten_by(cut.transactions):
                    found.forgotten[account] = forgotten
        return found


def _days(times: NDArray[np.int64]) -> dict[int, int]:
    """How many of the times (epoch ms) are in each day; they mostly ascend, so there are few runs."""
    if not len(times):
        return {}
    days = times // DAY_MS
    begins = np.concatenate([[0], np.flatnonzero(days[1:] != days[:-1]) + 1])
    sizes = np.diff(begins, append=len(days))
    found: dict[int, int] = {}
    for day, size in zip(days[begins].tolist(), sizes.tolist(), strict=True):
        found[day] = found.get(day, 0) + size
    return found
