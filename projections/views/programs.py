"""Programs: which are registered, which decided when, who proposed, approved and deployed them, and why. A fold over
the control stream.

Times are when the actor acted, epoch ms. A program is named `name@version`, or by the first digits of its SHA-256.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from core.control_stream import ControlEntry
from core.errors import BadInput
from core.events import (
    ExperimentStarted,
    IdentityRequired,
    LogCreated,
    ProgramApproved,
    ProgramDeployed,
    ProgramProposed,
    ProgramRegistered,
    ProgramRolledBack,
    ProgramWithdrawn,
)
from projections.engine.base import Fact, Projection, control_fact, fold

DEFAULT = "default"
"""What people call the log's default program."""
DIGITS_MIN = 6


class Said(msgspec.Struct, frozen=True):
    """Who said something, when and why. position: of the control stream."""

    position: int
    occurred_at: int
    actor: str
    reason: str


class RegisteredProgram(msgspec.Struct, frozen=True):
    """A stored document. parent: the SHA-256 of the program that it was made from, "" for none."""

    name: str
    version: str
    digest: str
    parent: str
    registered: Said

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"


class Proposal(msgspec.Struct, frozen=True):
    """A proposal: by whom, and who approved it."""

    proposal_id: str
    digest: str
    proposed: Said
    approved: Said | None = None


class WithdrawnProposal(msgspec.Struct, frozen=True):
    """A proposal that was taken back, and by whom."""

    proposal: Proposal
    withdrawn: Said


class Service(msgspec.Struct, frozen=True):
    """From `began` on the program decided. digest: "" for the log's default. proposal: what it was deployed on."""

    digest: str
    action: Literal["deploy", "rollback"]
    began: Said
    proposal: Proposal | None = None


class Trial(msgspec.Struct, frozen=True):
    """From `began` on the program decided for an arm's accounts, while the experiment ran. share: of the experiment's
    accounts, in 1/10,000; proposal: what it was tried on.
    """

    experiment: str
    arm: str
    model: str
    share: int
    digest: str
    began: Said
    proposal: Proposal | None = None


class RefusedAct(msgspec.Struct, frozen=True):
    """An act on a program that had no effect, and why."""

    type: str
    said: Said
    refused: str


class ProgramRegistry(msgspec.Struct):
    """default: SHA-256 of the log's default program. programs: by SHA-256. proposals: open ones, by ID. withdrawn and
    services: all, oldest first. trials: of the arms of all experiments whose programs differ, oldest first.
    """

    default: str = ""
    programs: dict[str, RegisteredProgram] = {}
    proposals: dict[str, Proposal] = {}
    withdrawn: list[WithdrawnProposal] = []
    services: list[Service] = []
    trials: list[Trial] = []
    refused: list[RefusedAct] = []


def in_force(registry: ProgramRegistry) -> str:
    """SHA-256 of the program that decides; "" for the log's default."""
    return registry.services[-1].digest if registry.services else ""


def before(registry: ProgramRegistry) -> str:
    """What a rollback returns to: the program that the one in force replaced. Raises BadInput if there is none.

    A rollback removes what is above the program that it returns to.
    """
    stack = [""]
    for service in registry.services:
        if service.action == "rollback" and service.digest in stack:
            del stack[stack.index(service.digest) :]
        if not stack or stack[-1] != service.digest:
            stack.append(service.digest)
    if len(stack) < 2:
        raise BadInput("the log's default program decides, and no other did before it")
    return stack[-2]


def label_of(registry: ProgramRegistry, digest: str) -> str:
    """`name@version`; "default" for the log's default, the first digits for a program that is not registered."""
    if digest in ("", registry.default):
        return DEFAULT
    program = registry.programs.get(digest)
    return program.label if program is not None else digest[:16]


def find(registry: ProgramRegistry, name: str) -> str:
    """The SHA-256 of the program called `name@version`, "default", or by at least 6 first digits; "" is the default.

    Raises BadInput, listing the registered ones, if there is none or more than one.
    """
    if name == DEFAULT or (len(name) >= DIGITS_MIN and registry.default.startswith(name.lower())):
        return ""
    found = [each for each in registry.programs.values() if each.label == name]
    if not found and len(name) >= DIGITS_MIN:
        found = [each for each in registry.programs.values() if each.digest.startswith(name.lower())]
    if len(found) != 1:
        known = ", ".join(sorted(each.label for each in registry.programs.values())) or "none"
        raise BadInput(f"{'several programs are' if found else 'no program is'} called {name!r} (registered: {known})")
    return found[0].digest


