"""The archive on the simulated disk, and the process that fills it and trims the log, again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from core.errors import Conflict, SentinelError, Unavailable
from core.files import write_atomic
from core.log.archive import archiver
from core.log.archive.archive import Archive
from core.log.archive.store import Store, Version
from core.log.base import EventLog
from tests.simulation.disk import Disk
from tests.simulation.world import Process, World

EVERY_S = 0.3
OLD_S = 1.5
"""What is younger stays in the hot log only: longer than what a log server may forget."""
SEGMENT = 8
"""Transactions of a segment at least."""


class SimulatedStore(Store):
    """Files under /archive. Locks end with the process that holds them."""

    def __init__(self, world: World, disk: Disk) -> None:
        self._world, self._disk = world, disk
        self._root, self.local = "/archive", False
        self._holder: Process | None = None

    def __str__(self) -> str:
        return self._root

    def read(self, name: str) -> bytes | None:
        try:
            return self._disk.read(self._path(name))
        except FileNotFoundError:
            return None

    def open(self, name: str) -> Any:
        raise NotImplementedError("parts of files are not read here")

    def names(self, folder: str) -> list[str]:
        return sorted(self.sizes(folder))

    def sizes(self, folder: str) -> dict[str, int]:
        path = self._path(folder)
        return {name: self._disk.stat(f"{path}/{name}").st_size for name in self._disk.listdir(path)}

    def write(self, name: str, content: bytes) -> None:
        try:
            write_atomic(self._disk.path(self._path(name)), content)  # type: ignore[arg-type]
        except OSError as error:
            raise Unavailable(f"archive {self}: can't write {name}: {error}") from None

    def delete(self, name: str) -> None:
        self._disk.remove(self._path(name))

    def version(self, name: str) -> Version | None:
        try:
            found = self._disk.stat(self._path(name))
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_size

    @contextmanager
    def locked(self) -> Iterator[None]:
        if self._holder is not None and not self._holder.ended:
            raise Conflict(f"archive {self}: another process is archiving into it")
        self._holder = self._world.current
        try:
            yield
        finally:
            self._holder = None


def work(world: World, hot: EventLog, store: SimulatedStore, partitions: range, told: Callable[[str], None]) -> None:
    """Archive and trim until the process ends. told: what the archiver could not do."""
    while True:
        world.sleep(EVERY_S)
        archive = Archive(store)
        now = int(world.wall() * 1000)
        until = now - int(OLD_S * 1000)
        try:
            with store.locked():
                for partition in partitions:
                    archiver.archive_partition(
                        hot, archive, partition, recorded_until=until, segment_transactions=SEGMENT
                    )
                archiver.record(hot, archive, partitions, now)
                for partition in partitions:
                    point = archiver.trim_point(archive, partition, until)
                    archiver.trim(hot, archive, partition, point, now)
        except SentinelError as error:
            told(f"{type(error).__name__}: {error}")
