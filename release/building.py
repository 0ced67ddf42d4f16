"""Builds the wheels and source archives of one commit, with the same bytes each time.

What is built is the commit, not the working tree: `git archive` gives the files, their modes and one time for all.
What still differs between two builds is set here: times of generated files, owners, the order in a source archive, and
the header of its gzip stream. The tools are those of `.venv`, whose versions the lock names; another Python or zlib may
compress to other bytes.
"""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGES = (".", "verifier")
"""Folders that are packages of their own."""
_BUILD = """
import os, sys
from setuptools import build_meta
os.umask(0o022)
folder = sys.argv[1]  # which setuptools overwrites
build_meta.build_wheel(folder)
build_meta.build_sdist(folder)
"""


def git(root: Path, *arguments: str) -> str:
    """What git says, without the last line's end."""
    done = subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.rstrip("\n")


def build(root: Path, output: Path, revision: str = "HEAD") -> list[Path]:
    """Build every package of a revision into `output`; returns the files, by name. root: the repository."""
    output.mkdir(parents=True, exist_ok=True)
    epoch = int(git(root, "log", "-1", "--format=%ct", revision))
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0", "PYTHONPATH": ""}
    built: list[Path] = []
    with tempfile.TemporaryDirectory() as folder:
        tree, made = Path(folder) / "tree", Path(folder) / "made"
        tree.mkdir()
        made.mkdir()
        archive = ["git", "-C", str(root), "-c", "tar.umask=0022", "archive", "--format=tar", revision]
        with tarfile.open(fileobj=io.BytesIO(subprocess.run(archive, check=True, capture_output=True).stdout)) as files:
            files.extractall(tree, filter="fully_trusted")
        for package in PACKAGES:
            subprocess.run(
                [sys.executable, "-c", _BUILD, str(made)],
                cwd=tree / package,
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
            )
        for file in sorted(made.iterdir()):
            content = _normal(file.read_bytes(), epoch) if file.name.endswith(".tar.gz") else file.read_bytes()
            (output / file.name).write_bytes(content)
            built.append(output / file.name)
    return built


def _normal(archive: bytes, epoch: int) -> bytes:
    """The source archive with its files in order, all of one time and of nobody."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as source,
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=epoch) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as target,
    ):
        for member in sorted(source.getmembers(), key=lambda each: each.name):
            member.mtime, member.pax_headers = epoch, {}
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            target.addfile(member, source.extractfile(member) if member.isfile() else None)
    return packed.getvalue()
