"""Compares another commit's worker with this checkout's, in turns on the same servers, next to the floor.

    python -m benchmarks.compare_pipeline --against REV [--servers local|apache] [--rounds 2] [--short] [--latency-only]

A round is: the floor, REV's worker, this checkout's worker. Only the worker differs: producer, floor and measurement
are this checkout's. Both get the same messages, and their windows follow the same times: a worker that has history mode
gets them as a history, one that has not takes every payment at its own time. `alert_share` shows whether they decided
alike. Every turn has fresh topics and a fresh log. The local stack is restarted for each turn (its broker slows down
with every batch that it holds), Apache Kafka is started once. `apache` needs Java, Maven and redis-server
(docs/development.md). Prints every turn as `sentinel bench pipeline` does, then
medians over the rounds and their ratios; --json adds one object as the last line.
"""

from __future__ import annotations

import argparse
import io
import math
import statistics
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from console.bench import pipeline
from console.bench.pipeline import Phase, Plan
from console.service import ROOT
from console.stack import LocalStack

SHOWN = (
    ("worker_us_per_tx", "worker CPU at the latency rate, µs"),
    ("log_us_per_tx", "log server CPU at the latency rate, µs"),
    ("broker_us_per_tx", "broker CPU at the latency rate, µs"),
    ("transactions_per_seal", "transactions per partition and append"),
    ("alert_share", "share of transactions that alert"),
    ("latency_p50_ms", "p50, ms"),
    ("latency_p99_ms", "p99, ms"),
    ("latency_p999_ms", "p99.9, ms"),
    ("p99_over_floor", "p99 over the floor's"),
    ("sustained_tps", "sustained, transactions/s"),
    ("saturated_tps", "saturated, transactions/s"),
    ("sustained_worker_us_per_tx", "worker CPU at the sustained rate, µs"),
    ("sustained_log_us_per_tx", "log server CPU at the sustained rate, µs"),
    ("sustained_broker_us_per_tx", "broker CPU at the sustained rate, µs"),
)
"""The figures of `Result.summary` that are compared, and their descriptions."""


class Servers:
    """Provides each turn's servers. Apache Kafka, if requested, runs as long as `stack`."""

    def __init__(self, kind: str, directory: Path, stack: ExitStack) -> None:
        self._directory = directory
        self._kafka: Any = None
        if kind == "apache":
            from tests.integration.apache_kafka import ApacheKafka

            self._kafka = ApacheKafka(directory / "kafka")
            self._kafka.start()
            stack.callback(self._kafka.stop)

    @contextmanager
    def turn(self, name: str) -> Iterator[dict[str, Any]]:
        """Settings for a running broker and an empty log server; neither has data of other turns."""
        folder = self._directory / name
        if self._kafka is None:
            with LocalStack(folder) as local:
                yield _settings(local.kafka_servers, local.redis_port)
            return
        from tests.integration.servers import RedisServer

        redis = RedisServer(folder / "redis")
        redis.start()
        try:
            yield _settings(self._kafka.bootstrap, redis.port)
        finally:
            redis.stop()


def _settings(kafka_servers: str, redis_port: int) -> dict[str, Any]:
    return {
        "kafka_servers": kafka_servers,
        "redis_host": "127.0.0.1",
        "redis_port": redis_port,
        "redis_cluster": False,
    }


def checkout(revision: str, folder: Path) -> str:
    """Extract a commit's files into a folder. Returns its short digest; exits if there is no such commit."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--short", f"{revision}^{{commit}}"], capture_output=True, check=False)
    if commit.returncode:
        raise SystemExit(f"no commit {revision!r} in {ROOT}")
    archive = subprocess.run([*git, "archive", revision], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return commit.stdout.decode().strip()


def compare(
    servers: Servers, directory: Path, other: Path, names: tuple[str, str], plan: Plan, rounds: int
) -> dict[str, Any]:
    """Run the rounds and print each turn. Returns the medians of each worker's figures and of the floor's."""
    figures: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    floors: list[Phase] = []
    for number in range(1, rounds + 1):
        with servers.turn(f"floor-{number}") as where:
            s = pipeline.named(f"floor-{number}", directory, where)
            floor = pipeline.measure_floor(s, directory, plan)
        assert floor is not None
        floors.append(floor)
        for name, root in zip(names, (other, ROOT), strict=True):
            turn = f"{name}-{number}"
            with servers.turn(turn) as where:
                result = pipeline.measure_worker(pipeline.named(turn, directory, where), directory, plan, root=root)
            result.floor = floor
            print(f"\n--- round {number}: {name}\n{result.table()}", flush=True)
            figures[name].append(result.summary())
    print(f"\n{table(figures, floors)}")
    return {
        **{name: medians(rows) for name, rows in figures.items()},
        "floor": {
            "p50_ms": statistics.median(f.latency_p50_ms for f in floors),
            "p99_ms": statistics.median(f.latency_p99_ms for f in floors),
        },
        "noisy": any(row["noisy"] for rows in figures.values() for row in rows),
    }


def medians(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """The median of each compared figure over the rounds; None if a round lacks it."""
    columns = {name: [row[name] for row in rows] for name, _ in SHOWN}
    return {name: None if None in column else statistics.median(column) for name, column in columns.items()}


def table(figures: dict[str, list[dict[str, Any]]], floors: list[Phase]) -> str:
    """Medians of both workers side by side, and the ratio of the second's to the first's."""
    first, second = figures
    before, after = medians(figures[first]), medians(figures[second])
    head = f"medians, rounds: {len(floors)}"
    rows = [f"{head:42} {first:>12} {second:>12} {'ratio':>8}"]
    for name, words in SHOWN:
        a, b = before[name], after[name]
        if a is not None and b is not None:
            rows.append(f"{words:42} {a:>12,.3f} {b:>12,.3f} {b / a if a else math.nan:>8.2f}")
    p50 = statistics.median(f.latency_p50_ms for f in floors)
    p99 = statistics.median(f.latency_p99_ms for f in floors)
    return "\n".join([*rows, f"floor: p50 {p50:.1f} ms, p99 {p99:.1f} ms"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare another commit's worker with this checkout's.")
    parser.add_argument("--against", required=True, metavar="REV")
    parser.add_argument("--servers", choices=("local", "apache"), default="local")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--latency-rate", type=float, default=5_000.0)
    parser.add_argument("--short", action="store_true", help="phases of 6 s, fewer rates")
    parser.add_argument("--latency-only", action="store_true", help="no search for the sustained rate")
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    plan = pipeline.planned(short=a.short, latency_rate=a.latency_rate)
    if a.latency_only:
        plan = replace(plan, phases_max=0)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-compare-")))
        other = directory / "other"
        names = (checkout(a.against, other), "this")
        servers = Servers(a.servers, directory, stack)
        medians_of = compare(servers, directory, other, names, plan, a.rounds)
    if a.json:
        print(msgspec.json.encode(medians_of).decode())


if __name__ == "__main__":
    main()
