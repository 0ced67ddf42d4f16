"""Systems that are broken in one way each, and what `sentinel doctor` must say of each: the faults of servers, settings
and this machine. Those of the log are in `broken_logs`. docs/doctor.md prints the table.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import pytest
import redis

from console import identity_keys, place_findings, server_findings
from console.stack import Valkey, free_port
from core.codec import encode
from core.events import Transaction
from ingest import kafka_client
from sources.record import Record
from tests import worker_harness as h
from tests.worker_harness import Stage


@dataclass
class World:
    """Servers for one set-up, and a folder. well: a system on them in which nothing is wrong and a worker runs; whoever
    breaks more than its settings makes one of their own.
    """

    bootstrap: str
    valkey: Valkey
    folder: Path
    patch: pytest.MonkeyPatch
    well: Stage

    def own(self, *, valkey: Valkey | None = None, decided: bool = True, **changes: Any) -> Stage:
        """A system of this set-up alone, without a worker. decided: whether it has decided payments."""
        server = valkey or self.valkey
        on = h.stage(self.bootstrap, server.host, server.port, self.folder, history=False, **changes)
        on.create_topics()
        if decided:
            decide(on)
        return on

    @contextmanager
    def server(self) -> Iterator[tuple[Stage, redis.Redis]]:
        """A system with a log server of its own, on which nothing is decided yet, and a client of that server."""
        with Valkey(self.folder / "own") as server, redis.Redis(port=server.port) as client:
            yield self.own(valkey=server, decided=False), client


def decide(on: Stage, count: int = 40) -> None:
    """Payments of now, each of another account, and a worker that decides them and ends."""
    pay(on, count)
    on.drain()


def pay(on: Stage, count: int = 40) -> None:
    """Payments of now, each of another account."""
    now, first = int(time.time() * 1000), time.time_ns()
    paid = [
        Transaction(transaction_id=f"t{first}-{n}", account_id=f"a{n}", amount=20.0, occurred_at=now)
        for n in range(count)
    ]
    on.produce(Record("transactions", each.account_id, now, encode(each)) for each in paid)


Given = tuple[Stage, str]
"""Settings for doctor, and TOML to add to their file."""


class Setup(NamedTuple):
    """A broken system. name: what is broken, for the table. check, said: patterns of the finding's check and of its
    message and remedy; status "usage": doctor can't begin, and says so with exit code 2. also: pattern of checks that
    may complain beside it, because the same fault is theirs, too. servers: the local stack's, or those of the
    integration suite.
    """

    name: str
    status: Literal["warn", "fail", "usage"]
    check: str
    said: str
    broken: Callable[[World], Any]
    also: str = "nothing"
    servers: Literal["local", "apache"] = "local"


SETUPS: list[Setup] = []
"""All of them, in the order of the table."""


def setup(
    name: str, status: Any, check: str, said: str, also: str = "nothing", servers: Any = "local"
) -> Callable[[Any], Any]:
    """Add a set-up: a generator function that yields what doctor is given while the system is broken."""

    def add(broken: Callable[[World], Iterator[Given]]) -> Callable[[World], Any]:
        made = contextmanager(broken)
        SETUPS.append(Setup(name, status, check, said, made, also, servers))
        return made

    return add


def markdown() -> str:
    """The table of docs/doctor.md."""
    for module in ("broken_logs", "broken_kafka"):
        import_module(f"tests.builders.{module}")  # which adds its own
    rows = ["| no. | broken | said | check |", "|---|---|---|---|"]
    marks = {"warn": "warn", "fail": "FAIL", "usage": "exit 2"}
    rows += [
        f"| {number} | {each.name} | {marks[each.status]} | {_plain(each.check)} |"
        for number, each in enumerate(SETUPS, 1)
    ]
    return "\n".join(rows) + "\n"


def _plain(pattern: str) -> str:
    return pattern.replace(".*", "…").replace("\\", "")


NOBODY = "workers"
"""Said beside a fault of a system without a worker."""


# --- settings ------------------------------------------------------------------------------------------------------


@setup("a misspelt name in the settings file", "usage", "settings", "unknown setting 'archiv'; did you mean archive")
def misspelt_setting(world: World) -> Iterator[Given]:
    yield world.well, 'archiv = "/archive"\n'


@setup(
    "a misspelt environment variable", "warn", "environment", "SENTINEL_ARCHIV is set.*did you mean SENTINEL_ARCHIVE"
)
def misspelt_variable(world: World) -> Iterator[Given]:
    world.patch.setenv("SENTINEL_ARCHIV", "/archive")
    yield world.well, ""


@setup(
    "a plain name for a variable that has a prefix", "warn", "environment", "REDIS_TLS.*did you mean SENTINEL_REDIS_TLS"
)
def plain_variable(world: World) -> Iterator[Given]:
    world.patch.setenv("REDIS_TLS", "true")
    yield world.well, ""


@setup("a threshold set where the log no longer reads it", "warn", "thresholds", "no effect.*sentinel threshold set")
def ignored_setting(world: World) -> Iterator[Given]:
    yield world.well.changed(fraud_threshold=0.5), ""


@setup("another partitioner than the log's", "fail", "partitioner", "SENTINEL_PARTITIONER=murmur2")
def other_partitioner(world: World) -> Iterator[Given]:
    yield world.well.changed(partitioner="crc32"), ""


@setup(
    "production without TLS, identity, tokens and anchors",
    "fail",
    "profile production",
    "reached without TLS.*redis_tls",
    also="archive",
)
def bare_production(world: World) -> Iterator[Given]:
    changed = world.well.changed(environment="production", tokenise=False)
    yield changed, ""


# --- files of this machine -----------------------------------------------------------------------------------------


@setup("a snapshot directory that can't be made", "warn", "snapshots", "not writable.*SENTINEL_SNAPSHOT_DIRECTORY")
def no_snapshots(world: World) -> Iterator[Given]:
    file = world.folder / "file"
    file.touch()
    yield world.well.changed(snapshot_directory=str(file / "snapshots")), ""


@setup("snapshots that everybody can read", "warn", "snapshots", "everybody may look into.*chmod 700")
def open_snapshots(world: World) -> Iterator[Given]:
    folder = world.folder / "shared"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    yield world.well.changed(snapshot_directory=str(folder)), ""


@setup("a private key that others can read", "fail", "log", "identity_key.*chmod 600", also="decisions")
def open_key(world: World) -> Iterator[Given]:
    key = world.folder / "ann.key"
    identity_keys.write(key, identity_keys.new("ann"), {})
    key.chmod(0o644)
    yield world.well.changed(identity_key=str(key)), ""


@setup("a key that is not on the roster", "warn", "identity", "not on the roster.*sentinel identity add")
def unknown_key(world: World) -> Iterator[Given]:
    key = world.folder / "ann.key"
    identity_keys.write(key, identity_keys.new("ann"), {})
    yield world.well.changed(identity_key=str(key)), ""


@setup("a password file that others can read", "usage", "settings", "redis_password_file.*chmod 600")
def open_password(world: World) -> Iterator[Given]:
    file = world.folder / "password"
    file.write_text("secret\n")
    file.chmod(0o644)
    yield world.well.changed(redis_password_file=str(file)), ""


@setup("a disk that is nearly full", "fail", "disk", "0.5 GB free, 1% of it.*free space")
def nearly_full(world: World) -> Iterator[Given]:
    left = SimpleNamespace(disk_usage=lambda place: (50 * 2**30, 49.5 * 2**30, 2**29))
    world.patch.setattr(place_findings, "shutil", left)
    yield world.well, ""


@setup("a metrics port that another program has", "fail", "metrics", "taken by another program.*SENTINEL_METRICS_PORT")
def taken_port(world: World) -> Iterator[Given]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield world.well.changed(metrics_port=taken.getsockname()[1]), ""


# --- the log's server ----------------------------------------------------------------------------------------------


@setup("no log server at the address", "fail", "log server", "refused.*REDIS_HOST")
def no_log_server(world: World) -> Iterator[Given]:
    yield world.well.changed(redis_port=free_port()), ""


@setup("a log server that may evict", "fail", "log server .*", "may evict.*noeviction")
def evicting(world: World) -> Iterator[Given]:
    with world.server() as (on, client):
        client.config_set("maxmemory-policy", "allkeys-lru")
        yield on, ""


@setup("a log server without an append-only file", "fail", "log server .*", "a restart loses the log.*appendonly yes")
def without_file(world: World) -> Iterator[Given]:
    with world.server() as (on, client):
        client.config_set("appendonly", "no")
        yield on, ""


@setup("a log server that syncs once a second", "warn", "log server .*", "appendfsync is everysec.*appendfsync always")
def lazy_sync(world: World) -> Iterator[Given]:
    with world.server() as (on, client):
        client.config_set("appendfsync", "everysec")
        yield on, ""


@setup("a log server whose memory is nearly full", "warn", "log server .*", "of maxmemory is used.*archive --trim")
def nearly_full_memory(world: World) -> Iterator[Given]:
    with world.server() as (on, client):
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.1))
        yield on, ""


@setup("a replica instead of the primary", "fail", "log server .*", "is a replica.*point the settings at the primary")
def replica(world: World) -> Iterator[Given]:
    with world.server() as (on, client):
        client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
        yield on, ""


@setup(
    "a user of the log server without the rights",
    "fail",
    "log server permissions",
    "no permission to run.*XADD",
    also="log server .*",
)
def few_rights(world: World) -> Iterator[Given]:
    with world.server() as (on, client):
        rights = "on >secret ~* +@connection +xrange +xrevrange +exists +get +xinfo|stream +xlen"
        client.execute_command("ACL", "SETUSER", "reader", *rights.split())
        yield on.changed(redis_username="reader", redis_password="secret"), ""


@setup("clocks that are two hours apart", "fail", "log server .*", "its clock is 2 h ahead of.*NTP")
def wrong_clock(world: World) -> Iterator[Given]:
    behind = SimpleNamespace(time=lambda: time.time() - 7200.0)
    world.patch.setattr(server_findings, "time", behind)
    yield world.well, ""


# --- Kafka ---------------------------------------------------------------------------------------------------------


@setup("no broker at the address", "fail", "kafka", "can't be reached.*set KAFKA_SERVERS")
def no_broker(world: World) -> Iterator[Given]:
    yield world.well.changed(kafka_servers=f"127.0.0.1:{free_port()}"), ""


@setup("a broker that does not speak TLS", "fail", "kafka", "can't be reached.*check kafka_tls")
def plain_broker(world: World) -> Iterator[Given]:
    yield world.well.changed(kafka_tls=True), ""


@setup("a topic that does not exist", "fail", "topic .*", "missing \\(feedback\\).*--create-topics")
def missing_topic(world: World) -> Iterator[Given]:
    yield world.well.changed(feedback_topic="nowhere"), ""


@setup(
    "two topics with different numbers of partitions",
    "fail",
    "co-partitioning",
    "has 4 partitions,.*has 2.*same number",
    also="log",
)
def uneven_topics(world: World) -> Iterator[Given]:
    on = h.stage(world.bootstrap, world.valkey.host, world.valkey.port, world.folder, history=False)
    s = on.settings
    kafka_client.create_topics(s, [s.transactions_topic, s.dead_letter_topic])
    kafka_client.create_topics(on.changed(partitions=2).settings, [s.feedback_topic])
    yield on, ""


@setup(
    "a topic with other partitions than the log's",
    "fail",
    "topic .*",
    "has 3 partitions, the log has 4.*new topics and a new log",
    also=f"backlog|{NOBODY}",
)
def grown_topic(world: World) -> Iterator[Given]:
    on = world.own()
    other = on.changed(
        transactions_topic=f"{on.settings.transactions_topic}.grown",
        feedback_topic=f"{on.settings.feedback_topic}.grown",
    )
    other.changed(partitions=3).create_topics()
    yield other, ""
