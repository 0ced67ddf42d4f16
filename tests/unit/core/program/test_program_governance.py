"""Which acts on programs may follow each other, and what decides when the program in force can't be loaded."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from core import control_stream
from core.context import Resolver, in_force
from core.control import ControlState
from core.errors import BadInput, Corrupt, NotDecidable
from core.events import (
    Control,
    GovernanceChanged,
    ProgramApproved,
    ProgramDeployed,
    ProgramPrepared,
    ProgramProposed,
    ProgramRegistered,
    ProgramRolledBack,
    ProgramWithdrawn,
    RulesChanged,
)
from core.identity import FIXED
from core.log.memory import MemoryLog
from core.program import document, loading
from core.program.governance import Programs
from core.program.shipped import DEFAULT_PROGRAM
from tests.builders.decisions import control_entries
from tests.builders.events import T0
from tests.builders.models import load_tiny

ANN: dict[str, Any] = {"occurred_at": T0, "actor": "ann"}
BOB: dict[str, Any] = {"occurred_at": T0, "actor": "bob"}
ONE, TWO = "1" * 64, "2" * 64
REGISTERED = (
    ProgramRegistered(**ANN, name="cards", version="1.0.0", digest=ONE),
    ProgramRegistered(**ANN, name="cards", version="2.0.0", digest=TWO, parent=ONE),
)
PROPOSED = ProgramProposed(**ANN, proposal_id="p", digest=ONE)
APPROVED = ProgramApproved(**BOB, proposal_id="p")
WITHDRAWN = ProgramWithdrawn(**BOB, proposal_id="p")
DEPLOYED = ProgramDeployed(**ANN, digest=ONE, causation_id="p")
ON = GovernanceChanged(**ANN, four_eyes=True)


def folded(*events: Control) -> ControlState:
    return control_stream.fold(control_entries(*events))


def refused(*events: Control) -> dict[int, str]:
    return {position - len(REGISTERED): why for position, why in folded(*REGISTERED, *events).refused.items()}


def test_a_registered_program_is_deployed_and_rolled_back() -> None:
    """The state names what decides; a rollback goes to what was deployed before, or to the log's default."""
    assert folded(*REGISTERED).program == ""
    assert folded(*REGISTERED, DEPLOYED).program == ONE
    second = ProgramDeployed(**ANN, digest=TWO)
    back = ProgramRolledBack(**ANN, digest=ONE)
    assert folded(*REGISTERED, DEPLOYED, second).program == TWO
    state = folded(*REGISTERED, DEPLOYED, second, back)
    assert state.program == ONE and in_force(state) == [ONE] and not state.refused
    assert folded(*REGISTERED, DEPLOYED, ProgramRolledBack(**ANN, digest="")).program == ""


