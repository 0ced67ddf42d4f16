"""Batches of messages that the client can't read, and how far a partition must jump to get past one.

Kafka stores what producers send in batches, and a broker does not unpack them. Two kinds can't be read:

    unreadable_batch   its compression is broken, or it unpacks to more than the client accepts (100 MB): it is as its
                       producer sent it, and will never be readable. Nothing in it was decided; it is recorded
                       (`messages_skipped.v1`, with its offsets) and passed at once, because a partition must not stop
                       for what anyone who may produce can send.
    corrupt_batch      its checksum does not match: the broker or a disk changed it, a replica may still have it, and
                       payments may be in it. The partition is parked; a person may pass the batch (`accept-loss`).

In both cases what came before the batch is decided first.

The client reports the batch's first offset only. Its end is found with a second consumer: a read from within the batch
fails with the same first offset, one from behind it does not. So the distance is doubled until a read fails no more,
and then bisected: one read for a batch of one message, about 2·log2(n) for one of n.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, TopicPartition

from core.errors import Unavailable
from core.settings import Settings
from ingest import kafka_client
from ingest.parking import Trouble

UNREADABLE, CORRUPT = "unreadable_batch", "corrupt_batch"
CODES = {
    KafkaError._BAD_COMPRESSION: UNREADABLE,
    KafkaError._BAD_MSG: CORRUPT,
    KafkaError.INVALID_MSG: CORRUPT,
    KafkaError._UNDERFLOW: UNREADABLE,
}
"""The client's errors that concern a batch."""
READ_S = 20.0
SEARCH_S = 60.0
"""How long consecutive batches of one kind are searched for before those found are passed."""


class BadBatch(Trouble):
    """A batch that can't be read. first: its first offset."""

    def __init__(self, code: str, topic: str, partition: int, first: int, said: str) -> None:
        remedy = "it is passed" if code == UNREADABLE else "see docs/failures.md"
        super().__init__(code, f"{topic}[{partition}]: the batch at offset {first} can't be read ({said}); {remedy}")
        self.topic = topic
        self.partition = partition
        self.first = first

    @property
    def is_passed(self) -> bool:
        """Whether nobody will ever read it."""
        return self.code == UNREADABLE


class _Read(NamedTuple):
    """What a read found: the first offset and code of a bad batch; (-1, "") for anything readable, or the end."""

    first: int
    code: str


def end_of(settings: Settings, batch: BadBatch) -> int:
    """The first offset after the batch, and after those of the same kind that follow it immediately.

    Raises Unavailable if Kafka does not answer.
    """
    consumer = kafka_client.feedback_consumer(settings)
    deadline = time.monotonic() + SEARCH_S
    try:
        first = batch.first
        while True:
            end = _end(consumer, batch, first)
            following = _read(consumer, batch, end)
            if (following.first, following.code) != (end, batch.code) or time.monotonic() > deadline:
                return end
            first = end
    finally:
        consumer.close()


def next_bad(settings: Settings, at: BadBatch) -> BadBatch | None:
    """The bad batch of this kind at the given offset; None if what is there can be read. Raises Unavailable."""
    consumer = kafka_client.feedback_consumer(settings)
    try:
        found = _read(consumer, at, at.first)
    finally:
        consumer.close()
    return BadBatch(at.code, at.topic, at.partition, found.first, "") if found.code == at.code else None


def _end(consumer: Consumer, batch: BadBatch, first: int) -> int:
    inside, step = 0, 1
    while _read(consumer, batch, first + step).first == first:
        inside, step = step, 2 * step
    outside = step
    while outside - inside > 1:
        middle = (inside + outside) // 2
        if _read(consumer, batch, first + middle).first == first:
            inside = middle
        else:
            outside = middle
    return first + outside


def _read(consumer: Consumer, batch: BadBatch, offset: int) -> _Read:
    consumer.assign([TopicPartition(batch.topic, batch.partition, offset)])
    deadline = time.monotonic() + READ_S
    while time.monotonic() < deadline:
        for message in consumer.consume(1, 0.5):
            error = message.error()
            if error is None or error.code() in (KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET):
                return _Read(-1, "")
            if error.code() in CODES:
                return _Read(message.offset() or 0, CODES[error.code()])
    raise Unavailable(f"{batch.topic}[{batch.partition}] can't be read from offset {offset} on")
