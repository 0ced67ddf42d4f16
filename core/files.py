"""Atomic file writes: a file is complete or absent. Like `core.log`, this module does I/O; domain modules do not.

Steps of a write: 1 create the folder, 2 write a temporary file beside the target, 3 fsync it, 4 rename it, 5 fsync the
folder and the parents of those created. A crash before 4 leaves the old file and a temporary one, which a later write
of the same file removes; an error removes it at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

STALE_S = 600.0
"""A temporary file older than the current one by this much was left behind by a crash, on whatever machine."""


def write_atomic(path: Path, *parts: bytes, durable: bool = True) -> None:
    """Create or replace the file with the parts, concatenated. Any number of processes may write at once; the last
    rename wins. Raises OSError.

    durable: False skips the fsyncs, for files that are worthless after a machine crash.
    """
    made = _make_folders(path.parent)
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.part")
    try:
        with open(temporary, "xb") as file:
            file.writelines(parts)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        _remove_stale(path, os.stat(temporary).st_mtime - STALE_S)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folders(dict.fromkeys([path.parent, *(folder.parent for folder in made)]))


def _make_folders(folder: Path) -> list[Path]:
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return made


def _remove_stale(path: Path, before: float) -> None:
    for name in os.listdir(path.parent):
        if name.startswith(f".{path.name}.") and name.endswith(".part"):
            left = path.with_name(name)
            try:
                if os.stat(left).st_mtime < before:
                    left.unlink()
            except FileNotFoundError:
                continue  # its writer, or another process cleaning up, was faster


def _sync_folders(folders: Iterable[Path]) -> None:
    for folder in folders:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
