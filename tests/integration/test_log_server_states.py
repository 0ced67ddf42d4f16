"""A log server that refuses, loads, is a replica, or hands over to one: full memory, restart, role change, failover of
a pair and of a Redis Cluster, under a worker on Apache Kafka (I6, I7).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import worker_harness as h
from tests.builders.command_line import run_command
from tests.builders.network import Network
from tests.integration import outages
from tests.integration.apache_kafka import ApacheKafka
from tests.integration.replicated import ReplicatedCluster, replica_of
from tests.integration.servers import RedisServer
from tests.worker_harness import Stage

PAYMENTS = 4_000
"""More than a worker decides before a fault strikes that is made after the first few hundred."""


@pytest.fixture
def server(needs_redis: None, tmp_path: Path) -> Iterator[RedisServer]:
    """A log server of the test's own. When it is started again, it takes 0.6 ms to load each command of its file."""
    made = RedisServer(tmp_path / "redis", options={"key-load-delay": "600"})
    made.start()
    yield made
    made.kill()


@pytest.fixture
def on(apache_kafka: ApacheKafka, server: RedisServer, tmp_path: Path) -> Stage:
    """A stage on that server, with an archive."""
    return prepared(apache_kafka, server.port, tmp_path)


def prepared(kafka: ApacheKafka, port: int, folder: Path, **changes: object) -> Stage:
    archive = str(folder / "archive")
    on = h.stage(kafka.bootstrap, "127.0.0.1", port, folder, batch_size=20, archive=archive, **changes)
    on.create_topics()
    return on


def decided(on: Stage) -> int:
    with on.log() as log:
        return h.total(on, log)


