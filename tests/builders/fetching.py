"""A fetcher of messages without Kafka: its consumers are given."""

from __future__ import annotations

import time
from typing import Any
from unittest.mock import patch

from confluent_kafka import TopicPartition

from core.settings import Settings
from ingest import kafka_client
from ingest.fetching import Fetcher
from ingest.partition import Owned


class Fetched:
    """A Kafka message of partition 0."""

    def __init__(self, offset: int, value: bytes = b"k") -> None:
        self._offset = offset
        self._value = value

    def error(self) -> None:
        return None

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, 1

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return self._value


class Topic:
    """A consumer with `count` messages of this value, the first of which comes after `late_s`. Notes how long it was
    let wait, and whether it is paused.
    """

    def __init__(self, count: int = 0, late_s: float = 0.0, value: bytes = b"k") -> None:
        self.left = count
        self.late_s = late_s
        self.value = value
        self.waits: list[float] = []
        self.is_paused = False

    def pause(self, places: list[TopicPartition]) -> None:
        self.is_paused = True

    def resume(self, places: list[TopicPartition]) -> None:
        self.is_paused = False

    def consume(self, count: int, timeout: float) -> list[Fetched]:
        self.waits.append(timeout)
        if self.is_paused:
            return []
        if self.left:
            time.sleep(self.late_s)
        taken = min(count, self.left)
        self.left -= taken
        return [Fetched(self.left + n, self.value) for n in range(taken)]


def fetcher_of(settings: Settings, owned: dict[int, Owned], transactions: Any, feedback: Any) -> Fetcher:
    """It fetches for these partitions, by number, which may change under it; one that fails is an error of the test."""

    def failed(partition: int, error: Exception) -> None:
        raise AssertionError(f"partition {partition} can't be read") from error

    with (
        patch.object(kafka_client, "transactions_consumer", lambda _: transactions),
        patch.object(kafka_client, "feedback_consumer", lambda _: feedback),
    ):
        return Fetcher(settings, owned, failed)
