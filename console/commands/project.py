"""`sentinel project`: keep the read models up to date, and say where each of them stands."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Annotated

import msgspec
import typer

from console import wiring
from console.gc_tuning import tune_for_reading
from console.log_options import DIRECTORY, Checkpoints
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort
from core.errors import BadInput
from core.log.base import EventLog
from core.partitions import partitions_of
from projections.catalogue import ALL
from projections.engine.base import source_name
from projections.engine.checkpoints import CheckpointStore, current, successor
from projections.engine.runner import Runner, Status


def project(
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    checkpoint_directory: Checkpoints = DIRECTORY,
    follow: Annotated[
        bool, typer.Option("--follow", help="Keep running; a line per source when there is news.")
    ] = False,
    interval_s: Annotated[float, typer.Option(help="With --follow: how often to look.", min=0.1)] = 1.0,
    checkpoint_s: Annotated[float, typer.Option(help="How often to checkpoint.", min=1.0)] = 30.0,
    rebuild: Annotated[list[str] | None, typer.Option(help="Fold this projection from nothing (repeatable).")] = None,
    swap: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Build the next version of this projection beside the current one, compare the two, make it current.",
        ),
    ] = None,
    accept_difference: Annotated[
        bool, typer.Option("--accept-difference", help="With --swap: the new version is meant to tell something else.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fold the log into the read models that `sentinel query` starts from, and checkpoint them.

    Reads the log only: safe beside workers and other queries, kill it at any time. One per checkpoint directory. Exit
    code 1 if a projection is faulted.

    With --swap, both versions are caught up and compared by the hash of their state at every source; only if all are
    equal do readers get the new one, in one step. Else nothing changes and the exit code is 2.
    """
    for name in rebuild or []:
        if all(projection.name != name for projection in ALL):
            raise BadInput(f"there is no projection {name!r}; there are {', '.join(p.name for p in ALL)}")
    if swap is not None and (follow or rebuild):
        raise BadInput("--swap goes with neither --follow nor --rebuild: it catches up, compares and ends")
    if accept_difference and swap is None:
        raise BadInput("--accept-difference goes with --swap NAME")
    s = wiring.settings(config, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix)
    tune_for_reading()
    with closing(wiring.open_log(s)) as log:
        store = CheckpointStore(checkpoint_directory, s.log_prefix)
        if swap is not None:
            _swap(log, store, swap, accept_difference, as_json)
            return
        runner = Runner(log, partitions_of(log), ALL, store, rebuild=rebuild or [])
        found: list[Status] = []
        while not found or follow:
            saved = time.monotonic()
            news = False
            while runner.step():
                news = True
                if time.monotonic() - saved > checkpoint_s:
                    runner.checkpoint()
                    saved = time.monotonic()
            if news or not found:
                runner.checkpoint()
                found = runner.status(int(time.time() * 1000))
                _show(found, as_json)
            if follow:
                time.sleep(interval_s)
    if any(status.condition == "faulted" for status in found):
        raise typer.Exit(1)


def _swap(log: EventLog, store: CheckpointStore, name: str, accept_difference: bool, as_json: bool) -> None:
    """Catch up the current version and the next one side by side, and swap. Raises BadInput if that can't be done."""
    blue, green = current(store, name, ALL), successor(store, name, ALL)
    runner = Runner(log, partitions_of(log), [blue, green], store)
    runner.catch_up()
    equal = runner.digests(blue) == runner.digests(green)
    runner.swap(blue, green, accept_difference=accept_difference)
    if as_json:
        found = {"projection": name, "was": blue.version, "current": green.version, "equal": equal}
        print(msgspec.json.encode(found).decode())
    else:
        print(
            f"{name}: version {green.version} is current, was {blue.version}; states {'equal' if equal else 'differ'}"
        )


def _show(found: list[Status], as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode([msgspec.to_builtins(status) for status in found]).decode(), flush=True)
        return
    for status in found:
        label = f"{status.projection}-{status.version}{'' if status.current else ' (not current)'}"
        line = f"{label:<24} {source_name(status.source):<4} at {status.place:<14} {status.condition:<10}"
        print(f"{line} {status.lag_events:>8,} events, {status.lag_seconds:.1f} s behind  {status.error}", flush=True)
