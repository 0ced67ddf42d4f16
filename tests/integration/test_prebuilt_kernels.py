"""The kernels of the image: a process that uses them compiles nothing, and keeps nothing of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
USE = """
from console.prebuilt import use
use()
"""


def run(*arguments: str, cache: Path, **environment: str) -> str:
    """Run Python in this checkout with a cache of its own; what it printed."""
    given = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache), **environment}
    done = subprocess.run([sys.executable, *arguments], env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_process_with_prebuilt_kernels_compiles_nothing(tmp_path: Path) -> None:
    """As docker/Dockerfile builds them. The folder is not written, and holds no key."""
    kernels, own = tmp_path / "kernels", tmp_path / "own"
    assert "files in" in run("-m", "console.prebuilt", str(kernels), cache=tmp_path / "unused")
    assert len(list(kernels.rglob("*.nbc"))) > 50 and not list(kernels.rglob("key"))
    before = {path: path.stat().st_mtime_ns for path in kernels.rglob("*")}
    run("-c", USE, cache=own, SENTINEL_KERNELS=str(kernels))
    assert not list(own.rglob("*.nbc"))
    assert {path: path.stat().st_mtime_ns for path in kernels.rglob("*")} == before
