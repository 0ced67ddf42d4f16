"""End-to-end throughput and latency of one worker on the local stack, open loop.

One worker stays up for the whole run. A phase is a producer process at a fixed offered rate for a fixed time; the
worker's own counts and latency buckets (ingest.stats) at the phase's begin and end give the phase's figures. Messages
are stamped when they are sent, so latency includes every queue from the producer's on.

The first WARM_UP_S of a phase count for throughput but not for latency: the producer is still connecting, with its
messages stamped already.

A rate is sustained if by the end of the phase at least 97 % of what was offered is decided and the p99 latency of the
phase stays under a second: the backlog does not grow. Everything (producer, broker, worker, Valkey with fsync always)
shares the machine's cores.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from console import wiring
from console.service import Service, read_stats, wait_for_partitions
from console.stack import LocalStack
from core.errors import Unavailable
from core.settings import Settings
from ingest import kafka_client
from ingest.telemetry import Histogram

KEPT_UP_SHARE = 0.97
SUSTAINED_P99_MS_MAX = 1_000.0
DRAIN_SECONDS_MAX = 60.0
WARM_UP_S = 2.0
THROUGHPUT_LINGER_MS = 50.0
"""The local broker's fetches slow down with every record batch it holds: few and large ones when throughput is
measured.
"""


@dataclass(frozen=True, slots=True)
class Phase:
    """One offered rate (transactions/s) and what came of it. Latencies in ms; cpu_s of the worker."""

    offered: float
    decided_per_s: float
    latency_p50_ms: float
    latency_p99_ms: float
    latency_p999_ms: float
    decided: int
    worker_cpu_share: float

    @property
    def sustained(self) -> bool:
        return self.decided_per_s >= KEPT_UP_SHARE * self.offered and self.latency_p99_ms < SUSTAINED_P99_MS_MAX


@dataclass(slots=True)
class Result:
    """All phases; the figures that count are `summary`'s."""

    latency: Phase | None = None
    phases: list[Phase] = field(default_factory=list)

    @property
    def sustained_tps(self) -> float:
        return max((p.decided_per_s for p in self.phases if p.sustained), default=0.0)

    @property
    def saturated_tps(self) -> float:
        return max((p.decided_per_s for p in self.phases), default=0.0)

    def summary(self) -> dict[str, Any]:
        assert self.latency is not None
        return {
            "sustained_tps": round(self.sustained_tps, 1),
            "saturated_tps": round(self.saturated_tps, 1),
            "latency_rate_tps": self.latency.offered,
            "latency_p50_ms": round(self.latency.latency_p50_ms, 3),
            "latency_p99_ms": round(self.latency.latency_p99_ms, 3),
            "latency_p999_ms": round(self.latency.latency_p999_ms, 3),
            "limited_by": limited_by(self),
        }

    def table(self) -> str:
        head = ("offered/s", "decided/s", "p50 ms", "p99 ms", "p99.9 ms", "worker CPU", "kept up")
        rows = [" ".join(f"{name:>10}" for name in head)]
        for p in [*([self.latency] if self.latency else []), *self.phases]:
            numbers = (p.offered, p.decided_per_s, p.latency_p50_ms, p.latency_p99_ms, p.latency_p999_ms)
            cells = [f"{n:>10,.0f}" if i < 2 else f"{n:>10.2f}" for i, n in enumerate(numbers)]
            rows.append(" ".join([*cells, f"{p.worker_cpu_share:>10.0%}", f"{'yes' if p.sustained else 'no':>10}"]))
        rows.append(f"\nsustained: {self.sustained_tps:,.0f} transactions/s end to end, one worker")
        rows.append(f"limited by {limited_by(self)}")
        return "\n".join(rows)


def limited_by(result: Result) -> str:
    """What stood at its limit in the fastest phase."""
    if not result.phases:
        return "nothing measured"
    fastest = max(result.phases, key=lambda p: p.decided_per_s)
    if fastest.worker_cpu_share > 0.9:
        return "the worker's Python thread (one core)"
    return "the machine's cores, shared by producer, broker, worker and Valkey"


