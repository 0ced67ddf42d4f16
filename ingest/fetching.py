"""Fetches from Kafka: the worker's two consumers, and how their messages get to the owned partitions' intakes.

The transactions consumer is a member of the group, and its assignment is the ownership of partitions. The feedback
consumer is manually assigned the same partitions, so any assignor keeps the two together. Both read from the log's own
position; Kafka's committed offsets are for display only.

States of a side (topic and partition): fetched | paused, because it holds too much while the other side is behind, or
because the partition is parked (`ingest.parking`) | halted, at a message whose schema can't be asked for
(`ingest.wire_format`), until the partition is loaded again. An error that concerns one partition is reported, and not
raised.

Cost: 1.5 µs per message, about 20 µs per call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka import Message as KafkaMessage

from core.errors import Unavailable
from core.settings import Settings
from core.trace_context import of_headers
from ingest import kafka_client, telemetry
from ingest.evidence import COMMITTED_BY
from ingest.intake import Message, Side
from ingest.parking import Trouble
from ingest.partition import Owned
from ingest.unreadable import CODES, BadBatch
from ingest.wire_format import WireFormat

_message = partial(tuple.__new__, Message)

HELD_MAX = 20_000
"""Messages that one side of a partition may hold before its fetching is paused."""

HELD_BYTES_MAX = 16 * 1024 * 1024
"""Bytes of their values likewise: Kafka lets a message be a megabyte, and nothing is checked before it is decided."""

PARKED_AT = 0
"""Where a parked partition is assigned, paused. Not at its end: the client would ask the broker for that, and could go
on there if the answer comes after the partition was given its own place.
"""
GATHER_S = 0.001
"""How long to wait, after the first message of a broker's response, for the client to unpack the others."""

_EXPIRED = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)
_NO_TOPIC = (
    *(KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION),
    *(KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_TOPIC_ID, KafkaError.INCONSISTENT_TOPIC_ID),
)
_OUT = (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID)
"""The client is unusable from now on. Another process with the same group_instance_id took a static member's place, and
this one would go on deciding what it was given, against the one that has it now.
"""
Rebalanced = Callable[[Consumer, list[TopicPartition]], None]


