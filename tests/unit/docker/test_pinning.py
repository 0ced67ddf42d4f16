"""docker/pin.sh, with a stand-in for the docker client: digests behind tags, everywhere, and again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from tests.builders.deployments import DOCKER

FILES = ("Dockerfile", "compose.yaml", "compose.prod.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copies of the files, and a client that gives each image a digest which follows from its name and $ROUND."""
    for name in FILES:
        shutil.copy(DOCKER / name, tmp_path)
    client = tmp_path / "bin" / "docker"
    client.parent.mkdir()
    client.write_text(
        '#!/bin/sh\n[ -z "${FAILS:-}" ] || exit 1\nprintf sha256:; printf %s "$4$ROUND" | sha256sum | cut -c-64\n'
    )
    client.chmod(0o755)
    return tmp_path


def pinned(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    command = ["sh", str(DOCKER / "pin.sh"), str(folder)]
    given = {"PATH": path, "ROUND": "", **environment}
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False)


def named(folder: Path) -> list[str]:
    texts = "".join((folder / name).read_text() for name in FILES)
    return re.findall(r"^(?:FROM|\s+image:) (\S+)", texts, re.M)


def test_every_image_of_others_gets_its_digest(folder: Path) -> None:
    """Both stages of the Dockerfile too; what is built here keeps its name; nothing else changes."""
    before = named(folder)
    assert pinned(folder).returncode == 0
    after = named(folder)
    wanted = [
        each if "stream-sentinel" in each else f"{each}@sha256:{sha256(each.encode()).hexdigest()}" for each in before
    ]
    assert after == wanted and len({*after}) > 8
    for name in FILES:
        stripped = re.sub(r"@sha256:[0-9a-f]{64}", "", (folder / name).read_text())
        assert stripped == (DOCKER / name).read_text()


def test_a_second_time_replaces_digests(folder: Path) -> None:
    """By those that the tags have by then."""
    assert pinned(folder).returncode == 0
    first = named(folder)
    assert pinned(folder, ROUND="2").returncode == 0
    second = named(folder)
    assert len(first) == len(second) and all(
        each.partition("@")[0] == other.partition("@")[0] and (each != other or "@" not in each)
        for each, other in zip(first, second, strict=True)
    )


def test_an_image_that_can_not_be_found_stops_it(folder: Path) -> None:
    """It fails, and writes nothing that is no digest."""
    assert pinned(folder, FAILS="1").returncode != 0
    assert not any("@" in each for each in named(folder))
