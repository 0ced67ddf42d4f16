"""The control events of every act on models and experiments: one builder for each, for commands and for the loop. Pure.

    registration   an artifact gets a name and a version                 ModelRegistered
    deployment     a registered model becomes an alias                   ModelDeployed | DeploymentProposed (four eyes)
    approval       somebody else's proposal is carried out               ModelDeployed
    rollback       a former champion decides again; never waits          ModelRolledBack
    withdrawal     nobody is shadow any more                             ModelWithdrawn
    start          a test begins                                         ExperimentStarted
    ramp, stop     another share of accounts takes part; it is over      ExperimentRamped, ExperimentStopped
    conclusion     it ends with a verdict; a winner is deployed          ExperimentConcluded, then as deployment

A builder takes the registry (`projections.views.registry`) and gives the events, in the order in which they are
appended together; none if what is asked for is already so. A shadow that becomes champion or an arm is withdrawn as
shadow by the same act, or it would be scored twice. Raises BadInput if the act makes no sense; whether the events may
follow is checked where they are appended (`core.control_stream`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from core.assignment import WHOLE
from core.errors import BadInput
from core.events import (
    Arm,
    Control,
    DeploymentProposed,
    ExperimentConcluded,
    ExperimentRamped,
    ExperimentStarted,
    ExperimentStopped,
    GovernanceChanged,
    ModelDeployed,
    ModelRegistered,
    ModelRolledBack,
    ModelWithdrawn,
)
from core.governance import CHAMPION, SHADOW
from learners.experiments.design import USUAL, Design
from learners.experiments.report import Report, criteria_of
from projections.views.registry import Model, Registry, champions

Conclusion = Literal["promote", "keep", "rollback"]


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

    @property
    def fields(self) -> dict[str, Any]:
        """What every control event says of it."""
        return {
            "occurred_at": self.now_ms,
            "actor": self.actor,
            "reason": self.reason,
            "causation_id": self.causation_id,
        }


def finite(figures: Mapping[str, float]) -> dict[str, float]:
    """The figures that an event can hold: JSON has neither NaN nor infinity."""
    return {name: float(value) for name, value in figures.items() if math.isfinite(value)}


# --- models -------------------------------------------------------------------------------------------------------


def find(registry: Registry, label: str) -> Model:
    """The model called `name-version`. Raises BadInput, naming those that there are."""
    model = registry.models.get(label)
    if model is None:
        known = ", ".join(sorted(registry.models)) or "none"
        raise BadInput(f"no model {label!r} is registered (registered: {known})")
    return model


def arm_model(registry: Registry, label: str) -> Model:
    """What decides in an arm as `label`: of the champion's name, the artifact that is champion."""
    model = find(registry, label)
    if registry.aliases.get(CHAMPION) == label:
        return replace(model, digest=registry.governance.champion)
    return model


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model's bytes and what is registered of it. metrics: by name; those that are not finite are left out.

    parent: the model that it was made from, name-version, "" for none.
    """

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


def registration(registry: Registry, artifact: Artifact, digest: str, act: Act) -> list[Control]:
    """digest: the SHA-256 under which the log stores the content."""
    known = registry.models.get(artifact.label)
    if known is not None and known.digest != digest:
        raise BadInput(
            f"{artifact.name} {artifact.version} is another model already ({known.digest[:16]}): raise the version"
        )
    if known is not None and known.registered_at:
        return []
    return [
        ModelRegistered(
            **act.fields,
            name=artifact.name,
            version=artifact.version,
            digest=digest,
            spec=artifact.spec,
            metrics=finite(artifact.metrics),
            parent=artifact.parent,
        )
    ]


def deployment(registry: Registry, model: Model, alias: str, act: Act) -> list[Control]:
    """The model becomes `alias`; a champion is only proposed while four eyes are on, and only once."""
    if registry.aliases.get(alias) == model.label:
        return []
    if alias != CHAMPION or not registry.governance.four_eyes:
        return _deployed(registry, model, alias, act)
    if open_proposal(registry, model, alias):
        return []
    proposal_id = f"{model.label}:{alias}:{len(registry.deployments)}"
    while proposal_id in registry.proposals:
        proposal_id += "+"
    return [DeploymentProposed(**act.fields, proposal_id=proposal_id, **_named(model), alias=alias)]


def open_proposal(registry: Registry, model: Model, alias: str) -> str:
    """The ID of the open proposal that makes this very artifact `alias`; "" for none."""
    ids = [p.proposal_id for p in registry.proposals.values() if (p.digest, p.alias) == (model.digest, alias)]
    return ids[0] if ids else ""


def approval(registry: Registry, proposal_id: str, act: Act) -> list[Control]:
    """Carry a proposal out; it is the deployment's cause."""
    proposal = registry.proposals.get(proposal_id)
    if proposal is None:
        known = ", ".join(sorted(registry.proposals)) or "none"
        raise BadInput(f"no proposal {proposal_id!r} is open (open: {known})")
    answer = Act(act.actor, act.reason, act.now_ms, proposal_id)
    return _deployed(registry, find(registry, proposal.model), proposal.alias, answer)


