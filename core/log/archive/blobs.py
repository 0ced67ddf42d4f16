"""Blobs in the archive: models, programs, libraries and reference tables, as the control stream names them, by SHA-256.

    blobs/<SHA-256>        a blob's bytes; written once, never changed

All are copied. Only tables leave the hot log, because they alone come every day, and only those under which nothing
that is still hot was decided, and nothing will be. A blob that the hot log lacks is read from the archive, so a table
that somebody needs all the same is found (`core.log.archive.archived`).

Steps, in this order. A crash between any two loses nothing, and the next run continues:

    1  write the file, synced; read it back and compare its SHA-256 (before the event that names it is archived:
       `core.log.archive.control_files`)
    2  append LogTrimmed, then trim      (`core.log.archive.archiver`: so a log that lacks anything always says so)
    3  read the file once more, compare its SHA-256, and only then remove the blob
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple

from core.control_stream import ControlEntry, fold
from core.errors import BadInput, Corrupt
from core.events import (
    Control,
    LogCreated,
    LogTrimmed,
    ModelDeployed,
    ModelRegistered,
    ModelRolledBack,
    ProgramRegistered,
    ReferencePublished,
)
from core.log.archive.archive import Archive
from core.log.archive.archived import ArchivedLog
from core.log.base import EventLog
from core.log.seals import head_from_entry
from core.program import document


class Named(NamedTuple):
    """A blob that a control event names. A program names more: the libraries that it uses."""

    kind: Literal["model", "program", "table"]
    digest: str


class Copied(NamedTuple):
    """What was copied. missing: of each blob that could not be, why."""

    blobs: int
    bytes: int
    missing: tuple[str, ...] = ()


class Removed(NamedTuple):
    """What was removed from the hot log."""

    blobs: int
    bytes: int


def named(event: Control) -> Named | None:
    """The blob that an event names, if it names one."""
    match event:
        case ModelRegistered() | ModelDeployed() | ModelRolledBack():
            return Named("model", event.digest)
        case ReferencePublished():
            return Named("table", event.digest)
        case ProgramRegistered():
            return Named("program", event.digest)
        case LogCreated():
            return Named("program", event.program)
        case _:
            return None


def copy(log: ArchivedLog, entries: Iterable[ControlEntry]) -> Copied:
    """Copy the blobs that the control stream names and the archive lacks, as `copy_of`."""
    return copy_of(log, (entry.event for entry in entries))


def copy_of(log: ArchivedLog, events: Iterable[Control]) -> Copied:
    """Copy the blobs that these events name and the archive lacks. A blob that can't be read is told, not an error: the
    log may have lost it, and decides without it.
    """
    wanted = _named_by(events)
    held = set(log.archive.blobs()) if wanted else set()
    copied = size = 0
    missing: list[str] = []
    for found in wanted:
        try:
            for each in _parts(log, found):
                if each not in held:
                    content = log.hot.get_blob(each)
                    log.archive.write_blob(each, content)
                    held.add(each)
                    copied, size = copied + 1, size + len(content)
        except (BadInput, Corrupt) as error:
            missing.append(f"{found.kind} {found.digest}: {error}")
    return Copied(copied, size, tuple(missing))


def _parts(log: EventLog, found: Named) -> list[str]:
    """A blob's SHA-256, and those of the libraries that it uses if it is a program. Raises as `get_blob`."""
    if found.kind != "program":
        return [found.digest]
    return [found.digest, *document.decode(log.get_blob(found.digest)).uses.values()]


def _libraries(log: EventLog, entries: Iterable[ControlEntry]) -> set[str]:
    """The libraries of all programs that can be read."""
    found: set[str] = set()
    for each in _all_named(entries):
        if each.kind == "program":
            with suppress(BadInput, Corrupt):
                found.update(_parts(log, each)[1:])
    return found


def needed(log: EventLog, entries: Sequence[ControlEntry]) -> list[str]:
    """The blobs (SHA-256) that the hot log needs if nothing is hot: all but superseded tables, as far as the programs
    can be read.
    """
    gone = set(superseded(entries, entries[-1].position)) if entries else set()
    wanted: list[str] = []
    for found in _all_named(entries):
        if found.digest not in gone:
            try:
                wanted += _parts(log, found)
            except (BadInput, Corrupt):
                wanted.append(found.digest)
    return list(dict.fromkeys(wanted))


def _all_named(entries: Iterable[ControlEntry]) -> list[Named]:
    """The blobs that the control stream names, each once, oldest first."""
    return _named_by(entry.event for entry in entries)


def _named_by(events: Iterable[Control]) -> list[Named]:
    return list(dict.fromkeys(found for event in events if (found := named(event)) is not None))


def oldest_position(hot: EventLog, partitions: Sequence[int], end: int) -> int:
    """The smallest control position under which a batch was decided that the hot log still holds; `end` if it holds
    none. The next batches are decided under the stream's end.
    """
    found = [end]
    for partition in partitions:
        first = hot.read(partition, "seals", count=2)
        if first and first[0].id.generation > 1:  # that of the last batch that was trimmed
            first = first[1:]
        if first:
            found.append(head_from_entry(first[0]).control)
    return min(found)


def superseded(entries: Sequence[ControlEntry], position: int) -> list[str]:
    """The tables (SHA-256) that no decision under this control position or a later one uses, oldest first."""
    state = fold(entry for entry in entries if entry.position <= position)
    kept = {digest for digest, _ in state.references.values()}
    kept |= {digest for _, digest in _all_named(entry for entry in entries if entry.position > position)}
    kept |= {digest for kind, digest in _all_named(entries) if kind != "table"}
    return [digest for kind, digest in _all_named(entries) if kind == "table" and digest not in kept]


def remove_superseded(log: ArchivedLog, entries: Sequence[ControlEntry], partitions: Sequence[int]) -> Removed:
    """Remove the tables that the hot log needs no more, once it was trimmed: then nobody reads it without its archive.

    entries: the control stream; partitions: all of the log. Raises Corrupt if the archive's copy of a table is damaged;
    it stays in the hot log then.
    """
    if not any(isinstance(entry.event, LogTrimmed) for entry in entries):
        return Removed(0, 0)
    removed = size = 0
    position = oldest_position(log.hot, partitions, entries[-1].position)
    libraries = _libraries(log, entries)
    for digest in log.hot.held_blobs([each for each in superseded(entries, position) if each not in libraries]):
        content = log.archive.blob(digest)
        if content is not None:  # else copying it has failed, and was told
            log.hot.remove_blob(digest)
            removed, size = removed + 1, size + len(content)
    return Removed(removed, size)


def faults(archive: Archive) -> list[str]:
    """What is wrong with the archive's blobs: one line for each that is not what was archived."""
    found = []
    for digest in archive.blobs():
        try:
            archive.blob(digest)
        except Corrupt as error:
            found.append(str(error))
    return found
