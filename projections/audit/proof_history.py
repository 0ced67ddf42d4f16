"""The part of a proof that holds the account's earlier events: a verifier recomputes its features from them (level 3).

It holds the account's payments with their scores, and of the feedback on it what features depend on: verdicts, blocks
and their ends; of cases and actions nothing. Each score says how many payments were counted before
(`transactions_total`), so the first of them is where the account's state began: with its first payment, or anew after
it was forgotten (ADR 22). Reads only.

Cost: the partition's transactions and feedback are searched for the account, as by an audit, its entries are read, and
the batches that hold them are hashed: about 1 ms an event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from core.control_stream import ControlEntry
from core.errors import BadInput
from core.events import (
    START,
    AccountBlocked,
    AccountEvent,
    AccountsErased,
    AccountUnblocked,
    FeedbackReceived,
    Position,
    SourceQuarantined,
    TransactionReceived,
    TransactionScored,
)
from core.features import packing, spec
from core.features.verdicts import AccountVerdicts, Count
from core.log import merkle
from core.log.base import EventLog
from core.log.covering import feedback_seen
from core.log.paging import entries_at
from core.program.codes import ENGINE
from core.receipt import receive_time
from core.times import DAY_MS, HOUR_MS
from core.verdicts import RatedHour, brief_record, rated_hour
from projections.audit.redecide import DecisionPlace, LoggedDecision, account_events, decisions
from projections.audit.sealed_entries import BatchHashes, Seals, in_hex

EVENTS_MAX = 20_000
"""Events in a proof, as its verifiers have it."""
Json = dict[str, Any]
_COLUMNS = [
    spec.index(name) for name in ("transactions_total", "fraud_verdicts", "legitimate_verdicts", "account_blocked")
]


class History(NamedTuple):
    """The account's earlier payments and the feedback that its state holds, in the order of the log: each with its
    payloads. hours: which its verdicts count towards.
    """

    payments: list[tuple[Position, tuple[bytes, bytes]]]
    feedback: list[tuple[Position, bytes]]
    hours: frozenset[RatedHour]

    @property
    def positions(self) -> tuple[list[Position], list[Position]]:
        """Of the payments and of the feedback."""
        return [position for position, _ in self.payments], [position for position, _ in self.feedback]


def history_of(
    log: EventLog,
    place: DecisionPlace,
    transaction: TransactionReceived,
    score: TransactionScored,
    control: Sequence[ControlEntry],
    days: int | None,
) -> History:
    """The history of the account of the decision at a place, which is on this transaction, with this score.

    days: only payments received at most so many days before it; what goes back further is then taken from the record.
    Raises BadInput if the account was erased, another engine decided any of it, or it is too long; Incomplete if the
    log no longer holds all of it.
    """
    account, partition = transaction.account_id, place.partition
    for entry in control:
        if isinstance(entry.event, AccountsErased) and account in entry.event.accounts:
            raise BadInput(
                f"account {account} was erased (control event {entry.position}): a proof of its history would link"
                " payments that nobody can be told by any more. Use --level 2, which holds this payment only"
            )
    held, before = _since_its_beginning(decisions(log, partition, {account}, place.position), place.position)
    if other := next(
        (each for each in [*(one.score for one in held), score] if (each.engine, each.spec) != _ENGINE), None
    ):
        raise BadInput(
            f"engine {other.engine} with feature spec {other.spec} decided a part of the account's history, and a proof"
            f" of level 3 is for engine {ENGINE} with spec {spec.SPEC_VERSION}: use --level 2"
        )
    until = feedback_seen(score.feedback_position)
    said: list[tuple[Position, AccountEvent]] = [
        (position, event)
        for position, event in account_events(log, partition, {account})
        if position <= until and isinstance(event, FeedbackReceived | AccountBlocked | AccountUnblocked)
    ]
    said = _since_forgotten(said, before, [*(each.score for each in held), score][0], control)
    payments = held if days is None else _last_days(held, transaction, days)
    if len(payments) + len(said) > EVENTS_MAX:
        raise BadInput(
            f"the account has {len(payments):,} earlier payments and {len(said):,} verdicts and blocks, and a proof"
            f" holds at most {EVENTS_MAX:,} events: choose fewer --days"
        )
    transactions = entries_at(log, partition, "transactions", [each.position for each in payments])
    events = entries_at(log, partition, "feedback", [position for position, _ in said])
    return History(
        [(each.position, (t.payload, each.logged_score)) for each, t in zip(payments, transactions, strict=True)],
        [(entry.id, entry.payload) for entry in events],
        frozenset(
            rated_hour(brief_record(event, event.recorded_at // HOUR_MS * HOUR_MS), account)
            for _, event in said
            if isinstance(event, FeedbackReceived)
        ),
    )


_ENGINE = (ENGINE, spec.SPEC_VERSION)


def _since_its_beginning(
    logged: Iterable[LoggedDecision], until: Position
) -> tuple[list[LoggedDecision], LoggedDecision | None]:
    """The decisions before a position since the account's state began, and the last before that."""
    held: list[LoggedDecision] = []
    before: LoggedDecision | None = None
    for each in logged:
        if held and each.score.spec == spec.SPEC_VERSION and not _state(each.score)[0]:
            before, held = held[-1], []
        if each.position < until:
            held.append(each)
    return held, before


