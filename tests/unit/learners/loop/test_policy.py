"""What the loop does next: every row of the policy's table, from states folded out of events."""

from __future__ import annotations

from typing import Any

import pytest

from core import events
from core.errors import BadInput
from core.times import DAY_MS, HOUR_MS
from learners.loop.evidence import NewLabels
from learners.loop.policy import Evidence, Step, breach, decide
from learners.loop.settings import LearnSettings, learn_settings
from learners.loop.state import LoopState, folded
from tests.builders.decisions import control_entries
from tests.builders.loop import comparison, paired_trial

NOW = 1_770_000_000_000
SETTINGS = LearnSettings()
MANY = NewLabels(1000, 100)
FEW = NewLabels(1000, 10)


def by(**values: Any) -> dict[str, Any]:
    return {"occurred_at": NOW, "actor": "x", "reason": "r"} | values


def registered(version: str) -> events.ModelRegistered:
    return events.ModelRegistered(**by(), name="m", version=version, digest=version * 4, spec=1)


def deployed(version: str, alias: str = "champion", **more: Any) -> events.ModelDeployed:
    return events.ModelDeployed(**by(**more), name="m", version=version, digest=version * 4, alias=alias)


STARTED = events.RetrainingStarted(**by(), run_id="r1", trigger="labels", known_until=NOW, parent="m-1.0.0")
FINISHED = events.RetrainingFinished(**by(), run_id="r1", name="m", version="1.1.0", digest="1.1.0" * 4)
REJECTED = events.RetrainingRejected(**by(), run_id="r1")
TEST = events.ExperimentStarted(
    **by(causation_id="m-1.1.0"),
    experiment_id="e1",
    arms=(
        events.Arm("control", "m", "1.0.0", "1.0.0" * 4, 5000),
        events.Arm("candidate", "m", "1.1.0", "1.1.0" * 4, 5000),
    ),
    salt="s",
    traffic=1000,
)
WITHDRAWN = events.ModelWithdrawn(**by(), alias="shadow")
FIRST = (registered("1.0.0"), deployed("1.0.0"))
SHADOWED = (*FIRST, STARTED, registered("1.1.0"), FINISHED, deployed("1.1.0", "shadow"))
TESTED = (*SHADOWED, TEST, WITHDRAWN)
PROMOTE = events.ExperimentConcluded(**by(), experiment_id="e1", verdict="promote", winner="candidate")


def state(*control: Any) -> LoopState:
    found = folded(control_entries(*control))
    assert not found.registry.refused
    return found


PROGRAM = (
    events.ProgramRegistered(**by(), name="cards", version="1.0.0", digest="1" * 64),
    events.ProgramDeployed(**by(), digest="1" * 64),
)
"""Another program decides, which ends a test."""


def next_step(control: tuple[Any, ...], later_ms: int = 0, settings: LearnSettings = SETTINGS, **seen: Any) -> Step:
    evidence = Evidence(**({"labels": NewLabels(0, 0)} | seen))
    return decide(state(*control), evidence, settings, NOW + later_ms)


