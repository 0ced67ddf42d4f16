"""The model registry and everything else that decisions were made under: who deployed what, when and why. A fold over
the control stream.

A model's stage: what alias it holds now (champion, challenger, shadow); `archived` if it held one before; `registered`
if it never did. Events that the live fold refuses (`core.control.check`) are kept as refused and change nothing here
either. Times are when the actor acted, epoch ms.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from core.control import DEFAULT_DECLINE, DEFAULT_REVIEW, check
from core.errors import BadInput
from core.events import (
    ModelDeployed,
    ModelRegistered,
    ModelRolledBack,
    ReferencePublished,
    RulesChanged,
    ThresholdsChanged,
)
from projections.base import Fact, Projection


class Model(msgspec.Struct):
    """A model version. `parent` is the version it was trained on from; `registered_at` 0: deployed unregistered."""

    name: str
    version: str
    digest: str
    spec: int = 0
    metrics: dict[str, float] = {}
    parent: str = ""
    registered_at: int = 0
    registered_by: str = ""
    reason: str = ""

    @property
    def label(self) -> str:
        return f"{self.name}-{self.version}"


class Deployment(msgspec.Struct, frozen=True):
    """A model became an alias at a control position."""

    position: int
    action: Literal["deploy", "rollback"]
    alias: str
    model: str
    digest: str
    occurred_at: int
    actor: str
    reason: str
    causation_id: str


class PolicyChange(msgspec.Struct, frozen=True):
    """Thresholds or rules changed at a control position; `refused` says why it had no effect."""

    position: int
    occurred_at: int
    actor: str
    reason: str
    change: dict[str, Any]
    refused: str = ""


class Reference(msgspec.Struct, frozen=True):
    """The newest reference table of a kind."""

    position: int
    digest: str
    as_of: int
    rows: int
    tables: int


class Registry(msgspec.Struct):
    """Models by label, aliases, all deployments, policy and reference tables."""

    models: dict[str, Model] = {}
    aliases: dict[str, str] = {}
    deployments: list[Deployment] = []
    review: float = DEFAULT_REVIEW
    decline: float = DEFAULT_DECLINE
    parameters: dict[str, float] = {}
    disabled: tuple[str, ...] = ()
    policy: list[PolicyChange] = []
    references: dict[str, Reference] = {}


def stage(registry: Registry, label: str) -> str:
    """A model's stage (see the module's head)."""
    held = sorted(alias for alias, model in registry.aliases.items() if model == label)
    if held:
        return "+".join(held)
    return "archived" if any(d.model == label for d in registry.deployments) else "registered"


def lineage(registry: Registry, label: str) -> list[str]:
    """The model and what it was trained on from, newest first; ends where a parent is unknown or comes again."""
    found: list[str] = []
    while label and label not in found:
        found.append(label)
        model = registry.models.get(label)
        parent = model.parent if model is not None else ""
        label = parent if not model or not parent or parent in registry.models else f"{model.name}-{parent}"
    return found


def _registered(state: Registry, fact: Fact) -> None:
    event: ModelRegistered = fact.event
    model = Model(
        event.name,
        event.version,
        event.digest,
        event.spec,
        event.metrics,
        event.parent,
        event.occurred_at,
        event.actor,
        event.reason,
    )
    state.models[model.label] = model


def _deployed(state: Registry, fact: Fact) -> None:
    event: ModelDeployed | ModelRolledBack = fact.event
    label = f"{event.name}-{event.version}"
    state.models.setdefault(label, Model(event.name, event.version, event.digest))
    state.aliases[event.alias] = label
    state.deployments.append(
        Deployment(
            fact.id.generation,
            "deploy" if isinstance(event, ModelDeployed) else "rollback",
            event.alias,
            label,
            event.digest,
            event.occurred_at,
            event.actor,
            event.reason,
            event.causation_id,
        )
    )


def _policy(state: Registry, fact: Fact, change: dict[str, Any]) -> bool:
    """Keep the change in the history; whether it takes effect."""
    event: ThresholdsChanged | RulesChanged = fact.event
    refused = ""
    try:
        check(event)
    except BadInput as error:
        refused = str(error)
    state.policy.append(PolicyChange(fact.id.generation, event.occurred_at, event.actor, event.reason, change, refused))
    return not refused


def _thresholds(state: Registry, fact: Fact) -> None:
    event: ThresholdsChanged = fact.event
    if _policy(state, fact, {"review": event.review, "decline": event.decline}):
        state.review, state.decline = event.review, event.decline


def _rules(state: Registry, fact: Fact) -> None:
    event: RulesChanged = fact.event
    if _policy(state, fact, {"parameters": dict(event.parameters), "disabled": list(event.disabled)}):
        state.parameters, state.disabled = dict(event.parameters), event.disabled


def _reference(state: Registry, fact: Fact) -> None:
    event: ReferencePublished = fact.event
    before = state.references.get(event.kind)
    tables = 1 if before is None else before.tables + 1
    state.references[event.kind] = Reference(fact.id.generation, event.digest, event.as_of, event.rows, tables)


REGISTRY = Projection(
    name="registry",
    version=1,
    state_type=Registry,
    handlers={
        ModelRegistered: _registered,
        ModelDeployed: _deployed,
        ModelRolledBack: _deployed,
        ThresholdsChanged: _thresholds,
        RulesChanged: _rules,
        ReferencePublished: _reference,
    },
)
