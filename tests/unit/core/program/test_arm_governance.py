"""Which programs an experiment may try, and what ends it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from core import control_stream
from core.changes import content
from core.context import in_force
from core.control import ControlState
from core.events import (
    Arm,
    ChangeProposed,
    Control,
    ExperimentConcluded,
    ExperimentStarted,
    ExperimentStopped,
    GovernanceChanged,
    ProgramApproved,
    ProgramDeployed,
    ProgramProposed,
    ProgramRegistered,
    ProgramRolledBack,
    ProgramWithdrawn,
)
from core.program.governance import ARM_PROGRAMS_MAX
from tests.builders.arms import ONE as MODEL
from tests.builders.decisions import control_entries
from tests.builders.events import T0
from tests.builders.models import deployed

ANN: dict[str, Any] = {"occurred_at": T0, "actor": "ann"}
BOB: dict[str, Any] = {"occurred_at": T0, "actor": "bob"}
ONE, TWO, NEVER = "1" * 64, "2" * 64, "9" * 64
BEFORE = (
    deployed(),
    ProgramRegistered(**ANN, name="cards", version="1.0.0", digest=ONE),
    ProgramRegistered(**ANN, name="cards", version="2.0.0", digest=TWO),
)
ON = GovernanceChanged(**ANN, four_eyes=True)
PROPOSED = ProgramProposed(**ANN, proposal_id="p", digest=ONE)
APPROVED = ProgramApproved(**BOB, proposal_id="p")
STOPPED = ExperimentStopped(**ANN, experiment_id="e")


def started(*programs: str, experiment_id: str = "e") -> ExperimentStarted:
    """An experiment of the champion under these programs."""
    share = 10_000 // len(programs)
    rest = 10_000 - share * len(programs)
    arms = [Arm(f"a{n}", "tiny", "1.0.0", MODEL, share, digest) for n, digest in enumerate(programs)]
    arms[0] = Arm("a0", "tiny", "1.0.0", MODEL, share + rest, programs[0])
    return ExperimentStarted(**ANN, experiment_id=experiment_id, arms=tuple(arms), salt="s")


def agreed(event: ExperimentStarted) -> list[Control]:
    """The start of an experiment that somebody else has proposed."""
    proposed = ChangeProposed(**BOB, proposal_id="start", change=content(event))
    return [proposed, msgspec.structs.replace(event, causation_id="start")]


def folded(*events: Control) -> ControlState:
    return control_stream.fold(control_entries(*BEFORE, *events))


def refused(*events: Control) -> dict[int, str]:
    return {position - len(BEFORE): why for position, why in folded(*events).refused.items()}


@pytest.mark.parametrize(
    ("events", "at", "why"),
    [
        ([started("", NEVER)], 1, "not registered"),
        ([started(ONE, "")], 1, "must be decided by the deployed program"),
        ([ProgramDeployed(**ANN, digest=ONE), started(TWO, ONE)], 2, "must be decided by the deployed program"),
        ([ON, *agreed(started("", ONE))], 3, "a second person must approve"),
        ([ON, PROPOSED, *agreed(started("", ONE))], 4, "a second person must approve"),
        ([ON, PROPOSED, APPROVED, started("", ONE)], 4, "another person's open proposal"),
        ([PROPOSED, started("", ONE), ProgramWithdrawn(**BOB, proposal_id="p")], 3, "stop or conclude it first"),
    ],
)
def test_what_an_experiment_may_not_try(events: list[Control], at: int, why: str) -> None:
    """Refused at its place, and without effect."""
    found = refused(*events)
    assert list(found) == [at] and why in found[at], found
    before, after = folded(*events[: at - 1]), folded(*events[:at])
    assert (after.program, after.experiment, after.governance) == (before.program, before.experiment, before.governance)


def test_what_an_experiment_may_try() -> None:
    """What may be deployed: registered, or under four eyes approved by another or deployed before; only so many."""
    assert not refused(started("", ONE, TWO, ONE))
    assert not refused(ON, PROPOSED, APPROVED, *agreed(started("", ONE)))
    once = [ON, PROPOSED, APPROVED, ProgramDeployed(**ANN, digest=ONE, causation_id="p")]
    assert not refused(*once, ProgramRolledBack(**BOB, digest=""), *agreed(started("", ONE)))
    assert not refused(*once, *agreed(started(ONE, ""))) and not refused(*once, *agreed(started("", ONE)))
    many = [f"{n}" * 64 for n in range(3, 3 + ARM_PROGRAMS_MAX + 1)]
    known = [ProgramRegistered(**ANN, name="x", version=f"{n}.0.0", digest=each) for n, each in enumerate(many)]
    assert not refused(*known, started("", *many[:-1]))
    assert "at most" in refused(*known, started("", *many))[len(known) + 1]


def test_what_it_tries_is_in_force_while_it_runs() -> None:
    """Workers need the programs of its arms, and replays those of all; a proposal can be withdrawn afterwards."""
    state = folded(PROPOSED, started("", ONE, TWO))
    assert in_force(state) == [ONE, TWO, MODEL]
    assert state.governance.programs.trying == (ONE, TWO)
    ended = folded(PROPOSED, started("", ONE, TWO), STOPPED, ProgramWithdrawn(**BOB, proposal_id="p"))
    assert in_force(ended) == [MODEL] and not ended.refused
    assert ended.governance.programs.trying == () and ended.governance.programs.decided == ["", ONE, TWO]


@pytest.mark.parametrize(
    ("events", "is_running"),
    [
        ([ProgramDeployed(**ANN, digest=TWO)], False),
        ([ProgramDeployed(**ANN, digest=ONE)], True),
        ([ProgramRolledBack(**ANN, digest="")], False),
        ([ProgramRolledBack(**ANN, digest=ONE)], True),
        ([ExperimentConcluded(**ANN, experiment_id="e", verdict="keep"), ProgramDeployed(**ANN, digest=TWO)], False),
        ([PROPOSED], True),
    ],
)
def test_another_deployed_program_ends_it(events: list[Control], is_running: bool) -> None:
    """Its control is gone; then another may start, but not under its name."""
    before = (ProgramDeployed(**ANN, digest=ONE), started("", TWO))
    state = folded(*before, *events)
    assert not state.refused and (state.experiment is not None) == is_running
    assert bool(state.governance.experiment) == is_running
    again = refused(*before, *events, started("", experiment_id="e"))
    assert len(again) == 1
    assert (refused(*before, *events, started("", "", experiment_id="f")) == {}) != is_running
