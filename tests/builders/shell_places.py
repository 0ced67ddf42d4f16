"""Where a page's shell blocks run (`tests.builders.shell_pages`): what must be there before its first line.

A page that reads a log gets a copy of one that holds two months of a small synthetic bank, on a log server of its own,
so that no page finds what another one has changed in it. The broker is shared; a page that sends to it has a worker
beside it, in a consumer group of its own, which also decides what pages before it have sent.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from console import wiring
from console.service import Service, wait_for_partitions
from console.stack import Broker, Valkey
from core.settings import Settings, environment_name
from ingest import kafka_client
from tests.builders import shell_pages
from tests.builders.bank import until

PARTITIONS = 2
PAYMENTS = 12_000
STREAM = ["--transactions", str(PAYMENTS), "--days", "60", "--accounts", "150", "--fraud-rate", "0.03"]
"""From 2026-01-05 to 2026-03-06, the time of which the pages speak."""
SEALED = "id,who,amount,time,email\nnewest,a000003,20.00,2026-03-06T23:00:00Z,erika.muster@example.com\n"
"""The newest payment of the log with tokens."""

Needs = Literal["nothing", "log", "servers", "worker", "named", "tokens", "clone"]
"""nothing: a folder. log: the log, and a broker that holds what it was made of. servers: as `log`, but variables name
the servers alone; the page's settings say the rest. worker: a worker, too. named: as `log`, but no variable says where;
the page names the servers. tokens: a log with tokens instead. clone: a folder, and the address of a repository in
REPOSITORY.
"""

PLACES: dict[str, Needs] = {
    "README.md": "named",
    "docs/anchors.md": "log",
    "docs/api.md": "worker",
    "docs/archive.md": "log",
    "docs/audit.md": "log",
    "docs/backup.md": "log",
    "docs/business.md": "worker",
    "docs/capacity.md": "nothing",
    "docs/cases.md": "worker",
    "docs/console.md": "log",
    "docs/datasets.md": "worker",
    "docs/deployment.md": "nothing",
    "docs/development.md": "nothing",
    "docs/doctor.md": "worker",
    "docs/drift.md": "log",
    "docs/experiments.md": "log",
    "docs/feedback.md": "worker",
    "docs/history.md": "log",
    "docs/identity.md": "log",
    "docs/learning.md": "log",
    "docs/partitions.md": "servers",
    "docs/privacy.md": "tokens",
    "docs/programs.md": "worker",
    "docs/proofs.md": "log",
    "docs/queries.md": "log",
    "docs/responders.md": "worker",
    "docs/run.md": "nothing",
    "docs/security.md": "nothing",
    "docs/sql.md": "log",
    "docs/training.md": "log",
    "docs/tutorial.md": "clone",
    "docs/whatif.md": "log",
}
"""What each page with shell blocks needs."""

HOWTO = "docs/howto/"
"""How-tos start and end a stack of their own."""
_ON_PORT_8700 = {"README.md", "docs/api.md", "docs/console.md", "docs/run.md", "docs/tutorial.md"}


def needs(page: Path) -> Needs:
    """What a page needs. Raises KeyError if nobody has said so."""
    name = shell_pages.name_of(page)
    return "nothing" if name.startswith(HOWTO) else PLACES[name]


def is_on_port_8700(name: str) -> bool:
    """Whether a page starts the console at its own port, one page at a time."""
    return name in _ON_PORT_8700 or name.startswith(HOWTO)


class Bank(NamedTuple):
    """A decided log at rest. directory: of its server's data; files: what lay beside the worker (a vault)."""

    settings: Settings
    directory: Path
    files: Path


