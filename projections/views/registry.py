"""The model registry and the rest of the context that decisions were made under: who deployed what, when and why, and
how models were made. A fold over the control stream.

A model's stage is the alias it holds now (champion, shadow), `archived` if it held one before, or `registered` if it
never did. A name and version denote one artifact. Events that have no effect (`core.control_stream`) are recorded as
refused and change nothing else. Times are when the actor acted, epoch ms.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from core.control import DEFAULT_DECLINE, DEFAULT_REVIEW
from core.control_stream import ControlEntry
from core.currency import rates_of
from core.events import (
    ChangeProposed,
    ChangeWithdrawn,
    DegradationDetected,
    DeploymentProposed,
    DeploymentWithdrawn,
    ExperimentConcluded,
    ExperimentRamped,
    ExperimentStarted,
    ExperimentStopped,
    GovernanceChanged,
    HistoryEnded,
    HistoryStarted,
    IdentityAdded,
    IdentityChanged,
    IdentityKeyAdded,
    IdentityKeyRevoked,
    IdentityRequired,
    IdentityRevoked,
    ListChanged,
    LogCreated,
    ModelDeployed,
    ModelRegistered,
    ModelRolledBack,
    ModelWithdrawn,
    ProgramApproved,
    ProgramDeployed,
    ProgramProposed,
    ProgramRegistered,
    ProgramRolledBack,
    ProgramWithdrawn,
    RatesChanged,
    ReferencePublished,
    RetrainingFinished,
    RetrainingRejected,
    RetrainingStarted,
    RulesChanged,
    ThresholdsChanged,
)
from core.governance import CHAMPION, Governance
from core.policy import Thresholds
from projections.engine.base import Fact, Projection, control_fact, fold
from projections.views.registry_records import (
    Degradation,
    Deployment,
    Model,
    OpenProposal,
    PolicyChange,
    Reference,
    Switch,
    Training,
)


class Registry(msgspec.Struct):
    """Models by label, aliases, all deployments, open proposals, trainings by run, policy and reference tables, and
    when four eyes were turned on and off.

    refused: control position → why that event had no effect.
    """

    models: dict[str, Model] = {}
    aliases: dict[str, str] = {}
    deployments: list[Deployment] = []
    review: float = DEFAULT_REVIEW
    decline: float = DEFAULT_DECLINE
    review_loss: float = 0.0
    decline_loss: float = 0.0
    parameters: dict[str, float] = {}
    disabled: tuple[str, ...] = ()
    base: str = ""
    rates: dict[str, float] = {}
    policy: list[PolicyChange] = []
    references: dict[str, Reference] = {}
    governance: Governance = msgspec.field(default_factory=Governance)
    proposals: dict[str, OpenProposal] = {}
    trainings: dict[str, Training] = {}
    degradations: list[Degradation] = []
    switches: list[Switch] = []
    refused: dict[int, str] = {}

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds in force."""
        return Thresholds(self.review, self.decline, self.review_loss, self.decline_loss)


def champions(registry: Registry) -> list[Deployment]:
    """The stack that rollbacks unwind: the current champion last, before it the one it replaced, and so on.

    A rollback removes everything above the model that it returns to.
    """
    stack: list[Deployment] = []
    for deployment in registry.deployments:
        if deployment.alias != CHAMPION:
            continue
        if deployment.action == "rollback":
            below = next((i for i, d in enumerate(stack) if d.digest == deployment.digest), len(stack))
            del stack[below:]
        if not stack or stack[-1].digest != deployment.digest:
            stack.append(deployment)
    return stack


def stage(registry: Registry, label: str) -> str:
    """A model's stage (see the module's head)."""
    held = sorted(alias for alias, model in registry.aliases.items() if model == label)
    if held:
        return "+".join(held)
    return "archived" if any(d.model == label for d in registry.deployments) else "registered"


def lineage(registry: Registry, label: str) -> list[str]:
    """The model and its ancestors, newest first; ends where a parent is unknown or repeats."""
    found: list[str] = []
    while label and label not in found:
        found.append(label)
        model = registry.models.get(label)
        parent = model.parent if model is not None else ""
        label = parent if not model or not parent or parent in registry.models else f"{model.name}-{parent}"
    return found


def _refused(state: Registry, fact: Fact) -> None:
    state.refused[fact.id.generation] = fact.refused
    if isinstance(fact.event, ThresholdsChanged | RulesChanged | RatesChanged):
        _policy(state, fact)


def _governed(state: Registry, fact: Fact) -> None:
    """Experiments, four eyes, histories, programs; their acts are in views of their own."""
    state.governance.apply(fact.event)


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
        fact.id.generation,
    )
    state.governance.apply(event)
    state.models[model.label] = model


def _deployed(state: Registry, fact: Fact) -> None:
    event: ModelDeployed | ModelRolledBack = fact.event
    state.governance.apply(event)
    state.proposals.pop(event.causation_id, None)
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


def _withdrawn(state: Registry, fact: Fact) -> None:
    event: ModelWithdrawn = fact.event
    state.governance.apply(event)
    state.aliases.pop(event.alias, None)


def _proposed(state: Registry, fact: Fact) -> None:
    event: DeploymentProposed = fact.event
    state.governance.apply(event)
    state.proposals[event.proposal_id] = OpenProposal(
        fact.id.generation,
        event.proposal_id,
        f"{event.name}-{event.version}",
        event.digest,
        event.alias,
        event.occurred_at,
        event.actor,
        event.reason,
    )


