"""Under four eyes the loop proposes its test and more traffic for it, once, and goes on when a person has approved."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from core import control_stream, events
from core.codec import encode
from core.events import ChangeProposed, Control
from core.log.memory import MemoryLog
from core.times import HOUR_MS
from learners.governance import proposals
from learners.governance.control_events import Act
from learners.loop.orchestrator import Orchestrator, Tools
from learners.loop.policy import Evidence
from learners.loop.settings import LearnSettings
from learners.loop.state import LoopState, loop_state
from tests.builders.loop import FIRST, NOW, ONE, TWO, by, comparison, model, paired_trial, registered
from tests.builders.models import load_tiny

SETTINGS = LearnSettings(watch_drift=False)
LATER = NOW + 100 * HOUR_MS
WAITING: tuple[Control, ...] = (
    *FIRST,
    events.RetrainingStarted(**by("loop"), run_id="r1", trigger="labels", known_until=NOW, parent="m-1.0.0"),
    registered(TWO, "1.1.0"),
    events.RetrainingFinished(**by("loop"), run_id="r1", **model(TWO, "1.1.0")),
    events.ModelDeployed(**by("loop"), **model(TWO, "1.1.0"), alias="shadow"),
    events.GovernanceChanged(**by("cho"), four_eyes=True),
)


@pytest.fixture
def log() -> MemoryLog:
    found = MemoryLog()
    for content in (ONE, TWO):
        found.put_blob(content)
    found.append_control([encode(event) for event in WAITING], 0)
    return found


@pytest.fixture
def loop(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> Orchestrator:
    """The shadow is shown to be better; there is no report on a test yet."""
    looked = Orchestrator.evidence

    def evidence(self: Orchestrator, state: LoopState, now_ms: int) -> Evidence:
        seen: dict[str, Any] = {"shadow": comparison(), "trial": paired_trial(), "report": None}
        return msgspec.structs.replace(looked(self, state, now_ms), **seen)

    monkeypatch.setattr(Orchestrator, "evidence", evidence)
    return Orchestrator(log, [0, 1], SETTINGS, Tools(load_tiny, lambda call: 0.0), actor="loop")


def approve(log: MemoryLog, proposal: str, actor: str = "ann") -> None:
    proposals.approve(log, proposal, Act(actor, "looked", LATER))


def test_the_test_and_its_traffic_are_proposed_once(loop: Orchestrator, log: MemoryLog) -> None:
    """The shadow stays until the test starts; the loop then knows it as its own, and ramps it, whoever approved."""
    step, said = loop.step(LATER)
    assert step.action == "test" and [type(event) for event in said] == [ChangeProposed]
    assert loop.step(LATER + HOUR_MS)[1] == []  # it waits, and says it once
    assert loop_state(log).phase == "shadowing"
    [proposal] = control_stream.current(log).governance.changes
    approve(log, proposal)
    state = loop_state(log)
    assert state.phase == "testing" and state.is_own_test and "shadow" not in state.registry.aliases
    step, said = loop.step(LATER + 1000 * HOUR_MS)
    assert step.action == "ramp" and [type(event) for event in said] == [ChangeProposed]
    assert loop.step(LATER + 1001 * HOUR_MS)[1] == []
    [proposal] = control_stream.current(log).governance.changes
    approve(log, proposal, "bob")
    state = loop_state(log)
    assert state.experiment is not None and state.experiment.traffic == step.traffic and not state.ramped_by_hand
    assert not control_stream.current(log).refused


def test_a_person_who_withdraws_the_proposal_declines_the_candidate(loop: Orchestrator, log: MemoryLog) -> None:
    """It is not proposed again."""
    loop.step(LATER)
    [proposal] = control_stream.current(log).governance.changes
    proposals.withdraw(log, proposal, Act("ann", "trained on a bad day", LATER))
    assert loop_state(log).candidate == ""
    assert not [event for event in loop.step(LATER)[1] if isinstance(event, ChangeProposed)]
