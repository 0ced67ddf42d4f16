"""What may follow what in the control stream: four eyes on deployments, one experiment at a time."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from core import control_stream
from core.changes import content
from core.control import ControlState, check
from core.errors import BadInput
from core.events import (
    Arm,
    ChangeProposed,
    DeploymentProposed,
    DeploymentWithdrawn,
    ExperimentConcluded,
    ExperimentRamped,
    ExperimentStarted,
    ExperimentStopped,
    GovernanceChanged,
    ModelDeployed,
    ModelRolledBack,
    ModelWithdrawn,
)
from tests.builders.decisions import control_entries
from tests.builders.events import T0
from tests.builders.models import ARTIFACT, deployed

ANN: dict[str, Any] = {"occurred_at": T0, "actor": "ann"}
BOB: dict[str, Any] = {"occurred_at": T0, "actor": "bob"}
ONE = hashlib.sha256(ARTIFACT).hexdigest()
TWO = hashlib.sha256(ARTIFACT + b" ").hexdigest()
STARTED = ExperimentStarted(
    **ANN,
    experiment_id="e1",
    arms=(Arm("control", "tiny", "1.0.0", ONE, 5000), Arm("new", "tiny", "1.1.0", TWO, 5000)),
    salt="s",
)
SECOND = {"name": "tiny", "version": "1.1.0", "digest": TWO}
PROPOSED = DeploymentProposed(**ANN, proposal_id="p1", **SECOND)


def folded(*events: Any) -> ControlState:
    return control_stream.fold(control_entries(*events))


def refused(*events: Any) -> list[int]:
    return sorted(folded(*events).refused)


def test_a_withdrawn_proposal_is_not_carried_out() -> None:
    """Under four eyes nothing can be deployed on it; it is withdrawn only once, and its ID never used again."""
    on, withdrawn = GovernanceChanged(**ANN, four_eyes=True), DeploymentWithdrawn(**BOB, proposal_id="p1")
    carried_out = ModelDeployed(**BOB, **SECOND, causation_id="p1")
    assert refused(deployed(), on, PROPOSED, carried_out) == []
    assert refused(deployed(), on, PROPOSED, withdrawn, carried_out) == [5]
    assert refused(deployed(), on, withdrawn, PROPOSED, withdrawn, withdrawn, PROPOSED) == [3, 6, 7]


def test_an_experiment_runs_until_it_is_ended() -> None:
    """Started, ramped, concluded: the live fold knows it in between and only then."""
    state = folded(deployed(), STARTED, ExperimentRamped(**ANN, experiment_id="e1", traffic=100))
    assert state.experiment is not None and state.experiment.traffic == 100 and not state.refused
    for end in (
        ExperimentStopped(**ANN, experiment_id="e1"),
        ExperimentConcluded(**ANN, experiment_id="e1", verdict="keep"),
    ):
        ended = folded(deployed(), STARTED, end)
        assert ended.experiment is None and not ended.refused


def test_what_may_not_follow_is_refused() -> None:
    """A second experiment, one without a champion, one whose control is not the champion, and news of none."""
    ramp = ExperimentRamped(**ANN, experiment_id="e1", traffic=1)
    assert refused(STARTED) == [1]
    assert refused(deployed(ARTIFACT + b" "), STARTED) == [2]
    assert refused(deployed(), STARTED, STARTED) == [3]
    assert refused(deployed(), ramp, STARTED) == [2]
    assert refused(deployed(), STARTED, ExperimentStopped(**ANN, experiment_id="e2")) == [3]
    assert refused(deployed(), ModelWithdrawn(**ANN, alias="champion")) == [2]
    assert refused(deployed(), STARTED, ExperimentRamped(**ANN, experiment_id="e1", traffic=10_001)) == [3]


def test_a_new_champion_ends_the_experiment() -> None:
    """Deployed or rolled back, another champion ends it; the same one again does not."""
    first = (deployed(ARTIFACT + b" ", "1.1.0"), deployed())
    for change in (ModelDeployed, ModelRolledBack):
        assert folded(*first, STARTED, change(**ANN, **SECOND)).experiment is None
        assert folded(*first, STARTED, deployed()).experiment is not None
        assert folded(*first, STARTED, change(**ANN, **SECOND, alias="candidate")).experiment is not None
        other = msgspec.structs.replace(STARTED, experiment_id="e2")
        again = folded(*first, STARTED, change(**ANN, **SECOND), deployed(), other)
        assert again.experiment == other and not again.refused


def test_an_experiments_name_is_used_once() -> None:
    """However it ended: an account enrolled under a name belongs to one experiment, so a second start is refused."""
    ends = (
        (ExperimentStopped(**ANN, experiment_id="e1"),),
        (ExperimentConcluded(**ANN, experiment_id="e1", verdict="keep"),),
        (deployed(ARTIFACT + b" ", "1.1.0"), deployed()),
    )
    for end in ends:
        state = folded(deployed(), STARTED, *end, STARTED)
        assert list(state.refused) == [3 + len(end)] and state.experiment is None
        assert "another name" in state.refused[3 + len(end)]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest names are kept, the oldest forgotten."""
    monkeypatch.setattr("core.governance.REMEMBERED_MAX", 3)
    control: list[Any] = [deployed()]
    for number in range(5):
        control += [
            msgspec.structs.replace(STARTED, experiment_id=f"e{number}"),
            ExperimentStopped(**ANN, experiment_id=f"e{number}"),
        ]
    state = folded(*control)
    assert list(state.governance.ended) == ["e2", "e3", "e4"] and not state.refused


