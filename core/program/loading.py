"""From bytes to a program that can decide: an author's TOML, or a blob of the log. Pure.

check       TOML → Loaded; every fault with its place                      people: check, fmt, propose
load        a digest → Loaded, by the log's blob or the shipped default     workers, replay, audit
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from core.errors import BadInput, Corrupt
from core.program import document
from core.program.checked import CheckedProgram
from core.program.document import Program
from core.program.document_reading import checked_again, read
from core.program.document_writing import tables
from core.program.library import default_program, digest_of, kernel, libraries_of
from core.program.plan import layout, layouts
from core.program.problems import PROBLEMS_MAX, DocumentError, Path, Problem
from core.program.resolving import resolve
from core.program.shipped import DEFAULT_PROGRAM


class Loaded(NamedTuple):
    """A document in canonical form, and what it means."""

    program: Program
    checked: CheckedProgram

    @property
    def digest(self) -> str:
        """Its identity."""
        return self.checked.digest


ACCOUNT_BYTES_MAX = 65_536
"""Of the state of a program's aggregates for each account; the kernel's is 4.5 kB. Part of what loads."""


class _TooMany(Exception):
    """PROBLEMS_MAX problems were found."""


def check(content: bytes) -> Loaded:
    """The program of a TOML document. Raises DocumentError with every problem found, in the order of the file."""
    given, places = read(content, digest_of)
    problems: list[Problem] = []

    def report(path: Path, message: str, at: tuple[int, int]) -> None:
        full = (*path, "value") if path[0] == "features" and (*path, "value") in places else path
        problems.append(Problem(message, path, places.line_of(full, at[0] or 1), at))
        if len(problems) >= PROBLEMS_MAX:
            raise _TooMany

    try:
        found = resolve(given, libraries_of(given), report)
        if not problems and (fault := _too_large(found.checked)):
            report(("features", fault.feature), fault.words, (0, 0))
    except _TooMany:
        found = None
    if problems or found is None:
        raise DocumentError(sorted(problems, key=lambda each: each.line))  # stable
    return Loaded(found.program, found.checked)


def load(digest: str, load_blob: Callable[[str], bytes]) -> Loaded:
    """The program of this identity, with the libraries that the log stores; "" is the shipped default. Raises BadInput
    or Corrupt if a blob is missing, is not the canonical form of a valid program or library, or needs another engine.
    """
    if digest in ("", DEFAULT_PROGRAM):
        return default()
    found = of_program(read_blob(load_blob(digest), digest), load_blob)
    if found.digest != digest:
        raise Corrupt(f"{found.program.label} is not in canonical form: its identity is {found.digest[:16]}")
    return found


def read_blob(content: bytes, digest: str) -> Program:
    """The document of a blob. Raises Corrupt if its SHA-256 is another, or it is no program's canonical form."""
    if hashlib.sha256(content).hexdigest() != digest:
        raise Corrupt(f"the stored program is not the one registered as {digest[:16]}")
    return document.decode(content)


@cache
def default() -> Loaded:
    """The program of a log without any deployment."""
    return of_program(default_program())


def of_program(program: Program, load_blob: Callable[[str], bytes] | None = None) -> Loaded:
    """A decoded document, checked again. load_blob: of the log whose libraries it uses; without it, only shipped ones.
    Raises Corrupt if it is invalid, its expressions are written differently, or a library is not to be had.
    """
    problems = checked_again(program, tables(program))
    if problems:
        raise Corrupt(f"{program.label} is not valid: {problems[0]}")
    try:
        libraries = libraries_of(program, load_blob)
    except BadInput as error:
        raise Corrupt(f"{program.label}: {error}") from None

    def report(path: Path, message: str, at: tuple[int, int]) -> None:
        problems.append(Problem(message, path, 0, at))

    found = resolve(program, libraries, report)
    if problems:
        raise Corrupt(f"{program.label} is not valid: {problems[0]}")
    if fault := _too_large(found.checked):
        raise Corrupt(f"{program.label} is not valid: {fault.words}")
    if found.program != program:
        raise Corrupt(f"{program.label} is not in canonical form: an expression is written differently")
    return Loaded(found.program, found.checked)


class _TooLarge(NamedTuple):
    feature: str
    words: str


class Size(NamedTuple):
    """Bytes of state for each account that a program's aggregates need, beside the kernel's; and the feature that alone
    needs most of them, with its bytes: "" and 0 if none needs any.
    """

    account_bytes: int
    costliest: str
    costliest_bytes: int


def size_of(program: CheckedProgram) -> Size:
    """What a program's state takes."""
    together = layout(program, kernel())
    alone = {name: each.bytes_account for name, each in layouts(program, kernel()).items() if each.aggregates}
    most = max(alone, key=lambda name: alone[name], default="")
    return Size(together.bytes_account if alone else 0, most, alone.get(most, 0))


def _too_large(program: CheckedProgram) -> _TooLarge | None:
    """Whether a program needs too much state: the feature that alone needs most, and what is wrong."""
    if layout(program, kernel()).bytes_account <= ACCOUNT_BYTES_MAX:
        return None
    needed, most, alone = size_of(program)
    return _TooLarge(
        most,
        f"the aggregates of all features need {needed:,} bytes for each account; {ACCOUNT_BYTES_MAX:,} are allowed."
        f" {most} alone needs {alone:,}. Leave features out, let several use the same window and condition,"
        " choose windows of fewer buckets (docs/language.md), or aggregate over account: any other entity needs 16"
        " times as much",
    )
