"""`njit` for the whole project: compiled code is cached on disk, keyed by the sources it came from.

numba's own cache watches only the file that defines the function. A changed constant or callee in another module would
leave stale machine code behind and silently change decisions. Here the cache folder's name is a digest of every source
file of `core` and `models` and of numba's version. No fastmath, no parallel: they change bits (I3).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numba


def _sources_digest() -> str:
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256(numba.__version__.encode())
    for package in ("core", "models"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(str(path.relative_to(root)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _cache_directory() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    wanted = Path(base) / "stream-sentinel" / "jit" / _sources_digest()
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=wanted):
            return str(wanted)
    except OSError:
        return tempfile.mkdtemp(prefix="stream-sentinel-jit-")


numba.config.CACHE_DIR = _cache_directory()  # type: ignore[attr-defined]


def njit(function: Any) -> Any:
    """`numba.njit(cache=True)` with the cache folder above; nothing in the project needs any other option."""
    return numba.njit(cache=True, error_model="numpy")(function)
