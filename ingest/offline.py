"""The worker without Kafka: feeds records directly into any EventLog, through the same intake, pipeline and append.

Used to train the shipped baseline, for experiments on a file, and as the undisturbed run that crash tests compare with.
Records must be in order of time. Reference tables are published between batches, at every boundary of
`reference_hours` of event time.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from core.context import Resolver
from core.control_stream import Blobs, ControlStream, append
from core.events import Control, FeedbackReceived, HistoryStarted, SourceGenerationStarted
from core.features.reference import FIRST_COLUMN
from core.features.state import AccountState
from core.identity import FIXED, LogIdentity
from core.log.base import EventLog, Head
from core.program.library import default_blobs
from core.replay import rebuild
from core.validation import TIME_MAX_MS, TIME_MIN_MS
from ingest.admission import admit
from ingest.contexts import Contexts, decide
from ingest.intake import Message
from ingest.partition import Owned, Pending
from ingest.protecting import PROTECTION, Protection
from ingest.screening import screen
from projections.reference.publisher import publication, quarantines
from projections.reference.tables import ReferenceBuilder, period_ms

ACTOR = "offline"
BATCH = 2000


class RecordLike(Protocol):
    """A record as sources yield it."""

    @property
    def topic(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def value(self) -> bytes: ...


class OfflineIngest:
    """Feeds records into `log`, which must be empty. `reference` publishes tables every `reference_hours`. The records
    are history: each is received when it occurred.

    identity: the log's; partitioner and partitions are those of this object. protection: of its messages.
    """

    def __init__(
        self,
        log: EventLog,
        resolver: Resolver,
        *,
        partitions: int = 4,
        reference: bool = True,
        reference_hours: int = 24,
        start: list[Control] | None = None,
        identity: LogIdentity = FIXED,
        protection: Protection = PROTECTION,
    ) -> None:
        identity = identity._replace(partitioner="crc32", partitions=partitions)
        self._log = log
        self._protection = protection
        self._contexts = Contexts(log, resolver, now_ms=lambda: self._newest, monotonic=lambda: self._newest / 1000.0)
        self._partitions = partitions
        self._builder = ReferenceBuilder(identity.key) if reference else None
        self._boundary: int | None = None
        self._period_ms = period_ms(reference_hours)
        self._control = ControlStream()
        self._owned = [Owned(p, Head(), AccountState(identity), (1, 1)) for p in range(partitions)]
        self._offsets = [[0, 0] for _ in range(partitions)]
        self._held = 0
        self._newest = 0
        generations: list[Control] = [
            SourceGenerationStarted(
                occurred_at=0,
                actor=ACTOR,
                topic=role,
                topic_name=role,
                generation=1,
                topic_id="",
                partitions=partitions,
            )
            for role in ("transactions", "feedback")
        ]
        for blob in default_blobs():
            log.put_blob(blob)
        history = HistoryStarted(occurred_at=0, actor=ACTOR, earliest=TIME_MIN_MS, latest=TIME_MAX_MS - 1)
        self.change([identity.event(ACTOR), *generations, history, *(start or [])])

    def feed(self, records: Iterable[RecordLike]) -> None:
        """Accept records. They are decided once enough are held, before tables are published, or by `flush`."""
        for record in records:
            if self._builder is not None:
                self._cross(record.timestamp)
            partition = zlib.crc32(record.key.encode()) % self._partitions
            which = 0 if record.topic == "transactions" else 1
            intake = self._owned[partition].intake
            side = intake.transactions if which == 0 else intake.feedback
            offset = self._offsets[partition][which]
            side.records.append(Message(offset, record.timestamp, record.key.encode(), record.value))
            self._offsets[partition][which] = offset + 1
            self._held += 1
            self._newest = max(self._newest, record.timestamp)
            if self._held >= BATCH:
                self.flush()

    def flush(self) -> None:
        """Decide and append everything held. Records are in order of time, so nothing earlier can follow."""
        self._held = 0
        self._contexts.refresh(self._control, range(self._partitions))
        for owned in self._owned:
            self._hold(owned)
        pendings: list[Pending] = []
        for owned in self._owned:
            owned.intake.transactions.at_end = owned.intake.feedback.at_end = True
            pending = owned.take(10**9, self._newest)
            if pending is not None:
                context = self._contexts.of(owned.partition)
                fields = context.program.plan.program.fields.values() if context is not None else ()
                screen([pending], self._protection, fields)
                required = context.program.required if context is not None else {}
                admit(pending, self._control.state.histories, required)
                pendings.append(pending)
        decide(pendings, self._contexts)
        appends = []
        for pending in pendings:
            assert pending.sealed is not None
            appends.append((pending.partition.partition, pending.sealed))
            self._count(pending)
        for pending, outcome in zip(pendings, self._log.start_append(appends).results(), strict=True):
            if isinstance(outcome, Exception):
                raise outcome
            pending.partition.head = outcome

    def _hold(self, owned: Owned) -> None:
        """Fold the partition again if the programs that decide have aggregates that its state lacks."""
        context = self._contexts.of(owned.partition)
        wanted = context.steps if context is not None else []
        if any(step.digest not in owned.state.rings for step in wanted):
            steps = [*owned.state.ring_steps.values(), *wanted]
            owned.state = rebuild(self._log, owned.partition, owned.head, owned.state.identity, steps=steps)

    def _count(self, pending: Pending) -> None:
        if self._builder is None or pending.decided is None:
            return
        kept = [pending.transactions[i] for i in pending.decided.kept]
        self._builder.add_transactions(pending.partition.partition, kept)
        for _, event in pending.feedback:
            if isinstance(event, FeedbackReceived):
                self._builder.add_verdict(pending.partition.partition, event, event.recorded_at)

    def _cross(self, timestamp: int) -> None:
        """Publish the tables if time passes a boundary."""
        boundary = timestamp // self._period_ms * self._period_ms
        if self._boundary is None:
            self._boundary = boundary
        if boundary <= self._boundary or self._builder is None:
            return
        self._boundary = boundary
        self.flush()
        tables = {kind: self._builder.table(kind, boundary) for kind in FIRST_COLUMN}
        published = [publication(Blobs(self._log), table, kind, ACTOR, boundary) for kind, table in tables.items()]
        held = quarantines(self._builder.over_rate, self._control.state, ACTOR, boundary)
        self.change([*held, *published])

    def change(self, events: Sequence[Control]) -> None:
        """Append control events, which take effect from the next batch on. Call `flush` first for earlier records."""
        append(self._log, lambda known: events, self._control)

    def follow_control(self) -> None:
        """Read what others appended to the control stream; it takes effect from the next batch on."""
        self._control.advance(self._log)

    @property
    def owned(self) -> list[Owned]:
        """The partitions, by number."""
        return self._owned

    @property
    def heads(self) -> dict[int, Head]:
        """Every partition's head."""
        return {owned.partition: owned.head for owned in self._owned}

    @property
    def accounts(self) -> int:
        """Number of accounts seen in all partitions."""
        return int(np.sum([len(owned.state) for owned in self._owned]))
