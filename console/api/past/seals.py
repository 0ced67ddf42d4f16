"""When each batch was recorded and how far it reached, by partition: finds a moment's cut without asking the log.

Cost: 96 bytes a batch, and a few microseconds to find a cut.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from core.codec import decode_seal
from core.errors import Conflict, Corrupt
from core.events import START, Position
from core.log.base import Entry, EventLog
from core.log.paging import pages
from core.log.seals import ID_PART_MAX
from projections.engine.base import NOWHERE, Place
from projections.engine.feed import Bound, seal_at


class Seals:
    """One partition's seals from the first on, as columns. counts: of transactions, alerts, feedback and rejects."""

    def __init__(self) -> None:
        self.recorded = array("q")
        self.control = array("q")
        self.counts = [array("q") for _ in range(4)]
        self._ends = [array("q") for _ in range(4)]
        self.digest = ""

    def __len__(self) -> int:
        return len(self.recorded)

    def follow(self, log: EventLog, partition: int, until: int) -> None:
        """Read the seals up to sequence `until`. Raises Corrupt if one is missing, Conflict if the log no longer has
        the last one that was read.
        """
        if until < len(self):
            raise Conflict(f"partition {partition} ends at batch {until}, and {len(self)} were read before")
        if until > len(self) > 0 and seal_at(log, partition, len(self)).digest != self.digest:
            raise Conflict(f"partition {partition}: batch {len(self)} differs from the one read before")
        for page in pages(log, partition, "seals", Position(len(self), ID_PART_MAX), Position(until, ID_PART_MAX)):
            self._add(partition, page)

    def _add(self, partition: int, page: Iterable[Entry]) -> None:
        for entry in page:
            if entry.id.generation != len(self) + 1:
                raise Corrupt(f"partition {partition}: seal {len(self) + 1} is missing from the log")
            seal = decode_seal(entry.payload)
            ends = (*Position.parse(seal.transactions), *Position.parse(seal.feedback))
            for column, value in zip(self._ends, ends, strict=True):
                column.append(value)
            for column, value in zip(self.counts, seal.counts, strict=True):
                column.append(value)
            self.control.append(seal.control)
            self.digest = seal.digest
            self.recorded.append(seal.recorded_at)  # last: it counts

    def bound(self, sequence: int) -> Bound:
        """As `projections.engine.feed.bound_at` for the end of a batch that is held."""
        if not sequence:
            return Bound(NOWHERE, START, START, 0)
        a, b, c, d = (column[sequence - 1] for column in self._ends)
        return Bound(Place(sequence), Position(a, b), Position(c, d), self.recorded[sequence - 1])

    def recorded_by(self, moment: int, end: int) -> int:
        """The last of the first `end` batches that was recorded by the moment (`projections.engine.as_of`): one that
        claims to be later than the last counts as recorded with the next that does not.
        """
        if not end:
            return 0
        newest = self.recorded[end - 1]
        low, high = 0, end
        while low < high:
            middle = (low + high + 1) // 2
            at = middle - 1
            while self.recorded[at] > newest:
                at += 1
            low, high = (middle, high) if self.recorded[at] <= moment else (low, middle - 1)
        return low