@pytest.mark.parametrize(
    ("control", "phase", "candidate"),
    [
        ((), "idle", ""),
        (FIRST, "idle", ""),
        ((*FIRST, STARTED), "training", ""),
        ((*FIRST, STARTED, REJECTED), "idle", ""),
        (SHADOWED, "shadowing", "m-1.1.0"),
        ((*SHADOWED, WITHDRAWN), "idle", ""),
        (TESTED, "testing", "m-1.1.0"),
        ((*TESTED, events.ExperimentStopped(**by(), experiment_id="e1")), "idle", ""),
        ((*TESTED, events.ExperimentConcluded(**by(), experiment_id="e1", verdict="keep")), "idle", ""),
        ((*TESTED, PROMOTE, deployed("1.1.0")), "idle", ""),
        ((*TESTED, registered("1.0.1"), deployed("1.0.1")), "idle", ""),
        ((*SHADOWED, deployed("1.1.0")), "idle", ""),
        ((*SHADOWED, *PROGRAM), "shadowing", "m-1.1.0"),
        ((*TESTED, *PROGRAM), "idle", ""),
        ((*TESTED, PROGRAM[0]), "testing", "m-1.1.0"),
        (
            (
                *TESTED,
                events.GovernanceChanged(**by(), four_eyes=True),
                PROMOTE,
                events.DeploymentProposed(**by(), proposal_id="p", name="m", version="1.1.0", digest="1.1.0" * 4),
            ),
            "waiting",
            "m-1.1.0",
        ),
        (
            (
                *TESTED,
                events.GovernanceChanged(**by(), four_eyes=True),
                PROMOTE,
                events.DeploymentProposed(**by(), proposal_id="p", name="m", version="1.1.0", digest="1.1.0" * 4),
                events.DeploymentWithdrawn(**by(), proposal_id="p"),
            ),
            "idle",
            "",
        ),
    ],
)
def test_phases_follow_from_the_control_stream(control: tuple[Any, ...], phase: str, candidate: str) -> None:
    """Each phase is entered and left by the events of the table, and by nothing else."""
    found = state(*control)
    assert (found.phase, found.candidate) == (phase, candidate)


def test_without_a_champion_it_waits() -> None:
    """There is nothing to improve on."""
    assert next_step((), labels=MANY).action == "wait"


def test_enough_labels_start_a_retraining() -> None:
    """Both counts have to be reached, and the last training has to be long enough ago."""
    assert next_step(FIRST, labels=MANY).action == "retrain" and next_step(FIRST, labels=MANY).trigger == "labels"
    assert next_step(FIRST, labels=FEW).action == "wait"
    before = (*FIRST, STARTED, REJECTED)
    assert next_step(before, int(0.5 * DAY_MS), labels=MANY).action == "wait"
    assert next_step(before, int(1.5 * DAY_MS), labels=MANY).action == "retrain"


def test_severe_drift_starts_a_retraining_once() -> None:
    """Open, severe enough and not answered by a training since; cleared or answered, it does not."""

    def drift(severity: Any, at: int = 0) -> events.DriftDetected:
        return events.DriftDetected(
            **by(occurred_at=NOW + at),
            feature="amount",
            statistic="psi",
            magnitude=1.0,
            severity=severity,
            window_start=0,
            window_end=1,
        )

    step = next_step((*FIRST, drift("high")))
    assert (step.action, step.trigger, "amount (high)" in step.reason) == ("retrain", "drift", True)
    assert next_step((*FIRST, drift("medium"))).action == "wait"
    assert next_step((*FIRST, drift("critical"), events.DriftCleared(**by(), feature="amount"))).action == "wait"
    answered = (*FIRST, drift("high"), STARTED, REJECTED)
    assert next_step(answered, 2 * DAY_MS).action == "wait"
    assert next_step((*answered, drift("critical", DAY_MS)), 2 * DAY_MS).action == "retrain"


def drift_told(window_end: int, severity: Any = "high") -> events.DriftDetected:
    return events.DriftDetected(
        **by(),
        feature="amount",
        statistic="psi",
        magnitude=1.0,
        severity=severity,
        window_start=0,
        window_end=window_end,
    )


def test_a_refused_training_is_tried_again_once_enough_rows_follow_the_change() -> None:
    """Training rows end 21 days before now, so a training at the report sees nothing of the change. The next one sees
    as many days of it as the hold-out has; if it is refused as well, one more follows that sees twice as many.
    """
    refused = (*FIRST, drift_told(NOW), STARTED, REJECTED)
    assert next_step(refused, 28 * DAY_MS - 1).action == "wait"
    step = next_step(refused, 28 * DAY_MS)
    assert (step.action, step.trigger, "amount (high)" in step.reason) == ("retrain", "drift", True)

    later = {"occurred_at": NOW + 28 * DAY_MS, "run_id": "r2"}
    again = events.RetrainingStarted(**by(**later), trigger="drift", known_until=NOW + 28 * DAY_MS, parent="m-1.0.0")
    twice = (*refused, again, events.RetrainingRejected(**by(**later)))
    assert next_step(twice, 35 * DAY_MS - 1).action == "wait"
    assert next_step(twice, 35 * DAY_MS).action == "retrain"


