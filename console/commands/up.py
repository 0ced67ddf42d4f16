"""`sentinel up`, `down`, `status` and `logs`: everything on this machine, running in the background."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console.commands.run import DATA, Local, Port, Sample
from console.commands.serve import UserFileOption
from console.options import Config, Json

Data = Annotated[Path, typer.Option("--data", help="Directory of the run, as given to `sentinel up`.")]


def up(
    sample: Sample = False,
    config: Config = None,
    local: Local = False,
    data: Data = DATA,
    port: Port = 8700,
    users: UserFileOption = Path(".sentinel/users.json"),
) -> None:
    """Start everything on this machine in the background, as `sentinel run` does in a terminal, and return once it is
    ready. It goes on until `sentinel down`; a process that ends by itself is started again. Does nothing if it is up.
    """
    from console import background
    from console.run_folder import holder, read_state

    folder = data.resolve()
    if holder(folder) is not None:
        state = read_state(folder)
        background.check_sample(state, wanted=sample)
        print(f"it is up already: console at {state.url}" if state else "it is starting already: see sentinel status")
        return
    arguments = ["--data", str(folder), "--port", str(port), "--users", str(users.resolve())]
    arguments += ["--config", str(config.resolve())] if config is not None else []
    arguments += [flag for flag, wanted in (("--sample", sample), ("--local", local)) if wanted]
    try:
        background.up(folder, arguments, lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        print("it goes on starting in the background: sentinel status shows it, sentinel down ends it", flush=True)
        raise


def down(data: Data = DATA) -> None:
    """End what `sentinel up` (or `sentinel run`) started, in order: whoever sends first, then the rest, the servers
    last. All data stays. Does nothing if nothing runs.
    """
    from console import background
    from console.running import shown

    folder = data.resolve()
    if not background.down(folder, lambda line: print(line, flush=True)):
        print(f"nothing runs on {shown(folder)}")


def status(data: Data = DATA, as_json: Json = False) -> None:
    """Show each process of `sentinel up`: state, process ID, since when, restarts, and what it says of itself. Exit
    code 1 unless everything is ready.
    """
    from console.run_status import age_ms
    from console.run_status import status as asked
    from console.running import shown
    from console.tables import print_json, print_table, span_text

    found = asked(data.resolve())
    if as_json:
        print_json(found)
    else:
        where = f"console at {found.url}, for {span_text(age_ms(found.since))}" if found.url else shown(data.resolve())
        print(f"{found.state}: {where}")
        columns = ("name", "state", "pid", "for", "restarts", "health")
        rows = [
            {
                "name": each.name,
                "state": each.state,
                "pid": str(each.pid or ""),
                "for": span_text(age_ms(each.since)),
                "restarts": each.restarts,
                "health": each.health,
            }
            for each in found.processes
        ]
        print_table(columns, rows)
        if found.undecided is not None:
            print(f"messages not decided yet: {found.undecided:,}")
        if found.why:
            print(found.why)
    if found.state != "up":
        raise typer.Exit(1)


def logs(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]…", help="Processes; all, if none is named.")
    ] = None,
    data: Data = DATA,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is added, until Ctrl-C.")] = False,
    count: Annotated[int, typer.Option("-n", "--lines", help="How many lines of each process.", min=0)] = 20,
) -> None:
    """Print the end of the processes' logs. `supervisor` is what `sentinel up` itself says."""
    from console.run_logs import chosen_files, print_logs

    print_logs(chosen_files(data.resolve(), names or []), count, following=follow)
