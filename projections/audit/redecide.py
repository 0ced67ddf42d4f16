"""Finds a decision in the log and recomputes it byte for byte, at the cost of one account's history.

Features depend only on the account, the reference tables and the context. A decision is therefore recomputed by folding
its account's events in its partition, in the order recorded by each score's `f`, through the live path (I4), under the
context at the c of its seal, which the score must name, too (I12). Reads only; has no clock. The console displays the
result.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from core import pipeline
from core.codec import decode_account_event, decode_score, decode_score_key, decode_transaction, decoded, encode
from core.context import Context
from core.currency import wrong_rates
from core.differences import explain_alert_difference, explain_difference
from core.errors import Corrupt, NotDecidable
from core.events import AccountEvent, Outcome, Position, TransactionReceived, TransactionScored
from core.features.state import AccountState
from core.log.base import EventLog, Head
from core.log.covering import Spans, feedback_seen
from core.log.paging import entries, entries_at, pages, read
from core.refolding import Refolding
from core.replay import Chunk, Timeline, chunks, context_of
from core.work import Decided, Run, Work

SINGLE_READS_MAX = 20
"""Up to this many scores of a page are read one by one; beyond that, reading the whole page is cheaper."""


class Whereabouts(Protocol):
    """What somebody knows of where entries stand, so that they need not be searched. It saves reads only: the entries
    themselves come from the log.
    """

    def places(self, partition: int, account: str, until: Position) -> Sequence[Position] | None:
        """Where all of an account's decisions up to `until` are, in order; others' may be among them. None: unknown."""

    def accounts_at_most(self, partition: int) -> int:
        """How many accounts the partition has seen, at most."""


class DecisionPlace(NamedTuple):
    """The place of a decision in the log; as text in the form that alerts use, `p07:1-533`."""

    partition: int
    position: Position

    def __str__(self) -> str:
        return f"p{self.partition:02d}:{self.position}"

    @classmethod
    def parse(cls, text: str) -> DecisionPlace:
        """`"p07:1-533"`, or an alert's ID `"07:1-533"`. Raises ValueError on anything else."""
        partition, _, position = text.removeprefix("p").partition(":")
        return cls(int(partition), Position.parse(position))


class Found(NamedTuple):
    """A logged transaction found by a search."""

    place: DecisionPlace
    transaction_id: str
    account_id: str


class _Owner(msgspec.Struct):
    """A transaction or account event of which only the account is decoded."""

    account_id: str


_owner = msgspec.json.Decoder(_Owner)


def find(log: EventLog, partitions: Collection[int], transaction_id: str, account_id: str | None = None) -> list[Found]:
    """All transactions with this ID (IDs may repeat), by scanning the bytes of the partitions' transactions.

    With `account_id`, only that account's; the search then ends with the partition in which it is found.
    """
    text = encode(transaction_id)
    found: list[Found] = []
    for partition in partitions:
        for entry in entries(log, partition, "transactions"):
            if not _may_hold(entry.payload, text):
                continue
            t = decode_transaction(entry.payload)
            if t.transaction_id == transaction_id and account_id in (None, t.account_id):
                found.append(Found(DecisionPlace(partition, entry.id), transaction_id, t.account_id))
        if found and account_id is not None:
            break
    return found


def at_place(log: EventLog, place: DecisionPlace) -> Found | None:
    """The transaction at a place, or None."""
    payload = log.get(place.partition, "transactions", place.position)
    if payload is None:
        return None
    t = decode_transaction(payload)
    return Found(place, t.transaction_id, t.account_id)


def at_rows(log: EventLog, partition: int, rows: Sequence[int]) -> list[Found]:
    """The transactions at these row numbers (ascending, from 0) of a partition; rows beyond its end are ignored."""
    found: list[Found] = []
    start = taken = 0
    for page in pages(log, partition, "transactions"):
        while taken < len(rows) and rows[taken] < start + len(page):
            entry = page[rows[taken] - start]
            t = decode_transaction(entry.payload)
            found.append(Found(DecisionPlace(partition, entry.id), t.transaction_id, t.account_id))
            taken += 1
        if taken == len(rows):
            break
        start += len(page)
    return found


