"""Builders of whole logs in memory: random streams decided by OfflineIngest, and ways to look at and copy them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from core import control_stream
from core.codec import decode_score, encode
from core.context import Resolver
from core.events import Transaction
from core.log.base import Entry, EventLog, Head, Stream
from core.log.memory import MemoryLog
from core.log.seals import head_from_entry
from core.replay import Timeline
from core.times import HOUR_MS
from core.verification import Verification, verify
from ingest.offline import OfflineIngest
from tests.builders.decisions import append_unchecked
from tests.builders.events import Shape, stream
from tests.builders.models import ARTIFACT, deployed, load_tiny

PARTITIONS = 3
SECOND = ARTIFACT + b" "


class Record(NamedTuple):
    topic: str
    key: str
    timestamp: int
    value: bytes


def records(seed: int, size: int, shape: Shape | None = None) -> list[Record]:
    """A random stream as Kafka would bring it, with late events, duplicates and one bad message in twenty."""
    steps = (0, 1_000, 60_000, HOUR_MS, 5 * HOUR_MS)
    shape = shape or Shape(accounts=12, late=0.1, duplicates=0.08, steps=steps, weights=(2, 4, 6, 3, 1), feedback=0.15)
    rng = random.Random(seed)
    out: list[Record] = []
    now = 0
    for item in stream(seed, size, shape):
        now = max(now, item.occurred_at)
        topic = "transactions" if isinstance(item, Transaction) else "feedback"
        value = encode(item)
        if rng.random() < 0.05:
            value = rng.choice([b"", b"{}", b"\xff", value[:-1], value.replace(b'"account_id"', b'"account"')])
        out.append(Record(topic, item.account_id, now, value))
    return out


def filled(
    seed: int = 1,
    size: int = 1500,
    load: Callable[[bytes, str, str], Any] = load_tiny,
    load_blob: Callable[[MemoryLog], Callable[[str], bytes]] = lambda log: log.get_blob,
    changes: dict[int, list[Any]] | None = None,
    fed: Iterable[Record] | None = None,
) -> MemoryLog:
    """A log with the stream decided in batches of random size; `changes` are control events by record number. fed: the
    records, by default `records` of the seed and size.
    """
    log = MemoryLog()
    log.put_blob(ARTIFACT)
    log.put_blob(SECOND)
    ingest = OfflineIngest(log, Resolver(load_blob(log), load), partitions=PARTITIONS, start=[deployed()])
    rng = random.Random(seed)
    for number, record in enumerate(records(seed, size) if fed is None else fed):
        if changes and number in changes:
            ingest.flush()
            append_unchecked(log, *changes[number])
            ingest.follow_control()
        ingest.feed([record])
        if rng.random() < 0.03:
            ingest.flush()
    ingest.flush()
    return log


def entries(log: EventLog, partition: int, stream: Stream) -> list[Entry]:
    """All that the log holds of the stream."""
    return log.read(partition, stream, count=10**9)


def control(log: EventLog) -> list[bytes]:
    """The payloads of the whole control stream, from its first event."""
    return [payload for _, payload in log.read_control(count=10**9)]


def tiny_timeline(log: EventLog, load: Callable[[bytes, str, str], Any] = load_tiny) -> Timeline:
    """The log's contexts, with the tiny model."""
    return Timeline(control_stream.history(log), Resolver(log.get_blob, load))


def verified(log: MemoryLog, load: Callable[[bytes, str, str], Any] = load_tiny) -> list[Verification]:
    """Every partition verified with a new resolver."""
    timeline = tiny_timeline(log, load)
    return [verify(log, p, log.head(p), timeline) for p in range(PARTITIONS)]


def assert_identical(log: MemoryLog, load: Callable[[bytes, str, str], Any] = load_tiny) -> list[Verification]:
    results = verified(log, load)
    assert [str(r.first_difference) for r in results if r.first_difference] == []
    assert all(r.identical == r.decisions == log.length(r.partition, "scores") for r in results)
    assert all(r.alerts == log.length(r.partition, "alerts") for r in results)
    return results


def scores_of(log: MemoryLog) -> Iterable[Any]:
    return (decode_score(e.payload) for p in range(PARTITIONS) for e in entries(log, p, "scores"))


def heads(log: MemoryLog, partition: int) -> list[Head]:
    return [Head(), *(head_from_entry(e) for e in entries(log, partition, "seals"))]
