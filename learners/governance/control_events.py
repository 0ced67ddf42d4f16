"""Builds the control events of acts on models and experiments, one builder per act, for commands and the loop. Pure.

    registration   give an artifact a name and a version                 ModelRegistered
    deployment     give a registered model an alias                      ModelDeployed | DeploymentProposed (four eyes)
    approval       carry out another person's proposal                   ModelDeployed
    rollback       make a former champion champion again, at once        ModelRolledBack
    withdrawal     remove the shadow                                     ModelWithdrawn
    start          begin a test                                          ExperimentStarted
    ramp, stop     change the share of accounts; end the test            ExperimentRamped, ExperimentStopped
    conclusion     end the test with a verdict; deploy a winner          ExperimentConcluded, then as deployment

A builder takes the registry (`projections.views.registry`) and returns the events in the order in which they are
appended together; none if the act already has its result. A shadow that becomes champion or an arm is withdrawn as
shadow by the same act; otherwise it would score twice. Raises BadInput for an invalid act; whether the events may be
appended is checked on append (`core.control_stream`).
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
    DeploymentWithdrawn,
    ExperimentConcluded,
    ExperimentRamped,
    ExperimentStarted,
    ExperimentStopped,
    GovernanceChanged,
    ModelDeployed,
    ModelRegistered,
    ModelRolledBack,
    ModelWithdrawn,
    ProgramDeployed,
    ProgramRolledBack,
)
from core.governance import CHAMPION, SHADOW
from core.program.inputs import own_reads
from core.text import REASON_CHARACTERS_MAX, check_name
from learners.experiments.design import USUAL, Design
from learners.experiments.report import Report
from learners.experiments.verdict import criteria_of
from models.inputs import parts
from projections.views.registry import Registry, champions
from projections.views.registry_records import Model, OpenProposal

Conclusion = Literal["promote", "keep", "rollback"]


@dataclass(frozen=True, slots=True)
class Act:
    """Who acts, why and when (epoch ms). causation_id: the cause, such as an experiment's or a retraining's ID."""

    actor: str
    reason: str
    now_ms: int
    causation_id: str = ""

    def __post_init__(self) -> None:
        if not self.actor.strip() or not self.reason.strip():
            raise BadInput("actor and reason are required for the audit trail (--actor, --reason)")
        check_name("actor", self.actor)
        check_name("reason", self.reason, REASON_CHARACTERS_MAX)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields that every control event has."""
        return {
            "occurred_at": self.now_ms,
            "actor": self.actor,
            "reason": self.reason,
            "causation_id": self.causation_id,
        }


def finite(figures: Mapping[str, float]) -> dict[str, float]:
    """The finite figures; JSON has neither NaN nor infinity."""
    return {name: float(value) for name, value in figures.items() if math.isfinite(value)}


# --- models -------------------------------------------------------------------------------------------------------


def find(registry: Registry, label: str) -> Model:
    """The model called `name-version`. Raises BadInput, listing the registered ones, if there is none."""
    model = registry.models.get(label)
    if model is None:
        known = ", ".join(sorted(registry.models)) or "none"
        raise BadInput(f"no model {label!r} is registered (registered: {known})")
    return model


def arm_model(registry: Registry, label: str) -> Model:
    """The model that decides in an arm as `label`; if this is the champion, the artifact that was deployed."""
    model = find(registry, label)
    if registry.aliases.get(CHAMPION) == label:
        return replace(model, digest=registry.governance.champion)
    return model


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model's bytes and the fields it is registered with. metrics: by name; those that are not finite are left out.

    parent: the model it was made from, name-version, "" for none.
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
        """The artifact of a model trained by `learners.training.training`, from its card."""
        return cls(content, card["name"], card["version"], card["spec"], card["metrics"], card.get("parent", ""))


def registration(registry: Registry, artifact: Artifact, digest: str, act: Act) -> list[Control]:
    """Register the artifact. digest: the SHA-256 under which the log stores its content."""
    check_name("the model's name", artifact.name)
    check_name("the model's version", artifact.version)
    known = registry.models.get(artifact.label)
    if known is not None and known.digest != digest:
        raise BadInput(
            f"{artifact.name} {artifact.version} is already another model ({known.digest[:16]}): increment the version"
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
            reads=own_reads(parts(artifact.content).inputs),
        )
    ]


