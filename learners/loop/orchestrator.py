"""Carries the adaptive loop's steps out. One step: fold → look → decide → act; every act is one conditional append.

    1  fold the control stream to its end, position c
    2  look at what the phase needs; long work (a training) happens here, between two appends
    3  decide (`policy.decide`)
    4  append the step's events at c; if somebody wrote first, nothing happens and the next step folds again

Killed anywhere, it goes on from the events: a training that had begun is done again, to the same bytes. Two at once do
no harm beyond work done twice. Drift is watched in the same loop. With four eyes on, promotions are proposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from core.codec import encode_control
from core.control import check
from core.errors import BadInput, ConcurrencyError
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
from core.log.base import EventLog
from core.scoring import Scorer
from learners import registry as acts
from learners.drift.look import Looker
from learners.drift.monitor import DriftMonitor
from learners.drift.policy import DriftConfig
from learners.drift.windows import WindowReader
from learners.experiments import Report
from learners.loop import candidates
from learners.loop.candidates import Candidate, LoadScorer, Timer
from learners.loop.evidence import Comparison, ExperimentReports, Verdicts, compare, decided_by
from learners.loop.policy import Evidence, Step, decide, guarded
from learners.loop.settings import DAY_MS, LearnSettings
from learners.loop.state import SHADOW, LoopState, loop_state
from projections.registry import Model

ACTOR = "sentinel learn"


@dataclass(frozen=True, slots=True)
class Tools:
    """What the loop is given: how to load a model, and to time a call."""

    load_scorer: LoadScorer
    timer: Timer


class Orchestrator:
    """The loop over one log. Holds nothing that the log does not, except what it read before."""

    def __init__(
        self,
        log: EventLog,
        partitions: Sequence[int],
        settings: LearnSettings,
        tools: Tools,
        drift: DriftConfig | None = None,
        actor: str = ACTOR,
    ) -> None:
        self._log, self._partitions = log, list(partitions)
        self._settings, self._tools, self._actor = settings, tools, actor
        self._reader = WindowReader(log, self._partitions)
        self._verdicts = Verdicts(log, self._partitions)
        self._tests = ExperimentReports(log, self._partitions)
        config = drift or DriftConfig()
        self._monitor = DriftMonitor(log, Looker(self._reader, config), config, actor)
        self._drift_step = config.step_ms
        self._looked_at = 0

    def look(self, now_ms: int) -> tuple[LoopState, Evidence, Step]:
        """Where the loop stands, what it sees, what it would do at `now_ms` (log time, epoch ms). Writes nothing."""
        state = loop_state(self._log)
        evidence = self._evidence(state, now_ms)
        return state, evidence, decide(state, evidence, self._settings, now_ms)

    def step(self, now_ms: int) -> tuple[Step, list[Control]]:
        """Do the next thing; (what it was, the events appended: [] for waiting, or if somebody else wrote first)."""
        if self._settings.watch_drift:
            self.watch_drift(now_ms)
        state, evidence, step = self.look(now_ms)
        events = self._events(state, evidence, step, now_ms)
        if not events:
            return step, []
        governance = state.registry.governance
        for event in events:
            check(event, governance)
            governance.apply(event)
        try:
            self._log.append_control([encode_control(event) for event in events], expected=state.position)
        except ConcurrencyError:
            return step, []
        return step, events

    def watch_drift(self, now_ms: int) -> list[Control]:
        """Look for drift once per step of event time; what was told."""
        try:
            newest = self._reader.newest() // self._drift_step * self._drift_step
            if newest <= self._looked_at:
                return []
            self._looked_at = newest
            _, events = self._monitor.step(newest, now_ms)
        except BadInput:
            return []  # too early to compare anything
        return list(events)

    # what the log shows

    def _evidence(self, state: LoopState, now_ms: int) -> Evidence:
        self._verdicts.refresh()
        way_back = self._way_back(state)
        guard = None
        if way_back and guarded(state, self._settings, now_ms):
            guard = self._guard(state, way_back)
        shadow = self._shadow(state) if state.phase == "shadowing" else None
        report = self._tests.report(state.experiment.experiment_id) if state.experiment is not None else None
        return Evidence(self._verdicts.since(state.trained_until), way_back, guard, shadow, report)

    def _way_back(self, state: LoopState) -> str:
        try:
            return acts.rollback_target(state.registry)
        except BadInput:
            return ""

    def _scorer(self, model: Model) -> Scorer:
        return self._tools.load_scorer(self._log.get_blob(model.digest), model.label, model.digest)

    def _guard(self, state: LoopState, way_back: str) -> Comparison | None:
        champion = state.registry.models[state.champion]
        predecessor = self._scorer(state.registry.models[way_back])
        seen = decided_by(self._reader, state.champion_at[1], champion.digest, predecessor)
        if seen is None:
            return None
        return compare(seen.rows, seen.logged, seen.other, self._verdicts, state.registry.review, self._settings)

    def _shadow(self, state: LoopState) -> Comparison | None:
        champion, shadow = state.registry.models[state.champion], state.registry.models[state.candidate]
        seen = decided_by(self._reader, state.shadow_at[1], champion.digest, self._scorer(shadow))
        if seen is None:
            return None
        return compare(seen.rows, seen.other, seen.logged, self._verdicts, state.registry.review, self._settings)

    # what is said

    def _events(self, state: LoopState, evidence: Evidence, step: Step, now_ms: int) -> list[Control]:
        said = _Words(self._actor, step.reason, now_ms)
        if step.action == "retrain":
            run = f"{state.champion}:{state.runs + 1}"
            return [said.started(run, step, now_ms, state.champion)]
        if step.action == "train":
            return self._trained(state, said)
        if step.action == "test":
            return self._test(state, said)
        if step.action == "promote":
            return [said.deployment(state, state.registry.models[step.model], state.candidate)]
        if step.action == "drop":
            return [said.withdrawn(state.candidate)]
        if step.action == "ramp":
            assert state.experiment is not None
            return [said.ramped(state.experiment.experiment_id, step.traffic)]
        if step.action == "conclude":
            return self._concluded(state, evidence, step, said)
        if step.action == "roll back":
            return said.rolled_back(state, evidence, step)
        return []

    def _trained(self, state: LoopState, said: _Words) -> list[Control]:
        run = state.run
        assert run is not None
        champion = state.registry.models[state.champion]
        try:
            made = candidates.make(
                self._log,
                self._partitions,
                candidates.Champion(
                    champion.name,
                    champion.version,
                    self._log.get_blob(champion.digest),
                    self._scorer(champion),
                    state.registry.review,
                    state.registry.decline,
                ),
                run.known_until,
                self._settings,
                self._tools.load_scorer,
                self._tools.timer,
            )
        except BadInput as error:
            return [said.rejected(run.run_id, str(error), {})]
        best = made[0]
        if not best.result.accepted:
            reason = " | ".join(f"{c.kind}: {c.result.reason}" for c in made)
            return [said.rejected(run.run_id, reason, best.result.metrics)]
        digest = self._log.put_blob(best.content)
        version = _free_version(state, champion.name, best.version, digest)
        return said.finished(run.run_id, champion, best, version, digest)

    def _test(self, state: LoopState, said: _Words) -> list[Control]:
        champion, candidate = state.registry.models[state.champion], state.registry.models[state.candidate]
        name = f"{candidate.label}-vs-{champion.version}-{state.runs}"
        return [said.test(name, champion, candidate, self._settings), said.withdrawn(state.candidate)]

    def _concluded(self, state: LoopState, evidence: Evidence, step: Step, said: _Words) -> list[Control]:
        assert state.experiment is not None and evidence.report is not None
        verdict = evidence.report.verdict
        ended: list[Control] = [said.concluded(state.experiment.experiment_id, evidence.report)]
        if verdict.action == "promote":
            ended.append(said.deployment(state, state.registry.models[step.model], state.experiment.experiment_id))
        return ended


def _free_version(state: LoopState, name: str, version: str, digest: str) -> str:
    """`version`, or the next patch of it that no other artifact has."""
    while (known := state.registry.models.get(f"{name}-{version}")) is not None and known.digest != digest:
        major, minor, patch = version.split(".")
        version = f"{major}.{minor}.{int(patch) + 1}"
    return version


@dataclass(frozen=True, slots=True)
class _Words:
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
            evidence={key: value for key, value in evidence.items() if value == value},
        )

    def deployment(self, state: LoopState, model: Model, cause: str) -> Control:
        """The promotion, or with four eyes on its proposal."""
        if state.registry.governance.four_eyes:
            return DeploymentProposed(
                occurred_at=self.now_ms,
                actor=self.actor,
                reason=self.reason,
                causation_id=cause,
                proposal_id=f"{model.label}:{CHAMPION}:{len(state.registry.deployments)}",
                name=model.name,
                version=model.version,
                digest=model.digest,
            )
        return ModelDeployed(
            occurred_at=self.now_ms,
            actor=self.actor,
            reason=self.reason,
            causation_id=cause,
            name=model.name,
            version=model.version,
            digest=model.digest,
        )

    def rolled_back(self, state: LoopState, evidence: Evidence, step: Step) -> list[Control]:
        assert step.breach is not None and evidence.guard is not None
        champion, back = state.registry.models[state.champion], state.registry.models[step.model]
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
                window_start=evidence.guard.first,
                window_end=evidence.guard.last,
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
