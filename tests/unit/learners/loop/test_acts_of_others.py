"""The loop meets what people append: by hand in every phase, by other means than the commands, or a broken artifact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from core import events
from core.codec import decode_control, encode
from core.errors import BadInput, ConcurrencyError
from core.events import Control
from core.log.base import Head
from core.log.memory import MemoryLog
from core.times import DAY_MS, HOUR_MS
from learners.experiments import report as experiment_report
from learners.experiments.verdict import Verdict
from learners.loop.evidence import ExperimentReports
from learners.loop.orchestrator import Orchestrator, Tools
from learners.loop.policy import Evidence, Step
from learners.loop.settings import LearnSettings
from learners.loop.state import LoopState, loop_state
from projections.labelling.reader import LabelReader
from tests.builders.batches import batch_after, copy_partition
from tests.builders.decisions import append_unchecked
from tests.builders.experiments import experimented, started
from tests.builders.loop import (
    FIRST,
    NOW,
    ONE,
    THREE,
    TWO,
    arm,
    by,
    comparison,
    experiment,
    model,
    paired_trial,
    registered,
    sha,
)
from tests.builders.models import load_tiny

SETTINGS = LearnSettings(watch_drift=False)
PARTITIONS = [0, 1]


STARTED = events.RetrainingStarted(**by("loop"), run_id="r1", trigger="labels", known_until=NOW, parent="m-1.0.0")
SHADOWED: tuple[Control, ...] = (
    *FIRST,
    STARTED,
    registered(TWO, "1.1.0"),
    events.RetrainingFinished(**by("loop"), run_id="r1", **model(TWO, "1.1.0")),
    events.ModelDeployed(**by("loop"), **model(TWO, "1.1.0"), alias="shadow"),
)
WITHDRAWN = events.ModelWithdrawn(**by("loop"), alias="shadow")


OTHERS = experiment("spring", "ann", arms=(arm("control", ONE, "1.0.0"), arm("theirs", THREE, "7.0.0")))
TESTED = (*SHADOWED, experiment(), WITHDRAWN)
PROPOSAL = events.DeploymentProposed(**by("bob"), proposal_id="m-1.1.0:champion:2", **model(TWO, "1.1.0"))


def log_of(*control: Control, blobs: Sequence[bytes] = (ONE, TWO, THREE)) -> MemoryLog:
    log = MemoryLog()
    for content in blobs:
        log.put_blob(content)
    log.append_control([encode(event) for event in control], 0)
    return log


def loop_on(log: Any, settings: LearnSettings = SETTINGS) -> Orchestrator:
    return Orchestrator(log, PARTITIONS, settings, Tools(load_tiny, lambda call: 0.0), actor="loop")


def seeing(monkeypatch: pytest.MonkeyPatch, **what: Any) -> None:
    """The loop sees this evidence beside what it looked up."""
    looked = Orchestrator.evidence

    def evidence(self: Orchestrator, state: LoopState, now_ms: int) -> Evidence:
        return msgspec.structs.replace(looked(self, state, now_ms), **what)

    monkeypatch.setattr(Orchestrator, "evidence", evidence)


def judged(log: MemoryLog, experiment_id: str, action: Any, winner: str = "") -> experiment_report.Report:
    report = ExperimentReports(log, PARTITIONS, LabelReader(log, PARTITIONS)).report(experiment_id)
    assert report is not None
    return msgspec.structs.replace(report, verdict=Verdict(action, winner, ("so it is",)))


def names(said: Sequence[Control]) -> list[str]:
    return [type(event).__name__ for event in said]


def phase_after(*control: Control) -> tuple[str, str]:
    found = loop_state(log_of(*control))
    assert not found.registry.refused
    return found.phase, found.candidate


@pytest.mark.parametrize(
    "changes", [{"primary": "profit"}, {"guardrails": ("customer_joy",)}, {"arms": (arm("a", ONE, "1"),) * 200}]
)
def test_an_experiment_that_can_not_be_judged_does_not_stop_the_loop(changes: dict[str, Any]) -> None:
    """Unknown metrics: it waits and says why, for ever; two hundred arms: the fold refuses, so there is no test."""
    log = log_of(*FIRST, experiment("odd", "ann", **changes))
    for _ in range(2):
        step, said = loop_on(log).step(NOW + 90 * DAY_MS)
        assert (step.action, said) == ("wait", [])
        assert ("odd can't be evaluated" in step.reason) == ("arms" not in changes)


def test_somebodys_own_experiment_is_not_ramped_and_leaves_the_candidate_alone() -> None:
    """The traffic of an experiment that a person started is theirs; its end returns to the shadow that was there."""
    log = log_of(*SHADOWED, OTHERS)
    assert loop_on(log).step(NOW + 100 * HOUR_MS)[0].action == "wait"
    for end in (
        events.ExperimentStopped(**by(), experiment_id="spring"),
        events.ExperimentConcluded(**by(), experiment_id="spring", verdict="keep"),
        events.ExperimentConcluded(**by(), experiment_id="spring", verdict="promote", winner="theirs"),
    ):
        assert phase_after(*SHADOWED, OTHERS) == ("testing", "m-1.1.0")
        assert phase_after(*SHADOWED, OTHERS, end) == ("shadowing", "m-1.1.0")


def test_traffic_that_a_person_set_stays() -> None:
    """Somebody lowers the traffic of the loop's own test: the loop does not raise it again; its own ramps go on."""
    lowered = events.ExperimentRamped(**by("ann"), experiment_id="e1", traffic=100)
    raised = events.ExperimentRamped(**by("loop"), experiment_id="e1", traffic=5000)
    assert loop_on(log_of(*TESTED, lowered)).step(NOW + 100 * HOUR_MS)[0].action == "wait"
    assert loop_on(log_of(*TESTED, raised)).step(NOW + 100 * HOUR_MS)[0].traffic == 10_000


