"""Reads the log as facts in the order in which they were decided; projections fold these. Reads only.

The facts of a sealed batch: for each transaction, first the feedback that its score saw (the score's `f`), then the
transaction with its score and alert; then the remaining feedback, the rejects, and finally the seal. A place in the
middle of a batch thus means "what was known when this transaction was decided".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple

import msgspec

from core.codec import (
    decode_account_event,
    decode_alert,
    decode_reject,
    decode_score,
    decode_seal,
    decode_transaction,
)
from core.control_stream import history, payload_at
from core.errors import Corrupt
from core.events import START, Position, Seal
from core.log.base import Entry, EventLog, Stream
from core.log.paging import PAGE, entries, pages, read
from core.log.seals import ID_PART_MAX
from core.receipt import receive_time
from projections.engine.base import CONTROL, NOWHERE, DecidedTransaction, Fact, Place, control_fact

EVENTS_PER_READ = 20_000
"""Seals are read together until they cover this many entries: about 10 MB, and few waits for the log server."""
REJECT_WEIGHT = 50
"""A rejected message counts as so many entries more: it is as large as whoever sent it liked."""
FETCHED_AT_ONCE = 256
SEALS_BACK = 64
"""Seals that are read together, from the end back, to find the newest with payments."""


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """One batch of a source as facts. A control event is a batch of one.

    mark: identifies the log's prefix up to here: the seal's chained digest, or the control event's SHA-256.
    """

    sequence: int
    recorded_at: int
    mark: str
    facts: list[Fact]


@dataclass(frozen=True, slots=True)
class Bound:
    """A place in a partition, and the last ID before it in each stream."""

    place: Place = NOWHERE
    transactions: Position = START
    feedback: Position = START
    recorded_at: int = 0


def seal_at(log: EventLog, partition: int, sequence: int) -> Seal:
    """The seal of a batch. Raises Corrupt if it is not in the log."""
    found = read(log, partition, "seals", Position(sequence, 0), 1)
    if not found or found[0].id.generation != sequence:
        raise Corrupt(f"partition {partition}: seal {sequence} is missing from the log")
    return decode_seal(found[0].payload)


def newest_receipt(log: EventLog, partition: int) -> int:
    """When the payments of the partition's newest batch that has any were received, at the latest, epoch ms; 0 if there
    are none. In a history that is when they were dated, however late they were loaded.
    """
    end = log.head(partition).sequence
    while end:
        begin = max(0, end - SEALS_BACK)
        for entry in reversed([*entries(log, partition, "seals", Position(begin, 1), Position(end, 1))]):
            seal = decode_seal(entry.payload)
            if seal.counts[0]:
                first = bound_at(log, partition, Place(entry.id.generation - 1)).transactions
                batch = entries(log, partition, "transactions", first, Position.parse(seal.transactions))
                return max(receive_time(decode_transaction(each.payload)) for each in batch)
        end = begin
    return 0


def mark_at(log: EventLog, source: int, sequence: int) -> str:
    """The mark of a batch (see SealedBatch). Raises Corrupt if the batch is not in the log."""
    if source != CONTROL:
        return seal_at(log, source, sequence).digest
    payload = payload_at(log, sequence)
    if payload is None:
        raise Corrupt(f"control event {sequence} is missing from the log")
    return hashlib.sha256(payload).hexdigest()


def batches(log: EventLog, source: int, after: int, until: int) -> Iterator[SealedBatch]:
    """The source's batches with after < sequence ≤ until, ascending. Raises Corrupt if one is missing."""
    return _control(log, after, until) if source == CONTROL else _partition(log, source, after, until)


def facts_between(log: EventLog, source: int, after: Place, until: Place) -> Iterator[Fact]:
    """The facts of a source after one place, up to another."""
    last = until.sequence + (1 if until.inside else 0)
    for batch in batches(log, source, after.sequence, last):
        begin = after.inside if batch.sequence == after.sequence + 1 else 0
        end = until.inside if batch.sequence == until.sequence + 1 else len(batch.facts)
        yield from batch.facts[begin:end]


def bound_at(log: EventLog, partition: int, place: Place) -> Bound:
    """The positions of the partition's streams at a place. Raises Corrupt if the log does not reach it."""
    seal = seal_at(log, partition, place.sequence) if place.sequence else None
    transactions = Position.parse(seal.transactions) if seal else START
    feedback = Position.parse(seal.feedback) if seal else START
    recorded_at = seal.recorded_at if seal else 0
    if place.inside:
        for fact in facts_between(log, partition, Place(place.sequence), place):
            recorded_at = fact.recorded_at
            if isinstance(fact.event, DecidedTransaction):
                transactions = fact.id
            elif hasattr(fact.event, "account_id"):
                feedback = fact.id
    return Bound(place, transactions, feedback, recorded_at)


