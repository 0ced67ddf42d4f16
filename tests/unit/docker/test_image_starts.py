"""Every process of docker/compose.yaml starts from the files of the image, on local servers, and ends on SIGTERM."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from console.stack import Broker, Valkey
from core.log.redis_streams import connect
from core.settings import Settings
from ingest import kafka_client
from tests.builders.deployments import Deployed, compose, of_compose
from tests.builders.image_processes import ImageProcess, installed

FILE = "compose.yaml"
MORE = {"console": ["--port", "0"]}
"""What a machine needs that other tests share."""


@pytest.fixture
def place(
    tmp_path: Path, valkey_server: Valkey, broker: Broker, redis_prefix: str
) -> Iterator[dict[str, ImageProcess]]:
    """All processes on servers with topics, none of them started, in one home as on the volume that they share."""
    names = {kind: f"{redis_prefix}-{kind}" for kind in ("transactions", "feedback", "decisions", "rejects")}
    kafka_client.create_topics(Settings(kafka_servers=broker.bootstrap, partitions=2), [*names.values()])
    environment = {
        "KAFKA_SERVERS": broker.bootstrap,
        "REDIS_HOST": valkey_server.host,
        "REDIS_PORT": str(valkey_server.port),
        "SENTINEL_LOG_PREFIX": redis_prefix,
        "CONSUMER_GROUP": redis_prefix,
        "SENTINEL_TRANSACTIONS_TOPIC": names["transactions"],
        "SENTINEL_FEEDBACK_TOPIC": names["feedback"],
        "SENTINEL_DECISIONS_TOPIC": names["decisions"],
        "SENTINEL_DEAD_LETTER_TOPIC": names["rejects"],
    }
    programs = installed(tmp_path / "image")
    made = {each.name: ImageProcess(each, words(each), tmp_path, programs, environment) for each in of_compose(FILE)}
    for name, process in made.items():
        process.log = tmp_path / f"{name}.log"
    yield made


def words(deployed: Deployed) -> list[str]:
    """What the container runs."""
    service = compose(FILE)["services"][deployed.name]
    entrypoint = service.get("entrypoint", ["sentinel"])
    return [*entrypoint, *(str(each) for each in service["command"]), *MORE.get(deployed.name, [])]


def test_every_process_starts_lives_and_ends(
    place: dict[str, ImageProcess], valkey_server: Valkey, redis_prefix: str
) -> None:
    """The worker begins the log; then all others follow it. Each answers /livez, the health check's question, and ends
    by itself on SIGTERM. The archiver's command archives.
    """
    archiver = place.pop("archiver")
    with ExitStack() as running:
        worker = running.enter_context(place.pop("worker"))
        worker.wait("/readyz")
        assert connect(valkey_server.host, valkey_server.port, prefix=redis_prefix).control_head()
        for process in place.values():
            running.enter_context(process)
        for process in place.values():
            process.wait("/livez")
        assert "archived" in archiver.run("archive", "--hot-hours", "0")
        # Those that may be killed at any time are terminated, the others finish what they have begun.
        assert {process.stop() for process in place.values()} <= {0, -signal.SIGTERM}
        assert worker.stop() == 0
