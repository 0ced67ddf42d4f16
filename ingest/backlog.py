"""Whether messages wait that nobody decides: for `sentinel doctor`, and for a worker that owns nothing.

Brokers' end offsets count control records that are no messages, so what waits is found by reading one message of each
partition behind the log's position. Reads only; joins no group.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from core.errors import SentinelError
from core.settings import Settings
from ingest import kafka_client
from ingest.partition import OFFSET_BEGINNING

READ_S = 8.0
GROUP_S = 5.0


class Group(NamedTuple):
    """The consumer group of the workers. assigned: the partitions of the transactions topic that a member has."""

    state: str
    members: int
    assigned: frozenset[int]

    def __str__(self) -> str:
        return f"group {self.state}, {self.members} members, partitions assigned: {sorted(self.assigned)}"


def waiting(settings: Settings, offsets: Mapping[int, int]) -> set[int]:
    """The partitions of the transactions topic that hold a message at or after this offset, or can't be read there.

    Raises BadInput for a Kafka setting that is not valid.
    """
    topic = settings.transactions_topic
    consumer = kafka_client.feedback_consumer(settings)
    left, found = set(offsets), set()
    try:
        starts = [(p, offset if offset >= 0 else OFFSET_BEGINNING) for p, offset in offsets.items()]
        consumer.assign([TopicPartition(topic, p, offset) for p, offset in starts])
        deadline = time.monotonic() + READ_S
        while left and time.monotonic() < deadline:
            for message in consumer.consume(500, 0.2):
                error, partition = message.error(), message.partition()
                if partition is None or partition not in left:
                    continue
                left.discard(partition)
                if error is None or error.code() != KafkaError._PARTITION_EOF:
                    found.add(partition)
    finally:
        consumer.close()
    return found | left


def group_of(settings: Settings) -> Group | None:
    """The workers' group as the broker describes it; None if it does not."""
    client = kafka_client.admin(settings)
    try:
        future = client.describe_consumer_groups([settings.consumer_group], request_timeout=GROUP_S)
        described = future[settings.consumer_group].result(GROUP_S)
    except (KafkaException, SentinelError, TimeoutError):
        return None
    assigned = {
        each.partition
        for member in described.members
        for each in (member.assignment.topic_partitions if member.assignment is not None else ())
        if each.topic == settings.transactions_topic
    }
    return Group(described.state.name.lower(), len(described.members), frozenset(assigned))
