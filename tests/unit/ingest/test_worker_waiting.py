"""How long a worker waits for more messages: never beyond the linger, never in a busy loop."""

from __future__ import annotations

import time
from typing import Any

import pytest
from confluent_kafka import KafkaError

from core.context import Resolver
from core.errors import Corrupt
from core.features.state import AccountState
from core.identity import FIXED
from core.log.base import Head
from core.scoring import Scorer
from core.settings import Settings
from ingest.fetching import GATHER_S
from ingest.intake import Message
from ingest.partition import Owned
from ingest.worker import BLOCKED_S, Worker
from tests.builders.decisions import created
from tests.builders.fetching import Topic, fetcher_of

SETTINGS = Settings(dead_letter_topic="", batch_size=10, linger_ms=40)


def owned_of(transactions: int) -> Owned:
    owned = Owned(0, Head(), AccountState(FIXED), (1, 1))
    owned.intake.transactions.records.extend(Message(n, 1, b"k", b"v") for n in range(transactions))
    return owned


def no_scorer(content: bytes, version: str, digest: str) -> Scorer:
    raise Corrupt("none here")


@pytest.fixture
def worker() -> Any:
    """A worker without housekeeping."""
    log = created()
    made: Any = Worker(SETTINGS, log, Resolver(log.get_blob, no_scorer))
    made._housekeeping = lambda fetcher: None  # needs a consumer, and waits for nothing
    made._read_control()
    return made


@pytest.mark.parametrize("held", [1, 1_000])
def test_transactions_that_feedback_holds_back_are_not_asked_for_in_a_busy_loop(worker: Any, held: int) -> None:
    """While the feedback side is behind nothing may be taken, however much is held: each round waits."""
    owned, transactions = owned_of(held), Topic()
    worker._ownership.partitions[0] = owned
    worker._resolve()
    worker._control_read_at = time.monotonic() + 60
    fetcher = fetcher_of(SETTINGS, {0: owned}, transactions, Topic())
    for _ in range(5):
        worker._step(fetcher)
    assert all(wait > BLOCKED_S / 2 for wait in transactions.waits[1:]), transactions.waits


def test_a_message_that_comes_after_the_linger_waits_for_nobody(worker: Any) -> None:
    """The linger counts from the last append: what comes 60 ms later is decided at once, not 40 ms after that."""
    transactions = Topic(count=1, late_s=0.06)
    fetcher = fetcher_of(SETTINGS, {0: owned_of(0)}, transactions, Topic())
    worker._appending.sent_at = time.monotonic()
    fetcher.poll(1.0, worker._waits_until(0))
    assert transactions.waits == [1.0, GATHER_S]


class End:
    """The event that a partition has no more messages."""

    def error(self) -> KafkaError:
        return KafkaError(KafkaError._PARTITION_EOF)

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 0


def test_the_ends_of_partitions_do_not_end_the_wait_for_a_message() -> None:
    """Each end is noted, and the wait goes on until a message arrives: one poll, not one for each end."""

    class Ending(Topic):
        ends = 3

        def consume(self, count: int, timeout: float) -> list[Any]:
            if self.ends:
                self.ends -= 1
                return [End()]
            return super().consume(count, timeout)

    owned, transactions = owned_of(0), Ending(count=1)
    fetcher = fetcher_of(SETTINGS, {0: owned}, transactions, Topic())
    fetcher.poll(1.0, 0.0)
    assert (transactions.ends, fetcher.held) == (0, 1)
    assert not owned.intake.transactions.at_end


def test_a_full_batch_waits_for_nobody(worker: Any) -> None:
    """With a batch's worth held, nothing is waited for."""
    worker._appending.sent_at = time.monotonic() + 60
    assert worker._waits_until(SETTINGS.batch_size) <= time.monotonic()
    assert worker._waits_until(SETTINGS.batch_size - 1) > time.monotonic()


def test_a_backlog_of_feedback_alone_is_read_without_pauses() -> None:
    """While feedback comes in full pages and no transaction does, no round waits for a transaction."""
    transactions, feedback = Topic(), Topic(count=25)
    fetcher = fetcher_of(SETTINGS, {0: owned_of(0)}, transactions, feedback)
    for _ in range(4):
        fetcher.poll(1.0, 0.0)
    assert transactions.waits == [1.0, 0.0, 0.0, 1.0]
    assert feedback.left == 0
