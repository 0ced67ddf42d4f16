"""Gives decoded messages their receive times, and rejects those whose own time may not be received (`core.receipt`).

One batch is decided under one control position, and its messages are admitted under that position's histories:

    decoded (`Owned.take`) → admitted under c → decided, if all are timely; else the control stream is read
                           → admitted again under the newest c → decided

So a message of a history that was opened a moment ago is not rejected by a worker that has not yet read of it: the
event was appended before the message was sent.

The partition's clock is its newest receive time, `AccountState.received_at`, but never after the time of recording. It
is part of snapshots and is folded from the log (`core.replay.rebuild`), so the next owner continues from it. Duplicates
are not in the log, so `ingest.partition.finish` takes them out of it. Cost: 0.2 µs per transaction, 1 with
LogAppendTime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType

from msgspec.structs import force_setattr

from core.errors import BadInput
from core.events import AccountEvent, Position, Transaction
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
from core.validation import check_feedback_time
from core.work import Run
from ingest.intake import Message
from ingest.partition import Decoded, Pending, Rejected

_position = partial(tuple.__new__, Position)
NOTHING: Mapping[str, OwnField] = MappingProxyType({})


def admit(pending: Pending, histories: Sequence[History], required: Mapping[str, OwnField] = NOTHING) -> int:
    """Set the work's runs, and the batch's transactions and feedback: the decoded messages without those that may not
    be received, which become rejects. Returns how many these are. Admitting again starts anew.

    histories: of the control position under which the batch will be decided. required: the own fields that its program
    requires.
    """
    owned = pending.partition
    pending.work.runs = []
    pending.transactions, pending.positions, pending.messages, pending.feedback = [], [], [], []
    pending.rejects = list(pending.malformed) if pending.malformed else []
    clock = pending.clock
    for part in pending.decoded:
        if required:
            part = _complete(part, pending, required)  # noqa: PLW2901
        events = _admit_feedback(part, pending, histories, clock) if part.feedback else []
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


def _admit_feedback(part: Decoded, pending: Pending, histories: Sequence[History], clock: int) -> list[AccountEvent]:
    partition, generation = pending.partition.partition, pending.partition.generations[1]
    events: list[AccountEvent] = []
    for message, event in part.feedback:
        position = Position(generation, message.offset + 1)
        history = covering(histories, FEEDBACK, partition, position) if histories else None
        try:
            check_feedback_time(event, _received(message, pending.recorded_at, clock), history)
        except BadInput as error:
            pending.rejects.append(Rejected("feedback", message, position, error.reason, str(error)))
            continue
        events.append(event)
        pending.feedback.append((position, event))
    return events


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
