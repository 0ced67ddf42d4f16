"""Live events for many listeners: each decision is encoded once, and every listener has a bounded queue of its own.

An event's ID is the log's position in every partition after it, so a listener that reconnects continues where it was,
at any server: what it missed is read from the log, up to CATCH_UP_MAX decisions of a partition, in the order in which
it was recorded, and then what came meanwhile follows. A listener that is too slow is told so (`overflow`) and its
stream ends; reconnecting, it is caught up the same way. Nobody else waits for it.

Used on one event loop but for `missed`, which reads the log in a thread. Nothing is encoded while nobody listens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec

from console.api.answers import row_of
from console.api.tail import Decided, Outcome
from core.codec import decode_score, decode_transaction
from core.errors import BadInput
from core.events import Decision, Position
from core.log.base import EventLog
from core.log.paging import decision_pages
from projections.audit.redecide import DecisionPlace

QUEUE_MAX = 2_000
LISTENERS_MAX = 100
CATCH_UP_MAX = 10_000
Kind = Literal["alerts", "decisions"]
Vector = Mapping[int, Position]


class Event(NamedTuple):
    """A decision as an event. content: the lines of the stream after the ID."""

    place: DecisionPlace
    account: str
    decision: Decision
    is_alert: bool
    recorded_at: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Filter:
    """What a listener wants to hear."""

    kind: Kind = "decisions"
    account: str | None = None
    decision: Decision | None = None

    def takes(self, event: Event) -> bool:
        return (
            (event.is_alert or self.kind == "decisions")
            and self.account in (None, event.account)
            and self.decision in (None, event.decision)
        )


@dataclass(slots=True)
class Listener:
    """A queue of (event, its ID). is_over: it was too slow, and hears nothing any more."""

    filter: Filter
    queue: asyncio.Queue[tuple[Event, str]] = field(default_factory=lambda: asyncio.Queue(QUEUE_MAX))
    is_over: bool = False


class Hub:
    """See the module's docstring."""

    def __init__(self, partitions: Sequence[int]) -> None:
        self._partitions = list(partitions)
        self._listeners: list[Listener] = []
        self.vector: dict[int, Position] = {}

    def begin(self, vector: Vector) -> None:
        """Where the tail begins."""
        self.vector = dict(vector)

    def subscribe(self, wanted: Filter) -> tuple[Listener, dict[int, Position]]:
        """A listener for what comes after the returned vector."""
        listener = Listener(wanted)
        self._listeners.append(listener)
        return listener, dict(self.vector)

    def unsubscribe(self, listener: Listener) -> None:
        """It hears nothing any more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    @property
    def is_full(self) -> bool:
        """Whether nobody else may listen."""
        return len(self._listeners) >= LISTENERS_MAX

    def __len__(self) -> int:
        return len(self._listeners)

    def hear(self, outcomes: list[Outcome]) -> None:
        """New outcomes, from the tail."""
        for outcome in outcomes:
            if not isinstance(outcome, Decided):
                continue
            self.vector[outcome.partition] = outcome.position
            if not self._listeners:
                continue
            event = event_of(outcome.partition, outcome.position, outcome.transaction, outcome.score)
            taking = [each for each in self._listeners if not each.is_over and each.filter.takes(event)]
            name = vector_text(self.vector) if taking else ""
            for listener in taking:
                try:
                    listener.queue.put_nowait((event, name))
                except asyncio.QueueFull:
                    listener.is_over = True


def event_of(partition: int, position: Position, transaction: bytes, score: bytes) -> Event:
    """A logged decision as an event."""
    place = DecisionPlace(partition, position)
    row = row_of(str(place), decode_transaction(transaction), decode_score(score))
    is_alert = row.severity is not None
    content = b"event: %s\ndata: %s\n\n" % (b"alert" if is_alert else b"decision", msgspec.json.encode(row))
    return Event(place, row.account_id, row.decision, is_alert, row.recorded_at, content)


def missed(log: EventLog, after: Vector, until: Vector, wanted: Filter) -> list[tuple[Event, str]] | None:
    """The events after one vector, up to another, in the order of recording; None if there are too many."""
    found: list[tuple[int, Event]] = []
    for p, end in until.items():
        count = latest = 0
        begin = after[p]
        if begin >= end:
            continue
        for transactions, scores in decision_pages(log, p, begin, end):
            count += len(scores)
            if count > CATCH_UP_MAX:
                return None
            for transaction, score in zip(transactions, scores, strict=True):
                event = event_of(p, score.id, transaction.payload, score.payload)
                latest = max(latest, event.recorded_at)  # a partition's order is its own, whatever a clock did
                if wanted.takes(event):
                    found.append((latest, event))
    found.sort(key=lambda each: (each[0], each[1].place))
    vector = dict(after)
    named = []
    for _, event in found:
        vector[event.place.partition] = event.place.position
        named.append((event, vector_text(vector)))
    return named


def vector_text(vector: Vector) -> str:
    """Positions of all partitions, as an event's ID: `1-533.1-20.0-0`."""
    return ".".join(f"{g}-{o}" for _, (g, o) in sorted(vector.items()))


def parse_vector(text: str, partitions: Sequence[int]) -> dict[int, Position]:
    """The inverse of `vector_text`. Raises BadInput."""
    parts = text.split(".")
    try:
        if len(parts) != len(partitions) or len(text) > 64 * len(parts):
            raise ValueError
        found = {p: Position.parse(part) for p, part in zip(sorted(partitions), parts, strict=True)}
        if any(not 0 <= number < 2**63 for position in found.values() for number in position):
            raise ValueError
    except ValueError:
        raise BadInput("Last-Event-ID is not an ID of this log's events: leave it out to begin now") from None
    return found
