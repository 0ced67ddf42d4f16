"""Kafka as the product sees it: topics with sparse offsets, a consumer group with both kinds of rebalance, committed
offsets.

`Broker` is what the servers hold; `tests.simulation.consumers` and `clients` are what librdkafka makes of it. Members
of the group are alive as long as their process runs and their heartbeats arrive. One that is frozen or cut off is
expelled after the session's timeout, and learns of it when it is back: until then it is a zombie that believes it owns
its partitions.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from core.partitioner import PARTITIONERS
from tests.simulation.world import EPOCH_S, Process, World

CREATED, APPENDED = 1, 2
"""TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME."""


class Stored(NamedTuple):
    """A message in a partition. timestamp: epoch ms; kind: whose time it is."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    kind: int
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(slots=True)
class Partition:
    """Messages by offset. start: the first offset that is still held; end: the next one to be given."""

    messages: list[Stored] = field(default_factory=list)
    start: int = 0
    end: int = 0

    def following(self, offset: int, count: int) -> list[Stored]:
        """Up to `count` messages from this offset on."""
        place = bisect_left(self.messages, offset, key=lambda m: m.offset)
        return self.messages[place : place + count]

    def expire(self, before: int) -> None:
        """Delete the messages before this offset."""
        self.start = max(self.start, min(before, self.end))
        self.messages = [m for m in self.messages if m.offset >= self.start]


@dataclass(slots=True)
class Topic:
    """A topic under its ID."""

    name: str
    identity: str
    partitions: list[Partition]
    takes_append_time: bool = False


@dataclass(eq=False)
class Member:
    """A consumer in the group, as the coordinator knows it. owned: what it has been given and has not given back;
    awaits: whether it has joined this generation and waits for its assignment.
    """

    process: Process
    name: str
    heartbeat_at: float
    cut_off_until: float = -1.0
    generation: int = -1
    owned: set[int] = field(default_factory=set)
    expelled: bool = False
    awaits: bool = False


@dataclass
class Group:
    """A consumer group on one topic, and its coordinator."""

    world: World
    topic: str
    is_cooperative: bool
    session_s: float
    members: list[Member] = field(default_factory=list)
    generation: int = 0

    def look(self, partitions: int) -> None:
        """Expel who is silent; begin a new generation if the members are others than before."""
        now = self.world.now
        for member in list(self.members):
            process = member.process
            if not process.ended and process.frozen_until <= now and member.cut_off_until <= now:
                member.heartbeat_at = now
            if now - member.heartbeat_at > self.session_s:
                member.expelled = True
                self.leave(member)

    def join(self, member: Member) -> None:
        member.expelled = False
        member.heartbeat_at = self.world.now
        self.members.append(member)
        self.generation += 1

    def leave(self, member: Member) -> None:
        if member in self.members:
            self.members.remove(member)
            self.generation += 1

    def target(self, member: Member, partitions: int) -> set[int]:
        """The partitions that the member shall have in this generation: a range of them."""
        place, count = self.members.index(member), len(self.members)
        size, more = divmod(partitions, count)
        first = place * size + min(place, more)
        return set(range(first, first + size + (place < more)))

    def is_synced(self) -> bool:
        """Whether, in an eager rebalance, every member has given up what it had."""
        return all(member.generation == self.generation for member in self.members)


@dataclass
class Broker:
    """The cluster. down_until: it does not answer before then. slow: fetches from a topic's partition stand still
    before then. failing: what happens to the next messages that are produced to a topic.
    """

    world: World
    session_s: float
    partitioner: str = "murmur2"
    topics: dict[str, Topic] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    committed: dict[tuple[str, str, int], tuple[int, str]] = field(default_factory=dict)
    down_until: float = -1.0
    slow: dict[tuple[str, int], float] = field(default_factory=dict)
    failing: list[str] = field(default_factory=list)
    on_produce: Callable[[str, bytes | None], None] = lambda topic, value: None
    on_stored: Callable[[Topic, int, Stored], None] = lambda topic, partition, message: None
    on_commit: Callable[[str, int, int], None] = lambda topic, partition, offset: None
    made: int = 0

    @property
    def is_up(self) -> bool:
        return self.world.now >= self.down_until

    def create(
        self, name: str, partitions: int, *, takes_append_time: bool = False, first: Iterable[int] = ()
    ) -> Topic:
        """Create a topic, or make it anew under another ID. first: where its partitions begin."""
        self.made += 1
        starts = list(first) or [0] * partitions
        parts = [Partition([], start, start) for start in starts]
        topic = self.topics[name] = Topic(name, f"id-{self.made}", parts, takes_append_time)
        return topic

    def append(
        self,
        name: str,
        key: bytes | None,
        value: bytes | None,
        timestamp: int = 0,
        *,
        partition: int = -1,
        gap: int = 0,
        headers: tuple[tuple[str, bytes], ...] = (),
    ) -> tuple[int, int]:
        """Store a message; gap: offsets that no message has before it. Returns partition and offset."""
        topic = self.topics[name]
        number = partition
        if number < 0:
            number = PARTITIONERS[self.partitioner](key or b"", len(topic.partitions))  # type: ignore[index]
        part = topic.partitions[number]
        kind = APPENDED if topic.takes_append_time else CREATED
        now = int((EPOCH_S + self.world.now) * 1000)
        time = now if kind == APPENDED or not timestamp else timestamp
        offset = part.end + gap
        stored = Stored(offset, key, value, time, kind, headers)
        part.messages.append(stored)
        part.end = offset + 1
        self.on_stored(topic, number, stored)
        return number, offset

    def group(self, name: str, topic: str, *, is_cooperative: bool) -> Group:
        if name not in self.groups:
            self.groups[name] = Group(self.world, topic, is_cooperative, self.session_s)
        return self.groups[name]

    def partitions_of(self, topic: str) -> int:
        found = self.topics.get(topic)
        return len(found.partitions) if found is not None else 0