def _state(score: TransactionScored) -> list[float]:
    """How many payments, fraud verdicts and legitimate verdicts were counted before, and whether a block was on."""
    found: list[float] = packing.vector(score.features)[_COLUMNS].tolist()
    return found


def _since_forgotten(
    said: Sequence[tuple[Position, AccountEvent]],
    before: LoggedDecision | None,
    first: TransactionScored,
    control: Sequence[ControlEntry],
) -> list[tuple[Position, AccountEvent]]:
    """The feedback that the account's state holds. Before its first payment, and between two payments, an account may
    have been forgotten, with some of the feedback until then: what the payment says is counted tells which.
    """
    start = START if before is None else feedback_seen(before.score.feedback_position)
    end = feedback_seen(first.feedback_position)
    after = [(position, event) for position, event in said if position > start]
    between = [event for position, event in after if position <= end]
    hours = frozenset(_hour(e.event) for e in _quarantines(control, first.control_position))
    for skipped in range(len(between) + 1):
        verdicts, count, is_blocked = AccountVerdicts(), Count(), False
        for event in between[skipped:]:
            if isinstance(event, FeedbackReceived):
                count = verdicts.add(event)
                count = verdicts.without(hours).get(event.account_id, count)
            else:
                is_blocked = isinstance(event, AccountBlocked)
        if [0.0, float(count.frauds), float(count.legitimates), float(is_blocked)] == _state(first):
            return after[skipped:]
    raise BadInput(
        "the account was forgotten and came back (ADR 22), and which feedback was forgotten with it can't be told from"
        " its payments: use --level 2"
    )


def _last_days(held: list[LoggedDecision], decided: TransactionReceived, days: int) -> list[LoggedDecision]:
    """The payments from the first on that was received at most so many days before the decided one."""
    since = receive_time(decided) - days * DAY_MS
    times = (receive_time(each.transaction) for each in held)
    start = next((number for number, time in enumerate(times) if time >= since), len(held))
    return held[max(min(start, len(held) - 1), 0) :]


def quarantines(control: Iterable[ControlEntry], hours: frozenset[RatedHour], until: int) -> Iterator[ControlEntry]:
    """The control events up to a position that leave some of these hours' verdicts out."""
    for entry in _quarantines(control, until):
        if _hour(entry.event) in hours:
            yield entry


def _quarantines(control: Iterable[ControlEntry], until: int) -> Iterator[ControlEntry]:
    for entry in control:
        if entry.position <= until and not entry.refused and isinstance(entry.event, SourceQuarantined):
            yield entry


def _hour(event: Any) -> RatedHour:
    return f"{event.source}:{event.name}", event.hour_start // HOUR_MS


def json_of(history: History, log: EventLog, partition: int, seals: Seals) -> Json:
    """The history as a proof holds it. seals: over its entries, and perhaps others."""
    found: list[Json] = []
    payments: list[Json] = []
    feedback: list[Json] = []
    places: list[int] = []
    paid = said = 0
    for seal in seals.found:
        held: list[tuple[list[Json], str, Position, Json]] = []
        while paid < len(history.payments) and history.payments[paid][0] <= seal.after.transactions:
            position, (transaction, score) = history.payments[paid]
            entry = {"transaction": transaction.decode(), "score": score.decode()}
            held.append((payments, "decision", position, entry))
            paid += 1
        while said < len(history.feedback) and history.feedback[said][0] <= seal.after.feedback:
            position, payload = history.feedback[said]
            held.append((feedback, "feedback", position, {"payload": payload.decode()}))
            said += 1
        if held:
            batch = BatchHashes(log, partition, seal)
            for target, kind, position, entry in held:
                at = {"position": str(position), "seal": len(found), "batch": batch.proof(kind, position)}
                target.append({**entry, **at})
            found.append(seal.json)
            places.append(seal.after.sequence - 1)
    proof = in_hex(merkle.joint_inclusion(seals.hashes, places)) if seals.hashes and places else []
    return {"payments": payments, "feedback": feedback, "seals": found, "proof": proof}
