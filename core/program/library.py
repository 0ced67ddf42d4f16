"""The libraries that are shipped: documents like any other, which programs use by name and version.

    standard@1   the features of the kernel and the rules, decision and severity that every log begins with

A library's text is its definition. Where the fused kernel computes a feature, the planner reads the kernel's column
instead of adding state (`kernel`).

The shipped text is for people who write programs now. A program of a log uses the text that the log stores, by SHA-256
(`libraries_of`), so a release whose standard@1 reads otherwise decides an old log's programs by the old text. What no
text can carry, the kernel's columns and named functions, belongs to the engine: `core.program.codes.ENGINE`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from pathlib import Path

from core.errors import BadInput, Corrupt
from core.features import spec
from core.program import document
from core.program.document import Program
from core.program.document_reading import checked_again, read
from core.program.document_writing import tables
from core.program.errors import meant
from core.program.language import identity
from core.program.problems import Problem
from core.program.resolving import Library, Resolved, resolve
from core.program.shipped import KERNEL_COLUMNS, LIBRARIES
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


def libraries_of(program: Program, load_blob: Callable[[str], bytes] | None = None) -> list[Library]:
    """The libraries that a program uses, read from the log's blobs by SHA-256. A text of this release stands in for the
    blob of the same SHA-256. Raises BadInput if one can't be had, Corrupt if it is no library that this engine knows.
    """
    return [_used(label, digest, load_blob) for label, digest in program.uses.items()]


def _used(label: str, digest: str, load_blob: Callable[[str], bytes] | None) -> Library:
    if digest in LIBRARIES.values():
        return library(digest)
    if load_blob is None:
        raise BadInput(f"library {label} ({digest[:16]}) is not part of this release")
    content = load_blob(digest)
    if hashlib.sha256(content).hexdigest() != digest:
        raise Corrupt(f"the stored library {label} is not the one that the program names as {digest[:16]}")
    return _stored(label, digest, content)


@lru_cache(maxsize=8)
def _stored(label: str, digest: str, content: bytes) -> Library:
    """A library of a log's blob. Raises Corrupt unless it is one whose features this engine computes."""
    given = document.decode(content)
    if label != f"{given.name}@{given.version.partition('.')[0]}":
        raise Corrupt(f"the stored library {digest[:16]} is {given.label}, not {label}")
    faults = list(map(str, checked_again(given, tables(given))))
    if not faults:
        found = resolve(given, [], lambda path, message, at: faults.append(message), is_library=True)
    if faults:
        raise Corrupt(f"the stored library {label} ({digest[:16]}) is not valid here: {faults[0]}")
    if found.program != given:
        raise Corrupt(f"the stored library {label} ({digest[:16]}) is not in canonical form")
    for name, expression in found.expressions.items():
        if kernel().get(identity(expression)) != name:
            raise Corrupt(f"the stored library {label} ({digest[:16]}) defines {name} otherwise than this engine")
    return _as_library(label, digest, found)


@cache
def kernel() -> Mapping[str, str]:
    """The kernel's columns by the identity of their definition: the engine's, whatever a library's text says."""
    return KERNEL_COLUMNS | {identity(Column("number", "library", name)): name for name in spec.NAMES}


@cache
def default_program() -> Program:
    """The program of a log without any deployment."""
    return Program(name="default", version="1.0.0", uses={"standard@1": LIBRARIES["standard@1"]})


@cache
def _library(digest: str) -> Library:
    label = next((label for label, known in LIBRARIES.items() if known == digest), "")
    return _as_library(label, digest, _shipped(digest))


def _as_library(label: str, digest: str, found: Resolved) -> Library:
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


def blobs_of(program: Program) -> list[bytes]:
    """The canonical forms of a program and of the shipped libraries that it uses: a log stores them, so that it holds
    all that its decisions follow from. A library that is not shipped is the log's already.
    """
    used = [content(digest) for digest in program.uses.values() if digest in LIBRARIES.values()]
    return [*used, document.canonical(program)]


def default_blobs() -> list[bytes]:
    """Those of the default program, which a log stores when it is created."""
    return blobs_of(default_program())