@pytest.mark.parametrize(
    ("events", "at", "why"),
    [
        ([ProgramDeployed(**ANN, digest="3" * 64)], 1, "not registered"),
        ([ProgramProposed(**ANN, proposal_id="p", digest="3" * 64)], 1, "not registered"),
        ([ProgramProposed(**ANN, proposal_id="", digest=ONE)], 1, "empty"),
        ([PROPOSED, PROPOSED], 2, "already open"),
        ([APPROVED], 1, "no proposal"),
        ([PROPOSED, ProgramApproved(**ANN, proposal_id="p")], 2, "somebody else"),
        ([PROPOSED, ProgramDeployed(**BOB, digest=TWO, causation_id="p")], 2, "is about program 1111"),
        ([ProgramRolledBack(**ANN, digest=TWO)], 1, "never deployed"),
        ([DEPLOYED, ProgramRolledBack(**ANN, digest=TWO)], 2, "never deployed"),
        ([msgspec.structs.replace(REGISTERED[0], digest="3" * 64)], 1, "already another program"),
        ([msgspec.structs.replace(REGISTERED[0], version="3.0.0")], 1, "already registered as cards@1.0.0"),
        ([msgspec.structs.replace(REGISTERED[0], digest="x", version="3.0.0")], 1, "64 hex digits"),
        ([ProgramRegistered(**ANN, name="a", version="1.0.0", digest="3" * 64, parent="4" * 64)], 1, "not registered"),
        ([ON, ProgramDeployed(**BOB, digest=ONE)], 2, "only on an open proposal"),
        ([ON, PROPOSED, DEPLOYED], 3, "must approve p first"),
        ([ON, PROPOSED, msgspec.structs.replace(DEPLOYED, actor="bob")], 3, "must approve p first"),
        ([ON, PROPOSED, APPROVED, DEPLOYED, ProgramDeployed(**BOB, digest=TWO)], 5, "only on an open proposal"),
        ([PROPOSED, APPROVED, DEPLOYED, APPROVED], 4, "no proposal"),
        ([WITHDRAWN], 1, "no proposal"),
        ([PROPOSED, WITHDRAWN, WITHDRAWN], 3, "no proposal"),
        ([PROPOSED, WITHDRAWN, APPROVED], 3, "no proposal"),
        ([ON, PROPOSED, APPROVED, WITHDRAWN, DEPLOYED], 5, "only on an open proposal"),
        ([PROPOSED, APPROVED, DEPLOYED, WITHDRAWN], 4, "no proposal"),
    ],
)
def test_what_may_not_follow_is_refused(events: list[Control], at: int, why: str) -> None:
    """Refused at its place, and without effect."""
    found = refused(*events)
    assert list(found) == [at] and why in found[at], found
    before, after = folded(*REGISTERED, *events[: at - 1]), folded(*REGISTERED, *events[:at])
    assert (after.program, after.governance) == (before.program, before.governance)


def test_four_eyes_on_a_program() -> None:
    """Proposed by one, approved by another, deployed by either; a rollback waits for nobody."""
    for deployer in (ANN, BOB):
        deployed = ProgramDeployed(**deployer, digest=ONE, causation_id="p")
        assert not refused(ON, PROPOSED, APPROVED, deployed)
    assert not refused(PROPOSED, APPROVED, ON, DEPLOYED, ProgramRolledBack(**ANN, digest=""))
    again = refused(ON, PROPOSED, APPROVED, DEPLOYED, PROPOSED)
    assert list(again) == [5] and "had the ID" in again[5]  # so that nobody approves another program by it


def test_a_withdrawn_proposal_is_not_prepared() -> None:
    """It leaves its place among those that workers prepare, and what they reported of it is forgotten, unless the same
    program is proposed a second time.
    """
    many = [ProgramRegistered(**ANN, name="cards", version=f"{n}.0.0", digest=f"{n}" * 64) for n in (3, 4, 5)]
    proposals = [ProgramProposed(**ANN, proposal_id=f"p{n}", digest=f"{n}" * 64) for n in (3, 4, 5)]
    prepared = ProgramPrepared(**ANN, digest="5" * 64, partitions=(0, 1))
    before = folded(*REGISTERED, *many, PROPOSED, *proposals, prepared).governance.programs
    assert before.proposed == ["3" * 64, "4" * 64, "5" * 64] and before.prepared == {"5" * 64: {0: None, 1: None}}
    taken_back = ProgramWithdrawn(**BOB, proposal_id="p5")
    after = folded(*REGISTERED, *many, PROPOSED, *proposals, prepared, taken_back).governance.programs
    assert after.proposed == [ONE, "3" * 64, "4" * 64] and after.prepared == {}
    again = ProgramProposed(**BOB, proposal_id="again", digest="5" * 64)
    twice = folded(*REGISTERED, *many, *proposals, again, prepared, taken_back).governance.programs
    assert twice.proposed == ["3" * 64, "4" * 64, "5" * 64] and twice.prepared == {"5" * 64: {0: None, 1: None}}


