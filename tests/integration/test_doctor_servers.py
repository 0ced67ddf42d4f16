"""`sentinel doctor` on systems that only Apache Kafka and a Redis with TLS can break, and on one that is well there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from console.certificate_findings import certificate_findings
from console.stack import Valkey
from core.settings import Settings
from tests import worker_harness as h
from tests.builders import broken_kafka, broken_setups
from tests.builders.asking_doctor import Doctor, assert_named
from tests.builders.broken_setups import SETUPS, Setup, World
from tests.integration.apache_kafka import ApacheKafka
from tests.integration.secured_servers import Authority, SecuredRedis
from tests.worker_harness import Stage, Threaded

HERE = [each for each in SETUPS if each.servers == "apache"]


@pytest.fixture(scope="module")
def well(apache_kafka: ApacheKafka, valkey_server: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A system with a worker, and topics as docs/history.md wants them."""
    folder = tmp_path_factory.mktemp("well")
    on = h.stage(apache_kafka.bootstrap, valkey_server.host, valkey_server.port, folder, history=False)
    on.create_topics()
    broken_kafka.recommend(on)
    broken_setups.pay(on)
    with Threaded(on), on.log() as log:
        h.wait_for(lambda: h.total(on, log) == 40, "every decision")
        yield on


@pytest.fixture
def world(
    apache_kafka: ApacheKafka, valkey_server: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, well: Stage
) -> World:
    return World(apache_kafka.bootstrap, valkey_server, tmp_path, monkeypatch, well)


@pytest.mark.parametrize("each", HERE, ids=[each.name for each in HERE])
def test_a_broken_system_is_named(
    each: Setup, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fault, its remedy and the exit code; and nothing else is accused."""
    assert_named(each, world, Doctor(monkeypatch, capsys))


def test_nothing_is_said_of_a_system_that_is_well(
    well: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that is found is ok."""
    code, found, _ = Doctor(monkeypatch, capsys)(well)
    assert ([f for f in found if f["status"] != "ok"], code) == ([], 0)


def test_certificates_that_end_soon_are_named(needs_redis: None, tmp_path: Path) -> None:
    """The server's own, the authority's, and this process's, which all end in two days; as of next year, as expired."""
    authority = Authority(tmp_path / "certificates")
    certificate, key = authority.issue("worker")
    server = SecuredRedis(tmp_path / "redis", authority, asks_clients=True)
    server.start()
    try:
        s = Settings(
            redis_host="127.0.0.1",
            redis_port=server.port,
            redis_tls=True,
            redis_ca_file=str(authority.ca_file),
            redis_certificate_file=str(certificate),
            redis_key_file=str(key),
        )
        found = {finding.check: finding for finding in certificate_findings(s)}
    finally:
        server.stop()
    names = ["redis_ca_file", "redis_certificate_file", f"of log server 127.0.0.1:{server.port}"]
    assert list(found) == [f"certificate {name}" for name in names]
    for finding in found.values():
        assert finding.status == "warn"
        assert "expires on" in finding.message and "renew it" in finding.remedy
