"""The state of the adaptive loop: a fold of the control stream and nothing else, so a killed process resumes from it.

    phase       condition                                             ends with
    idle        none of the below                                     RetrainingStarted
    training    a retraining has begun and not ended                  RetrainingFinished, RetrainingRejected
    shadowing   a finished candidate is the shadow                    start of its test, promotion, withdrawal
    testing     an experiment runs, whoever started it                its end
    waiting     a candidate's deployment is proposed (four eyes)      ModelDeployed by somebody else, a withdrawal

Under four eyes a test, and more traffic for it, are proposed as well; until somebody approves, the phase stays.

A candidate is dropped when a test that it was in ends without its winning, when it is withdrawn as shadow or a
proposal about it is, and when another model becomes champion while it is proposed, because its evidence was against
the old champion. An experiment without the candidate does not affect it.

Times are the events' own, epoch ms.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec

from core import events
from core.control_stream import ControlEntry, history
from core.events import Control, Severity
from core.governance import CHAMPION, SHADOW
from core.log.base import EventLog
from projections.engine.base import control_fact
from projections.views.registry import REGISTRY, Registry
from projections.views.registry_records import Model

Phase = Literal["idle", "training", "shadowing", "testing", "waiting"]


class OpenDrift(NamedTuple):
    """A detection that has not been cleared: when it was reported, and the end of the window in which it was seen,
    epoch ms. What is later than that window came after the change.
    """

    severity: Severity
    reported: int
    seen_until: int


@dataclass(slots=True)
class LoopState:
    """The state. Models are named name-version, "" for none.

    run: the open retraining. trained_until: `known_until` of the last retraining that ended; refused: whether it was
    rejected; run_began: when the last one began. candidate: the model of the last finished retraining, until promoted
    or dropped. drifting: open detections by feature. champion_at, shadow_at, test_at: the time and the control position
    at which each began. champion_tested: the champion won an experiment; won: experiments that were won, and proposals
    caused by them. asked: proposals of the candidate's test, or of more traffic for it. ramped_by_hand: the traffic was
    set by someone other than the actor who started the experiment.
    """

    position: int = 0
    registry: Registry = field(default_factory=REGISTRY.initial)
    run: events.RetrainingStarted | None = None
    trained_until: int = 0
    refused: bool = False
    run_began: int = 0
    runs: int = 0
    candidate: str = ""
    drifting: dict[str, OpenDrift] = field(default_factory=dict)
    experiment: events.ExperimentStarted | None = None
    test_at: tuple[int, int] = (0, 0)
    ramped_by_hand: bool = False
    champion_at: tuple[int, int] = (0, 0)
    champion_rolled_back: bool = False
    champion_tested: bool = False
    won: dict[str, None] = field(default_factory=dict)
    shadow_at: tuple[int, int] = (0, 0)
    asked: dict[str, None] = field(default_factory=dict)

    @property
    def champion(self) -> str:
        """The champion's label."""
        return self.registry.aliases.get(CHAMPION, "")

    @property
    def champion_model(self) -> Model:
        """The champion, under the digest that was deployed, whatever was registered under its name since."""
        return msgspec.structs.replace(self.registry.models[self.champion], digest=self.registry.governance.champion)

    @property
    def proposed_at(self) -> int | None:
        """When the candidate's deployment was proposed, epoch ms; None if it has no open proposal."""
        found = [
            p.occurred_at for p in self.registry.proposals.values() if self.candidate and p.model == self.candidate
        ]
        return found[0] if found else None

    @property
    def is_own_test(self) -> bool:
        """Whether the running experiment is the candidate's test, started by this loop."""
        if self.experiment is None or not self.candidate:
            return False
        return self.experiment.causation_id == self.candidate or self.experiment.causation_id in self.asked

    @property
    def phase(self) -> Phase:
        """See the module's head."""
        if self.experiment is not None:
            return "testing"
        if self.run is not None:
            return "training"
        if self.proposed_at is not None:
            return "waiting"
        if self.candidate and self.registry.aliases.get(SHADOW) == self.candidate:
            return "shadowing"
        return "idle"

    def apply(self, entry: ControlEntry) -> None:
        """Fold one entry of the control stream; one that was already applied is ignored (I5)."""
        if entry.position <= self.position:
            return
        self.position = entry.position
        before, waited = self.registry.governance.champion, self.proposed_at is not None
        REGISTRY.apply(self.registry, control_fact(entry))
        if entry.refused:
            return
        sequence, event = entry.position, entry.event
        match event:
            case events.RetrainingStarted():
                self.run, self.run_began, self.runs = event, event.occurred_at, self.runs + 1
            case events.RetrainingFinished() | events.RetrainingRejected():
                self._ended(event)
            case events.ModelDeployed() | events.ModelRolledBack():
                self._deployed(sequence, event, event.digest != before)
            case events.ModelWithdrawn() if event.alias == SHADOW and not self.registry.governance.experiment:
                self.candidate = ""
            case events.ProgramDeployed() | events.ProgramRolledBack() if not self.registry.governance.experiment:
                if self.experiment is not None:
                    self._tested()  # the new program ended the test
            case events.DeploymentProposed() if event.causation_id in self.won:
                self.won[event.proposal_id] = None
            case events.DeploymentWithdrawn() if waited and self.proposed_at is None:
                self.candidate = ""  # a person declined it
            case events.ChangeProposed() if self.candidate and event.causation_id == self.candidate:
                self.asked[event.proposal_id] = None
            case events.ChangeWithdrawn() if event.proposal_id in self.asked and self.experiment is None:
                self.candidate = ""  # a person declined the test
            case events.DriftDetected():
                self.drifting[event.feature] = OpenDrift(event.severity, event.occurred_at, event.window_end)
            case events.DriftCleared():
                self.drifting.pop(event.feature, None)
            case _:
                self._experiment(sequence, event)

    def _ended(self, event: events.RetrainingFinished | events.RetrainingRejected) -> None:
        if self.run is None or self.run.run_id != event.run_id:
            return
        self.trained_until, self.run = self.run.known_until, None
        self.refused = isinstance(event, events.RetrainingRejected)
        if isinstance(event, events.RetrainingFinished):
            self.candidate = f"{event.name}-{event.version}"

    def _deployed(self, sequence: int, event: events.ModelDeployed | events.ModelRolledBack, is_another: bool) -> None:
        label = f"{event.name}-{event.version}"
        if event.alias == SHADOW:
            self.shadow_at = (event.occurred_at, sequence)
        if event.alias != CHAMPION:
            return
        self.champion_at = (event.occurred_at, sequence)
        self.champion_rolled_back = isinstance(event, events.ModelRolledBack)
        self.champion_tested = event.causation_id in self.won
        if self.experiment is not None and not self.registry.governance.experiment:
            self._tested()  # the new champion ended the test
        if label == self.candidate or (is_another and self.proposed_at is not None):
            self.candidate = ""

    def _experiment(self, sequence: int, event: Control) -> None:
        match event:
            case events.ExperimentStarted():
                self.experiment, self.test_at = event, (event.occurred_at, sequence)
                self.ramped_by_hand = False
            case events.ExperimentRamped() if self.experiment is not None:
                self.ramped_by_hand |= event.actor != self.experiment.actor and event.causation_id not in self.asked
                self.experiment = msgspec.structs.replace(self.experiment, traffic=event.traffic)
            case events.ExperimentStopped():
                self._tested()
            case events.ExperimentConcluded():
                if event.verdict == "promote":
                    self.won[event.experiment_id] = None
                self._tested(event.winner)
            case _:
                pass

    def _tested(self, winner: str = "") -> None:
        """End the experiment; the candidate is dropped if it took part and did not win."""
        arms = self.experiment.arms if self.experiment is not None else ()
        self.experiment = None
        if any(f"{arm.model}-{arm.version}" == self.candidate and arm.name != winner for arm in arms):
            self.candidate = ""


def loop_state(log: EventLog) -> LoopState:
    """The state at the end of the control stream."""
    return folded(history(log))


def folded(entries: Iterable[ControlEntry]) -> LoopState:
    """The state after `entries` of the control stream, from its beginning."""
    state = LoopState()
    for entry in entries:
        state.apply(entry)
    return state
