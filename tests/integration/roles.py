"""The shipped roles on secured servers: an ACL user of each on a Redis, and a SCRAM user of each on an Apache Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from console.least_rights import KAFKA_ROLES, kafka_acls
from console.service import Service
from core.log.redis_streams import RedisLog, connect
from core.settings import Settings
from ingest import kafka_client
from tests.integration.secured_servers import ROOT_USER, Authority, SecuredKafka, SecuredRedis, password

ACL = Path(__file__).parents[2] / "docker" / "acl"
LINES = {path.stem: path.read_text().strip() for path in sorted(ACL.glob("*.acl"))}
"""The shipped ACL files by role."""
SECONDS = 120.0


def user_of(role: str) -> str:
    """The role's user on both servers."""
    return role if role in (ROOT_USER, "nobody") else f"sentinel-{role}"


def opened(server: SecuredRedis, user: str) -> RedisLog:
    """The log under the default prefix, as this user."""
    return connect(
        "127.0.0.1", server.port, username=user, password=password(user), tls=True, ca_file=str(server.ca_file)
    )


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


@contextmanager
def secured(folder: Path) -> Iterator[Place]:
    """Both servers with the roles' users, their rights, and the topics; no log yet. Stops them on leaving."""
    authority = Authority(folder / "authority")
    redis = SecuredRedis(folder / "redis", authority, [*LINES.values()])
    kafka = SecuredKafka(folder / "kafka", authority, [user_of(role) for role in KAFKA_ROLES])
    redis.start()
    try:
        kafka.start()
        found = Place(folder, redis, kafka)
        s = found.settings(ROOT_USER)
        topics = [s.transactions_topic, s.feedback_topic, s.decisions_topic, s.dead_letter_topic]
        kafka_client.create_topics(s, topics)
        kafka.allow_all({user_of(role): kafka_acls(role, s) for role in KAFKA_ROLES})
        yield found
    finally:
        kafka.stop()
        redis.stop()