def _said(fact: Fact) -> Said:
    event = fact.event
    return Said(fact.id.generation, event.occurred_at, event.actor, event.reason)


def _created(state: ProgramRegistry, fact: Fact) -> None:
    event: LogCreated = fact.event
    state.default = event.program


def _registered(state: ProgramRegistry, fact: Fact) -> None:
    event: ProgramRegistered = fact.event
    if event.digest not in state.programs:
        state.programs[event.digest] = RegisteredProgram(
            event.name, event.version, event.digest, event.parent, _said(fact)
        )


def _proposed(state: ProgramRegistry, fact: Fact) -> None:
    event: ProgramProposed = fact.event
    state.proposals[event.proposal_id] = Proposal(event.proposal_id, event.digest, _said(fact))


def _approved(state: ProgramRegistry, fact: Fact) -> None:
    event: ProgramApproved = fact.event
    proposal = state.proposals[event.proposal_id]
    state.proposals[event.proposal_id] = msgspec.structs.replace(proposal, approved=_said(fact))


def _withdrawn(state: ProgramRegistry, fact: Fact) -> None:
    event: ProgramWithdrawn = fact.event
    state.withdrawn.append(WithdrawnProposal(state.proposals.pop(event.proposal_id), _said(fact)))


def _required(state: ProgramRegistry, fact: Fact) -> None:
    """What was proposed before identity was required is closed."""
    event: IdentityRequired = fact.event
    if event.required:
        state.withdrawn += [WithdrawnProposal(each, _said(fact)) for each in state.proposals.values()]
        state.proposals = {}


def _deployed(state: ProgramRegistry, fact: Fact) -> None:
    event: ProgramDeployed = fact.event
    proposal = state.proposals.get(event.causation_id)
    state.services.append(Service(event.digest, "deploy", _said(fact), proposal))
    for key in [key for key, each in state.proposals.items() if each.digest == event.digest]:
        del state.proposals[key]


def _rolled_back(state: ProgramRegistry, fact: Fact) -> None:
    event: ProgramRolledBack = fact.event
    state.services.append(Service(event.digest, "rollback", _said(fact)))


def _tried(state: ProgramRegistry, fact: Fact) -> None:
    event: ExperimentStarted = fact.event
    if all(arm.program in ("", in_force(state)) for arm in event.arms):
        return
    for arm in event.arms:
        digest = arm.program or in_force(state)
        found = [each for each in state.proposals.values() if each.digest == digest]
        found.sort(key=lambda each: each.approved is None)  # stable
        model = f"{arm.model}-{arm.version}"
        proposal = found[0] if found else None
        state.trials.append(Trial(event.experiment_id, arm.name, model, arm.share, digest, _said(fact), proposal))


_ACTS = (ProgramRegistered, ProgramProposed, ProgramApproved, ProgramWithdrawn, ProgramDeployed, ProgramRolledBack)


def _refused(state: ProgramRegistry, fact: Fact) -> None:
    if isinstance(fact.event, _ACTS):
        state.refused.append(RefusedAct(str(fact.event.__struct_config__.tag), _said(fact), fact.refused))


PROGRAMS = Projection(
    name="programs",
    holds="programs: registered, proposed, approved, withdrawn, deployed, tried in arms, rolled back",
    version=4,
    state_type=ProgramRegistry,
    handlers={
        LogCreated: _created,
        IdentityRequired: _required,
        ProgramRegistered: _registered,
        ProgramProposed: _proposed,
        ProgramApproved: _approved,
        ProgramWithdrawn: _withdrawn,
        ProgramDeployed: _deployed,
        ProgramRolledBack: _rolled_back,
        ExperimentStarted: _tried,
    },
    refusal=_refused,
)


def programs_of(entries: Iterable[ControlEntry]) -> ProgramRegistry:
    """The registry after `entries` of the control stream, from its beginning."""
    return fold(PROGRAMS, map(control_fact, entries))