def _proposal_withdrawn(state: Registry, fact: Fact) -> None:
    event: DeploymentWithdrawn = fact.event
    state.governance.apply(event)
    state.proposals.pop(event.proposal_id, None)


def _required(state: Registry, fact: Fact) -> None:
    """Closes the proposals that are open."""
    state.governance.apply(fact.event)
    state.proposals = {key: each for key, each in state.proposals.items() if key in state.governance.proposals}


def _switched(state: Registry, fact: Fact) -> None:
    event: GovernanceChanged = fact.event
    state.governance.apply(event)
    state.switches.append(
        Switch(fact.id.generation, event.four_eyes, event.occurred_at, event.actor, event.reason, event.causation_id)
    )


def _training_started(state: Registry, fact: Fact) -> None:
    event: RetrainingStarted = fact.event
    state.trainings[event.run_id] = Training(
        event.run_id, event.trigger, event.occurred_at, event.known_until, event.parent, event.actor
    )


def _training_ended(state: Registry, fact: Fact) -> None:
    event: RetrainingFinished | RetrainingRejected = fact.event
    training = state.trainings.get(event.run_id)
    if training is None:
        return
    training.state = "finished" if isinstance(event, RetrainingFinished) else "rejected"
    training.ended_at, training.reason, training.metrics = event.occurred_at, event.reason, event.metrics
    if isinstance(event, RetrainingFinished):
        training.model = f"{event.name}-{event.version}"


def _degraded(state: Registry, fact: Fact) -> None:
    event: DegradationDetected = fact.event
    state.degradations.append(
        Degradation(
            fact.id.generation,
            event.model,
            event.metric,
            event.value,
            event.limit,
            event.window_start,
            event.window_end,
            event.occurred_at,
            event.actor,
        )
    )


def _policy(state: Registry, fact: Fact) -> None:
    """Record the change in the history, whether or not it takes effect."""
    event: ThresholdsChanged | RulesChanged | RatesChanged = fact.event
    change: dict[str, Any]
    if isinstance(event, ThresholdsChanged):
        change = {name: getattr(event, name) for name in Thresholds._fields}
    elif isinstance(event, RatesChanged):
        change = {"base": event.base, "rates": dict(event.rates)}
    else:
        change = {"parameters": dict(event.parameters), "disabled": list(event.disabled)}
    state.policy.append(
        PolicyChange(fact.id.generation, event.occurred_at, event.actor, event.reason, change, fact.refused)
    )


def _thresholds(state: Registry, fact: Fact) -> None:
    event: ThresholdsChanged = fact.event
    state.governance.apply(event)
    _policy(state, fact)
    state.review, state.decline = event.review, event.decline
    state.review_loss, state.decline_loss = event.review_loss, event.decline_loss


def _rules(state: Registry, fact: Fact) -> None:
    event: RulesChanged = fact.event
    state.governance.apply(event)
    _policy(state, fact)
    state.parameters, state.disabled = dict(event.parameters), event.disabled


def _rates(state: Registry, fact: Fact) -> None:
    state.governance.apply(fact.event)
    _policy(state, fact)
    rates = rates_of(fact.event)
    state.base, state.rates = rates.base, dict(rates.by_code)


def _reference(state: Registry, fact: Fact) -> None:
    event: ReferencePublished = fact.event
    before = state.references.get(event.kind)
    tables = 1 if before is None else before.tables + 1
    state.references[event.kind] = Reference(fact.id.generation, event.digest, event.as_of, event.rows, tables)


REGISTRY = Projection(
    name="registry",
    holds="models, stages, lineage, deployments, thresholds, rules, rates, reference tables",
    version=10,
    state_type=Registry,
    handlers={
        ModelRegistered: _registered,
        ModelDeployed: _deployed,
        ModelRolledBack: _deployed,
        ModelWithdrawn: _withdrawn,
        LogCreated: _governed,
        GovernanceChanged: _switched,
        ListChanged: _governed,
        IdentityAdded: _governed,
        IdentityChanged: _governed,
        IdentityRevoked: _governed,
        IdentityKeyAdded: _governed,
        IdentityKeyRevoked: _governed,
        IdentityRequired: _required,
        ChangeProposed: _governed,
        ChangeWithdrawn: _governed,
        HistoryStarted: _governed,
        HistoryEnded: _governed,
        DeploymentProposed: _proposed,
        DeploymentWithdrawn: _proposal_withdrawn,
        ProgramApproved: _governed,
        ProgramDeployed: _governed,
        ProgramProposed: _governed,
        ProgramRegistered: _governed,
        ProgramRolledBack: _governed,
        ProgramWithdrawn: _governed,
        ExperimentStarted: _governed,
        ExperimentRamped: _governed,
        ExperimentStopped: _governed,
        ExperimentConcluded: _governed,
        RetrainingStarted: _training_started,
        RetrainingFinished: _training_ended,
        RetrainingRejected: _training_ended,
        DegradationDetected: _degraded,
        ThresholdsChanged: _thresholds,
        RulesChanged: _rules,
        RatesChanged: _rates,
        ReferencePublished: _reference,
    },
    refusal=_refused,
)


def registry_of(entries: Iterable[ControlEntry]) -> Registry:
    """The registry after `entries` of the control stream, from its beginning."""
    return fold(REGISTRY, map(control_fact, entries))