def test_a_log_server_without_free_memory(
    on: Stage, server: RedisServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under noeviction it refuses every batch (OOM). Worker and doctor name the way out, `sentinel archive --trim`. It
    works: the worker goes on with what was freed, and then with a higher limit.
    """
    monkeypatch.setenv("SENTINEL_ARCHIVE", on.settings.archive)
    records = on.produce(h.synthetic(PAYMENTS))
    with on.worker("worker") as worker, server.client() as admin:
        outages.wait_for_all(on, worker, 500)
        admin.config_set("maxmemory", int(admin.info("memory")["used_memory"]) - 1)
        outages.wait_until_said(worker, "out of memory.*sentinel archive --trim.*ingest.log_unavailable")
        full = decided(on)
        assert full < PAYMENTS
        said = outages.failures(on)
        outages.assert_told(said, "refuses to write: out of memory")
        outages.assert_told(said, "100% of maxmemory is used|10[0-9]% of maxmemory")
        flags = [f"--redis-port={server.port}", f"--log-prefix={on.settings.log_prefix}"]
        assert run_command(monkeypatch, capsys, "archive", *flags, "--hot-hours", "0", "--trim").code == 0
        outages.wait_for_all(on, worker, full + 40)
        admin.config_set("maxmemory", 0)
        outages.wait_for_all(on, worker, PAYMENTS)
        outages.assert_survived(on, worker, records, in_order=False)


def test_a_log_server_that_may_evict(on: Stage, server: RedisServer) -> None:
    """A worker says at its start that the server may throw parts of the log away, and doctor fails on it."""
    with server.client() as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")
    with on.worker("worker") as worker:
        outages.wait_until_said(worker, "maxmemory-policy is allkeys-lru.*noeviction.*ingest.log_server_unsafe")
    outages.assert_told(outages.failures(on), "maxmemory-policy is allkeys-lru: the server may evict parts of the log")


def test_a_log_server_that_loads_its_file(on: Stage, server: RedisServer) -> None:
    """Killed and started again, it answers LOADING to everything for seconds: the worker waits, and doctor says so."""
    with server.client() as admin, admin.pipeline(transaction=False) as more:  # Redis answers every 1,024 commands
        for number in range(10 * 1_024):
            more.set(f"ballast-{number}", number)
        more.execute()
    records = on.produce(h.synthetic(PAYMENTS))
    with on.worker("worker") as worker:
        outages.wait_for_all(on, worker, 500)
        server.kill()
        server.launch()
        outages.wait_until_said(worker, "it is still loading its data")
        outages.assert_told(outages.log_server_failures(on), "it is still loading its data: try again shortly|Timeout")
        outages.wait_for_all(on, worker, PAYMENTS)
        outages.assert_survived(on, worker, records)


def test_a_log_server_that_becomes_a_replica(on: Stage, server: RedisServer, tmp_path: Path) -> None:
    """Its replica is promoted and it follows, as after a failover that clients have not heard of: every write is
    refused (READONLY) until roles are changed back.
    """
    records = on.produce(h.synthetic(PAYMENTS))
    other = replica_of(server, tmp_path / "replica")
    try:
        with on.worker("worker") as worker, server.client() as first, other.client() as second:
            outages.wait_for_all(on, worker, 500)
            second.execute_command("REPLICAOF NO ONE")
            first.execute_command("REPLICAOF", "127.0.0.1", other.port)
            outages.wait_until_said(worker, "a read-only replica: point the settings at the primary.*log_unavailable")
            said = outages.failures(on)
            outages.assert_told(said, "is a replica: it lags behind its primary, and workers can't append")
            outages.assert_told(said, "refuses to write: a read-only replica")
            first.execute_command("REPLICAOF NO ONE")
            second.execute_command("REPLICAOF", "127.0.0.1", server.port)
            outages.wait_for_all(on, worker, PAYMENTS)
            outages.assert_survived(on, worker, records)
    finally:
        other.kill()


def test_a_replica_that_lags_takes_over(apache_kafka: ApacheKafka, server: RedisServer, tmp_path: Path) -> None:
    """The address leads to a replica that lacks the primary's last decisions: they are read from Kafka and decided
    again, to the same bits.
    """
    network = Network("127.0.0.1", server.port)
    on = prepared(apache_kafka, network.port, tmp_path)
    records = on.produce(h.synthetic(PAYMENTS))
    other = replica_of(server, tmp_path / "replica")
    try:
        with on.worker("worker") as worker, other.client() as second:
            outages.wait_for_all(on, worker, 500)
            second.execute_command("REPLICAOF NO ONE")
            outages.wait_for_all(on, worker, 900)
            server.kill()
            assert decided(on.changed(redis_port=other.port)) < 900, "the replica lacks nothing"
            outages.assert_told(outages.log_server_failures(on), f"127.0.0.1:{network.port}")
            network.target = ("127.0.0.1", other.port)
            network.cut()
            outages.wait_until_said(worker, "ingest.partition_reloaded")
            outages.wait_for_all(on, worker, PAYMENTS)
            outages.assert_survived(on, worker, records)
    finally:
        other.kill()
        network.close()


def test_masters_of_a_cluster_that_fail_over(apache_kafka: ApacheKafka, needs_redis: None, tmp_path: Path) -> None:
    """In mid-batch: once in order (CLUSTER FAILOVER), once by kill -9, after which the replica takes over within
    seconds. The killed node comes back as a replica.
    """
    cluster = ReplicatedCluster(tmp_path / "cluster")
    try:
        cluster.start()
        on = prepared(apache_kafka, cluster.port, tmp_path, redis_cluster=True)
        keys = [f"{on.settings.log_prefix}:{{p{partition:02d}}}:seals" for partition in range(on.settings.partitions)]
        masters = [cluster.master_of(key) for key in keys]
        key, victim = next(
            (k, m) for k, m in zip(keys, masters, strict=True) if m not in (masters[0], cluster.nodes[0])
        )
        records = on.produce(h.synthetic(PAYMENTS))
        with on.worker("worker") as worker, cluster.replica_of(masters[0]).client() as replica:
            outages.wait_for_all(on, worker, 400)
            replica.execute_command("CLUSTER FAILOVER")
            outages.wait_for_all(on, worker, 800)
            victim.kill()
            outages.assert_told(outages.log_server_failures(on), "log server.*event log")
            outages.wait_until_said(worker, "ingest.(log|control)_unavailable")
            h.wait_for(lambda: cluster.master_of(key) is not victim, "a new master")
            outages.wait_for_all(on, worker, PAYMENTS)
            victim.start()
            cluster.wait_ok()
            outages.assert_survived(on, worker, records)
    finally:
        cluster.kill()
