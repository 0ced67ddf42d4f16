"""Gives decoded messages their receive times, and rejects those whose own time may not be received (`core.receipt`),
and feedback behind which nobody stands who may tell it (`core.feedback_signing`).

One batch is decided under one control position, and its messages are admitted under that position's histories and
roster:

    decoded (`Owned.take`) → admitted under c → decided, if all are timely; else the control stream is read
                           → admitted again under the newest c → decided

So a message of a history that was opened a moment ago, or signed by a key that was just added, is not rejected by a
worker that has not yet read of it: the event was appended before the message was sent.

An unsigned verdict's actor is kept in canonical form, so that one analyst has one voice and one rate in any spelling.

The partition's clock is its newest receive time, `AccountState.received_at`, but never after the time of recording. It
is part of snapshots and is folded from the log (`core.replay.rebuild`), so the next owner continues from it. Duplicates
are not in the log, so `ingest.partition.finish` takes them out of it. Cost: 0.2 µs per transaction, 1 with
LogAppendTime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType

from msgspec.structs import force_setattr, replace

from core import feedback_signing
from core.errors import BadInput
from core.events import AccountBlocked, AccountEvent, AccountUnblocked, FeedbackReceived, Position, Transaction
from core.feedback_sources import SOURCES
from core.persons import person
from core.program.batch import lacking
from core.program.checked import OwnField
from core.receipt import (
    AHEAD_MS,
    BEHIND_MS,
    FEEDBACK,
    TRANSACTIONS,
    History,
    advanced,
    check_history,
    check_live,
    covering,
    covering_some,
)
from core.roster import Roster
from core.validation import check_feedback_time
from core.work import Run
from ingest.intake import Message
from ingest.partition import Decoded, Pending, Rejected

_position = partial(tuple.__new__, Position)
NOTHING: Mapping[str, OwnField] = MappingProxyType({})
NOBODY = Roster()


def admit(
    pending: Pending,
    histories: Sequence[History],
    required: Mapping[str, OwnField] = NOTHING,
    roster: Roster = NOBODY,
) -> int:
    """Set the work's runs, and the batch's transactions and feedback: the decoded messages without those that may not
    be received, which become rejects. Returns how many these are. Admitting again starts anew.

    histories, roster: of the control position under which the batch will be decided. required: the own fields that its
    program requires.
    """
    owned = pending.partition
    pending.work.runs = []
    pending.transactions, pending.positions, pending.messages, pending.feedback = [], [], [], []
    pending.rejects = list(pending.malformed) if pending.malformed else []
    clock = pending.clock
    acted: dict[str, int] = {}
    for part in pending.decoded:
        if required:
            part = _complete(part, pending, required)  # noqa: PLW2901
        events = _admit_feedback(part, pending, histories, clock, roster, acted) if part.feedback else []
        run = Run(part.feedback_end, events)
        clock = _admit_transactions(part, pending, histories, clock, run)
        pending.work.runs.append(run)
    owned.state.received_at = clock
    return len(pending.rejects) - len(pending.malformed)


def _complete(part: Decoded, pending: Pending, required: Mapping[str, OwnField]) -> Decoded:
    """The part without payments that lack a required field, which become rejects."""
    generation = pending.partition.generations[0]
    kept: list[tuple[Message, Transaction]] = []
    for message, t in zip(part.messages, part.transactions, strict=True):
        if name := lacking(required, t):
            field = required[name]
            words = f"the program in force requires attributes.{field.attribute}, a {field.type}, as its field {name}"
            position = Position(generation, message.offset + 1)
            pending.rejects.append(Rejected("transactions", message, position, "missing_field", words))
        else:
            kept.append((message, t))
    return Decoded(part.feedback, [m for m, _ in kept], [t for _, t in kept], part.feedback_end)


def _admit_feedback(
    part: Decoded, pending: Pending, histories: Sequence[History], clock: int, roster: Roster, acted: dict[str, int]
) -> list[AccountEvent]:
    """The events that are accepted. acted: by account, when the batch's last signed block or unblock was told."""
    partition, generation = pending.partition.partition, pending.partition.generations[1]
    events: list[AccountEvent] = []
    for message, event in part.feedback:
        position = Position(generation, message.offset + 1)
        history = covering(histories, FEEDBACK, partition, position) if histories else None
        try:
            check_feedback_time(event, _received(message, pending.recorded_at, clock), history)
            told = _told(event, pending, roster, acted)
        except BadInput as error:
            pending.rejects.append(Rejected("feedback", message, position, error.reason, str(error)))
            continue
        events.append(told)
        pending.feedback.append((position, told))
    return events


