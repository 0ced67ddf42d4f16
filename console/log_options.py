"""Options between a command and its subcommand (`sentinel query --redis-port 6380 stats`): which log and checkpoints to
use. Opens them for the subcommand.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from console import wiring
from console.gc_tuning import tune_for_reading
from console.options import Config, LogPrefix, RedisHost, RedisPort
from console.terminal import console
from core import control_stream
from core.log.base import EventLog
from core.settings import Settings
from ingest.protecting import Protection
from projections.catalogue import ALL
from projections.engine.checkpoints import CheckpointStore
from projections.engine.states import States, open_states

DIRECTORY = Path(".sentinel/projections")
Checkpoints = Annotated[
    Path, typer.Option("--checkpoint-directory", help="Checkpoint directory of `sentinel project`; may be missing.")
]
AsOf = Annotated[
    str | None,
    typer.Option("--as-of", help="A time (2026-03-01T12:00Z), p07:1-533, c12, or the as_of of an earlier answer."),
]


@dataclass(frozen=True)
class LogOptions:
    """The options as given."""

    config: Path | None
    redis_host: str | None
    redis_port: int | None
    log_prefix: str | None
    directory: Path


def options(
    context: typer.Context,
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    checkpoint_directory: Checkpoints = DIRECTORY,
) -> None:
    """Options that name the log come before the subcommand or after it: `sentinel query --redis-port 6380 stats`."""
    context.obj = LogOptions(config, redis_host, redis_port, log_prefix, checkpoint_directory)


@contextmanager
def opened_log(context: typer.Context) -> Iterator[EventLog]:
    """The requested log; it may be empty."""
    given: LogOptions = context.obj
    with closing(wiring.open_log(_settings(given))) as log:
        yield log


@contextmanager
def opened_states(context: typer.Context, as_of: str | None = None) -> Iterator[States]:
    """The read models of the requested log, as of `as_of` (default: now). Shows a spinner on a terminal. Raises
    BadInput if the log is empty.
    """
    given: LogOptions = context.obj
    tune_for_reading()
    with opened_log(context) as log, _waiting():
        store = CheckpointStore(given.directory, _settings(given).log_prefix)
        yield open_states(log, ALL, store, now_ms=int(time.time() * 1000), as_of=as_of)


def asked(context: typer.Context, log: EventLog, field: str, value: str | None) -> str | None:
    """An identifier that somebody asks for, as the log holds it: a log with tokens knows no raw ones."""
    return asked_of(settings_of(context), log, field, value)


def asked_of(settings: Settings, log: EventLog, field: str, value: str | None) -> str | None:
    """As `asked`, with these settings."""
    return asker(settings, log)(field, value) if value else value


def asker(settings: Settings, log: EventLog) -> Callable[[str, str], str]:
    """`asked` for many values of (field, value): reads the log's identity once."""
    return partial(Protection.of(settings).asked, control_stream.first_identity(log))


def _waiting() -> AbstractContextManager[object]:
    return console(stderr=True).status("folding the log") if sys.stderr.isatty() else nullcontext()


def settings_of(context: typer.Context) -> Settings:
    """The settings that name the requested log."""
    return _settings(context.obj)


def _settings(given: LogOptions) -> Settings:
    return wiring.settings(
        given.config, redis_host=given.redis_host, redis_port=given.redis_port, log_prefix=given.log_prefix
    )
