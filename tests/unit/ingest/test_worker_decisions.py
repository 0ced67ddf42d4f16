"""The `decisions` topic: every decision at least once, always the one that the log holds."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import KafkaException, Producer

from console.stack import Broker, Valkey
from core.codec import decode_score
from core.errors import Unavailable
from core.events import Position
from core.log.memory import MemoryLog
from ingest.publisher import Publisher
from tests import worker_harness as h
from tests.worker_harness import Stage


@pytest.fixture
def on(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> Stage:
    made = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path)
    made = made.changed(decisions_topic=f"{made.settings.log_prefix}.decisions")
    made.create_topics()
    return made


def published(on: Stage) -> dict[tuple[int, str], list[dict[str, Any]]]:
    """(partition, position) → the messages that say so."""
    found: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for m in on.messages(on.settings.decisions_topic):
        value = msgspec.json.decode(m.value or b"", type=dict[str, Any])
        assert m.key == value["account_id"].encode()
        found[value["partition"], value["position"]].append(value)
    return found


def assert_published_as_logged(on: Stage) -> int:
    """Every decision of the log was published, with its content, and nothing else. Returns the number of repeats."""
    found = published(on)
    expected = {}
    for partition, part in enumerate(h.log_of(on)):
        for (position, transaction), entry in zip(part.transactions, part.scores, strict=True):
            score = decode_score(entry.payload)
            expected[partition, str(position)] = {
                "partition": partition,
                "position": str(position),
                "transaction_id": transaction["transaction_id"],
                "account_id": transaction["account_id"],
                "decision": score.decision,
                "severity": score.severity,
                "probability": score.probability,
                "reason_codes": list(score.rules),
                "model": score.model,
                "degraded": score.degraded,
            }
    assert found.keys() == expected.keys()
    for place, messages in found.items():
        assert all(message == expected[place] for message in messages), place
    return sum(len(messages) - 1 for messages in found.values())


def test_each_decision_is_published_once_when_nothing_fails(on: Stage) -> None:
    """One message a decision, with partition and position, keyed by account."""
    on.produce(h.synthetic(1_500))
    on.drain()
    assert assert_published_as_logged(on) == 0


def test_what_was_appended_but_not_published_is_published_by_the_next_owner(on: Stage) -> None:
    """A worker that dies between append and publish: its successor publishes from the log what no seal confirms."""
    on.produce(h.synthetic(1_500))
    silent = on.changed(batch_size=100)
    worker = h.Threaded(silent, drain=True)
    worker.worker._publisher.publish = lambda owned, pending: None  # type: ignore[method-assign]
    worker.worker._publisher.poll = lambda log, owned: None  # type: ignore[method-assign]
    worker.start()
    worker.join()
    assert published(on) == {}
    on.drain()
    assert_published_as_logged(on)


def test_confirmed_decisions_are_not_published_again(on: Stage) -> None:
    """How far publishing is confirmed stands in the seals, so a restart repeats little."""
    records = h.synthetic(1_500)
    on = on.changed(batch_size=50)
    on.produce(records[:2_000])
    on.drain()
    with on.log() as log:
        assert all(head.published > Position(1, 0) for head in h.heads(on, log))
        unconfirmed = sum(head.transactions.offset - head.published.offset for head in h.heads(on, log))
    on.produce(records[2_000:])
    on.drain()
    assert assert_published_as_logged(on) == unconfirmed


class Refusing:
    """A producer that refuses, as librdkafka does in these cases."""

    def __init__(self, name: str, fatal: bool) -> None:
        from confluent_kafka import KafkaError

        self._error = KafkaError(getattr(KafkaError, name), "no", fatal=fatal)

    def produce(self, *arguments: Any, **options: Any) -> None:
        raise KafkaException(self._error)

    def poll(self, timeout: float) -> int:
        return 0

    def __len__(self) -> int:
        return 0


def test_a_producer_that_is_of_no_more_use_ends_the_worker(on: Stage) -> None:
    """After a fatal error nothing can be published: Unavailable, so that a supervisor starts the worker again."""
    on.produce(h.synthetic(200))
    worker = h.Threaded(on, drain=True)
    worker.worker._publisher._producer = Refusing("_FATAL", True)  # type: ignore[assignment]
    worker.start()
    with pytest.raises(Unavailable, match="restart the worker"):
        worker.join()


def test_decisions_that_kafka_refused_are_sent_again(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused decisions don't count as published; they follow once Kafka takes them again, without a restart."""
    monkeypatch.setattr("ingest.publisher.REPUBLISH_S", 0.05)
    on.produce(h.synthetic(600))
    worker = h.Threaded(on)
    publisher: Publisher = worker.worker._publisher
    real = publisher._producer
    assert isinstance(real, Producer)
    publisher._producer = Refusing("_UNKNOWN_TOPIC", False)  # type: ignore[assignment]
    with worker, on.log() as log:
        h.wait_for_decisions(on, log, 600)
        assert published(on) == {}
        publisher._producer = real
        h.wait_for(lambda: len(published(on)) >= 600, "all published")
    assert_published_as_logged(on)


def test_without_topics_there_is_no_producer() -> None:
    """Nothing to publish to: nothing is opened, and what is acknowledged counts as published."""
    from core.settings import Settings

    publisher = Publisher(Settings(dead_letter_topic=""))
    assert publisher._producer is None
    publisher.poll(MemoryLog(), [])
    publisher.close()
