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


Sample = Annotated[
    bool, typer.Option("--sample", help="With a living synthetic bank: payments, fraud, and later reports of it.")
]
Local = Annotated[bool, typer.Option("--local", help="Use servers of its own, although the settings name some.")]
Port = Annotated[int, typer.Option(help="Port of the web console and the API.", min=1, max=65_535)]


def run(
    sample: Sample = False,
    config: Config = None,
    local: Local = False,
    data: Annotated[Path, typer.Option("--data", help="Directory of the local servers' data, and of all logs.")] = DATA,
    port: Port = 8700,
    users: UserFileOption = Path(".sentinel/users.json"),
    held_lock: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run everything on this machine: servers, worker, web console and API, responders, the adaptive loop.

    Uses the configured servers if KAFKA_SERVERS and REDIS_HOST are set; otherwise it starts a Valkey server and a
    Kafka-compatible broker of its own, whose data it keeps. Ctrl-C stops everything in order; the same command goes on
    from there. A process that ends by itself is started again. `sentinel up` does the same in the background.
    """
    s = wiring.settings(config)
    from console import background, run_folder, run_place, running
    from console.processes import Place

    directory = data.resolve()
    is_up = held_lock is not None  # `sentinel up` started this process, with the lock that it holds
    say = background.say_with_time if is_up else running.say
    with run_folder.only_run(directory, held_lock):
        if left := run_folder.end_left_over(directory):
            say(f"ended what a killed run had left: {', '.join(left)}")
        run_place.check_port(run_place.LOOPBACK, port)
        servers = run_place.servers_of(s, directory, local=local)
        checkpoints = DIRECTORY.resolve() if servers.stack is None else directory / "projections"
        place = Place(directory, checkpoints, users.resolve(), run_place.LOOPBACK, port, config)
        closing = running.IN_BACKGROUND if is_up else running.IN_TERMINAL
        running.run(servers, place, frozenset(["sample"] if sample else []), say, closing)
