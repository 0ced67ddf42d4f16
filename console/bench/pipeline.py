"""End-to-end throughput, latency and CPU cost of one worker, open loop, compared with the floor.

A phase is a producer process at a fixed offered rate for a fixed time. The worker's own counts and latency buckets
(ingest.stats) give the phase's throughput and latency. The CPU clocks of worker, log server and broker, read whenever
these counts change, give its cost. Messages are stamped when they are sent, so latency includes every queue from the
producer on.

The first WARM_UP_S of a phase count for throughput but not for latency or cost: the producer stamps messages while it
is still connecting. Cost ends with the last count before the end of the phase, so it includes no idle time.

A rate is sustained if at least 97 % of the offered transactions are decided by the end of the phase and its p99 latency
stays under a second: the backlog does not grow. Everything (producer, broker, worker, log server with fsync always)
shares the machine's cores.

The floor (console.bench.floor) is measured first, with the same producer, rate, consumer and log server.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import KafkaException
from numpy.typing import NDArray

from console import wiring
from console.bench import cpu
from console.service import ROOT, Service, read_stats, wait_for_partitions
from console.stack import LocalStack
from core.errors import Unavailable
from core.settings import Settings
from ingest import kafka_client
from ingest.telemetry import EDGES_MS, STEPS_MS, Histogram

KEPT_UP_SHARE = 0.97
SUSTAINED_P99_MS_MAX = 1_000.0
START_SECONDS_MAX = 300.0
"""A worker that has to compile its kernels takes a minute to start, longer on a busy machine."""
DRAIN_SECONDS_MAX = 60.0
REMOVE_SECONDS_MAX = 30.0
POLL_S = 0.02
WARM_UP_S = 2.0
LATENCY_LINGER_MS = 2.0
THROUGHPUT_LINGER_MS = 50.0
"""The local broker's fetches slow down with every record batch it holds; throughput phases use few, large ones."""
FOREIGN_CORES_MAX = 0.15
"""If other processes use more than this share of a core, latencies are not representative."""


