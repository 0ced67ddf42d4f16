"""Publishes records to Kafka: every message is known to have arrived, or the caller gets an error.

Idempotent producer, acks=all, keyed by account. Both topics have the same partitioner (the log's) and number of
partitions, so an account's verdicts go to the partition of its transactions. This module owns pacing and the count of
delivered messages. It does not look into records.

A delivery callback for each message would cost as much as sending it. Therefore only failures are reported
(`delivery.report.only.error`); a message that neither failed nor is still queued after the last flush has been
acknowledged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from core.errors import BadInput, Unavailable
from core.events import Partitioner
from core.settings import Settings
from core.tokens import named_partition
from ingest import kafka_client
from ingest.tracing import KAFKA, Tracing, headers_of
from sources.record import Record, Topic

Timestamps = Literal["event", "now"]
_CLIENT_NAMES: dict[Partitioner, str] = {"murmur2": "murmur2_random", "crc32": "consistent_random"}
"""librdkafka's names of the partitioners."""
Progress = Callable[[int, int], None]

FLUSH_SLICE_S = 0.5
PACE_SLICE_S = 0.005
DELIVERY_TIMEOUT_S = 60.0
LINGER_MS = 5.0


@dataclass(frozen=True, slots=True)
class PublishReport:
    """The outcome of publishing. sent: acknowledged messages by topic. failed: messages refused or timed out."""

    sent: dict[Topic, int]
    failed: int
    seconds: float
    interrupted: bool = False
    first_error: str = ""

    @property
    def transactions_per_s(self) -> float:
        """Acknowledged transactions per second of wall time."""
        return self.sent["transactions"] / self.seconds if self.seconds > 0 else 0.0


@dataclass(slots=True)
class _Count:
    sent: dict[Topic, int] = field(default_factory=lambda: {"transactions": 0, "feedback": 0})
    failed: int = 0
    first_error: str = ""
    is_broken: bool = False

    def lost(self, topic: Topic, reason: str) -> None:
        """Record that a queued message has failed permanently: sending more would only lose more."""
        self.sent[topic] -= 1
        self.is_broken = True
        self.refused(reason)

    def refused(self, reason: str) -> None:
        self.failed += 1
        self.first_error = self.first_error or reason


def publish(
    chunks: Iterable[list[Record]],
    settings: Settings,
    *,
    rate: float | None = None,
    timestamps: Timestamps = "event",
    on_progress: Progress | None = None,
    delivery_timeout_s: float = DELIVERY_TIMEOUT_S,
    linger_ms: float = LINGER_MS,
    partitioner: Partitioner | None = None,
) -> PublishReport:
    """Send the records in order and wait until every one is acknowledged.

    The topics are settings.transactions_topic and .feedback_topic; missing ones are created with settings.partitions.
    rate: transactions per second, open loop (a late message does not delay the plan); None is as fast as possible.
    linger_ms: how long the client may wait to fill a batch. partitioner: by default the settings'. timestamps: "event"
    gives a message its record's time, "now" the time it is sent. on_progress is called after every chunk with the
    numbers of transactions and verdicts queued so far.
    Ctrl-C stops sending, waits for messages in flight and returns a report that says so; a second Ctrl-C gives up
    waiting.

    Raises BadInput for options or topics that are not valid, Unavailable if no broker answers or if a message was not
    delivered within `delivery_timeout_s` (sending stops, and the error gives the number).
    """
    if rate is not None and not 0 < rate <= 10_000_000:
        raise BadInput(f"the rate must be above 0 and at most 10,000,000 transactions per second, not {rate!r}")
    if timestamps not in ("event", "now"):
        raise BadInput(f"timestamps must be 'event' or 'now', not {timestamps!r}")
    prepare_topics(settings)
    count = _Count()
    names: dict[str, Topic] = {settings.transactions_topic: "transactions", settings.feedback_topic: "feedback"}

    def failed(error: KafkaError, message: Message) -> None:
        count.lost(names[message.topic() or ""], error.str())

    tracing = Tracing.of(settings, "sentinel-produce")
    producer = _producer(settings, failed, delivery_timeout_s, linger_ms, partitioner or settings.partitioner)
    started = time.monotonic()
    interrupted = False
    try:
        for chunk in chunks if rate is None else _paced(chunks, rate, producer):
            _send(producer, chunk, settings, count, timestamps, tracing)
            if on_progress is not None:
                on_progress(count.sent["transactions"], count.sent["feedback"])
            if count.is_broken:
                break
    except KeyboardInterrupt:
        interrupted = True
    unconfirmed = _flush(producer, delivery_timeout_s)
    if tracing is not None:
        tracing.close()
    report = PublishReport(
        dict(count.sent), count.failed + unconfirmed, time.monotonic() - started, interrupted, count.first_error
    )
    if report.failed and not interrupted:
        total = sum(count.sent.values()) + count.failed
        raise Unavailable(
            f"{report.failed:,} of {total:,} messages were not delivered to Kafka at {settings.kafka_servers}"
            f" ({count.first_error or 'no acknowledgement in time'}); {report.sent['transactions']:,} transactions and"
            f" {report.sent['feedback']:,} verdicts were"
        )
    return report


