"""`sentinel project`: keeps the read models up to date and reports the lag of each."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Annotated

import msgspec
import typer

from console import profiles, wiring
from console.follower_health import followed, read_models, trouble
from console.following import run_steps
from console.gc_tuning import tune_for_reading
from console.log_options import DIRECTORY, Checkpoints
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort
from core.errors import BadInput
from core.log.base import EventLog
from core.partitions import partitions_of
from ingest.health import BOARD
from projections.catalogue import ALL
from projections.engine.base import source_name
from projections.engine.checkpoints import CheckpointStore, current, successor
from projections.engine.runner import Runner, Status

STATUS_S = 15.0
"""How old what a following projector says of its read models may be while it catches up."""


def project(
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    checkpoint_directory: Checkpoints = DIRECTORY,
    follow: Annotated[
        bool, typer.Option("--follow", help="Keep running; print one line per source after each change.")
    ] = False,
    interval_s: Annotated[float, typer.Option(help="With --follow: polling interval in seconds.", min=0.1)] = 1.0,
    checkpoint_s: Annotated[float, typer.Option(help="Seconds between checkpoints, at least.", min=1.0)] = 30.0,
    rebuild: Annotated[
        list[str] | None, typer.Option(help="Rebuild this projection from the start of the log; may be repeated.")
    ] = None,
    swap: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Build the next version of this projection, compare it with the current one, and make it current.",
        ),
    ] = None,
    accept_difference: Annotated[
        bool, typer.Option("--accept-difference", help="With --swap: make the new version current even if it differs.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fold the log into the read models that `sentinel query` reads, and checkpoint them.

    Only reads the log: safe beside workers and other queries, and safe to kill at any time. Run one per checkpoint
    directory. Exit code 1 if a projection is faulted.

    With --swap, both versions catch up and are compared by the hash of their state at every source. Only if all hashes
    are equal does the new version become current, in one step. Otherwise nothing changes and the exit code is 2.
    """
    for name in rebuild or []:
        if all(projection.name != name for projection in ALL):
            raise BadInput(f"unknown projection {name!r}; choose one of {', '.join(p.name for p in ALL)}")
    if swap is not None and (follow or rebuild):
        raise BadInput("--swap can't be combined with --follow or --rebuild")
    if accept_difference and swap is None:
        raise BadInput("--accept-difference requires --swap NAME")
    s = wiring.settings(config, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix)
    tune_for_reading()
    with closing(profiles.open_log(s, profiles.LOG_ONLY)) as log:
        store = CheckpointStore(checkpoint_directory, s.log_prefix)
        if swap is not None:
            _swap(log, store, swap, accept_difference, as_json)
            return
        runner = Runner(log, partitions_of(log), ALL, store, rebuild=rebuild or [])
        found = runner.status(int(time.time() * 1000))
        looked = time.monotonic()
        health = None
        if follow:
            health = followed(s, log)
            health.check("read models", lambda: trouble(found, s.ready_lag_max))
            BOARD.put("read models", lambda: read_models(found))
        saving, first = Saving(runner, checkpoint_s), True

        def catch_up() -> None:
            nonlocal found, looked, first
            news = False
            while runner.step():
                news = saving.is_due = True
                saving.save()
                if time.monotonic() - looked > STATUS_S:
                    found, looked = runner.status(int(time.time() * 1000)), time.monotonic()
                if health is not None:
                    health.stepped()
            saving.save(at_once=not follow or first)
            if news or first or any(each.lag_events for each in found):
                found, looked = runner.status(int(time.time() * 1000)), time.monotonic()
                _show(found, as_json)
            first = False

        run_steps(catch_up, follow=follow, interval_s=interval_s, health=health)
    if any(status.condition == "faulted" for status in found):
        raise typer.Exit(1)


class Saving:
    """When to checkpoint: after `every_s`, but for at most a tenth of the time, since states may be hundreds of
    megabytes. is_due: something has been folded since the last one.
    """

    def __init__(self, runner: Runner, every_s: float) -> None:
        self._runner, self._every_s = runner, every_s
        self._next = time.monotonic() + every_s
        self.is_due = True

    def save(self, *, at_once: bool = False) -> bool:
        """Checkpoint if it is time; whether it was."""
        began = time.monotonic()
        if not self.is_due or (began < self._next and not at_once):
            return False
        self._runner.checkpoint()
        ended = time.monotonic()
        self._next = ended + max(self._every_s, 9 * (ended - began))
        self.is_due = False
        return True


def _swap(log: EventLog, store: CheckpointStore, name: str, accept_difference: bool, as_json: bool) -> None:
    """Catch up the current and the next version side by side, and swap them. Raises BadInput if they can't be."""
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
            f"{name}: version {green.version} is now current, was {blue.version};"
            f" states {'are equal' if equal else 'differ'}"
        )


def _show(found: list[Status], as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode([msgspec.to_builtins(status) for status in found]).decode(), flush=True)
        return
    for status in found:
        label = f"{status.projection}-{status.version}{'' if status.current else ' (not current)'}"
        line = f"{label:<24} {source_name(status.source):<4} at {status.place:<14} {status.condition:<10}"
        print(f"{line} lag {status.lag_events:>8,} events, {status.lag_seconds:.1f} s  {status.error}", flush=True)
