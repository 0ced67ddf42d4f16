"""Loading a partition again: from the log's position, with fetching as it has to be."""

from __future__ import annotations

from typing import Any

from confluent_kafka import TopicPartition

from core.context import Resolver
from core.control import Generation
from core.errors import ConcurrencyError, Corrupt
from core.features.state import AccountState
from core.identity import FIXED
from core.log.base import Head
from core.log.memory import MemoryLog
from core.scoring import Scorer
from core.settings import Settings
from ingest.fetching import Fetcher
from ingest.partition import OFFSET_BEGINNING, Owned
from ingest.worker import Worker


class Consumer:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def seek(self, place: TopicPartition) -> None:
        self.asked.append(("seek", place.offset))

    def resume(self, places: list[TopicPartition]) -> None:
        self.asked.append(("resume", len(places)))


def no_scorer(content: bytes, version: str, digest: str) -> Scorer:
    raise Corrupt("none here")


def test_a_side_that_was_paused_is_fetched_again_after_a_reload() -> None:
    """A side paused because it held too much has nothing held any more: left paused, it would never be read again."""
    log = MemoryLog()
    settings = Settings(dead_letter_topic="")
    worker: Any = Worker(settings, log, Resolver(log.get_blob, no_scorer))
    worker._control.state.identity = FIXED
    generations = worker._control.state.generations
    generations.update({role: Generation(1, "id", role, 1) for role in ("transactions", "feedback")})
    fetcher = worker._fetcher = Fetcher.__new__(Fetcher)
    fetcher._settings = settings
    fetcher.transactions, fetcher.feedback = Consumer(), Consumer()
    owned = Owned(0, Head(), AccountState(FIXED), (1, 1))
    owned.intake.transactions.paused = True
    worker._ownership.partitions[0] = owned
    worker._reload(owned, ConcurrencyError("somebody else wrote"))
    assert fetcher.transactions.asked == [("seek", OFFSET_BEGINNING), ("resume", 1)]
    assert fetcher.feedback.asked == [("seek", OFFSET_BEGINNING)]
    assert worker._ownership.partitions[0] is not owned
    assert not worker._ownership.partitions[0].intake.transactions.paused
