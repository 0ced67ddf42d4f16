"""What people and services do to models: register, deploy, approve, roll back, withdraw; each one conditional append.

    register   bytes into the log's blobs, then ModelRegistered            registered
    deploy     registered model → an alias                                 deployed | proposed (four eyes)
    approve    somebody else's proposal → deployed
    roll back  champion → the one before it, or a named one; never waits   rolled back
    withdraw   shadow or challenger → nobody

An act whose result is already so appends nothing, so every one of them can be repeated after an unknown outcome. Names
are `name-version`. Times are epoch ms; errors are BadInput (what is asked for makes no sense) and ConcurrencyError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec.structs import replace

from core import control_stream
from core.control_stream import Appended
from core.errors import BadInput
from core.events import (
    Control,
    DeploymentProposed,
    GovernanceChanged,
    ModelDeployed,
    ModelRegistered,
    ModelRolledBack,
    ModelWithdrawn,
)
from core.governance import CHAMPION
from core.log.base import EventLog
from projections.views.registry import Model, Registry, champions, registry_of, stage


def append(log: EventLog, decide: Callable[[Registry], Sequence[Control]]) -> Appended:
    """`core.control_stream.append` of what `decide` makes of the registry."""
    return control_stream.append(log, lambda known: decide(registry_of(known.entries)))


Alias = Literal["champion", "challenger", "shadow"]
ALIASES: tuple[Alias, ...] = ("champion", "challenger", "shadow")


@dataclass(frozen=True, slots=True)
class Act:
    """Who acts, why and when (epoch ms); causation_id: what made them, e.g. an experiment's or a retraining's ID."""

    actor: str
    reason: str
    now_ms: int
    causation_id: str = ""

    def __post_init__(self) -> None:
        if not self.actor.strip() or not self.reason.strip():
            raise BadInput("say who acts and why: an audit will ask (--actor, --reason)")


@dataclass(frozen=True, slots=True)
class Done:
    """What an act came to: the control position after it, what happened, and to which model."""

    position: int
    outcome: Literal["registered", "deployed", "proposed", "rolled back", "withdrawn", "changed", "unchanged"]
    model: str
    proposal_id: str = ""


def find(registry: Registry, label: str) -> Model:
    """The model called `name-version`. Raises BadInput, naming those that there are."""
    model = registry.models.get(label)
    if model is None:
        known = ", ".join(sorted(registry.models)) or "none"
        raise BadInput(f"no model {label!r} is registered (registered: {known})")
    return model


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model's bytes and what is registered of it. metrics: by name; those that are not numbers (NaN) are left out."""

    content: bytes
    name: str
    version: str
    spec: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    parent: str = ""

    @property
    def label(self) -> str:
        return f"{self.name}-{self.version}"

    @classmethod
    def of_card(cls, content: bytes, card: Mapping[str, Any]) -> Artifact:
        """Of what `learners.training.training` made, by its card."""
        return cls(content, card["name"], card["version"], card["spec"], card["metrics"], card.get("parent", ""))


def register(log: EventLog, artifact: Artifact, act: Act) -> Done:
    """Store the artifact and append ModelRegistered; the position of that event, also if it is there already.

    Raises BadInput if name and version are another artifact's.
    """
    digest = log.put_blob(artifact.content)  # immutable and named by its bytes: safe to repeat
    registered = 0

    def decide(registry: Registry) -> list[Control]:
        nonlocal registered
        known = registry.models.get(artifact.label)
        if known is not None and known.digest != digest:
            raise BadInput(
                f"{artifact.name} {artifact.version} is another model already ({known.digest[:16]}): raise the version"
            )
        if known is not None and known.registered_at:
            registered = known.position
            return []
        return [
            ModelRegistered(
                occurred_at=act.now_ms,
                actor=act.actor,
                reason=act.reason,
                causation_id=act.causation_id,
                name=artifact.name,
                version=artifact.version,
                digest=digest,
                spec=artifact.spec,
                metrics={key: float(value) for key, value in artifact.metrics.items() if value == value},
                parent=artifact.parent,
            )
        ]

    position, events = append(log, decide)
    return Done(position if events else registered, "registered" if events else "unchanged", artifact.label)


def deploy(log: EventLog, label: str, act: Act, alias: Alias = "champion") -> Done:
    """Make a registered model an alias. With four eyes on, a champion is only proposed: `approve` carries it out."""
    outcome: Literal["deployed", "proposed", "unchanged"] = "unchanged"
    proposal_id = ""

    def decide(registry: Registry) -> list[Control]:
        nonlocal outcome, proposal_id
        model = find(registry, label)
        if registry.aliases.get(alias) == label:
            outcome = "unchanged"
            return []
        if alias != CHAMPION or not registry.governance.four_eyes:
            outcome = "deployed"
            return _deployed(registry, model, alias, act)
        open_ones = [p for p in registry.proposals.values() if (p.digest, p.alias) == (model.digest, alias)]
        if open_ones:
            outcome, proposal_id = "unchanged", open_ones[0].proposal_id
            return []
        outcome, proposal_id = "proposed", f"{label}:{alias}:{len(registry.deployments)}"
        return [
            DeploymentProposed(
                occurred_at=act.now_ms,
                actor=act.actor,
                reason=act.reason,
                causation_id=act.causation_id,
                proposal_id=proposal_id,
                name=model.name,
                version=model.version,
                digest=model.digest,
                alias=alias,
            )
        ]

    position, _ = append(log, decide)
    return Done(position, outcome, label, proposal_id)


