"""Session fixtures of the integration suite: one of each real server, shared by all its tests.

A test that kills or empties a server starts its own (`tests.integration.servers`). Without the software a fixture
skips and says what to install; with CI=true in the environment it fails, so that CI cannot hide a missing install.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders import shell_pages
from tests.builders.grouping import Grouped
from tests.integration.apache_kafka import ApacheKafka, missing_for_kafka
from tests.integration.servers import RedisCluster, RedisServer, missing_for_redis
from tests.integration.small_disk import SmallDisk, missing_for_mounts, small_disk


def need(missing: str | None) -> None:
    """Go on if nothing is missing; otherwise skip, or fail under CI=true."""
    if missing is None:
        return
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"CI must run this test: {missing}", pytrace=False)
    pytest.skip(missing)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Grouped:
    """Keep tests that share something in one process."""
    return Grouped(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which shell blocks of the documents were run, and which are not."""
    reports = [each for kind in ("passed", "failed") for each in terminalreporter.stats.get(kind, [])]
    if any("test_shell_blocks.py::test_a_page_runs" in getattr(each, "nodeid", "") for each in reports):
        terminalreporter.write_line(shell_pages.summary())


@pytest.fixture(scope="session")
def needs_kafka() -> None:
    """For tests that start their own Apache Kafka."""
    need(missing_for_kafka())


@pytest.fixture(scope="session")
def needs_redis() -> None:
    """For tests that start their own Redis."""
    need(missing_for_redis())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of 64 MB to fill."""
    trial = tmp_path / "trial"
    trial.mkdir()
    if (forbidden := missing_for_mounts(trial)) is not None:
        pytest.skip(forbidden)  # also in CI: a container may forbid it, and nothing that can be installed helps
    with small_disk(tmp_path / "disk", 64) as made:
        yield made


@pytest.fixture(scope="session")
def apache_kafka(needs_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """A running Apache Kafka; use topics of your own."""
    with ApacheKafka(tmp_path_factory.mktemp("kafka")).started() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(needs_redis: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A running Redis with appendfsync always; use keys of your own."""
    with RedisServer(tmp_path_factory.mktemp("redis")).started() as server:
        yield server


@pytest.fixture(scope="session")
def redis_tls(needs_redis: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A running Redis that speaks only TLS, with a self-signed certificate."""
    with RedisServer(tmp_path_factory.mktemp("redis-tls"), tls=True).started() as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster(needs_redis: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A running Redis Cluster of three masters; use keys of your own."""
    cluster = RedisCluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


@pytest.fixture
def own_kafka(needs_kafka: None, tmp_path: Path) -> Iterator[ApacheKafka]:
    """An Apache Kafka of the test's own, to kill."""
    with ApacheKafka(tmp_path / "kafka").started() as server:
        yield server


@pytest.fixture
def own_redis(needs_redis: None, tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own, to kill."""
    with RedisServer(tmp_path / "redis").started() as server:
        yield server
