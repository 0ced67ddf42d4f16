"""Replay: read a partition's log in the order in which it was decided, and fold it again, for its state or for whoever
decides it again: `core.verification` (I3), the audit, training.

A score's `f` says which feedback came before its transaction. The context follows from the seals and the control stream
alone (I12): a score must name the c of its seal, what was unavailable is what the control stream reports for the
partition at c, and whether a model failed on a row is found out again. Replay writes nothing (I5).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from core import pipeline
from core.codec import (
    ScoreKey,
    decode_account_event,
    decode_score_key,
    decode_transaction,
)
from core.context import Context, Resolver
from core.control import ControlState
from core.control_stream import ControlEntry, fold
from core.errors import Corrupt, Incomplete, NotDecidable
from core.events import (
    START,
    AccountEvent,
    ExperimentConcluded,
    ExperimentStarted,
    ExperimentStopped,
    IdentityAdded,
    LogCreated,
    Position,
    ProgramDeployed,
    ProgramRolledBack,
    TransactionReceived,
)
from core.features.state import AccountState
from core.identity import LogIdentity, required
from core.log.archive.archived import ArchivedLog
from core.log.base import Entry, EventLog, Head
from core.log.covering import Span, Spans, feedback_seen
from core.log.paging import decision_pages, read
from core.program.codes import ENGINE
from core.program.rings import RingStep
from core.receipt import newest
from core.work import Run, Work

CHUNK = 2000
STEPS_HELD = 4
"""Programs whose aggregates a state holds at once while a log is decided again (`core.refolding`)."""


@dataclass(slots=True)
class Chunk:
    """Consecutive decisions of one partition as logged, with the feedback that precedes each run of them. spans: the
    seals that cover them, each with its number of decisions in this chunk.
    """

    partition: int
    runs: list[Run]
    scores: list[Entry]
    keys: list[ScoreKey]
    spans: list[tuple[Span, int]]


def states_at(entries: Sequence[ControlEntry]) -> Callable[[int], ControlState]:
    """The fold of the stream up to a position, as a function of the position; the state it returns is changed by the
    next call. Ascending positions are cheap; a smaller one folds from the start again.

    entries: the stream from its beginning, including refused events (`core.control_stream.history`). The function
    raises Corrupt if the stream ends before the position.
    """
    state, following = ControlState(), 0

    def at(position: int) -> ControlState:
        nonlocal state, following
        if position < state.position:
            state, following = ControlState(), 0
        while following < len(entries) and entries[following].position <= position:
            entry = entries[following]
            state.apply(entry.position, entry.event, entry.payload)
            following += 1
        if state.position != position:
            raise Corrupt(f"a score names control position {position}, but the control stream ends at {state.position}")
        return state

    return at


_DECIDED_BY = (
    LogCreated,
    ProgramDeployed,
    ProgramRolledBack,
    ExperimentStarted,
    ExperimentStopped,
    ExperimentConcluded,
)
"""Events that change which programs decide."""


class Timeline:
    """Contexts by control position. Ascending positions are cheap; a smaller one folds from the start again."""

    def __init__(self, entries: Sequence[ControlEntry], resolver: Resolver) -> None:
        """entries: as of `states_at`. Raises BadInput if they do not begin with the log's identity."""
        self.state_at = states_at(entries)
        """The fold of the control stream at a position. The state it returns is changed by the next call."""
        self.has_roster = any(isinstance(each.event, IdentityAdded) for each in entries)
        self._resolver = resolver
        self._position = -1
        self._known: dict[tuple[str, ...], Context] = {}
        self.identity = required(fold(entries).identity)
        """The log's. Without it nothing can be decided again."""
        self.first = next(each.position for each in entries if isinstance(each.event, LogCreated))
        """The first control position under which anything can be decided."""
        self._needs = self._all_needs(entries)

    def _all_needs(self, entries: Sequence[ControlEntry]) -> list[tuple[int, dict[str, RingStep]]]:
        """What account states must hold, by digest, from which control position on."""
        found: list[tuple[int, dict[str, RingStep]]] = []
        state = ControlState()
        for entry in entries:
            state.apply(entry.position, entry.event, entry.payload)
            if entry.position < self.first or not isinstance(entry.event, _DECIDED_BY):
                continue
            steps = {step.digest: step for step in self._resolver.steps(state, "now")}
            if not found or found[-1][1].keys() != steps.keys():
                found.append((entry.position, steps))
        return found

    def steps(self, positions: Collection[int]) -> list[RingStep]:
        """What account states must hold for decisions at these control positions."""
        starts = [start for start, _ in self._needs]
        places = {max(bisect_right(starts, position) - 1, 0) for position in positions}
        return list({k: step for place in sorted(places) for k, step in self._needs[place][1].items()}.values())

    def new_state(self, after: int = 0, until: int | None = None, held: int = STEPS_HELD) -> AccountState:
        """A partition's state before its first event, with the aggregates that decisions from control position `after`
        to `until` need: of the first `held` of them, and of all that decide together at `after`.
        """
        starts = [start for start, _ in self._needs]
        begin = max(bisect_right(starts, after) - 1, 0)
        end = len(starts) if until is None else bisect_right(starts, until)
        steps = {k: step for _, each in self._needs[begin : max(end, begin + 1)] for k, step in each.items()}
        together = len(self._needs[begin][1])
        return AccountState(self.identity).hold(list(steps.values())[: max(held, together)])

    def at(self, position: int, partition: int) -> Context:
        """The partition's context at control position `position`. Raises Corrupt if the log's control stream ends
        before it, NotDecidable if an artifact that it needs can't be loaded.
        """
        state = self.state_at(position)
        if position != self._position:
            self._position, self._known = position, {}
        missing = state.missing.get(partition, ())
        if missing not in self._known:
            self._known[missing] = self._resolver.context(state, missing)
        return self._known[missing]


