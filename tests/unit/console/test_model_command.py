"""`sentinel model` as its users type it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from console import wiring
from core.log.memory import MemoryLog
from tests.builders.baseline_log import fill
from tests.builders.command_line import run_command

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command line on a decided log in memory; (exit code, what it said)."""
    log = MemoryLog()
    fill(log)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wiring, "open_log", lambda settings: log)

    def run(*arguments: str) -> tuple[int, str]:
        return run_command(monkeypatch, capsys, *arguments).told

    return run


def test_a_models_life(run: Run, tmp_path: Path) -> None:
    """Registered from a file, shadow, proposed under four eyes, approved, rolled back; list and show say so."""
    from models.shipped import BASELINE_DIRECTORY

    artifact = tmp_path / "m.txt"
    artifact.write_bytes((BASELINE_DIRECTORY / "model.txt").read_bytes() + b"\n")
    code, out = run("model", "register", str(artifact), "--name", "baseline", "--version", "1.0.1", "--reason", "try")
    assert (code, "registered" in out) == (0, True), out
    assert run("model", "promote", "baseline-1.0.1", "--as", "shadow", "--reason", "watch it")[0] == 0
    assert run("model", "four-eyes", "on", "--reason", "policy")[0] == 0
    done = json.loads(
        run("model", "promote", "baseline-1.0.1", "--reason", "good", "--actor", "ann", "--no-check", "--json")[1]
    )
    assert done["outcome"] == "proposed"
    code, out = run("model", "approve", done["proposal_id"], "--reason", "me too", "--actor", "ann")
    assert code == 2 and "somebody else" in out
    assert run("model", "approve", done["proposal_id"], "--reason", "checked", "--actor", "bob")[0] == 0
    rows = {r["model"]["version"]: r["stage"] for r in json.loads(run("model", "list", "--json")[1])["models"]}
    assert rows == {"1.0.0": "archived", "1.0.1": "champion"}
    code, out = run("model", "rollback", "--reason", "too many alerts")
    assert code == 0 and "baseline-1.0.0 decides again (rolled back)" in out
    shown: dict[str, Any] = json.loads(run("model", "show", "baseline-1.0.1", "--json")[1])
    assert shown["stage"] == "archived" and len(shown["deployments"]) == 2
    assert "baseline-1.0.0" in run("model", "list")[1] and run("model", "show", "baseline-1.0.0")[0] == 0
    assert run("model", "withdraw", "shadow", "--reason", "done")[0] == 0


def test_the_blast_radius_names_every_decision(run: Run, tmp_path: Path) -> None:
    """Counts, rows and the CSV agree with the log."""
    found = json.loads(run("model", "radius", "baseline-1.0.0", "--json", "--rows", "5", "--csv", "all.csv")[1])
    total = sum(found["summary"]["decisions"].values())
    lines = (tmp_path / "all.csv").read_text().splitlines()
    assert total == len(lines) - 1 > 1000 and len(found["decisions"]) == 5
    assert run("model", "radius", "baseline-1.0.0")[0] == 0


def test_mistakes_are_one_line(run: Run, tmp_path: Path) -> None:
    """Unknown models, aliases, files and artifacts end with exit code 2 (or 3 for bytes) and one line."""
    (tmp_path / "bad.txt").write_text("not a model")
    for arguments in (
        ("promote", "nobody-1.0.0", "--reason", "x"),
        ("promote", "baseline-1.0.0", "--as", "king", "--reason", "x"),
        ("register", "nowhere.txt"),
        ("register", "bad.txt", "--name", "m", "--version", "1.0.0"),
        ("show", "nobody-1.0.0"),
        ("rollback", "--reason", "x"),
        ("four-eyes", "maybe", "--reason", "x"),
        ("radius", "baseline-1.0.0", "--csv", "no/such/folder.csv"),
    ):
        code, out = run("model", *arguments)
        assert code in (2, 3) and out.count("\n") == 1 and out.startswith("sentinel: "), out