def rollback(registry: Registry, to: str, act: Act) -> list[Control]:
    """The former champion `to` decides again, under the digest that it was champion by."""
    if registry.aliases.get(CHAMPION) == to:
        return []
    return [ModelRolledBack(**act.fields, **_named(former_champion(registry, to)))]


def rollback_target(registry: Registry, to: str | None = None) -> str:
    """What a rollback goes back to: the champion before this one, or `to`. Raises BadInput if there is nothing."""
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


def withdrawal(registry: Registry, alias: str, act: Act) -> list[Control]:
    """Nobody is `alias` any more. A champion can't be withdrawn; the append says so."""
    if alias != CHAMPION and not registry.aliases.get(alias):
        return []
    return [ModelWithdrawn(**act.fields, alias=alias)]


def four_eyes(registry: Registry, on: bool, act: Act) -> list[Control]:
    """Whether a champion needs a second person from here on."""
    return [] if registry.governance.four_eyes == on else [GovernanceChanged(**act.fields, four_eyes=on)]


def _deployed(registry: Registry, model: Model, alias: str, act: Act) -> list[Control]:
    found: list[Control] = [ModelDeployed(**act.fields, **_named(model), alias=alias)]
    if alias == CHAMPION and registry.aliases.get(SHADOW) == model.label:
        found += withdrawal(registry, SHADOW, act)
    return found


def _named(model: Model) -> dict[str, Any]:
    return {"name": model.name, "version": model.version, "digest": model.digest}


# --- experiments --------------------------------------------------------------------------------------------------


