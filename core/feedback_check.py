"""Whether a partition's feedback was accepted and refused as the log itself says it must be (ADR 38).

Every batch was decided under the control position that its seal names. So who was on the roster then, and what
feedback needed to be accepted, follows from the log: an event that nobody stands behind who may tell it, and one that
was refused although somebody does, are found by whoever reads the log later.

A reject whose message is sealed (a log with tokens), or was kept without its card data, can't be judged again.

Cost: one pass over seals, feedback and rejects, 0.1 ms for each signed event; nothing for a log without a roster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from core.codec import decode_account_event, decode_reject, decode_seal
from core.control import ControlState
from core.errors import BadInput
from core.events import AccountBlocked, AccountUnblocked, Position
from core.feedback_signing import BAD_SIGNATURE, NOT_PERMITTED, UNSIGNED, check, repeats
from core.identity import required
from core.log.base import Entry, EventLog, Head
from core.log.paging import entries
from core.log.seals import head_of
from core.validation import decode_feedback

JUDGED = (UNSIGNED, BAD_SIGNATURE, NOT_PERMITTED)
"""Reasons of rejects that are judged again."""


def irregular(
    log: EventLog, partition: int, until: Head, state_at: Callable[[int], ControlState]
) -> Iterator[tuple[Position, str]]:
    """Accepted feedback, by its position, that should have been refused, and rejects, by theirs, that should have been
    accepted: in words. state_at: the fold of the control stream at a position; it may change the last one it gave.
    """
    told = _Ahead(entries(log, partition, "feedback", until=until.feedback))
    rejects = _Ahead(entries(log, partition, "rejects"))
    acted: dict[str, int] = {}
    for seal in entries(log, partition, "seals"):
        head = head_of(seal.id.generation, decode_seal(seal.payload))
        if head.sequence > until.sequence:
            return
        accepted = list(told.until(head.feedback))
        refused = list(rejects.until(Position(head.sequence, 2**62)))
        if accepted or refused:
            state = state_at(head.control)
            yield from _accepted(accepted, state, acted)
            yield from _refused(refused, state)


class _Ahead:
    """A stream's entries, taken up to a position."""

    def __init__(self, stream: Iterator[Entry]) -> None:
        self._stream = stream

    def until(self, position: Position) -> Iterator[Entry]:
        for entry in self._stream:
            if entry.id > position:
                self._stream = chain((entry,), self._stream)
                return
            yield entry


def _accepted(told: list[Entry], state: ControlState, acted: dict[str, int]) -> Iterator[tuple[Position, str]]:
    """acted: by account, when its last signed block or unblock was told; kept up to date."""
    roster, log_id = state.governance.roster, required(state.identity).log_id
    for entry in told:
        event = decode_account_event(entry.payload)
        try:
            check(event, roster, log_id)
        except BadInput as error:
            yield entry.id, f"feedback was accepted at control position {state.position}, although {error}"
        last = acted.get(event.account_id, 0)
        if repeats(event, last):
            yield entry.id, f"a block or unblock was accepted, although a signed one told at {last} stood already"
        if event.key and isinstance(event, AccountBlocked | AccountUnblocked):
            acted[event.account_id] = max(event.occurred_at, last)


def _refused(rejects: list[Entry], state: ControlState) -> Iterator[tuple[Position, str]]:
    for entry in rejects:
        reject = decode_reject(entry.payload)
        if reject.topic != "feedback" or reject.reason not in JUDGED:
            continue
        try:
            event = decode_feedback(reject.value, reject.key)
        except BadInput:
            continue  # sealed, or cut
        try:
            check(event, state.governance.roster, required(state.identity).log_id)
        except BadInput:
            continue
        yield (
            entry.id,
            f"feedback was refused as {reject.reason} at control position {state.position}, although somebody who"
            " may tell it stands behind it",
        )