def prepare_topics(settings: Settings) -> None:
    """Create the two topics if they are missing. Raises BadInput if their numbers of partitions differ: verdicts would
    not reach the partition of their account.
    """
    names = [settings.transactions_topic, settings.feedback_topic]
    if names[0] == names[1]:
        raise BadInput(f"transactions and feedback need two topics, not both {names[0]!r}")
    kafka_client.create_topics(settings, names)
    known = {name: topic for name, topic in kafka_client.describe(settings, names).items() if topic is not None}
    partitions = {name: topic.partitions for name, topic in known.items()}
    if len(set(partitions.values())) > 1:
        shown = ", ".join(f"{name} has {n}" for name, n in sorted(partitions.items()))
        raise BadInput(f"the topics must have the same number of partitions: {shown}", reason="not_copartitioned")


def _producer(
    settings: Settings,
    failed: Callable[[KafkaError, Message], None],
    timeout_s: float,
    linger_ms: float,
    partitioner: Partitioner,
) -> Producer:
    return Producer(
        {
            **kafka_client.common(settings),
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "lz4",
            "linger.ms": linger_ms,
            "partitioner": _CLIENT_NAMES[partitioner],
            "queue.buffering.max.messages": 200_000,
            "queue.buffering.max.kbytes": 131_072,
            "delivery.timeout.ms": max(int(timeout_s * 1000), 10),
            "delivery.report.only.error": True,
            "on_delivery": failed,
        }
    )


def _send(
    producer: Producer,
    chunk: list[Record],
    settings: Settings,
    count: _Count,
    timestamps: Timestamps,
    tracing: Tracing | None,
) -> None:
    produce = producer.produce
    topics: dict[Topic, str] = {"transactions": settings.transactions_topic, "feedback": settings.feedback_topic}
    is_event_time = timestamps == "event"
    name = f"send {settings.transactions_topic}"
    for topic, key, timestamp, value in chunk:
        span, headers = None, None
        if tracing is not None and topic == "transactions":  # a trace begins; it ends in what is done about the payment
            span = tracing.begin(name, "producer", None, KAFKA)
            headers = headers_of(span.context)
        while True:
            try:
                at = timestamp if is_event_time else 0
                if key.startswith("acct_"):  # perhaps a token, which names its partition
                    home = named_partition(key)
                    produce(topics[topic], value=value, key=key, partition=home, timestamp=at, headers=headers)
                else:
                    produce(topics[topic], value=value, key=key, timestamp=at, headers=headers)
            except BufferError:
                producer.poll(0.05)  # the queue is full: wait for deliveries
                if count.is_broken:
                    return
                continue
            except KafkaException as error:  # this message can't be sent (it is too large, say), or none can
                count.refused(error.args[0].str())
                count.is_broken = error.args[0].code() == KafkaError._FATAL
                break
            count.sent[topic] += 1
            break
        if span is not None:
            span.end()
    producer.poll(0)


def _paced(chunks: Iterable[list[Record]], rate: float, producer: Producer) -> Iterator[list[Record]]:
    """Yield slices of the chunks when their first transaction is due: transaction n is due n / rate after the start."""
    size = max(1, int(rate * PACE_SLICE_S))
    started = time.monotonic()
    transactions = 0
    for chunk in chunks:
        for first in range(0, len(chunk), size):
            part = chunk[first : first + size]
            while (wait := started + transactions / rate - time.monotonic()) > 0:
                producer.poll(min(wait, FLUSH_SLICE_S))
            yield part
            transactions += sum(record.topic == "transactions" for record in part)


def _flush(producer: Producer, timeout_s: float) -> int:
    """Wait for all acknowledgements. Returns the number of messages whose outcome is unknown (Ctrl-C or timeout)."""
    deadline = time.monotonic() + timeout_s + 5.0
    left = len(producer)
    try:
        while left and time.monotonic() < deadline:
            left = producer.flush(FLUSH_SLICE_S)
    except KeyboardInterrupt:
        left = len(producer)
    return left
