"""Carries out the steps of the adaptive loop: fold → look → decide → act; every act is one conditional append.

    1  fold the control stream to its end, position c
    2  gather the evidence that the phase needs; long work (training) happens here, between two appends
    3  decide (`policy.decide`)
    4  append the step's events; if others have changed the basis of the step, append nothing and fold again next time

Killed at any moment, it resumes from the events: a training that had begun is repeated and gives the same bytes. Two
orchestrators at once only duplicate work. Drift is monitored in the same loop. With four eyes on, promotions, tests and
more traffic for them are proposed.

The control stream may hold anything people appended: an experiment with unknown metrics, a model that can't be loaded,
an event that makes the loop's own invalid. None of these stops the loop; it reports what it can't do among its reasons
and continues with the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from core.assignment import WHOLE
from core.context import LoadScorer, Resolver
from core.control_stream import Blobs, Known, append, history
from core.errors import BadInput, ConcurrencyError, Corrupt
from core.events import Control
from core.governance import CHAMPION, SHADOW
from core.log.base import EventLog
from core.replay import Timeline
from core.scoring import Scorer
from learners.drift.look import Looker
from learners.drift.monitor import DriftMonitor
from learners.drift.policy import DriftConfig
from learners.drift.windows import WindowReader
from learners.experiments import paired
from learners.experiments.paired import PairedReport
from learners.governance import control_events
from learners.governance.control_events import Act, ArmPlan, Plan
from learners.governance.proposals import or_proposed
from learners.loop import announce, candidates
from learners.loop.candidates import Timer
from learners.loop.evidence import (
    ExperimentReports,
    ModelComparison,
    NewLabels,
    ShadowTrials,
    compare,
    decided_by,
    labels_since,
)
from learners.loop.policy import Evidence, Step, decide, guarded
from learners.loop.settings import LearnSettings
from learners.loop.state import LoopState, folded, loop_state
from learners.training.columns import deployed_plan, selection_of
from learners.training.dataset import TrainingSet
from learners.training.reading import read
from projections.labelling.reader import LabelReader
from projections.views.registry_records import Model

ACTOR = "sentinel learn"
T = TypeVar("T")
_NO_NAME = re.compile(r"[/,\s\x1e\x1f]")
"""Characters that a model's name may contain but an experiment's ID may not (`core.assignment`)."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Injected dependencies: how to load a model, and how to time a call."""

    load_scorer: LoadScorer
    timer: Timer


