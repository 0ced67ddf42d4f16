"""The roles on an Apache Kafka with SASL_SSL, SCRAM and the StandardAuthorizer: each does its work, and no other's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from console.least_rights import KAFKA_ROLES, ROLES, kafka_acls
from console.service import Service
from core.settings import Settings
from ingest import kafka_client
from tests.builders.bank import history
from tests.integration.secured_servers import ROOT_USER, Authority, SecuredKafka, SecuredRedis, password
from tests.integration.test_log_server_rights import LINES

SECONDS = 120.0
REFUSED = ("uthorization failed", "may not", "may the user")


class Place:
    """Both servers with the roles' users, and a folder."""

    def __init__(self, folder: Path, redis: SecuredRedis, kafka: SecuredKafka) -> None:
        self.folder, self.redis, self.kafka = folder, redis, kafka

    def settings(self, kafka_role: str, log_role: str = "admin", **changes: Any) -> Settings:
        """Of a user of one role on Kafka, and another on the log server."""
        common: dict[str, Any] = {
            "kafka_servers": self.kafka.bootstrap,
            "kafka_tls": True,
            "kafka_ca_file": str(self.kafka.authority.ca_file),
            "kafka_sasl": "SCRAM-SHA-512",
            "kafka_username": user_of(kafka_role),
            "kafka_password": password(user_of(kafka_role)),
            "redis_host": "127.0.0.1",
            "redis_port": self.redis.port,
            "redis_tls": True,
            "redis_ca_file": str(self.redis.ca_file),
            "redis_username": user_of(log_role),
            "redis_password": password(user_of(log_role)),
            "partitions": 2,
            "decisions_topic": "decisions",
            "snapshot_directory": str(self.folder / "snapshots"),
        }
        return Settings(**common | changes)

    def run(self, role: str, *arguments: str) -> tuple[int, str]:
        """Run a command to its end as a role on Kafka; (exit code, what it said)."""
        command = Service(f"{arguments[0]}-{role}", [*arguments], self.settings(role), self.folder)
        command.log_path.unlink(missing_ok=True)
        with command:
            code = command.wait(SECONDS)
        said = command.log_path.read_text()
        assert "Traceback" not in said, said
        return code, said


def user_of(role: str) -> str:
    return role if role == ROOT_USER else f"sentinel-{role}"


@pytest.fixture(scope="module")
def place(needs_redis: None, needs_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Servers with topics and rights, and no log yet."""
    folder = tmp_path_factory.mktemp("kafka-rights")
    authority = Authority(folder / "authority")
    redis = SecuredRedis(folder / "redis", authority, [*LINES.values()])
    kafka = SecuredKafka(folder / "kafka", authority, [user_of(role) for role in KAFKA_ROLES])
    redis.start()
    kafka.start()
    try:
        found = Place(folder, redis, kafka)
        s = found.settings(ROOT_USER)
        topics = [s.transactions_topic, s.feedback_topic, s.decisions_topic, s.dead_letter_topic]
        kafka_client.create_topics(s, topics)
        kafka.allow_all({user_of(role): kafka_acls(role, s) for role in KAFKA_ROLES})
        yield found
    finally:
        kafka.stop()
        redis.stop()


def test_the_roles_are_the_same_on_both_servers() -> None:
    """A deployment has one user of each name on both."""
    assert ROLES.keys() == KAFKA_ROLES.keys()


def test_each_role_does_its_work_and_no_others(place: Place) -> None:
    """Payments by `api`, decided by `worker`; a block by `responder`; all others are told that they may not."""
    send = ["produce", *history(300, 30)]
    for role in ("reader", "worker", "responder"):
        code, said = place.run(role, *send)
        assert code != 0 and any(word in said for word in REFUSED), (role, code, said)
    code, said = place.run("api", *send)
    assert code == 0, said
    for role in ("reader", "api", "responder"):
        code, said = place.run(role, "ingest", "--drain")
        assert code != 0 and any(word in said for word in REFUSED), (role, code, said)
    code, said = place.run("worker", "ingest", "--drain")
    assert code == 0 and "300 transactions decided" in said, said
    block = ["block", "a1", "--no-lookup", "--reason", "a trial"]
    for role in ("reader", "worker"):
        code, said = place.run(role, *block)
        assert code != 0 and any(word in said for word in REFUSED), (role, code, said)
    for role in ("responder", "api"):
        code, said = place.run(role, *block)
        assert code == 0, said


@pytest.mark.parametrize(
    ("role", "arguments"), [("responder", ["respond", "--standby"]), ("api", ["serve", "--port", "0"])]
)
def test_processes_run_under_their_role(place: Place, role: str, arguments: list[str]) -> None:
    """They keep running, and nothing is refused."""
    command = Service(f"{arguments[0]}-stays", arguments, place.settings(role), place.folder)
    with command, pytest.raises(Exception, match="did not exit"):
        command.wait(10.0)
    said = command.log_path.read_text()
    assert not any(word in said for word in REFUSED) and "Traceback" not in said, said


def test_doctor_as_admin(place: Place) -> None:
    """It can check topics and groups."""
    _, said = place.run("admin", "doctor")
    assert not any(word in said for word in REFUSED), said
