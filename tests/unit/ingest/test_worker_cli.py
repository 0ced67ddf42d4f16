"""What a user sees who makes a mistake: one clear line on stderr, the right exit code, soon, and never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from confluent_kafka.admin import AdminClient, NewTopic

from console import cli
from console.stack import Broker, Valkey, free_port
from core.events import SourceGenerationStarted
from core.settings import environment_name
from ingest import kafka_client
from tests import worker_harness as h
from tests.worker_harness import Stage

ROOT = Path(__file__).resolve().parents[3]
WITHIN_S = 15.0


@pytest.fixture
def on(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> Stage:
    return h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, partitions=2)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    stderr: str


Sentinel = Callable[..., Ended]


@pytest.fixture
def sentinel(on: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Sentinel]:
    """Runs `sentinel` on the stage, in its directory. In this process: a start costs a second. A traceback is an
    error.
    """
    names = (
        "kafka_servers",
        "redis_host",
        "redis_port",
        "log_prefix",
        "consumer_group",
        "transactions_topic",
        "feedback_topic",
        "dead_letter_topic",
        "snapshot_directory",
        "session_timeout_ms",
    )
    for name in names:
        monkeypatch.setenv(environment_name(name), str(getattr(on.settings, name)))
    monkeypatch.chdir(on.directory)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def run(*arguments: str, **environment: str) -> Ended:
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setattr(sys, "argv", ["sentinel", *arguments])
        began = time.monotonic()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert time.monotonic() - began < WITHIN_S
        return Ended(int(ended.value.code or 0), capsys.readouterr().err)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)
    structlog.reset_defaults()


def assert_fails(done: Ended, code: int, *words: str) -> None:
    lines = done.stderr.splitlines()
    said = [line for line in lines if line.startswith("sentinel: ")]
    assert len(said) == 1 and lines[-1] == said[0], done.stderr
    assert done.code == code, done
    for word in words:
        assert word in said[0], said[0]


def test_an_error_is_a_line_and_an_exit_code_of_the_process(on: Stage) -> None:
    """As a shell sees it: nothing on stdout, one line on stderr, exit code 4."""
    port = str(free_port())
    done = subprocess.run(
        [sys.executable, "-m", "console.cli", "ingest", "--redis-port", port],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=on.directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (4, "", 1)
    assert done.stderr.startswith("sentinel: ") and port in done.stderr


def test_kafka_that_is_not_there(sentinel: Sentinel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 4, and the address that was tried."""
    assert kafka_client.ADMIN_TIMEOUT_S < WITHIN_S
    monkeypatch.setattr(kafka_client, "ADMIN_TIMEOUT_S", 0.5)
    address = f"127.0.0.1:{free_port()}"
    done = sentinel("ingest", KAFKA_SERVERS=address)
    assert_fails(done, 4, address, "KAFKA_SERVERS")


def test_a_log_server_that_is_not_there(sentinel: Sentinel) -> None:
    """Exit code 4, and the address that was tried."""
    port = str(free_port())
    for command in (["ingest"], ["replay", "--verify"]):
        assert_fails(sentinel(*command, REDIS_PORT=port), 4, port)


def test_a_host_name_that_nobody_knows(sentinel: Sentinel) -> None:
    """Exit code 4, and the name."""
    assert_fails(sentinel("ingest", REDIS_HOST="no-such-host.invalid"), 4, "no-such-host.invalid")