@dataclass(frozen=True, slots=True)
class Phase:
    """The measurements at one offered rate (transactions/s). Latencies: ms; CPU: µs per transaction, None if unknown.

    worker_cpu_share: share of one core. per_seal: transactions per appended batch of a partition, the largest influence
    on the worker's cost; None for the floor. foreign_cores: cores used by processes that are not the bench's.
    alert_share: of the transactions, those that raised an alert; None for the floor.
    """

    offered: float
    decided_per_s: float
    latency_p50_ms: float
    latency_p99_ms: float
    latency_p999_ms: float
    worker_cpu_share: float
    worker_us: float
    log_us: float | None
    broker_us: float | None
    per_seal: float | None
    foreign_cores: float | None
    alert_share: float | None = None

    @property
    def sustained(self) -> bool:
        return self.decided_per_s >= KEPT_UP_SHARE * self.offered and self.latency_p99_ms < SUSTAINED_P99_MS_MAX

    @property
    def noisy(self) -> bool:
        return self.foreign_cores is not None and self.foreign_cores > FOREIGN_CORES_MAX


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. seconds: length of a phase. Throughput phases start at first_rate and grow by `growth`
    until a rate is not sustained, for at most `phases_max` phases; 0 measures latency only.
    """

    latency_rate: float
    seconds: float
    first_rate: float = 15_000.0
    growth: float = 1.25
    phases_max: int = 8


@dataclass(slots=True)
class Result:
    """All phases; `summary` has the result. floor is None on a Redis Cluster."""

    latency: Phase
    floor: Phase | None = None
    phases: list[Phase] = field(default_factory=list)

    @property
    def sustained(self) -> Phase | None:
        """The fastest sustained phase."""
        return max((p for p in self.phases if p.sustained), key=lambda p: p.decided_per_s, default=None)

    @property
    def sustained_tps(self) -> float | None:
        """None if throughput was not measured, 0 if no rate was sustained."""
        if not self.phases:
            return None
        return self.sustained.decided_per_s if self.sustained else 0.0

    @property
    def p99_over_floor(self) -> float | None:
        return self.latency.latency_p99_ms / self.floor.latency_p99_ms if self.floor else None

    def summary(self) -> dict[str, Any]:
        """One flat object; *_us_per_tx is CPU time at the latency rate, sustained_*_us_per_tx at the sustained one."""
        latency, floor, sustained = self.latency, self.floor, self.sustained
        figures = {
            "sustained_tps": self.sustained_tps,
            "saturated_tps": max((p.decided_per_s for p in self.phases), default=None),
            "latency_rate_tps": latency.offered,
            "latency_p50_ms": latency.latency_p50_ms,
            "latency_p99_ms": latency.latency_p99_ms,
            "latency_p999_ms": latency.latency_p999_ms,
            "worker_us_per_tx": latency.worker_us,
            "log_us_per_tx": latency.log_us,
            "broker_us_per_tx": latency.broker_us,
            "transactions_per_seal": latency.per_seal,
            "alert_share": latency.alert_share,
            "sustained_worker_us_per_tx": sustained.worker_us if sustained else None,
            "sustained_log_us_per_tx": sustained.log_us if sustained else None,
            "sustained_broker_us_per_tx": sustained.broker_us if sustained else None,
            "floor_p50_ms": floor.latency_p50_ms if floor else None,
            "floor_p99_ms": floor.latency_p99_ms if floor else None,
            "p99_over_floor": self.p99_over_floor,
            "floor_client_us_per_tx": floor.worker_us if floor else None,
            "floor_log_us_per_tx": floor.log_us if floor else None,
            "foreign_cores": max((p.foreign_cores for p in self._all() if p.foreign_cores is not None), default=None),
        }
        rounded = {name: None if value is None else round(value, 4) for name, value in figures.items()}
        return {**rounded, "noisy": any(p.noisy for p in self._all()), "limited_by": limited_by(self)}

    def table(self) -> str:
        """The result as text: one row per phase, then the conclusions."""
        head = ("offered/s", "decided/s", "p50 ms", "p99 ms", "p99.9 ms", "CPU", "worker µs", "log µs", "broker µs")
        rows = [
            " ".join(
                [f"{'':8}", *(f"{name:>10}" for name in head), f"{'per seal':>10}", f"{'alerts':>8}", f"{'kept up':>8}"]
            )
        ]
        if self.floor:
            rows.append(_row("floor", self.floor))
        rows.append(_row("latency", self.latency))
        rows += [_row("load", phase) for phase in self.phases]
        if self.sustained_tps is not None:
            reached = f"{self.sustained_tps:,.0f} transactions/s end to end, one worker"
            rows += ["", f"sustained: {reached}; limited by {limited_by(self)}"]
        if self.floor:
            rows.append(
                f"latency at {self.latency.offered:,.0f}/s: p99 {self.latency.latency_p99_ms:.1f} ms, the floor's"
                f" {self.floor.latency_p99_ms:.1f} ms, ratio {self.p99_over_floor:.2f} (floor: only consume and append"
                " two entries per message)"
            )
        return "\n".join([*rows, noise(self._all())])

    def _all(self) -> list[Phase]:
        return [*([self.floor] if self.floor else []), self.latency, *self.phases]


def _row(name: str, p: Phase) -> str:
    rates = [f"{p.offered:>10,.0f}", f"{p.decided_per_s:>10,.0f}"]
    latencies = [f"{ms:>10.2f}" for ms in (p.latency_p50_ms, p.latency_p99_ms, p.latency_p999_ms)]
    costs = [f"{'?' if us is None else format(us, '.1f'):>10}" for us in (p.worker_us, p.log_us, p.broker_us)]
    costs.append(f"{'' if p.per_seal is None else format(p.per_seal, '.1f'):>10}")
    costs.append(f"{'' if p.alert_share is None else format(p.alert_share, '.1%'):>8}")
    cells = [f"{name:8}", *rates, *latencies, f"{p.worker_cpu_share:>10.0%}", *costs]
    return " ".join([*cells, f"{'yes' if p.sustained else 'no':>8}", *(["  noisy"] if p.noisy else [])])


def noise(phases: list[Phase]) -> str:
    """One line: how much other processes used the machine during these phases."""
    known = [p.foreign_cores for p in phases if p.foreign_cores is not None]
    if not known:
        return "other load on the machine: unknown"
    if any(p.noisy for p in phases):
        return (
            f"NOISY: other processes used up to {max(known):.2f} cores of this machine; only ratios within this run are"
            " meaningful"
        )
    return f"other load on the machine: at most {max(known):.2f} cores"


def limited_by(result: Result) -> str:
    """What limited the fastest phase."""
    if not result.phases:
        return "not measured"
    fastest = max(result.phases, key=lambda p: p.decided_per_s)
    if fastest.worker_cpu_share > 0.9:
        return "the worker's Python thread (one core)"
    return "the machine's cores, shared by producer, broker, worker and log server"


def planned(*, short: bool, latency_rate: float) -> Plan:
    """What `sentinel bench pipeline` measures."""
    return Plan(latency_rate, 6.0, growth=1.35, phases_max=3) if short else Plan(latency_rate, 15.0)


def run(plan: Plan, *, external: bool = False) -> Result:
    """Measure the floor and the worker, on a fresh local stack or on the configured servers.

    On external servers, topics, consumer groups and logs have their own names and are deleted at the end. Raises
    SentinelError; leaves nothing running.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-bench-")))
        name = f"bench-{int(time.time())}" if external else "bench"
        servers = {} if external else _local(stack, directory)
        floors, workers = (named(n, directory, servers) for n in (f"{name}-floor", name))
        if external:
            stack.callback(_remove, floors)
            stack.callback(_remove, workers)
        floor = measure_floor(floors, directory, plan)
        result = measure_worker(workers, directory, plan)
        result.floor = floor
        return result


