"""What people and services do to models: register, deploy, approve, roll back, withdraw; each one conditional append.

    register   bytes into the log's blobs, then ModelRegistered            registered
    deploy     registered model → an alias                                 deployed | proposed (four eyes)
    approve    somebody else's proposal → deployed
    roll back  champion → the one before it, or a named one; never waits   rolled back
    withdraw   shadow → nobody

An act whose result is already so appends nothing, so every one of them can be repeated after an unknown outcome. Names
are `name-version`. Errors are BadInput (what is asked for makes no sense) and ConcurrencyError. What each event says is
in `learners.governance.control_events`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from core import control_stream
from core.control_stream import Appended
from core.events import Control, DeploymentProposed
from core.log.base import EventLog
from learners.governance import control_events
from learners.governance.control_events import Act, Artifact, find
from projections.views.registry import Registry, registry_of, stage

Alias = Literal["champion", "shadow"]
ALIASES: tuple[Alias, ...] = ("champion", "shadow")


@dataclass(frozen=True, slots=True)
class Done:
    """What an act came to: the control position after it, what happened, and to which model."""

    position: int
    outcome: Literal["registered", "deployed", "proposed", "rolled back", "withdrawn", "changed", "unchanged"]
    model: str
    proposal_id: str = ""


def append(log: EventLog, decide: Callable[[Registry], Sequence[Control]]) -> tuple[Appended, Registry]:
    """`core.control_stream.append` of what `decide` makes of the registry; and the registry that it was made of."""
    seen: list[Registry] = []

    def of_registry(known: control_stream.Known) -> Sequence[Control]:
        seen.append(registry_of(known.entries))
        return decide(seen[-1])

    return control_stream.append(log, of_registry), seen[-1]


def register(log: EventLog, artifact: Artifact, act: Act) -> Done:
    """Store the artifact and append ModelRegistered; the position of that event, also if it is there already.

    Raises BadInput if name and version are another artifact's.
    """
    digest = log.put_blob(artifact.content)  # immutable and named by its bytes: safe to repeat
    appended, registry = append(log, lambda registry: control_events.registration(registry, artifact, digest, act))
    if not appended.events:
        return Done(registry.models[artifact.label].position, "unchanged", artifact.label)
    return Done(appended.position, "registered", artifact.label)


def deploy(log: EventLog, label: str, act: Act, alias: Alias = "champion") -> Done:
    """Make a registered model an alias. With four eyes on, a champion is only proposed: `approve` carries it out."""
    appended, registry = append(
        log, lambda registry: control_events.deployment(registry, find(registry, label), alias, act)
    )
    return deployed(appended, registry, label, alias)


def deployed(appended: Appended, registry: Registry, label: str, alias: str) -> Done:
    """What `control_events.deployment` of a model came to; registry: what it was made of."""
    proposed = [event for event in appended.events if isinstance(event, DeploymentProposed)]
    if proposed:
        return Done(appended.position, "proposed", label, proposed[0].proposal_id)
    if appended.events:
        return Done(appended.position, "deployed", label)
    waiting = registry.aliases.get(alias) != label  # a proposal of it was open already
    proposal_id = control_events.open_proposal(registry, find(registry, label), alias) if waiting else ""
    return Done(appended.position, "unchanged", label, proposal_id)


def approve(log: EventLog, proposal_id: str, act: Act) -> Done:
    """Carry out somebody else's proposal. Raises BadInput if it is not open, or the actor's own."""
    appended, registry = append(log, lambda registry: control_events.approval(registry, proposal_id, act))
    return Done(appended.position, "deployed", registry.proposals[proposal_id].model)


def roll_back(log: EventLog, act: Act, to: str | None = None) -> Done:
    """The champion becomes the one before it again, or the model `to`, which must have been champion once."""
    appended, registry = append(
        log,
        lambda registry: control_events.rollback(registry, control_events.rollback_target(registry, to), act),
    )
    label = control_events.rollback_target(registry, to)
    return Done(appended.position, "rolled back" if appended.events else "unchanged", label)


def withdraw(log: EventLog, alias: Alias, act: Act) -> Done:
    """Nobody is `alias` any more."""
    appended, registry = append(log, lambda registry: control_events.withdrawal(registry, alias, act))
    return Done(appended.position, "withdrawn" if appended.events else "unchanged", registry.aliases.get(alias, ""))


def set_four_eyes(log: EventLog, on: bool, act: Act) -> Done:
    """Whether a champion needs a second person from here on."""
    appended, _ = append(log, lambda registry: control_events.four_eyes(registry, on, act))
    return Done(appended.position, "changed" if appended.events else "unchanged", "")


def stages(log: EventLog) -> dict[str, str]:
    """Every model's stage (`projections.views.registry.stage`)."""
    registry = registry_of(control_stream.history(log))
    return {label: stage(registry, label) for label in registry.models}