def test_the_winner_is_the_model_that_was_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    """An arm whose name is another artifact's never starts; one whose name is nobody's is not promoted under it: the
    loop says why and waits. Once the artifact is registered by that name, it is.
    """
    taken = experiment("spring", "ann", arms=(arm("control", ONE, "1.0.0"), arm("theirs", THREE, "1.1.0")))
    unknown = experiment("spring", "ann", arms=(arm("control", ONE, "1.0.0"), arm("theirs", THREE, "0.0.7")))
    assert loop_state(log_of(*SHADOWED, taken)).experiment is None
    log = log_of(*SHADOWED, unknown)
    with monkeypatch.context() as patch:
        seeing(patch, report=judged(log, "spring", "promote", "theirs"))
        step, said = loop_on(log).step(NOW)
    assert (step.action, said) == ("wait", []) and "no model 'm-0.0.7' is registered" in step.reason
    append_unchecked(log, registered(THREE, "0.0.7"))
    with monkeypatch.context() as patch:
        seeing(patch, report=judged(log, "spring", "promote", "theirs"))
        assert names(loop_on(log).step(NOW)[1]) == ["ExperimentConcluded", "ModelDeployed"]
    assert loop_state(log).registry.governance.champion == sha(THREE)


def test_a_winner_that_somebody_proposed_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four eyes on: the test is concluded, nothing is proposed twice, and the loop waits for the approval."""
    log = log_of(*TESTED, events.GovernanceChanged(**by(), four_eyes=True), PROPOSAL)
    with monkeypatch.context() as patch:
        seeing(patch, report=judged(log, "e1", "promote", "candidate"))
        assert names(loop_on(log).step(NOW)[1]) == ["ExperimentConcluded"]
    step, said = loop_on(log).step(NOW + HOUR_MS)
    assert (step.phase, step.action, said) == ("waiting", "wait", [])


def test_what_may_not_follow_is_said_and_not_fatal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred open proposals: the promotion can't be proposed, so the step waits with the reason."""
    crowd = [events.DeploymentProposed(**by(), proposal_id=f"p{n}", **model(THREE, f"9.{n}.0")) for n in range(100)]
    log = log_of(*TESTED, events.GovernanceChanged(**by(), four_eyes=True), *crowd)
    seeing(monkeypatch, report=judged(log, "e1", "promote", "candidate"))
    step, said = loop_on(log).step(NOW)
    assert (step.action, said) == ("wait", []) and "100 proposals are open" in step.reason


