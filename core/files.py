"""Atomic file writes: a file is complete or absent. Like `core.log`, this module does I/O; domain modules do not.

Steps of a write: 1 create the folder, 2 write a temporary file beside the target, 3 fsync it, 4 rename it, 5 fsync the
folder and the parents of those created. A crash before 4 leaves the old file and a temporary one, which a later write
into the same folder removes; an error removes it at once. A lock on the temporary file tells that its writer lives.

`Lossy` is for side output such as logs, whose failures are dropped; `Visible` for output that people read.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from core.text import visible

FULL_DISK = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EIO))
"""Error numbers of a disk that takes no more."""
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.part", re.DOTALL)
PRIVATE, PRIVATE_FOLDER = 0o600, 0o700
"""Permissions of files with data about people, and of their folders: their owner's alone."""
READ_BYTES = 65_536
PUBLIC = 0o666
"""Permissions, less the umask, of files that hold no such data."""
STALE_S = 600.0
"""A temporary file older than the current one by this much, whose lock nobody holds, was left behind by a crash."""


def write_atomic(path: Path, *parts: bytes, durable: bool = True, mode: int = PRIVATE) -> None:
    """Create or replace the file with the parts, concatenated. Any number of processes may write at once; the last
    rename wins. Raises OSError.

    durable: False skips the fsyncs, for files that are worthless after a machine crash. mode: the file's permissions,
    less the umask; it never has more, not even for a moment. Folders that are made have PRIVATE_FOLDER.
    """
    with open_atomic(path, durable=durable, mode=mode) as file:
        file.writelines(parts)


@contextmanager
def open_atomic(path: Path, *, durable: bool = True, mode: int = PRIVATE) -> Iterator[BinaryIO]:
    """A binary file to write, which becomes `path` when the block ends without an error; else nothing is left of it.
    Otherwise as `write_atomic`.
    """
    made = _make_folders(path.parent)
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.part")
    try:
        with ExitStack() as held:
            with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
                held.enter_context(_lock(temporary))
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            _remove_stale(path.parent, os.stat(temporary).st_mtime - STALE_S)
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folders(dict.fromkeys([path.parent, *(folder.parent for folder in made)]))


class Lossy:
    """A text stream for side output, such as logs: what can't be written is dropped, and nothing is raised.

    A full disk or a closed pipe must not end a process whose work is elsewhere. `dropped` counts the failed writes.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.dropped = 0

    def write(self, text: str) -> int:
        """Write if it is possible. Returns the length of `text` in any case."""
        try:
            self._stream.write(text)
        except (OSError, ValueError):  # ValueError: the stream was closed
            self.dropped += 1
        return len(text)

    def flush(self) -> None:
        """Flush if it is possible."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self.dropped += 1


def _make_folders(folder: Path) -> list[Path]:
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    make_private_folder(folder)
    return made


def make_private_folder(folder: Path) -> None:
    """Make the folder and its missing parents, for their owner alone; what exists stays as it is. Raises OSError."""
    for each in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
        each.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def open_private(path: Path, *, newline: str | None = None) -> TextIO:
    """Open a text file (UTF-8) for writing, for its owner alone if it is new. Raises OSError."""
    return open(path, "w", encoding="utf-8", newline=newline, opener=lambda name, flags: os.open(name, flags, PRIVATE))


def last_lines(file: Path, count: int) -> tuple[list[str], int]:
    """The last lines of a text file, and its length in bytes; of one that is missing: none, 0."""
    try:
        with file.open("rb") as opened:
            length = begin = opened.seek(0, os.SEEK_END)
            found = b""
            while begin and found.count(b"\n") <= count:
                begin = max(0, begin - READ_BYTES)
                opened.seek(begin)
                found = opened.read(length - begin)
    except FileNotFoundError:
        return [], 0
    return found.decode(errors="replace").splitlines()[-count:] if count else [], length


def _remove_stale(folder: Path, before: float) -> None:
    for name in os.listdir(folder):
        if _TEMPORARY.fullmatch(name):
            left = folder / name
            with suppress(FileNotFoundError, PermissionError):  # another process was faster; or it is another user's
                if os.stat(left).st_mtime < before:
                    with _lock(left) as is_abandoned:
                        if is_abandoned:
                            left.unlink()


@contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Hold the file's lock. False if another holds it; True also where the file system has no locks."""
    handle = os.open(path, os.O_RDWR)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_mine = True
        except OSError as error:
            is_mine = not isinstance(error, BlockingIOError)
        yield is_mine
    finally:
        os.close(handle)


def _sync_folders(folders: Iterable[Path]) -> None:
    for folder in folders:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Visible:
    """A text stream for what people read: characters that a terminal would obey are written as escapes.

    Only text that this program composed passes `beneath` it: styles and progress bars.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text. Returns its length."""
        self._stream.write(visible(text, lines=True))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write all the lines."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def beneath(stream: TextIO) -> TextIO:
    """The stream itself, without `Visible` around it."""
    return stream._stream if isinstance(stream, Visible) else stream
