"""The read models, kept folded in memory: an answer about now needs no fold, one about the past starts from a
checkpoint.

One thread folds what is new (`follow`); readers compute and encode an answer while it waits (`answer`), so that no
answer sees half a batch. A past moment is folded apart from the live states, without holding them up; its answer never
changes, so it is kept.

Cost: the read models' own, about 50 µs a decision, and 5 ms to find nothing new. An answer about now takes what its
question takes. One about an account in the past reads the account's entries; those about cases, lists, labels,
statistics, models, rules, programs and drift are in memory (`console.api.past`). Any other question about the past, of
a shadow model or an experiment, folds everything after the newest checkpoint that is before it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import msgspec
from numpy.typing import NDArray

from console.api.index import DecisionIndex, Hit
from console.api.past.states import PAYMENTS_MAX, Past, PastStates
from core.errors import BadInput, Conflict
from core.events import Position
from core.log.base import EventLog
from core.partitions import partitions_of
from projections.catalogue import ALL
from projections.engine.as_of import Cut, parse_time, resolve
from projections.engine.base import CONTROL, Place, Projection, S
from projections.engine.checkpoints import CheckpointStore
from projections.engine.feed import Bound, bound_at
from projections.engine.runner import Runner, Status
from projections.engine.states import States
from projections.tables.query import Query

KEPT_BYTES_MAX = 64 * 2**20
CUTS_MAX = 200
SETTLED_MS = 5_000
"""A moment this long ago holds what it will always hold: workers' clocks may differ a little."""
STEP_BATCHES = 20
"""Batches folded at a time: an answer waits for one step at most."""
STEP_ROWS = 2_000
"""Decisions of a partition that are indexed at a time."""
T = TypeVar("T")
Columns = dict[str, NDArray[Any]]


class Followed(NamedTuple):
    """What one step did. is_behind: there is a backlog, so the next step follows at once."""

    is_news: bool
    is_behind: bool


@dataclass(frozen=True)
class LiveStates(States):
    """The states of a running fold, where they are at the cut; others are folded as ever."""

    runner: Runner

    def of(self, projection: Projection[S], source: int) -> S:
        chosen = self._current(projection)
        view = self.runner.view(chosen, source)
        if view.place == self.cut.place(source):
            state: S = view.state
            return state
        return super().of(projection, source)

    def of_account_each(self, projections: Sequence[Projection[Any]], account: str, partition: int) -> list[Any]:
        return [self.of(projection, partition) for projection in projections]


@dataclass
class _Kept:
    """Answers about the past, the least recently asked for forgotten first."""

    answers: OrderedDict[tuple[str, str], bytes] = field(default_factory=OrderedDict)
    size: int = 0

    def get(self, key: tuple[str, str]) -> bytes | None:
        found = self.answers.get(key)
        if found is not None:
            self.answers.move_to_end(key)
        return found

    def put(self, key: tuple[str, str], answer: bytes) -> None:
        if key in self.answers or len(answer) > KEPT_BYTES_MAX // 4:
            return
        self.answers[key] = answer
        self.size += len(answer)
        while self.size > KEPT_BYTES_MAX:
            self.size -= len(self.answers.popitem(last=False)[1])