class _Model:
    """What the rules say, written again without the fold: over the list of accepted events."""

    def __init__(self) -> None:
        self.accepted: list[Control] = []

    def of(self, kind: type) -> list[Any]:
        return [each for each in self.accepted if isinstance(each, kind)]

    def four_eyes(self) -> bool:
        switches = self.of(GovernanceChanged)
        return bool(switches) and switches[-1].four_eyes

    def open(self) -> dict[str, tuple[str, str, bool]]:
        """ID → (proposer, digest, whether it is approved)."""
        found: dict[str, tuple[str, str, bool]] = {}
        for each in self.accepted:
            if isinstance(each, ProgramProposed):
                found[each.proposal_id] = each.actor, each.digest, False
            elif isinstance(each, ProgramApproved):
                found[each.proposal_id] = *found[each.proposal_id][:2], True
            elif isinstance(each, ProgramWithdrawn):
                del found[each.proposal_id]
            elif isinstance(each, ProgramDeployed):
                found = {key: value for key, value in found.items() if value[1] != each.digest}
        return found

    def allows(self, event: Control) -> bool:
        known = {each.digest for each in self.of(ProgramRegistered)}
        proposals = self.open()
        match event:
            case ProgramRegistered():
                pairs = [((e.name, e.version), e.digest) for e in self.of(ProgramRegistered)]
                mine = (event.name, event.version), event.digest
                clash = any((label == mine[0]) != (digest == mine[1]) for label, digest in pairs)
                return not clash and (not event.parent or event.parent in known)
            case ProgramProposed():
                used = {each.proposal_id for each in self.of(ProgramProposed)}
                return event.proposal_id not in used and event.digest in known
            case ProgramApproved():
                return event.proposal_id in proposals and proposals[event.proposal_id][0] != event.actor
            case ProgramWithdrawn():
                return event.proposal_id in proposals
            case ProgramDeployed():
                proposal = proposals.get(event.causation_id)
                if event.digest not in known or (proposal is not None and proposal[1] != event.digest):
                    return False
                return not self.four_eyes() or (proposal is not None and proposal[2])
            case ProgramRolledBack():
                return event.digest == "" or event.digest in {each.digest for each in self.of(ProgramDeployed)}
            case GovernanceChanged():
                return event.four_eyes or not self.four_eyes()  # nobody turns them off alone
            case _:
                return True


def _random_event(r: random.Random) -> Control:
    digest = r.choice("123") * 64
    base = {"occurred_at": T0, "actor": r.choice(["ann", "bob"])}
    proposal = r.choice(["p", "q"])
    version = r.choice([f"{digest[0]}.0.0"] * 4 + ["9.0.0"])
    return r.choice(
        [
            ProgramRegistered(**base, name="cards", version=version, digest=digest, parent=r.choice(["", "1" * 64])),
            ProgramProposed(**base, proposal_id=proposal, digest=digest),
            ProgramApproved(**base, proposal_id=proposal),
            ProgramWithdrawn(**base, proposal_id=proposal),
            ProgramDeployed(**base, digest=digest, causation_id=r.choice(["", proposal])),
            ProgramRolledBack(**base, digest=r.choice(["", digest])),
            GovernanceChanged(**base, four_eyes=r.random() < 0.7),
        ]
    )


@pytest.mark.parametrize("seed", range(30))
def test_random_sequences_follow_the_rules(seed: int) -> None:
    """Whatever comes, the fold accepts exactly what the rules allow, and never has a program that nobody deployed."""
    r, model, state = random.Random(seed), _Model(), ControlState()
    outcomes = set()
    for position in range(1, 301):
        event = _random_event(r)
        allowed = model.allows(event)
        state.apply(position, event)
        assert (position not in state.refused) == allowed, (event, state.refused.get(position))
        outcomes.add((type(event), allowed))
        if allowed:
            model.accepted.append(event)
        services = [each.digest for each in model.accepted if isinstance(each, ProgramDeployed | ProgramRolledBack)]
        assert state.program == (services[-1] if services else "")
    assert len(outcomes) >= 9, "too few kinds of outcomes to test anything"