def test_a_refused_training_is_not_repeated_without_need() -> None:
    """The drift was cleared, is not severe, or a training that passed the gate came after it."""
    after = 40 * DAY_MS
    assert next_step((*FIRST, drift_told(NOW), STARTED, REJECTED), after).action == "retrain"
    cleared = events.DriftCleared(**by(), feature="amount")
    assert next_step((*FIRST, drift_told(NOW), STARTED, REJECTED, cleared), after).action == "wait"
    assert next_step((*FIRST, drift_told(NOW, "medium"), STARTED, REJECTED), after).action == "wait"
    withdrawn = (*FIRST, drift_told(NOW), STARTED, *SHADOWED[len(FIRST) + 1 :], WITHDRAWN)
    assert next_step(withdrawn, after).action == "wait"


@pytest.mark.parametrize("metric", ["auc_roc", "average_precision", "calibration"])
def test_any_confirmed_loss_of_performance_starts_a_retraining(metric: str) -> None:
    """The loop waits for a severe drift of an input, but not for a severe loss: the lowest severity is enough, once."""
    loss = events.DriftDetected(
        **by(), feature=f"performance:{metric}", statistic=metric, magnitude=0.06, severity="low", window_start=0,
        window_end=1,
    )  # fmt: skip
    step = next_step((*FIRST, loss))
    assert (step.action, step.trigger, f"performance:{metric} (low)" in step.reason) == ("retrain", "drift", True)
    assert next_step((*FIRST, loss, STARTED, REJECTED), DAY_MS).action == "wait"
    assert next_step((*FIRST, loss, events.DriftCleared(**by(), feature=loss.feature))).action == "wait"


def test_a_training_that_was_begun_is_done() -> None:
    """A process that died between the two events trains again."""
    assert next_step((*FIRST, STARTED)).action == "train"


def test_a_good_shadow_is_tested() -> None:
    """Long enough, often enough, alerting like the champion and shown to be better; else it waits, or goes."""
    good = comparison(0.02, 0.015)
    later = int(SETTINGS.shadow_hours * HOUR_MS)
    assert next_step(SHADOWED, later - 1, shadow=good).action == "wait"
    assert next_step(SHADOWED, later, shadow=comparison(rows=10)).action == "wait"
    assert next_step(SHADOWED, later, shadow=good).action == "wait"
    for verdict, action in (("continue", "wait"), ("promote", "test"), ("rollback", "drop"), ("stop", "drop")):
        step = next_step(SHADOWED, later, shadow=good, trial=paired_trial(verdict))
        assert step.action == action and "as the pairs say" in step.reason and "4,000 mature accounts" in step.reason
    assert next_step(SHADOWED, later - 1, shadow=good, trial=paired_trial()).action == "wait"
    without = LearnSettings(test=False)
    assert next_step(SHADOWED, later, without, shadow=good).action == "wait"
    assert next_step(SHADOWED, later, without, shadow=good, trial=paired_trial()).action == "promote"
    assert next_step(SHADOWED, later, LearnSettings(shadow_test=False), shadow=good).action == "test"
    assert next_step(SHADOWED, later, LearnSettings(test=False, shadow_test=False), shadow=good).action == "promote"
    assert next_step(SHADOWED, later, shadow=comparison(0.2, 0.02)).action == "drop"
    assert next_step(SHADOWED, later, shadow=comparison(0.002, 0.02)).action == "drop"
    assert next_step(SHADOWED, 3 * later, shadow=None).action == "drop"


def test_the_ramp_follows_the_settings() -> None:
    """Traffic goes up when the ramp says so, and never twice."""
    assert next_step(TESTED, 0).action == "wait"
    step = next_step(TESTED, 25 * HOUR_MS)
    assert (step.action, step.traffic) == ("ramp", 5000)
    ramped = (*TESTED, events.ExperimentRamped(**by(), experiment_id="e1", traffic=5000))
    assert next_step(ramped, 25 * HOUR_MS).action == "wait"