def approve(log: EventLog, proposal_id: str, act: Act) -> Done:
    """Carry out somebody else's proposal. Raises BadInput if it is not open, or the actor's own."""
    label = ""

    def decide(registry: Registry) -> list[Control]:
        nonlocal label
        proposal = registry.proposals.get(proposal_id)
        if proposal is None:
            known = ", ".join(sorted(registry.proposals)) or "none"
            raise BadInput(f"no proposal {proposal_id!r} is open (open: {known})")
        label = proposal.model
        answer = Act(act.actor, act.reason, act.now_ms, proposal_id)
        return _deployed(registry, find(registry, label), proposal.alias, answer)

    position, _ = append(log, decide)
    return Done(position, "deployed", label)


def roll_back(log: EventLog, act: Act, to: str | None = None) -> Done:
    """The champion becomes the one before it again, or the model `to`, which must have been champion once."""
    label = ""

    def decide(registry: Registry) -> list[Control]:
        nonlocal label
        label = rollback_target(registry, to)
        if registry.aliases.get(CHAMPION) == label:
            return []
        model = former_champion(registry, label)
        return [
            ModelRolledBack(
                occurred_at=act.now_ms,
                actor=act.actor,
                reason=act.reason,
                causation_id=act.causation_id,
                name=model.name,
                version=model.version,
                digest=model.digest,
            )
        ]

    position, events = append(log, decide)
    return Done(position, "rolled back" if events else "unchanged", label)


def rollback_target(registry: Registry, to: str | None = None) -> str:
    """What a rollback goes back to. Raises BadInput if there is nothing."""
    if to is not None:
        if all(d.model != to or d.alias != CHAMPION for d in registry.deployments):
            raise BadInput(f"{to} was never champion: deploy it instead")
        return to
    stack = champions(registry)
    if len(stack) < 2:
        raise BadInput("there is no earlier champion to go back to")
    return stack[-2].model


def former_champion(registry: Registry, label: str) -> Model:
    """The model `label` as it was champion before: by the digest that was deployed, whatever was registered since."""
    model, now = find(registry, label), registry.governance.champion
    deployed = [d.digest for d in registry.deployments if (d.alias, d.model) == (CHAMPION, label)]
    return replace(model, digest=next((d for d in reversed(deployed) if d != now), model.digest))


def withdraw(log: EventLog, alias: Alias, act: Act) -> Done:
    """Nobody is `alias` any more."""
    label = ""

    def decide(registry: Registry) -> list[Control]:
        nonlocal label
        label = registry.aliases.get(alias, "")
        if not label and alias != CHAMPION:
            return []
        return [_withdrawal(alias, act)]

    position, events = append(log, decide)
    return Done(position, "withdrawn" if events else "unchanged", label)


def set_four_eyes(log: EventLog, on: bool, act: Act) -> Done:
    """Whether a champion needs a second person from here on."""

    def decide(registry: Registry) -> list[Control]:
        if registry.governance.four_eyes == on:
            return []
        return [GovernanceChanged(occurred_at=act.now_ms, actor=act.actor, reason=act.reason, four_eyes=on)]

    position, events = append(log, decide)
    return Done(position, "changed" if events else "unchanged", "")


def stages(log: EventLog) -> dict[str, str]:
    """Every model's stage (`projections.views.registry.stage`)."""
    registry = registry_of(control_stream.history(log))
    return {label: stage(registry, label) for label in registry.models}


def _deployed(registry: Registry, model: Model, alias: str, act: Act) -> list[Control]:
    """The deployment; a shadow that becomes champion is no shadow any more, or it would be scored twice."""
    found: list[Control] = [_deployment(model, alias, act)]
    if alias == CHAMPION and registry.aliases.get("shadow") == model.label:
        found.append(_withdrawal("shadow", act))
    return found


def _withdrawal(alias: str, act: Act) -> ModelWithdrawn:
    return ModelWithdrawn(
        occurred_at=act.now_ms,
        actor=act.actor,
        reason=act.reason,
        causation_id=act.causation_id,
        alias=alias,
    )


def _deployment(model: Model, alias: str, act: Act) -> ModelDeployed:
    return ModelDeployed(
        occurred_at=act.now_ms,
        actor=act.actor,
        reason=act.reason,
        causation_id=act.causation_id,
        name=model.name,
        version=model.version,
        digest=model.digest,
        alias=alias,
    )
