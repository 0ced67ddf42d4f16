"""One builder for each act: a command and the loop write the same bytes in the same situation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from console.commands import experiment as experiment_command
from core import control_stream, events
from core.codec import decode_control, encode
from core.control_stream import current, history
from core.errors import BadInput
from core.events import Arm, Control
from core.log.memory import MemoryLog
from core.times import DAY_MS, HOUR_MS
from learners.experiments import paired
from learners.experiments import report as experiment_report
from learners.experiments.design import USUAL
from learners.experiments.verdict import METRICS, Verdict
from learners.governance import control_events, experiments, models
from learners.governance.control_events import Act, ArmPlan, Artifact, Plan
from learners.loop import candidates
from learners.loop.candidates import Candidate
from learners.loop.evidence import ModelComparison, NewLabels
from learners.loop.orchestrator import Orchestrator, Tools
from learners.loop.policy import Evidence
from learners.loop.settings import LearnSettings
from learners.training.gate import GateResult
from projections.views.experiments import Experiment
from projections.views.experiments_answers import Observations
from projections.views.registry import registry_of
from tests.builders.decisions import append_unchecked
from tests.builders.loop import paired_trial
from tests.builders.models import ARTIFACT, load_tiny

NOW = 1_770_000_000_000
ONE, TWO = ARTIFACT, ARTIFACT + b" "
BY: dict[str, Any] = {"occurred_at": NOW, "actor": "loop", "reason": "r"}
SETTINGS = LearnSettings(watch_drift=False)
SHADOW_SEEN = ModelComparison(5000, 0.02, 0.02, 0)


def model(content: bytes, version: str) -> dict[str, str]:
    return {"name": "m", "version": version, "digest": hashlib.sha256(content).hexdigest()}


CHAMPION: tuple[Control, ...] = (
    events.ModelRegistered(**BY, **model(ONE, "1.0.0"), spec=1),
    events.ModelDeployed(**BY, **model(ONE, "1.0.0")),
)
STARTED = events.RetrainingStarted(**BY, run_id="r1", trigger="labels", known_until=NOW, parent="m-1.0.0")
SHADOWED: tuple[Control, ...] = (
    *CHAMPION,
    STARTED,
    events.ModelRegistered(**BY, **model(TWO, "1.1.0"), spec=1),
    events.RetrainingFinished(**BY, run_id="r1", **model(TWO, "1.1.0")),
    events.ModelDeployed(**BY, **model(TWO, "1.1.0"), alias="shadow"),
)
ARMS = tuple(
    Arm(name, of["name"], of["version"], of["digest"], 5000)
    for name, of in (("control", model(ONE, "1.0.0")), ("candidate", model(TWO, "1.1.0")))
)
TEST = events.ExperimentStarted(**BY, experiment_id="e1", arms=ARMS, salt="s", traffic=1000, causation_id="m-1.1.0")
TESTED: tuple[Control, ...] = (*SHADOWED, TEST, events.ModelWithdrawn(**BY, alias="shadow"))
FOUR_EYES = events.GovernanceChanged(**BY, four_eyes=True)
PROMOTED: tuple[Control, ...] = (*SHADOWED, events.ModelDeployed(**BY, **model(TWO, "1.1.0")))


def log_of(*control: Control) -> MemoryLog:
    log = MemoryLog()
    for content in (ONE, TWO):
        log.put_blob(content)
    append_unchecked(log, *control)
    return log


def judged(action: Any, winner: str = "", accounts: int = 300) -> experiment_report.Report:
    """A report of TEST that comes to this verdict, whatever its accounts show."""
    rng = np.random.default_rng(1)
    arm, at = rng.integers(0, 2, accounts), NOW + np.arange(accounts)
    outcomes = {metric: (rng.random(accounts) < 0.1).astype(np.float64) for metric in METRICS}
    seen = Observations(arm, at, arm, at, outcomes, 0, 0, 0, 0, NOW + DAY_MS)
    found = experiment_report.report(Experiment(TEST, len(SHADOWED) + 1), seen, "")
    return msgspec.structs.replace(found, verdict=Verdict(action, winner, ("as the data say",)))


def by_the_loop(
    monkeypatch: pytest.MonkeyPatch, control: tuple[Control, ...], later_ms: int, settings: LearnSettings, **seen: Any
) -> tuple[list[Control], list[bytes]]:
    """What one step of the loop appends, and of that the bytes of what a command can do as well."""
    log = log_of(*control)

    def evidence(self: Orchestrator, state: Any, now_ms: int) -> Evidence:
        return Evidence(**({"labels": NewLabels(0, 0)} | seen))

    with monkeypatch.context() as patch:
        patch.setattr(Orchestrator, "evidence", evidence)
        loop = Orchestrator(log, [0], settings, Tools(load_tiny, lambda call: 0.0), actor="loop")
        said = loop.step(NOW + later_ms)[1]
    assert said and not current(log).refused
    own = (events.RetrainingFinished, events.DegradationDetected)
    return said, [encode(event) for event in said if not isinstance(event, own)]


Command = Callable[[MemoryLog, Act], Any]
PLAN = Plan(
    experiment_id="m-1.1.0-vs-1.0.0-1",
    arms=(ArmPlan("control", "m-1.0.0", 5000), ArmPlan("candidate", "m-1.1.0", 5000)),
    traffic=1000,
    is_guardrail=True,
    evidence=paired.evidence(paired_trial()),
)
CASES: dict[str, tuple[tuple[Control, ...], int, dict[str, Any], dict[str, Any], Command]] = {
    "start": (
        SHADOWED,
        2 * DAY_MS,
        {},
        {"shadow": SHADOW_SEEN, "trial": paired_trial()},
        lambda log, act: experiments.start(log, PLAN, act),
    ),
    "ramp": (TESTED, 30 * HOUR_MS, {}, {}, lambda log, act: experiments.ramp(log, 5000, act)),
    "conclude: promote": (
        TESTED,
        DAY_MS,
        {},
        {"report": judged("promote", "candidate")},
        lambda log, act: experiments.conclude(log, judged("promote", "candidate"), act),
    ),
    "conclude: promote, four eyes": (
        (*TESTED, FOUR_EYES),
        DAY_MS,
        {},
        {"report": judged("promote", "candidate")},
        lambda log, act: experiments.conclude(log, judged("promote", "candidate"), act),
    ),
    "conclude: stop": (
        TESTED,
        DAY_MS,
        {},
        {"report": judged("stop")},
        lambda log, act: experiments.conclude(log, judged("stop"), act),
    ),
    "conclude: rollback": (
        TESTED,
        DAY_MS,
        {},
        {"report": judged("rollback", "candidate")},
        lambda log, act: experiments.conclude(log, judged("rollback", "candidate"), act),
    ),
    "promote": (
        SHADOWED,
        2 * DAY_MS,
        {"test": False},
        {"shadow": SHADOW_SEEN, "trial": paired_trial()},
        lambda log, act: models.deploy(log, "m-1.1.0", act),
    ),
    "propose": (
        (*SHADOWED, FOUR_EYES),
        2 * DAY_MS,
        {"test": False},
        {"shadow": SHADOW_SEEN, "trial": paired_trial()},
        lambda log, act: models.deploy(log, "m-1.1.0", act),
    ),
    "withdraw": (PROMOTED, HOUR_MS, {}, {}, lambda log, act: models.withdraw(log, "shadow", act)),
    "roll back": (
        PROMOTED,
        HOUR_MS,
        {},
        {"way_back": "m-1.0.0", "unloadable": "gone"},
        models.roll_back,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_command_and_the_loop_write_the_same_bytes(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """The same situation, actor, reason, moment and cause: event for event, in one append."""
    control, later_ms, settings, seen, command = CASES[case]
    said, expected = by_the_loop(monkeypatch, control, later_ms, msgspec.structs.replace(SETTINGS, **settings), **seen)
    log = log_of(*control)
    first: Any = said[0]
    command(log, Act("loop", first.reason, NOW + later_ms, first.causation_id))
    assert [entry.payload for entry in history(log)[len(control) :]] == expected


def test_a_trained_model_is_registered_and_deployed_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the loop trained, registered and deployed as shadow by hand: the same bytes. Figures that JSON lacks go."""
    metrics = {"average_precision": 0.5, "lift": float("inf"), "recall": float("nan")}
    made = Candidate("retrained", "1.1.0", TWO, GateResult(True, (), metrics))
    monkeypatch.setattr(candidates, "make", lambda *_: [made])
    said, expected = by_the_loop(monkeypatch, (*CHAMPION, STARTED), 0, SETTINGS)
    assert [type(event).__name__ for event in said] == ["ModelRegistered", "RetrainingFinished", "ModelDeployed"]
    log = log_of(*CHAMPION, STARTED)
    first: Any = said[0]
    act = Act("loop", first.reason, NOW, first.causation_id)
    models.register(log, Artifact(TWO, "m", "1.1.0", first.spec, metrics, "m-1.0.0"), act)
    models.deploy(log, "m-1.1.0", act, "shadow")
    assert [entry.payload for entry in history(log)[3:]] == expected
    assert first.metrics == {"average_precision": 0.5}