def run(*, short: bool, latency_rate: float, external: bool = False) -> Result:
    """Run all phases, on a fresh local stack or on the settings' own servers.

    Raises SentinelError; leaves nothing running.

    On external servers the topics and the log get names of their own, which stay behind.
    """
    seconds = 6.0 if short else 15.0
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-bench-")))
        s = _external(directory) if external else _local(stack, directory)
        kafka_client.create_topics(s, [s.transactions_topic, s.feedback_topic, s.dead_letter_topic])
        stats_file = directory / "worker.json"
        worker = stack.enter_context(Service("worker", ["ingest", "--stats-file", str(stats_file)], s, directory))
        wait_for_partitions(worker, stats_file, s.partitions, 120.0)
        bench = _Bench(s, directory, worker, stats_file)
        bench.phase(2_000.0, 2.0)  # warm up: first accounts, page cache, adaptive CPU clocks
        result = Result(latency=bench.phase(latency_rate, seconds))
        rate = 15_000.0
        while True:
            phase = bench.phase(rate, seconds, THROUGHPUT_LINGER_MS)
            result.phases.append(phase)
            if not phase.sustained or len(result.phases) >= (3 if short else 8):
                break
            rate *= 1.25 if not short else 1.35
        if not result.sustained_tps:
            result.phases.append(bench.phase(rate * 0.7, seconds, THROUGHPUT_LINGER_MS))
        return result


def _local(stack: ExitStack, directory: Path) -> Settings:
    servers = stack.enter_context(LocalStack(directory))
    return wiring.settings(
        None,
        kafka_servers=servers.kafka_servers,
        redis_host=servers.redis_host,
        redis_port=servers.redis_port,
        redis_cluster=False,
        snapshot_directory=str(directory / "snapshots"),
    )


def _external(directory: Path) -> Settings:
    name = f"bench-{int(time.time())}"
    return wiring.settings(
        None,
        transactions_topic=f"{name}.transactions",
        feedback_topic=f"{name}.feedback",
        dead_letter_topic=f"{name}.rejects",
        consumer_group=name,
        log_prefix=name,
        snapshot_directory=str(directory / "snapshots"),
    )


@dataclass(slots=True)
class _Bench:
    settings: Settings
    directory: Path
    worker: Service
    stats_file: Path
    _seed: int = 100

    def phase(self, rate: float, seconds: float, linger_ms: float = 2.0) -> Phase:
        """Offer `rate` for `seconds`, wait until everything is decided. linger_ms: of the producer's batches."""
        self._seed += 1
        count = int(rate * seconds)
        before = self._settled(0)
        producer = Service(
            f"producer-{self._seed}",
            [
                "produce",
                "--transactions",
                str(count),
                "--accounts",
                "20000",
                "--rate",
                str(rate),
                "--now",
                "--preload",
                "--seed",
                str(self._seed),
                "--linger-ms",
                str(linger_ms),
            ],
            self.settings,
            self.directory,
        )
        with producer:
            warm = self._settled(before["transactions"] + int(rate * min(WARM_UP_S, seconds / 2)))
            code = producer.wait(seconds * 4 + 60.0)
            producer.check()
        if code:
            raise Unavailable(f"the producer exited with {code}; log: {producer.log_path}")
        after = self._settled(before["transactions"] + count)
        return _phase(rate, count, before, warm, after)

    def _settled(self, transactions: int) -> dict[str, Any]:
        """The statistics once the worker has decided at least `transactions` in all."""
        deadline = time.monotonic() + DRAIN_SECONDS_MAX
        while time.monotonic() < deadline:
            self.worker.check()
            stats = read_stats(self.stats_file)
            if stats is not None and stats["transactions"] >= transactions:
                return stats
            time.sleep(0.1)
        raise Unavailable(f"the worker did not decide {transactions:,} transactions within {DRAIN_SECONDS_MAX:.0f} s")


def _phase(rate: float, count: int, before: dict[str, Any], warm: dict[str, Any], after: dict[str, Any]) -> Phase:
    latency = Histogram()
    latency.add_counts(np.array(after["latency_counts"]) - np.array(warm["latency_counts"]))
    # The phase's own span: from its first decision (the worker was idle before) to its last.
    start = min(at for at, transactions in after["bursts"] if transactions >= before["transactions"])
    span = max(after["last_decided_at"] - start, 1e-9)
    decided = after["transactions"] - before["transactions"]
    return Phase(
        offered=rate,
        decided_per_s=decided / span,
        latency_p50_ms=latency.quantile(0.5),
        latency_p99_ms=latency.quantile(0.99),
        latency_p999_ms=latency.quantile(0.999),
        decided=count,
        worker_cpu_share=(after["cpu_s"] - before["cpu_s"]) / span,
    )
