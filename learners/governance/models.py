"""Acts on models: register, deploy, approve, roll back, withdraw; each one conditional append to the control stream.

    register   store the artifact as a blob, then ModelRegistered                  registered
    deploy     give a registered model an alias                                    deployed | proposed (four eyes)
    approve    carry out another person's proposal                                 deployed
    roll back  make a former champion champion again; needs no approval            rolled back
    withdraw   remove the shadow, or take back an open proposal                    withdrawn

An act that already has its result appends nothing, so each act can be repeated after an unknown outcome. Models are
named `name-version`. Raises BadInput for an invalid request, and ConcurrencyError. Events are built by
`learners.governance.control_events`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from core import control_stream
from core.control_stream import Appended
from core.events import Control, DeploymentProposed
from core.log.base import EventLog
from learners.governance import control_events, proposals
from learners.governance.control_events import Act, Artifact, find
from projections.views.registry import Registry, registry_of, stage

Alias = Literal["champion", "shadow"]
ALIASES: tuple[Alias, ...] = ("champion", "shadow")


@dataclass(frozen=True, slots=True)
class ModelAct:
    """The result of an act on a model: the control position after it, what happened, and to which model."""

    position: int
    outcome: Literal["registered", "deployed", "proposed", "rolled back", "withdrawn", "changed", "unchanged"]
    model: str
    proposal_id: str = ""


def append(
    log: EventLog, decide: Callable[[Registry], Sequence[Control]], blobs: control_stream.Blobs | None = None
) -> tuple[Appended, Registry]:
    """Append the events that `decide` makes from the registry; returns what was appended, and that registry."""
    seen: list[Registry] = []

    def of_registry(known: control_stream.Known) -> Sequence[Control]:
        seen.append(registry_of(known.entries))
        return decide(seen[-1])

    return control_stream.append(log, of_registry, blobs=blobs), seen[-1]


def register(log: EventLog, artifact: Artifact, act: Act) -> ModelAct:
    """Store the artifact and append ModelRegistered. The result has the position of that event, new or existing.

    Raises BadInput if name and version belong to another artifact.
    """
    blobs = control_stream.Blobs(log)
    digest = blobs.put(artifact.content)  # immutable and named by its content, so safe to repeat
    appended, registry = append(
        log, lambda registry: control_events.registration(registry, artifact, digest, act), blobs
    )
    if not appended.events:
        return ModelAct(registry.models[artifact.label].position, "unchanged", artifact.label)
    return ModelAct(appended.position, "registered", artifact.label)


def deploy(log: EventLog, label: str, act: Act, alias: Alias = "champion") -> ModelAct:
    """Give a registered model an alias. With four eyes on, a champion is only proposed; `approve` deploys it."""
    appended, registry = append(
        log, lambda registry: control_events.deployment(registry, find(registry, label), alias, act)
    )
    return deployed(appended, registry, label, alias)


def deployed(appended: Appended, registry: Registry, label: str, alias: str) -> ModelAct:
    """The result of appending `control_events.deployment` of a model. registry: the one it was made from."""
    proposed = [event for event in appended.events if isinstance(event, DeploymentProposed)]
    if proposed:
        return ModelAct(appended.position, "proposed", label, proposed[0].proposal_id)
    if appended.events:
        return ModelAct(appended.position, "deployed", label)
    waiting = registry.aliases.get(alias) != label  # a proposal was already open
    proposal_id = control_events.open_proposal(registry, find(registry, label), alias) if waiting else ""
    return ModelAct(appended.position, "unchanged", label, proposal_id)


def approve(log: EventLog, proposal_id: str, act: Act) -> ModelAct:
    """Carry out another person's proposal. Raises BadInput if it is not open, or is the actor's own."""
    appended, registry = append(log, lambda registry: control_events.approval(registry, proposal_id, act))
    return ModelAct(appended.position, "deployed", registry.proposals[proposal_id].model)


def roll_back(log: EventLog, act: Act, to: str | None = None) -> ModelAct:
    """Return to the previous champion, or to the model `to`, which must have been champion before."""
    appended, registry = append(
        log,
        lambda registry: control_events.rollback(registry, control_events.rollback_target(registry, to), act),
    )
    label = control_events.rollback_target(registry, to)
    return ModelAct(appended.position, "rolled back" if appended.events else "unchanged", label)


def withdraw(log: EventLog, alias: Alias, act: Act) -> ModelAct:
    """Remove the alias from its model."""
    appended, registry = append(log, lambda registry: control_events.withdrawal(registry, alias, act))
    return ModelAct(appended.position, "withdrawn" if appended.events else "unchanged", registry.aliases.get(alias, ""))


def withdraw_proposal(log: EventLog, proposal_id: str, act: Act) -> ModelAct:
    """Take back an open proposal. Raises BadInput if it is not open."""
    appended, registry = append(log, lambda registry: control_events.proposal_withdrawal(registry, proposal_id, act))
    return ModelAct(appended.position, "withdrawn", registry.proposals[proposal_id].model, proposal_id)


def set_four_eyes(log: EventLog, on: bool, act: Act) -> ModelAct:
    """Turn four eyes on or off: whether what decides changes only with a second person. Off, they are only proposed."""
    done = proposals.append(log, lambda known: control_events.four_eyes(registry_of(known.entries), on, act))
    if done.proposals:
        return ModelAct(done.position, "proposed", "", done.proposals[0])
    return ModelAct(done.position, "changed" if done.events else "unchanged", "")


def stages(log: EventLog) -> dict[str, str]:
    """Every model's stage (`projections.views.registry.stage`)."""
    registry = registry_of(control_stream.history(log))
    return {label: stage(registry, label) for label in registry.models}
