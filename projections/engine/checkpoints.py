"""Checkpoints of projections: one file per projection version with its states and places, and a pointer to the current
version.

`<prefix>-cases-1.checkpoint`: one line of JSON (the projection and, for each source, its place, the log's mark there,
the location of its state in the body and a code over all of this), then the states. Written atomically (`core.files`),
so a state never appears without its place.

A source's state is believed only if its code is right under the log's key (I17) and the log has the same mark at its
place (a seal's digest, a control event's hash). Otherwise it is ignored and folded from the log, so deleting
checkpoints is always safe.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from core import control_stream
from core.errors import UNDECODABLE, BadInput, Corrupt, Unavailable
from core.files import write_atomic
from core.log.base import EventLog
from projections.engine.base import NOWHERE, Place, Projection, S
from projections.engine.feed import mark_at

_MAGIC = "sentinel-projection-2"
_PURPOSE = "checkpoint"
_HEADER_BYTES_MAX = 64 * 2**20


class _Section(msgspec.Struct, frozen=True):
    sequence: int
    mark: str
    offset: int
    length: int
    mac: str = ""


class _Header(msgspec.Struct, frozen=True):
    magic: str
    name: str
    version: int
    spec: str
    sources: dict[int, _Section]


class Checkpoint(NamedTuple):
    """A source's state at a place, which is always the end of a batch. mark: the log's there; "" to look it up."""

    place: Place
    state: Any
    mark: str = ""


class CheckpointStore:
    """Checkpoints of one log (`prefix`) in one directory. One runner writes; any number of readers."""

    def __init__(self, directory: Path, prefix: str) -> None:
        self._directory = directory
        self._prefix = prefix
        self._known: tuple[EventLog, bytes] | None = None

    def path(self, projection: Projection[Any]) -> Path:
        """The projection version's file."""
        return self._directory / f"{self._prefix}-{projection.label}.checkpoint"

    def save(self, projection: Projection[Any], log: EventLog, views: Mapping[int, Checkpoint]) -> None:
        """Replace the projection's checkpoints; a log without identity, in which nothing is decided yet, has none.
        Raises Unavailable if the directory can't be written.
        """
        key = self._key(log)
        if key is None:
            return
        sections: dict[int, _Section] = {}
        parts: list[bytes] = []
        offset = 0
        for source, (place, state, known) in sorted(views.items()):
            if place.inside:
                raise BadInput(f"{projection.label}: a checkpoint must be at the end of a batch, not inside one")
            if place == NOWHERE:
                continue
            content = projection.encode(state)
            mark = known or mark_at(log, source, place.sequence)
            section = _Section(place.sequence, mark, offset, len(content))
            sections[source] = msgspec.structs.replace(section, mac=_mac(key, projection, source, section, content))
            parts.append(content)
            offset += len(content)
        header = _Header(_MAGIC, projection.name, projection.version, projection.spec, sections)
        self._write(self.path(projection), [msgspec.json.encode(header) + b"\n", *parts])

    def load(self, projection: Projection[Any], log: EventLog, source: int, until: Place) -> Checkpoint | None:
        """The source's checkpoint if it is valid and not beyond `until`; None otherwise."""
        try:
            with open(self.path(projection), "rb") as file:
                line = file.readline(_HEADER_BYTES_MAX)
                header = msgspec.json.decode(line, type=_Header)
                section = header.sources.get(source)
                if section is None or not _is_of(header, projection) or not 0 < section.sequence <= until.sequence:
                    return None
                size = os.fstat(file.fileno()).st_size - len(line)
                if not 0 <= section.offset <= section.offset + section.length <= size:
                    return None
                file.seek(len(line) + section.offset)
                content = file.read(section.length)
            key = self._key(log)
            if key is None:
                return None
            wanted = _mac(key, projection, source, section, content)
            if not hmac.compare_digest(wanted.encode(), section.mac.encode()):
                return None
            if mark_at(log, source, section.sequence) != section.mark:
                return None
            return Checkpoint(Place(section.sequence), projection.decode(content), section.mark)
        except (OSError, ValueError, *UNDECODABLE, Corrupt):
            return None

    def places(self, projection: Projection[Any]) -> dict[int, int]:
        """By source, the sequence up to which the file says that it holds states, unchecked; none if there is none."""
        try:
            with open(self.path(projection), "rb") as file:
                header = msgspec.json.decode(file.readline(_HEADER_BYTES_MAX), type=_Header)
        except (OSError, *UNDECODABLE):
            return {}
        return {source: section.sequence for source, section in header.sources.items()}

    def current(self, name: str) -> int | None:
        """The version of projection `name` that readers use; None if none has been chosen."""
        try:
            return int(self._pointer(name).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def choose(self, projection: Projection[Any]) -> None:
        """Make this version the current one, by an atomic rename."""
        self._write(self._pointer(projection.name), [b"%d\n" % projection.version])

    def _key(self, log: EventLog) -> bytes | None:
        """The key of this log's codes, read once; None as long as the log has no identity."""
        if self._known is None or self._known[0] is not log:
            identity = control_stream.first_identity(log)
            self._known = None if identity is None else (log, identity.mac_key(_PURPOSE))
        return None if self._known is None else self._known[1]

    def _pointer(self, name: str) -> Path:
        return self._directory / f"{self._prefix}-{name}.current"

    def _write(self, path: Path, parts: list[bytes]) -> None:
        try:
            write_atomic(path, *parts)
        except OSError as error:
            raise Unavailable(f"cannot write {path}: {error.strerror}") from error


def _is_of(header: _Header, projection: Projection[Any]) -> bool:
    return (header.magic, header.name, header.version, header.spec) == (
        _MAGIC,
        projection.name,
        projection.version,
        projection.spec,
    )


def _mac(key: bytes, projection: Projection[Any], source: int, section: _Section, content: bytes) -> str:
    """HMAC-SHA256 over what a source's state is of, and the state itself; where in the file it lies does not count."""
    of = [_MAGIC, projection.name, projection.version, projection.spec, source, section.sequence, section.mark]
    h = hmac.new(key, msgspec.json.encode(of) + b"\n", "sha256")
    h.update(content)
    return h.hexdigest()


def restore(
    store: CheckpointStore | None, projection: Projection[S], log: EventLog, source: int, until: Place
) -> tuple[Place, S]:
    """(place, state) of a source's checkpoint if it is valid and not beyond `until`; otherwise the initial state."""
    held = store.load(projection, log, source, until) if store is not None else None
    return (NOWHERE, projection.initial()) if held is None else (held.place, held.state)


def current_version(store: CheckpointStore | None, name: str, versions: Sequence[int]) -> int:
    """The version of `name` that readers use: the chosen one, or the oldest of `versions` if none was chosen."""
    chosen = store.current(name) if store is not None else None
    return chosen if chosen is not None and chosen in versions else min(versions)


def current(store: CheckpointStore | None, name: str, of: Iterable[Projection[Any]]) -> Projection[Any]:
    """The version of projection `name` that readers use. Raises BadInput for an unknown name."""
    versions = {projection.version: projection for projection in of if projection.name == name}
    if not versions:
        raise BadInput(f"unknown projection {name!r}; expected one of {', '.join(sorted({p.name for p in of}))}")
    return versions[current_version(store, name, list(versions))]


def successor(store: CheckpointStore | None, name: str, of: Iterable[Projection[Any]]) -> Projection[Any]:
    """The version after the one that readers use. Raises BadInput if this code has none."""
    projections = list(of)
    now = current(store, name, projections)
    later = [p for p in projections if p.name == name and p.version > now.version]
    if not later:
        raise BadInput(f"{now.label} is already current, and this release has no later version of it")
    return min(later, key=lambda projection: projection.version)