def test_a_proposal_does_not_hold_the_loop_up_for_ever() -> None:
    """Nobody approves: after `approval_days` it goes on; another champion makes the proposal's evidence void."""
    four = events.GovernanceChanged(**by(), four_eyes=True)
    won = events.ExperimentConcluded(**by("loop"), experiment_id="e1", verdict="promote", winner="candidate")
    waiting = (*TESTED, four, won, PROPOSAL)
    assert phase_after(*waiting) == ("waiting", "m-1.1.0")
    soon, late = (loop_on(log_of(*waiting)).step(NOW + int(days * DAY_MS))[0] for days in (13.9, 14.1))
    assert "approval" in soon.reason and "new verdicts" in late.reason
    other = events.DeploymentProposed(**by("ann"), proposal_id="p2", **model(THREE, "7.0.0"))
    taken = events.ModelDeployed(**by("bob", causation_id="p2"), **model(THREE, "7.0.0"))
    assert phase_after(*waiting, other, taken) == ("idle", "")


def test_a_shadow_that_became_champion_is_no_shadow_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promoted by the loop without a test, or by hand: nothing is scored twice from then on."""
    log = log_of(*SHADOWED)
    with monkeypatch.context() as patch:
        seeing(patch, shadow=comparison(), trial=paired_trial())
        said = loop_on(log, LearnSettings(test=False, watch_drift=False)).step(NOW + 2 * DAY_MS)[1]
    assert names(said) == ["ModelDeployed", "ModelWithdrawn"]
    log = log_of(*SHADOWED, events.ModelDeployed(**by(), **model(TWO, "1.1.0")))
    assert names(loop_on(log).step(NOW)[1]) == ["ModelWithdrawn"] and loop_on(log).step(NOW)[1] == []


@pytest.mark.parametrize("blobs", [(ONE, THREE), (ONE, TWO)])
def test_artifacts_that_nobody_can_load(blobs: tuple[bytes, ...]) -> None:
    """A shadow without an artifact is waited for and dropped in the end; a champion that decides nothing goes back."""
    if TWO not in blobs:
        log = log_of(*SHADOWED, blobs=blobs)
        step, said = loop_on(log).step(NOW + DAY_MS)
        assert (step.action, said) == ("wait", []) and "can't be loaded" in step.reason
        assert loop_on(log).step(NOW + 4 * DAY_MS)[0].action == "drop"
        return
    log = log_of(*FIRST, events.ModelDeployed(**by("mallory"), **model(THREE, "9.9.9")), blobs=blobs)
    step, said = loop_on(log).step(NOW + HOUR_MS)
    assert names(said) == ["DegradationDetected", "ModelRolledBack"] and "only the rules decide" in step.reason
    assert loop_state(log).champion == "m-1.0.0"
    both = log_of(*FIRST, events.ModelDeployed(**by("mallory"), **model(THREE, "9.9.9")), blobs=(TWO,))
    assert loop_on(both).step(NOW + HOUR_MS)[1] == []


@pytest.mark.parametrize("known_until", [0, -5, 1, NOW, 2**62, 10**30])
def test_a_training_without_data_is_rejected(known_until: int) -> None:
    """An empty log, an empty window, a moment that is none: rejected with the reason, and the loop goes on."""
    log = log_of(*FIRST, msgspec.structs.replace(STARTED, known_until=known_until))
    assert names(loop_on(log).step(NOW)[1]) == ["RetrainingRejected"]
    assert loop_on(log).step(NOW)[0].action == "wait"


def test_a_training_without_a_loadable_champion_is_rejected() -> None:
    """There is nothing to measure a candidate against; the reason names the champion."""
    step, said = loop_on(log_of(*FIRST, STARTED, blobs=())).step(NOW)
    assert names(said) == ["RetrainingRejected"] and "m-1.0.0 can't be loaded" in said[0].reason, step


def test_a_name_that_no_experiment_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's name may hold blanks and slashes, and the test's name may be taken: it is tested all the same."""
    seeing(monkeypatch, shadow=comparison(), trial=paired_trial())
    control = (
        registered(ONE, "1.0.0", "card/not present"),
        events.ModelDeployed(**by(), **model(ONE, "1.0.0", "card/not present")),
        STARTED,
        registered(TWO, "1.1.0", "card/not present"),
        events.RetrainingFinished(**by("loop"), run_id="r1", **model(TWO, "1.1.0", "card/not present")),
        events.ModelDeployed(**by("loop"), **model(TWO, "1.1.0", "card/not present"), alias="shadow"),
    )
    log = log_of(*control)
    said = loop_on(log).step(NOW + 2 * DAY_MS)[1]
    assert isinstance(said[0], events.ExperimentStarted) and loop_state(log).phase == "testing"
    used = said[0].experiment_id
    taken = (
        experiment(used, "ann", arms=(arm("a", ONE, "1.0.0"), arm("b", THREE, "7"))),
        events.ExperimentStopped(**by(), experiment_id=used),
    )
    again = loop_on(log_of(*control, *taken)).step(NOW + 2 * DAY_MS)[1]
    assert isinstance(again[0], events.ExperimentStarted) and again[0].experiment_id != used


