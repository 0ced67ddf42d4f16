"""Kafka's partitioners: known vectors, and the real client."""

from __future__ import annotations

import uuid

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from console.stack import Broker
from core.events import Partitioner
from core.partitioner import PARTITIONERS, murmur2

KAFKA_VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
"""org.apache.kafka.common.utils.UtilsTest.testMurmur2, signed."""


def test_murmur2_gives_kafkas_own_vectors() -> None:
    """The hash is Java's for keys of every length modulo four."""
    signed = {key: (murmur2(key) ^ 0x80000000) - 0x80000000 for key in KAFKA_VECTORS}
    assert signed == KAFKA_VECTORS


@pytest.mark.parametrize(("name", "setting"), [("murmur2", "murmur2"), ("crc32", "consistent")])
def test_partitions_are_those_of_the_real_client(broker: Broker, name: Partitioner, setting: str) -> None:
    """The C client sends each key where the partitioner says."""
    topic, partitions = f"partitioner-{uuid.uuid4().hex[:8]}", 7
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for future in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
        future.result()
    went: dict[bytes, int] = {}
    producer = Producer({"bootstrap.servers": broker.bootstrap, "partitioner": setting})
    keys = [f"konto-{'ü' * (n % 5)}{n}".encode() for n in range(60)]
    for key in keys:
        producer.produce(
            topic, b"", key, on_delivery=lambda error, message: went.update({message.key(): message.partition()})
        )
    assert producer.flush(20) == 0
    assert went == {key: PARTITIONERS[name](key, partitions) for key in keys}
    assert len(set(went.values())) == partitions
