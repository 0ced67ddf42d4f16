"""`sentinel run`: everything on this machine, in one supervised process tree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console import wiring
from console.commands.serve import UserFileOption
from console.log_options import DIRECTORY
from console.options import Config

DATA = Path(".sentinel/local")


def run(
    sample: Annotated[
        bool, typer.Option("--sample", help="With a living synthetic bank: payments, fraud, and later reports of it.")
    ] = False,
    config: Config = None,
    local: Annotated[
        bool, typer.Option("--local", help="Use servers of its own, although the settings name some.")
    ] = False,
    data: Annotated[Path, typer.Option("--data", help="Directory of the local servers' data, and of all logs.")] = DATA,
    port: Annotated[int, typer.Option(help="Port of the web console and the API.", min=1, max=65_535)] = 8700,
    users: UserFileOption = Path(".sentinel/users.json"),
) -> None:
    """Run everything on this machine: servers, worker, web console and API, responders, the adaptive loop.

    Uses the configured servers if KAFKA_SERVERS and REDIS_HOST are set; otherwise it starts a Valkey server and a
    Kafka-compatible broker of its own, whose data it keeps. Ctrl-C stops everything in order; the same command goes on
    from there. A process that ends by itself is started again.
    """
    s = wiring.settings(config)
    from console import run_place, running
    from console.processes import Place

    directory = data.resolve()
    with run_place.only_run(directory):
        run_place.check_port(run_place.LOOPBACK, port)
        servers = run_place.servers_of(s, directory, local=local)
        checkpoints = DIRECTORY.resolve() if servers.stack is None else directory / "projections"
        place = Place(directory, checkpoints, users.resolve(), run_place.LOOPBACK, port, config)
        running.run(servers, place, frozenset(["sample"] if sample else []))
