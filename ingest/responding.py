"""The Kafka edge of responders: a consumer group shares the partitions' outboxes, and fences read Kafka's end.

The group is that of the workers with `.responders` at its end. Its members are assigned partitions of the feedback
topic and read none of it: they follow the log. A dead member's partitions go to the others after
`session_timeout_ms`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

import structlog
from confluent_kafka import OFFSET_END as END
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from core import control_stream
from core.control import ControlState, Generation
from core.errors import Unavailable
from core.events import START, Position
from core.log.base import EventLog
from core.settings import Settings
from ingest import kafka_client
from ingest.ownership import sources_of

READ_S = 10.0
Released = Callable[[Collection[int]], None]


class GroupOwner:
    """A member of the responders' group. released: called before partitions are given up; lost: after they were."""

    def __init__(self, settings: Settings, log: EventLog) -> None:
        self._settings, self._log = settings, log
        self._topic = settings.feedback_topic
        self._owned: set[int] = set()
        self._partitions = 0
        self._released: Released = lambda partitions: None
        self._lost: Released = lambda partitions: None
        self._is_incremental = kafka_client.is_new_protocol(settings)
        self._consumer = kafka_client.responders_consumer(settings)

    def join(self, released: Released, lost: Released) -> None:
        """Join the group. Raises Unavailable if the log has not begun."""
        self._released, self._lost = released, lost
        self._partitions = _feedback(control_stream.current(self._log)).partitions
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def poll(self) -> Collection[int]:
        """See `responders.ports.Owner`. Raises Unavailable if the group can't be taken part in any more."""
        message = self._consumer.poll(0)
        error = message.error() if message is not None else None
        if error is not None and error.fatal():
            raise Unavailable(f"the responders' group at {self._settings.kafka_servers} failed: {error.str()}")
        return self._owned

    def fence(self, partitions: Collection[int]) -> Mapping[int, Position]:
        """See `responders.ports.Owner`."""
        control = control_stream.current(self._log)
        generation = _feedback(control).number
        starts = {p: sources_of(control, p).offsets(self._log.head(p))[1] for p in partitions}
        found = ends(self._settings, self._topic, starts)
        return {p: Position(generation, offset) if offset else START for p, offset in found.items()}

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _on_assign(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        for place in places:
            place.offset = END
        if self._is_incremental:
            consumer.incremental_assign(places)
        else:
            consumer.assign(places)
        consumer.pause(places)
        given = {place.partition for place in places}
        if strays := sorted(partition for partition in given if partition >= self._partitions):
            why = "the feedback topic has more partitions than the log"
            structlog.get_logger().error("respond.unknown_partitions", partitions=strays, why=why)
        self._owned |= given.difference(strays)

    def _on_revoke(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        gone = {place.partition for place in places}
        self._released(gone)
        self._leave(consumer, places)

    def _on_lost(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        structlog.get_logger().warning("respond.partitions_lost", partitions=sorted(p.partition for p in places))
        self._lost({place.partition for place in places})
        self._leave(consumer, places)

    def _leave(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._owned -= {place.partition for place in places}
        if self._is_incremental:
            consumer.incremental_unassign(places)
        else:
            consumer.unassign()


def _feedback(control: ControlState) -> Generation:
    """The feedback topic as the log has it. Raises Unavailable if it has none: its server may have been emptied."""
    known = control.generations.get("feedback")
    if known is None:
        raise Unavailable("the log has no control stream, or has not begun: is its server the right one?")
    return known


class WholeLog:
    """Owns all partitions, without a group and without fences: for a dry run."""

    def __init__(self, partitions: Collection[int]) -> None:
        self._partitions = set(partitions)

    def poll(self) -> Collection[int]:
        return self._partitions

    def fence(self, partitions: Collection[int]) -> Mapping[int, Position]:
        return dict.fromkeys(partitions, Position(0, 0))


def ends(settings: Settings, topic: str, starts: Mapping[int, int]) -> dict[int, int]:
    """For each partition, the offset after the last message at or after its start; 0 if there is none.

    Found by reading: a broker may report an end that is too low, or one that counts records that are no messages.
    Raises Unavailable.
    """
    found, left = dict.fromkeys(starts, 0), set(starts)
    consumer = kafka_client.topic_reader(settings)
    try:
        consumer.assign([TopicPartition(topic, p, offset) for p, offset in starts.items()])
        deadline = time.monotonic() + READ_S
        while left:
            if time.monotonic() > deadline:
                raise kafka_client.unreachable(settings, f"the end of {topic} can't be read")
            for message in consumer.consume(10_000, 0.1):
                error, partition = message.error(), message.partition()
                if partition is None:
                    continue
                if error is None:
                    found[partition] = (message.offset() or 0) + 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(partition)
    except KafkaException as error:
        raise kafka_client.unreachable(settings, error.args[0].str()) from None
    finally:
        consumer.close()
    return found
