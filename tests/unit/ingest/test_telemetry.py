"""Metrics: histograms as Prometheus sees them, and logs and statistics on a full disk."""

from __future__ import annotations

import errno
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from core.errors import Unavailable
from core.settings import Settings
from ingest import stats, telemetry
from ingest.stats import Stats
from ingest.telemetry import BOUNDS_MS, Histogram, LabelledHistogram, LatencyCollector


def scraped(latencies_ms: np.ndarray) -> dict[str, float]:
    """The samples of one worker's scrape, by name and `le`."""
    registry, collector = CollectorRegistry(), LatencyCollector()
    collector.histogram.record(latencies_ms)
    registry.register(collector)
    (family,) = text_string_to_metric_families(generate_latest(registry).decode())
    return {f"{s.name.removeprefix(family.name)}{s.labels.get('le', '')}": s.value for s in family.samples}


def test_a_scrape_counts_what_is_at_most_each_bound() -> None:
    """Cumulative counts at every bound equal a count over the raw values, those on a bound included."""
    drawn = np.random.Generator(np.random.PCG64(1)).lognormal(3.0, 2.0, 5_000)
    latencies = np.concatenate([drawn, np.array(BOUNDS_MS, dtype=np.float64), [0.0, 1e8]])
    found = scraped(latencies)
    for bound in BOUNDS_MS:
        assert found[f"_bucket{bound / 1000}"] == (latencies <= bound).sum()
    assert found["_bucket+Inf"] == found["_count"] == len(latencies)
    assert found["_sum"] == pytest.approx(latencies.sum() / 1000)


def test_scrapes_of_two_workers_add_up_to_one_of_both() -> None:
    """The bounds are the same in every worker, so buckets may be added: what gauges of quantiles do not allow."""
    generator = np.random.Generator(np.random.PCG64(2))
    fast, slow = generator.exponential(5.0, 900), generator.exponential(400.0, 100)
    one, other, both = scraped(fast), scraped(slow), scraped(np.concatenate([fast, slow]))
    assert {name: one[name] + other[name] for name in one} == pytest.approx(both)


def test_a_quantile_is_at_most_two_percent_too_high() -> None:
    """Never below the true quantile, never 2 % above it."""
    for seed in range(20):
        latencies = np.random.Generator(np.random.PCG64(seed)).lognormal(3.0, 1.5, 1_000)
        histogram = Histogram()
        histogram.record(latencies)
        for q in (0.5, 0.9, 0.99, 0.999):
            true = np.quantile(latencies, q, method="inverted_cdf")
            assert true <= histogram.quantile(q) <= 1.02 * true


def test_the_worker_shows_its_latencies() -> None:
    """The process's registry holds the histogram of its statistics, as it is when it is scraped."""
    ours = stats.Stats(None)
    ours.latency.record(np.array([4.0, 40.0]))
    assert telemetry.WORKER.get_sample_value("sentinel_latency_seconds_bucket", {"le": "0.005"}) == 1
    assert telemetry.WORKER.get_sample_value("sentinel_latency_seconds_count") == 2


def test_a_labelled_histogram_counts_as_prometheus_does() -> None:
    """Single values and arrays give the same: cumulative counts, those on a bound included, and the sum."""
    values = np.array([0.05, 0.1, 0.1, 0.3, 7.0])
    single, many = (LabelledHistogram("x_seconds", "a test", "stage", ("a", "b"), (0.1, 1)) for _ in range(2))
    for value in values.tolist():
        single.record("a", value)
    many.add("a", values[:2])
    many.add("a", values[2:])
    found = []
    for each in (single, many):
        (family,) = each.collect()
        found.append({(s.name, *s.labels.values()): s.value for s in family.samples})
    assert found[0] == pytest.approx(found[1])
    assert found[0]["x_seconds_bucket", "a", "0.1"] == 3
    assert found[0]["x_seconds_bucket", "a", "1"] == 4
    assert found[0]["x_seconds_bucket", "a", "+Inf"] == found[0]["x_seconds_count", "a"] == 5
    assert found[0]["x_seconds_sum", "a"] == pytest.approx(7.55)
    assert found[0]["x_seconds_count", "b"] == 0


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_logs_to_a_full_disk_end_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that stderr does not take is lost, and the process goes on."""
    monkeypatch.setattr(sys, "stderr", Full())
    telemetry.configure_logging(Settings())
    try:
        telemetry.logger().warning("ingest.example", partition=1)
    finally:
        structlog.reset_defaults()


def test_the_statistics_file_on_a_full_disk_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a first write has shown that the path is right, failures are logged once each time, and the next write that
    succeeds replaces the file.
    """
    path = tmp_path / "stats.json"
    held = Stats(path)
    held.write(dict, force=True)
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            with monkeypatch.context() as disk:
                disk.setattr(stats, "write_atomic", fail)
                held.write(dict, force=True)
                held.write(dict, force=True)
            assert path.read_bytes() == before
            held.write(dict, force=True)
            assert path.read_bytes() != before
            before = path.read_bytes()
    assert [log["event"] for log in logs] == ["ingest.stats_failed"] * 2
    monkeypatch.setattr(stats, "write_atomic", fail)
    with pytest.raises(Unavailable, match=r"stats\.json can't be written: No space left on device"):
        Stats(path).write(dict, force=True)
