"""The files of compiled code: where they lie, and why they may be loaded (I17). Like `core.files`, it does I/O.

numba keeps compiled code as pickles, and a pickle runs whatever its writer wants. So nothing is unpickled before one of
these holds:

    own files        the folder is this user's with mode 0700, nobody else can replace it, and the file's first bytes
                     are its HMAC-SHA256 under a key file of mode 0600 in that folder, over its name and content
    prebuilt files   the folder that SENTINEL_KERNELS names, its files and all folders above belong to root or this
                     user, and nobody else may write them. They are read only, as in a container image

Any other file is ignored: the code is compiled again. A folder that others can write is not used at all.
"""

from __future__ import annotations

import hmac
import os
import pickle
import stat
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import IndexDataCacheFile
from numba.core.serialize import dumps

from core.private_files import may_be_changed_by_others

PREBUILT_VARIABLE = "SENTINEL_KERNELS"
KEY = "key"
_KEY_BYTES = 32
_MAGIC = b"sentinel-kernel-1\n"
_MAC_BYTES = 32


@cache
def base_directory() -> Path:
    """The folder of own files: the user's cache, or a temporary one if that can't be written or could be by others."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    wanted = Path(base) / "stream-sentinel" / "jit"
    try:
        wanted.mkdir(parents=True, exist_ok=True, mode=0o700)
        if wanted.stat().st_uid == os.geteuid() and stat.S_IMODE(wanted.stat().st_mode) != 0o700:
            wanted.chmod(0o700)  # of a release that made it with wider permissions
        why = _not_mine(wanted)
        if not why:
            with tempfile.TemporaryFile(dir=wanted):
                return wanted
    except OSError as error:
        why = f"{wanted}: {error.strerror}"
    _warn(f"compiled code is not kept, so every start compiles it again: {why}")
    return Path(tempfile.mkdtemp(prefix="stream-sentinel-jit-"))


@cache
def prebuilt_directory() -> Path | None:
    """The folder of prebuilt files; None if none is named, or if others may change it."""
    named = os.environ.get(PREBUILT_VARIABLE, "")
    if not named:
        return None
    folder = Path(named)
    if why := may_be_changed_by_others(folder):
        _warn(f"{PREBUILT_VARIABLE}={named} is not used: {why}")
        return None
    return folder


def _not_mine(folder: Path) -> str:
    owner = folder.stat().st_uid
    return f"{folder} belongs to user {owner}" if owner != os.geteuid() else may_be_changed_by_others(folder)


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)


@cache
def _key(folder: Path) -> bytes:
    """The key of the folder's codes, made at first use. One that others may have read or written is replaced, which
    makes all files compile again.
    """
    path = folder / KEY
    found = _read_key(path)
    if found is not None:
        return found
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".key-")  # of mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(os.urandom(_KEY_BYTES))
        if path.exists():
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
    except FileExistsError:
        pass  # another process was first: its key counts
    finally:
        Path(temporary).unlink(missing_ok=True)
    return _read_key(path) or os.urandom(_KEY_BYTES)


def _read_key(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            of = os.fstat(file.fileno())
            content = file.read(_KEY_BYTES + 1)
    except OSError:
        return None
    mine = of.st_uid == os.geteuid() and not of.st_mode & 0o077
    return content if mine and len(content) == _KEY_BYTES else None


class KernelFile(IndexDataCacheFile):
    """numba's index and data files of one function, each behind its code. folder: that the code's key lies in; None
    for prebuilt files, which are believed because of who may write them.
    """

    def __init__(self, path: Path, filename_base: str, source_stamp: Any, folder: Path | None) -> None:
        super().__init__(str(path), filename_base, source_stamp)  # type: ignore[no-untyped-call]
        self._folder = folder
        self._place = "" if folder is None else os.path.relpath(path, folder)

    def _load_index(self) -> dict[Any, str]:
        found = self._read(self._index_name)
        if found is None:
            return {}
        version, stamp, overloads = found
        return overloads if (version, stamp) == (numba.__version__, self._source_stamp) else {}

    def _save_index(self, overloads: dict[Any, str]) -> None:
        self._write(self._index_name, (numba.__version__, self._source_stamp, overloads))

    def _load_data(self, name: str) -> Any:
        return self._read(name)

    def _save_data(self, name: str, data: Any) -> None:
        self._write(name, data)

    def _read(self, name: str) -> Any:
        """What the file holds; None if there is none that may be loaded."""
        try:
            with open(os.path.join(self._cache_path, name), "rb") as file:
                of = os.fstat(file.fileno())
                content = file.read()
        except OSError:
            return None
        start = len(_MAGIC) + _MAC_BYTES
        code, body = content[len(_MAGIC) : start], content[start:]
        if not content.startswith(_MAGIC) or os.path.basename(name) != name:
            return None
        if self._folder is None:
            believed = of.st_uid in (0, os.geteuid()) and not of.st_mode & 0o022
        else:
            believed = hmac.compare_digest(code, self._mac(name, body))
        return pickle.loads(body) if believed else None  # noqa: S301 - only what this user or root wrote

    def _write(self, name: str, data: Any) -> None:
        body = dumps(data)  # type: ignore[no-untyped-call]
        with self._open_for_write(os.path.join(self._cache_path, name)) as file:
            file.write(_MAGIC + self._mac(name, body) + body)

    def _mac(self, name: str, body: bytes) -> bytes:
        assert self._folder is not None
        code = hmac.new(_key(self._folder), f"{self._place}\x1f{name}\x1f".encode(), "sha256")
        code.update(body)
        return code.digest()


def prebuilt_file(cache_path: Path, filename_base: str, source_stamp: Any) -> KernelFile | None:
    """The prebuilt files of the function whose own ones would lie in `cache_path`; None if there are none to use."""
    base = prebuilt_directory()
    if base is None:
        return None
    path = base / os.path.relpath(cache_path, base_directory())
    if not path.is_dir() or may_be_changed_by_others(path):
        return None
    return KernelFile(path, filename_base, source_stamp, None)
