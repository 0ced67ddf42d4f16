"""When the owned partitions' snapshots are taken: every `interval_s`, one after the other, with time for work between.

A snapshot copies a partition's whole state, hashes it and writes it; with a program's aggregates, 40 ms for 1,000
accounts. All partitions in a row would stop the stream for seconds. So each is copied by itself, a thread does the rest
beside the work, and the worker works at least as long as the last copy took before the next.
"""

from __future__ import annotations

from collections.abc import Callable

from ingest.ownership import Ownership
from ingest.partition import Owned

LEAVE_S = 5.0
"""How long a worker that was asked to stop goes on, at most."""


class Saving:
    """See the module's docstring."""

    def __init__(self, ownership: Ownership, interval_s: float, monotonic: Callable[[], float]) -> None:
        self._ownership = ownership
        self._interval_s = interval_s
        self._monotonic = monotonic
        self._began = monotonic()
        self._rests_until = 0.0
        self._waiting: list[Owned] = []

    def begin(self, *, now_due: bool = False) -> bool:
        """Begin a round if it is time, or in any case. Returns whether one began."""
        now = self._monotonic()
        if now - self._began < self._interval_s and not now_due:
            return False
        self._began = now
        self._waiting = self._ownership.stale
        return True

    @property
    def is_due(self) -> bool:
        """Whether a partition should be saved now. It must be settled: nothing of it may be in flight."""
        return bool(self._waiting) and not self._ownership.is_saving and self._monotonic() >= self._rests_until

    def complete(self, step: Callable[[], None]) -> None:
        """Save whatever is stale while the work goes on by calls of `step`, for LEAVE_S at most: a worker is about to
        leave. So nobody waits for snapshots once it has left, and whoever takes over has little to fold.
        """
        self.begin(now_due=True)
        deadline = self._monotonic() + LEAVE_S
        while (self._waiting or self._ownership.is_saving) and self._monotonic() < deadline:
            step()

    def save_one(self) -> None:
        """Save the next partition that is still owned."""
        started = self._monotonic()
        while self._waiting:
            owned = self._waiting.pop()
            if self._ownership.owns(owned):
                self._ownership.save_beside(owned)
                break
        ended = self._monotonic()
        self._rests_until = ended + (ended - started)
