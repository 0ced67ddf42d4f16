"""Fixtures that several test folders share: the local servers, and the event log's implementations.

`event_log` runs a test on every implementation, `redis_backend` on every Redis. Both take more from the environment:
SENTINEL_TEST_REDIS=host:port and SENTINEL_TEST_REDIS_CLUSTER=host:port. A folder with servers of its own can instead
override `redis_backend` or `event_log` and import the contract's tests (tests/contracts/test_event_log.py).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import fakeredis
import pytest
import redis
from redis.cluster import RedisCluster

from console.stack import Broker, Valkey
from core.log.base import EventLog
from core.log.memory import MemoryLog
from core.log.redis_streams import RedisLog, connect
from core.log.redis_transport import open_client

_prefixes = (f"test-{os.getpid()}-{n}" for n in itertools.count())


@dataclass(frozen=True)
class RedisBackend:
    """A Redis to test on: a way to more clients, a key prefix no other test uses, its address if it has one."""

    client: Callable[[], redis.Redis | RedisCluster]
    prefix: str
    address: tuple[str, int] | None = None
    cluster: bool = False

    def log(self) -> RedisLog:
        """A log on connections of its own; every call gives one more writer of the same log."""
        return RedisLog(self.client(), self.prefix)


def backend_at(host: str, port: int, *, cluster: bool = False) -> RedisBackend:
    """The Redis or Redis Cluster that listens there."""

    return RedisBackend(lambda: open_client(host, port, cluster=cluster), next(_prefixes), (host, port), cluster)


def _fake(request: pytest.FixtureRequest) -> RedisBackend:
    server = fakeredis.FakeServer()
    return RedisBackend(lambda: fakeredis.FakeRedis(server=server), next(_prefixes))


def _valkey(request: pytest.FixtureRequest) -> RedisBackend:
    server: Valkey = request.getfixturevalue("valkey_server")
    return backend_at(server.host, server.port)


def _from_environment(variable: str, cluster: bool) -> Callable[[pytest.FixtureRequest], RedisBackend]:
    host, _, port = os.environ[variable].rpartition(":")
    return lambda request: backend_at(host, int(port), cluster=cluster)


REDIS_BACKENDS: dict[str, Callable[[pytest.FixtureRequest], RedisBackend]] = {"fakeredis": _fake, "valkey": _valkey}
for _name, _variable in (("redis", "SENTINEL_TEST_REDIS"), ("cluster", "SENTINEL_TEST_REDIS_CLUSTER")):
    if _variable in os.environ:
        REDIS_BACKENDS[_name] = _from_environment(_variable, _name == "cluster")


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A running Valkey with appendfsync always, shared by all tests: use keys of your own, and do not stop it."""
    with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A running Kafka-compatible broker, shared by all tests: use topics of your own, and do not stop it."""
    with Broker(directory=tmp_path_factory.mktemp("broker")) as server:
        yield server


@pytest.fixture
def redis_prefix() -> str:
    """A key prefix of this test alone."""
    return next(_prefixes)


@pytest.fixture
def redis_log(valkey_server: Valkey, redis_prefix: str) -> Iterator[RedisLog]:
    """An empty event log on Valkey, under `redis_prefix`."""
    log = connect(valkey_server.host, valkey_server.port, prefix=redis_prefix)
    yield log
    log.close()


@pytest.fixture(params=list(REDIS_BACKENDS))
def redis_backend(request: pytest.FixtureRequest) -> RedisBackend:
    """Every Redis in turn, without keys under its prefix."""
    return REDIS_BACKENDS[request.param](request)


@pytest.fixture(params=["memory", *REDIS_BACKENDS])
def event_log(request: pytest.FixtureRequest) -> Iterator[EventLog]:
    """Every implementation of the event log in turn, empty."""
    log: EventLog = MemoryLog() if request.param == "memory" else REDIS_BACKENDS[request.param](request).log()
    yield log
    log.close()
