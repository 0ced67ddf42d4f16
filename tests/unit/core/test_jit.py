"""The cache of machine code: shared between checkouts, safe between processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

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
    shutil.copy(core.jit.__file__, package / "jit.py")
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