class SlowLog:
    """Somebody else appends between this writer's look and its append, once."""

    def __init__(self, log: MemoryLog, *events_: Control) -> None:
        self._log, self._others = log, list(events_)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append_control(self, payloads: Sequence[bytes], expected: int) -> int:
        if self._others:
            theirs, self._others = self._others, []
            self._log.append_control([encode(event) for event in theirs], self._log.control_head())
        return self._log.append_control(payloads, expected)


def test_two_loops_and_a_person_at_once() -> None:
    """Whoever appends second appends nothing, folds again and goes on from what is there."""
    log = log_of(*TESTED)
    ramp = events.ExperimentRamped(**by("loop"), experiment_id="e1", traffic=5000)
    late = loop_on(SlowLog(log, ramp))
    step, said = late.step(NOW + 30 * HOUR_MS)
    assert (step.action, said) == ("ramp", [])
    assert late.step(NOW + 30 * HOUR_MS)[0].action == "wait"
    stop = events.ExperimentStopped(**by(), experiment_id="e1")
    late = loop_on(SlowLog(log, stop))
    assert late.step(NOW + 100 * HOUR_MS)[1] == []
    assert late.step(NOW + 100 * HOUR_MS)[0].phase == "idle"
    with pytest.raises(ConcurrencyError):
        log.append_control([b"x"], 0)


def test_a_long_training_is_not_lost_to_what_others_append() -> None:
    """Segments, tables and drift told during a training leave its end as it is; another champion makes it void."""
    archived = events.SegmentArchived(**by(), partition=0, first_sequence=1, last_sequence=2, digest="d")
    table = events.ReferencePublished(**by(), kind="device", digest="d", as_of=1, rows=1)
    drift = events.DriftDetected(
        **by(), feature="amount", statistic="psi", magnitude=1.0, severity="low", window_start=1, window_end=2
    )
    log = log_of(*FIRST, STARTED)
    assert names(loop_on(SlowLog(log, archived, table, drift)).step(NOW)[1]) == ["RetrainingRejected"]
    log = log_of(*FIRST, STARTED)
    another = events.ModelDeployed(**by(), **model(THREE, "7.0.0"))
    assert loop_on(SlowLog(log, another)).step(NOW)[1] == [] and loop_state(log).phase == "training"