GUARDED = (registered("1.0.0"), deployed("1.0.0"), registered("1.1.0"), deployed("1.1.0"))
WORSE = comparison(
    frauds=50, average_precision=0.1, average_precision_other=0.6, gain_low=-0.6, gain_high=-0.4, rows=5000
)


def test_a_bad_champion_is_rolled_back_whatever_else_goes_on() -> None:
    """Many times more or fewer alerts, or a loss of precision beyond doubt; in any phase, but only while it is new."""
    for seen in (comparison(0.5, 0.02), comparison(0.0001, 0.02), WORSE):
        for more in ((), (STARTED,)):
            step = next_step((*GUARDED, *more), DAY_MS, way_back="m-1.0.0", guard=seen)
            assert (step.action, step.model) == ("roll back", "m-1.0.0") and step.breach is not None
    late = int((SETTINGS.guard_days + 1) * DAY_MS)
    assert next_step(GUARDED, late, way_back="m-1.0.0", guard=WORSE).action == "wait"
    assert next_step(GUARDED, DAY_MS, way_back="m-1.0.0", guard=comparison()).action == "wait"
    back = events.ModelRolledBack(**by(), name="m", version="1.0.0", digest="1.0.0" * 4)
    assert next_step((*GUARDED, back), DAY_MS, way_back="m-0.9.0", guard=WORSE).action == "wait"


def test_a_champion_that_won_a_test_may_alert_otherwise() -> None:
    """Its alerts were judged with labels; a loss of precision still counts. Four eyes change nothing about that."""
    won = (*TESTED, PROMOTE, deployed("1.1.0", causation_id="e1"))
    proposal = by(causation_id="e1") | {"proposal_id": "p", "name": "m", "version": "1.1.0", "digest": "1.1.0" * 4}
    approved = (
        *TESTED,
        events.GovernanceChanged(**by(), four_eyes=True),
        PROMOTE,
        events.DeploymentProposed(**proposal),
        deployed("1.1.0", causation_id="p", actor="y"),
    )
    for control in (won, approved):
        assert next_step(control, DAY_MS, way_back="m-1.0.0", guard=comparison(0.001, 0.02)).action == "wait"
        assert next_step(control, DAY_MS, way_back="m-1.0.0", guard=WORSE).action == "roll back"


def test_a_breach_without_a_way_back_trains_anew() -> None:
    """If no model was champion before, a new one is made."""
    step = next_step(FIRST, DAY_MS, guard=WORSE)
    assert (step.action, step.trigger) == ("retrain", "degradation")


def test_what_counts_as_a_breach() -> None:
    """Too few decisions say nothing; a loss inside the interval's doubt neither."""
    assert breach(None, SETTINGS) is None and breach(comparison(0.5, 0.02, rows=10), SETTINGS) is None
    unsure = comparison(frauds=50, average_precision=0.4, average_precision_other=0.6, gain_low=-0.5, gain_high=-0.05)
    assert breach(unsure, SETTINGS) is None
    assert comparison(0.0, 0.0).alert_ratio == 1.0


@pytest.mark.parametrize(
    "table",
    [
        {"unknown": 1},
        {"labels_min": "many"},
        {"train_days": 0},
        {"ramp": [[1.0, 100]]},
        {"ramp": [[0.0, 100], [1.0, 50]]},
        {"gate": {"nothing": 1}},
        {"gate": {"rows_min": 0}},
        {"candidates": []},
        {"candidates": ["guessed"]},
        {"share": 10000},
    ],
)
def test_settings_that_make_no_sense(table: dict[str, Any]) -> None:
    """One line that names the setting."""
    with pytest.raises(BadInput):
        learn_settings(table)


def test_settings_from_a_table() -> None:
    """Lists become tuples; the gate's thresholds are its own."""
    found = learn_settings({"ramp": [[0, 100], [5, 10000]], "gate": {"rows_min": 10}, "candidates": ["online"]})
    assert found.traffic_at(4.9) == 100 and found.traffic_at(5) == 10000 and found.gate_settings().rows_min == 10
