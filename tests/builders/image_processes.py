"""Processes of a deployment, run on this machine from the files of the image: as the container would, with its command
line or script, its environment and its folders.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from console.stack import free_port
from tests.builders import image_files
from tests.builders.deployments import Deployed, laid_out

SECONDS = 180.0
"""For something that must happen at all."""


def installed(folder: Path) -> Path:
    """A folder for the PATH that holds `sentinel`, which runs from the files of the image that it laid beside it."""
    (folder / "app").mkdir(parents=True)
    files = image_files.laid(folder / "app", image_files.copied())
    program = folder / "bin" / "sentinel"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(image_files.command(files, image_files.SENTINEL))} "$@"\n')
    program.chmod(0o755)
    return program.parent


class ImageProcess:
    """One process of a deployment, in a root folder of its own. A context manager: leaving it ends the process.

    words: what the container would run. environment: what differs from the deployment's.
    """

    def __init__(
        self, deployed: Deployed, words: Sequence[str], root: Path, bin_folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = deployed.name
        self.port = free_port()
        self.words = [*words]
        self.home = root / "var" / "lib" / "sentinel"
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.log = root / "output"
        kept = {name: os.environ[name] for name in ("HOME", "XDG_CACHE_HOME", "LANG") if name in os.environ}
        served = {"SENTINEL_METRICS_HOST": "127.0.0.1", "SENTINEL_METRICS_PORT": str(self.port)}
        path = {"PATH": f"{bin_folder}:{os.environ['PATH']}"}
        self.environment = {**kept, **path, **laid_out(deployed, root), **served, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, *words: str) -> str:
        """Run a command of `sentinel` in its place to the end, and return what it printed. Fails if it fails."""
        done = subprocess.run(
            ["sentinel", *words],
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self.words, env=self.environment, cwd=self.home, stdout=log, stderr=subprocess.STDOUT
            )
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """Send SIGTERM, as a container platform does; the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(SECONDS)

    def asked(self, path: str) -> int:
        """The HTTP status of its answer; 0 for none."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return int(answer.status)
        except HTTPError as error:
            return error.code
        except (URLError, OSError):
            return 0

    def wait(self, path: str) -> None:
        """Wait until it answers 200. Fails with what it said if it ends, or never does."""
        assert self._process is not None
        deadline = time.monotonic() + SECONDS
        while self.asked(path) != 200:
            code = self._process.poll()
            assert code is None, f"{self.name} ended with {code}: {self.said()}"
            assert time.monotonic() < deadline, f"{self.name}: no 200 at {path}: {self.said()}"
            time.sleep(0.1)

    def said(self) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-3000:]
