"""When a log's newest payment was received, which is the time for a loop that follows a history."""

from __future__ import annotations

import pytest

from core.log.memory import MemoryLog
from core.receipt import receive_time
from projections.engine import feed
from projections.engine.base import DecidedTransaction
from projections.engine.feed import batches, newest_receipt
from tests.builders.logs import PARTITIONS, filled, records


def oracle(log: MemoryLog, partition: int) -> int:
    """Of the last batch that holds payments, the latest one."""
    newest = 0
    for batch in batches(log, partition, 0, log.head(partition).sequence):
        paid = [fact.event.transaction for fact in batch.facts if isinstance(fact.event, DecidedTransaction)]
        newest = max(map(receive_time, paid), default=newest)
    return newest


@pytest.mark.parametrize("back", [1, 2, 64])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_last_payments_own_time(monkeypatch: pytest.MonkeyPatch, seed: int, back: int) -> None:
    """However few seals are read at once, also if the last batches hold verdicts and rejects alone."""
    monkeypatch.setattr(feed, "SEALS_BACK", back)
    payments = records(seed, 300)
    verdicts = [each._replace(timestamp=payments[-1].timestamp) for each in payments if each.topic == "feedback"]
    log = filled(seed, fed=[*payments, *verdicts])
    for partition in range(PARTITIONS):
        found = newest_receipt(log, partition)
        assert found == oracle(log, partition) > 0
    assert newest_receipt(MemoryLog(), 0) == 0
