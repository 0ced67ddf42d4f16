"""Experiments between programs as their users type them: started, told, concluded, and what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from console import wiring
from console.commands import experiment as command
from core import control_stream
from core.errors import BadInput
from core.events import ExperimentStarted, GovernanceChanged
from core.log.memory import MemoryLog
from core.program import loading
from tests.builders.baseline_log import fill
from tests.builders.command_line import run_command
from tests.builders.decisions import append_unchecked
from tests.builders.events import T0
from tests.builders.program_texts import ANN, BOB, ONE, TWO

Run = Callable[..., tuple[int, str]]
MODEL = "baseline-1.0.0"
FIELD = '[fields]\nshop = { from = "attributes.shop", type = "string", required = true }\n'
NEEDY = ONE.replace('"cards"', '"needy"') + "\n" + FIELD
ARMS = ("--arm", f"control={MODEL}", "--arm", "fewer=cards@1.0.0")


@pytest.fixture(scope="module")
def decided() -> MemoryLog:
    """A decided log that no test changes."""
    log = MemoryLog()
    fill(log, transactions=60, accounts=10)
    return log


@pytest.fixture
def log(decided: MemoryLog) -> MemoryLog:
    """The decided log; what is appended to it is this test's own."""
    return decided.clone()


@pytest.fixture
def run(log: MemoryLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command line on the log, in a folder with programs; (exit code, what it said)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wiring, "open_log", lambda settings: log)
    monkeypatch.setattr(command, "await_prepared", lambda *_: None)  # there is no worker
    for name, text in (("one.toml", ONE), ("two.toml", TWO), ("needy.toml", NEEDY)):
        (tmp_path / name).write_text(text)

    def run(*arguments: str) -> tuple[int, str]:
        return run_command(monkeypatch, capsys, *arguments).told

    return run


def test_a_program_is_tried_and_wins(run: Run, log: MemoryLog) -> None:
    """Started, told by `served` and `show`, concluded: the program decides for all, and its proposal is the cause."""
    digest = loading.check(ONE.encode()).digest
    run("program", "propose", "one.toml", *ANN)
    code, out = run("experiment", "start", "rules", *ARMS, *ANN)
    assert code == 0 and "bytes more for each account" in out and "experiment rules started" in out
    state = control_stream.current(log)
    assert state.experiment is not None
    assert [(arm.model, arm.share, arm.program) for arm in state.experiment.arms] == [
        ("baseline", 5000, ""),
        ("baseline", 5000, digest),
    ]
    found = json.loads(run("program", "served", "--at", f"c{log.control_head()}", "--json")[1])
    assert (found["program"], found["experiment"], found["traffic"]) == ("default", "rules", 10_000)
    assert [(arm["arm"], arm["program"]) for arm in found["arms"]] == [("control", "default"), ("fewer", "cards@1.0.0")]
    assert (found["arms"][1]["proposed"]["actor"], found["arms"][1]["started"]["reason"]) == ("ann", ANN[3])
    assert "cards@1.0.0" in run("program", "served", "--at", f"c{log.control_head()}")[1]
    before = json.loads(run("program", "served", "--at", f"c{log.control_head() - 1}", "--json")[1])
    assert before["arms"] == [] and before["experiment"] == ""
    assert digest[:16] in run("experiment", "show")[1]
    assert "rules/fewer" in run("program", "history")[1]
    code, out = run("program", "withdraw", "cards@1.0.0:0", *ANN)
    assert code == BadInput.exit_code and "stop or conclude it first" in out
    code, out = run("experiment", "conclude", "--winner", "fewer", *BOB)
    assert code == 0 and "cards@1.0.0 decides" in out
    state = control_stream.current(log)
    assert state.program == digest and state.experiment is None and not state.refused
    assert "unchanged" in run("experiment", "conclude", "--winner", "fewer", *BOB)[1]
    assert control_stream.current(log).position == state.position


