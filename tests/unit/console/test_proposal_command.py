"""`sentinel proposal`: what waits for a second person, of every kind, as its users type it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from console import wiring
from core import control_stream
from core.log.memory import MemoryLog
from learners.governance import models
from learners.governance.control_events import Act
from tests.builders.baseline_log import fill
from tests.builders.command_line import run_command

Run = Callable[..., tuple[int, str]]
ANN, BOB = ("--actor", "ann", "--reason", "season"), ("--actor", "bob", "--reason", "checked")


@pytest.fixture(scope="module")
def decided() -> MemoryLog:
    log = MemoryLog()
    fill(log, transactions=200, accounts=20)
    models.set_four_eyes(log, True, Act("cho", "policy", 1))
    return log


@pytest.fixture
def log(decided: MemoryLog) -> MemoryLog:
    return decided.clone()


@pytest.fixture
def run(log: MemoryLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command line on the log; (exit code, what it said)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wiring, "open_log", lambda settings: log)

    def call(*arguments: str) -> tuple[int, str]:
        return run_command(monkeypatch, capsys, *arguments).told

    return call


def test_thresholds_wait_for_a_second_person(run: Run, log: MemoryLog) -> None:
    """Proposed, shown, not approved by the proposer under any spelling, approved by another; then nothing waits."""
    before = control_stream.current(log).thresholds
    code, said = run("threshold", "set", "--decline", "0.95", *ANN)
    assert code == 0 and "sentinel proposal approve thresholds_changed:" in said and "unchanged" in said
    assert control_stream.current(log).thresholds == before
    name = said.strip().split()[-1].strip("`")
    assert name in run("proposal", "list")[1] and '"decline": 0.95' in run("proposal", "show", name)[1]
    for actor in ("ann", "Ann", "ａｎｎ"):
        code, said = run("proposal", "approve", name, "--actor", actor, "--reason", "mine")
        assert code == 2 and "somebody else" in said
    code, said = run("proposal", "approve", name, *BOB)
    assert code == 0 and control_stream.current(log).decline == 0.95
    assert json.loads(run("proposal", "list", "--json")[1]) == {"proposals": []}
    code, said = run("proposal", "approve", name, *BOB)
    assert code == 2 and "open: none" in said


def test_lists_rules_rates_and_the_switch(run: Run, log: MemoryLog, tmp_path: Path) -> None:
    """Each waits, the daily work on block lists does not; a withdrawn one can't be approved."""
    (tmp_path / "rates.csv").write_text("USD,0.9\n")
    assert "proposal" not in run("list", "add", "merchant", "block", "m1", *ANN)[1]
    waiting = [
        ("list", "remove", "merchant", "block", "m1"),
        ("list", "add", "account", "allow", "a1"),
        ("rule", "disable", "NEW_MERCHANT"),
        ("rates", "set", "rates.csv", "--base", "EUR"),
        ("model", "four-eyes", "off"),
    ]
    for act in waiting:
        code, said = run(*act, *ANN)
        assert code == 0 and "sentinel proposal approve" in said, act
        code, said = run(*act, "--actor", "dan", "--reason", "too")  # it waits already, and is not proposed twice
        assert code == 0 and "sentinel proposal approve" in said, act
    found = json.loads(run("proposal", "list", "--json")[1])["proposals"]
    assert [each["kind"] for each in found] == [
        "list_changed", "list_changed", "rules_changed", "rates_changed", "governance_changed"
    ]  # fmt: skip
    state = control_stream.current(log)
    assert (
        state.governance.four_eyes and "NEW_MERCHANT" not in state.disabled and ("account", "allow") not in state.lists
    )
    assert "once approved" in run("list", "add", "account", "allow", "a2", *ANN)[1]
    assert run("proposal", "withdraw", found[0]["proposal"], *BOB)[0] == 0
    for each in found[1:]:
        assert run("proposal", "approve", each["proposal"], *BOB)[0] == 0, each
    assert run("proposal", "approve", found[0]["proposal"], *BOB)[0] == 2
    state = control_stream.current(log)
    assert not state.governance.four_eyes and "NEW_MERCHANT" in state.disabled and not state.refused
    assert "a1" in state.lists["account", "allow"] and "m1" in state.lists["merchant", "block"]
    said = run("model", "list")[1]
    assert "off" in said and "governance_changed:" in said


def test_an_experiment_and_a_model_wait_too(run: Run, log: MemoryLog) -> None:
    """All traffic by one person is refused; approved, the test runs; less traffic and its end need nobody."""
    from learners.governance.control_events import Artifact
    from learners.governance.models import register

    champion = control_stream.current(log).champion
    assert champion is not None
    from models.shipped import shipped_baseline

    register(log, Artifact(shipped_baseline()[0] + b" ", "m", "2.0.0", 1), Act("ann", "new", 1))
    arms = ("--arm", f"control={champion.label}", "--arm", "new=m-2.0.0")
    code, said = run("experiment", "start", "spring", *arms, *ANN)
    assert code == 0 and "proposed" in said and control_stream.current(log).experiment is None
    name = said.strip().split()[-1].strip("`")
    assert run("proposal", "approve", name, *ANN)[0] == 2
    assert run("proposal", "approve", name, *BOB)[0] == 0 and control_stream.current(log).experiment is not None
    assert "ramped" in run("experiment", "ramp", "5", *ANN)[1]
    assert "proposal approve" in run("experiment", "ramp", "50", *ANN)[1]
    assert "stopped" in run("experiment", "stop", *ANN)[1]
    run("model", "promote", "m-2.0.0", "--no-check", *ANN)
    model = json.loads(run("proposal", "list", "--json")[1])["proposals"][-1]
    assert model["kind"] == "model" and model["change"]["model"] == "m-2.0.0"
    assert run("proposal", "approve", model["proposal"], *BOB)[0] == 0
    now = control_stream.current(log)
    assert now.champion is not None and now.champion.label == "m-2.0.0" and not now.refused
