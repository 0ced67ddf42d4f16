"""Partitions that a worker is assigned but can't decide: parked, so that one partition's trouble ends neither the
others nor, as it is reassigned, one worker after the other.

States of a partition in a worker:

    assigned ─► loading ─► owned ──trouble──► failing ──what was read before is decided──► parked
                  ▲          ▲                                                                │ wait: 5 s, then twice
                  │          └── resumed: its first batch is in the log, or it is             │ as long, up to 5 min
                  │              at the end of both topics ── on trial ◄──────────────────────┤
                  └──────────────────────────── assigned to another worker ◄──────────────────┘

Nothing is lost meanwhile: a parked partition's messages stay in Kafka, and are read from the log's position. Parking
and resumption are control events, once per incident, whoever owns the partition; a gauge, an error line per attempt and
`sentinel doctor` are the alarm. What concerns all partitions alike (an unreachable server, topics that do not fit the
log) is retried, and then ends the worker.

    code                   what happened                                      what ends it
    incomplete_log         the log lacks entries                              the archive or a backup is restored
    corrupt_log            the log holds what does not decode                 a backup is restored
    newer_release          the log holds an event that this release lacks     a worker of the newer release owns it
    messages_expired       Kafka deleted messages before they were decided    `sentinel partition accept-loss`
    messages_cut           Kafka lost messages that the log has decided       new messages do not count; see docs
    corrupt_batch          a batch's checksum differs (ingest.unreadable)     a replica has it; `accept-loss`
    unreadable_batch       a batch that can't be passed now                   by itself
    topic_unavailable      the topic is missing, or may not be read           the topic or the right is there again
    schema_unavailable     the schema registry does not answer                by itself
    append_refused         the log refuses the batch                          depends on the reason
    internal_error         a bug of ours                                      a release

Cost: none per transaction.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from core.codec import UnknownEvent
from core.control_stream import ControlStream, Known, append
from core.errors import Corrupt, Incomplete, SentinelError, Unavailable
from core.events import Control, PartitionParked, PartitionResumed
from core.log.base import EventLog, Head
from ingest import telemetry

ACTOR = "sentinel ingest"
WAIT_FIRST_S = 5.0
WAIT_MAX_S = 300.0
REFUSED_MAX = 3
"""A partition is parked when the log, at the same head, refuses so many batches in a row."""
GRACE_S = 1.5
"""How long a failing partition's earlier messages may stay undecided before it is parked. It takes less to notice that
a topic was made again (`ingest.topic_watch`)."""


class Trouble(Corrupt):
    """What keeps a worker from one partition. `code`: see the module's docstring."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def is_passed(self) -> bool:
        """Whether the worker goes on behind it, once what came before is decided."""
        return False


def code_of(error: Exception) -> str:
    """The code of an error that ended a partition."""
    if isinstance(error, Trouble):
        return error.code
    if isinstance(error, Incomplete):
        return "incomplete_log"
    if isinstance(error, UnknownEvent):
        return "newer_release"
    if isinstance(error, Corrupt):
        return "corrupt_log"
    return "append_refused" if isinstance(error, SentinelError) else "internal_error"


def _where(error: Exception) -> str:
    """The lines of the code that raised it, without any values."""
    return " ← ".join(f"{f.filename}:{f.lineno}" for f in reversed(traceback.extract_tb(error.__traceback__)))


@dataclass(slots=True)
class Parked:
    """A partition in trouble. retry_at: by time.monotonic. on_trial: loaded again, but nothing is decided yet."""

    code: str
    error: Exception
    attempts: int = 1
    retry_at: float = 0.0
    on_trial: bool = False