def _told(event: AccountEvent, pending: Pending, roster: Roster, acted: dict[str, int]) -> AccountEvent:
    """The event as the log holds it. Raises BadInput unless somebody stands behind it who may tell it."""
    if event.key or roster.feedback:
        state = pending.partition.state
        feedback_signing.check(event, roster, state.identity.log_id)
        last = acted.get(event.account_id) or state.verdicts.acted_at(event.account_id)
        if feedback_signing.repeats(event, last):
            raise BadInput(
                f"the account was blocked or unblocked by an act told at {last}, which is not before this one",
                reason=feedback_signing.REPEATED,
            )
        if event.key and isinstance(event, AccountBlocked | AccountUnblocked):
            acted[event.account_id] = event.occurred_at
        return feedback_signing.kept(event)
    if isinstance(event, FeedbackReceived) and SOURCES[event.source].is_person:
        return replace(event, actor=person(event.actor))
    return event


def _admit_transactions(part: Decoded, pending: Pending, histories: Sequence[History], clock: int, run: Run) -> int:
    """Add the admitted transactions to the batch and to `run`. Returns the partition's clock after them."""
    messages, transactions = part.messages, part.transactions
    if transactions:
        partition, generation = pending.partition.partition, pending.partition.generations[0]
        positions = [_position((generation, message.offset + 1)) for message in messages]
        first, last = positions[0], positions[-1]
        times = [t.occurred_at for t in transactions]
        earliest, latest = min(times), max(times)
        newest = histories[-1] if histories else None
        if newest is not None and newest.covers(TRANSACTIONS, partition, first, last):
            relevant = [newest]
        else:
            relevant = covering_some(histories, TRANSACTIONS, partition, first, last) if histories else []
            newest = None
        at = max(clock, pending.recorded_at)
        if newest is not None and newest.earliest <= earliest and latest <= newest.latest:
            for t, time in zip(transactions, times, strict=True):
                force_setattr(t, "received_at", time)
            clock = advanced(clock, latest, pending.recorded_at)
        elif (
            not relevant
            and not messages[0].appended_at
            and not messages[-1].appended_at
            and at - BEHIND_MS <= earliest
            and latest <= at + AHEAD_MS
        ):
            clock = at
            for t in transactions:
                force_setattr(t, "received_at", at)
        else:
            messages, transactions, clock = _each(part, pending, relevant, clock)
            positions = [_position((generation, message.offset + 1)) for message in messages]
        run.positions, run.transactions = positions, list(transactions)
        if len(pending.decoded) == 1:  # usually: nothing is copied
            pending.messages, pending.transactions, pending.positions = messages, transactions, positions
        else:
            pending.messages += messages
            pending.transactions += transactions
            pending.positions += positions
    return clock


def _each(
    part: Decoded, pending: Pending, histories: Sequence[History], clock: int
) -> tuple[list[Message], list[Transaction], int]:
    """The transactions that may be received, with their messages, and the clock after them."""
    partition, generation = pending.partition.partition, pending.partition.generations[0]
    messages: list[Message] = []
    transactions: list[Transaction] = []
    for message, t in zip(part.messages, part.transactions, strict=True):
        position = Position(generation, message.offset + 1)
        history = covering(histories, TRANSACTIONS, partition, position) if histories else None
        try:
            if history is not None:
                check_history(t.occurred_at, history)
                received = t.occurred_at
            else:
                received = _received(message, pending.recorded_at, clock)
                check_live(t.occurred_at, received)
            clock = advanced(clock, received, pending.recorded_at)
        except BadInput as error:
            pending.rejects.append(Rejected("transactions", message, position, error.reason, str(error)))
            continue
        force_setattr(t, "received_at", received)
        messages.append(message)
        transactions.append(t)
    return messages, transactions, clock


def _received(message: Message, now: int, clock: int) -> int:
    """A live message's receive time: the broker's if it has one, not after the worker's `now`, not before `clock`."""
    return max(clock, min(message.appended_at or now, now))