def test_a_deployment_says_which_experiment_it_ends(run: Run, log: MemoryLog) -> None:
    """So does a rollback; afterwards `served` tells of no arms."""
    run("program", "propose", "one.toml", *ANN)
    run("program", "propose", "two.toml", *ANN)
    assert run("experiment", "start", "rules", *ARMS, *ANN)[0] == 0
    assert "experiment rules ended" in run("program", "deploy", "cards@2.0.0", "--now", *BOB)[1]
    assert json.loads(run("program", "served", "--at", f"c{log.control_head()}", "--json")[1])["arms"] == []
    assert run("experiment", "start", "again", *ARMS, *ANN)[0] == 0
    assert "experiment again ended" in run("program", "rollback", *BOB)[1]
    assert "ended" not in run("program", "deploy", "cards@2.0.0", "--now", *BOB)[1]


def test_under_four_eyes_a_program_needs_a_second_person(run: Run, log: MemoryLog) -> None:
    """To be tried as to be deployed; approved once, it is deployed when it wins."""
    append_unchecked(log, GovernanceChanged(occurred_at=T0, actor="cho", four_eyes=True))
    run("program", "propose", "one.toml", *ANN)
    code, out = run("experiment", "start", "rules", *ARMS, *ANN)
    assert code == BadInput.exit_code and "a second person must approve a proposal" in out
    run("program", "approve", "cards@1.0.0:0", *BOB)
    code, out = run("experiment", "start", "rules", *ARMS, *ANN)
    assert code == 0 and "proposed" in out
    [proposal] = control_stream.current(log).governance.changes
    assert run("proposal", "approve", proposal, *BOB)[0] == 0
    assert "cards@1.0.0 decides" in run("experiment", "conclude", "--winner", "fewer", *ANN)[1]
    assert control_stream.current(log).program == loading.check(ONE.encode()).digest


@pytest.mark.parametrize(
    ("arms", "why"),
    [
        (("control=" + MODEL, "new=cards@9.0.0"), "no program is called 'cards@9.0.0'"),
        (("control=cards@1.0.0", "new=" + MODEL), "must be decided by the deployed program"),
        (("control=" + MODEL, "new=needy@1.0.0"), "requires the field shop"),
        (("control=" + MODEL, f"new={MODEL},"), "is not valid; write it as"),
        (("control=" + MODEL + ":50", "new=cards@1.0.0:x"), "is not a number"),
        (("control=" + MODEL, "new=other-1.0.0,cards@1.0.0"), "no model 'other-1.0.0' is registered"),
    ],
)
def test_mistakes_are_told_before_anything_starts(run: Run, log: MemoryLog, arms: Any, why: str) -> None:
    """One line, and no experiment."""
    run("program", "propose", "one.toml", *ANN)
    run("program", "propose", "needy.toml", *ANN)
    chosen = [each for arm in arms for each in ("--arm", arm)]
    code, out = run("experiment", "start", "rules", *chosen, *ANN)
    assert code == BadInput.exit_code and why in out, out
    assert not any(isinstance(event, ExperimentStarted) for _, event in control_stream.accepted(log))


def test_the_default_is_no_arm_beside_another_program(run: Run) -> None:
    """It was never proposed; while it is deployed, it is what every arm without a program has."""
    run("program", "propose", "one.toml", *ANN)
    assert run("experiment", "start", "a", *ARMS[:2], "--arm", f"same={MODEL},default", *ANN)[0] == 0
    run("program", "deploy", "cards@1.0.0", "--now", *ANN)
    code, out = run("experiment", "start", "b", *ARMS[:2], "--arm", f"old={MODEL},default", *ANN)
    assert code == BadInput.exit_code and "roll back to it first" in out


def test_a_backtest_since_a_deployment(run: Run) -> None:
    """Named moments stand for `--from`; what never happened is said."""
    run("program", "propose", "one.toml", *ANN)
    code, out = run("program", "backtest", "one.toml", "--since", "deployed")
    assert code == BadInput.exit_code and "none was ever deployed" in out
    code, out = run("program", "backtest", "one.toml", "--since", "yesterday")
    assert code == BadInput.exit_code and "expected `deployed` or `proposed`" in out
    code, out = run("program", "backtest", "one.toml", "--since", "proposed", "--from", "1-1")
    assert code == BadInput.exit_code and "not both" in out
    code, out = run("program", "backtest", "one.toml", "--since", "proposed")
    assert "no decision is in this range" in out
