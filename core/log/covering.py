"""Which seal covers a decision, and what the decision may therefore name (I12).

A batch is decided under one control position, c, which its seal names; so every score of the batch must name the same.
Its f lies between the feedback ends of the seal before and of its own. Whoever reads decisions checks this: a payment
decided again under an earlier context is corrupt, even if every digest was computed again.

Cost: one seal per batch read and decoded (about 6 µs), one comparison per decision.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from core.codec import decode_seal
from core.errors import Corrupt
from core.events import Position
from core.log import seals
from core.log.base import EventLog, Head
from core.log.paging import PAGE, read

SEALS_READ_MIN = 4


class Span(NamedTuple):
    """What a seal covers: decisions up to `transactions`, which saw feedback between `feedback_after` and `feedback`,
    decided under `control`. recorded_at: epoch ms.
    """

    sequence: int
    transactions: Position
    feedback_after: Position
    feedback: Position
    control: int
    recorded_at: int

    @classmethod
    def of(cls, before: Head, after: Head, recorded_at: int) -> Span:
        """The span of the seal that makes the head `after` out of `before`."""
        return cls(after.sequence, after.transactions, before.feedback, after.feedback, after.control, recorded_at)

    def fault(self, position: Position, feedback: Position, control: int) -> str:
        """What is wrong with a score at `position` that names these as its f and c; "" if nothing is."""
        if control != self.control:
            return (
                f"the score at {position} names control position {control}, but seal {self.sequence}, which covers it,"
                f" names {self.control}: it was decided under another context, or changed"
            )
        if not self.feedback_after <= feedback <= self.feedback:
            return (
                f"the score at {position} names feedback position {feedback}, but seal {self.sequence}, which covers"
                f" it, saw the feedback after {self.feedback_after} up to {self.feedback}"
            )
        return ""


def follows(before: Head, after: Head) -> str:
    """What is wrong with a seal that makes the head `after` out of `before`; "" if no position goes backwards."""
    if (
        after.control >= before.control
        and after.transactions >= before.transactions
        and after.feedback >= before.feedback
    ):
        return ""
    for name, was, now in (
        ("control position", before.control, after.control),
        ("transactions", before.transactions, after.transactions),
        ("feedback", before.feedback, after.feedback),
    ):
        if now < was:  # type: ignore[operator]
            return f"seal {after.sequence} goes back from {name} {was} to {now}"
    return ""


def feedback_seen(text: str) -> Position:
    """A score's `f`, parsed. Raises Corrupt if it is not a position."""
    try:
        return Position.parse(text)
    except ValueError as error:
        raise Corrupt(f"a score's feedback position, {text[:60]!r}, is not a valid position") from error


class Spans:
    """A partition's seals after a head, taken in ascending order of the decisions that they cover.

    Seals are read in pages hardly longer than needed: in an archive, a page must not load segments that are far ahead.
    transactions, feedback: how many of each the seals read so far count, up to the sequence `until`; end: the sequence
    and the digest of the last of these seals.
    """

    def __init__(self, log: EventLog, partition: int, after: Head, until: int = seals.ID_PART_MAX) -> None:
        self._log, self._partition = log, partition
        self._head, self._until = after, until
        self.transactions = self.feedback = 0
        self.end = (after.sequence, after.digest)
        self._held: deque[Span] = deque()
        self._size = SEALS_READ_MIN

    def covering(self, position: Position) -> Span:
        """The span of the seal that covers a decision; positions must ascend. Raises Corrupt if a seal is missing, does
        not decode or goes backwards, or if none covers the position.
        """
        return self.covering_all([position])[0][0]

    def covering_all(self, positions: Sequence[Position]) -> list[tuple[Span, int]]:
        """The spans of the seals that cover these decisions, each with how many of them it covers."""
        held, found = self._held, []
        start = passed = 0
        if positions:
            self._read(positions[-1])
        while start < len(positions):
            stop = bisect_right(positions, held[0].transactions, start)
            if stop > start:
                found.append((held[0], stop - start))
                start = stop
            if start < len(positions):
                held.popleft()
                passed += 1
        self._size = min(max(passed, SEALS_READ_MIN), PAGE)
        return found

    def finish(self) -> None:
        """Read the seals that are left up to `until`, so that everything is counted."""
        while self._head.sequence < self._until and self._page(min(self._until - self._head.sequence, PAGE)):
            self._held.clear()

    def _read(self, until: Position) -> None:
        """Hold seals up to the one that covers `until`."""
        while not self._held or self._held[-1].transactions < until:
            if not self._page(self._size):
                raise Corrupt(f"partition {self._partition}: no seal covers the decision at {until}")
            self._size = min(2 * self._size, PAGE)

    def _page(self, size: int) -> int:
        """Hold up to `size` seals more; how many there were."""
        where = f"partition {self._partition}"
        after = Position(self._head.sequence, seals.ID_PART_MAX)
        page = read(self._log, self._partition, "seals", after, size)
        for entry in page:
            before = self._head
            if entry.id.generation != before.sequence + 1:
                raise Corrupt(f"{where}: seal {before.sequence + 1} is missing: {entry.id.generation} comes next")
            found = decode_seal(entry.payload)
            try:
                self._head = seals.head_of(entry.id.generation, found)
            except ValueError as error:
                raise Corrupt(f"{where}: seal {entry.id.generation} does not decode: {error}") from None
            if wrong := follows(before, self._head):
                raise Corrupt(f"{where}: {wrong}")
            self._held.append(Span.of(before, self._head, found.recorded_at))
            if self._head.sequence <= self._until:
                self.transactions += found.counts[0]
                self.feedback += found.counts[2]
                self.end = (self._head.sequence, found.digest)
        return len(page)
