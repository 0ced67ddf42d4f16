"""Makes confluent-kafka clients from Settings, and describes topics. With `ingest.kafka_properties`, the only module
that knows librdkafka's property names.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from core.errors import BadInput, Unavailable
from core.settings import Settings
from ingest.kafka_properties import logs_in, secured
from ingest.kafka_reasons import Admin

_silent = logging.getLogger("stream_sentinel.librdkafka")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False
ADMIN_TIMEOUT_S = 10.0
C = TypeVar("C", Consumer, Producer, AdminClient)


class Topic(NamedTuple):
    """A topic as the broker describes it; `topic_id` is "" if the broker gives none."""

    name: str
    topic_id: str
    partitions: int


def common(settings: Settings) -> dict[str, Any]:
    """The properties that all clients share."""
    return {
        "bootstrap.servers": settings.kafka_servers,
        "client.id": "stream-sentinel",
        "logger": _silent,
        **secured(settings),
    }


_GONE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_ID)
_FETCH = {
    # The broker collects messages for this long, or until it has this many bytes, before it responds: many small
    # responses cost the broker and the client much CPU. The end of a quiet partition is also noticed this late.
    "fetch.wait.max.ms": 9,
    "fetch.min.bytes": 16_384,
    "queued.max.messages.kbytes": 32_768,
    "fetch.message.max.bytes": 1_048_576,
}
"""How consumers read, unless the settings' [kafka] table says otherwise."""

_POSITION = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    # The log's position decides where to read. If Kafka no longer has it, that is an error, never a silent gap.
    "auto.offset.reset": "error",
    "check.crcs": True,
}
"""What the worker relies on, whatever the settings say."""

_ENDS = "stream-sentinel.ends"
"""The group, which nothing joins, of those that ask where partitions begin and end."""
_ALL_RECORDS = {"isolation.level": "read_uncommitted"}
"""For where a partition ends: behind the records of transactions that are still open, too."""


def transactions_consumer(settings: Settings) -> Consumer:
    """A group-managed consumer: its assignment is the ownership of partitions."""
    static = {"group.instance.id": settings.group_instance_id} if settings.group_instance_id else {}
    if is_new_protocol(settings):
        assignor = "range" if settings.assignment_strategy == "range" else "uniform"
        how: dict[str, Any] = {"group.remote.assignor": settings.kafka.get("group.remote.assignor", assignor)}
    else:
        how = {
            "partition.assignment.strategy": settings.assignment_strategy,
            "heartbeat.interval.ms": _heartbeat_ms(settings),
        }
    return _consumer(
        settings,
        settings.consumer_group,
        {
            # How soon a subscription finds a topic that is made again, or one that has grown; by default 5 minutes.
            "topic.metadata.refresh.interval.ms": 10_000,
            **how,
            **static,
        },
    )


def is_new_protocol(settings: Settings) -> bool:
    """Whether the group uses the protocol of KIP-848, in which the broker assigns partitions and sets the timeouts."""
    return settings.kafka.get("group.protocol") == "consumer"


def _consumer(settings: Settings, group: str, properties: dict[str, Any] | None = None) -> Consumer:
    """A consumer that commits nothing by itself. It has the session timeout even if it never joins the group, because
    the client compares it with other settings.
    """
    session = {} if is_new_protocol(settings) else {"session.timeout.ms": settings.session_timeout_ms}
    patience = {"max.poll.interval.ms": _rebalance_ms(settings)}
    own = properties or {}
    return made(Consumer, {**_FETCH, **patience, **common(settings), **_POSITION, **session, "group.id": group, **own})


