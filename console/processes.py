"""The processes of a system on one machine, as one table: what each runs, what it waits for, and when it is ready.

`sentinel run` supervises them. Folding the read models has no process of its own: the console folds them for its pages
and writes the checkpoints that `sentinel query` starts from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

Ready = Literal["running", "partitions", "http"]
"""running: the process runs. partitions: the worker owns every partition. http: `/readyz` answers 200."""


class Place(NamedTuple):
    """What differs from one machine to the next. directory: of logs and of the worker's statistics."""

    directory: Path
    checkpoints: Path
    users: Path
    host: str
    port: int
    config: Path | None

    @property
    def stats(self) -> Path:
        """The worker's statistics file."""
        return self.directory / "worker.json"

    @property
    def url(self) -> str:
        """The console's address."""
        return f"http://{self.host}:{self.port}"


class Process(NamedTuple):
    """One process. arguments: of `sentinel`; names in braces are those of `Place`. after: is started once these are
    ready. only: with which option; "" for always. serves: whether it answers `/readyz`, `/livez` and `/metrics`.
    """

    name: str
    does: str
    arguments: tuple[str, ...]
    after: tuple[str, ...] = ()
    ready: Ready = "running"
    only: str = ""
    serves: bool = True

    def command(self, place: Place) -> list[str]:
        """The arguments on a machine."""
        named = {**place._asdict(), "stats": place.stats}
        config = [] if place.config is None else ["--config", str(place.config)]
        return [self.arguments[0], *config, *(argument.format(**named) for argument in self.arguments[1:])]


PROCESSES = (
    Process(
        "worker",
        "decides payments",
        ("ingest", "--create-topics", "--stats-file", "{stats}"),
        ready="partitions",
    ),
    Process(
        "console",
        "web console and HTTP API",
        (
            "serve",
            "--host",
            "{host}",
            "--port",
            "{port}",
            "--users",
            "{users}",
            "--checkpoint-directory",
            "{checkpoints}",
        ),
        after=("worker",),
        ready="http",
    ),
    Process(
        "sample",
        "a synthetic bank's customers pay and report",
        ("sample", "--checkpoint-directory", "{checkpoints}"),
        after=("worker",),
        only="sample",
        serves=False,
    ),
    Process("reference", "publishes merchants and devices", ("reference", "--follow"), after=("console",)),
    Process(
        "responders",
        "carry out what alerts recommend",
        ("respond", "--standby", "--checkpoint-directory", "{checkpoints}"),
        after=("console",),
    ),
    Process("loop", "retrains, tests, promotes and rolls back", ("learn", "--follow"), after=("console",)),
)
"""In the order in which they are started; they are stopped in the opposite order, and the worker last."""


def chosen(options: frozenset[str]) -> list[Process]:
    """The processes to run with these options (`Process.only`)."""
    return [process for process in PROCESSES if not process.only or process.only in options]


def metrics_port(process: Process, first: int) -> int:
    """Where a process answers /metrics, /livez and /readyz: the worker at the port of the settings, the others at those
    that follow, in the order of PROCESSES. 0: nowhere, as without a port, or if it does not serve.
    """
    port = first + PROCESSES.index(process)
    return port if first and process.serves and port < 2**16 else 0