def account_facts(log: EventLog, partition: int, account: str, after: Bound, until: Bound) -> Iterator[Fact]:
    """One account's facts between two bounds of its partition, in order.

    Only entries that contain the account's name as a JSON string are decoded; scores and alerts are fetched by ID. The
    cost is one read of the partition's transactions and feedback: about 2 µs an entry.
    """
    needle = msgspec.json.encode(account)
    transactions = _matching(log, partition, "transactions", needle, after.transactions, until.transactions)
    feedback = _matching(log, partition, "feedback", needle, after.feedback, until.feedback)
    return facts_of_account(log, partition, account, transactions, feedback)


def facts_of_account(
    log: EventLog, partition: int, account: str, transactions: Iterable[Entry], feedback: Iterable[Entry]
) -> Iterator[Fact]:
    """One account's facts, in order, from entries of its partition among which all of the account's are. Scores and
    alerts are fetched together with those of the entries that follow, FETCHED_AT_ONCE at a time.
    """
    events = (fact for entry in feedback for fact in _account_fact(partition, account, entry))
    return as_decided(_decisions(log, partition, account, transactions), events)


def as_decided(decisions: Iterable[Fact], feedback: Iterable[Fact]) -> Iterator[Fact]:
    """Decisions and feedback of a partition in the order in which they were decided: each decision after the feedback
    that it saw. Both in log order.
    """
    following = iter(feedback)
    waiting = next(following, None)
    for fact in decisions:
        seen = Position.parse(fact.event.score.feedback_position)
        while waiting is not None and waiting.id <= seen:
            yield waiting
            waiting = next(following, None)
        yield fact
    if waiting is not None:
        yield waiting
    yield from following


def _decisions(log: EventLog, partition: int, account: str, transactions: Iterable[Entry]) -> Iterator[Fact]:
    """The account's decisions among these transactions."""
    source = iter(transactions)
    while some := [*islice(source, FETCHED_AT_ONCE)]:
        yield from _decided(log, partition, account, some)


def _decided(log: EventLog, partition: int, account: str, some: Iterable[Entry]) -> Iterator[Fact]:
    """The account's decisions among so many transactions, whose scores and alerts are fetched at once."""
    read = [(entry.id, decode_transaction(entry.payload)) for entry in some]
    mine = [(position, transaction) for position, transaction in read if transaction.account_id == account]
    payloads = log.get_many(partition, "scores", [position for position, _ in mine])
    missing = [position for (position, _), payload in zip(mine, payloads, strict=True) if payload is None]
    if missing:
        raise Corrupt(f"partition {partition}: transaction {missing[0]} has no score")
    scores = [decode_score(payload) for payload in payloads if payload is not None]
    alerted = [position for (position, _), score in zip(mine, scores, strict=True) if score.severity is not None]
    alerts = dict(zip(alerted, log.get_many(partition, "alerts", alerted), strict=True))
    for (position, transaction), score in zip(mine, scores, strict=True):
        alert = alerts.get(position)
        decided = DecidedTransaction(transaction, score, None if alert is None else decode_alert(alert))
        yield Fact(partition, position, transaction.recorded_at, decided)


def _account_fact(partition: int, account: str, entry: Entry) -> Iterator[Fact]:
    event = decode_account_event(entry.payload)
    if event.account_id == account:
        yield Fact(partition, entry.id, event.recorded_at, event)


def _matching(
    log: EventLog, partition: int, stream: Stream, needle: bytes, after: Position, until: Position
) -> Iterator[Entry]:
    return (entry for entry in entries(log, partition, stream, after, until) if needle in entry.payload)


def _control(log: EventLog, after: int, until: int) -> Iterator[SealedBatch]:
    """Always reads from the stream's beginning: whether an event has effect depends on the events before it."""
    if after >= until:
        return
    for entry in history(log, until)[after:]:
        fact, mark = control_fact(entry), hashlib.sha256(entry.payload).hexdigest()
        yield SealedBatch(entry.position, fact.recorded_at, mark, [fact])


