"""Programs as the command line names them: a file, `name@version`, the first digits of a SHA-256, or `default`."""

from __future__ import annotations

from os.path import isfile
from pathlib import Path
from typing import Annotated

import typer

from core import control_stream
from core.errors import BadInput
from core.log.base import EventLog
from core.program import document, loading
from core.program.document import Program
from core.program.loading import Loaded
from core.program.problems import DocumentError
from learners.governance import programs as acts
from projections.views.programs import ProgramRegistry, find, programs_of

Which = Annotated[
    str, typer.Argument(metavar="PROGRAM", help="A file, name@version, digits of the SHA-256, or default.")
]


def registry_of(log: EventLog) -> ProgramRegistry:
    return programs_of(control_stream.history(log))


def program_named(log: EventLog, registry: ProgramRegistry, name: str) -> Program:
    """The program of a file, or a registered one."""
    if isfile(name):  # unlike Path.is_file, also for a name that is too long for a file
        return checked_file(Path(name)).program
    if name.endswith(".toml"):
        raise BadInput(f"can't read {name}: there is no such file")
    return stored_program(log, registry, find(registry, name))


def stored_program(log: EventLog, registry: ProgramRegistry, digest: str) -> Program:
    """A registered program; "" is the log's default."""
    if not digest:
        return loading.load(registry.default, log.get_blob).program
    return acts.stored(log, digest)


def checked_file(file: Path) -> Loaded:
    try:
        return loading.check(file_bytes(file))
    except DocumentError as error:
        raise BadInput(f"{file}: {error}") from None


def file_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(document.BYTES_MAX + 1)
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}") from None
