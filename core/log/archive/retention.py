"""Retention: old segments and blobs move from the archive's own store to a cold one. Nothing is deleted (I7).

Steps for one segment, in this order. A crash between any two loses nothing, and the next run does the rest:

    1  write its files to the cold store          (killed here: both stores have them; readers use the warm ones)
    2  read them back and compare their SHA-256 with the manifest's row
    3  remove the warm files                      (killed here: some are read warm, some cold)

The manifest stays where it is and does not change, so the chain, `verify`, replay and every reader work as before;
reading an old segment is as slow as the cold store. Why segments are not deleted: docs/decisions/0008.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from core.errors import BadInput, Corrupt
from core.log.archive import manifest
from core.log.archive.archive import Archive
from core.log.archive.manifest import Row
from core.log.archive.store import Store

PROBE = ".apart"
"""A file that the cold store has for a moment, and the archive must not have."""


def move_old(archive: Archive, partition: int, recorded_until: int) -> tuple[int, int]:
    """Move the segments whose last batch was recorded by `recorded_until` (epoch ms). Returns (segments, bytes) moved.

    The caller must hold `archive.store.locked()`. Raises BadInput without a cold store, Corrupt if a file in either
    store is not what was archived; nothing of that segment is removed then.
    """
    cold = archive.cold
    if cold is None:
        raise BadInput("no cold store to move old segments to: set archive_cold")
    archive.refresh(partition)
    segments = moved = 0
    for row in _old(archive, partition, recorded_until):
        warm = [file for file in row.files if archive.store.version(file.name) is not None]
        if warm and not segments:
            check_apart(archive.store, cold)
        size = sum(_copy(archive.store, cold, file.name, file.sha256) for file in warm)
        for file in warm:
            archive.store.delete(file.name)
        if warm:
            segments, moved = segments + 1, moved + size
    return segments, moved


def _old(archive: Archive, partition: int, recorded_until: int) -> Sequence[Row]:
    """The rows up to the last one recorded by then. One of them that claims to be later was recorded under a wrong
    clock.
    """
    rows = archive.rows(partition)
    return rows[: max((n for n, row in enumerate(rows, 1) if row.last_recorded_at <= recorded_until), default=0)]


def oldest_position(archive: Archive, partitions: Iterable[int], recorded_until: int) -> int:
    """The smallest control position under which a batch was decided that is in no old segment; 0 if it is not known.
    Partitions of which nothing is archived are not asked.
    """
    ends = [_old(archive, p, recorded_until)[-1:] for p in partitions if archive.rows(p)]
    return min((old[0].control if old else 0 for old in ends), default=0)


def move_blobs(archive: Archive, digests: Iterable[str]) -> tuple[int, int]:
    """Move these blobs, as `move_old` does segments. Returns (blobs, bytes) moved; raises as it does."""
    cold = archive.cold
    if cold is None:
        raise BadInput("no cold store to move old blobs to: set archive_cold")
    moved = size = 0
    warm = set(archive.store.names(manifest.BLOBS))
    for digest in digests:
        if digest in warm:
            if not moved:
                check_apart(archive.store, cold)
            name = manifest.blob_name(digest)
            size += _copy(archive.store, cold, name, digest)
            archive.store.delete(name)
            moved += 1
    return moved, size


def check_apart(warm: Store, cold: Store) -> None:
    """Raise BadInput if the cold store is the archive itself, however both are named (a link, a mount, a URI): what is
    moved there would be the file that is removed.
    """
    cold.write(PROBE, b"")
    try:
        if warm.version(PROBE) is not None:
            raise BadInput(
                f"archive_cold {cold} is the archive {warm} itself: nothing was moved. Name another store, or leave"
                " archive_keep_days out"
            )
    finally:
        cold.delete(PROBE)


def _copy(warm: Store, cold: Store, name: str, digest: str) -> int:
    content = warm.read(name)
    if content is None or hashlib.sha256(content).hexdigest() != digest:
        raise Corrupt(f"{name} is not what was archived: its SHA-256 differs; it was not moved")
    cold.write(name, content)
    back = cold.read(name)
    if back is None or hashlib.sha256(back).hexdigest() != digest:
        raise Corrupt(f"{name} can't be read back from the cold store {cold} as it was written")
    return len(content)