def test_a_wrong_password(sentinel: Sentinel) -> None:
    """Exit code 4: the server refuses the user name or password, which is not printed."""
    done = sentinel("ingest", REDIS_PASSWORD="wrong-secret", REDIS_USERNAME="nobody")
    assert_fails(done, 4, "password")
    assert "wrong-secret" not in done.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REDIS_PORT", "sixty"),
        ("REDIS_PORT", "0"),
        ("FRAUD_THRESHOLD", "1.5"),
        ("FRAUD_THRESHOLD", "nan"),
        ("LOG_LEVEL", "loud"),
        ("SENTINEL_BATCH_SIZE", "0"),
        ("SENTINEL_LINGER_MS", "-1"),
        ("SENTINEL_REDIS_CLUSTER", "perhaps"),
        ("SENTINEL_LOG_PREFIX", "a{b}"),
        ("KAFKA_SERVERS", " "),
    ],
)
def test_a_bad_value_in_the_environment(sentinel: Sentinel, variable: str, value: str) -> None:
    """Exit code 2, and where the value came from."""
    done = sentinel("ingest", **{variable: value})
    assert_fails(done, 2, value.strip())


def test_an_assignment_strategy_that_librdkafka_does_not_know(on: Stage, sentinel: Sentinel) -> None:
    """Exit code 2, and its name."""
    on.create_topics()
    assert_fails(sentinel("ingest", SENTINEL_ASSIGNMENT_STRATEGY="by-horoscope"), 2, "by-horoscope")


def test_a_property_that_librdkafka_does_not_know(on: Stage, sentinel: Sentinel) -> None:
    """Exit code 2, and its name."""
    config = on.directory / "sentinel.toml"
    config.write_text('[kafka]\n"no.such.property" = 1\n')
    assert_fails(sentinel("ingest", "--config", "sentinel.toml"), 2, "no.such.property")


def test_a_file_that_can_not_be_written(on: Stage, sentinel: Sentinel) -> None:
    """A statistics file below what is no folder: exit code 4, and the path."""
    on.create_topics()
    (on.directory / "no").write_bytes(b"a file")
    done = sentinel("ingest", "--drain", "--stats-file", str(on.directory / "no" / "where.json"))
    assert_fails(done, 4, "where.json")


def test_missing_topics(on: Stage, sentinel: Sentinel) -> None:
    """Exit code 2, the topic's name, and what to do."""
    assert_fails(sentinel("ingest"), 2, on.settings.transactions_topic, "--create-topics")


def test_topics_with_different_partition_counts(on: Stage, sentinel: Sentinel) -> None:
    """Exit code 2, with both names and numbers."""
    admin = AdminClient(kafka_client.common(on.settings))
    topics = [NewTopic(on.settings.transactions_topic, 2), NewTopic(on.settings.feedback_topic, 3)]
    for future in admin.create_topics(topics).values():
        future.result(10)
    assert_fails(sentinel("ingest"), 2, "has 2", "has 3", on.settings.feedback_topic)


def test_a_log_of_another_partition_count(on: Stage, sentinel: Sentinel) -> None:
    """Exit code 2: accounts would change partition."""
    on.create_topics()
    topics = kafka_client.describe(on.settings, [on.settings.transactions_topic])
    known = topics[on.settings.transactions_topic]
    assert known is not None
    with on.log() as log:
        h.append_control(
            log,
            SourceGenerationStarted(
                occurred_at=1,
                actor="test",
                topic="transactions",
                topic_name=known.name,
                generation=1,
                topic_id=known.topic_id,
                partitions=5,
            ),
        )
    assert_fails(sentinel("ingest"), 2, "5 partitions", "docs/partitions.md")


def test_an_empty_log_can_not_be_replayed(sentinel: Sentinel) -> None:
    """Exit code 2, and where to look."""
    assert_fails(sentinel("replay", "--verify"), 2, "empty")


def test_a_log_whose_entries_were_changed(on: Stage, sentinel: Sentinel) -> None:
    """A seal that does not decode: exit code 3."""
    on.create_topics()
    on.produce(h.synthetic(50))
    on.drain()
    with on.log() as log:
        head = log.head(0)
        client = log._transport._client  # type: ignore[attr-defined]
        client.execute_command("XADD", log.key(0, "seals"), f"{head.sequence + 1}-1", "e", b"{")  # type: ignore[attr-defined]
    assert_fails(sentinel("ingest", "--drain"), 3, "does not decode")
