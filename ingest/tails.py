"""Looks whether the log still ends where this worker left it, in partitions to which nothing is appended.

A log server that comes back without its last writes (a failover, `appendfsync everysec`) is noticed at the next append,
which is refused. A partition without new messages has none, so decisions that were acknowledged would be missing until
somebody pays again. A partition that has stood still since the last look is therefore compared with the log; if they
differ it is loaded again, and what the log lost is read from Kafka and decided again.

Cost: one small request per idle partition every LOOK_S.
"""

from __future__ import annotations

from collections.abc import Mapping

from core.errors import ConcurrencyError, SentinelError, Unavailable
from core.log.base import EventLog, Head
from ingest.partition import Owned

LOOK_S = 10.0


class Tails:
    """Compares idle partitions with the log."""

    def __init__(self, log: EventLog, now: float) -> None:
        """now: monotonic s, as of `is_due`."""
        self._log = log
        self._looked_at = now
        self._seen: dict[int, Head] = {}

    def is_due(self, now: float) -> bool:
        """Whether it is time for `changed`."""
        return now - self._looked_at >= LOOK_S

    def changed(self, partitions: Mapping[int, Owned], now: float) -> list[tuple[Owned, SentinelError]]:
        """The owned partitions that the log no longer holds as this worker left them, each with the reason. Nothing may
        be in flight. A log server that does not answer is asked again at the next look.
        """
        self._looked_at = now
        idle = [each for number, each in partitions.items() if self._seen.get(number) == each.head]
        self._seen = {number: each.head for number, each in partitions.items()}
        found: list[tuple[Owned, SentinelError]] = []
        for owned in idle:
            try:
                head = self._log.head(owned.partition)
            except Unavailable:
                return found
            except SentinelError as error:
                found.append((owned, error))
                continue
            if head != owned.head:
                ends = f"partition {owned.partition} is at seal {head.sequence}, not at {owned.head.sequence}"
                found.append((owned, ConcurrencyError(ends)))
        return found