def _may_hold(payload: bytes, text: bytes) -> bool:
    """Whether the JSON string `text` may be in `payload`: literally, or spelled with an escape."""
    return text in payload or b"\\" in payload


class LoggedDecision(NamedTuple):
    """One logged decision of an account."""

    position: Position
    transaction: TransactionReceived
    score: TransactionScored
    logged_score: bytes


@dataclass(frozen=True, slots=True)
class Recomputed:
    """A logged decision and its recomputation. differences: empty if score and alert are equal byte for byte. context:
    what it was made in; or why it can't be made again here, and then nothing is recomputed. features: of the program
    that decided, also those that are not stored, float32 (W,).
    """

    decision: LoggedDecision
    context: Context | NotDecidable
    score: bytes | None
    logged_alert: bytes | None
    alert: bytes | None
    differences: list[str]
    features: NDArray[np.float32] | None = None

    @property
    def identical(self) -> bool:
        return not self.differences and not self.undecidable

    @property
    def undecidable(self) -> str:
        """Why it can't be made again here; "" if it can."""
        return str(self.context) if isinstance(self.context, NotDecidable) else ""


def account_events(log: EventLog, partition: int, accounts: Collection[str]) -> list[tuple[Position, AccountEvent]]:
    """All events of these accounts in the partition's feedback stream, in order."""
    single = encode(next(iter(accounts))) if len(accounts) == 1 else None
    return [
        (entry.id, decode_account_event(entry.payload))
        for entry in entries(log, partition, "feedback")
        if _is_of(entry.payload, accounts, single)
    ]


def decisions(
    log: EventLog,
    partition: int,
    accounts: Collection[str],
    until: Position,
    known: Whereabouts | None = None,
) -> Iterator[LoggedDecision]:
    """These accounts' decisions up to `until`, in order. Raises Corrupt if a transaction has no score."""
    places = None
    if known is not None and len(accounts) == 1:
        places = known.places(partition, next(iter(accounts)), until)
    if places is not None:
        yield from _decisions_at(log, partition, accounts, places)
        return
    single = encode(next(iter(accounts))) if len(accounts) == 1 else None
    for page in pages(log, partition, "transactions", until=until):
        wanted = [entry for entry in page if _is_of(entry.payload, accounts, single)]
        scores: dict[Position, bytes | None]
        if len(wanted) > SINGLE_READS_MAX:
            first, last = wanted[0].id, wanted[-1].id
            before = Position(first.generation, first.offset - 1)
            scores = dict[Position, bytes | None](read(log, partition, "scores", before, len(page), last))
        else:
            scores = {entry.id: log.get(partition, "scores", entry.id) for entry in wanted}
        for entry in wanted:
            payload = scores.get(entry.id)
            if payload is None:
                raise Corrupt(f"partition {partition}: transaction {entry.id} has no score")
            yield LoggedDecision(entry.id, decode_transaction(entry.payload), decode_score(payload), payload)


def _decisions_at(
    log: EventLog, partition: int, accounts: Collection[str], places: Sequence[Position]
) -> Iterator[LoggedDecision]:
    transactions = entries_at(log, partition, "transactions", places)
    scores = entries_at(log, partition, "scores", places)
    for entry, score in zip(transactions, scores, strict=True):
        transaction = decode_transaction(entry.payload)
        if transaction.account_id in accounts:
            yield LoggedDecision(entry.id, transaction, decode_score(score.payload), score.payload)


def _is_of(payload: bytes, accounts: Collection[str], single: bytes | None) -> bool:
    """Whether an entry belongs to one of the accounts. single: the only account as JSON, for a cheap pre-check."""
    if single is not None and not _may_hold(payload, single):
        return False
    return decoded(_owner, payload).account_id in accounts


