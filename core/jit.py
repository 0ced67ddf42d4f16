"""`njit` for the whole project: compiled code is cached on disk, keyed by the sources that it can depend on.

numba's own cache watches only the file that defines the function. A changed constant or callee in another module would
leave stale machine code behind and silently change decisions. Here the cache folder's name is a digest of numba's
version, of the function's module and of every module of `core` and `models` that it imports, directly or not. The path
of the checkout is not part of the key: equal sources share machine code. No fastmath, no parallel: they change bits
(I3).

numba numbers a function's data files by what the index lists, without a lock: two processes that compile it for two
signatures at once could each write the same number, and one signature would then run the other's code. Here saving
takes a lock. What may be loaded is decided by `core.jit_cache`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, UserProvidedCacheLocator

from core.jit_cache import KernelFile, base_directory, prebuilt_file

_ROOT = Path(__file__).resolve().parent.parent
_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+((?:core|models)[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)"
                     r"|import[ \t]+((?:core|models)[\w.]*))", re.MULTILINE)  # fmt: skip


@cache
def _imported(path: Path) -> frozenset[Path]:
    """The modules of `core` and `models` that a source file imports by itself."""
    found: set[Path] = set()
    for module, names, plain in _IMPORT.findall(path.read_text(encoding="utf-8")):
        name = module or plain
        found.add(_file(name))
        found |= {_file(f"{name}.{each}") for each in re.findall(r"\w+", names)}
        parts = name.split(".")
        found |= {_file(".".join(parts[:k])) for k in range(1, len(parts))}
    return frozenset(each for each in found if each.is_file())


def _file(module: str) -> Path:
    path = _ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _sources_digest(path: Path) -> str:
    """The digest of all that machine code of this source file can depend on."""
    known, waiting = {path}, [path]
    while waiting:
        fresh = _imported(waiting.pop()) - known
        known |= fresh
        waiting += fresh
    digest = hashlib.sha256(numba.__version__.encode())
    for each in sorted(known):
        digest.update(os.path.relpath(each, _ROOT).encode())
        digest.update(_content_digest(each))
    return digest.hexdigest()[:16]


@cache
def _content_digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


class _Locator(UserProvidedCacheLocator):
    """Names the folder by the module's place in the project, not by its path on this machine."""

    @classmethod
    def get_suitable_cache_subpath(cls, py_file: str) -> str:
        return os.path.relpath(os.path.dirname(os.path.realpath(py_file)), _ROOT).replace(os.sep, ".")


class _Implementation(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012


class _Cache(FunctionCache):
    """numba's cache of one function, safe where several processes save at once, and where others write files."""

    _impl_class = _Implementation

    def __init__(self, function: Any) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        of = self._impl.filename_base, self._impl.locator.get_source_stamp()
        path = Path(self._cache_path)
        self._cache_file = KernelFile(path, *of, base_directory())
        self._prebuilt = prebuilt_file(path, *of)

    def _load_overload(self, sig: Any, target_context: Any) -> Any:
        found = super()._load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        if found is None and self._prebuilt is not None and self._enabled:
            data = self._prebuilt.load(self._index_key(sig, target_context.codegen()))  # type: ignore[no-untyped-call]
            found = None if data is None else self._impl.rebuild(target_context, data)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        with _locked(Path(self.cache_path)):
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; without one if the file system has no locks."""
    with (folder / "lock").open("a") as handle:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def njit(function: Any) -> Any:
    """`numba.njit` with the cache above. It holds the interpreter's lock: a worker that let go of it in each kernel
    would wait for other threads several times a batch.
    """
    return _compiled(function, nogil=False)


def njit_unlocked(function: Any) -> Any:
    """`njit` that lets other threads run meanwhile: for passes over many rows in several threads. The bits are the
    same.
    """
    return _compiled(function, nogil=True)


def _compiled(function: Any, *, nogil: bool) -> Any:
    path = Path(function.__code__.co_filename).resolve()
    numba.config.CACHE_DIR = str(base_directory() / _sources_digest(path))  # type: ignore[attr-defined]
    dispatcher: Any = numba.njit(error_model="numpy", nogil=nogil)(function)
    dispatcher._cache = _Cache(function)
    return dispatcher
