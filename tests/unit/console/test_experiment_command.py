"""`sentinel experiment` and `sentinel query experiment` as their users type them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from console import wiring
from core.codec import encode
from core.control_stream import history
from core.errors import BadInput
from core.events import ModelRegistered
from core.log.memory import MemoryLog
from learners.experiments.report import report
from learners.governance import control_events, experiments
from learners.governance.control_events import Act, ArmPlan, Plan
from learners.governance.experiments import known
from learners.governance.models import roll_back
from projections.catalogue import ALL
from projections.engine.states import open_states
from projections.views.experiments_answers import experiment_answer
from projections.views.registry import registry_of
from tests.builders.command_line import run_command
from tests.builders.decisions import append_unchecked
from tests.builders.events import T0
from tests.builders.experiments import ANN, ONE, TWO, experimented, started

Run = Callable[..., tuple[int, str]]
ARMS = ("--arm", "control=tiny-1.0.0:40", "--arm", "new=tiny-1.1.0:60")
WHY = ("--reason", "try", "--actor", "ann")


def registered() -> list[ModelRegistered]:
    return [
        ModelRegistered(**ANN, occurred_at=T0, name="tiny", version=v, digest=d, spec=1)
        for v, d in (("1.0.0", ONE), ("1.1.0", TWO))
    ]


@pytest.fixture
def log() -> MemoryLog:
    return experimented(3, 700, {40: registered()})


@pytest.fixture
def run(log: MemoryLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command line on a log in memory; (exit code, what it said)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wiring, "open_log", lambda settings: log)

    def run(*arguments: str) -> tuple[int, str]:
        return run_command(monkeypatch, capsys, *arguments).told

    return run


def test_an_experiments_life(run: Run, log: MemoryLog) -> None:
    """Started, ramped, shown, concluded with a named winner, which becomes champion; repeating changes nothing."""
    code, out = run("experiment", "start", "spring", *ARMS, "--traffic", "10", *WHY)
    assert (code, "started" in out) == (0, True), out
    definition = known(log).experiments["spring"].definition
    assert [(a.name, a.version, a.digest, a.share) for a in definition.arms] == [
        ("control", "1.0.0", ONE, 4000),
        ("new", "1.1.0", TWO, 6000),
    ]
    assert (definition.traffic, definition.salt, definition.actor, definition.reason) == (1000, "spring", "ann", "try")
    assert run("experiment", "ramp", "50", *WHY)[0] == 0
    assert "unchanged" in run("experiment", "ramp", "50", *WHY)[1]
    code, out = run("experiment", "show", "--plots", "plots")
    assert code == 0 and "continue" in out and Path("plots/exposure.png").stat().st_size > 1000
    code, out = run("experiment", "conclude", *WHY)
    assert code == 2 and "not conclusive yet" in out
    code, out = run("experiment", "conclude", "--winner", "new", *WHY)
    assert code == 0 and "concluded" in out and "tiny-1.1.0 deployed" in out
    assert "(concluded promote new)" in run("experiment", "show")[1]
    held = known(log).experiments["spring"]
    assert held.end == "concluded" and held.conclusion is not None and held.conclusion.winner == "new"
    position = log.control_head()
    code, out = run("experiment", "conclude", "--winner", "new", *WHY)
    assert code == 0 and "unchanged" in out and log.control_head() == position


def test_mistakes_are_one_line_and_change_nothing(run: Run, log: MemoryLog) -> None:
    """Unknown models and metrics, bad shares, a second experiment, a used name: exit code 2, one line, no event."""
    before = log.control_head()
    wrong: list[tuple[str, ...]] = [
        ("start", "x", "--arm", "control=tiny-1.0.0", "--arm", "new=tiny-9.9.9", *WHY),
        ("start", "x", "--arm", "control=tiny-1.1.0", "--arm", "new=tiny-1.0.0", *WHY),
        ("start", "x", "--arm", "control=tiny-1.0.0:50", "--arm", "new=tiny-1.1.0:60", *WHY),
        ("start", "x", "--arm", "control=tiny-1.0.0", *WHY),
        ("start", "x", "--arm", "control", "--arm", "new", *WHY),
        ("start", "x y", *ARMS, *WHY),
        ("start", "x", *ARMS, "--window-days", "inf", *WHY),
        ("start", "x", *ARMS, "--days-max", "nan", *WHY),
        ("start", "x", "--arm", "control=tiny-1.0.0:inf", "--arm", "new=tiny-1.1.0:60", *WHY),
        ("start", "x", *ARMS, "--primary", "happiness", *WHY),
        ("start", "x", *ARMS, "--actor", "ann", "--reason", " "),
        ("stop", *WHY),
        ("ramp", "5", *WHY),
        ("show",),
        ("conclude", "--keep", "--winner", "new", *WHY),
    ]
    for arguments in wrong:
        code, out = run("experiment", *arguments)
        assert (code, out.count("\n")) == (2, 1), (arguments, out)
    assert log.control_head() == before
    assert run("experiment", "start", "x", *ARMS, *WHY)[0] == 0
    assert run("experiment", "start", "y", *ARMS, *WHY)[0] == 2
    assert run("experiment", "stop", *WHY)[0] == 0
    code, out = run("experiment", "start", "x", *ARMS, *WHY)
    assert code == 2 and "another name" in out


def test_what_is_shown_is_what_the_report_says_at_any_time(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """`query experiment --json` is the report; asked again with its as_of after more came, it answers the same."""
    log = experimented(7, 900, {60: [started()]})
    monkeypatch.setattr(wiring, "open_log", lambda settings: log)
    first: dict[str, Any] = json.loads(run("query", "experiment", "e1", "--json")[1])
    answer = experiment_answer(open_states(log, ALL, now_ms=5), "e1")
    mine = report(answer.experiment, answer.seen, "")
    assert [row["mature"] for row in first["arms"]] == [row.mature for row in mine.arms]
    assert first["verdict"]["action"] == mine.verdict.action
    log.append_control([encode(r) for r in registered()], log.control_head())
    assert run("experiment", "stop", *WHY)[0] == 0
    assert json.loads(run("query", "experiment", "--json", "--as-of", first["as_of"])[1]) == first
    ended = json.loads(run("experiment", "show", "--json")[1])
    assert (ended["state"], ended["verdict"]["action"], first["verdict"]["action"]) == ("stopped", "stop", "continue")
    assert "verdict              stop" in run("experiment", "show")[1]
    code, out = run("query", "experiment", "e1", "--as-of", first["as_of"])
    assert code == 0 and "value_lost" in out and "sample_ratio" in out
    assert run("experiment", "show", "--plots", "p")[0] == 0 and Path("p/new.png").stat().st_size > 5000


def test_a_conclusion_without_its_deployment_goes_on(log: MemoryLog) -> None:
    """If only the conclusion was appended, concluding again deploys the winner and appends no second conclusion."""
    act = Act("ann", "try", T0)
    plan = Plan(experiment_id="e1", arms=[ArmPlan("control", "tiny-1.0.0", 5000), ArmPlan("new", "tiny-1.1.0", 5000)])
    experiments.start(log, plan, act)
    answer = experiment_answer(open_states(log, ALL, now_ms=0), "e1")
    held = report(answer.experiment, answer.seen, answer.as_of)

    with_deployment = control_events.conclusion(registry_of(history(log)), held, act, "promote", "new")
    position = append_unchecked(log, with_deployment[0])
    done = experiments.conclude(log, held, act, "promote", "new")
    assert done.outcome == "unchanged" and done.deployment is not None and done.deployment.outcome == "deployed"
    assert log.control_head() == position + 1
    roll_back(log, act)
    again = experiments.conclude(log, held, act, "promote", "new")
    assert again.deployment is None and log.control_head() == position + 2  # what was rolled back stays so


def test_only_what_was_tested_is_promoted(log: MemoryLog) -> None:
    """The winning arm's name belongs to another artifact, or to none, by now: nothing is concluded or deployed."""
    act = Act("ann", "try", T0)
    plan = Plan(experiment_id="e1", arms=[ArmPlan("control", "tiny-1.0.0", 5000), ArmPlan("new", "tiny-1.1.0", 5000)])
    experiments.start(log, plan, act)
    answer = experiment_answer(open_states(log, ALL, now_ms=0), "e1")
    held = report(answer.experiment, answer.seen, answer.as_of)
    control, new = held.definition.arms
    position = log.control_head()
    for arm in (replace(new, digest=ONE), replace(new, version="7.7.7")):
        other = replace(held, definition=replace(held.definition, arms=(control, arm)))
        with pytest.raises(BadInput):
            experiments.conclude(log, other, act, "promote", "new")
    assert log.control_head() == position