def _remove(s: Settings) -> None:
    """Delete the topics, groups and keys that these `named` settings created on external servers."""
    admin, groups = kafka_client.admin(s), [s.consumer_group, f"{s.consumer_group}.feedback"]
    topics = [s.transactions_topic, s.feedback_topic, s.dead_letter_topic]
    deleted = {**admin.delete_topics(topics), **admin.delete_consumer_groups(groups)}
    for future in deleted.values():
        with suppress(KafkaException):  # it was not created yet
            future.result(REMOVE_SECONDS_MAX)
    client = cpu.log_client(s)
    for key in client.scan_iter(match=f"{s.log_prefix}:*", count=1_000):
        client.unlink(key)
    client.close()


def _local(stack: ExitStack, directory: Path) -> dict[str, Any]:
    return stack.enter_context(LocalStack(directory)).settings


def named(name: str, directory: Path, servers: dict[str, Any]) -> Settings:
    """Settings with their own topics, group, log and snapshots. servers: overrides with the servers' addresses."""
    return wiring.settings(
        None,
        **servers,
        transactions_topic=f"{name}.transactions",
        feedback_topic=f"{name}.feedback",
        dead_letter_topic=f"{name}.rejects",
        consumer_group=name,
        log_prefix=name,
        snapshot_directory=str(directory / f"{name}-snapshots"),
    )


def measure_floor(s: Settings, directory: Path, plan: Plan) -> Phase | None:
    """The floor at the plan's latency rate; None on a Redis Cluster, where no MULTI spans all partitions."""
    if s.redis_cluster:
        return None
    stats_file = directory / f"{s.log_prefix}.json"
    floor = Service("floor", [str(stats_file)], s, directory, module="console.bench.floor")
    with _Bench(s, directory, floor, stats_file) as bench:
        bench.phase(2_000.0, 2.0)
        return bench.phase(plan.latency_rate, plan.seconds)


def measure_worker(s: Settings, directory: Path, plan: Plan, *, root: Path = ROOT) -> Result:
    """Latency and throughput of the worker from the checkout `root`; everything else runs this checkout's code."""
    stats_file = directory / f"{s.log_prefix}.json"
    worker = Service("worker", ["ingest", "--stats-file", str(stats_file)], s, directory, root=root)
    has_history = (root / "ingest" / "history.py").exists()
    with _Bench(s, directory, worker, stats_file, has_history=has_history) as bench:
        bench.phase(2_000.0, 2.0)  # warm up: first accounts, page cache, adaptive CPU clocks
        result = Result(bench.phase(plan.latency_rate, plan.seconds))
        rate = plan.first_rate
        while len(result.phases) < plan.phases_max:
            phase = bench.phase(rate, plan.seconds, THROUGHPUT_LINGER_MS)
            result.phases.append(phase)
            if not phase.sustained:
                break
            rate *= plan.growth
        if plan.phases_max and result.sustained is None:
            result.phases.append(bench.phase(rate * 0.7, plan.seconds, THROUGHPUT_LINGER_MS))
        return result


@dataclass(frozen=True, slots=True)
class Sample:
    """The worker's statistics at one change, and every clock at that time, in s."""

    stats: dict[str, Any]
    at: float
    log_s: float | None
    broker_s: float | None
    seals: int
    ours_s: float | None
    machine_s: float | None

    @property
    def transactions(self) -> int:
        return int(self.stats["transactions"])