class ArmPlan(msgspec.Struct, frozen=True):
    """An arm to be: its name, a registered model (`name-version`), and its share (of 10,000)."""

    name: str
    model: str
    share: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment to be. arms: the first is the control. salt "": the experiment's ID. traffic: accounts of 10,000
    that take part at first; all of them unless somebody ramps it up.
    """

    experiment_id: str
    arms: tuple[ArmPlan, ...]
    salt: str = ""
    traffic: int = WHOLE
    design: Design = USUAL


def start(registry: Registry, plan: Plan, act: Act) -> list[Control]:
    """The test begins. Raises BadInput for an unknown model or metric."""
    models = [arm_model(registry, arm.model) for arm in plan.arms]
    event = ExperimentStarted(
        **act.fields,
        experiment_id=plan.experiment_id,
        arms=tuple(
            Arm(arm.name, model.name, model.version, model.digest, arm.share)
            for arm, model in zip(plan.arms, models, strict=True)
        ),
        salt=plan.salt or plan.experiment_id,
        traffic=plan.traffic,
        **msgspec.structs.asdict(plan.design),
    )
    criteria_of(event)
    found: list[Control] = [event]
    if registry.aliases.get(SHADOW) in [model.label for model in models]:
        found += withdrawal(registry, SHADOW, act)
    return found


def ramp(experiment_id: str, traffic: int, act: Act) -> list[Control]:
    """`traffic` accounts of 10,000 take part from here on."""
    return [ExperimentRamped(**act.fields, experiment_id=experiment_id, traffic=traffic)]


def stop(experiment_id: str, act: Act) -> list[Control]:
    """It is over, without a conclusion."""
    return [ExperimentStopped(**act.fields, experiment_id=experiment_id)]


def conclusion(
    registry: Registry, report: Report, act: Act, verdict: Conclusion | None = None, winner: str = ""
) -> list[Control]:
    """It ends by what `report` says (promote, or keep for a stop, or rollback), or by `verdict` and `winner` if given.

    Raises BadInput if the data say "continue" and no verdict is given, if the winner is no arm, or as `promotion`.
    """
    verdict, winner = concluded(report, verdict, winner)
    ended = ExperimentConcluded(
        **act.fields,
        experiment_id=report.experiment_id,
        verdict=verdict,
        winner=winner,
        evidence=evidence(report),
    )
    return [ended, *promotion(registry, report, winner, act)]


def promotion(registry: Registry, report: Report, winner: str, act: Act) -> list[Control]:
    """The winning arm's model becomes champion, caused by the experiment; nothing for "" and for the control.

    Raises BadInput unless the model is registered as the artifact that was tested: scores name the champion by name and
    version, which must mean one artifact.
    """
    arm = next((arm for arm in report.definition.arms[1:] if arm.name == winner), None)
    if arm is None:
        return []
    label = f"{arm.model}-{arm.version}"
    model = find(registry, label)
    if model.digest != arm.digest:
        raise BadInput(f"{label} is not the artifact that was tested, so it can't be promoted")
    return deployment(registry, model, CHAMPION, Act(act.actor, act.reason, act.now_ms, report.experiment_id))


def concluded(report: Report, verdict: Conclusion | None = None, winner: str = "") -> tuple[Conclusion, str]:
    """(verdict, winning arm) as `conclusion` records them, "" for no winner. Raises BadInput as it does."""
    if verdict is None:
        verdict, winner = _by_the_data(report)
    arms = [arm.name for arm in report.definition.arms]
    if (verdict == "promote") != (winner in arms):
        raise BadInput(f"{winner!r} is no arm that can win: there are {', '.join(arms)}")
    return verdict, winner


def _by_the_data(report: Report) -> tuple[Conclusion, str]:
    match report.verdict.action:
        case "promote":
            return "promote", report.verdict.arm
        case "rollback":
            return "rollback", ""
        case "stop":
            return "keep", ""
        case "continue":
            why = "; ".join(report.verdict.reasons)
            raise BadInput(f"the data don't say yet ({why}): wait, stop it, or name --winner or --keep yourself")


def evidence(report: Report) -> dict[str, float]:
    """What a conclusion rests on, by name: `srm_p`; of each arm `{arm}.exposed` and `{arm}.mature` accounts; of each
    treated arm and metric `{arm}.{metric}.gain`, its interval `low` and `high`, and `log_e_better`, `log_e_worse`. What
    is not finite (nothing is known yet) is left out.
    """
    found: dict[str, float] = {"srm_p": report.sample_ratio.p_anytime}
    for row in report.arms:
        found |= {f"{row.name}.exposed": float(row.exposed), f"{row.name}.mature": float(row.mature)}
    for each in report.findings:
        name = f"{each.arm}.{each.metric}"
        found |= {f"{name}.gain": each.gain, f"{name}.low": each.interval.low, f"{name}.high": each.interval.high}
        found |= {f"{name}.log_e_better": each.log_e_better, f"{name}.log_e_worse": each.log_e_worse}
    return finite(found)