class Views:
    """See the module's docstring. Thread-safe but for `follow`, which one thread calls."""

    def __init__(self, log: EventLog, store: CheckpointStore) -> None:
        """Loads checkpoints. Raises BadInput if the log is empty."""
        self.log = log
        self.partitions = partitions_of(log)
        self._store = store
        self._runner = Runner(log, self.partitions, ALL, store)
        self.index = DecisionIndex(self.partitions)
        self._lock = threading.RLock()
        self._past = Past(log, self.partitions, ALL, self._lock)
        self._bounds: dict[int, Bound] = {}
        self._cuts: OrderedDict[str, Cut] = OrderedDict()
        self._kept = _Kept()
        self.is_caught_up = False

    def follow(self) -> Followed:
        """Fold and index some of what is new. Raises Unavailable, Corrupt."""
        heads = {p: self.log.head(p) for p in self.partitions}
        control = self.log.control_head()
        with self._lock:
            folded = self._runner.step(STEP_BATCHES)
        try:
            self._past.expect(heads, {p: self.index.last(p) for p in self.partitions})
        except Conflict:  # as below
            self._forget()
            return Followed(True, True)
        with self._lock:
            ends = {p: h.transactions for p, h in heads.items()}
            indexed = self.index.follow(self.log, ends, STEP_ROWS, self._past.hear)
            is_behind = self._foremost(CONTROL).sequence < control or any(
                self._foremost(p).sequence < head.sequence or self.index.last(p) < head.transactions
                for p, head in heads.items()
            )
        try:
            self._past.follow(heads, self.index)
        except Conflict:  # the log server lost its tail: what was read may never have been
            self._forget()
            return Followed(True, True)
        self.is_caught_up = self.is_caught_up or not is_behind
        return Followed(folded + indexed > 0, is_behind)

    def _forget(self) -> None:
        """Read the log again from its beginning."""
        with self._lock:
            self.index = DecisionIndex(self.partitions)
            self._past = Past(self.log, self.partitions, ALL, self._lock)
            self._kept, self._cuts = _Kept(), OrderedDict()

    def checkpoint(self) -> None:
        """Save the states, so that the next start begins there."""
        with self._lock:
            self._runner.checkpoint()

    def status(self, now_ms: int) -> list[Status]:
        """Place, lag and faults of each read model."""
        with self._lock:
            return self._runner.status(now_ms)

    def answer(self, name: str, question: Callable[[States], Any], as_of: str | None = None) -> bytes:
        """The JSON of what `question` returns as of now or of a moment. name: the question with its arguments, which
        finds an answer about the past again. Raises BadInput for a moment that is not valid.
        """
        if as_of is None:
            with self._lock:
                return msgspec.json.encode(question(self._live()))
        states, is_settled = self.past(as_of)
        key = (name, states.as_of)
        found = self._kept.get(key) if is_settled else None
        if found is None:
            found = msgspec.json.encode(question(states))
            if is_settled:
                self._kept.put(key, found)
        return found

    def answer_apart(self, question: Callable[[States], Any]) -> bytes:
        """The JSON of an answer about now that takes long (`apart`)."""
        return msgspec.json.encode(self.apart(question))

    def apart(self, question: Callable[[States], T]) -> T:
        """What a question about now gives, folded apart, from the newest checkpoint, so that nobody waits for it."""
        cut = resolve(self.log, self.partitions)
        return question(self._states(replace(cut, moment=int(time.time() * 1000))))

    def past(self, as_of: str) -> tuple[States, bool]:
        """The states as of a moment, and whether it is settled: what is known of it will not change."""
        now_ms = int(time.time() * 1000)
        moment = parse_time(as_of)
        is_settled = moment is None or moment < now_ms - SETTLED_MS
        cut = self._cuts.get(as_of)
        if cut is None:
            cut = self._past.cut(moment) if moment is not None and is_settled else None
            cut = resolve(self.log, self.partitions, as_of) if cut is None else cut
            if is_settled:
                self._cuts[as_of] = cut
                while len(self._cuts) > CUTS_MAX:
                    self._cuts.popitem(last=False)
        if cut.moment is None:
            raise BadInput(f"as_of {as_of!r} names no moment")
        return self._states(cut), is_settled

    def _states(self, cut: Cut) -> PastStates:
        return PastStates(self.log, self.partitions, cut, ALL, self._store, self._past, self._lock, self.index)

    def search(
        self,
        query: Query,
        count: int,
        before: Hit | None,
        as_of: str | None,
    ) -> tuple[list[Hit], str]:
        """A page of decisions, and the cut in the syntax of as_of."""
        if as_of is None:
            with self._lock:
                cut = {p: self.index.last(p) for p in self.partitions}
                found = self.index.search(query, count, before=before, until=cut)
                return found, self._live().as_of
        states, _ = self.past(as_of)
        until: Mapping[int, Position] = {p: b.transactions for p, b in states.cut.partitions.items()}
        with self._lock:
            return self.index.search(query, count, before=before, until=until), states.as_of

    def looked_at(self, as_of: str | None, look: Callable[[States, dict[int, Columns]], T]) -> T:
        """What `look` makes of the states and the index's columns as of now or of a moment. The columns are not to be
        kept. Raises BadInput for a moment that is not valid.
        """
        if as_of is None:
            with self._lock:
                return look(self._live(), self.index.columns())
        states, _ = self.past(as_of)
        until: Mapping[int, Position] = {p: b.transactions for p, b in states.cut.partitions.items()}
        with self._lock:
            return look(states, self.index.columns(until))

    def places(self, partition: int, account: str, until: Position) -> list[Position] | None:
        """As `projections.audit.redecide.Whereabouts`."""
        with self._lock:
            if self.index.last(partition) < until:
                return None
            found = self.index.places(partition, account, until)
        return found if len(found) <= PAYMENTS_MAX else None

    def accounts_at_most(self, partition: int) -> int:
        """As `projections.audit.redecide.Whereabouts`: those of the index, and one for each entry that it lacks."""
        with self._lock:
            decisions, accounts = self.index.accounts(partition)
        rest = self.log.length(partition, "transactions") - decisions
        return accounts + max(rest, 0) + self.log.length(partition, "feedback")

    def _live(self) -> LiveStates:
        """The running states at the place that the foremost of them have reached; the caller holds the lock."""
        bounds = {}
        for p in self.partitions:
            place = self._foremost(p)
            known = self._bounds.get(p)
            bounds[p] = known if known is not None and known.place == place else bound_at(self.log, p, place)
        self._bounds = bounds
        cut = Cut(bounds, self._foremost(CONTROL).sequence, int(time.time() * 1000))
        return LiveStates(self.log, self.partitions, cut, ALL, self._store, self._runner)

    def _foremost(self, source: int) -> Place:
        known = self._runner.projections.values()
        return max(self._runner.view(p, source).place for p in known if source in p.sources(self.partitions))
