"""What a worker says of itself: counts, rate and latency, to Prometheus and, if asked, to a small JSON file.

The file is replaced atomically about twice a second; the live view and the benchmark read it.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from core import policy
from core.errors import Unavailable
from ingest import telemetry
from ingest.partition import Pending, reject_counts

WRITE_S = 0.5
IDLE_S = 0.7
"""After so long without a decision, the next one begins a new burst."""
BURSTS_KEPT = 64
RECENT_MS = 600_000.0


class Stats:
    """Counts since start. Latency is from the message's Kafka timestamp (from receipt, for messages that are older than
    ten minutes, as a dataset's are) to the return of the durable append."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._written = 0.0
        self._started = time.time()
        self.latency = telemetry.LATENCY.histogram = telemetry.Histogram()
        self.transactions = 0
        self.feedback = 0
        self.alerts = 0
        self.decisions: Counter[str] = Counter()
        self.rejects: Counter[str] = Counter()
        self._last_decided = 0.0
        self._bursts: deque[tuple[float, int]] = deque(maxlen=BURSTS_KEPT)

    def record(self, pending: Pending, now_ms: float) -> None:
        """Count one acknowledged batch."""
        assert pending.decided is not None and pending.batch is not None
        decided = pending.decided
        names = np.bincount(decided.decisions, minlength=len(policy.DECISIONS)).tolist()
        for name, count in zip(policy.DECISIONS, names, strict=True):
            if count:
                self.decisions[name] += count
                telemetry.TRANSACTIONS.labels(name).inc(count)
        raised = np.bincount(decided.severities[decided.severities >= 0], minlength=len(policy.SEVERITIES)).tolist()
        for severity, count in zip(policy.SEVERITIES, raised, strict=True):
            telemetry.ALERTS.labels(severity).inc(count)
        for reason, count in reject_counts(pending).items():
            self.rejects[reason] += count
            telemetry.REJECTS.labels(reason).inc(count)
        if now_ms / 1000 - self._last_decided > IDLE_S:
            self._bursts.append((now_ms / 1000, self.transactions))
        self._last_decided = now_ms / 1000
        self.transactions += len(decided.kept)
        self.alerts += len(decided.alerts)
        self.feedback += len(pending.feedback)
        telemetry.FEEDBACK.inc(len(pending.feedback))
        if pending.context is not None and pending.context.degraded:
            telemetry.DEGRADED.inc(len(decided.kept))
        if pending.messages:
            self.latency.record(latencies_ms(pending, now_ms))

    def write(self, extra: dict[str, Any], *, force: bool = False) -> None:
        """Replace the file if it is due. Raises Unavailable if it can't be written."""
        now = time.monotonic()
        if not force and now - self._written < WRITE_S:
            return
        self._written = now
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
                **extra,
            }
        )
        temporary = self._path.with_suffix(".tmp")
        try:
            temporary.write_bytes(content)
            os.replace(temporary, self._path)
        except OSError as error:
            raise Unavailable(f"the statistics file {self._path} can't be written: {error.strerror}") from None


def latencies_ms(pending: Pending, now_ms: float) -> NDArray[np.float64]:
    """Latency of every message of a batch, ms: float64 (n,)."""
    times = np.array([m.timestamp for m in pending.messages], dtype=np.float64)
    received = np.array([m.received_at for m in pending.messages], dtype=np.float64)
    recent = (times > now_ms - RECENT_MS) & (times <= now_ms)
    return now_ms - np.where(recent, times, received)
