"""`sentinel doctor` as a user runs it on a set-up of `broken_setups`, and what it must say."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

import msgspec
import pytest

from console import cli, stream_findings
from tests.builders.broken_setups import Setup, World
from tests.worker_harness import Stage


class Doctor:
    """Runs the command in this process, without variables of the test's own environment."""

    def __init__(self, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._patch, self._capsys = patch, capsys
        for name in [name for name in os.environ if name.startswith(("SENTINEL_", "KAFKA_", "REDIS_"))]:
            patch.delenv(name)
        patch.setattr(stream_findings, "BACKLOG_S", 0.5)

    def __call__(self, on: Stage, more: str = "") -> tuple[int, list[dict[str, Any]], str]:
        """(exit code, findings, what stands on stderr). more: TOML to add to the settings."""
        self._patch.setattr(sys, "argv", ["sentinel", "doctor", "--json", "--config", str(on.config(more))])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = self._capsys.readouterr()
        return int(ended.value.code or 0), msgspec.json.decode(out.splitlines()[-1]) if out else [], err


def assert_named(each: Setup, world: World, doctor: Doctor) -> None:
    """The fault is named with its remedy and the right exit code, and nothing else is accused."""
    with each.broken(world) as (on, more):
        code, found, err = doctor(on, more)
    if each.status == "usage":
        assert code == 2 and re.search(each.said, err), err
        return
    complaints = [f for f in found if f["status"] != "ok"]
    named = [f for f in complaints if re.fullmatch(each.check, f["check"])]
    said = [f"{f['message']} {f['remedy']}" for f in named if f["status"] == each.status]
    assert any(re.search(each.said, text) for text in said), found
    assert [f for f in complaints if not re.fullmatch(f"{each.check}|{each.also}", f["check"])] == []
    assert code == (1 if any(f["status"] == "fail" for f in found) else 0)
