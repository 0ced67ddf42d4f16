"""What one read of the log holds at once, if others decide how large messages are."""

from __future__ import annotations

from typing import Any

from core.log.memory import MemoryLog
from projections.engine.feed import EVENTS_PER_READ, REJECT_WEIGHT, batches
from tests.builders.logs import Record, filled


class Counting:
    """A log that counts the entries of rejects that are read."""

    def __init__(self, log: MemoryLog) -> None:
        self.log, self.rejects = log, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)

    def read(self, partition: int, stream: str, *rest: Any) -> Any:
        found = self.log.read(partition, stream, *rest)  # type: ignore[arg-type]
        self.rejects += len(found) if stream == "rejects" else 0
        return found


def test_rejected_messages_are_read_a_few_at_a_time() -> None:
    """Not as many as small entries: each may be as large as Kafka allows."""
    bad = [Record("transactions", f"a{n % 40}", 1_000 + n, b"{}") for n in range(6_000)]
    log = Counting(filled(1, fed=bad))
    first = next(iter(batches(log, 0, 0, log.head(0).sequence)))  # type: ignore[arg-type]
    of_a_batch = max(len(batch.facts) for batch in batches(log.log, 0, 0, log.head(0).sequence))
    assert first.facts and log.rejects <= EVENTS_PER_READ / REJECT_WEIGHT + of_a_batch
    assert log.length(0, "rejects") > 2 * log.rejects