def _partition(log: EventLog, partition: int, after: int, until: int) -> Iterator[SealedBatch]:
    last = seal_at(log, partition, after) if after else None
    control = last.control if last else 0
    transactions = Position.parse(last.transactions) if last else START
    feedback = Position.parse(last.feedback) if last else START
    while after < until:
        page = read(log, partition, "seals", Position(after, 1), min(PAGE, until - after), Position(until, 1))
        if not page or page[0].id.generation != after + 1:
            raise Corrupt(f"partition {partition}: seal {after + 1} is missing from the log")
        seals: list[Seal] = []
        events = 0
        for entry in page:
            seals.append(decode_seal(entry.payload))
            if seals[-1].control < control:
                raise Corrupt(
                    f"partition {partition}: seal {after + len(seals)} goes back from control position {control}"
                )
            control = seals[-1].control
            events += sum(seals[-1].counts) + REJECT_WEIGHT * seals[-1].counts[3]
            if events >= EVENTS_PER_READ:
                break
        yield from _read(log, partition, after, seals, transactions, feedback)
        after += len(seals)
        transactions, feedback = Position.parse(seals[-1].transactions), Position.parse(seals[-1].feedback)


def _read(
    log: EventLog, partition: int, after: int, seals: list[Seal], transactions: Position, feedback: Position
) -> Iterator[SealedBatch]:
    """Read the entries that consecutive seals cover in one pass over each stream, and split them at the seals."""

    def all_of(stream: Stream, begin: Position, end: Position, count: int) -> list[Entry]:
        return [*chain.from_iterable(pages(log, partition, stream, begin, end))] if count else []

    n_decided, n_alerts, n_verdicts, n_rejects = map(sum, zip(*(seal.counts for seal in seals), strict=True))
    last_transaction, last_feedback = Position.parse(seals[-1].transactions), Position.parse(seals[-1].feedback)
    decided = all_of("transactions", transactions, last_transaction, n_decided)
    scores = all_of("scores", transactions, last_transaction, n_decided)
    alerts = {e.id: e.payload for e in all_of("alerts", transactions, last_transaction, n_alerts)}
    verdicts = all_of("feedback", feedback, last_feedback, n_verdicts)
    rejects = all_of("rejects", Position(after, ID_PART_MAX), Position(after + len(seals), ID_PART_MAX), n_rejects)
    if [e.id for e in decided] != [s.id for s in scores]:
        raise Corrupt(f"partition {partition}: transactions and scores after {transactions} do not match")
    t = v = r = 0
    for sequence, seal in enumerate(seals, after + 1):
        n_transactions, _, n_feedback, n_rejects = seal.counts
        cut = _Entries(
            decided[t : t + n_transactions],
            scores[t : t + n_transactions],
            verdicts[v : v + n_feedback],
            rejects[r : r + n_rejects],
        )
        if [len(part) for part in cut] != [n_transactions, n_transactions, n_feedback, n_rejects]:
            raise Corrupt(f"partition {partition}: the log holds fewer entries than seal {sequence} counts")
        t, v, r = t + n_transactions, v + n_feedback, r + n_rejects
        facts = _facts(partition, sequence, seal, cut, alerts)
        yield SealedBatch(sequence, seal.recorded_at, seal.digest, facts)


class _Entries(NamedTuple):
    """A batch's entries by stream; alerts are looked up by ID."""

    transactions: list[Entry]
    scores: list[Entry]
    feedback: list[Entry]
    rejects: list[Entry]


def _facts(partition: int, sequence: int, seal: Seal, entries: _Entries, alerts: dict[Position, bytes]) -> list[Fact]:
    at = seal.recorded_at
    decisions: list[Fact] = []
    for entry, scored in zip(entries.transactions, entries.scores, strict=True):
        score = decode_score(scored.payload)
        if score.control_position != seal.control:
            raise Corrupt(
                f"partition {partition}: the score at {entry.id} names control position {score.control_position}, but"
                f" seal {sequence}, which covers it, names {seal.control}"
            )
        alert = alerts.get(entry.id)
        decision = DecidedTransaction(
            decode_transaction(entry.payload), score, None if alert is None else decode_alert(alert)
        )
        decisions.append(Fact(partition, entry.id, at, decision))
    verdicts = (Fact(partition, entry.id, at, decode_account_event(entry.payload)) for entry in entries.feedback)
    return [
        *as_decided(decisions, verdicts),
        *(Fact(partition, entry.id, at, decode_reject(entry.payload)) for entry in entries.rejects),
        Fact(partition, Position(sequence, 1), at, seal),
    ]
