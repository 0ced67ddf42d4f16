"""Answers about past moments from what is in memory; what is not held there is folded from the log, as ever.

`Past` follows the log beside the index of decisions. `PastStates` are the read models' states as of a cut: an
answer's function can't tell them from `projections.engine.states.States`, and gets the same.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from console.api.index import DecisionIndex
from console.api.past.accounts import AccountsPast
from console.api.past.control import ControlPast
from console.api.past.labels import Fold, LabelsPast
from console.api.past.seals import Seals
from console.api.past.statistics import Rejects, throughput
from core.codec import decode_account_event
from core.control_stream import ControlStream
from core.errors import Conflict
from core.events import START, Position, Severity
from core.log.base import Entry, EventLog, Head
from core.log.paging import entries, entries_at
from projections.engine.as_of import Cut
from projections.engine.base import CONTROL, Fact, Projection, S, fold
from projections.engine.feed import Bound, account_facts, as_decided, facts_of_account
from projections.engine.states import States
from projections.views.cases import CASES
from projections.views.labels import LABELS
from projections.views.lists import LISTS
from projections.views.registry import REGISTRY
from projections.views.shadow import SHADOW, Shadows
from projections.views.throughput import THROUGHPUT

PAYMENTS_MAX = 2_000
"""An account with more payments is read from its partition's streams, in pages."""


class Past:
    """Seals, control events, alerts and feedback of one log. One thread follows; any may ask. lock: held for both."""

    def __init__(
        self, log: EventLog, partitions: Sequence[int], projections: Sequence[Projection[Any]], lock: threading.RLock
    ) -> None:
        self._log, self._partitions, self._lock = log, list(partitions), lock
        self.seals = {p: Seals() for p in partitions}
        self.rejects = {p: Rejects() for p in partitions}
        self.accounts = {p: AccountsPast(p) for p in partitions}
        self.labels = {p: LabelsPast(p) for p in partitions}
        self._feedback: dict[int, list[Fact]] = {p: [] for p in partitions}
        self.control = ControlPast(projections)
        self._stream = ControlStream()

    def expect(self, heads: Mapping[int, Head], indexed: Mapping[int, Position]) -> None:
        """Read the feedback up to these heads, before the index follows: the labels need the decisions of accounts with
        a verdict. indexed: up to where the index has come. Raises as `follow`.
        """
        for p, head in heads.items():
            waiting = self._feedback[p]
            if waiting and waiting[-1].id > head.feedback:
                raise Conflict(f"partition {p}: feedback up to {waiting[-1].id} was read, and ends at {head.feedback}")
            after = waiting[-1].id if waiting else self.accounts[p].end.feedback
            if head.feedback > after:
                found = [*map(partial(_event, p), [*entries(self._log, p, "feedback", after, head.feedback)])]
                self.labels[p].expect(found, is_first=indexed[p] == START)
                waiting += found

    def hear(self, partition: int, decided: Iterable[tuple[Entry, Entry, str, Severity | None]]) -> None:
        """Of further decisions those with an alert, and those of accounts with a verdict."""
        accounts, labels = self.accounts[partition], self.labels[partition]
        for transaction, score, account, severity in decided:
            if severity is not None:
                accounts.hear([(transaction, score)])
            if labels.wants(account):
                labels.hear(transaction, score)

    def follow(self, heads: Mapping[int, Head], index: DecisionIndex) -> None:
        """Read what is new up to these heads, as far as the index of decisions has come. Raises Unavailable, Corrupt,
        and Conflict if the log lost what was read before.
        """
        events = self._stream.advance(self._log)
        with self._lock:
            self.control.add(events)
        has_read = False
        for p, head in heads.items():
            self.seals[p].follow(self._log, p, head.sequence)
            self.rejects[p].follow(self._log, p, self.seals[p], head.sequence)
            end = self.seals[p].bound(head.sequence)
            if end.place > self.accounts[p].end.place and index.last(p) >= end.transactions:
                if self.labels[p].unread and has_read:
                    continue  # so that nobody waits for more than one partition of a large file of verdicts
                has_read |= bool(self.labels[p].unread)
                self._take(p, end, index)

    def _take(self, partition: int, end: Bound, index: DecisionIndex) -> None:
        """Take what was heard up to the end of a batch, with the feedback up to there."""
        accounts, labels, feedback = self.accounts[partition], self.labels[partition], self._feedback[partition]
        facts, unread = accounts.read(self._log, end, feedback), Fold()
        own: dict[str, list[Fact]] = {account: [] for account in labels.unread}
        for fact in feedback:
            own.get(fact.event.account_id, []).append(fact)
        for account, events in own.items():
            places = index.places(partition, account, end.transactions)
            decided = decisions_of(self._log, partition, account, places, end)
            for fact in as_decided(decided, events):
                unread.take(fact)
        with self._lock:
            labels.take(unread)
            accounts.take(facts, end)
        self._feedback[partition] = []

    def cut(self, moment: int) -> Cut | None:
        """As `projections.engine.as_of.resolve` of a time; None if it is not all held yet."""
        bounds, floor = {}, 0
        for p, seals in self.seals.items():
            sequence = seals.recorded_by(moment, len(seals))
            bounds[p] = seals.bound(sequence)
            floor = max(floor, seals.control[sequence - 1] if sequence else 0)
        with self._lock:
            if floor > len(self.control):
                return None
            return Cut(bounds, self.control.until(floor, moment), moment)

    def holds(self, partition: int, cut: Cut) -> bool:
        """Whether the partition's alerts and feedback are held up to the cut."""
        return self.accounts[partition].end.place >= cut.partitions[partition].place

    def never(self, alias: str) -> bool:
        """Whether no model ever had this alias; the caller holds the lock."""
        registry = self.control.state(REGISTRY, len(self.control))
        return all(deployment.alias != alias for deployment in registry.deployments)