def deployment(registry: Registry, model: Model, alias: str, act: Act) -> list[Control]:
    """Give the model the alias. With four eyes on, a champion is only proposed, and only once."""
    if registry.aliases.get(alias) == model.label:
        return []
    if alias != CHAMPION or not registry.governance.four_eyes:
        return _deployed(registry, model, alias, act)
    if open_proposal(registry, model, alias):
        return []
    proposal_id = f"{model.label}:{alias}:{len(registry.deployments)}"
    while proposal_id in registry.proposals or proposal_id in registry.governance.closed:
        proposal_id += "+"
    return [DeploymentProposed(**act.fields, proposal_id=proposal_id, **_named(model), alias=alias)]


def open_proposal(registry: Registry, model: Model, alias: str) -> str:
    """The ID of the open proposal to give exactly this artifact the alias; "" for none."""
    ids = [p.proposal_id for p in registry.proposals.values() if (p.digest, p.alias) == (model.digest, alias)]
    return ids[0] if ids else ""


def approval(registry: Registry, proposal_id: str, act: Act) -> list[Control]:
    """Carry out a proposal, which is recorded as the deployment's cause."""
    proposal = _open_proposal(registry, proposal_id)
    answer = Act(act.actor, act.reason, act.now_ms, proposal_id)
    return _deployed(registry, find(registry, proposal.model), proposal.alias, answer)


def proposal_withdrawal(registry: Registry, proposal_id: str, act: Act) -> list[Control]:
    """Take back an open proposal, one's own or another's."""
    _open_proposal(registry, proposal_id)
    return [DeploymentWithdrawn(**act.fields, proposal_id=proposal_id)]


def _open_proposal(registry: Registry, proposal_id: str) -> OpenProposal:
    proposal = registry.proposals.get(proposal_id)
    if proposal is None:
        known = ", ".join(sorted(registry.proposals)) or "none"
        raise BadInput(f"no proposal {proposal_id!r} is open (open: {known})")
    return proposal


def rollback(registry: Registry, to: str, act: Act) -> list[Control]:
    """Make the former champion `to` champion again, under the digest it had as champion."""
    if registry.aliases.get(CHAMPION) == to:
        return []
    return [ModelRolledBack(**act.fields, **_named(former_champion(registry, to)))]


def rollback_target(registry: Registry, to: str | None = None) -> str:
    """The model that a rollback returns to: the previous champion, or `to`. Raises BadInput if there is none."""
    if to is not None:
        if all(d.model != to or d.alias != CHAMPION for d in registry.deployments):
            raise BadInput(f"{to} has never been champion: deploy it instead")
        return to
    stack = champions(registry)
    if len(stack) < 2:
        raise BadInput("there is no earlier champion to roll back to")
    return stack[-2].model


def former_champion(registry: Registry, label: str) -> Model:
    """The model `label` as it was as champion: under the digest deployed then, whatever was registered since."""
    model, now = find(registry, label), registry.governance.champion
    deployed = [d.digest for d in registry.deployments if (d.alias, d.model) == (CHAMPION, label)]
    return replace(model, digest=next((d for d in reversed(deployed) if d != now), model.digest))


def withdrawal(registry: Registry, alias: str, act: Act) -> list[Control]:
    """Remove the alias from its model. A champion can't be withdrawn; the append refuses that."""
    if alias != CHAMPION and not registry.aliases.get(alias):
        return []
    return [ModelWithdrawn(**act.fields, alias=alias)]


