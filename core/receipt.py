"""The receive time of a payment, and history mode. Pure.

A source's clock is its own word: `occurred_at` says when a payment took place, and drives what describes only that
(habits of hour and weekday, travel). Everything else that depends on time (windows, recency, counts, reference
tables, read models, training) follows `received_at`, which no client can set:

    live      the broker's LogAppendTime where the topic has it, but never after the worker's clock; else that clock.
              Within a partition it never decreases, whoever owns it. A payment dated more than AHEAD_MS after or
              BEHIND_MS before its receive time is rejected (`future_time`, `past_time`).
    history   `occurred_at` itself. A payment outside the stated range is rejected (`outside_history`), and so is a
              verdict that is dated outside the range and ahead of the clock.

So one live message moves its own account's travel by at most AHEAD_MS, and nobody else's time at all. A verdict has
only its own time; it may be old, but not ahead, and it moves nothing but the verdicts on its own payment.

A history is two control events: HistoryStarted (range, and the first offset of each partition) and HistoryEnded (the
offset after the last). Between the two, a message is history from its first offset on; afterwards, up to its last. So
which mode decided a logged payment follows from its position and c alone, however late it was decided:

    not begun → open (HistoryStarted) → ended (HistoryEnded; its remaining messages still count as history)

A recreated topic begins again at offset 0: an open history covers it, an ended one does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from core.errors import BadInput
from core.events import HistoryEnded, HistoryStarted, Position, TransactionReceived
from core.times import DAY_MS, MINUTE_MS, minute_text

AHEAD_MS = 5 * MINUTE_MS
"""How far the source's clock may be ahead of the receive time."""
BEHIND_MS = 30 * DAY_MS
"""How long a payment may be under way."""

TRANSACTIONS, FEEDBACK = "transactions", "feedback"
ENDED_MAX = 256
"""How many ended histories are remembered: the newest. Messages of a forgotten one that are still not decided would be
judged as live."""


class History(NamedTuple):
    """A history and the messages it covers. generations: of the topics by role when it was opened. begins, ends:
    offsets by role and partition; begins {} = from the first, ends None = still open.
    """

    earliest: int
    latest: int
    generations: Mapping[str, int]
    begins: Mapping[str, Sequence[int]]
    ends: Mapping[str, Sequence[int]] | None = None

    def span(self, role: str, partition: int, generation: int) -> tuple[int, int]:
        """The covered position offsets (Kafka offset + 1) of a topic's partition: after the first, up to the second."""
        opened = self.generations.get(role, 1)
        if generation < opened or (self.ends is not None and generation != opened):
            return 0, 0
        begin = _at(self.begins, role, partition, 0) if generation == opened else 0
        return begin, 2**63 if self.ends is None else _at(self.ends, role, partition, 0)

    def covers(self, role: str, partition: int, first: Position, last: Position) -> bool:
        """Whether all messages from `first` to `last`, of one generation, are covered."""
        begin, end = self.span(role, partition, first.generation)
        return begin < first.offset and last.offset <= end

    def holds(self, occurred_at: int) -> bool:
        """Whether the time lies in the stated range."""
        return self.earliest <= occurred_at <= self.latest

    def __str__(self) -> str:
        return f"{minute_text(self.earliest)} to {minute_text(self.latest)}"


def _at(offsets: Mapping[str, Sequence[int]], role: str, partition: int, missing: int) -> int:
    known = offsets.get(role)
    if known is None:
        return missing
    return known[partition] if partition < len(known) else missing


def covering(histories: Sequence[History], role: str, partition: int, position: Position) -> History | None:
    """The history that the message at a position belongs to; None if it is live. Of the histories that begin before it,
    the newest decides.
    """
    for history in reversed(histories):
        begin, end = history.span(role, partition, position.generation)
        if begin < position.offset:
            return history if position.offset <= end else None
    return None


def covering_some(
    histories: Sequence[History], role: str, partition: int, first: Position, last: Position
) -> list[History]:
    """The histories, oldest first, that decide about messages from `first` to `last`, of one generation; [] if all of
    these are live.
    """
    found: list[History] = []
    touched = False
    for history in reversed(histories):
        begin, end = history.span(role, partition, first.generation)
        found.append(history)
        touched |= begin < last.offset and first.offset <= end
        if begin < first.offset:
            break
    return found[::-1] if touched else []


