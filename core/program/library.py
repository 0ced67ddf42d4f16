"""The libraries that are shipped: documents like any other, which programs use by name and version.

    standard@1   the features of the kernel and the rules, decision and severity that every log begins with

A library's text is its definition. Where the fused kernel computes a feature, the planner reads the kernel's column
instead of adding state (`kernel`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from core.errors import BadInput, Corrupt
from core.features import spec
from core.program import document
from core.program.document import Program
from core.program.document_reading import read
from core.program.errors import meant
from core.program.language import identity
from core.program.problems import Problem
from core.program.resolving import Library, Resolved, resolve
from core.program.shipped import LIBRARIES
from core.program.typed import Column

_FILES = {"standard@1": "standard.toml"}


def digest_of(label: str) -> str:
    """The SHA-256 of a shipped library. Raises BadInput if there is none of this name and version."""
    if label not in LIBRARIES:
        near = meant(label, LIBRARIES) or f"; known: {', '.join(LIBRARIES)}"
        raise BadInput(f"no library is called {label}{near}")
    return LIBRARIES[label]


def content(digest: str) -> bytes:
    """The canonical form of a shipped library. Raises BadInput if it is not shipped."""
    return document.canonical(_shipped(digest).program)


def library(digest: str) -> Library:
    """A shipped library, checked. Raises BadInput if it is not shipped."""
    return _library(digest)


def libraries_of(program: Program) -> list[Library]:
    """The libraries that a program uses. Raises BadInput if this release lacks one."""
    return [library(digest) for digest in program.uses.values()]


@cache
def kernel() -> Mapping[str, str]:
    """The kernel's columns by the identity of their definition."""
    found = {identity(Column("number", "field", "amount")): "amount"}
    for digest in LIBRARIES.values():
        for name, expression in library(digest).expressions.items():
            if name in spec.NAMES:
                found[identity(expression)] = name
    for name in spec.NAMES:
        found[identity(Column("number", "library", name))] = name
    return found


@cache
def default_program() -> Program:
    """The program of a log without any deployment."""
    return Program(name="default", version="1.0.0", uses={"standard@1": LIBRARIES["standard@1"]})


@cache
def _library(digest: str) -> Library:
    found = _shipped(digest)
    label = next(label for label, known in LIBRARIES.items() if known == digest)
    return Library(
        label,
        digest,
        found.program,
        found.types,
        found.checked.rules,
        found.expressions,
        found.checked.decline,
        found.checked.review,
        found.checked.severity,
    )


@cache
def _shipped(digest: str) -> Resolved:
    for label, known in LIBRARIES.items():
        if known == digest:
            return parsed(_FILES[label])
    raise BadInput(f"library {digest[:16]} is not part of this release")


def parsed(name: str) -> Resolved:
    """The library of a file beside this module."""
    given, places = read((Path(__file__).parent / name).read_bytes(), digest_of)
    faults: list[str] = []
    found = resolve(
        given,
        [],
        lambda path, message, at: faults.append(str(Problem(message, path, places.line_of(path, at[0] or 1), at))),
        is_library=True,
    )
    if faults:
        raise Corrupt(f"{name}: {faults[0]}")
    return found


def default_blobs() -> list[bytes]:
    """The canonical forms of the default program and of what it uses: a log stores them when it is created, so that it
    holds all that its decisions follow from.
    """
    program = default_program()
    return [*map(content, program.uses.values()), document.canonical(program)]
