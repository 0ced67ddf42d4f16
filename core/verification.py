"""Verification: decide a partition's log again, and compare every score and alert with what was logged, byte for byte
(I3). Reads only; `core.replay` says in which order and under which contexts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from core import pipeline
from core.context import Context, lacks_something
from core.currency import wrong_rates
from core.differences import explain_alert_difference, explain_difference
from core.errors import NotDecidable
from core.events import (
    START,
    Position,
)
from core.features.columns import TransactionLike
from core.features.state import AccountState
from core.feedback_check import irregular
from core.lateness import Pace
from core.log.base import Entry, EventLog, Head, Stream
from core.log.paging import entries
from core.receipt import irregularities, newest
from core.refolding import Refolding
from core.replay import CHUNK, Timeline, chunks, segments
from core.work import Decided, Work


@dataclass(frozen=True, slots=True)
class Difference:
    """The first decision that differs: `lines` compare field by field what was logged with what was recomputed."""

    partition: int
    position: Position
    transaction_id: str
    lines: list[str]

    def __str__(self) -> str:
        head = f"partition {self.partition}, {self.position}, transaction {self.transaction_id}:"
        return "\n".join([head, *(f"  {line}" for line in self.lines)])


@dataclass(slots=True)
class Verification:
    """The result of verifying one partition. `identical` equals `decisions` if nothing differs. degraded: decisions
    that lacked something that decides (`core.context.lacks_something`); pace: its batches, for `core.lateness`.
    undecidable: how many can't be made again here, by reason; they are neither identical nor different.
    """

    partition: int
    decisions: int = 0
    identical: int = 0
    alerts: int = 0
    degraded: int = 0
    pace: Pace = field(default_factory=Pace)
    undecidable: dict[str, int] = field(default_factory=dict)
    first_difference: Difference | None = None
    state_digest: str = ""


def verify(
    log: EventLog, partition: int, until: Head, timeline: Timeline, progress: Callable[[int], None] = lambda n: None
) -> Verification:
    """Decide the partition's transactions up to `until` again and compare scores and alerts byte for byte."""
    refolding = Refolding(
        partition, timeline, until.control, lambda: chunks(log, partition, Head(), until, has_scores=False)
    )
    result = Verification(partition)
    last = START
    for chunk in chunks(log, partition, Head(), until):
        end = chunk.scores[-1].id if chunk.scores else last
        logged_alerts = {a.id: a.payload for a in entries(log, partition, "alerts", last, end)} if chunk.scores else {}
        for context, runs, logged in segments(chunk, timeline):
            if isinstance(context, NotDecidable):
                _pass_over(result, str(context), Work(partition, refolding.state, runs), logged, logged_alerts)
                continue
            state = refolding.under(context, logged[0].id) if logged else refolding.state
            decided = pipeline.decide(context, [Work(partition, state, runs)])[0]
            transactions = [t for run in runs for t in run.transactions]
            wrong = wrong_rates(context.rates, transactions)
            positions = [p for run in runs for p in run.positions]
            wrong |= _wrong_receipt(context, partition, state, positions, transactions)
            _compare(result, logged, decided, transactions, logged_alerts, wrong)
        for position in logged_alerts:
            _differ(result, position, "", [_ORPHANS["alerts"]])
        result.degraded += sum(lacks_something(key.degraded) for key in chunk.keys)
        for span, count in chunk.spans:
            result.pace.add(span.control, span.recorded_at, count)
        last = end
        progress(len(chunk.scores))
    for stream, words in _ORPHANS.items():
        for position in _orphans(log, partition, stream, last, until):
            _differ(result, position, "", [words])
    if timeline.has_roster:
        for position, words in irregular(log, partition, until, timeline.state_at):
            _differ(result, position, "", [words])
    result.state_digest = refolding.state.digest()
    return result


def _pass_over(
    result: Verification,
    why: str,
    work: Work,
    logged: list[Entry],
    logged_alerts: dict[Position, bytes],
) -> None:
    """Take decisions that can't be made again here as the log has them."""
    pipeline.apply(work)
    work.state.received_at = max(work.state.received_at, newest(t for run in work.runs for t in run.transactions))
    result.decisions += len(logged)
    result.undecidable[why] = result.undecidable.get(why, 0) + len(logged)
    for score in logged:
        logged_alerts.pop(score.id, None)


_ORPHANS: dict[Stream, str] = {
    "scores": "orphan score: it has no transaction",
    "alerts": "orphan alert: no decision raises it",
}


def _orphans(log: EventLog, partition: int, stream: Stream, last: Position, until: Head) -> list[Position]:
    """Positions of entries after the last decision that have no transaction, from one page. Entries appended since
    `until` was taken do have theirs, because an append is atomic.
    """
    page = log.read(partition, stream, last, CHUNK)
    return [
        entry.id
        for entry in page
        if entry.id <= until.transactions or log.get(partition, "transactions", entry.id) is None
    ]


def _compare(
    result: Verification,
    logged: list[Entry],
    decided: Decided,
    transactions: list[TransactionLike],
    logged_alerts: dict[Position, bytes],
    wrong: Mapping[int, str],
) -> None:
    """Compare a segment's decisions. wrong: what else is wrong with a transaction, in words by index."""
    result.decisions += len(logged)
    if not wrong and not decided.duplicates and [s.payload for s in decided.scores] == [s.payload for s in logged]:
        first, last = (logged[0].id, logged[-1].id) if logged else (START, START)
        mine = {position: payload for position, payload in logged_alerts.items() if first <= position <= last}
        if mine == dict(decided.alerts):
            result.identical += len(logged)
            result.alerts += len(mine)
            for position in mine:
                del logged_alerts[position]
            return
    for index in decided.duplicates:
        _differ(result, logged[index].id, transactions[index].transaction_id, ["now recognised as a duplicate"])
    raised = dict(decided.alerts)
    result.alerts += len(raised)
    for row, score in zip(decided.kept, decided.scores, strict=True):
        position = score.id
        alert, was = raised.get(position), logged_alerts.pop(position, None)
        if score.payload == logged[row].payload and alert == was and row not in wrong:
            result.identical += 1
            continue
        lines = explain_difference(logged[row].payload, score.payload)
        if alert != was:
            lines += explain_alert_difference(was, alert)
        if row in wrong:
            lines = [wrong[row], *lines]
        _differ(result, position, transactions[row].transaction_id, lines)


def _wrong_receipt(
    context: Context,
    partition: int,
    state: AccountState,
    positions: list[Position],
    transactions: list[TransactionLike],
) -> dict[int, str]:
    """What is wrong with the logged receive times, in words by index, by what the control stream at c and the
    transactions before allow. `state` keeps the partition's clock.
    """
    found, state.received_at = irregularities(context.histories, partition, positions, transactions, state.received_at)
    return {index: f"received_at: {words}" for index, words in found}


def _differ(result: Verification, position: Position, transaction_id: str, lines: list[str]) -> None:
    if result.first_difference is None:
        result.first_difference = Difference(result.partition, position, transaction_id, lines)
