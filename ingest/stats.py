"""A worker's statistics: counts, rate and latency, for Prometheus and, if requested, in a small JSON file.

The file is replaced atomically about twice a second; the live view and the benchmark read it.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from core import policy
from core.errors import Unavailable
from core.files import write_atomic
from core.work import Decided
from ingest import telemetry
from ingest.intake import Message
from ingest.partition import Pending, reject_counts

WRITE_S = 0.5
IDLE_S = 0.7
"""After this long without a decision, the next one begins a new burst."""
BURSTS_KEPT = 64
RECENT_MS = 600_000.0
UNCOUNTED_MAX = 4_096
"""How many messages may wait to be counted together."""

# Looking up a label costs more than counting under it.
_TRANSACTIONS = {name: telemetry.TRANSACTIONS.labels(name) for name in policy.DECISIONS}
_ALERTS = {severity: telemetry.ALERTS.labels(severity) for severity in policy.SEVERITIES}
_Columns: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.int8], NDArray[np.float64]]


class Stats:
    """Counts since the start. Latency is from the message's Kafka timestamp (or from receipt, for messages older than
    ten minutes, such as a dataset's) to the return of the durable append.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file_state: Literal["unwritten", "written", "failed"] = "unwritten"
        self._written = 0.0
        self._started = time.time()
        self._latency = telemetry.LATENCY.histogram = telemetry.Histogram()
        self._uncounted: list[
            tuple[list[Message], float, NDArray[np.uint8], NDArray[np.int8], NDArray[np.float64]]
        ] = []
        self._uncounted_size = 0
        self.transactions = 0
        self.feedback = 0
        self.alerts = 0
        self._decisions: Counter[str] = Counter()
        self.rejects: Counter[str] = Counter()
        self._last_decided = 0.0
        self._bursts: deque[tuple[float, int]] = deque(maxlen=BURSTS_KEPT)

    def record(self, acknowledged: Sequence[Pending], now_ms: float) -> None:
        """Count the batches of one append; by decision, severity and latency later, together with others: when
        UNCOUNTED_MAX messages wait, at the next `write` or when they are asked for.
        """
        if not acknowledged:
            return
        decided = []
        count = degraded = 0
        for pending in acknowledged:
            assert pending.decided is not None
            assert pending.context is not None
            decided.append(pending.decided)
            kept = len(pending.decided.kept)
            count += kept
            if pending.context.degraded:
                degraded += kept
            self.alerts += len(pending.decided.alerts)
            if pending.feedback:
                self.feedback += len(pending.feedback)
                telemetry.FEEDBACK.inc(len(pending.feedback))
            for kind, held in pending.card_data.items():
                telemetry.CARD_DATA.labels(kind).inc(held)
            for reason, rejects in reject_counts(pending).items() if pending.rejects else ():
                self.rejects[reason] += rejects
                telemetry.REJECTS.labels(reason).inc(rejects)
        if degraded:
            telemetry.DEGRADED.inc(degraded)
        if now_ms / 1000 - self._last_decided > IDLE_S:
            self._bursts.append((now_ms / 1000, self.transactions))
        self._last_decided = now_ms / 1000
        self.transactions += count
        messages = [message for pending in acknowledged for message in pending.messages]
        if messages:
            self._uncounted.append((messages, now_ms, *_columns(decided, count)))
            self._uncounted_size += len(messages)
            if self._uncounted_size >= UNCOUNTED_MAX:
                self._count()

    @property
    def decisions(self) -> Counter[str]:
        """The transactions decided, by decision."""
        self._count()
        return self._decisions

    @property
    def latency(self) -> telemetry.Histogram:
        """The latency of every message counted."""
        self._count()
        return self._latency

    def _count(self) -> None:
        """Count what waits together: a histogram costs as much for one append's messages as for a thousand."""
        if not self._uncounted:
            return
        messages, times, decisions, severities, probabilities = zip(*self._uncounted, strict=True)
        self._uncounted.clear()
        self._uncounted_size = 0
        self._latency.record(np.concatenate(list(map(latencies_ms, messages, times))))
        made, said = np.concatenate(decisions), np.concatenate(probabilities)
        for number, count in enumerate(np.bincount(made, minlength=len(policy.DECISIONS)).tolist()):
            if count:
                decision = policy.DECISIONS[number]
                self._decisions[decision] += count
                _TRANSACTIONS[decision].inc(count)
                telemetry.PROBABILITIES.add(decision, said[made == number])
        graded = np.concatenate(severities)
        raised = np.bincount(graded[graded >= 0], minlength=len(policy.SEVERITIES))
        for severity, count in zip(policy.SEVERITIES, raised.tolist(), strict=True):
            if count:
                _ALERTS[severity].inc(count)

    def write(self, extra: Callable[[], dict[str, Any]], *, force: bool = False) -> None:
        """Replace the file if it is due. A failure is logged once, until a write succeeds again: the statistics are
        not worth a worker. Only the first write raises Unavailable, since its path may be wrong.
        """
        now = time.monotonic()
        if not force and now - self._written < WRITE_S:
            return
        self._written = now
        self._count()
        if self._path is None:
            return
        quantiles = {f"p{q:g}": self.latency.quantile(q / 100) for q in (50, 99, 99.9)}
        content = msgspec.json.encode(
            {
                "pid": os.getpid(),
                "at": time.time(),
                "started": self._started,
                "transactions": self.transactions,
                "feedback": self.feedback,
                "alerts": self.alerts,
                "decisions": self.decisions,
                "rejects": self.rejects,
                "latency_ms": quantiles,
                "latency_counts": self.latency.counts(),
                "bursts": list(self._bursts),
                "last_decided_at": self._last_decided,
                "cpu_s": time.process_time(),
                **extra(),
            }
        )
        try:
            write_atomic(self._path, content, durable=False)
        except OSError as error:
            if self._file_state == "unwritten":
                raise Unavailable(f"the statistics file {self._path} can't be written: {error.strerror}") from None
            if self._file_state == "written":
                telemetry.logger().warning("ingest.stats_failed", path=str(self._path), error=error.strerror)
            self._file_state = "failed"
        else:
            self._file_state = "written"


def _columns(decided: Sequence[Decided], count: int) -> _Columns:
    """Decisions, severities and probabilities of the batches of one append, at least one. count: of their decisions."""
    rows = decided[0].rows
    if count == len(rows.decisions) and all([each.rows is rows for each in decided]):  # usually: all, decided together
        return rows.decisions, rows.severities, rows.probabilities
    return (
        np.concatenate([d.decisions for d in decided]),
        np.concatenate([d.severities for d in decided]),
        np.concatenate([d.probabilities for d in decided]),
    )


def latencies_ms(messages: Sequence[Message], now_ms: float) -> NDArray[np.float64]:
    """Latency of every message, ms: float64 (n,)."""
    times = np.array([m.timestamp for m in messages], dtype=np.float64)
    received = np.array([m.fetched_at for m in messages], dtype=np.float64)
    recent = (times > now_ms - RECENT_MS) & (times <= now_ms)
    return now_ms - np.where(recent, times, received)
