"""Publishes reference tables: follows all partitions of the log, and at each new day of receive time (or every few
hours) stores new tables and announces them in the control stream.

States: catching up → caught up → (a new period of receive time has begun) publish → caught up. Killed at any moment, it
restarts from the log's beginning and publishes nothing twice: a table whose `as_of` is not newer than the published one
is skipped. Cost: one read of every transaction and verdict, about 3 µs each.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import cast

from core.codec import decode_account_event, decode_transaction
from core.control import ControlState
from core.control_stream import Blobs, Known, append, identity_of
from core.events import (
    START,
    Control,
    FeedbackReceived,
    FeedbackSource,
    Position,
    ReferencePublished,
    SourceQuarantined,
)
from core.features.reference import FIRST_COLUMN, Kind, ReferenceTable
from core.log.base import EventLog
from core.log.paging import pages
from core.receipt import receive_time
from core.times import HOUR_MS
from core.verdicts import RatedHour
from projections.reference.tables import ReferenceBuilder, period_ms

ACTOR = "sentinel reference"


def publication(blobs: Blobs, table: ReferenceTable, kind: Kind, actor: str, now_ms: int) -> ReferencePublished:
    """Store the table and return the event that publishes it. now_ms: epoch ms."""
    return ReferencePublished(
        occurred_at=now_ms,
        actor=actor,
        kind=kind,
        digest=blobs.put(table.to_bytes()),
        as_of=table.as_of,
        rows=len(table.keys),
    )


def quarantines(hours: Iterable[RatedHour], known: ControlState, actor: str, now_ms: int) -> list[SourceQuarantined]:
    """The events that quarantine sources in these hours, in which they exceeded their rate; none for hours already
    quarantined. now_ms: epoch ms.
    """
    fresh = [(key.partition(":"), hour) for key, hour in hours if (key, hour) not in known.quarantined]
    return [
        SourceQuarantined(
            occurred_at=now_ms,
            actor=actor,
            reason="exceeded its rate in this hour",
            source=cast(FeedbackSource, source),
            name=name,
            hour_start=hour * HOUR_MS,
        )
        for (source, _, name), hour in fresh
    ]


class ReferencePublisher:
    """Follows `partitions` of `log`; `step` reads new entries and publishes after `hours` of receive time."""

    def __init__(self, log: EventLog, partitions: list[int], hours: int = 24) -> None:
        self._log = log
        self._builder = ReferenceBuilder(identity_of(log).key)
        self._transactions: dict[int, Position] = dict.fromkeys(partitions, START)
        self._feedback: dict[int, Position] = dict.fromkeys(partitions, START)
        self._latest = 0
        self._period_ms = period_ms(hours)

    def step(self) -> list[ReferencePublished | SourceQuarantined]:
        """Catch up with the log, publish the tables of the newest boundary unless already published, and quarantine
        sources that exceeded their rate. Returns the appended events; raises as `core.control_stream.append`.
        """
        for partition in self._transactions:
            self._follow(partition)
        as_of = self._latest // self._period_ms * self._period_ms
        if as_of == 0:
            return []
        now_ms, blobs = int(time.time() * 1000), Blobs(self._log)

        def decide(known: Known) -> list[Control]:
            references = known.state.references
            stale = [kind for kind in FIRST_COLUMN if kind not in references or references[kind][1] < as_of]
            tables = [publication(blobs, self._builder.table(kind, as_of), kind, ACTOR, now_ms) for kind in stale]
            return [*quarantines(self._builder.over_rate, known.state, ACTOR, now_ms), *tables]

        appended = append(self._log, decide, blobs=blobs).events
        return [event for event in appended if isinstance(event, ReferencePublished | SourceQuarantined)]

    def _follow(self, partition: int) -> None:
        for page in pages(self._log, partition, "transactions", self._transactions[partition]):
            transactions = [decode_transaction(entry.payload) for entry in page]
            self._builder.add_transactions(partition, transactions)
            self._latest = max(self._latest, *map(receive_time, transactions))
            self._transactions[partition] = page[-1].id
        for page in pages(self._log, partition, "feedback", self._feedback[partition]):
            for entry in page:
                event = decode_account_event(entry.payload)
                if isinstance(event, FeedbackReceived):
                    self._builder.add_verdict(partition, event, event.recorded_at)
            self._feedback[partition] = page[-1].id
