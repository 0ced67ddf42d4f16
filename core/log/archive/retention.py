"""Retention: old segments move from the archive's own store to a cold one. Nothing is deleted (I7).

Steps for one segment, in this order. A crash between any two loses nothing, and the next run does the rest:

    1  write its files to the cold store          (killed here: both stores have them; readers use the warm ones)
    2  read them back and compare their SHA-256 with the manifest's row
    3  remove the warm files                      (killed here: some are read warm, some cold)

The manifest stays where it is and does not change, so the chain, `verify`, replay and every reader work as before;
reading an old segment is as slow as the cold store. Why segments are not deleted: docs/decisions/0008.
"""

from __future__ import annotations

import hashlib

from core.errors import BadInput, Corrupt
from core.log.archive.archive import Archive
from core.log.archive.manifest import File
from core.log.archive.store import Store


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
    rows = archive.rows(partition)
    old = max((n for n, row in enumerate(rows, 1) if row.last_recorded_at <= recorded_until), default=0)
    for row in rows[:old]:  # one that claims to be later than one after it was recorded under a wrong clock
        warm = [file for file in row.files if archive.store.version(file.name) is not None]
        size = sum(_copy(archive.store, cold, file) for file in warm)
        for file in warm:
            archive.store.delete(file.name)
        if warm:
            segments, moved = segments + 1, moved + size
    return segments, moved


def _copy(warm: Store, cold: Store, file: File) -> int:
    content = warm.read(file.name)
    if content is None or hashlib.sha256(content).hexdigest() != file.sha256:
        raise Corrupt(f"{file.name} is not what was archived: its SHA-256 differs; it was not moved")
    cold.write(file.name, content)
    back = cold.read(file.name)
    if back is None or hashlib.sha256(back).hexdigest() != file.sha256:
        raise Corrupt(f"{file.name} can't be read back from the cold store {cold} as it was written")
    return len(content)