class _Bench:
    """A consumer (the worker or the floor) that runs for several phases. A context manager."""

    def __init__(
        self, settings: Settings, directory: Path, consumer: Service, stats_file: Path, *, has_history: bool = True
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._consumer = consumer
        self._stats_file = stats_file
        self._has_history = has_history
        self._seed = 100
        self._running = ExitStack()

    def __enter__(self) -> _Bench:
        s = self._settings
        kafka_client.create_topics(s, [s.transactions_topic, s.feedback_topic, s.dead_letter_topic])
        with ExitStack() as stack:
            self._log = cpu.LogServer(s)
            stack.callback(self._log.close)
            self._broker = cpu.broker(s.kafka_servers)
            stack.enter_context(self._consumer)
            wait_for_partitions(self._consumer, self._stats_file, s.partitions, START_SECONDS_MAX)
            self._running = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._running.close()

    def phase(self, rate: float, seconds: float, linger_ms: float = LATENCY_LINGER_MS) -> Phase:
        """Offer `rate` for `seconds`, then wait until everything is decided. linger_ms: the producer's."""
        count = int(rate * seconds)
        with self._producer(rate, count, linger_ms) as producer:
            samples = self._watch(producer, count, seconds * 4 + 60.0 + DRAIN_SECONDS_MAX)
            producer.wait(DRAIN_SECONDS_MAX)
            producer.check()
        warm = samples[0].transactions + int(rate * min(WARM_UP_S, seconds / 2))
        return measured_phase(rate, count, warm, samples)

    def _producer(self, rate: float, count: int, linger_ms: float) -> Service:
        self._seed += 1
        load = ["--transactions", str(count), "--accounts", "20000", "--seed", str(self._seed)]
        pace = ["--rate", str(rate), "--now", "--preload", "--linger-ms", str(linger_ms)]
        if not self._has_history:
            pace.append("--no-history")
        return Service(f"producer-{self._seed}", ["produce", *load, *pace], self._settings, self._directory)

    def _watch(self, producer: Service, count: int, seconds: float) -> list[Sample]:
        """One sample per change of the statistics, from now until `count` more transactions are decided."""
        deadline = time.monotonic() + seconds
        samples: list[Sample] = []
        changed, producer_s = 0, 0.0
        while time.monotonic() < deadline:
            self._consumer.check()
            producer.check()
            modified = self._stats_file.stat().st_mtime_ns
            if modified != changed:
                changed = modified
                producer_s = cpu.process_s(producer.pid) or producer_s  # it exits before the last one is decided
                samples.append(self._sample(producer_s))
                if samples[-1].transactions >= samples[0].transactions + count:
                    return samples
            time.sleep(POLL_S)
        raise Unavailable(
            f"the {self._consumer.name} did not decide {count:,} transactions within {seconds:.0f} s;"
            f" {self._consumer.last_words}"
        )

    def _sample(self, producer_s: float) -> Sample:
        stats = read_stats(self._stats_file)
        assert stats is not None  # it exists since the partitions were assigned, and is only ever replaced
        log_s, broker_s = self._log.cpu_s(), cpu.process_s(self._broker)
        others = [log_s, broker_s, producer_s, time.process_time(), stats["cpu_s"]]
        known = [seconds for seconds in others if seconds is not None]
        ours_s = sum(known) if len(known) == len(others) else None
        return Sample(stats, time.monotonic(), log_s, broker_s, self._log.seals(), ours_s, cpu.machine_s())


def histogram_of(counts: NDArray[np.int64]) -> Histogram:
    """The latencies that a worker's statistics file counts. A worker of release 0.1, which a comparison may run
    beside this one, has no edges at Prometheus's bounds.
    """
    latency = Histogram(STEPS_MS if len(counts) == len(STEPS_MS) + 1 else EDGES_MS)
    latency.add_counts(counts)
    return latency


def measured_phase(rate: float, count: int, warm_count: int, samples: list[Sample]) -> Phase:
    """The figures of a phase. samples: from before its first transaction to after its last one."""
    before, after = samples[0], samples[-1]
    warm = next(s for s in samples if s.transactions >= warm_count)
    latency = histogram_of(np.array(after.stats["latency_counts"]) - np.array(warm.stats["latency_counts"]))
    # The phase's own span: from its first decision (the worker was idle before) to its last.
    start = min(at for at, transactions in after.stats["bursts"] if transactions >= before.transactions)
    span = max(after.stats["last_decided_at"] - start, 1e-9)
    busy = [s for s in samples if warm_count <= s.transactions < before.transactions + count]
    first, last = (busy[0], busy[-1]) if len(busy) > 1 else (before, after)
    decided, elapsed = last.transactions - first.transactions, last.at - first.at

    def us(begin: float | None, end: float | None) -> float | None:
        return None if begin is None or end is None else (end - begin) * 1e6 / decided

    machine, ours = us(first.machine_s, last.machine_s), us(first.ours_s, last.ours_s)
    sealed = last.seals - first.seals
    worker_s = last.stats["cpu_s"] - first.stats["cpu_s"]
    return Phase(
        offered=rate,
        decided_per_s=count / span,
        latency_p50_ms=latency.quantile(0.5),
        latency_p99_ms=latency.quantile(0.99),
        latency_p999_ms=latency.quantile(0.999),
        worker_cpu_share=worker_s / elapsed,
        worker_us=worker_s * 1e6 / decided,
        log_us=us(first.log_s, last.log_s),
        broker_us=us(first.broker_s, last.broker_s),
        per_seal=decided / sealed if sealed else None,
        foreign_cores=None if machine is None or ours is None else (machine - ours) * decided / 1e6 / elapsed,
        alert_share=(_alerts(after) - _alerts(before)) / count if "decisions" in after.stats else None,
    )


def _alerts(sample: Sample) -> int:
    decisions = sample.stats["decisions"]
    return int(decisions.get("review", 0) + decisions.get("decline", 0))
