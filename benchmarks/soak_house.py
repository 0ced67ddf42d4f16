"""The processes of a soak (`benchmarks.soak`): how they are started, kept going, sampled and stopped."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import redis

from benchmarks.running import answer_of, environment_of, wait_for
from benchmarks.soak_figures import Sample
from console.bench import cpu
from console.service import Service, read_stats
from console.stack import Valkey
from console.watchdog import Watchdog
from core.settings import Settings
from ingest import kafka_client
from tests.integration.apache_kafka import ApacheKafka

PARTITIONS = 4
WORKERS = 2
SAMPLE_S = 1.0
ARCHIVE_S = 30.0
"""Seconds from an archiver's end to the next one's start."""
HOT_HOURS = 0.005
LEARN = """
[learn]
labels_min = 2000
frauds_min = 200
interval_days = 30.0
train_days = 5.0
holdout_days = 2.0
maturity_days = 2.0
candidates = ["retrained"]
shadow_hours = 24.0
shadow_days_max = 20.0
window_days = 3.0
duration_max_days = 20.0
guard_days = 5.0
"""
STALLED_S = 600.0


class SmallKafka(ApacheKafka):
    """Apache Kafka that keeps 64 MiB of a partition, and compiles in full what it does for an hour."""

    def command(self) -> Sequence[str]:
        return [part for part in super().command() if not part.startswith("-XX:TieredStopAtLevel")]

    def more_properties(self, controller: int) -> str:
        return (
            "log.retention.bytes=67108864\nlog.segment.bytes=16777216\nlog.retention.check.interval.ms=10000\n"
            "log.segment.delete.delay.ms=1000\nlog.index.size.max.bytes=262144\n"
        )


class House:
    """The processes, and what they take. Thread-safe by use: the producer reads `decided` and `hot_bytes` only."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self.kafka = SmallKafka(directory / "kafka")
        self.kafka.start()
        stack.callback(self.kafka.stop)
        self.valkey = stack.enter_context(Valkey(directory / "valkey"))
        self.settings = Settings(
            kafka_servers=self.kafka.bootstrap,
            redis_port=self.valkey.port,
            partitions=PARTITIONS,
            archive=str(directory / "archive"),
            snapshot_directory=str(directory / "snapshots"),
            batch_size=2_000,
            linger_ms=20,
        )
        os.environ["SENTINEL_ARCHIVE"] = self.settings.archive
        os.environ["SENTINEL_SNAPSHOT_INTERVAL_S"] = "30"
        kafka_client.create_topics(self.settings, ["transactions", "feedback", "transactions.rejects"])
        self.checkpoints = directory / "checkpoints"
        self.checkpoints.mkdir()
        self.services: dict[str, Service] = {}
        self._stack = stack
        self._redis = redis.Redis(self.valkey.host, self.valkey.port)
        stack.callback(self._redis.close)
        self._began = time.monotonic()
        self._samples = stack.enter_context((directory / "samples.jsonl").open("wb"))
        self._archiver: subprocess.Popen[bytes] | None = None
        stack.callback(lambda: self._archiver.kill() if self._archiver is not None else None)
        self._watchdog: Watchdog | None = None
        self._archiver_ended = time.monotonic()
        self._archiver_cpu_s = 0.0
        self._disk: dict[str, int] = {}
        self._disk_at = -1e9
        self.archivings = 0
        self.cpu_s: dict[str, float] = {}
        self.archiver_memory = 0
        self.hot_bytes = 0
        self.blobs = 0
        self.decided = 0
        self.samples: list[Sample] = []

    def start(self) -> None:
        """Start all services; returns once the workers own the partitions."""
        for number in range(1, WORKERS + 1):
            self._start(f"worker-{number}", "ingest", "--stats-file", str(self._stats(number)))
        wait_for(lambda: sum(len(each["partitions"]) for each in self._worker_stats()) == PARTITIONS, "the workers")
        learn = self.directory / "learn.toml"
        learn.write_text(LEARN)
        self._start("projector", "project", "--follow", *self.projecting, "--checkpoint-s", "20")
        self._start("reference", "reference", "--follow", "--every-hours", "24", "--interval-s", "2")
        self._start("loop", "learn", "--config", str(learn), "--follow", "--clock", "log", "--interval-s", "20")

    def stop(self, *names: str) -> None:
        """Stop these services, in order."""
        for name in names:
            self.services.pop(name).stop()

    def sample(self) -> None:
        """Take a sample, and keep the archiver going. Raises SentinelError or SystemExit if a process has ended."""
        for service in self.services.values():
            service.check()
        self._follow_archiver()
        stats = self._worker_stats()
        self.decided = sum(each["transactions"] for each in stats)
        self.hot_bytes = self.hot_now()
        now = time.monotonic()
        if now - self._disk_at > 5.0:
            self._disk, self._disk_at = self._disk_now(), now
            blobs = list(self._redis.scan_iter(f"{self.settings.log_prefix}:blob:*", count=1_000))
            self.blobs = sum(int(self._redis.strlen(key)) for key in blobs)
        counts = [sum(bucket) for bucket in zip(*(each["latency_counts"] for each in stats), strict=True)]
        cpu_s = sum(each["cpu_s"] for each in stats)
        sample = Sample(now - self._began, self.decided, self._memory_now(), self._disk, counts, cpu_s)
        self.samples.append(sample)
        self._samples.write(msgspec.json.encode(sample) + b"\n")
        self._samples.flush()

    def hot_now(self) -> int:
        """Bytes of the log server's data."""
        return int(self._redis.info("memory")["used_memory_dataset"])

    def archive_all(self) -> dict[str, Any]:
        """Archive whatever is left, and trim it."""
        if self._archiver is not None:
            self._archiver.wait(STALLED_S)
        return answer_of(
            self.settings, "archive", "--trim", "--hot-hours", "0", "--projections", str(self.checkpoints), "--json"
        )

    def project_all(self) -> None:
        """Bring the read models to the log's end."""
        answer_of(self.settings, "project", *self.projecting, "--json")

    @property
    def projecting(self) -> list[str]:
        """Where the read models' checkpoints are, as arguments."""
        return ["--checkpoint-directory", str(self.checkpoints)]

    def _start(self, name: str, *arguments: str) -> None:
        service = Service(name, list(arguments), self.settings, self.directory)
        self.services[name] = self._stack.enter_context(service)

    def _stats(self, number: int) -> Path:
        return self.directory / f"worker-{number}.json"

    def _worker_stats(self) -> list[dict[str, Any]]:
        found = [read_stats(self._stats(number)) for number in range(1, WORKERS + 1)]
        return [each for each in found if each is not None]

    def _follow_archiver(self) -> None:
        process = self._archiver
        if process is not None:
            self.archiver_memory = _status(process.pid, "VmHWM") or self.archiver_memory
            self._archiver_cpu_s = cpu.process_s(process.pid) or self._archiver_cpu_s
            if process.poll() is None:
                return
            if process.returncode:
                raise SystemExit(f"the archiver ended with {process.returncode}: see {self.directory / 'archiver.log'}")
            self._archiver, self._archiver_ended = None, time.monotonic()
            if self._watchdog is not None:
                self._watchdog.end()
            self.archivings += 1
            self.cpu_s["archiver"] = self.cpu_s.get("archiver", 0.0) + self._archiver_cpu_s
            self._archiver_cpu_s = 0.0
        elif time.monotonic() - self._archiver_ended > ARCHIVE_S:
            command = [sys.executable, "-m", "console.cli", "archive", "--trim", "--hot-hours", str(HOT_HOURS)]
            command += ["--projections", str(self.checkpoints)]
            with (self.directory / "archiver.log").open("ab") as log:
                self._archiver = subprocess.Popen(command, env=environment_of(self.settings), stdout=log, stderr=log)
            self._watchdog = Watchdog(self._archiver.pid)

    def _memory_now(self) -> dict[str, int]:
        pids = {name: service.pid for name, service in self.services.items()}
        pids |= {"benchmark": os.getpid(), "kafka": self.kafka.pid, "valkey": self.valkey.pid}
        self.cpu_s |= {name: cpu.process_s(pid) or 0.0 for name, pid in pids.items()}
        found = {name: _status(service.pid, "VmRSS") for name, service in self.services.items()}
        found |= {
            "benchmark": _status(os.getpid(), "VmRSS"),
            "kafka": _status(self.kafka.pid, "VmRSS"),
            "valkey": _status(self.valkey.pid, "VmRSS"),
            "valkey data": self.hot_bytes,
            "valkey blobs": self.blobs,
            "valkey streams": self.hot_bytes - self.blobs,
            "archiver": self.archiver_memory,
        }
        return found

    def _disk_now(self) -> dict[str, int]:
        names = ("valkey", "archive", "snapshots", "checkpoints", "kafka")
        found = {name: size_of(self.directory / name) for name in names}
        found["logs"] = sum(path.stat().st_size for path in self.directory.glob("*.log") if path.is_file())
        return found


def _status(pid: int | None, field: str) -> int:
    """A figure of a process, bytes; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), 0)


def size_of(folder: Path) -> int:
    """What the folder's files take on disk, bytes."""
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(base, name)).st_blocks * 512
            except FileNotFoundError:  # replaced meanwhile
                continue
    return total


class Watch:
    """Samples in a thread, so that the producer's work does not delay them."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._ended = threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what sampling raised."""
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """Take no more samples."""
        self._ended.set()
        self._thread.join()
        self.check()

    def _run(self) -> None:
        try:
            while not self._ended.wait(SAMPLE_S):
                self._house.sample()
        except BaseException as error:  # noqa: BLE001 - the producer raises it
            self.error = error