class Orchestrator:
    """The loop over one log. Its only state beyond the log is a cache of what it has already read."""

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
        self._labels = LabelReader(log, self._partitions)
        self._tests = ExperimentReports(log, self._partitions, self._labels)
        self._trials = ShadowTrials(log, self._partitions, self._labels)
        config = drift or DriftConfig()
        self._monitor = DriftMonitor(log, Looker(self._reader, self._labels, config, for_display=False), config, actor)
        self._drift_step = config.step_ms
        self._looked_at = 0

    def look(self, now_ms: int) -> tuple[LoopState, Evidence, Step]:
        """The state, the evidence and the step it would take at `now_ms` (log time, epoch ms). Writes nothing."""
        state = loop_state(self._log)
        evidence = self.evidence(state, now_ms)
        return state, evidence, decide(state, evidence, self._settings, now_ms)

    def step(self, now_ms: int) -> tuple[Step, list[Control]]:
        """Carry out the next step; returns (step, appended events: [] when waiting, or if another writer was first)."""
        if self._settings.watch_drift:
            self.watch_drift(now_ms)
        state, evidence, step = self.look(now_ms)
        blobs = Blobs(self._log)
        try:
            events = self._events(state, evidence, step, now_ms, blobs)
            if not events:
                return step, []
            return step, append(self._log, lambda known: _still(events, state, known, step), blobs=blobs).events
        except ConcurrencyError:
            return step, []
        except BadInput as error:
            refused = f"{step.action} is not possible: {error}"
            return msgspec.structs.replace(step, action="wait", reasons=(*step.reasons, refused)), []

    def watch_drift(self, now_ms: int) -> list[Control]:
        """Look for drift once per step of event time; returns the events appended."""
        try:
            newest = self._reader.newest() // self._drift_step * self._drift_step
            if newest <= self._looked_at:
                return []
            self._looked_at = newest
            _, events = self._monitor.step(newest, now_ms)
        except BadInput:
            return []  # too early to compare anything
        return list(events)

    # --- evidence ---

    def evidence(self, state: LoopState, now_ms: int) -> Evidence:
        way_back = self._way_back(state)
        obstacles: list[str] = []

        def tried(what: str, look: Callable[[], T]) -> T | None:
            try:
                return look()
            except BadInput as error:
                obstacles.append(f"{what}: {error}")
                return None

        guard = shadow = trial = report = None
        unloadable = ""
        if way_back and guarded(state, self._settings, now_ms):
            unloadable = self._unloadable(state, way_back)
            guard = tried("the champion can't be guarded", lambda: self._guard(state, way_back))
        if state.phase == "shadowing" and state.champion:
            shadow = tried("the shadow can't be compared", lambda: self._shadow(state))
            if self._settings.shadow_test:
                trial = tried("the shadow can't be tested", lambda: self._trial(state, now_ms))
        if state.experiment is not None:
            name = state.experiment.experiment_id
            report = tried(
                f"experiment {name} can't be evaluated and must be stopped by hand", lambda: self._tests.report(name)
            )
        labels = tried("labels can't be read", lambda: labels_since(self._labels.view(), state.trained_until))
        labels = labels if labels is not None else NewLabels(0, 0)
        return Evidence(labels, way_back, guard, shadow, trial, report, tuple(obstacles), unloadable)

    def _way_back(self, state: LoopState) -> str:
        try:
            return control_events.rollback_target(state.registry)
        except BadInput:
            return ""

    def _scorer(self, model: Model) -> Scorer:
        """The model's scorer. Raises BadInput if the artifact is missing, damaged, or of another feature spec."""
        try:
            return self._tools.load_scorer(self._log.get_blob(model.digest), model.label, model.digest)
        except (BadInput, Corrupt) as error:
            raise BadInput(f"model {model.label} can't be loaded: {error}") from error

    def _unloadable(self, state: LoopState, way_back: str) -> str:
        """Why the champion can't be loaded although its predecessor can; "" if it can, or neither can."""
        try:
            self._scorer(state.champion_model)
            return ""
        except BadInput as error:
            reason = str(error)
        try:
            self._scorer(control_events.former_champion(state.registry, way_back))
            return reason
        except BadInput:
            return ""

    def _guard(self, state: LoopState, way_back: str) -> ModelComparison | None:
        champion = state.champion_model
        predecessor = self._scorer(control_events.former_champion(state.registry, way_back))
        seen = decided_by(self._reader, state.champion_at[1], champion.digest, predecessor, self._read_for)
        if seen is None:
            return None
        return compare(
            seen.rows, seen.logged, seen.other, self._labels.view(), state.registry.thresholds, self._settings
        )

    def _shadow(self, state: LoopState) -> ModelComparison | None:
        champion, shadow = state.champion_model, state.registry.models[state.candidate]
        other = self._scorer(shadow)
        seen = decided_by(self._reader, state.shadow_at[1], champion.digest, other, self._read_for)
        if seen is None:
            return None
        return compare(
            seen.rows, seen.other, seen.logged, self._labels.view(), state.registry.thresholds, self._settings
        )

    def _read_for(self, scorer: Scorer, start: int, end: int) -> TrainingSet:
        """The decisions in a range of receive time, with the columns of a model that lists its inputs."""
        selection = selection_of(deployed_plan(self._log)[1], scorer.inputs)
        resolver = Resolver(self._log.get_blob, self._tools.load_scorer)
        return read(
            self._log,
            self._partitions,
            start=start,
            end=end,
            selection=selection,
            timeline=lambda: Timeline(history(self._log), resolver),
        )

    def _trial(self, state: LoopState, now_ms: int) -> PairedReport | None:
        return self._trials.report(state.champion, state.candidate, self._settings, now_ms - state.shadow_at[0])

    # --- acts ---

    def _act(self, reason: str, now_ms: int, cause: str = "") -> Act:
        return Act(self._actor, reason, now_ms, cause)

    def _events(self, state: LoopState, evidence: Evidence, step: Step, now_ms: int, blobs: Blobs) -> list[Control]:
        """The step as control events; [] when waiting. Raises BadInput if it is not possible."""
        registry = state.registry
        match step.action:
            case "retrain":
                return announce.retraining_started(state, step, self._act(step.reason, now_ms))
            case "train":
                return self._trained(state, now_ms, blobs)
            case "test":
                act = self._act(step.reason, now_ms, state.candidate)
                return control_events.start(registry, self._plan(state, evidence.trial), act)
            case "promote":
                act = self._act(step.reason, now_ms, state.candidate)
                return control_events.deployment(registry, registry.models[step.model], CHAMPION, act)
            case "drop":
                return control_events.withdrawal(registry, SHADOW, self._act(step.reason, now_ms, step.model))
            case "ramp":
                assert state.experiment is not None
                act = self._act(step.reason, now_ms, state.candidate)
                return control_events.ramp(state.experiment.experiment_id, step.traffic, act)
            case "conclude":
                assert evidence.report is not None
                return control_events.conclusion(registry, evidence.report, self._act(step.reason, now_ms))
            case "roll back":
                act = self._act(step.reason, now_ms, state.champion)
                back = control_events.rollback(registry, step.model, act)
                return [*announce.degradation(state, evidence, step, act), *back]
            case "wait":
                return []

    def _trained(self, state: LoopState, now_ms: int, blobs: Blobs) -> list[Control]:
        run = state.run
        assert run is not None
        champion = state.champion_model
        try:
            scorer = self._scorer(champion)
            made = candidates.make(
                self._log,
                self._partitions,
                candidates.Incumbent(
                    champion.name,
                    champion.version,
                    self._log.get_blob(champion.digest),
                    scorer,
                    state.registry.thresholds,
                ),
                run.known_until,
                self._settings,
                self._tools.load_scorer,
                self._tools.timer,
            )
        except BadInput as error:
            return announce.retraining_rejected(run.run_id, {}, self._act(str(error), now_ms, run.run_id))
        best = made[0]
        if not best.result.accepted:
            reason = " | ".join(f"{c.kind}: {c.result.reason}" for c in made)
            return announce.retraining_rejected(run.run_id, best.result.metrics, self._act(reason, now_ms, run.run_id))
        digest = blobs.put(best.content)
        version = _free_version(state, champion.name, best.version, digest)
        act = self._act(f"{best.kind}, passed the gate", now_ms, run.run_id)
        return announce.retraining_finished(state, best, version, digest, act)

    def _plan(self, state: LoopState, trial: PairedReport | None) -> Plan:
        """The candidate's test against the champion: a guardrail, if the paired test has shown that it is better."""
        settings, champion = self._settings, state.champion_model
        name = _NO_NAME.sub("_", f"{state.candidate}-vs-{champion.version}-{state.runs}")
        while name in state.registry.governance.ended:
            name += "-again"
        return Plan(
            experiment_id=name,
            arms=(
                ArmPlan("control", champion.label, WHOLE - settings.share),
                ArmPlan("candidate", state.candidate, settings.share),
            ),
            traffic=settings.traffic_at(0.0),
            design=settings.design(),
            is_guardrail=trial is not None,
            evidence={} if trial is None else paired.evidence(trial),
        )


def _still(events: list[Control], state: LoopState, known: Known, step: Step) -> list[Control]:
    """The step's events, or proposals of them; [] if its basis has changed."""
    if not is_still_so(state, known, step):
        return []
    return or_proposed(events, known.state.governance, known.state.position)


def is_still_so(state: LoopState, known: Known, step: Step) -> bool:
    """Whether the basis of the step is unchanged by what was appended since `state`.

    Training takes hours. What others append meanwhile (segments, reference tables, lists, drift reports) must not make
    it start over.
    """
    now = folded(known.entries)
    if step.action != "train" and now.drifting != state.drifting:
        return False
    return basis(now) == basis(state)


def basis(state: LoopState) -> LoopState:
    """The state without what no step depends on: position, reference tables, and open drift."""
    registry = msgspec.structs.replace(state.registry, references={})
    return replace(state, position=0, drifting={}, registry=registry)


def _free_version(state: LoopState, name: str, version: str, digest: str) -> str:
    """`version`, or the next patch version that no other artifact has."""
    while (known := state.registry.models.get(f"{name}-{version}")) is not None and known.digest != digest:
        major, minor, patch = version.split(".")
        version = f"{major}.{minor}.{int(patch) + 1}"
    return version