def four_eyes(registry: Registry, on: bool, act: Act) -> list[Control]:
    """Turn four eyes on or off: whether a new champion needs approval by a second person."""
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
    """A planned arm: its name, a registered model (`name-version`; "" for the champion), its share, in 1/10,000, and
    the SHA-256 of its program, "" for the deployed one.
    """

    name: str
    model: str
    share: int
    program: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A planned experiment. arms: the first is the control. salt: by default the experiment's ID. traffic: the share of
    accounts that take part at the start, in 1/10,000. is_guardrail, evidence: see ExperimentStarted.
    """

    experiment_id: str
    arms: tuple[ArmPlan, ...]
    salt: str = ""
    traffic: int = WHOLE
    design: Design = USUAL
    is_guardrail: bool = False
    evidence: dict[str, float] = {}


def start(registry: Registry, plan: Plan, act: Act) -> list[Control]:
    """Begin the test. Raises BadInput for an unknown model or metric."""
    models = [arm_model(registry, arm.model or registry.aliases.get(CHAMPION, "")) for arm in plan.arms]
    for what, name in (("experiment ID", plan.experiment_id), *(("arm", arm.name) for arm in plan.arms)):
        check_name(what, name)
    event = ExperimentStarted(
        **act.fields,
        experiment_id=plan.experiment_id,
        arms=tuple(
            Arm(arm.name, model.name, model.version, model.digest, arm.share, arm.program)
            for arm, model in zip(plan.arms, models, strict=True)
        ),
        salt=plan.salt or plan.experiment_id,
        traffic=plan.traffic,
        is_guardrail=plan.is_guardrail,
        evidence=finite(plan.evidence),
        **msgspec.structs.asdict(plan.design),
    )
    criteria_of(event)
    found: list[Control] = [event]
    if registry.aliases.get(SHADOW) in [model.label for model in models]:
        found += withdrawal(registry, SHADOW, act)
    return found


def ramp(experiment_id: str, traffic: int, act: Act) -> list[Control]:
    """Set the share of accounts that take part, in 1/10,000."""
    return [ExperimentRamped(**act.fields, experiment_id=experiment_id, traffic=traffic)]


def stop(experiment_id: str, act: Act) -> list[Control]:
    """End the test without a conclusion."""
    return [ExperimentStopped(**act.fields, experiment_id=experiment_id)]


def conclusion(
    registry: Registry, report: Report, act: Act, verdict: Conclusion | None = None, winner: str = ""
) -> list[Control]:
    """End the test with the report's verdict (promote, keep for "stop", or rollback), or with `verdict` and `winner` if
    given.

    Raises BadInput if the report says "continue" and no verdict is given, if the winner is not an arm, or as
    `promotion`.
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
    """Let the winning arm's program decide and make its model champion, with the experiment as cause; no events for ""
    or the control. Under four eyes a model is only proposed, and then the program waits for it too: together they were
    tested.

    Raises BadInput unless the model is registered with the artifact that was tested: scores name the champion by name
    and version, which must denote one artifact.
    """
    arm = next((arm for arm in report.definition.arms[1:] if arm.name == winner), None)
    if arm is None:
        return []
    label = f"{arm.model}-{arm.version}"
    model = find(registry, label)
    if model.digest != arm.digest:
        raise BadInput(f"{label} cannot be promoted: it is now another artifact than the one that was tested")
    found = deployment(registry, model, CHAMPION, Act(act.actor, act.reason, act.now_ms, report.experiment_id))
    if found and registry.governance.four_eyes:
        return found
    return [*_program_promotion(registry, arm, report.experiment_id, act), *found]


def _program_promotion(registry: Registry, arm: Arm, experiment_id: str, act: Act) -> list[Control]:
    """Let an arm's program decide, on its proposal; one that was deployed before is returned to. No events if nobody
    may deploy it (four eyes were turned on since).
    """
    known = registry.governance.programs
    if arm.program in ("", known.in_force):
        return []
    proposals = [(not each.approver, key) for key, each in known.proposals.items() if each.digest == arm.program]
    fields = Act(act.actor, act.reason, act.now_ms, min(proposals)[1] if proposals else experiment_id).fields
    event = ProgramDeployed(**fields, digest=arm.program)
    try:
        known.check(event, registry.governance.four_eyes)
    except BadInput:
        return [ProgramRolledBack(**fields, digest=arm.program)] if arm.program in known.deployed else []
    return [event]


def concluded(report: Report, verdict: Conclusion | None = None, winner: str = "") -> tuple[Conclusion, str]:
    """(verdict, winning arm) as `conclusion` records them, "" for no winner. Raises BadInput as it does."""
    if verdict is None:
        verdict, winner = _by_the_data(report)
    arms = [arm.name for arm in report.definition.arms]
    if (verdict == "promote") != (winner in arms):
        raise BadInput(f"{winner!r} cannot be the winner; expected one of the arms {', '.join(arms)}")
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
            raise BadInput(f"the experiment is not conclusive yet ({why}): wait, stop it, or pass --winner or --keep")


def evidence(report: Report) -> dict[str, float]:
    """The evidence for a conclusion, by name: `srm_p`; for each arm `{arm}.exposed` and `{arm}.mature` accounts; for
    each treated arm and metric `{arm}.{metric}.gain`, its interval `low` and `high`, and `log_e_better`, `log_e_worse`.
    Values that are not finite (no data yet) are left out.
    """
    found: dict[str, float] = {"srm_p": report.sample_ratio.p_anytime}
    for row in report.arms:
        found |= {f"{row.name}.exposed": float(row.exposed), f"{row.name}.mature": float(row.mature)}
    for each in report.findings:
        name = f"{each.arm}.{each.metric}"
        found |= {f"{name}.gain": each.gain, f"{name}.low": each.interval.low, f"{name}.high": each.interval.high}
        found |= {f"{name}.log_e_better": each.log_e_better, f"{name}.log_e_worse": each.log_e_worse}
    return finite(found)