def deployed_log(content: bytes, digest: str = "") -> tuple[MemoryLog, ControlState]:
    log = MemoryLog()
    stored = log.put_blob(content)
    digest = digest or stored
    registered = ProgramRegistered(**ANN, name="p", version="1.0.0", digest=digest)
    return log, folded(FIXED.event("t"), registered, ProgramDeployed(**ANN, digest=digest))


def test_the_deployed_program_decides() -> None:
    """A context holds what is in force: the log's default first, then what was deployed."""
    program = loading.check(b'[program]\nname = "p"\nversion = "1.0.0"\n[[rules]]\ncode = "A"\nwhen = "amount > 1"\n')
    log, state = deployed_log(document.canonical(program.program))
    resolver = Resolver(log.get_blob, load_tiny)
    assert resolver.context(folded(FIXED.event("t"))).program.plan.program.digest == DEFAULT_PROGRAM
    assert not resolver.unavailable(state)
    under = resolver.context(state)
    assert under.program.plan.program == program.checked and under.program.codes == ("A",)
    assert under.program.digest == program.digest[:16]
    assert under.degraded == "no_model"


@pytest.mark.parametrize(
    ("content", "digest"),
    [
        (b"{}", ""),
        (b"not JSON", ""),
        (b'{"decision":{},"name":"Upper","version":"1.0.0"}', ""),
        (b'{"decision":{},"features":{"x":{"value":"amont"}},"name":"p","version":"1.0.0"}', ""),
        (b'{"decision":{},"name":"p","uses":{"standard@9":"' + b"9" * 64 + b'"},"version":"1.0.0"}', ""),
        (b"", "5" * 64),
    ],
)
def test_an_unavailable_program_degrades(content: bytes, digest: str) -> None:
    """Missing, invalid or of a release to come: it is named, and the default decides, marked so; never silently."""
    log, state = deployed_log(content, digest)
    resolver = Resolver(log.get_blob, load_tiny)
    missing = resolver.unavailable(state)
    assert list(missing) == [state.program]
    under = resolver.context(state, missing)
    assert (under.program.plan.program.digest, under.degraded) == (DEFAULT_PROGRAM, "program_unavailable+no_model")
    with pytest.raises(NotDecidable, match=f"program {state.program[:16]} is not to be had"):
        resolver.context(state)


def test_a_blob_with_another_digest_is_refused() -> None:
    """Whoever stores blobs can't put another document under a program's name."""
    content = document.canonical(loading.default().program)
    with pytest.raises(Corrupt, match="not the one registered"):
        loading.read_blob(content, "1" * 64)
    with pytest.raises((Corrupt, BadInput)):
        loading.load("1" * 64, MemoryLog().get_blob)


def test_a_change_of_rules_may_name_any_programs_parameters() -> None:
    """The fold can't know a program's names: those that it does not have are without effect, malformed ones refused."""
    known = folded(FIXED.event("t"), RulesChanged(**ANN, parameters={"own_bound": 3.0}, disabled=("OWN_RULE",)))
    assert not known.refused and known.parameters == {"own_bound": 3.0}
    resolver = Resolver(MemoryLog().get_blob, load_tiny)
    under, usual = resolver.context(known).program, resolver.context(folded(FIXED.event("t"))).program
    assert under.parameters == usual.parameters and under.codes == usual.codes and len(under.codes) > 10
    assert folded(RulesChanged(**ANN, parameters={"amount": 3.0})).refused


def test_only_the_newest_proposals_are_prepared() -> None:
    """However many proposals are open, workers hold the aggregates of the newest three programs only."""
    state = Programs()
    for k in range(5):
        digest = f"{k:064x}"
        for event in (
            ProgramRegistered(occurred_at=1, actor="ann", name="cards", version=f"1.0.{k}", digest=digest),
            ProgramProposed(occurred_at=1, actor="ann", proposal_id=f"p{k}", digest=digest),
        ):
            state.check(event, False)
            state.apply(event)
    assert state.proposed == [f"{k:064x}" for k in (2, 3, 4)]