def _heartbeat_ms(settings: Settings) -> int:
    """A member hears by its heartbeats that partitions are shared out anew; those that move wait until all have."""
    return max(100, settings.session_timeout_ms // 20)


def _rebalance_ms(settings: Settings) -> int:
    """How long the group waits for a member that does not join again: partitions without an owner wait as long. A
    worker that waits for its log server is not late.
    """
    return max(settings.session_timeout_ms, int(1000 * min(settings.unavailable_timeout_s, 86_000)) + 60_000)


def feedback_consumer(settings: Settings) -> Consumer:
    """A consumer that is manually assigned the partitions that the transactions consumer owns."""
    return _consumer(settings, f"{settings.consumer_group}.feedback")


def responders_consumer(settings: Settings) -> Consumer:
    """A member of the responders' group: its assignment is the ownership of outboxes. It reads no messages."""
    shared: dict[str, Any] = {}
    if not is_new_protocol(settings):
        shared = {
            "partition.assignment.strategy": "range",
            "heartbeat.interval.ms": _heartbeat_ms(settings),
        }
    return _consumer(settings, f"{settings.consumer_group}.responders", shared)


def feedback_producer(settings: Settings, timeout_s: float) -> Producer:
    """A producer of account events, each of which is known to have arrived or not within `timeout_s`."""
    return made(
        Producer,
        {
            **common(settings),
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 0,
            "delivery.timeout.ms": int(timeout_s * 1000),
            "topic.metadata.propagation.max.ms": 1_000,
        },
    )


def group_reader(settings: Settings) -> Consumer:
    """A consumer that reads the group's committed offsets and never joins the group."""
    return _consumer(settings, settings.consumer_group)


def topic_reader(settings: Settings) -> Consumer:
    """A consumer that is assigned partitions by hand, reports their ends, and commits nothing."""
    return _consumer(settings, f"{settings.consumer_group}.reader")


def message_reader(settings: Settings) -> Consumer:
    """A consumer that reads single messages by their place, in small fetches, and commits nothing."""
    small = {
        "fetch.min.bytes": 1,
        "fetch.message.max.bytes": 4_096,
        "queued.min.messages": 1,
        "queued.max.messages.kbytes": 64,
    }
    return _consumer(settings, f"{settings.consumer_group}.reader", small)


def producer(settings: Settings) -> Producer:
    """A producer for decisions and dead letters: idempotent, all acknowledgements."""
    return made(
        Producer,
        {
            **common(settings),
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 5,
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
            "delivery.timeout.ms": 30_000,
            # A topic that does not exist fails soon, instead of holding up dead letters for half a minute.
            "topic.metadata.propagation.max.ms": 1_000,
        },
    )


def admin(settings: Settings) -> AdminClient:
    return made(Admin, common(settings))


def made(client: Callable[[dict[str, Any]], C], properties: dict[str, Any]) -> C:
    """The client. Raises BadInput if librdkafka does not accept a property or its value."""
    try:
        return client(properties)
    except KafkaException as error:
        raise BadInput(f"a Kafka setting is not valid: {error.args[0].str()}") from None


def unreachable(settings: Settings, error: object, client: AdminClient | None = None) -> Unavailable:
    """Why Kafka can't be used, as far as the client that failed knows it."""
    if isinstance(client, Admin) and (why := client.why(settings)):
        return Unavailable(f"Kafka at {settings.kafka_servers} can't be used: {why}")
    return Unavailable(
        f"Kafka at {settings.kafka_servers} can't be reached ({error}); is it running? set KAFKA_SERVERS"
    )


def describe(settings: Settings, names: list[str], client: AdminClient | None = None) -> dict[str, Topic | None]:
    """The named topics; None for one that does not exist. client: one to use again, for frequent calls.

    Raises Unavailable if no broker answers.
    """
    client = client or admin(settings)
    try:
        existing = client.list_topics(timeout=ADMIN_TIMEOUT_S).topics
    except KafkaException as error:
        raise unreachable(settings, error.args[0].str(), client) from None
    present = [name for name in names if name in existing and existing[name].error is None]
    described: dict[str, Topic | None] = dict.fromkeys(names)
    if logs_in(settings):
        present = names  # a topic that the user may not see is not listed; asked for by name, it is told
    if not present:
        return described
    for name, future in client.describe_topics(TopicCollection(present), request_timeout=ADMIN_TIMEOUT_S).items():
        try:
            topic = future.result(ADMIN_TIMEOUT_S)
        except (KafkaException, TimeoutError) as error:
            if isinstance(error, KafkaException) and error.args[0].code() in _GONE:
                continue  # missing, or deleted since it was listed
            if isinstance(error, KafkaException) and error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise _not_permitted(settings, "see", name) from None
            raise unreachable(settings, error) from None
        identity = str(topic.topic_id) if topic.topic_id else ""
        described[name] = Topic(name, identity, len(topic.partitions))
    return described


def _not_permitted(settings: Settings, what: str, topic: str) -> Unavailable:
    return Unavailable(
        f"Kafka at {settings.kafka_servers}: the user may not {what} {topic}: log in as one whose role may"
        " (docs/security.md)"
    )


def log_starts(settings: Settings, topic: Topic) -> tuple[int, ...]:
    """For each partition, the offset of the first message that Kafka holds. Raises Unavailable."""
    bounds = watermarks(settings, topic.name, range(topic.partitions), ADMIN_TIMEOUT_S)
    if bounds.failed is not None:
        raise unreachable(settings, bounds.failed.args[0].str())
    return tuple(bounds.found[p][0] for p in range(topic.partitions))


class Watermarks(NamedTuple):
    """found: for each partition, Kafka's first offset and the one after its last record. failed: why one is missing."""

    found: dict[int, tuple[int, int]]
    failed: KafkaException | None


def watermarks(settings: Settings, topic: str, partitions: Iterable[int], timeout_s: float) -> Watermarks:
    """Where the partitions begin and end, of those that can be asked within the time; records that are no messages
    count, too. Raises BadInput for a Kafka setting that is not valid.

    Asked one by one through a consumer: `AdminClient.list_offsets` asks for all at once, but librdkafka runs its wait
    for the partitions' leaders in the calling thread and in its own one at once, and frees it in the one while the
    other still uses it. A process that asks before its client knows the topic dies of it now and then.
    """
    client = _consumer(settings, _ENDS, _ALL_RECORDS)
    found: dict[int, tuple[int, int]] = {}
    failed: KafkaException | None = None
    deadline = time.monotonic() + timeout_s
    try:
        for partition in partitions:
            left_s = max(0.01, deadline - time.monotonic())
            try:
                low, high = client.get_watermark_offsets(TopicPartition(topic, partition), timeout=left_s)
                found[partition] = low, high
            except KafkaException as error:
                failed = error
    finally:
        client.close()
    return Watermarks(found, failed)


def end_offsets(settings: Settings, names: list[str]) -> dict[str, tuple[int, ...]]:
    """The offset after the last message of each partition of the topics that exist. Found by reading to the end,
    because a broker may report a high watermark that is too low. Raises Unavailable.
    """
    known = [topic for topic in describe(settings, names).values() if topic is not None]
    client = _consumer(settings, _ENDS)
    try:
        places = [TopicPartition(topic.name, p) for topic in known for p in range(topic.partitions)]
        for place in places:
            place.offset = client.get_watermark_offsets(place, timeout=ADMIN_TIMEOUT_S)[1]
        ends: dict[tuple[str, int], int] = {}
        if places:
            client.assign(places)
        deadline = time.monotonic() + ADMIN_TIMEOUT_S
        while len(ends) < len(places):
            if time.monotonic() > deadline:
                raise unreachable(settings, "the ends of its topics can't be read")
            for message in client.consume(10_000, 0.1):
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    ends[message.topic() or "", message.partition() or 0] = message.offset() or 0
                elif error is not None and error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    raise _not_permitted(settings, "read", message.topic() or "")
        return {t.name: tuple(ends[t.name, p] for p in range(t.partitions)) for t in known}
    except KafkaException as error:
        raise unreachable(settings, error.args[0].str()) from None
    finally:
        client.close()


def create_topics(settings: Settings, names: list[str]) -> None:
    """Create the topics that don't exist, with `settings.partitions` partitions and no time-based retention.

    Message timestamps are event times, which may be years old: time-based retention would delete them on arrival.
    Raises Unavailable or BadInput.
    """
    client = admin(settings)
    topics = [
        NewTopic(name, num_partitions=settings.partitions, config={"retention.ms": "-1"})
        for name, known in describe(settings, names).items()
        if known is None
    ]
    if not topics:
        return
    for name, future in client.create_topics(topics, request_timeout=ADMIN_TIMEOUT_S).items():
        try:
            future.result(ADMIN_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise BadInput(f"topic {name} can't be created: {error.args[0].str()}") from None