class Fetcher:
    """See the module's docstring. `owned` is the worker's own mapping, read at each call."""

    def __init__(
        self, settings: Settings, owned: Mapping[int, Owned], failed: Callable[[int, Exception], None]
    ) -> None:
        """failed: told of a partition that can be read no further."""
        self._settings = settings
        self._traces = settings.tracing
        self._wire = WireFormat.of(settings)
        self._owned = owned
        self._failed = failed
        self._logger = telemetry.logger()
        self._unbalanced = 0  # messages taken since the last balance
        self._unbalanced_bytes = 0  # their values
        self._has_paused = False
        self._has_more_feedback = False
        self._began = 0.0  # the first message of this poll
        self.transactions = kafka_client.transactions_consumer(settings)
        self.feedback = kafka_client.feedback_consumer(settings)

    def subscribe(self, assigned: Rebalanced, revoked: Rebalanced, lost: Rebalanced) -> None:
        """Join the group. The callbacks are called from `poll`."""
        self._rebalanced = (assigned, revoked, lost)
        topics = [self._settings.transactions_topic]
        self.transactions.subscribe(topics, on_assign=assigned, on_revoke=revoked, on_lost=lost)

    def rejoin(self) -> None:
        """Leave the group and join it again."""
        self.transactions.unsubscribe()
        self.subscribe(*self._rebalanced)

    def poll(self, first_s: float, until: float) -> None:
        """Take the messages that have arrived, and those that arrive before `until` (by `time.monotonic`) or until a
        batch is full.

        If none are held, first wait up to `first_s` for one, unless feedback is arriving in full pages. Raises
        Unavailable or Corrupt for permanent errors.
        """
        size, topic = self._settings.batch_size, self._settings.transactions_topic
        self._began, before = time.perf_counter(), self._unbalanced
        if self.held:
            self._take(self.transactions.consume(size, max(0.0, until - time.monotonic())), topic)
        else:
            self._await(0.0 if self._has_more_feedback else first_s, until)
        if self._owned:
            messages = self.feedback.consume(size, 0)
            self._take(messages, self._settings.feedback_topic)
            self._has_more_feedback = len(messages) == size
        if self._unbalanced > before:
            telemetry.STAGES.record("fetch", time.perf_counter() - self._began)
        if self._unbalanced >= HELD_MAX // 20 or self._unbalanced_bytes >= HELD_BYTES_MAX // 4 or self._has_paused:
            self._balance()

    def _await(self, first_s: float, until: float) -> None:
        """Wait for a message and take it with those that arrived beside it. An end of a partition is not a message."""
        size, topic = self._settings.batch_size, self._settings.transactions_topic
        deadline = time.monotonic() + first_s
        left = first_s
        while True:
            messages = self.transactions.consume(1, left)
            self._began = time.perf_counter()
            self._take(messages, topic)  # now: the next call may rebalance, and then it belongs to a former assignment
            if messages:
                self._take(self.transactions.consume(size - 1 or 1, max(GATHER_S, until - time.monotonic())), topic)
            left = deadline - time.monotonic()
            if not messages or self.held or left <= 0.0:
                return

    @property
    def held(self) -> int:
        """The number of transactions in the intakes."""
        return sum([len(owned.intake.transactions.records) for owned in self._owned.values()])

    def _take(self, messages: list[KafkaMessage], topic: str) -> None:
        """Put fetched messages into their partition's intake."""
        is_feedback = topic == self._settings.feedback_topic
        now = time.time() * 1000.0
        self._unbalanced += len(messages)
        taken, traces, wire = 0, self._traces, self._wire
        for m in messages:
            partition, offset = m.partition(), m.offset()
            error = m.error()
            if error is not None:
                self._judge(error, topic, partition, offset, is_feedback)
                continue
            owned = self._owned.get(partition) if partition is not None else None
            if owned is None or offset is None:
                continue
            side = owned.intake.feedback if is_feedback else owned.intake.transactions
            side.at_end = False
            value, fault = m.value(), None
            if wire is not None:
                if side.halted:
                    continue
                try:
                    value, fault = wire.read(value)
                except Unavailable as said:
                    side.halted = True
                    self._failed(owned.partition, Trouble("schema_unavailable", f"{topic}[{partition}]: {said}"))
                    continue
            kind, timestamp = m.timestamp()
            appended_at = timestamp if kind == TIMESTAMP_LOG_APPEND_TIME else 0
            placed = side.place(timestamp, now)
            size = len(value or b"")
            side.size += size
            taken += size
            trace = of_headers(m.headers()) if traces else None
            side.records.append(_message((offset, placed, m.key(), value, now, appended_at, trace, fault)))
        self._unbalanced_bytes += taken

    def _judge(
        self, error: KafkaError, topic: str, partition: int | None, offset: int | None, is_feedback: bool
    ) -> None:
        code = error.code()
        owned = self._owned.get(partition) if partition is not None else None
        if code == KafkaError._PARTITION_EOF:
            if owned is not None:
                side = owned.intake.side(is_feedback=is_feedback)
                side.at_end = not side.halted
        elif error.fatal() or code in _OUT:
            raise Unavailable(f"this worker is no longer in the group: {error.str()}")
        elif partition is not None and partition >= 0 and code in _EXPIRED:
            if owned is not None:
                side = owned.intake.side(is_feedback=is_feedback)
                self._failed(partition, self._lost(topic, owned, side, is_feedback, error))
        elif partition is not None and offset is not None and code in CODES:
            if owned is not None:
                self._failed(partition, BadBatch(CODES[code], topic, partition, offset, error.str()))
        elif code in _NO_TOPIC:
            said = Trouble("topic_unavailable", f"topic {topic} can't be read: {error.str()}")
            for number in [partition] if partition is not None and partition >= 0 else list(self._owned):
                self._failed(number, said)
        else:
            self._logger.warning("ingest.kafka_error", topic=topic, partition=partition, error=error.str())

    def _lost(self, topic: str, owned: Owned, side: Side, is_feedback: bool, error: KafkaError) -> Trouble:
        """Why Kafka does not have the partition's next offset, as its log start and end prove."""
        offset = side.records[-1].offset + 1 if side.records else owned.start_offsets()[1 if is_feedback else 0]
        where = f"{topic}[{owned.partition}]"
        try:
            low, high = self._consumer(is_feedback).get_watermark_offsets(TopicPartition(topic, owned.partition), 5.0)
        except KafkaException:
            low, high = -1, -1
        if offset > high >= 0:
            return Trouble(
                "messages_cut",
                f"{where}: the log continues at offset {offset}, but Kafka ends at {high}: Kafka lost messages that"
                " were decided, and new messages would get their offsets. Recreate the topic, so that a new generation"
                " begins",
            )
        return Trouble(
            "messages_expired",
            f"{where}: Kafka no longer holds offset {offset}, at which the log continues; it begins at {low}"
            f" ({error.str()}). Messages expired before they were decided: raise the topic's retention, and run"
            " `sentinel partition accept-loss` to continue without them",
        )

    def lags(self) -> dict[tuple[str, str], int]:
        """By topic (transactions, feedback) and owned partition, how many messages are not decided, as far as Kafka has
        told the client; at most, since records that are no messages count too. Asks nobody.
        """
        found = {}
        for partition, owned in list(self._owned.items()):  # another thread may ask
            sides = zip(("transactions", "feedback"), self._sides(owned), owned.decided_offsets(), strict=True)
            for role, (consumer, topic, side), offset in sides:
                try:
                    low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
                except (KafkaException, RuntimeError):
                    continue  # not assigned yet, or closed
                is_done = side.at_end and not side.records and owned.settled
                if is_done or high >= 0:  # else nothing was read yet
                    found[role, str(partition)] = 0 if is_done else max(high - max(offset, low, 0), 0)
        return found

    def _consumer(self, is_feedback: bool) -> Consumer:
        return self.feedback if is_feedback else self.transactions

    def _balance(self) -> None:
        """Pause a side that holds too much while the other is behind; resume it once it holds less."""
        self._unbalanced = self._unbalanced_bytes = 0
        self._has_paused = False
        for owned in self._owned.values():
            for consumer, topic, side in self._sides(owned):
                held = max(len(side.records) / HELD_MAX, side.size / HELD_BYTES_MAX)
                if not side.paused and held > 1:
                    consumer.pause([TopicPartition(topic, owned.partition)])
                    side.paused = True
                elif side.paused and held < 0.5:
                    consumer.resume([TopicPartition(topic, owned.partition)])
                    side.paused = False
                self._has_paused |= side.paused

    def _sides(self, owned: Owned) -> tuple[tuple[Any, str, Side], tuple[Any, str, Side]]:
        return (
            (self.transactions, self._settings.transactions_topic, owned.intake.transactions),
            (self.feedback, self._settings.feedback_topic, owned.intake.feedback),
        )

    def ours(self, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
        """Those of the log's topic: a broker gives a static member that comes back what it had, of whatever topic."""
        return [each for each in partitions if each.topic == self._settings.transactions_topic]

    def assign(self, numbers: Iterable[int]) -> None:
        """Fetch the transactions of newly assigned partitions, each from the log's position. Those that are not owned
        are parked: assigned, so that they stay ours, but paused.
        """
        topic = self._settings.transactions_topic
        numbers = list(numbers)
        starts = [
            TopicPartition(topic, n, self._owned[n].start_offsets()[0] if n in self._owned else PARKED_AT)
            for n in numbers
        ]
        if self.is_incremental:
            self.transactions.incremental_assign(starts)
        else:
            self.transactions.assign(starts)
        for number in numbers:
            if number not in self._owned:
                self.pause(number)
        self._assign_feedback()

    def pause(self, partition: int) -> None:
        """Fetch a parked partition no further."""
        try:
            self.transactions.pause([TopicPartition(self._settings.transactions_topic, partition)])
        except KafkaException as error:  # it is not assigned any more
            self._logger.info("ingest.pause_failed", partition=partition, error=str(error))
        self._assign_feedback()

    def unassign(self, partitions: list[TopicPartition]) -> None:
        """Stop fetching these partitions, which are no longer owned."""
        if self.is_incremental:
            self.transactions.incremental_unassign(partitions)
        else:
            self.transactions.unassign()
        self._assign_feedback()

    @property
    def is_incremental(self) -> bool:
        """Whether an assignment adds partitions to those that the worker has."""
        return self._settings.assignment_strategy == "cooperative-sticky" or kafka_client.is_new_protocol(
            self._settings
        )

    def _assign_feedback(self) -> None:
        topic = self._settings.feedback_topic
        wanted = []
        for number, owned in sorted(self._owned.items()):
            held = owned.intake.feedback.records
            offset = held[-1].offset + 1 if held else owned.start_offsets()[1]
            wanted.append(TopicPartition(topic, number, offset))
            owned.intake.feedback.at_end = False
            owned.intake.feedback.paused = False
        if wanted:
            self.feedback.assign(wanted)
        else:
            self.feedback.unassign()

    def restart(self, before: Owned, fresh: Owned) -> None:
        """Fetch a partition from the position of its `fresh` state, which replaces the previous one. Raises Unavailable
        if the client no longer has the partition.
        """
        for (consumer, topic, side), offset in zip(self._sides(before), fresh.start_offsets(), strict=True):
            place = TopicPartition(topic, before.partition, offset)
            try:
                consumer.seek(place)
            except KafkaException as error:
                said = error.args[0].str()
                raise Unavailable(f"{topic}[{before.partition}] is no longer this worker's to read: {said}") from None
            if side.paused:
                consumer.resume([place])

    def begin_again(self, fresh: Iterable[Owned]) -> None:
        """Fetch partitions anew, whatever state the client has left their fetching in: after they were parked, or as a
        new generation of the topic.
        """
        topic = self._settings.transactions_topic
        places = [TopicPartition(topic, owned.partition, owned.start_offsets()[0]) for owned in fresh]
        if not places:
            return
        if self.is_incremental:
            self.transactions.incremental_unassign(places)
            self.transactions.incremental_assign(places)
        else:
            assigned = [p.partition for p in self.transactions.assignment()]
            self.transactions.assign([TopicPartition(topic, n, self._next_offset(n)) for n in assigned])
            for number in assigned:
                if number not in self._owned:
                    self.transactions.pause([TopicPartition(topic, number)])
        self.transactions.resume(places)
        self._assign_feedback()

    def _next_offset(self, partition: int) -> int:
        """The offset after the last transaction taken from Kafka; any for a parked partition."""
        owned = self._owned.get(partition)
        if owned is None:
            return PARKED_AT
        held = owned.intake.transactions.records
        owned.intake.transactions.at_end = owned.intake.transactions.paused = False
        return held[-1].offset + 1 if held else owned.start_offsets()[0]

    def commit(self) -> None:
        """Commit offsets to Kafka: for lag displays, and as evidence that this log existed (`ingest.evidence`)."""
        topic = self._settings.transactions_topic
        offsets = [
            TopicPartition(topic, number, owned.head.transactions.offset, COMMITTED_BY + self._settings.log_prefix)
            for number, owned in self._owned.items()
            if owned.head.transactions.generation == owned.generations[0]
        ]
        if offsets:
            try:
                self.transactions.commit(offsets=offsets, asynchronous=True)
            except KafkaException as error:
                self._logger.info("ingest.commit_failed", error=str(error))

    def close(self) -> None:
        """Leave the group."""
        self.transactions.close()
        self.feedback.close()