class _Feedback:
    """A partition's feedback stream, read ahead in pages and taken up to a position."""

    def __init__(self, log: EventLog, partition: int, after: Position) -> None:
        self._log, self._partition, self._after = log, partition, after
        self._page: list[Entry] = []
        self._index = 0
        self.taken = 0

    def take(self, until: Position, ahead: Position = START) -> list[AccountEvent]:
        """The events up to `until`. Reads up to `ahead` if that is further, but not beyond: the end may be far away."""
        taken: list[AccountEvent] = []
        while True:
            if self._index == len(self._page):
                if self._after >= until:
                    return taken
                self._page = read(self._log, self._partition, "feedback", self._after, CHUNK, max(until, ahead))
                self._index = 0
                if not self._page:
                    return taken
                self._after = self._page[-1].id
            if self._page[self._index].id > until:
                return taken
            taken.append(decode_account_event(self._page[self._index].payload))
            self._index += 1
            self.taken += 1


class _Page(NamedTuple):
    """Consecutive decisions; without scores where only folding them matters."""

    ids: list[Position]
    transactions: list[TransactionReceived]
    scores: list[Entry]
    keys: list[ScoreKey]


def _pages(
    log: EventLog, partition: int, after: Position, until: Position, has_scores: bool, size: int
) -> Iterator[_Page]:
    if not has_scores and isinstance(log, ArchivedLog):
        seam = min(log.archive.end(partition).transactions, until)
        for ids, received, keys in log.decided(partition, after, seam, size):
            yield _Page(ids, received, [], keys)
            after = ids[-1]
    for transactions, scores in decision_pages(log, partition, after, until, size):
        yield _Page(
            [entry.id for entry in transactions],
            [decode_transaction(entry.payload) for entry in transactions],
            scores if has_scores else [],
            [decode_score_key(score.payload) for score in scores],
        )


def chunks(
    log: EventLog, partition: int, after: Head, until: Head, *, has_scores: bool = True, size: int = 0
) -> Iterator[Chunk]:
    """The partition's decisions after one head up to another, in order. Raises Corrupt if scores and transactions don't
    match, or if a score's c is not its seal's, or its f goes backwards or beyond its seal's; Incomplete if entries are
    missing.

    The last chunk may contain only feedback: what came after the last transaction. has_scores: whether chunks hold the
    scores' entries. A fold does not need them, and reads an archive in a fourth of the time without. size: decisions of
    a chunk, CHUNK if 0.
    """
    feedback = _Feedback(log, partition, after.feedback)
    sealed = Spans(log, partition, after, until.sequence)
    seen = after.feedback
    decided = 0
    first, last = after.transactions, until.transactions
    for ids, transactions, scores, keys in _pages(log, partition, first, last, has_scores, size or CHUNK):
        spans = _spans(partition, sealed, ids, keys)
        ahead = min(feedback_seen(keys[-1].feedback_position), until.feedback)
        runs = []
        start = 0
        for position_text, group in groupby([key.feedback_position for key in keys]):
            stop = start + len(list(group))
            position = feedback_seen(position_text)
            if not seen <= position <= until.feedback:
                raise Corrupt(
                    f"partition {partition}: the score at {ids[start]} names feedback position {position}, but the"
                    f" score before it names {seen}, and the feedback ends at {until.feedback}"
                )
            seen = position
            runs.append(
                Run(
                    feedback_position=position,
                    feedback=feedback.take(position, ahead),
                    positions=ids[start:stop],
                    transactions=list(transactions[start:stop]),
                    outcomes=[key.outcome for key in keys[start:stop]],
                )
            )
            start = stop
        decided += len(ids)
        yield Chunk(partition, runs, scores, keys, spans)
    rest = feedback.take(until.feedback)
    _require_counted(partition, after, until, {"transactions": decided, "feedback": feedback.taken}, sealed)
    if rest:
        yield Chunk(partition, [Run(until.feedback, rest)], [], [], [])


