"""A disk that forgets what was not synced when the machine loses its power, and that can be full.

It offers what `core.files.write_atomic` and the readers of its files use of `os`, `open` and `Path`, so that the
product's own steps are what is tested. Every step is a call of the process, at which it may be killed; a write that is
not synced yet is torn by a loss of power, and a rename whose folder is not synced may be undone.
"""

from __future__ import annotations

import errno
import io
import itertools
import random
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any, NamedTuple

from tests.simulation.world import EPOCH_S, World


@dataclass(eq=False, slots=True)
class _File:
    """A file's bytes: what readers see, and what is on the platter."""

    content: bytes = b""
    synced: bytes | None = None
    changed_at: float = 0.0


class _Stat(NamedTuple):
    st_mtime: float
    st_mtime_ns: int
    st_size: int


@dataclass
class Disk:
    """Files by path. names: as processes see them; kept: as after a loss of power, when the folder was synced last."""

    world: World
    names: dict[str, _File] = field(default_factory=dict)
    kept: dict[str, _File] = field(default_factory=dict)
    folders: set[str] = field(default_factory=lambda: {"/"})
    full_until: float = -1.0
    _handles: dict[int, str] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(3))

    def lose_power(self, chance: random.Random) -> None:
        """What was not synced is gone, or there in part."""
        for path in sorted(self.names.keys() | self.kept.keys()):
            if self.names.get(path) is not self.kept.get(path) and chance.random() < 0.5:
                self._put(self.names, path, self.kept.get(path))
            self._put(self.kept, path, self.names.get(path))
        for path, file in self.names.items():
            if file.synced != file.content:
                file.content = file.content[: chance.randrange(len(file.content) + 1)]
                file.synced = file.content
            self.kept[path] = file

    def _put(self, where: dict[str, _File], path: str, file: _File | None) -> None:
        if file is None:
            where.pop(path, None)
        else:
            where[path] = file

    # --- as `os` and `open` -----------------------------------------------------------------------------------------

    def system(self) -> SimpleNamespace:
        """As the module `os`."""
        mine = (self.fsync, self.replace, self.stat, self.listdir, self.urandom, self.close)
        return SimpleNamespace(
            O_RDONLY=0,
            O_RDWR=2,
            open=lambda path, flags: self.handle(str(path)),
            **{each.__name__: each for each in mine},
        )

    def locks(self) -> SimpleNamespace:
        """As the module `fcntl`, of a file system that has no locks: whoever asks for one has it."""
        return SimpleNamespace(LOCK_EX=2, LOCK_NB=4, flock=lambda handle, how: self._handles[handle] and None)

    def open(self, path: Any, mode: str = "r", opener: Any = None, **options: Any) -> Any:
        """`open` in binary modes: to read, or to create."""
        name = str(path)
        if "x" in mode or "w" in mode:
            return self.world.call(f"create {name}", lambda: self._create(name))
        return io.BytesIO(self.read(name))

    def _create(self, name: str) -> _Writer:
        self._check_room()
        if name in self.names:
            raise FileExistsError(errno.EEXIST, "File exists", name)
        if str(PurePosixPath(name).parent) not in self.folders:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)
        file = self.names[name] = _File(changed_at=self.world.now)
        return _Writer(self, name, file)

    def _check_room(self) -> None:
        if self.world.now < self.full_until:
            raise OSError(errno.ENOSPC, "No space left on device")

    def read(self, name: str) -> bytes:
        """The file's bytes."""
        found = self.names.get(name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)
        return found.content

    def fsync(self, handle: int) -> None:
        """Of a file or a folder."""
        name = self._handles[handle]
        self.world.call(f"fsync {name}", lambda: self._fsync(name))

    def _fsync(self, name: str) -> None:
        file = self.names.get(name)
        if file is not None:
            file.synced = file.content
            return
        inside = [p for p in self.names.keys() | self.kept.keys() if str(PurePosixPath(p).parent) == name]
        for path in inside:
            self._put(self.kept, path, self.names.get(path))

    def replace(self, source: Any, target: Any) -> None:
        """Rename atomically."""
        self.world.call(f"rename to {target}", lambda: self._replace(str(source), str(target)))

    def _replace(self, source: str, target: str) -> None:
        self.names[target] = self.names.pop(source)

    def stat(self, path: Any) -> _Stat:
        """Time of the last change, and size."""
        found = self.names.get(str(path))
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        at = EPOCH_S + found.changed_at
        return _Stat(at, int(at * 1e9), len(found.content))

    def listdir(self, folder: Any) -> list[str]:
        """The names in a folder."""
        return sorted(p.name for p in map(PurePosixPath, self.names) if str(p.parent) == str(folder))

    def urandom(self, size: int) -> bytes:
        """For names of temporary files."""
        return self.world.random.randbytes(size)

    def handle(self, name: str) -> int:
        """A number by which a file or folder is synced."""
        number = next(self._numbers)
        self._handles[number] = name
        return number

    def close(self, handle: int) -> None:
        """Release a handle."""
        del self._handles[handle]

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        self.world.call(f"remove {name}", lambda: self.names.pop(name, None))

    def path(self, *parts: Any) -> SimulatedPath:
        """As `Path(…)`, on this disk."""
        made = SimulatedPath(*(str(part) for part in parts))
        return made if made.is_absolute() else SimulatedPath("/", made)


class _Writer:
    """A file that is being written."""

    def __init__(self, disk: Disk, name: str, file: _File) -> None:
        self._disk, self._name, self._file = disk, name, file
        self._handle = disk.handle(name)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *exception: object) -> None:
        self._disk.close(self._handle)

    def writelines(self, parts: Any) -> None:
        """Write in two halves, between which the process may die, and the disk may become full."""
        content = b"".join(parts)
        for half in (content[: len(content) // 2], content[len(content) // 2 :]):
            self._disk.world.call(f"write {self._name}", lambda half=half: self._add(half))  # type: ignore[misc]

    def _add(self, content: bytes) -> None:
        self._disk._check_room()
        self._file.content += content
        self._file.changed_at = self._disk.world.now

    def flush(self) -> None:
        """Nothing is buffered."""

    def fileno(self) -> int:
        return self._handle


_mounted: list[Disk] = []
"""The disk that paths lie on, during a simulation."""


def mount(disk: Disk) -> None:
    """Paths lie on this disk from now on."""
    _mounted[:] = [disk]


def mounted() -> Disk:
    """The disk that paths lie on."""
    return _mounted[0]


class SimulatedPath(PurePosixPath):
    """A path on the mounted disk, with what the product uses of `Path`."""

    def read_bytes(self) -> bytes:
        return mounted().read(str(self))

    def open(self, mode: str = "r") -> Any:
        return mounted().open(self, mode)

    def exists(self) -> bool:
        return str(self) in mounted().names or str(self) in mounted().folders

    def is_dir(self) -> bool:
        return str(self) in mounted().folders

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        for folder in (self, *self.parents):
            mounted().folders.add(str(folder))

    def unlink(self, *, missing_ok: bool = False) -> None:
        mounted().remove(str(self))
