"""How Kafka is asked where partitions begin and end."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from console.stack import Broker
from core.settings import Settings
from ingest import backlog, kafka_client

ROOT = Path(__file__).resolve().parents[3]
CRASHING = ("list_offsets", "delete_records")
"""The admin calls whose wait for leaders librdkafka runs in two threads at once (`ingest.kafka_client.watermarks`)."""


def test_no_client_uses_the_admin_calls_that_may_crash() -> None:
    """No module of the product calls an operation of AdminClient that waits for the leaders in the calling thread."""
    found = []
    for path in sorted(
        p for part in ("ingest", "console", "core", "learners", "projections") for p in (ROOT / part).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in CRASHING:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.attr}")
    assert found == []


def test_bounds_are_those_of_the_partitions_that_answer(broker: Broker) -> None:
    """Each partition's start and end are told; of partitions that don't exist, `ends` says nothing."""
    settings = Settings(
        kafka_servers=broker.bootstrap,
        transactions_topic="bounds.transactions",
        feedback_topic="bounds.feedback",
        partitions=2,
    )
    kafka_client.create_topics(settings, [settings.transactions_topic])
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for _ in range(3):
        producer.produce(settings.transactions_topic, b"{}", partition=1)
        assert producer.flush(10) == 0  # one by one: the local broker tells one offset for what arrives together
    topic = kafka_client.describe(settings, [settings.transactions_topic])[settings.transactions_topic]
    assert topic is not None
    assert kafka_client.log_starts(settings, topic) == (0, 0)
    assert backlog.ends(settings, topic.name, [0, 1, 7]) == {0: 0, 1: 3}


@pytest.mark.parametrize(
    "made",
    [
        kafka_client.transactions_consumer,
        kafka_client.feedback_consumer,
        kafka_client.responders_consumer,
        kafka_client.group_reader,
        kafka_client.topic_reader,
    ],
)
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_any_consumer_accepts_what_settings_allow(made: Callable[[Settings], Consumer], protocol: str) -> None:
    """A short poll interval, which librdkafka compares with the session timeout even of who never joins a group."""
    group = {} if protocol == "classic" else {"group.protocol": protocol}
    settings = Settings(kafka={"max.poll.interval.ms": 10_000, **group})
    made(settings).close()


def test_bounds_are_asked_with_a_short_poll_interval_too(broker: Broker) -> None:
    """As by a worker whose settings have one, at its first start."""
    settings = Settings(
        kafka_servers=broker.bootstrap,
        transactions_topic="polled",
        partitions=1,
        kafka={"max.poll.interval.ms": 10_000},
    )
    kafka_client.create_topics(settings, ["polled"])
    assert kafka_client.watermarks(settings, "polled", [0], 10.0).found == {0: (0, 0)}
    assert kafka_client.end_offsets(settings, ["polled"]) == {"polled": (0,)}
