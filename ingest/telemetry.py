"""Logs and metrics of the running processes: structlog with constant dotted event names, Prometheus counters, a latency
histogram.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray
from prometheus_client import Counter, Gauge, start_http_server

from core.errors import Unavailable
from core.settings import Settings

TRANSACTIONS = Counter("sentinel_transactions_total", "Transactions decided", ["decision"])
REJECTS = Counter("sentinel_rejects_total", "Messages rejected", ["reason"])
ALERTS = Counter("sentinel_alerts_total", "Alerts raised", ["severity"])
FEEDBACK = Counter("sentinel_feedback_total", "Feedback events applied")
DEGRADED = Counter("sentinel_degraded_total", "Decisions made without the model or a reference table")
CONFLICTS = Counter("sentinel_append_conflicts_total", "Appends refused because another writer came first")
PARTITIONS = Gauge("sentinel_partitions_owned", "Partitions this worker owns")
LATENCY = Gauge("sentinel_latency_ms", "Kafka timestamp to durable decision", ["quantile"])


def configure_logging(settings: Settings) -> None:
    """Logs go to stderr: a line per event, coloured on a terminal, JSON elsewhere."""
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )


def serve_metrics(settings: Settings) -> None:
    """Start the Prometheus endpoint if one is configured. Raises Unavailable if the port is taken."""
    if settings.metrics_port:
        try:
            start_http_server(settings.metrics_port, addr=settings.metrics_host)
        except OSError as error:
            raise Unavailable(f"metrics port {settings.metrics_port}: {error.strerror}; choose another") from None


class Histogram:
    """Latencies in ms in buckets 2 % wide from 0.05 ms to 30 minutes: a quantile is at most 2 % too high."""

    def __init__(self) -> None:
        self._edges = 0.05 * 1.02 ** np.arange(880)
        self._counts = np.zeros(len(self._edges) + 1, dtype=np.int64)

    def record(self, latencies_ms: NDArray[np.float64]) -> None:
        np.add.at(self._counts, np.searchsorted(self._edges, latencies_ms), 1)

    def counts(self) -> list[int]:
        """Values per bucket, for another process to add or subtract."""
        return [int(n) for n in self._counts]

    def add_counts(self, counts: NDArray[np.int64]) -> None:
        """Add another histogram's counts."""
        self._counts += counts

    @property
    def count(self) -> int:
        return int(self._counts.sum())

    def quantile(self, q: float) -> float:
        """The smallest bucket edge (ms) that at least a share q of the values does not exceed; NaN if empty."""
        total = self._counts.sum()
        if total == 0:
            return float("nan")
        bucket = int(np.searchsorted(np.cumsum(self._counts), np.ceil(q * total)))
        return float(self._edges[min(bucket, len(self._edges) - 1)])


def logger() -> Any:
    """The process's bound logger."""
    return structlog.get_logger()
