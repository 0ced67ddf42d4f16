"""The cache of machine code: shared between checkouts, safe between processes."""

from __future__ import annotations

import hashlib
import hmac
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import core.jit

KERNEL = """
from core.jit import njit

@njit
def twice(x):
    return x + x
"""

CALL = """
import sys, time
from pathlib import Path
import numpy as np
from core.kernel import twice

kind, barrier, expected = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
(barrier / kind).touch()
while len(list(barrier.iterdir())) < expected:
    time.sleep(0.001)
value = np.dtype(kind).type(3)
print(twice(value) == value + value, sum(twice.stats.cache_hits.values()), flush=True)
"""


def _checkout(folder: Path, source: str = KERNEL) -> Path:
    package = folder / "core"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    for name in ("jit", "jit_cache", "private_files", "errors"):
        shutil.copy(Path(core.jit.__file__).with_name(f"{name}.py"), package)
    (package / "kernel.py").write_text(source, encoding="utf-8")
    return folder


def _started(checkout: Path, cache: Path, barrier: Path, kind: str, together: int) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(checkout), "XDG_CACHE_HOME": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", CALL, kind, str(barrier), str(together)]
    return subprocess.Popen(command, env=env, cwd=checkout, stdout=subprocess.PIPE, text=True)


def _called(checkout: Path, cache: Path, tmp_path: Path, kinds: list[str]) -> list[tuple[bool, int]]:
    """For each kind, by processes that start together: whether the value was right, and how many loads were hits."""
    barrier = tmp_path / f"barrier{len(list(tmp_path.iterdir()))}"
    barrier.mkdir()
    running = [_started(checkout, cache, barrier, kind, len(kinds)) for kind in kinds]
    answers = [each.communicate(timeout=120)[0].split() for each in running]
    return [(right == "True", int(hits)) for right, hits in answers]


def test_equal_sources_in_two_checkouts_share_machine_code_and_changed_ones_do_not(tmp_path: Path) -> None:
    """The key is what the code can depend on: its sources, not the folder they lie in."""
    cache = tmp_path / "cache"
    first, second = _checkout(tmp_path / "a"), _checkout(tmp_path / "b")
    changed = _checkout(tmp_path / "c", KERNEL.replace("x + x", "x * 2"))
    assert _called(first, cache, tmp_path, ["f8"]) == [(True, 0)]
    assert _called(second, cache, tmp_path, ["f8"]) == [(True, 1)]
    assert _called(changed, cache, tmp_path, ["f8"]) == [(True, 0)]


@pytest.mark.parametrize("round_", range(2))
def test_processes_that_compile_at_once_lose_no_signature(tmp_path: Path, round_: int) -> None:
    """Each signature keeps a data file of its own, also where several processes save together."""
    cache, checkout = tmp_path / "cache", _checkout(tmp_path / "a")
    kinds = ["f8", "f4", "i8", "i4", "u8", "u4", "i2", "u2"]
    assert all(right for right, _ in _called(checkout, cache, tmp_path, kinds))
    assert len(list(cache.rglob("*.nbc"))) == len(kinds)
    assert _called(checkout, cache, tmp_path, kinds) == [(True, 1)] * len(kinds)


def _evil(marker: Path) -> bytes:
    """A pickle that creates a file when it is loaded."""
    return pickle.dumps(_Runs(str(marker)))


class _Runs:
    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (self._path,))


def _forged(content: bytes, marker: Path) -> list[bytes]:
    """What a forger without the key could write instead of a file: a plain pickle, and one behind a made-up code."""
    magic, code = content[:18], content[18:50]
    evil = _evil(marker)
    return [
        evil,
        magic + code + evil,
        magic + hashlib.sha256(evil).digest() + evil,
        magic + hmac.digest(b"", evil, "sha256") + evil,
    ]


@pytest.mark.parametrize("pattern", ["*.nbi", "*.nbc"])
def test_planted_files_are_never_unpickled(tmp_path: Path, pattern: str) -> None:
    """Whatever stands in the place of an index or of machine code is ignored; the code is compiled again."""
    cache, checkout, marker = tmp_path / "cache", _checkout(tmp_path / "a"), tmp_path / "ran"
    assert _called(checkout, cache, tmp_path, ["f8"]) == [(True, 0)]
    (path,) = cache.rglob(pattern)
    for planted in _forged(path.read_bytes(), marker):
        path.write_bytes(planted)
        assert _called(checkout, cache, tmp_path, ["f8"]) == [(True, 0)]
        assert not marker.exists()
    assert _called(checkout, cache, tmp_path, ["f8"]) == [(True, 1)]  # and was kept again