def _require_counted(partition: int, after: Head, until: Head, found: dict[str, int], sealed: Spans) -> None:
    """Raise Incomplete unless the log still ends the entries with the seal of `until`, and the entries read after one
    head up to another are as many as the seals between count.

    A stream that lost some of its entries (by XTRIM, say) may still begin and end where it should. A log that lost its
    tail, or everything, after its head was read has nothing there: what was folded is not the state at that head.
    """
    sealed.finish()
    if until.sequence > after.sequence and sealed.end != (until.sequence, until.digest):
        raise Incomplete(
            f"partition {partition}: the log no longer holds seal {until.sequence} as it was read before: it lost its"
            " tail, or its server was emptied. Restore it from a backup"
        )
    for stream, expected in (("transactions", sealed.transactions), ("feedback", sealed.feedback)):
        if found[stream] != expected:
            raise Incomplete(
                f"partition {partition}: between seals {after.sequence} and {until.sequence} the log holds"
                f" {found[stream]} {stream}, but the seals count {expected}: run `sentinel verify`, and restore the log"
                " from a backup"
            )


def _spans(partition: int, sealed: Spans, ids: Sequence[Position], keys: Sequence[ScoreKey]) -> list[tuple[Span, int]]:
    """The seals that cover the scores, with the number of scores of each. Raises Corrupt unless every score names what
    its seal says: every c, and the first and last f, between which f must not decrease (`chunks`).
    """
    spans = sealed.covering_all(ids)
    start = 0
    for span, count in spans:
        stop = start + count
        wrong = next((i for i in range(start, stop) if keys[i].control_position != span.control), start)
        for i in (wrong, stop - 1):
            if fault := span.fault(ids[i], feedback_seen(keys[i].feedback_position), keys[i].control_position):
                raise Corrupt(f"partition {partition}: {fault}")
        start = stop
    return spans


def rebuild(
    log: EventLog,
    partition: int,
    until: Head,
    identity: LogIdentity,
    state: AccountState | None = None,
    after: Head | None = None,
    steps: Sequence[RingStep] = (),
) -> AccountState:
    """The partition's account state at head `until`, folded from scratch or from a `state` known at head `after`.

    steps: the aggregates of programs that a state from scratch holds.
    """
    state = AccountState(identity).hold(steps) if state is None else state
    for chunk in chunks(log, partition, after or Head(), until, has_scores=False):
        pipeline.apply(Work(partition, state, chunk.runs))
        state.received_at = max(state.received_at, newest(t for run in chunk.runs for t in run.transactions))
    return state


def segments(chunk: Chunk, timeline: Timeline) -> Iterator[tuple[Context | NotDecidable, list[Run], list[Entry]]]:
    """Split a chunk where the context changes, keeping runs (and their feedback) in order. A segment that can't be
    decided here has the reason for its context.
    """
    keys = [(key.control_position, key.engine) for key in chunk.keys]
    runs: list[Run] = []
    under: tuple[int, int] | None = None
    begin = at = 0
    for run in chunk.runs:
        if not run.transactions:
            runs.append(run)
            continue
        start = 0
        for key, group in groupby(keys[at : at + len(run.transactions)]):
            size = len(list(group))
            if under is not None and key != under:
                yield context_of(timeline, *under, chunk.partition), runs, chunk.scores[begin:at]
                runs, begin = [], at
            under = key
            whole = size == len(run.transactions)
            runs.append(run if whole else part(run, start, size))
            start += size
            at += size
    if runs:
        yield context_of(timeline, *(under or (timeline.first, ENGINE)), chunk.partition), runs, chunk.scores[begin:at]


def context_of(timeline: Timeline, position: int, engine: int, partition: int) -> Context | NotDecidable:
    """The context in which a decision can be made again; or why it can't be here. position, engine: as its score names
    them.
    """
    if engine != ENGINE:
        return other_engine(engine)
    try:
        return timeline.at(position, partition)
    except NotDecidable as error:
        return error


def other_engine(engine: int) -> NotDecidable:
    """Why decisions of another engine can't be made again here."""
    return NotDecidable(f"decided by engine {engine}; this release runs engine {ENGINE}")


def part(run: Run, start: int, size: int) -> Run:
    """Some of a run's transactions; its feedback goes with the first."""
    return Run(
        run.feedback_position,
        run.feedback if start == 0 else [],
        run.positions[start : start + size],
        run.transactions[start : start + size],
        run.outcomes[start : start + size],
    )
