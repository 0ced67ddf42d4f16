"""A small file system of its own to fill: a tmpfs, which root may mount."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CHUNK = 4096


def missing_for_mounts(folder: Path) -> str | None:
    """What forbids `SmallDisk` on this machine, or None. folder: an empty one to try it on."""
    tried = subprocess.run(_mount(folder, 1), capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return f"a tmpfs can't be mounted here, which takes root ({tried.stderr.strip()})"
    subprocess.run(["umount", str(folder)], check=True)
    return None


class SmallDisk:
    """A file system at a folder, and the ballast that fills it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, leave_bytes: int = 0) -> None:
        """Take all of its space but so many bytes."""
        with self._ballast.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(_CHUNK))
            except OSError:
                file.truncate(max(0, file.tell() - leave_bytes))

    def free(self) -> None:
        """Give the space back."""
        self._ballast.unlink()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A file system of this size, mounted at the folder for as long as the context lasts."""
    folder.mkdir(parents=True)
    subprocess.run(_mount(folder, megabytes), check=True)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(folder: Path, megabytes: int) -> list[str]:
    return ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(folder)]