@dataclass(slots=True)
class Parking:
    """The worker's parked partitions, and those that are failing."""

    log: EventLog
    control: Callable[[], ControlStream]
    parked: dict[int, Parked] = field(default_factory=dict)
    _failing: dict[int, tuple[Exception, float]] = field(default_factory=dict)
    _unrecorded: dict[int, Control] = field(default_factory=dict)
    _refused: dict[int, tuple[Head, int]] = field(default_factory=dict)

    def fail(self, partition: int, error: Exception) -> None:
        """Note that the partition can be read no further. It is parked when what was read before is decided. What keeps
        it from deciding counts more than a batch of the other topic that could be passed then.
        """
        known, since = self._failing.get(partition, (None, time.monotonic()))
        if known is None or (isinstance(known, Trouble) and known.is_passed):
            self._failing[partition] = error, since

    def is_refused(self, partition: int, head: Head) -> bool:
        """Count an append that the log refused at this head; whether it was the last of REFUSED_MAX in a row."""
        before, count = self._refused.get(partition, (head, 0))
        count = count + 1 if before == head else 1
        self._refused[partition] = (head, count % REFUSED_MAX)
        return count == REFUSED_MAX

    def exhausted(self, busy: Iterable[int]) -> list[tuple[int, Exception]]:
        """The failing partitions that have nothing left to decide, removed. busy: those of the current batch."""
        if not self._failing:
            return []
        now, decided = time.monotonic(), set(busy)
        done = [(p, e) for p, (e, since) in self._failing.items() if p not in decided and now - since > GRACE_S]
        for partition, _ in done:
            del self._failing[partition]
        return done

    def park(self, partition: int, error: Exception) -> None:
        """Park the partition: record it, sound the alarm, and set when to try again."""
        self._failing.pop(partition, None)
        known = self.parked.get(partition)
        attempts = known.attempts + 1 if known is not None else 1
        wait = min(WAIT_FIRST_S * 2 ** min(attempts - 1, 20), WAIT_MAX_S)
        code, reason = code_of(error), str(error) or type(error).__name__
        self.parked[partition] = Parked(code, error, attempts, time.monotonic() + wait)
        telemetry.PARKED.set(len(self.parked))
        telemetry.logger().error(
            "ingest.partition_parked",
            partition=partition,
            code=code,
            reason=reason,
            attempts=attempts,
            retry_in_s=wait,
            where=_where(error) if code == "internal_error" else None,
        )
        now = int(time.time() * 1000)
        event = PartitionParked(occurred_at=now, actor=ACTOR, reason=reason[:500], partition=partition, code=code)
        self._unrecorded[partition] = event
        self.record()

    def due(self) -> list[int]:
        """The partitions to try again now."""
        now = time.monotonic()
        return [p for p, each in self.parked.items() if not each.on_trial and now >= each.retry_at]

    def try_out(self, partition: int) -> None:
        """The partition was loaded again: it is resumed once it gets on."""
        self.parked[partition].on_trial = True

    def resume(self, partitions: Iterable[int]) -> None:
        """These partitions get on. Those on trial are resumed."""
        for partition in partitions:
            each = self.parked.get(partition)
            if each is None or not each.on_trial or partition in self._failing:
                continue
            del self.parked[partition]
            telemetry.PARKED.set(len(self.parked))
            telemetry.logger().info("ingest.partition_resumed", partition=partition, code=each.code)
            self._note_resumed(partition)
        self.record()

    def inherited(self, partitions: Iterable[int]) -> None:
        """Partitions just assigned that their previous owner parked: they are on trial."""
        for partition in partitions:
            code = self.control().state.parked.get(partition)
            if code is not None and partition not in self.parked:
                self.parked[partition] = Parked(code, Trouble(code, "parked by its previous owner"), 0, on_trial=True)

    def _note_resumed(self, partition: int) -> None:
        now = int(time.time() * 1000)
        self._unrecorded[partition] = PartitionResumed(occurred_at=now, actor=ACTOR, partition=partition)

    def forget(self, partitions: Iterable[int]) -> None:
        """These partitions now belong to other workers."""
        for partition in partitions:
            self.parked.pop(partition, None)
            self._failing.pop(partition, None)
            self._unrecorded.pop(partition, None)
        telemetry.PARKED.set(len(self.parked))

    def record(self) -> None:
        """Append what is not in the control stream yet; what can't be appended now is tried again at the next call."""
        if not self._unrecorded:
            return
        try:
            append(self.log, self._missing, self.control())
            self._unrecorded.clear()
        except SentinelError as error:
            telemetry.logger().warning("ingest.parking_not_recorded", error=str(error))
            if not isinstance(error, Unavailable):
                self._unrecorded.clear()

    def _missing(self, known: Known) -> list[Control]:
        parked = known.state.parked
        return [
            event
            for partition, event in sorted(self._unrecorded.items())
            if (parked.get(partition) != event.code if isinstance(event, PartitionParked) else partition in parked)
        ]

    def first_trouble(self) -> SentinelError | None:
        """What keeps the first parked partition from being decided; None if there is none."""
        for partition, each in sorted(self.parked.items()):
            if isinstance(each.error, SentinelError) and not each.on_trial:
                return each.error
            if not each.on_trial:
                trouble = Trouble(each.code, f"partition {partition} is parked: {each.error!r}")
                trouble.__cause__ = each.error
                return trouble
        return None