def recompute(
    log: EventLog,
    partition: int,
    targets: Collection[Position],
    accounts: Collection[str],
    timeline: Timeline,
    events: Sequence[tuple[Position, AccountEvent]],
    passed: Callable[[LoggedDecision], None] = lambda decision: None,
    before: Callable[[Context, Work], None] = lambda context, work: None,
    known: Whereabouts | None = None,
) -> Iterator[Recomputed]:
    """Recompute the decisions at `targets`, in order, folding only `accounts`, which must own them.

    events: `account_events` of the accounts. passed: called with each of their decisions before it is folded, including
    targets. before: called with each target as it is about to be decided, and must not change its state. known: saves
    reading the whole partition. Raises Incomplete if the log lacks the partition's first batches, Corrupt if a decision
    names another context than its seal.
    """
    sealed = Spans(log, partition, Head())
    positions = _control_positions(log, partition, targets)
    if _evicts(log, partition, timeline.identity.accounts_max, known):
        yield from _recompute_among_all(log, partition, targets, accounts, timeline, positions, passed, before)
        return
    state = AccountState(timeline.identity).hold(timeline.steps(positions))
    pending: list[Run] = []
    taken = 0
    for decision in decisions(log, partition, accounts, max(targets), known):
        f = feedback_seen(decision.score.feedback_position)
        feedback: list[AccountEvent] = []
        while taken < len(events) and events[taken][0] <= f:
            feedback.append(events[taken][1])
            taken += 1
        outcome = Outcome(decision.score.decision, decision.score.severity, decision.score.rules)
        run = Run(f, feedback, [decision.position], [decision.transaction], [outcome])
        if wrong := sealed.covering(decision.position).fault(decision.position, f, decision.score.control_position):
            raise Corrupt(f"partition {partition}: {wrong}")
        passed(decision)
        if decision.position not in targets:
            pending.append(run)
            continue
        logged_alert = log.get(partition, "alerts", decision.position)
        context = context_of(timeline, decision.score.control_position, decision.score.engine, partition)
        if isinstance(context, NotDecidable):
            pending.append(run)
            yield Recomputed(decision, context, None, logged_alert, None, [])
            continue
        if pending:
            pipeline.apply(Work(partition, state, pending))
            pending = []
        work = Work(partition, state, [run])
        before(context, work)
        yield _compared(decision, context, pipeline.decide(context, [work])[0], logged_alert)


def _evicts(log: EventLog, partition: int, accounts_max: int, known: Whereabouts | None) -> bool:
    """Whether the partition has seen more accounts than it holds: then an account's state depends on the others'. The
    cheapest answer first: by the number of entries, by what is known of accounts, by reading all entries.
    """
    if log.length(partition, "transactions") + log.length(partition, "feedback") <= accounts_max:
        return False
    if known is not None and known.accounts_at_most(partition) <= accounts_max:
        return False
    names: set[str] = set()
    for stream in ("transactions", "feedback"):
        for entry in entries(log, partition, stream):
            names.add(decoded(_owner, entry.payload).account_id)
            if len(names) > accounts_max:
                return True
    return False


