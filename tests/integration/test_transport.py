"""TLS, client certificates, users and SCRAM on real servers: what works, and what each mistake is told as."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from console import wiring
from core.errors import Unavailable
from core.settings import Settings
from ingest import kafka_client
from tests.integration.secured_servers import Authority, SecuredKafka, SecuredRedis, password
from tests.integration.servers import RedisServer

USER = "user ann on ~* +@all"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("transport")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder / "authority")


@pytest.fixture(scope="module")
def stranger(folder: Path) -> Authority:
    """An authority that no server knows."""
    return Authority(folder / "stranger", "stranger")


@pytest.fixture(scope="module")
def redis_of_users(needs_redis: None, folder: Path, authority: Authority) -> Iterator[SecuredRedis]:
    server = SecuredRedis(folder / "redis", authority, [USER])
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def redis_of_certificates(needs_redis: None, folder: Path, authority: Authority) -> Iterator[SecuredRedis]:
    server = SecuredRedis(folder / "mtls", authority, [USER], asks_clients=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def kafka(needs_kafka: None, folder: Path, authority: Authority) -> Iterator[SecuredKafka]:
    server = SecuredKafka(folder / "kafka", authority, ["ann"])
    server.start()
    server.create_topic("transactions", 2)
    server.allow("ann", "topic", "transactions", "describe")
    yield server
    server.stop()


def log_settings(server: RedisServer, authority: Authority, **changes: Any) -> dict[str, Any]:
    """The settings that are right, with changes."""
    path = authority.folder / "ann.password"
    path.write_text(password("ann"))
    path.chmod(0o600)
    right = {
        "redis_host": "127.0.0.1",
        "redis_port": server.port,
        "redis_tls": True,
        "redis_ca_file": str(authority.ca_file),
        "redis_username": "ann",
        "redis_password_file": str(path),
    }
    return {**right, **changes}


def refusal(given: dict[str, Any]) -> str:
    """The one line with which every command would end."""
    s = wiring.settings(None, **given)
    with pytest.raises(Unavailable) as caught:
        wiring.open_hot(s)
    assert "\n" not in str(caught.value) and "-secret" not in str(caught.value)
    return str(caught.value)


def test_a_user_by_tls(redis_of_users: SecuredRedis, authority: Authority) -> None:
    """The log works as on a plain server."""
    with closing(wiring.open_hot(wiring.settings(None, **log_settings(redis_of_users, authority)))) as log:
        assert log.append_control([b"x"], 0) == 1
        assert log.read_control() == [(1, b"x")]


def test_a_client_certificate(redis_of_certificates: SecuredRedis, authority: Authority, stranger: Authority) -> None:
    """With one of the authority it works; without one, or with another's, the settings are named."""
    given = log_settings(redis_of_certificates, authority)
    for issuer, works in ((authority, True), (stranger, False), (None, False)):
        pair = issuer.issue("client") if issuer is not None else ("", "")
        mine = {**given, "redis_certificate_file": str(pair[0]), "redis_key_file": str(pair[1])}
        if works:
            with closing(wiring.open_hot(wiring.settings(None, **mine))) as log:
                assert log.control_head() == 0
        else:
            assert "check redis_certificate_file and redis_key_file" in refusal(mine)


