"""Logs and metrics of running processes: structlog with constant dotted event names, Prometheus counters and
histograms. They are served by `ingest.health`.
"""

from __future__ import annotations

import logging
import sys
from bisect import bisect_left
from collections.abc import Iterator, MutableMapping, Sequence
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import structlog
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from core.files import Lossy, beneath
from core.hiding import masked
from core.policy import DECISIONS
from core.settings import Settings
from core.text import visible

WORKER = CollectorRegistry()
"""The metrics of a worker; `ingest.condition` exports them."""
TRANSACTIONS = Counter("sentinel_transactions_total", "Transactions decided", ["decision"], registry=WORKER)
REJECTS = Counter("sentinel_rejects_total", "Messages rejected", ["reason"], registry=WORKER)
CARD_DATA = Counter(
    "sentinel_card_data_total", "Messages from which card data was taken out", ["kind"], registry=WORKER
)
ALERTS = Counter("sentinel_alerts_total", "Alerts raised", ["severity"], registry=WORKER)
FEEDBACK = Counter("sentinel_feedback_total", "Feedback events applied", registry=WORKER)
DEGRADED = Counter("sentinel_degraded_total", "Decisions made without the model or a reference table", registry=WORKER)
CONFLICTS = Counter(
    "sentinel_append_conflicts_total", "Appends refused because another writer came first", registry=WORKER
)
ACCOUNTS = Gauge("sentinel_accounts_held", "Accounts in memory, of the partitions this worker owns", registry=WORKER)
EVICTED = Counter(
    "sentinel_accounts_evicted_total", "Accounts forgotten because their partition was full", registry=WORKER
)
FORGOTTEN = Counter(
    "sentinel_payments_forgotten_total",
    "Payments whose repetition within a day is no longer recognised",
    registry=WORKER,
)
PARTITIONS = Gauge("sentinel_partitions_owned", "Partitions this worker owns", registry=WORKER)
SKIPPED = Counter(
    "sentinel_messages_skipped_total", "Messages in batches that could not be read and were passed", registry=WORKER
)
STALLED = Gauge("sentinel_partitions_stalled", "Owned partitions that have messages and do not get on", registry=WORKER)
PARKED = Gauge("sentinel_partitions_parked", "Partitions assigned to this worker that it can't decide", registry=WORKER)
BUILD = Gauge("sentinel_build_info", "1, with the release that runs", ["version"])
RELEASE = version("stream-sentinel")
BUILD.labels(RELEASE).set(1)
SPANS = Counter(
    "sentinel_trace_spans_total", "Spans that were exported, or that the collector did not take (failed)", ["outcome"]
)


def configure_logging(settings: Settings) -> None:
    """Log to stderr: one line per event, coloured on a terminal, JSON elsewhere.

    Lines that can't be written, to a full disk for example, are lost.
    """
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _harmless,
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=Lossy(beneath(sys.stderr))),  # type: ignore[arg-type]
    )