def _recompute_among_all(
    log: EventLog,
    partition: int,
    targets: Collection[Position],
    accounts: Collection[str],
    timeline: Timeline,
    positions: Collection[int],
    passed: Callable[[LoggedDecision], None],
    before: Callable[[Context, Work], None],
) -> Iterator[Recomputed]:
    """`recompute`, folding all accounts of the partition, about 4 µs per transaction. positions: under which the
    targets were decided.
    """
    last, head = max(targets), log.head(partition)

    def again() -> Iterator[Chunk]:
        return chunks(log, partition, Head(), head, has_scores=False)

    refolding = Refolding(partition, timeline, max(positions), again, min(positions))
    for chunk in chunks(log, partition, Head(), head):
        scores = iter(zip(chunk.scores, chunk.keys, strict=True))
        pending: list[Run] = []
        for run in chunk.runs:
            rest = Run(run.feedback_position, run.feedback)
            for position, transaction in zip(run.positions, run.transactions, strict=True):
                entry, key = next(scores)
                payload = entry.payload
                if transaction.account_id in accounts:
                    assert isinstance(transaction, TransactionReceived)
                    decision = LoggedDecision(position, transaction, decode_score(payload), payload)
                    passed(decision)
                context: Context | NotDecidable | None = None
                if position in targets:
                    context = context_of(timeline, key.control_position, key.engine, partition)
                if not isinstance(context, Context):  # taken as the log has it
                    rest.positions.append(position)
                    rest.transactions.append(transaction)
                    rest.outcomes.append(key.outcome)
                    if context is not None:
                        logged_alert = log.get(partition, "alerts", position)
                        yield Recomputed(decision, context, None, logged_alert, None, [])
                    if position == last:
                        return
                    continue
                pipeline.apply(Work(partition, refolding.state, [*pending, rest]))
                pending, rest = [], Run(run.feedback_position)
                state = refolding.under(context, position, has_feedback=True)
                alone = Run(run.feedback_position, [], [position], [transaction])
                work = Work(partition, state, [alone])
                before(context, work)
                decided = pipeline.decide(context, [work])[0]
                yield _compared(decision, context, decided, log.get(partition, "alerts", position))
                if position == last:
                    return
            pending.append(rest)
        pipeline.apply(Work(partition, refolding.state, pending))


def _control_positions(log: EventLog, partition: int, targets: Collection[Position]) -> set[int]:
    """Under which the targets' scores say that they were decided: at least one."""
    scores = (log.get(partition, "scores", target) for target in targets)
    return {decode_score_key(score).control_position for score in scores if score is not None} or {0}


def _compared(decision: LoggedDecision, context: Context, decided: Decided, logged_alert: bytes | None) -> Recomputed:
    if decided.duplicates:
        lines = ["the transaction is now a duplicate"]
        return Recomputed(decision, context, None, logged_alert, None, lines)
    score = decided.scores[0].payload
    alert = decided.alerts[0].payload if decided.alerts else None
    lines = [*wrong_rates(context.rates, [decision.transaction]).values()]
    lines += explain_difference(decision.logged_score, score) + explain_alert_difference(logged_alert, alert)
    return Recomputed(decision, context, score, logged_alert, alert, lines, decided.features[0])


class SampleCheck(NamedTuple):
    """The result of checking a sample: decisions looked at, identical ones, those that can't be made again here (how
    many, by reason), and the differences by place.
    """

    audited: int
    identical: int
    undecidable: dict[str, int]
    differences: list[tuple[DecisionPlace, str, list[str]]]


def check(log: EventLog, partition: int, rows: Sequence[int], timeline: Timeline) -> SampleCheck:
    """Recompute the decisions at these row numbers of a partition, in one pass over the accounts concerned."""
    found = at_rows(log, partition, sorted(rows))
    if not found:
        return SampleCheck(0, 0, {}, [])
    accounts = frozenset(f.account_id for f in found)
    targets = frozenset(f.place.position for f in found)
    audited = identical = 0
    undecidable: dict[str, int] = {}
    differences: list[tuple[DecisionPlace, str, list[str]]] = []
    for each in recompute(log, partition, targets, accounts, timeline, account_events(log, partition, accounts)):
        audited += 1
        identical += each.identical
        if why := each.undecidable:
            undecidable[why] = undecidable.get(why, 0) + 1
        elif not each.identical:
            place = DecisionPlace(partition, each.decision.position)
            differences.append((place, each.decision.transaction.transaction_id, each.differences))
    return SampleCheck(audited, identical, undecidable, differences)
