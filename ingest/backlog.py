"""Whether messages wait that nobody decides: for `sentinel doctor`, and for a worker that owns nothing.

Brokers' end offsets count control records that are no messages, so what waits is found by reading one message of each
partition behind the log's position. Reads only; joins no group.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import MemberDescription

from core.control_stream import current
from core.errors import SentinelError
from core.log.base import EventLog
from core.settings import Settings
from ingest import kafka_client
from ingest.ownership import sources_of
from ingest.partition import OFFSET_BEGINNING

READ_S = 8.0
GROUP_S = 5.0


class Member(NamedTuple):
    """A worker as the broker knows it, with the partitions of the transactions topic that it has, ascending."""

    client_id: str
    host: str
    partitions: tuple[int, ...]


class Group(NamedTuple):
    """The consumer group of the workers. assigned: the partitions of the transactions topic that a member has."""

    state: str
    members: int
    assigned: frozenset[int]
    owners: tuple[Member, ...] = ()

    @property
    def is_idle(self) -> bool:
        """Whether nobody is in it. A broker may name nobody of a group that works."""
        return not self.members and self.state in ("empty", "dead")

    def __str__(self) -> str:
        return f"group {self.state}, {self.members} members, partitions assigned: {sorted(self.assigned)}"


def waiting(settings: Settings, topic: str, offsets: Mapping[int, int]) -> set[int]:
    """The topic's partitions that hold a message at or after this offset, or can't be read there.

    Raises BadInput for a Kafka setting that is not valid.
    """
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


def undecided(settings: Settings, log: EventLog) -> int:
    """How many messages of both topics the log does not have yet; those that are no messages for a client don't count.
    Raises Unavailable.
    """
    names = [settings.transactions_topic, settings.feedback_topic]
    ends, state = kafka_client.end_offsets(settings, names), current(log)
    left = 0
    for p in range(len(ends.get(settings.transactions_topic, ()))):
        read = sources_of(state, p).offsets(log.head(p)) if state.generations else (0, 0)
        left += sum(max(ends[name][p] - max(at, 0), 0) for name, at in zip(names, read, strict=True) if name in ends)
    return left


def group_of(settings: Settings) -> Group | None:
    """The workers' group as the broker describes it; None if it does not."""
    client = kafka_client.admin(settings)
    try:
        future = client.describe_consumer_groups([settings.consumer_group], request_timeout=GROUP_S)
        described = future[settings.consumer_group].result(GROUP_S)
    except (KafkaException, SentinelError, TimeoutError):
        return None
    owners = tuple(
        Member(member.client_id, member.host.lstrip("/"), _partitions(member, settings.transactions_topic))
        for member in described.members
    )
    assigned = frozenset(partition for owner in owners for partition in owner.partitions)
    return Group(described.state.name.lower(), len(described.members), assigned, owners)


def _partitions(member: MemberDescription, topic: str) -> tuple[int, ...]:
    assigned = member.assignment.topic_partitions if member.assignment is not None else ()
    return tuple(sorted(each.partition for each in assigned if each.topic == topic))


def ends(settings: Settings, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """The offset after the last record of each of the topic's partitions; of those that could be read. Records that are
    no messages count, too. Raises BadInput for a Kafka setting that is not valid.
    """
    found = kafka_client.watermarks(settings, topic, partitions, GROUP_S).found
    return {partition: end for partition, (_, end) in found.items()}
