"""One partition's intake: transactions and feedback as they come from Kafka, merged by message time. No I/O.

Two topics have no common order, but a decision depends on which feedback came before it. So, as in Kafka Streams, the
record with the smaller Kafka timestamp goes first (feedback on a tie), and an empty side holds the other back until
Kafka reports the end of the partition. A backlog is therefore decided in the same order however it is fetched and by
however many workers; at the live end, records are taken as soon as they arrive. The order taken is recorded in the log
(each score's `f`), so a replay does not depend on any of this.

A producer may set a record's timestamp. One that lies in the future would hold back its topic for everybody in the
partition, so a record dated more than AHEAD_MS after it was fetched goes where the record before it went. One that is
dated too early only goes first. What is left is a record dated ahead within a backlog: it holds its topic's later
records back by at most the backlog's age, and by AHEAD_MS at the live end. With LogAppendTime there is no such record.

States of a side: holding records | empty and behind (holds the other side back) | empty at the end of the partition.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from core.errors import BadInput
from core.receipt import AHEAD_MS
from core.trace_context import TraceContext

TAKE_BYTES_MAX = 4 * 1024 * 1024
"""Bytes of values in one `take`, give or take a record: many huge bad messages must not become one huge append."""


class Message(NamedTuple):
    """A Kafka record. Times in epoch ms. timestamp: where it belongs among the other topic's records (`Side.place`).
    fetched_at: when this process got it. appended_at: the broker's time of the append (LogAppendTime), 0 if the topic
    has the producer's time. trace: where it comes from, if the process traces (`ingest.batch_spans`). fault: why it
    can't be read by the schema that it names (`ingest.wire_format`).
    """

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    fetched_at: float = 0.0
    appended_at: int = 0
    trace: TraceContext | None = None
    fault: BadInput | None = None


@dataclass(slots=True)
class Side:
    """One topic's records of the partition. at_end: Kafka had no more when last asked. last: the timestamp by which the
    newest record was placed. size: bytes of the values held, as far as they were fetched (`ingest.fetching`). halted:
    the next record must wait for what reads it, so none is taken, and the end is not reached: later records of the
    other side wait for it, too.
    """

    records: deque[Message] = field(default_factory=deque)
    at_end: bool = False
    paused: bool = False
    halted: bool = False
    last: int = 0
    size: int = 0

    def place(self, timestamp: int, now: float) -> int:
        """The timestamp by which a record fetched at `now` is merged, given the one it has (epoch ms)."""
        if timestamp <= now + AHEAD_MS:
            self.last = timestamp
        return self.last


class Segment(msgspec.Struct):
    """Feedback, then transactions, in the order in which to apply them."""

    feedback: list[Message] = []
    transactions: list[Message] = []


class Intake:
    """Merges the two sides of one partition."""

    def __init__(self) -> None:
        self.transactions = Side()
        self.feedback = Side()

    def side(self, *, is_feedback: bool) -> Side:
        """One of the two."""
        return self.feedback if is_feedback else self.transactions

    def take(self, limit: int) -> list[Segment]:
        """Remove and return up to `limit` records in order, with about TAKE_BYTES_MAX bytes of values at most."""
        segments: list[Segment] = []
        current: Segment | None = None
        transactions, feedback = self.transactions.records, self.feedback.records
        room = TAKE_BYTES_MAX
        fed = 0
        while limit > 0 and room > 0:
            if not feedback:
                if not self.feedback.at_end or not transactions:
                    break
                if current is None:
                    segments.append(current := Segment())
                while transactions and limit > 0 and room > 0:
                    record = transactions.popleft()
                    current.transactions.append(record)
                    limit -= 1
                    room -= len(record.value or b"")
                continue
            if not transactions and not self.transactions.at_end:
                break
            if transactions and transactions[0].timestamp < feedback[0].timestamp:
                if current is None:
                    segments.append(current := Segment())
                current.transactions.append(record := transactions.popleft())
            else:
                if current is None or current.transactions:
                    segments.append(current := Segment())
                current.feedback.append(record := feedback.popleft())
                fed += len(record.value or b"")
            limit -= 1
            room -= len(record.value or b"")
        self.feedback.size -= fed
        self.transactions.size -= TAKE_BYTES_MAX - room - fed
        return segments

    @property
    def drained(self) -> bool:
        """Whether no records are held and both topics are at their ends."""
        return (
            self.transactions.at_end
            and self.feedback.at_end
            and not self.transactions.records
            and not self.feedback.records
        )