def test_mistakes_name_their_setting(
    redis_of_users: SecuredRedis, authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    """A wrong password, an unknown authority, no TLS."""
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong")
    wrong.chmod(0o600)
    given = log_settings(redis_of_users, authority)
    assert "check redis_username and redis_password_file" in refusal({**given, "redis_password_file": str(wrong)})
    assert "check redis_ca_file" in refusal({**given, "redis_ca_file": str(stranger.ca_file)})
    assert "check redis_ca_file" in refusal({**given, "redis_ca_file": ""})
    assert "set redis_tls = true" in refusal({**given, "redis_tls": False, "redis_ca_file": ""})


def test_a_certificate_for_another_name(needs_redis: None, folder: Path, authority: Authority) -> None:
    """The name is verified, whoever signed it."""
    certificate = authority.issue("elsewhere", "DNS:elsewhere.example")
    server = SecuredRedis(folder / "elsewhere", authority, [USER], server=certificate)
    server.is_ready = lambda: b"Ready to accept" in server.log_path.read_bytes()  # type: ignore[method-assign]
    server.start()
    try:
        assert "its certificate is for another name: check redis_host" in refusal(log_settings(server, authority))
    finally:
        server.stop()


def test_tls_against_a_server_without_it(redis_server: RedisServer, authority: Authority) -> None:
    """It is asked whether the server speaks TLS at all."""
    assert "check redis_tls and redis_port" in refusal(log_settings(redis_server, authority))


def kafka_settings(server: SecuredKafka, authority: Authority, **changes: Any) -> Settings:
    path = authority.folder / "ann.password"
    path.write_text(password("ann"))
    path.chmod(0o600)
    right = {
        "kafka_servers": server.bootstrap,
        "kafka_tls": True,
        "kafka_ca_file": str(authority.ca_file),
        "kafka_sasl": "SCRAM-SHA-512",
        "kafka_username": "ann",
        "kafka_password_file": str(path),
    }
    return wiring.settings(None, **{**right, **changes})


def kafka_refusal(s: Settings) -> str:
    with pytest.raises(Unavailable) as caught:
        kafka_client.describe(s, ["transactions"])
    assert "\n" not in str(caught.value) and "-secret" not in str(caught.value)
    return str(caught.value)


def test_scram_by_tls(kafka: SecuredKafka, authority: Authority) -> None:
    """The user sees the topics that it may describe."""
    found = kafka_client.describe(kafka_settings(kafka, authority), ["transactions"])["transactions"]
    assert found is not None and found.partitions == 2


def test_kafka_mistakes_name_their_setting(
    kafka: SecuredKafka, authority: Authority, stranger: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong password or mechanism, an unknown authority, no login, no TLS, no TLS at that port."""
    monkeypatch.setattr(kafka_client, "ADMIN_TIMEOUT_S", 3.0)
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong")
    wrong.chmod(0o600)

    def said(**changes: Any) -> str:
        return kafka_refusal(kafka_settings(kafka, authority, **changes))

    assert "check kafka_username and kafka_password_file" in said(kafka_password_file=str(wrong))
    assert "kafka_sasl = 'SCRAM-SHA-256'" in said(kafka_sasl="SCRAM-SHA-256")
    assert "check kafka_ca_file" in said(kafka_ca_file=str(stranger.ca_file))
    assert "set kafka_sasl" in said(kafka_sasl="")
    assert "set kafka_tls = true" in said(kafka_sasl="", kafka_tls=False, kafka_ca_file="")
    controller = next(word for word in kafka_lines(kafka) if word.startswith("CONTROLLER://"))
    assert "check kafka_tls and kafka_servers" in said(kafka_servers=controller.removeprefix("CONTROLLER://"))


def kafka_lines(kafka: SecuredKafka) -> list[str]:
    """The listeners of the server's properties."""
    text = (kafka.folder / "server.properties").read_text()
    return [word for line in text.splitlines() if line.startswith("listeners=") for word in line[10:].split(",")]


def test_kafka_asks_for_a_certificate(
    needs_kafka: None, folder: Path, authority: Authority, stranger: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mTLS: with a certificate of the authority it works; without one, or with another's, the settings are named."""
    monkeypatch.setattr(kafka_client, "ADMIN_TIMEOUT_S", 5.0)
    server = SecuredKafka(folder / "mtls-kafka", authority, ["ann"], asks_clients=True)
    server.start()
    try:
        certificate, key = authority.issue("kafka-client")
        mine = {"kafka_certificate_file": str(certificate), "kafka_key_file": str(key)}
        with pytest.raises(Unavailable, match="may not see none"):  # it is let in, and lacks rights to this topic alone
            kafka_client.describe(kafka_settings(server, authority, **mine), ["none"])
        assert "set kafka_certificate_file" in kafka_refusal(kafka_settings(server, authority))
        certificate, key = stranger.issue("kafka-client")
        mine = {"kafka_certificate_file": str(certificate), "kafka_key_file": str(key)}
        assert "kafka_certificate_file" in kafka_refusal(kafka_settings(server, authority, **mine))
    finally:
        server.stop()