@contextmanager
def bank(directory: Path, broker: Broker, *, tokens: bool = False) -> Iterator[Bank]:
    """Make the log: send the stream, decide it, and publish its reference tables. The one with tokens has topics of its
    own.
    """
    files = directory / "files"
    files.mkdir(parents=True)
    kind = "tokens." if tokens else ""
    s = wiring.settings(
        None,
        kafka_servers=broker.bootstrap,
        redis_host="127.0.0.1",
        partitions=PARTITIONS,
        consumer_group=f"{kind}maker",
        transactions_topic=f"{kind}transactions",
        feedback_topic=f"{kind}feedback",
        dead_letter_topic=f"{kind}rejects",
    )
    kafka_client.create_topics(s, [s.transactions_topic, s.feedback_topic, s.dead_letter_topic])
    with Valkey(directory / "valkey") as server:
        s = msgspec.structs.replace(s, redis_port=server.port)
        environment = {**os.environ, **variables(s), "PYTHONPATH": str(shell_pages.ROOT)}
        if tokens:
            environment |= {"SENTINEL_TOKENISE": "true", "SENTINEL_SEALED_ATTRIBUTES": "email"}
            (files / "newest.csv").write_text(SEALED)

        def sentinel(*arguments: str) -> None:
            command = [*shell_pages.SENTINEL, *arguments]
            subprocess.run(command, cwd=files, env=environment, check=True, capture_output=True, timeout=300)

        # Before the worker starts: one that keeps up with a stream at full speed takes verdicts before payments.
        sentinel("produce", *STREAM)
        if tokens:
            columns = ["--attributes", "email", "--column", "account_id=who"]
            sentinel("map", "newest.csv", "--write", "newest.toml", *columns)
            sentinel("produce", "--dataset", "custom", "newest.csv", "--mapping", "newest.toml")
        stats = directory / "worker.json"
        log_file = (directory / "worker.log").open("wb")
        worker = subprocess.Popen(
            [*shell_pages.SENTINEL, "ingest", "--stats-file", str(stats)],
            cwd=files,
            env=environment,
            stdout=log_file,
            stderr=subprocess.STDOUT,
        )
        try:
            with closing(wiring.open_log(s)) as log:
                count = PAYMENTS + int(tokens)
                until(lambda: sum(log.length(p, "scores") for p in range(PARTITIONS)) >= count, 300.0)
            sentinel("reference")
        finally:
            worker.terminate()
            worker.wait(60)
            log_file.close()
    yield Bank(s, directory / "valkey", files)


def variables(s: Settings) -> dict[str, str]:
    """The environment that leads to these servers and topics."""
    names = ("kafka_servers", "redis_host", "redis_port", "partitions", "consumer_group")
    topics = ("transactions_topic", "feedback_topic", "dead_letter_topic")
    return {environment_name(name): str(getattr(s, name)) for name in (*names, *topics)}


def run(page: Path, folder: Path, made: Callable[[bool], Bank]) -> str:
    """Run a page in FOLDER, in its place, and return what it said. made: the bank; with tokens if asked for. Raises
    `shell_pages.PageFailed`.
    """
    wanted = needs(page)
    folder.mkdir(parents=True, exist_ok=True)
    if wanted == "nothing":
        return shell_pages.run(page, folder, {})
    if wanted == "clone":
        repository = shell_pages.repository(folder.with_name(folder.name + "-repository"))
        return shell_pages.run(page, folder, {"REPOSITORY": str(repository)})
    origin = made(wanted == "tokens")
    data = folder.with_name(folder.name + "-servers")
    shutil.copytree(origin.directory, data / "valkey")
    shutil.copytree(origin.files, folder, dirs_exist_ok=True)
    with ExitStack() as running:
        server = running.enter_context(Valkey(data / "valkey"))
        s = msgspec.structs.replace(origin.settings, redis_port=server.port, consumer_group=folder.name)
        environment = variables(s) | {"SENTINEL_SNAPSHOT_DIRECTORY": str(data / "snapshots")}
        if wanted == "servers":
            environment = {name: environment[name] for name in ("KAFKA_SERVERS", "REDIS_HOST", "REDIS_PORT")}
        if wanted == "tokens":
            environment["SENTINEL_TOKENISE"] = "true"
        if wanted == "worker":
            stats = data / "worker.json"
            settings = msgspec.structs.replace(s, snapshot_directory=str(data / "worker-snapshots"))
            worker = Service("worker", ["ingest", "--stats-file", str(stats)], settings, data)
            running.enter_context(worker)
            wait_for_partitions(worker, stats, PARTITIONS, 120.0)
        if wanted != "named":
            return shell_pages.run(page, folder, environment)
        named = " ".join(f"{name}={value}" for name, value in environment.items())
        return shell_pages.run(page, folder, {}, named)