def test_a_rollback_goes_back() -> None:
    """Only to what was champion before, so it is no way round four eyes; and it never waits."""
    on = GovernanceChanged(**ANN, four_eyes=True)
    back = ModelRolledBack(**ANN, **SECOND)
    assert refused(deployed(), on, back) == [3]
    assert refused(deployed(ARTIFACT + b" ", "1.1.0"), deployed(), on, back) == []
    assert refused(deployed(), ModelRolledBack(**ANN, **SECOND, alias="shadow")) == []


def test_four_eyes() -> None:
    """With four eyes a champion needs somebody else's proposal of that very model; a rollback never waits."""
    on = GovernanceChanged(**ANN, four_eyes=True)
    approved = ModelDeployed(**BOB, **SECOND, causation_id="p1")
    assert refused(deployed(), on, PROPOSED, approved) == []
    assert refused(deployed(), on, PROPOSED, ModelDeployed(**ANN, **SECOND, causation_id="p1")) == [4]
    assert refused(deployed(), on, PROPOSED, ModelDeployed(**BOB, **SECOND)) == [4]
    assert refused(deployed(), on, ModelDeployed(**BOB, **SECOND, causation_id="p1")) == [3]
    other = ModelDeployed(**BOB, name="tiny", version="1.0.0", digest=ONE, causation_id="p1")
    assert refused(deployed(), on, PROPOSED, other) == [4]
    assert refused(deployed(), on, PROPOSED, approved, approved) == [5]
    assert refused(deployed(), on, PROPOSED, PROPOSED) == [4]
    assert refused(deployed(), on, ModelDeployed(**BOB, **SECOND, alias="shadow")) == []
    off = GovernanceChanged(**ANN, four_eyes=False)
    second = ChangeProposed(**BOB, proposal_id="off", change=content(off))
    assert refused(deployed(), on, off, ModelDeployed(**ANN, **SECOND)) == [3, 4]
    carried = msgspec.structs.replace(off, causation_id="off")
    assert refused(deployed(), on, second, carried, ModelDeployed(**ANN, **SECOND)) == []


def test_a_refused_event_changes_nothing() -> None:
    """After a refusal the state is what it was, but for its position and the reason kept."""
    before = folded(deployed(), STARTED)
    after = folded(deployed(), STARTED, STARTED)
    assert (after.experiment, after.champion, after.governance) == (
        before.experiment,
        before.champion,
        before.governance,
    )
    assert "running" in after.refused[3]
    with pytest.raises(BadInput, match="running"):
        check(STARTED, before.governance)