def test_code_of_another_function_or_signature_is_not_believed(tmp_path: Path) -> None:
    """A true file under another name: the code covers the name."""
    cache, checkout = tmp_path / "cache", _checkout(tmp_path / "a")
    assert _called(checkout, cache, tmp_path, ["f8"]) == [(True, 0)]
    assert _called(checkout, cache, tmp_path, ["i4"]) == [(True, 0)]
    first, second = sorted(cache.rglob("*.nbc"))
    first.write_bytes(second.read_bytes())
    assert sorted(_called(checkout, cache, tmp_path, ["f8"]) + _called(checkout, cache, tmp_path, ["i4"])) == [
        (True, 0),
        (True, 1),
    ]


def test_the_folder_and_its_key_are_the_users_alone(tmp_path: Path) -> None:
    """Made with mode 0700 and 0600; a folder of an earlier release is narrowed; a key that others read is replaced."""
    cache, checkout = tmp_path / "cache", _checkout(tmp_path / "a")
    folder = cache / "stream-sentinel" / "jit"
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    assert _called(checkout, cache, tmp_path, ["f8"]) == [(True, 0)]
    key = folder / "key"
    assert (folder.stat().st_mode & 0o777, key.stat().st_mode & 0o777) == (0o700, 0o600)
    known = key.read_bytes()
    assert _called(checkout, cache, tmp_path, ["f8"]) == [(True, 1)]
    key.chmod(0o644)
    assert _called(checkout, cache, tmp_path, ["f8"]) == [(True, 0)]
    assert key.read_bytes() != known and key.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_others_can_replace_is_not_used(tmp_path: Path) -> None:
    """Below a folder that everybody may write: the code is compiled for this process, and one line says why."""
    cache, checkout = tmp_path / "cache", _checkout(tmp_path / "a")
    cache.mkdir()
    cache.chmod(0o777)
    for _ in range(2):
        assert _called(checkout, cache, tmp_path, ["f8"]) == [(True, 0)]
    assert not list(cache.rglob("*.nb?"))


def test_a_prebuilt_folder_is_read_and_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that was compiled beforehand is used without the user's own cache; for others it is compiled as usual."""
    built, checkout = tmp_path / "built", _checkout(tmp_path / "a")
    assert _called(checkout, built, tmp_path, ["f8"]) == [(True, 0)]
    prebuilt = built / "stream-sentinel" / "jit"
    (prebuilt / "key").unlink()  # of who built it: not needed
    before = {path: path.stat().st_mtime_ns for path in prebuilt.rglob("*")}
    monkeypatch.setenv("SENTINEL_KERNELS", str(prebuilt))
    own = tmp_path / "own"
    assert _called(checkout, own, tmp_path, ["f8"]) == [(True, 1)]
    assert not list(own.rglob("*.nbc"))
    assert _called(checkout, own, tmp_path, ["f4"]) == [(True, 0)]
    assert len(list(own.rglob("*.nbc"))) == 1
    assert {path: path.stat().st_mtime_ns for path in prebuilt.rglob("*")} == before


@pytest.mark.parametrize("which", ["folder", "sub", "file"])
def test_a_prebuilt_folder_that_others_may_write_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """Neither the folder, nor one below it, nor a file; what was planted there does not run."""
    built, checkout, marker = tmp_path / "built", _checkout(tmp_path / "a"), tmp_path / "ran"
    assert _called(checkout, built, tmp_path, ["f8"]) == [(True, 0)]
    prebuilt = built / "stream-sentinel" / "jit"
    (path,) = prebuilt.rglob("*.nbi")
    path.write_bytes(path.read_bytes()[:50] + _evil(marker))
    {"folder": prebuilt, "sub": path.parent, "file": path}[which].chmod(0o777)
    monkeypatch.setenv("SENTINEL_KERNELS", str(prebuilt))
    assert _called(checkout, tmp_path / "own", tmp_path, ["f8"]) == [(True, 0)]
    assert not marker.exists()
