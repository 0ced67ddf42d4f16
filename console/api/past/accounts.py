"""One partition's alerts, verdicts and acts in memory: the case queue and the lists as of any cut, and where an
account's entries are.

Decisions without an alert change neither, so their facts are all that a fold needs; there are as many as alerts and
messages of feedback. Of each account whose cases change, every version is kept (about 1 kB): the queue as of a cut is
the last version of each account before it. A fact's place in their common order is its number; a cut is how many facts
come before it, which follows from the cut's positions in the two streams (`projections.engine.feed.Bound`).

They are read once the index of decisions has caught up with the partition's head, so always whole batches.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple, get_origin

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.codec import decode_alert, decode_score, decode_transaction
from core.errors import Corrupt
from core.events import Position
from core.log.base import Entry, EventLog
from core.log.paging import entries
from projections.engine.base import DecidedTransaction, Fact, fold
from projections.engine.feed import Bound, as_decided
from projections.views.case_records import AccountCases, Case, Cases
from projections.views.cases import CASES
from projections.views.lists import LISTS, Lists

_LISTS = tuple(f.name for f in msgspec.structs.fields(Case) if get_origin(f.type) is list)


class _Versions(NamedTuple):
    """An account's cases after each fact that changed them: the facts' numbers, and the states."""

    numbers: list[int]
    states: list[AccountCases]


class AccountsPast:
    """See the module's docstring. One thread follows; readers hold the same lock."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.end = Bound()
        self._waiting: list[tuple[Entry, Entry]] = []
        self._alerts: list[Position] = []
        self._events: list[Position] = []
        self._accounts = array("q")
        self._live = Cases()
        self._versions: dict[str, _Versions] = {}
        self._blocks: list[tuple[int, Fact]] = []

    def hear(self, alerted: Iterable[tuple[Entry, Entry]]) -> None:
        """Further decisions with an alert, in order: transactions with their scores."""
        self._waiting += alerted

    def read(self, log: EventLog, end: Bound, feedback: Iterable[Fact]) -> list[Fact]:
        """What follows, up to the end of a batch of whose decisions `hear` has heard. feedback: the partition's up to
        there. Raises Unavailable, Corrupt.
        """
        alerts = {
            e.id: e.payload for e in entries(log, self.partition, "alerts", self.end.transactions, end.transactions)
        }
        decisions = (self._decision(transaction, score, alerts) for transaction, score in self._waiting)
        return [*as_decided(decisions, feedback)]

    def take(self, facts: Iterable[Fact], end: Bound) -> None:
        """Fold what was read up to that end."""
        for fact in facts:
            self._take(fact)
        self._waiting = []
        self.end = end

    def _decision(self, transaction: Entry, score: Entry, alerts: dict[Position, bytes]) -> Fact:
        alert = alerts.get(score.id)
        if alert is None:
            raise Corrupt(f"partition {self.partition}: the log has no alert at {score.id}")
        decided = DecidedTransaction(
            decode_transaction(transaction.payload), decode_score(score.payload), decode_alert(alert)
        )
        return Fact(self.partition, score.id, decided.transaction.recorded_at, decided)

    def _take(self, fact: Fact) -> None:
        number = len(self._alerts) + len(self._events)
        if isinstance(fact.event, DecidedTransaction):
            account = fact.event.transaction.account_id
            self._alerts.append(fact.id)
        else:
            account = fact.event.account_id
            self._events.append(fact.id)
            self._accounts.append(hash(account))
            if type(fact.event) in LISTS.handlers:
                self._blocks.append((number, fact))
        if type(fact.event) not in CASES.handlers:
            return
        CASES.apply(self._live, fact)
        held = self._live.accounts.get(account)
        if held is None:
            return
        versions = self._versions.setdefault(account, _Versions([], []))
        if not versions.states or held != versions.states[-1]:
            versions.numbers.append(number)
            versions.states.append(_copy(held))

    def _count(self, cut: Bound) -> int:
        """How many facts come before the cut."""
        return bisect_right(self._alerts, cut.transactions) + bisect_right(self._events, cut.feedback)

    def cases(self, cut: Bound) -> Cases:
        """The case queue as of a cut. Its accounts are shared: not to be changed."""
        count = self._count(cut)
        found = {}
        for account, (numbers, states) in self._versions.items():
            if numbers[0] < count:
                found[account] = states[-1] if numbers[-1] < count else states[bisect_right(numbers, count - 1) - 1]
        return Cases(found)

    def lists(self, cut: Bound) -> Lists:
        """Blocked accounts as of a cut."""
        end = bisect_right(self._blocks, self._count(cut) - 1, key=lambda block: block[0])
        return fold(LISTS, (fact for _, fact in self._blocks[:end]))

    def feedback_of(self, account: str, cut: Bound) -> list[Position]:
        """Where the account's feedback up to a cut is; another account's may be among it."""
        rows: NDArray[np.intp] = np.flatnonzero(np.frombuffer(self._accounts, dtype=np.int64) == hash(account))
        end = bisect_right(self._events, cut.feedback)
        return [self._events[row] for row in rows.tolist() if row < end]


def _copy(held: AccountCases) -> AccountCases:
    """The same cases, whose later changes do not change these. What is in their lists never changes."""
    return AccountCases(
        [msgspec.structs.replace(case, **{name: [*getattr(case, name)] for name in _LISTS}) for case in held.cases]
    )
