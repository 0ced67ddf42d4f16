"""Where an archive's files are stored: a local directory, or any pyarrow or fsspec file system (S3, GCS, HDFS, …).

Owns durability: after a crash, a file on a local disk is complete or absent (`core.files`); an object store's put has
the same effect. A file is removed only by `delete`, which only `core.log.archive.retention` calls.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from core.errors import BadInput, Conflict, Unavailable
from core.files import make_private_folder, write_atomic

Version = tuple[int, int]
"""What changes when a file is replaced: modification time in ns and size."""


class Store:
    """Files by name (with `/`) under a root of a file system. Every method raises Unavailable on an I/O error."""

    def __init__(self, filesystem: Any, root: str) -> None:
        """filesystem: a pyarrow.fs.FileSystem, or an fsspec one."""
        if not isinstance(filesystem, fs.FileSystem):
            filesystem = fs.PyFileSystem(fs.FSSpecHandler(filesystem))
        self._fs = filesystem
        self._root = root.rstrip("/")
        self.local = isinstance(filesystem, fs.LocalFileSystem)

    def __str__(self) -> str:
        return self._root if self.local else f"{self._fs.type_name}:{self._root}"

    def read(self, name: str) -> bytes | None:
        """The file's bytes; None if it does not exist."""
        try:
            if self.local:  # a fifth of the time of a stream
                return Path(self._path(name)).read_bytes()
            with self._fs.open_input_stream(self._path(name), compression=None) as stream:
                content: bytes = stream.read()
                return content
        except FileNotFoundError:
            return None
        except (OSError, pa.ArrowException) as error:
            raise self._failed("can't read", name, error) from None

    def open(self, name: str) -> Any:
        """The file for reading parts of it, as pyarrow takes it; None if it does not exist."""
        try:
            return pa.memory_map(self._path(name)) if self.local else self._fs.open_input_file(self._path(name))
        except FileNotFoundError:
            return None
        except (OSError, pa.ArrowException) as error:
            raise self._failed("can't read", name, error) from None

    def write(self, name: str, content: bytes) -> None:
        """Create or replace the file, atomically and durably."""
        try:
            if self.local:
                write_atomic(Path(self._path(name)), content)
                return
            self._fs.create_dir(self._path(name).rpartition("/")[0], recursive=True)
            with self._fs.open_output_stream(self._path(name), compression=None) as stream:
                stream.write(content)
        except (OSError, pa.ArrowException) as error:
            raise self._failed("can't write", name, error) from None

    def delete(self, name: str) -> None:
        """Remove the file if it exists."""
        try:
            self._fs.delete_file(self._path(name))
        except FileNotFoundError:
            return
        except (OSError, pa.ArrowException) as error:
            raise self._failed("can't remove", name, error) from None

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, ascending; [] if it does not exist."""
        return sorted(self.sizes(folder))

    def sizes(self, folder: str) -> dict[str, int]:
        """The bytes of each file in a folder, by its name; {} if it does not exist."""
        try:
            found = self._fs.get_file_info(fs.FileSelector(self._path(folder), allow_not_found=True))
        except (OSError, pa.ArrowException) as error:
            raise self._failed("can't list", folder, error) from None
        return {info.base_name: info.size for info in found if info.type == fs.FileType.File}

    def version(self, name: str) -> Version | None:
        """The file's current version; None if it does not exist."""
        try:
            if self.local:
                found = os.stat(self._path(name))
                return found.st_mtime_ns, found.st_size
            info = self._fs.get_file_info(self._path(name))
        except FileNotFoundError:
            return None
        except (OSError, pa.ArrowException) as error:
            raise self._failed("can't inspect", name, error) from None
        return (info.mtime_ns or 0, info.size) if info.type == fs.FileType.File else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the writer's lock. Local directories only: on an object store, make sure that only one archiver runs.

        Raises Conflict if another process holds the lock.
        """
        if not self.local:
            yield
            return
        try:
            make_private_folder(Path(self._root))
            handle = os.open(self._path(".lock"), os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise self._failed("can't write", ".lock", error) from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(f"archive {self}: another process is archiving into it") from None
            yield
        finally:
            os.close(handle)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _failed(self, what: str, name: str, error: Exception) -> Unavailable:
        return Unavailable(f"archive {self}: {what} {name}: {' '.join(str(error).split())}")


def open_store(location: str) -> Store:
    """The store at a path or a URI (`s3://bucket/folder?region=…`, `file:///…`). Raises BadInput if it is not valid.

    Credentials come from the file system's own environment, as pyarrow documents it.
    """
    if not location.strip():
        raise BadInput("missing archive location: give --directory, or set `archive` (SENTINEL_ARCHIVE)")
    if "://" not in location:
        return Store(fs.LocalFileSystem(), str(Path(location).absolute()))
    try:
        filesystem, root = fs.FileSystem.from_uri(location)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadInput(f"archive {location}: {' '.join(str(error).split())}") from None
    return Store(filesystem, root)