def test_a_read_model_with_a_fault_is_an_obstacle() -> None:
    """A verdict is never taken from a read model that is stalled: the loop waits and says where and why."""
    log = log_of(*TESTED)
    loop = loop_on(log)
    assert "can't be evaluated" not in loop.step(NOW)[0].reason
    log.append(1, batch_after(Head(), feedback=0), Head())  # its payloads are no events
    step, said = loop.step(NOW)
    assert said == [] and "is stalled at" in step.reason and "Corrupt: " in step.reason


def test_a_name_means_one_artifact() -> None:
    """Somebody registers another artifact under a used name: the first one stays what the name means."""
    state = loop_state(log_of(*FIRST, registered(THREE, "1.0.0")))
    assert state.registry.models["m-1.0.0"].digest == sha(ONE) and "another artifact" in state.registry.refused[3]


def test_refused_events_and_an_empty_log() -> None:
    """What the fold refused moves no phase; without any event at all the loop waits for a champion."""
    wrong = (
        events.ExperimentStopped(**by(), experiment_id="nothing"),
        experiment("e2", "ann", traffic=-1),
        events.ModelWithdrawn(**by(), alias="champion"),
        events.ModelRolledBack(**by(), **model(THREE, "3")),
    )
    state = loop_state(log_of(*TESTED, *wrong))
    assert len(state.registry.refused) == 4 and (state.phase, state.champion) == ("testing", "m-1.0.0")
    step: Step = loop_on(MemoryLog()).step(NOW)[0]
    assert step.action == "wait" and "no champion" in step.reason


def test_a_shadow_without_a_champion() -> None:
    """Somebody finished a training and made a shadow before there ever was a champion: the loop waits for one."""
    step, said = loop_on(log_of(*SHADOWED[2:])).step(NOW)
    assert (step.phase, step.action, said) == ("shadowing", "wait", [])


def test_the_way_back_is_what_was_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The former champion's name was given to another artifact since: the rollback returns to the one that decided."""
    unregistered = events.ModelDeployed(**by(), **model(ONE, "1.0.0"))
    log = log_of(unregistered, events.ModelDeployed(**by(), **model(TWO, "1.1.0")), registered(THREE, "1.0.0"))
    seeing(monkeypatch, guard=comparison(0.5, 0.01))
    assert names(loop_on(log).step(NOW + HOUR_MS)[1]) == ["DegradationDetected", "ModelRolledBack"]
    assert loop_state(log).registry.governance.champion == sha(ONE)


def test_settings_that_could_not_be_written() -> None:
    """An infinite number, or a metric that there is not, is refused at the start, not when the test is."""
    for wrong in ({"worthwhile": float("inf")}, {"alpha": 1.5}, {"guardrail_margin": 3.0}, {"primary": "profit"}):
        with pytest.raises(BadInput):
            LearnSettings(**wrong)  # type: ignore[arg-type]
    assert isinstance(decode_control(encode(OTHERS)), events.ExperimentStarted)


def test_a_log_that_lost_its_tail_and_grew_again_is_judged_anew() -> None:
    """What was final by the lost tail is forgotten, though the log is longer than before: as if asked anew."""
    log, other = (experimented(seed, size, {60: [started()]}) for seed, size in ((7, 900), (8, 1400)))
    assert all(other.head(p).sequence > log.head(p).sequence for p in range(3))
    reports = ExperimentReports(log, range(3), LabelReader(log, range(3)))
    before = reports.report("e1")
    for p in range(3):
        log.truncate(p, 0)
        copy_partition(other, p, log, p)
    after, fresh = reports.report("e1"), ExperimentReports(log, range(3), LabelReader(log, range(3))).report("e1")
    assert repr(after) == repr(fresh) != repr(before)
