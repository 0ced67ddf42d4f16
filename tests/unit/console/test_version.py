"""`sentinel --version` is the package's version, which is written in pyproject.toml and nowhere else."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from typer.testing import CliRunner

from console.cli import application

ROOT = Path(__file__).resolve().parents[3]


def test_the_version_is_the_projects() -> None:
    """What is installed is this tree: `make install` after a change of the version."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    shown = CliRunner().invoke(application(["replay"]), ["--version"])
    assert (shown.exit_code, shown.stdout) == (0, f"stream-sentinel {declared}\n")


def test_no_module_repeats_the_version() -> None:
    """No source file but pyproject.toml spells it out."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    rooms = ("core", "models", "projections", "learners", "responders", "sources", "ingest", "console")
    spelt = re.compile(rf"stream-sentinel {re.escape(declared)}|__version__ *=")
    files = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    assert files and not [path for path in files if spelt.search(path.read_text())]