def test_the_defaults_are_one_set() -> None:
    """A test that names nothing is judged alike, whoever starts it: options, settings and the plan."""
    assert LearnSettings().design() == USUAL == Plan(experiment_id="x", arms=()).design
    log = log_of(*CHAMPION, events.ModelRegistered(**BY, **model(TWO, "1.1.0"), spec=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment_command, "opened_states", _opened(log))
        experiment_command.start(None, "x", ["control=m-1.0.0", "new=m-1.1.0"], "why", actor="ann")  # type: ignore[arg-type]
    started: Any = history(log)[-1].event
    assert {name: getattr(started, name) for name in USUAL.__struct_fields__} == msgspec.structs.asdict(USUAL)


def _opened(log: MemoryLog) -> Any:
    @contextmanager
    def opened(_: Any) -> Any:
        yield SimpleNamespace(log=log)

    return opened


def test_evidence_names_what_a_conclusion_rests_on() -> None:
    """Accounts by arm, gains with intervals and log e; what is not known yet is left out, for JSON has no NaN."""
    found = control_events.evidence(judged("stop"))
    accounts = {f"{arm}.{state}" for arm in ("control", "candidate") for state in ("exposed", "mature")}
    figures = ("gain", "low", "high", "log_e_better", "log_e_worse")
    assert set(found) == {"srm_p", *accounts, *(f"candidate.{m}.{figure}" for m in METRICS for figure in figures)}
    assert found["control.mature"] + found["candidate.mature"] == 300
    nothing = control_events.evidence(judged("stop", accounts=0))
    assert "candidate.mature" in nothing and "candidate.value_lost.gain" not in nothing
    told = events.ExperimentConcluded(**BY, experiment_id="e1", verdict="keep", evidence=nothing)
    assert decode_control(encode(told)) == told


def test_a_proposal_never_takes_another_ones_name() -> None:
    """Somebody's proposal has the ID that would be next: the new one gets another, and is open."""
    mine = f"m-1.1.0:champion:{2}"
    theirs = events.DeploymentProposed(**BY, proposal_id=mine, **model(ONE, "9.9.9"))
    log = log_of(*SHADOWED, FOUR_EYES, theirs)
    done = models.deploy(log, "m-1.1.0", Act("ann", "why", NOW))
    assert (done.outcome, done.proposal_id) == ("proposed", mine + "+")


def test_a_shadow_that_is_tested_is_no_shadow_any_more() -> None:
    """Whoever starts the test of a shadow withdraws it; another model's shadow stays."""
    log = log_of(*SHADOWED)
    experiments.start(log, PLAN, Act("ann", "why", NOW))
    assert current(log).shadow is None and current(log).experiment is not None
    other = events.ModelDeployed(**BY, **model(ONE, "7.0.0"), alias="shadow")
    registry = registry_of(history(log_of(*SHADOWED, other)))
    assert len(control_events.start(registry, PLAN, Act("ann", "why", NOW))) == 1


def test_only_what_is_registered_wins() -> None:
    """The winning arm's name is nobody's, or another artifact's: nothing is concluded."""
    act = Act("ann", "why", NOW)
    for control in (TESTED, (*CHAMPION, TEST)):
        log = log_of(*control)
        other = msgspec.structs.replace(TEST, arms=(ARMS[0], msgspec.structs.replace(ARMS[1], digest="0" * 64)))
        report = msgspec.structs.replace(judged("promote", "candidate"), definition=other)
        with pytest.raises(BadInput, match=r"cannot be promoted|no model"):
            control_stream.append(
                log, lambda known, report=report: control_events.conclusion(registry_of(known.entries), report, act)
            )
        assert log.control_head() == len(control)