class Received(Protocol):
    """A transaction's two times (epoch ms)."""

    @property
    def occurred_at(self) -> int: ...
    @property
    def received_at(self) -> int: ...


def receive_time(transaction: Received) -> int:
    """The receive time, epoch ms. A transaction that states none counts as received when it occurred."""
    return transaction.received_at or transaction.occurred_at


def check_not_ahead(occurred_at: int, received_at: int) -> None:
    """Raise BadInput if the time lies too far ahead of the receive time (both epoch ms)."""
    if occurred_at > received_at + AHEAD_MS:
        raise BadInput(
            f"the time {minute_text(occurred_at)} lies more than {AHEAD_MS // MINUTE_MS} minutes after the message was"
            f" received ({minute_text(received_at)})",
            reason="future_time",
        )


def check_live(occurred_at: int, received_at: int) -> None:
    """Raise BadInput unless a payment of `occurred_at` may be received live at `received_at` (both epoch ms)."""
    check_not_ahead(occurred_at, received_at)
    if occurred_at < received_at - BEHIND_MS:
        raise BadInput(
            f"the time {minute_text(occurred_at)} lies more than {BEHIND_MS // DAY_MS} days before the message was"
            f" received ({minute_text(received_at)}); past data is loaded in history mode (sentinel history)",
            reason="past_time",
        )


def check_history(occurred_at: int, history: History) -> None:
    """Raise BadInput unless the time (epoch ms) lies in the history's range."""
    if not history.holds(occurred_at):
        raise BadInput(
            f"history mode: the time {minute_text(occurred_at)} lies outside {history}", reason="outside_history"
        )


def newest(transactions: Iterable[object]) -> int:
    """The partition's clock after these logged transactions, epoch ms; 0 for none."""
    logged = (t for t in transactions if isinstance(t, TransactionReceived))
    return max((min(receive_time(t), t.recorded_at) for t in logged), default=0)


def advanced(clock: int, received: int, recorded_at: int) -> int:
    """The partition's clock after a logged transaction, given the one before it (all epoch ms).

    A live transaction is received no later than it is recorded, or at the clock of those before it. So history, which
    may lie in the future, does not advance the clock beyond what was the time then. The worker, `newest` and
    `irregularities` must agree on every clock: what one of them does not count, another takes for a time that is wrong.
    """
    return max(clock, min(received, recorded_at))


def irregularities(
    histories: Sequence[History],
    partition: int,
    positions: Sequence[Position],
    transactions: Sequence[object],
    clock: int,
) -> tuple[list[tuple[int, str]], int]:
    """What is wrong with the receive times of logged transactions that follow each other, decided under `histories`:
    (index, words) each; and the partition's clock after them, given the one before (epoch ms).
    """
    found: list[tuple[int, str]] = []
    for index, (position, t) in enumerate(zip(positions, transactions, strict=True)):
        assert isinstance(t, TransactionReceived)
        received, at = receive_time(t), t.occurred_at
        history = covering(histories, TRANSACTIONS, partition, position)
        if history is not None:
            if received != at or not history.holds(at):
                found.append((index, f"{received}, but it belongs to a history: its own time is {at}, of {history}"))
            clock = advanced(clock, received, t.recorded_at)
            continue
        if received < clock:
            found.append((index, f"{received} is before {clock}, that of a transaction before it"))
        elif received > max(clock, t.recorded_at):
            found.append((index, f"{received} is after {t.recorded_at}, when it was recorded"))
        elif not received - BEHIND_MS <= at <= received + AHEAD_MS:
            found.append((index, f"{received}, but its own time is {at}, which may not be received live"))
        clock = max(clock, received)
    return found, clock


def check_started(event: HistoryStarted) -> None:
    """Raise BadInput if the event is invalid in itself."""
    if not 0 <= event.earliest <= event.latest:
        raise BadInput(
            f"a history can't end ({minute_text(event.latest)}) before it begins ({minute_text(event.earliest)})"
        )
    _check_offsets(event.begins)


def check_ended(event: HistoryEnded) -> None:
    """Raise BadInput if the event is invalid in itself."""
    _check_offsets(event.ends)


def _check_offsets(offsets: Mapping[str, Sequence[int]]) -> None:
    for role, values in offsets.items():
        if role not in (TRANSACTIONS, FEEDBACK) or any(value < 0 for value in values):
            raise BadInput(f"a history's offsets must be by topic and not negative, got {role}: {list(values)[:3]}")
