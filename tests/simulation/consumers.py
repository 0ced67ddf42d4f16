"""The consumer of the simulated broker, with the interface of confluent-kafka's, as far as the product uses it.

It holds messages that it has fetched and not given out yet, like librdkafka; they stay when the topic is made again.
Rebalances happen in `consume` and `poll`, through the callbacks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tests.simulation.broker import Broker, Member, Stored
from tests.simulation.world import World

FETCHED_MAX = 6
"""Messages of a partition that one fetch brings at most."""
_broker: list[Broker] = []
"""The broker that clients talk to."""


def connect(to: Broker) -> None:
    """Clients that are made from now on talk to this broker."""
    _broker[:] = [to]


def broker() -> Broker:
    """The one that clients talk to that are made now."""
    return _broker[0]


def failed(code: int) -> KafkaException:
    return KafkaException(KafkaError(code))


class Message:
    """As confluent_kafka.Message."""

    def __init__(
        self, topic: str, partition: int, stored: Stored | None, error: KafkaError | None, offset: int
    ) -> None:
        self._topic, self._partition, self._stored, self._error, self._offset = topic, partition, stored, error, offset

    def error(self) -> KafkaError | None:
        return self._error

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return (self._stored.kind, self._stored.timestamp) if self._stored is not None else (0, -1)

    def key(self) -> bytes | None:
        return self._stored.key if self._stored is not None else None

    def value(self) -> bytes | None:
        return self._stored.value if self._stored is not None else None


@dataclass(slots=True)
class _Fetch:
    """Where a consumer is in a partition. position: of the next message to fetch; −2, −1: beginning, end."""

    position: int
    paused: bool = False
    stopped: bool = False
    told_end: int = -1
    fetched: deque[Stored] = field(default_factory=deque)


class Consumer:
    """As confluent_kafka.Consumer."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._broker = broker()
        self._world: World = self._broker.world
        self._process = self._world.current
        self._name = str(properties["group.id"])
        self._is_cooperative = properties.get("partition.assignment.strategy") == "cooperative-sticky"
        self._resets = properties.get("auto.offset.reset") == "error"
        self._fetches: dict[tuple[str, int], _Fetch] = {}
        self._member: Member | None = None
        self._topic = ""
        self._callbacks: tuple[Any, Any, Any] = (None, None, None)
        self._turn = 0

    # --- the group --------------------------------------------------------------------------------------------------

    def subscribe(self, topics: list[str], on_assign: Any = None, on_revoke: Any = None, on_lost: Any = None) -> None:
        self._topic, self._callbacks = topics[0], (on_assign, on_revoke, on_lost)
        self._member = Member(self._process, self._process.name, self._world.now)
        self._group.join(self._member)

    @property
    def _group(self) -> Any:
        return self._broker.group(self._name, self._topic, is_cooperative=self._is_cooperative)

    def _serve_group(self) -> None:
        """Take part in the group: call back what has changed for this member."""
        member = self._member
        if member is None or not self._broker.is_up or member.cut_off_until > self._world.now:
            return
        group, count = self._group, self._broker.partitions_of(self._topic)
        group.look(count)
        assigned, revoked, lost = self._callbacks
        if member.expelled:
            gone, member.owned = member.owned, set()
            if gone:
                self._world.note(f"{self._process.name}: lost {sorted(gone)}")
                (lost or revoked)(self, self._places(gone))
            member.generation = -1
            group.join(member)
            return
        if not count:
            return
        if self._is_cooperative:
            self._serve_cooperatively(group, member, count)
            return
        if member.generation != group.generation:
            gone, member.owned = member.owned, set()
            if gone:
                self._world.note(f"{self._process.name}: revoked {sorted(gone)}")
                revoked(self, self._places(gone))
            if not member.expelled:
                member.generation = group.generation
                member.awaits = True
        elif member.awaits and group.is_synced():
            member.awaits = False
            member.owned = group.target(member, count)
            self._world.note(f"{self._process.name}: assigned {sorted(member.owned)}")
            assigned(self, self._places(member.owned))

    def _serve_cooperatively(self, group: Any, member: Member, count: int) -> None:
        assigned, revoked, _ = self._callbacks
        wanted = group.target(member, count)
        if gone := member.owned - wanted:
            self._world.note(f"{self._process.name}: revoked {sorted(gone)}")
            revoked(self, self._places(gone))
            member.owned -= gone
            return
        taken = {p for other in group.members if other is not member for p in other.owned}
        if fresh := wanted - member.owned - taken:
            member.owned |= fresh
            self._world.note(f"{self._process.name}: assigned {sorted(fresh)}")
            assigned(self, self._places(fresh))

    def _places(self, partitions: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, p) for p in sorted(partitions)]

    def unsubscribe(self) -> None:
        if self._member is not None:
            gone, self._member.owned = self._member.owned, set()
            if gone:
                self._callbacks[1](self, self._places(gone))
            self._group.leave(self._member)
            self._member = None

    def close(self) -> None:
        if not self._process.ended:
            self._world.call("kafka close", lambda: None)
            self.unsubscribe()

    # --- messages ---------------------------------------------------------------------------------------------------

    def poll(self, timeout: float = 0.0) -> Message | None:
        found = self.consume(1, timeout)
        return found[0] if found else None

    def consume(self, count: int, timeout: float = -1) -> list[Message]:
        self._world.call("kafka consume", self._serve_group)
        found = self._take(count)
        if not found and timeout > 0:
            deadline = self._world.now + timeout
            while not found and self._world.now < deadline:
                self._world.wait(deadline - self._world.now, self._has_something)
                self._serve_group()
                found = self._take(count)
        return found

    def _has_something(self) -> bool:
        return self._has_news() or any(self._is_due(place, fetch) for place, fetch in self._fetches.items())

    def _has_news(self) -> bool:
        member = self._member
        if member is None or not self._broker.is_up or member.cut_off_until > self._world.now:
            return False
        group, count = self._group, self._broker.partitions_of(self._topic)
        group.look(count)
        if member.expelled:
            return True
        if not count:
            return False
        if self._is_cooperative:
            wanted = group.target(member, count)
            taken = {p for other in group.members if other is not member for p in other.owned}
            return bool(member.owned - wanted or wanted - member.owned - taken)
        return member.generation != group.generation or (member.awaits and group.is_synced())

    def _is_due(self, place: tuple[str, int], fetch: _Fetch) -> bool:
        if fetch.paused or fetch.stopped:
            return False
        if fetch.fetched:
            return True
        if not self._broker.is_up or self._broker.slow.get(place, -1.0) > self._world.now:
            return False
        topic = self._broker.topics.get(place[0])
        if topic is None or place[1] >= len(topic.partitions):
            return True
        part = topic.partitions[place[1]]
        if fetch.position == -1:
            return fetch.told_end != part.end
        return fetch.position < part.start or fetch.position != part.end or fetch.told_end != part.end

    def _take(self, count: int) -> list[Message]:
        places = sorted(self._fetches)
        found: list[Message] = []
        self._turn += 1
        for step in range(len(places)):
            place = places[(self._turn + step) % len(places)]
            fetch = self._fetches[place]
            while len(found) < count and self._is_due(place, fetch):
                if fetch.fetched:
                    stored = fetch.fetched.popleft()
                    found.append(Message(*place, stored, None, stored.offset))
                elif not self._fetch(place, fetch, found):
                    break
        return found

    def _fetch(self, place: tuple[str, int], fetch: _Fetch, found: list[Message]) -> bool:
        """Ask the broker. False if an event was added that ends this turn of the partition."""

        def told(code: int, offset: int) -> bool:
            found.append(Message(*place, None, KafkaError(code), offset))
            return False

        topic = self._broker.topics.get(place[0])
        if topic is None or place[1] >= len(topic.partitions):
            fetch.stopped = True
            return told(KafkaError.UNKNOWN_TOPIC_OR_PART, -1001)
        part = topic.partitions[place[1]]
        if fetch.position < 0:
            fetch.position = part.start if fetch.position == -2 else part.end
        if fetch.position < part.start or fetch.position > part.end:
            fetch.stopped = True
            return told(KafkaError._AUTO_OFFSET_RESET, fetch.position)
        page = part.following(fetch.position, self._world.random.randint(1, FETCHED_MAX))
        if page:
            fetch.fetched.extend(page)
            fetch.position = page[-1].offset + 1
            return True
        fetch.position = fetch.told_end = part.end
        return told(KafkaError._PARTITION_EOF, part.end)

    # --- what is read -----------------------------------------------------------------------------------------------

    def assign(self, places: list[TopicPartition]) -> None:
        self._fetches = {(p.topic, p.partition): _Fetch(_start(p)) for p in places}

    def unassign(self) -> None:
        self._fetches = {}

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        self._fetches |= {(p.topic, p.partition): _Fetch(_start(p)) for p in places}

    def incremental_unassign(self, places: list[TopicPartition]) -> None:
        for p in places:
            self._fetches.pop((p.topic, p.partition), None)

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(*place) for place in sorted(self._fetches)]

    def _known(self, place: TopicPartition) -> _Fetch:
        found = self._fetches.get((place.topic, place.partition))
        if found is None:
            raise failed(KafkaError._STATE)
        return found

    def seek(self, place: TopicPartition) -> None:
        fetch = self._known(place)
        fetch.position, fetch.stopped, fetch.told_end = place.offset, False, -1
        fetch.fetched.clear()

    def pause(self, places: list[TopicPartition]) -> None:
        for place in places:
            self._known(place).paused = True

    def resume(self, places: list[TopicPartition]) -> None:
        for place in places:
            self._known(place).paused = False

    # --- offsets ----------------------------------------------------------------------------------------------------

    def commit(self, offsets: list[TopicPartition], asynchronous: bool = True) -> None:
        def effect() -> None:
            member = self._member
            if member is not None:
                self._group.look(self._broker.partitions_of(self._topic))
                if member.expelled or member.cut_off_until > self._world.now:
                    return  # the coordinator does not know it, or does not hear it
            if self._broker.is_up:
                for p in offsets:
                    self._broker.on_commit(p.topic, p.partition, p.offset)
                    self._broker.committed[self._name, p.topic, p.partition] = p.offset, p.metadata or ""

        self._world.call("kafka commit", effect)

    def committed(self, places: list[TopicPartition], timeout: float = 0.0) -> list[TopicPartition]:
        def effect() -> list[TopicPartition]:
            if not self._broker.is_up:
                raise failed(KafkaError._TIMED_OUT)
            found = []
            for p in places:
                offset, metadata = self._broker.committed.get((self._name, p.topic, p.partition), (-1001, ""))
                found.append(TopicPartition(p.topic, p.partition, offset, *([metadata] if metadata else [])))
            return found

        return self._world.call("kafka committed", effect)

    def get_watermark_offsets(self, place: TopicPartition, timeout: float = 0.0) -> tuple[int, int]:
        def effect() -> tuple[int, int]:
            topic = self._broker.topics.get(place.topic)
            if not self._broker.is_up or topic is None:
                raise failed(KafkaError._TIMED_OUT)
            part = topic.partitions[place.partition]
            return part.start, part.end

        return self._world.call("kafka watermarks", effect)


def _start(place: TopicPartition) -> int:
    return place.offset if place.offset >= 0 or place.offset in (-1, -2) else -2
