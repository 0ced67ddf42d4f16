"""Ctrl-C on whatever runs on: one line and exit code 130, or, of a service, a clean end; never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from console.stack import Broker, Valkey
from core.context import Resolver
from core.log.redis_streams import connect
from core.settings import Settings, environment_name
from ingest import kafka_client
from ingest.offline import OfflineIngest
from tests.builders.logs import records
from tests.builders.models import load_tiny

ROOT = Path(__file__).resolve().parents[3]
START_S, END_S = 180.0, 120.0
CROSS = "scores a, scores b, scores c, scores d, scores e, scores f"
FOLLOWING = {
    "alerts": ["alerts", "all", "--follow"],
    "project": ["project", "--follow"],
    "drift": ["drift", "--follow"],
    "learn": ["learn", "--follow"],
    "reference": ["reference", "--follow"],
    "anchor": ["anchor", "--follow", "--key", "notary.key", "--directory", "anchors"],
    "sql": ["sql", f"select sum(a.margin + b.margin + c.margin + d.margin) from {CROSS}"],
}
"""Of the log alone; ended by Ctrl-C with exit code 130."""
SERVICES = {
    "respond": ["respond", "--dry-run"],
    "serve": ["serve", "--port", "0"],
    "sample": ["sample"],
}
"""Asked to stop, they do, with exit code 0. `ingest` is in tests/unit/ingest/test_worker_cli.py."""


class Servers(NamedTuple):
    """A decided log in Valkey, a broker, and the environment that names both."""

    client: redis.Redis
    directory: Path
    environment: dict[str, str]


@pytest.fixture(scope="module")
def servers(valkey_server: Valkey, broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A log of two partitions, and its topics."""
    folder = tmp_path_factory.mktemp("interrupted")
    settings = Settings(
        kafka_servers=broker.bootstrap,
        redis_host=valkey_server.host,
        redis_port=valkey_server.port,
        log_prefix="interrupted",
        transactions_topic="interrupted.transactions",
        feedback_topic="interrupted.feedback",
        dead_letter_topic="interrupted.rejects",
        consumer_group="interrupted",
        partitions=2,
    )
    names = ("kafka_servers", "redis_host", "redis_port", "log_prefix", "transactions_topic", "feedback_topic")
    names += ("dead_letter_topic", "consumer_group", "partitions")
    named = {environment_name(name): str(getattr(settings, name)) for name in names}
    kafka_client.create_topics(
        settings, [settings.transactions_topic, settings.feedback_topic, settings.dead_letter_topic]
    )
    log = connect(valkey_server.host, valkey_server.port, prefix="interrupted")
    offline = OfflineIngest(log, Resolver(log.get_blob, load_tiny), partitions=2)
    offline.feed(records(3, 600))
    offline.flush()
    log.close()
    client = redis.Redis(valkey_server.host, valkey_server.port)
    yield Servers(client, folder, {**os.environ, **named, "PYTHONPATH": str(ROOT)})
    client.close()


def interrupted(servers: Servers, arguments: list[str]) -> tuple[int, str]:
    """Start the command, press Ctrl-C once it reads the log; its exit code and what it wrote on stderr."""
    before = {each["id"] for each in servers.client.client_list()}
    process = subprocess.Popen(
        [sys.executable, "-m", "console.cli", *arguments],
        cwd=servers.directory,
        env=servers.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    try:
        deadline = time.monotonic() + START_S
        while not {each["id"] for each in servers.client.client_list()} - before:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "it does not read the log"
            time.sleep(0.05)
        time.sleep(2.0)
        assert process.poll() is None, process.communicate()[1]
        process.send_signal(signal.SIGINT)
        return process.wait(END_S), process.communicate()[1]
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("command", FOLLOWING)
def test_what_follows_ends_in_one_line(command: str, servers: Servers) -> None:
    """Exit code 130, and the last line says why."""
    if command == "anchor" and not (servers.directory / "notary.key").exists():
        new = [sys.executable, "-m", "console.cli", "anchor", "--new-key", "notary.key"]
        subprocess.run(
            new, cwd=servers.directory, env=servers.environment, check=True, timeout=120, capture_output=True
        )
    code, said = interrupted(servers, FOLLOWING[command])
    assert (code, said.splitlines()[-1:]) == (130, ["sentinel: interrupted"]), said
    assert "Traceback" not in said and "Exception" not in said


def test_produce_ends_in_one_line_that_says_how_to_go_on(servers: Servers) -> None:
    """What was sent is delivered; the same command sends the rest."""
    code, said = interrupted(servers, ["produce", "--tps", "20", "--duration", "600"])
    assert code == 130 and said == "sentinel: interrupted; the same command with --resume sends the rest\n"


@pytest.mark.parametrize("command", SERVICES)
def test_a_service_ends_cleanly(command: str, servers: Servers) -> None:
    """As at SIGTERM: it finishes what it has begun. One that has not begun yet, on a busy machine, is interrupted."""
    code, said = interrupted(servers, SERVICES[command])
    assert code == 0 or (code, said.splitlines()[-1:]) == (130, ["sentinel: interrupted"]), said
    assert "Traceback" not in said and "Exception" not in said
