"""The arithmetic of `sentinel bench pipeline`, and the clocks that it reads."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.compare_pipeline import checkout, medians
from console.bench import cpu, pipeline
from console.bench.pipeline import Phase, Plan, Result
from console.service import Service
from core.settings import Settings
from ingest.telemetry import STEPS_MS, Histogram


def sample(
    at: float, transactions: int, latency_ms: float, worker_s: float, seals: int = 0, **clocks: float | None
) -> Any:
    """Statistics and clocks at a moment; every transaction so far took `latency_ms`."""
    histogram = Histogram()
    histogram.record(np.full(transactions, latency_ms))
    stats = {
        "transactions": transactions,
        "latency_counts": histogram.counts(),
        "bursts": [(100.5, 0)],
        "last_decided_at": at - 0.1,
        "cpu_s": worker_s,
    }
    known = {"log_s": None, "broker_s": None, "ours_s": None, "machine_s": None, **clocks}
    return pipeline.Sample(stats=stats, at=at, seals=seals, **known)


def phase(**changes: Any) -> Phase:
    values: dict[str, Any] = {
        "offered": 5_000.0,
        "decided_per_s": 5_000.0,
        "latency_p50_ms": 10.0,
        "latency_p99_ms": 20.0,
        "latency_p999_ms": 30.0,
        "worker_cpu_share": 0.25,
        "worker_us": 50.0,
        "log_us": 10.0,
        "broker_us": None,
        "per_seal": 4.0,
        "foreign_cores": 0.0,
    }
    return Phase(**values | changes)


def test_cost_is_taken_between_the_warm_up_and_the_last_count_under_load() -> None:
    """CPU before the first transaction, while connecting, and after the last one is nobody's cost."""
    samples = [
        sample(100.0, 0, 5.0, 1.0, log_s=1.0, ours_s=10.0, machine_s=50.0),
        sample(103.0, 10_000, 5.0, 9.0, 1_000, log_s=3.0, ours_s=20.0, machine_s=61.0),
        sample(105.0, 20_000, 5.0, 9.5, 3_000, log_s=3.2, ours_s=21.0, machine_s=63.0),
        sample(106.0, 25_000, 5.0, 30.0, log_s=9.0, ours_s=90.0, machine_s=163.0),
    ]
    measured = pipeline.measured_phase(5_000.0, 25_000, 10_000, samples)
    assert measured.worker_us == pytest.approx(0.5e6 / 10_000)
    assert measured.log_us == pytest.approx(0.2e6 / 10_000)
    assert measured.broker_us is None
    assert measured.per_seal == pytest.approx(10_000 / 2_000)
    assert measured.worker_cpu_share == pytest.approx(0.25)
    assert measured.foreign_cores == pytest.approx((2.0 - 1.0) / 2.0)
    assert measured.noisy
    assert measured.decided_per_s == pytest.approx(25_000 / (105.9 - 100.5))


def test_the_share_of_alerts_is_the_phases_own() -> None:
    """Alerts of earlier phases don't count; the floor, which decides nothing, has none."""
    before, after = sample(100.0, 10_000, 5.0, 1.0), sample(106.0, 14_000, 5.0, 2.0)
    after.stats["bursts"] = [(100.5, 10_000)]
    assert pipeline.measured_phase(5_000.0, 4_000, 11_000, [before, after]).alert_share is None
    before.stats["decisions"] = {"approve": 9_000, "review": 600, "decline": 400}
    after.stats["decisions"] = {"approve": 12_600, "review": 900, "decline": 500}
    assert pipeline.measured_phase(5_000.0, 4_000, 11_000, [before, after]).alert_share == pytest.approx(0.1)


def test_latencies_of_the_warm_up_do_not_count() -> None:
    """Before the producer is connected, its messages are stamped already."""
    slow, fast = sample(103.0, 10_000, 900.0, 2.0), sample(106.0, 10_000, 900.0, 4.0)
    extra = sample(106.0, 15_000, 4.0, 4.0)
    counts = [a + b for a, b in zip(fast.stats["latency_counts"], extra.stats["latency_counts"], strict=True)]
    last = replace(extra, stats={**extra.stats, "transactions": 25_000, "latency_counts": counts})
    measured = pipeline.measured_phase(5_000.0, 25_000, 10_000, [sample(100.0, 0, 1.0, 1.0), slow, last])
    assert measured.latency_p99_ms == pytest.approx(4.0, rel=0.03)