def _harmless(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Names in a log line can't drive the terminal, and card numbers are masked; the colours of the line are ours."""
    return {name: masked(visible(value)) if isinstance(value, str) else value for name, value in event.items()}


BOUNDS_MS = (
    *(1, 2, 3, 5, 7.5, 10, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200, 300, 500, 750),
    *(1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 30_000, 60_000, 300_000),
)
"""Bucket bounds for Prometheus; the same in every worker, so that buckets can be added up."""

STEPS_MS: NDArray[np.float64] = 0.05 * 1.02 ** np.arange(880, dtype=np.float64)
EDGES_MS: NDArray[np.float64] = np.union1d(STEPS_MS, BOUNDS_MS)


class Histogram:
    """Latencies in ms, in buckets at most 2 % wide from 0.05 ms to 30 minutes: a quantile is at most 2 % too high.
    Each of BOUNDS_MS is an edge, so counts up to it are exact.
    """

    def __init__(self, edges_ms: NDArray[np.float64] = EDGES_MS) -> None:
        self._edges = edges_ms
        self._counts = np.zeros(len(self._edges) + 1, dtype=np.int64)
        self._sum_ms = 0.0

    def record(self, latencies_ms: NDArray[np.float64]) -> None:
        np.add.at(self._counts, np.searchsorted(self._edges, latencies_ms), 1)
        self._sum_ms += float(latencies_ms.sum())

    def cumulative(self, bounds_ms: Sequence[float]) -> tuple[list[int], float]:
        """(number of values up to each of these edges, and last of all values; the sum of all values, ms)."""
        up_to = np.cumsum(self._counts)
        places = [*np.searchsorted(self._edges, bounds_ms), -1]
        return up_to[places].tolist(), self._sum_ms

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
        """The smallest bucket edge (ms) that at least a share q of the values do not exceed; NaN if empty."""
        total = self._counts.sum()
        if total == 0:
            return float("nan")
        bucket = int(np.searchsorted(np.cumsum(self._counts), np.ceil(q * total)))
        return float(self._edges[min(bucket, len(self._edges) - 1)])


class LatencyCollector(Collector):
    """Exports a Histogram when Prometheus scrapes, so recording has no further cost. Quantiles over all workers:
    `histogram_quantile(0.99, sum by (le) (rate(sentinel_latency_seconds_bucket[1m])))`.
    """

    def __init__(self) -> None:
        self.histogram = Histogram()

    def collect(self) -> Iterator[HistogramMetricFamily]:
        counts, sum_ms = self.histogram.cumulative(BOUNDS_MS)
        bounds = [*(str(bound / 1000) for bound in BOUNDS_MS), "+Inf"]
        family = HistogramMetricFamily("sentinel_latency_seconds", "Kafka timestamp to durable decision")
        family.add_metric([], list(zip(bounds, counts, strict=True)), sum_ms / 1000)
        yield family


class LabelledHistogram(Collector):
    """A histogram by one label. Recording costs 0.4 µs: no lock, since one thread records."""

    def __init__(self, name: str, meaning: str, label: str, values: Sequence[str], bounds: Sequence[float]) -> None:
        """values: of the label; all are exported from the beginning."""
        self._name, self._meaning, self._label = name, meaning, label
        self._bounds = bounds
        self._counts = {value: [0] * (len(bounds) + 1) for value in values}
        self._sums = dict.fromkeys(values, 0.0)

    def record(self, label: str, value: float) -> None:
        """Count one value."""
        self._counts[label][bisect_left(self._bounds, value)] += 1
        self._sums[label] += value

    def add(self, label: str, values: NDArray[np.float64]) -> None:
        """Count many values: float64 (n,)."""
        counts = self._counts[label]
        places, found = np.unique(np.searchsorted(self._bounds, values), return_counts=True)
        for place, count in zip(places.tolist(), found.tolist(), strict=True):
            counts[place] += count
        self._sums[label] += float(values.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._meaning, labels=[self._label])
        names = [*map(str, self._bounds), "+Inf"]
        for label, counts in self._counts.items():
            buckets = list(zip(names, np.cumsum(counts).tolist(), strict=True))
            family.add_metric([label], buckets, self._sums[label])
        yield family


Stage = Literal["fetch", "decide", "append", "publish"]
STAGES = LabelledHistogram(
    "sentinel_stage_seconds",
    "Time of each stage of a batch: fetch, from its first message until it is full or linger_ms is over; decide, from"
    " decoding to sealing; append, from sending until the last answer is taken, which overlaps with deciding; publish,"
    " queueing for the decisions topic",
    "stage",
    ("fetch", "decide", "append", "publish"),
    (*(0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075), *(0.1, 0.2, 0.5, 1, 5, 30)),
)
PROBABILITIES = LabelledHistogram(
    "sentinel_fraud_probability",
    "Probability of fraud that the deciding model gave, from 0 to 1, by decision",
    "decision",
    DECISIONS,
    (*(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), *(0.95, 0.98, 0.99, 1)),
)
LATENCY = LatencyCollector()
WORKER.register(LATENCY)
WORKER.register(STAGES)
WORKER.register(PROBABILITIES)


def logger() -> Any:
    """The process's bound logger."""
    return structlog.get_logger()
