"""`sentinel bench pipeline --external` on Apache Kafka and redis-server: all its figures, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.bench import pipeline
from console.bench.pipeline import Plan
from tests.integration.apache_kafka import ApacheKafka
from tests.integration.servers import RedisServer


def test_the_bench_measures_the_floor_and_the_worker_on_external_servers(
    apache_kafka: ApacheKafka, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Latency and CPU of both, the broker's by its port; topics, groups and keys are gone afterwards."""
    monkeypatch.setenv("KAFKA_SERVERS", apache_kafka.bootstrap)
    monkeypatch.setenv("REDIS_PORT", str(redis_server.port))
    result = pipeline.run(Plan(1_000.0, 3.0, first_rate=2_000.0, phases_max=1), external=True)
    summary = result.summary()
    assert result.latency.decided_per_s > 0.5 * result.latency.offered
    for figure in ("latency_p50_ms", "floor_p50_ms", "worker_us_per_tx", "floor_client_us_per_tx"):
        assert 0.0 < summary[figure] < 60_000.0, figure
    for figure in ("log_us_per_tx", "broker_us_per_tx", "floor_log_us_per_tx"):
        assert summary[figure] > 0.0, figure
    assert summary["p99_over_floor"] > 0.0
    assert len(result.phases) in (1, 2)
    topics = apache_kafka.admin().list_topics(timeout=10).topics
    assert [name for name in topics if name.startswith("bench-")] == []
    with redis_server.client() as client:
        assert list(client.scan_iter(match="bench-*")) == []


def test_the_floor_appends_two_entries_a_message(
    apache_kafka: ApacheKafka, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Of a transaction's and of a score's size, for every message of its topic, warm-up included."""
    servers = {"kafka_servers": apache_kafka.bootstrap, "redis_port": redis_server.port}
    settings = pipeline.named("floor-test", tmp_path, servers)
    measured = pipeline.measure_floor(settings, tmp_path, Plan(1_000.0, 2.0))
    assert measured is not None
    sent = 2_000 * 2 + 1_000 * 2
    with redis_server.client() as client:
        for stream, size in (("transactions", 260), ("scores", 360)):
            keys = list(client.scan_iter(match=f"floor-test:p*:{stream}"))
            assert sum(client.xlen(key) for key in keys) == sent
            (entry,) = client.xrange(keys[0], count=1)
            assert len(entry[1][b"e"]) == size
    pipeline._remove(settings)