def test_a_worker_without_edges_at_the_bounds_is_read_by_its_own() -> None:
    """`compare_pipeline` runs a former release's worker too; its file says only how many fell into each bucket."""
    former = Histogram(STEPS_MS)
    former.record(np.array([4.0, 40.0, 400.0]))
    assert len(former.counts()) == 881
    for counts in (former.counts(), sample(1.0, 3, 40.0, 1.0).stats["latency_counts"]):
        assert pipeline.histogram_of(np.array(counts)).quantile(0.5) == pytest.approx(40.0, rel=0.03)


def test_summary_has_the_floor_and_the_costs() -> None:
    """--json: both rates' costs, the floor's latencies and their ratio; null for what is not known."""
    result = Result(phase(), phase(latency_p50_ms=4.0, latency_p99_ms=16.0), [phase(decided_per_s=9_000.0, log_us=7.0)])
    summary = result.summary()
    assert summary["worker_us_per_tx"] == 50.0
    assert summary["log_us_per_tx"] == 10.0
    assert summary["broker_us_per_tx"] is None
    assert summary["sustained_log_us_per_tx"] == 7.0
    assert (summary["floor_p50_ms"], summary["floor_p99_ms"], summary["p99_over_floor"]) == (4.0, 16.0, 1.25)
    assert not summary["noisy"]
    assert "ratio 1.25" in result.table()


def test_a_busy_machine_is_told() -> None:
    """One phase beside foreign load marks the run."""
    result = Result(phase(), phase(), [phase(foreign_cores=0.8)])
    assert result.summary()["noisy"]
    assert "NOISY: other processes used up to 0.80 cores" in result.table()
    assert "at most 0.00 cores" in Result(phase(), phase()).table()


def test_medians_over_rounds() -> None:
    """A figure that one round lacks has no median."""
    rows = [Result(phase(latency_p99_ms=p99), phase()).summary() for p99 in (30.0, 10.0, 20.0)]
    found = medians(rows)
    assert found["latency_p99_ms"] == 20.0
    assert found["broker_us_per_tx"] is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Linux only")
def test_clocks_of_processes() -> None:
    """A process's CPU seconds grow with its work; a process that is gone has none."""
    before, machine = cpu.process_s(os.getpid()), cpu.machine_s()
    assert before is not None and machine is not None
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    after, machine_after = cpu.process_s(os.getpid()), cpu.machine_s()
    assert after is not None and machine_after is not None
    assert after - before == pytest.approx(0.1, abs=0.03)
    assert machine_after - machine >= 0.07
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert cpu.process_s(ended.pid) is None
    assert cpu.process_s(None) is None


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Linux only")
def test_who_listens_on_a_port() -> None:
    """The broker's process is found by its port, but only if the port is one of this machine."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert cpu.broker(f"127.0.0.1:{port}") is None
        server.listen()
        assert cpu.broker(f"127.0.0.1:{port},other:9092") == cpu.broker(f"localhost:{port}") == os.getpid()
        assert cpu.broker(f"kafka.example:{port}") is None
    assert cpu.broker("localhost") is None


def test_a_service_runs_the_checkout_that_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the current folder nor this checkout comes before it."""
    for name, words in (("other", "the other tree"), ("here", "the current folder")):
        package = tmp_path / name / "console"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "cli.py").write_text(f"print({words!r})")
    monkeypatch.chdir(tmp_path / "here")
    service = Service("worker", [], Settings(), tmp_path, root=tmp_path / "other")
    with service:
        assert service.wait(30.0) == 0
    assert service.log_path.read_text().strip() == "the other tree"


def test_an_unknown_commit_is_refused(tmp_path: Path) -> None:
    """One line, before any server is started."""
    with pytest.raises(SystemExit, match="no commit"):
        checkout("no-such-revision", tmp_path)


def test_a_cluster_has_no_floor(tmp_path: Path) -> None:
    """No MULTI spans the partitions of a Redis Cluster."""
    assert pipeline.measure_floor(Settings(redis_cluster=True), tmp_path, Plan(5_000.0, 1.0)) is None
