"""The loop's control events: each step's, with who, why and when. Pure; `learners.loop.orchestrator` appends them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from core.events import (
    Arm,
    Control,
    DegradationDetected,
    DeploymentProposed,
    ExperimentConcluded,
    ExperimentRamped,
    ExperimentStarted,
    ModelDeployed,
    ModelRegistered,
    ModelRolledBack,
    ModelWithdrawn,
    RetrainingFinished,
    RetrainingRejected,
    RetrainingStarted,
)
from core.features import spec
from core.governance import CHAMPION
from core.times import DAY_MS
from learners.experiments.report import Report
from learners.governance.models import former_champion
from learners.loop.candidates import Candidate
from learners.loop.policy import Evidence, Step
from learners.loop.settings import LearnSettings
from learners.loop.state import SHADOW, LoopState
from projections.views.registry import Model


@dataclass(frozen=True, slots=True)
class Words:
    """Control events in the loop's name: who, why, when (epoch ms)."""

    actor: str
    reason: str
    now_ms: int

    def started(self, run: str, step: Step, known_until: int, parent: str) -> Control:
        return RetrainingStarted(
            occurred_at=self.now_ms,
            actor=self.actor,
            reason=self.reason,
            run_id=run,
            trigger=step.trigger,
            known_until=known_until,
            parent=parent,
        )

    def rejected(self, run: str, reason: str, metrics: dict[str, float]) -> Control:
        return RetrainingRejected(
            occurred_at=self.now_ms, actor=self.actor, reason=reason, run_id=run, causation_id=run, metrics=metrics
        )

    def finished(self, run: str, parent: Model, best: Candidate, version: str, digest: str) -> list[Control]:
        """Registered, finished and shadow: in one append, so there is no model without a story."""
        words = f"{best.kind}, passed the gate"
        return [
            ModelRegistered(
                occurred_at=self.now_ms,
                actor=self.actor,
                reason=words,
                causation_id=run,
                name=parent.name,
                version=version,
                digest=digest,
                spec=spec.SPEC_VERSION,
                metrics=best.result.metrics,
                parent=parent.version,
            ),
            RetrainingFinished(
                occurred_at=self.now_ms,
                actor=self.actor,
                reason=words,
                causation_id=run,
                run_id=run,
                name=parent.name,
                version=version,
                digest=digest,
                metrics=best.result.metrics,
            ),
            ModelDeployed(
                occurred_at=self.now_ms,
                actor=self.actor,
                reason=words,
                causation_id=run,
                name=parent.name,
                version=version,
                digest=digest,
                alias=SHADOW,
            ),
        ]

    def withdrawn(self, cause: str) -> Control:
        return ModelWithdrawn(
            occurred_at=self.now_ms, actor=self.actor, reason=self.reason, causation_id=cause, alias=SHADOW
        )

    def test(self, name: str, champion: Model, candidate: Model, settings: LearnSettings) -> Control:
        def arm(which: str, model: Model, share: int) -> Arm:
            return Arm(which, model.name, model.version, model.digest, share)

        return ExperimentStarted(
            occurred_at=self.now_ms,
            actor=self.actor,
            reason=self.reason,
            causation_id=candidate.label,
            experiment_id=name,
            arms=(arm("control", champion, 10_000 - settings.share), arm("candidate", candidate, settings.share)),
            salt=name,
            traffic=settings.traffic_at(0.0),
            window_ms=int(settings.window_days * DAY_MS),
            maturity_ms=int(settings.maturity_days * DAY_MS),
            alpha=settings.alpha,
            primary=settings.primary,
            guardrails=settings.guardrails,
            guardrail_margin=settings.guardrail_margin,
            worthwhile=settings.worthwhile,
            accounts_min=settings.accounts_min,
            duration_max_ms=int(settings.duration_max_days * DAY_MS),
        )

    def ramped(self, name: str, traffic: int) -> Control:
        return ExperimentRamped(
            occurred_at=self.now_ms, actor=self.actor, reason=self.reason, experiment_id=name, traffic=traffic
        )

    def concluded(self, name: str, report: Report) -> Control:
        verdict = report.verdict
        ended: dict[str, Literal["promote", "keep", "rollback"]] = {"promote": "promote", "rollback": "rollback"}
        evidence = {f"{f.arm}.{f.metric}.gain": f.gain for f in report.findings}
        evidence |= {f"{a.name}.mature": float(a.mature) for a in report.arms}
        return ExperimentConcluded(
            occurred_at=self.now_ms,
            actor=self.actor,
            reason=self.reason,
            experiment_id=name,
            verdict=ended.get(verdict.action, "keep"),
            winner=verdict.arm if verdict.action == "promote" else "",
            evidence={key: value for key, value in evidence.items() if math.isfinite(value)},
        )

    def deployment(self, state: LoopState, model: Model, cause: str) -> list[Control]:
        """The promotion, or with four eyes on its proposal; nothing if somebody has proposed it already."""
        if not state.registry.governance.four_eyes:
            return [
                ModelDeployed(
                    occurred_at=self.now_ms,
                    actor=self.actor,
                    reason=self.reason,
                    causation_id=cause,
                    name=model.name,
                    version=model.version,
                    digest=model.digest,
                )
            ]
        if any((p.digest, p.alias) == (model.digest, CHAMPION) for p in state.registry.proposals.values()):
            return []
        proposal_id = f"{model.label}:{CHAMPION}:{len(state.registry.deployments)}"
        while proposal_id in state.registry.proposals:
            proposal_id += "+"
        return [
            DeploymentProposed(
                occurred_at=self.now_ms,
                actor=self.actor,
                reason=self.reason,
                causation_id=cause,
                proposal_id=proposal_id,
                name=model.name,
                version=model.version,
                digest=model.digest,
            )
        ]

    def rolled_back(self, state: LoopState, evidence: Evidence, step: Step) -> list[Control]:
        assert step.breach is not None
        seen = evidence.guard
        champion, back = state.champion_model, former_champion(state.registry, step.model)
        metric, value, limit = step.breach
        return [
            DegradationDetected(
                occurred_at=self.now_ms,
                actor=self.actor,
                reason=self.reason,
                causation_id=champion.label,
                model=champion.label,
                digest=champion.digest,
                metric=metric,
                value=value,
                limit=limit,
                window_start=seen.first if seen is not None else state.champion_at[0],
                window_end=seen.last if seen is not None else self.now_ms,
            ),
            ModelRolledBack(
                occurred_at=self.now_ms,
                actor=self.actor,
                reason=self.reason,
                causation_id=champion.label,
                name=back.name,
                version=back.version,
                digest=back.digest,
            ),
        ]
