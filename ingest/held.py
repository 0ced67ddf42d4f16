"""What Kafka's topics already hold of a stream, so that sending it again sends only the rest.

`missing` reads both topics from their first message to their end, and leaves out of the stream each record whose key
and value are there: as often as they are there, whoever sent them, in whatever partition. So no state of the former run
is needed, and a run that was killed is continued like one that was interrupted. Messages that Kafka no longer holds
(retention) are sent again.

Cost: one read of the topics; 8 bytes a message are held while the stream is sent.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from hashlib import blake2b

import numpy as np
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from numpy.typing import NDArray

from core.errors import Unavailable
from core.settings import Settings
from ingest import kafka_client
from sources.record import Record, Topic

READ_AT_ONCE = 10_000
WAIT_S = 0.2
"""How long to gather messages, since a call returns no sooner unless it has all that it may take."""
QUIET_S = 10.0
"""How long to wait for a broker that sends nothing."""


def missing(chunks: Iterable[list[Record]], settings: Settings) -> Iterator[list[Record]]:
    """The records that the topics do not hold, in order. Raises Unavailable if they can't be read to their end."""
    held = {topic: _Held(digests) for topic, digests in _digests(settings).items()}
    for chunk in chunks:
        yield [r for r in chunk if not held[r.topic].take(_digest(r.key.encode(), r.value))]


class _Held:
    """A multiset of digests."""

    def __init__(self, digests: NDArray[np.uint64]) -> None:
        self._digests, self._left = np.unique(digests, return_counts=True)

    def take(self, digest: int) -> bool:
        """Remove one; False if there is none."""
        at = int(np.searchsorted(self._digests, np.uint64(digest)))
        if at == len(self._digests) or int(self._digests[at]) != digest or not self._left[at]:
            return False
        self._left[at] -= 1
        return True


def _digests(settings: Settings) -> dict[Topic, NDArray[np.uint64]]:
    names: dict[Topic, str] = {"transactions": settings.transactions_topic, "feedback": settings.feedback_topic}
    known = kafka_client.describe(settings, list(names.values()))
    return {role: _read(settings, known[name]) for role, name in names.items()}


def _read(settings: Settings, topic: kafka_client.Topic | None) -> NDArray[np.uint64]:
    """The digests of all messages in the topic, uint64 (n,)."""
    found: list[int] = []
    if topic is None:
        return np.array(found, dtype=np.uint64)
    consumer = kafka_client.topic_reader(settings)
    try:
        starts = kafka_client.log_starts(settings, topic)
        consumer.assign([TopicPartition(topic.name, p, start) for p, start in enumerate(starts)])
        reading = set(range(topic.partitions))
        heard_at = time.monotonic()
        while reading:
            messages = consumer.consume(READ_AT_ONCE, timeout=WAIT_S)
            if messages:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > QUIET_S:
                raise Unavailable(f"topic {topic.name} can't be read to its end: no answer for {QUIET_S:g} s")
            for message in messages:
                error = message.error()
                if error is None:
                    found.append(_digest(message.key() or b"", message.value() or b""))
                elif error.code() == KafkaError._PARTITION_EOF:
                    reading.discard(message.partition())
                else:
                    raise Unavailable(f"topic {topic.name} can't be read: {error.str()}")
    except KafkaException as error:
        raise kafka_client.unreachable(settings, error.args[0].str()) from None
    finally:
        consumer.close()
    return np.array(found, dtype=np.uint64)


def _digest(key: bytes, value: bytes) -> int:
    return int.from_bytes(blake2b(b"%d:%b%b" % (len(key), key, value), digest_size=8).digest(), "little")
