"""Copies what two topics hold to the topics of a log with another number of partitions (docs/partitions.md).

Messages come in the order of their times, but each partition's in its own order. So an account's stay in order also
where its partition changed, because the topic got more of them, and verdicts stay between the payments. Keys and values
are those of the source; headers are not carried, and no log reads them.

Left out and counted: what has no key that is text or no value, which every log rejects; and verdicts on tokens
(`core.tokens`), which name the partition of the log that made them.

Cost: 6 µs a message. Holds at most HELD_MAX messages of a partition.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from core.errors import BadInput, Unavailable
from core.log.base import EventLog
from core.receipt import AHEAD_MS, BEHIND_MS
from core.settings import Settings
from core.tokens import named_partition
from ingest import history, kafka_client
from ingest.held import missing
from ingest.producer import prepare_topics, publish
from sources.record import Record, Topic

CHUNK = 1_000
HELD_MAX = 5_000
READ_AT_ONCE = 2_000
WAIT_S = 0.2
"""How long to gather messages, since a call returns no sooner unless it has all that it may take."""
QUIET_S = 10.0
"""How long to wait for a broker that sends nothing."""
Place = tuple[str, int]


class Copied(NamedTuple):
    """How many messages were sent by topic, and how many were left out."""

    transactions: int
    feedback: int
    left_out: int


def copy(
    log: EventLog, settings: Settings, transactions: str, feedback: str, earliest: int | None, **act: object
) -> Copied:
    """Send what these two topics hold, and the settings' topics don't, to the settings' topics, as a history of the log
    from `earliest` (epoch ms; None: as early as a live payment may be dated at the first message) until now.

    act: the fields of every control event. Raises BadInput if a topic is missing, or a history is open; Unavailable if
    Kafka does not answer.
    """
    former = FormerTopics(settings, transactions, feedback)
    prepare_topics(settings)
    chunks = iter(former.chunks())
    first = next(chunks, [])
    if not first:
        return Copied(0, 0, former.left_out)
    since = first[0].timestamp - BEHIND_MS if earliest is None else earliest
    history.start(log, settings, since, int(time.time() * 1000) + AHEAD_MS, **act)
    try:
        time.sleep(history.NOTICE_S)
        report = publish(missing(itertools.chain([first], chunks), settings), settings)
    finally:
        history.stop(log, settings, **act)
    return Copied(report.sent["transactions"], report.sent["feedback"], former.left_out)


class FormerTopics:
    """The messages of a log's two topics, as far as they are there when they are read."""

    def __init__(self, settings: Settings, transactions: str, feedback: str) -> None:
        """Raises BadInput if a topic is missing, or is one of the settings'."""
        self._settings = settings
        self._roles: dict[str, Topic] = {transactions: "transactions", feedback: "feedback"}
        found = kafka_client.describe(settings, list(self._roles))
        if same := self._roles.keys() & {settings.transactions_topic, settings.feedback_topic}:
            raise BadInput(f"{min(same)} can't be copied to itself: name the new topics in the settings")
        if missing := [name for name, topic in found.items() if topic is None]:
            raise BadInput(f"Kafka has no topic {missing[0]!r}")
        self._topics = [topic for topic in found.values() if topic is not None]
        self.left_out = 0
        """How many messages were left out so far."""

    def chunks(self) -> Iterator[list[Record]]:
        """All messages in order, in lists. Raises Unavailable if they can't be read to the end."""
        consumer = kafka_client.topic_reader(self._settings)
        try:
            starts = {t.name: kafka_client.log_starts(self._settings, t) for t in self._topics}
            places = [TopicPartition(name, p, at) for name, each in starts.items() for p, at in enumerate(each)]
            consumer.assign(places)
            merge = _Merge((place.topic, place.partition) for place in places)
            heard_at = time.monotonic()
            while not merge.is_done:
                messages = consumer.consume(READ_AT_ONCE, WAIT_S)
                if messages:
                    heard_at = time.monotonic()
                elif time.monotonic() - heard_at > QUIET_S:
                    raise Unavailable(f"the topics can't be read to their ends: no answer for {QUIET_S:g} s")
                for message in messages:
                    self._take(message, merge)
                yield from _lists(merge.ready())
                pause, resume = merge.full(), merge.empty()
                consumer.pause([TopicPartition(*place) for place in pause])
                consumer.resume([TopicPartition(*place) for place in resume])
        except KafkaException as error:
            raise kafka_client.unreachable(self._settings, error.args[0].str()) from None
        finally:
            consumer.close()

    def _take(self, message: KafkaMessage, merge: _Merge) -> None:
        place = message.topic() or "", message.partition() or 0
        error = message.error()
        if error is not None and error.code() == KafkaError._PARTITION_EOF:
            merge.end(place)
        elif error is not None:
            raise Unavailable(f"topic {place[0]} can't be read: {error.str()}")
        elif (record := self._record(message, self._roles[place[0]])) is not None:
            merge.add(place, record)

    def _record(self, message: KafkaMessage, role: Topic) -> Record | None:
        key, value = message.key(), message.value()
        try:
            name = key.decode() if isinstance(key, bytes) else key or ""
        except UnicodeDecodeError:
            name = ""
        if not name or value is None or named_partition(name) >= 0:
            self.left_out += 1
            return None
        return Record(role, name, max(message.timestamp()[1], 0), value)


class _Merge:
    """Records of several places, each with an order of its own, merged by time. Nothing is ready while a place that has
    not ended holds none: its next may be the oldest.
    """

    def __init__(self, places: Iterable[Place]) -> None:
        self._held: dict[Place, deque[Record]] = {place: deque() for place in places}
        self._waited_for = set(self._held)
        self._ended: set[Place] = set()
        self._heads: list[tuple[int, Place]] = []
        self._paused: set[Place] = set()

    @property
    def is_done(self) -> bool:
        return len(self._ended) == len(self._held) and not self._heads

    def add(self, place: Place, record: Record) -> None:
        """The place's next record; what comes after its end is not taken."""
        if place in self._ended:
            return
        held = self._held[place]
        held.append(record)
        if len(held) == 1:
            heapq.heappush(self._heads, (record.timestamp, place))
            self._waited_for.discard(place)

    def end(self, place: Place) -> None:
        self._ended.add(place)
        self._waited_for.discard(place)

    def ready(self) -> Iterator[Record]:
        """Take what is next, as far as that is known."""
        while self._heads and not self._waited_for:
            _, place = heapq.heappop(self._heads)
            held = self._held[place]
            yield held.popleft()
            if held:
                heapq.heappush(self._heads, (held[0].timestamp, place))
            elif place not in self._ended:
                self._waited_for.add(place)

    def full(self) -> set[Place]:
        """The places to read no further for now."""
        found = {place for place, held in self._held.items() if len(held) > HELD_MAX} - self._paused
        self._paused |= found
        return found

    def empty(self) -> set[Place]:
        """The places to read further again."""
        found = {place for place in self._paused if len(self._held[place]) <= HELD_MAX // 2}
        self._paused -= found
        return found


def _lists(records: Iterator[Record]) -> Iterator[list[Record]]:
    chunk: list[Record] = []
    for record in records:
        chunk.append(record)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
