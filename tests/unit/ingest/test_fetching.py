"""What the worker fetches belongs to the assignment under which it was fetched."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError

from core.errors import Unavailable
from core.features.state import AccountState
from core.identity import FIXED
from core.log.base import Head
from core.settings import Settings
from ingest.fetching import HELD_BYTES_MAX
from ingest.partition import Owned
from tests.builders.fetching import Fetched, Topic, fetcher_of


class Rebalancing:
    """A consumer that gives one message, and rebalances in the next call."""

    def __init__(self, rebalance: Callable[[], None]) -> None:
        self._rebalance = rebalance
        self.calls = 0

    def consume(self, count: int, timeout: float) -> list[Fetched]:
        self.calls += 1
        if self.calls == 1:
            return [Fetched(7)]
        self._rebalance()
        return []


class Fenced:
    """A consumer that says so once."""

    def __init__(self, code: int) -> None:
        self._said = [Failed(code)]

    def consume(self, count: int, timeout: float) -> list[Failed]:
        said, self._said = self._said, []
        return said


class Failed:
    """An error in the place of a message."""

    def __init__(self, code: int) -> None:
        self._error = KafkaError(code)

    def error(self) -> KafkaError:
        return self._error

    def partition(self) -> int:
        return 0

    def offset(self) -> None:
        return None


def owned() -> Owned:
    return Owned(0, Head(), AccountState(FIXED), (1, 1))


def test_a_message_fetched_before_a_rebalance_does_not_get_into_the_partition_as_it_is_assigned_anew() -> None:
    """The first message is in hand when the call that gathers the others revokes the partition and assigns it again,
    from the log's position: in the new intake it would be decided before what lies in front of it, which would be lost.
    """
    before, fresh = owned(), owned()
    mapping = {0: before}
    consumer = Rebalancing(lambda: mapping.update({0: fresh}))
    fetcher = fetcher_of(Settings(batch_size=10), mapping, consumer, Topic())
    fetcher.poll(1.0, 0.0)
    assert not fresh.intake.transactions.records
    assert [message.offset for message in before.intake.transactions.records] == [7]


def test_huge_messages_are_held_only_up_to_a_bound_in_bytes_and_fetching_goes_on_once_they_are_decided() -> None:
    """Messages of a megabyte that nobody decides yet: fetching pauses long before 20,000 of them fill the memory. Once
    half is decided, it resumes, and every message comes.
    """
    partition, count = owned(), 200
    consumer = Topic(count, value=b"x" * 1_000_000)
    fetcher = fetcher_of(Settings(batch_size=10), {0: partition}, consumer, Topic())
    side = partition.intake.transactions
    taken = 0
    while taken < count:
        for _ in range(10):
            fetcher.poll(0.0, 0.0)
        assert sum(len(message.value or b"") for message in side.records) <= HELD_BYTES_MAX * 2
        assert consumer.is_paused or not consumer.left
        partition.intake.feedback.at_end = True
        while segments := partition.intake.take(1_000):
            taken += sum(len(segment.transactions) for segment in segments)
            if len(side.records) < 2:
                break
    assert taken == count and side.size == 0


@pytest.mark.parametrize("code", [KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID])
def test_a_worker_whose_place_in_the_group_was_taken_ends(code: int) -> None:
    """Its client still gives it messages of partitions that are another's: it does not go on with them."""
    fetcher = fetcher_of(Settings(), {0: owned()}, Fenced(code), Topic())
    with pytest.raises(Unavailable, match="no longer in the group"):
        fetcher.poll(0.0, 0.0)
