"""The append in flight: sent in one message to the log server, settled when the server's answer is needed.

States: nothing in flight → sent → settled. Settling waits for each partition's outcome and acts on it:

    returned          the decisions are acknowledged: published, counted, the head remembered
    ConcurrencyError  the partition is loaded again from the log; parked if the log refuses its own head
    Unavailable       tried again until `unavailable_timeout_s`, first by asking for the head: the answer may be lost
    anything else     the partition is parked; the others go on

At most one append is in flight, and nothing is acknowledged before it has returned (I6).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from core.errors import ConcurrencyError, SentinelError, Unavailable
from core.log.base import EventLog, Head, PendingAppend
from core.settings import Settings
from ingest import telemetry
from ingest.batch_spans import Untraced
from ingest.ownership import Ownership
from ingest.parking import Parking, Trouble
from ingest.partition import Owned, Pending
from ingest.patience import RETRY_S
from ingest.publisher import Publisher
from ingest.recovery import Recovery
from ingest.stats import Stats


@dataclass(slots=True)
class InFlight:
    """Batches sent to the log."""

    pendings: list[Pending]
    append: PendingAppend


class Appending:
    """Sends batches to the log and acts on what became of them. reload: loads a partition again from the log."""

    def __init__(
        self,
        settings: Settings,
        log: EventLog,
        ownership: Ownership,
        parking: Parking,
        recovery: Recovery,
        publisher: Publisher,
        stats: Stats,
        reload: Callable[[Owned, Exception], None],
        stopping: Callable[[], bool],
        spans: Untraced,
    ) -> None:
        self._settings = settings
        self._log = log
        self._ownership = ownership
        self._parking = parking
        self._recovery = recovery
        self._publisher = publisher
        self._stats = stats
        self._reload = reload
        self._stopping = stopping
        self._spans = spans
        self._logger = telemetry.logger().bind(group=settings.consumer_group)
        self._flight: InFlight | None = None
        self.sent_at = 0.0
        """When the last append was sent, on the monotonic clock."""

    @property
    def in_flight(self) -> bool:
        return self._flight is not None

    def send(self, pendings: list[Pending]) -> None:
        """Send the batches; their dead letters go first."""
        self._publisher.dead_letters(pendings)
        appends = [(p.partition.partition, p.sealed) for p in pendings if p.sealed is not None]
        self._flight = InFlight(pendings, self._log.start_append(appends))
        self.sent_at = time.monotonic()
        self._spans.sent()

    def settle(self) -> None:
        """Wait for the append in flight, if there is one, and act on each partition's outcome. Raises Unavailable."""
        flight, self._flight = self._flight, None
        if flight is None:
            return
        deadline = time.monotonic() + self._settings.unavailable_timeout_s
        acknowledged = []
        outcomes = flight.append.results()
        telemetry.STAGES.record("append", time.monotonic() - self.sent_at)
        published_s, answered_ns = 0.0, time.time_ns()
        for pending, first in zip(flight.pendings, outcomes, strict=True):
            outcome = self._insist(pending, first, deadline)
            if isinstance(outcome, ConcurrencyError):
                telemetry.CONFLICTS.inc()
                self._conflict(pending.partition, outcome)
            elif isinstance(outcome, Exception):
                self._recovery.park(pending.partition.partition, outcome)
            else:
                pending.partition.head = outcome
                began = time.perf_counter()
                self._publisher.publish(pending.partition, pending)
                published_s += time.perf_counter() - began
                acknowledged.append(pending)
        if self._settings.decisions_topic:
            telemetry.STAGES.record("publish", published_s)
        self._spans.acknowledged(acknowledged, answered_ns if self._settings.decisions_topic else 0)
        self._stats.record(acknowledged, time.time() * 1000.0)
        if self._parking.parked:
            self._parking.resume(pending.partition.partition for pending in acknowledged)

    def _insist(self, pending: Pending, outcome: Head | Exception, deadline: float) -> Head | Exception:
        """The outcome once the log server answers. Raises Unavailable if it has not answered by the deadline, or when
        the worker is asked to stop.
        """
        while isinstance(outcome, Unavailable):
            if self._stopping() or time.monotonic() > deadline:
                raise outcome
            self._logger.warning("ingest.log_unavailable", partition=pending.partition.partition, error=str(outcome))
            time.sleep(RETRY_S)
            outcome = self._append_again(pending)
        return outcome

    def _append_again(self, pending: Pending) -> Head | Exception:
        """After an unknown outcome: the log's head if it is the batch's, else the outcome of another try."""
        try:
            number, sealed = pending.partition.partition, pending.sealed
            assert sealed is not None
            if self._log.head(number) == sealed.head:
                return sealed.head
            return self._log.start_append([(number, sealed)]).results()[0]
        except SentinelError as error:
            return error

    def _conflict(self, owned: Owned, error: ConcurrencyError) -> None:
        """The log is not where we thought: load the partition again. If it is, and refuses nevertheless, park it."""
        if not self._ownership.owns(owned):
            return  # parked, revoked or loaded again meanwhile
        if self._parking.is_refused(owned.partition, owned.head):
            self._recovery.park(owned.partition, Trouble("append_refused", f"partition {owned.partition}: {error}"))
        else:
            self._reload(owned, error)
