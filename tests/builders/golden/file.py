"""The file that holds a golden log: everything of a log in a few hundred kilobytes, whoever reads it when.

    xz of one MessagePack document (GoldenLog): the control stream, the blobs, every partition's streams as the hot log
    had them, and the archive's files by their paths within it

Nothing is interpreted: entries are the bytes that the log server held. `opened` puts them into a log in memory and an
archive in a directory, which together are the log again.
"""

from __future__ import annotations

import hashlib
import lzma
from pathlib import Path

import msgspec

from core.codec import decode_control
from core.events import LogCreated, ModelRegistered, Position, ProgramRegistered, ReferencePublished
from core.log.archive.archive import open_archive
from core.log.archive.archived import ArchivedLog
from core.log.base import STREAMS, Entry, EventLog, Stream
from core.log.memory import MemoryLog
from core.program import document

DIRECTORY = Path(__file__).parents[2] / "golden"
PAGE = 10_000


class GoldenLog(msgspec.Struct, frozen=True):
    """See the module's docstring. streams: by partition and name, (generation, offset, payload) of each entry."""

    control: list[bytes]
    blobs: dict[str, bytes]
    streams: list[dict[str, list[tuple[int, int, bytes]]]]
    archive: dict[str, bytes]


def taken(hot: EventLog, partitions: int, archive: Path) -> GoldenLog:
    """The whole log."""
    control = [payload for _, payload in hot.read_control(count=PAGE)]
    return GoldenLog(
        control,
        {digest: hot.get_blob(digest) for digest in sorted(_named(hot, control))},
        [{name: _entries(hot, p, name) for name in STREAMS} for p in range(partitions)],
        {str(each.relative_to(archive)): each.read_bytes() for each in sorted(archive.rglob("*")) if each.is_file()},
    )


def _named(hot: EventLog, control: list[bytes]) -> set[str]:
    """The blobs that the control stream names, and the libraries of its programs."""
    found: set[str] = set()
    for payload in control:
        match decode_control(payload):
            case ModelRegistered(digest=digest) | ReferencePublished(digest=digest):
                found.add(digest)
            case ProgramRegistered(digest=digest) | LogCreated(program=digest):
                found |= {digest, *document.decode(hot.get_blob(digest)).uses.values()}
            case _:
                pass
    return found


def _entries(hot: EventLog, partition: int, name: Stream) -> list[tuple[int, int, bytes]]:
    found = hot.read(partition, name, hot.begin(partition, name), PAGE)
    assert len(found) < PAGE
    return [(entry.id.generation, entry.id.offset, entry.payload) for entry in found]


def written(golden: GoldenLog, path: Path) -> int:
    """Write the file; its size in bytes."""
    path.parent.mkdir(exist_ok=True)
    return path.write_bytes(lzma.compress(msgspec.msgpack.encode(golden), preset=9 | lzma.PRESET_EXTREME))


def read(path: Path) -> GoldenLog:
    """The file's content."""
    return msgspec.msgpack.decode(lzma.decompress(path.read_bytes()), type=GoldenLog)


def opened(golden: GoldenLog, directory: Path) -> ArchivedLog:
    """The log again: in memory, its archive in the directory."""
    for name, content in golden.archive.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    streams = {
        (partition, name): [Entry(Position(generation, offset), payload) for generation, offset, payload in entries]
        for partition, of_partition in enumerate(golden.streams)
        for name, entries in of_partition.items()
    }
    hot = MemoryLog.restored(streams, golden.control, golden.blobs)  # type: ignore[arg-type]
    assert all(hashlib.sha256(content).hexdigest() == digest for digest, content in golden.blobs.items())
    return ArchivedLog(hot, open_archive(str(directory)))