class _Rows(NamedTuple):
    transactions: list[Position]
    feedback: list[Position]


@dataclass(frozen=True)
class PastStates(States):
    """States as of `cut`. See the module's docstring."""

    past: Past
    lock: threading.RLock
    index: DecisionIndex

    def of(self, projection: Projection[S], source: int) -> S:
        chosen: Projection[Any] = self._current(projection)
        found: Any = None
        with self.lock:
            if source == CONTROL:
                if self.cut.control <= len(self.past.control):
                    found = self.past.control.state(chosen, self.cut.control)
            elif self.past.holds(source, self.cut):
                found = self._held(chosen, source, self.cut.partitions[source])
        return super().of(projection, source) if found is None else found

    def _held(self, projection: Projection[Any], partition: int, bound: Bound) -> Any:
        """A partition's state from memory; None if that does not hold it."""
        seals, accounts = self.past.seals[partition], self.past.accounts[partition]
        sequence, inside = bound.place
        if projection is CASES:
            return accounts.cases(bound)
        if projection is LISTS:
            return accounts.lists(bound)
        if projection is THROUGHPUT and not inside:
            columns = self.index.columns({partition: bound.transactions})[partition]
            return throughput(seals, self.past.rejects[partition], columns, self.index.names, sequence)
        if projection is LABELS and not self.past.labels[partition].is_broken:
            columns = self.index.columns({partition: bound.transactions})[partition]
            return self.past.labels[partition].labels(bound, columns["at"])
        if projection is SHADOW and self.past.never("shadow"):
            return Shadows({}, max(seals.recorded[:sequence], default=0))  # decisions without one change nothing
        return None

    def of_account_each(self, projections: Sequence[Projection[Any]], account: str, partition: int) -> list[Any]:
        until = self.cut.partitions[partition]
        with self.lock:
            rows = None
            if self.past.holds(partition, self.cut):
                rows = _Rows(
                    self.index.places(partition, account, until.transactions),
                    self.past.accounts[partition].feedback_of(account, until),
                )
        if rows is None or len(rows.transactions) > PAYMENTS_MAX:
            return super().of_account_each(projections, account, partition)
        chosen = [*map(self._current, projections)]
        for projection in chosen:
            assert projection.is_by_account, projection.label
        facts: list[Fact] = [
            *facts_of_account(
                self.log,
                partition,
                account,
                entries_at(self.log, partition, "transactions", rows.transactions),
                entries_at(self.log, partition, "feedback", rows.feedback),
            )
        ]
        return [fold(projection, facts) for projection in chosen]


def decisions_of(log: EventLog, partition: int, account: str, places: Sequence[Position], end: Bound) -> Iterator[Fact]:
    """An account's decisions up to a bound, at these places, among which others' may be."""
    if len(places) > PAYMENTS_MAX:
        return account_facts(log, partition, account, Bound(), replace(end, feedback=START))
    return facts_of_account(log, partition, account, entries_at(log, partition, "transactions", places), ())


def _event(partition: int, entry: Entry) -> Fact:
    event = decode_account_event(entry.payload)
    return Fact(partition, entry.id, event.recorded_at, event)
