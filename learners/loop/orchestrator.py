"""Carries the adaptive loop's steps out. One step: fold → look → decide → act; every act is one conditional append.

    1  fold the control stream to its end, position c
    2  look at what the phase needs; long work (a training) happens here, between two appends
    3  decide (`policy.decide`)
    4  append the step's events; if others changed what the step rests on, nothing happens and the next step folds again

Killed anywhere, it goes on from the events: a training that had begun is done again, to the same bytes. Two at once do
no harm beyond work done twice. Drift is watched in the same loop. With four eyes on, promotions are proposed.

It meets whatever people appended: an experiment of unknown metrics, a model that nobody can load, an event of its own
that may not follow. None of these stops it; what it can't do it says among its reasons, and goes on with the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from core.control_stream import Known, append
from core.errors import BadInput, ConcurrencyError, Corrupt
from core.events import Control
from core.log.base import EventLog
from core.scoring import Scorer
from learners.drift.look import Looker
from learners.drift.monitor import DriftMonitor
from learners.drift.policy import DriftConfig
from learners.drift.windows import WindowReader
from learners.governance import models as acts
from learners.loop import candidates
from learners.loop.announce import Words
from learners.loop.candidates import LoadScorer, Timer
from learners.loop.evidence import Comparison, ExperimentReports, NewLabels, compare, decided_by, labels_since
from learners.loop.policy import Evidence, Step, decide, guarded
from learners.loop.settings import LearnSettings
from learners.loop.state import LoopState, folded, loop_state
from projections.labelling.reader import LabelReader
from projections.views.registry import Model

ACTOR = "sentinel learn"
T = TypeVar("T")
_NO_NAME = re.compile(r"[/,\s\x1e\x1f]")
"""What an experiment's ID must not hold (`core.assignment`), and a model's name may."""


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
        self._labels = LabelReader(log, self._partitions)
        self._tests = ExperimentReports(log, self._partitions, self._labels)
        config = drift or DriftConfig()
        self._monitor = DriftMonitor(log, Looker(self._reader, self._labels, config), config, actor)
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
        try:
            return step, append(self._log, lambda known: events if is_still_so(state, known, step) else []).events
        except ConcurrencyError:
            return step, []
        except BadInput as error:
            refused = f"{step.action} is not possible: {error}"
            return msgspec.structs.replace(step, action="wait", reasons=(*step.reasons, refused)), []

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
        way_back = self._way_back(state)
        obstacles: list[str] = []

        def tried(what: str, look: Callable[[], T]) -> T | None:
            try:
                return look()
            except BadInput as error:
                obstacles.append(f"{what}: {error}")
                return None

        guard = shadow = report = None
        unloadable = ""
        if way_back and guarded(state, self._settings, now_ms):
            unloadable = self._unloadable(state, way_back)
            guard = tried("the champion can't be watched", lambda: self._guard(state, way_back))
        if state.phase == "shadowing" and state.champion:
            shadow = tried("the shadow can't be compared", lambda: self._shadow(state))
        if state.experiment is not None:
            name = state.experiment.experiment_id
            report = tried(f"{name} can't be judged, stop it by hand", lambda: self._tests.report(name))
        labels = tried("labels can't be read", lambda: labels_since(self._labels.view(), state.trained_until))
        labels = labels if labels is not None else NewLabels(0, 0)
        return Evidence(labels, way_back, guard, shadow, report, tuple(obstacles), unloadable)

    def _way_back(self, state: LoopState) -> str:
        try:
            return acts.rollback_target(state.registry)
        except BadInput:
            return ""

    def _scorer(self, model: Model) -> Scorer:
        """Raises BadInput if the model's artifact is missing, damaged, or reads other features."""
        try:
            return self._tools.load_scorer(self._log.get_blob(model.digest), model.label, model.digest)
        except (BadInput, Corrupt) as error:
            raise BadInput(f"model {model.label} can't be loaded: {error}") from error

    def _unloadable(self, state: LoopState, way_back: str) -> str:
        """Why nobody can load the champion, though its predecessor can be; "" if all is well, or both can't."""
        try:
            self._scorer(state.champion_model)
            return ""
        except BadInput as error:
            reason = str(error)
        try:
            self._scorer(acts.former_champion(state.registry, way_back))
            return reason
        except BadInput:
            return ""

    def _guard(self, state: LoopState, way_back: str) -> Comparison | None:
        champion = state.champion_model
        predecessor = self._scorer(acts.former_champion(state.registry, way_back))
        seen = decided_by(self._reader, state.champion_at[1], champion.digest, predecessor)
        if seen is None:
            return None
        return compare(seen.rows, seen.logged, seen.other, self._labels.view(), state.registry.review, self._settings)

    def _shadow(self, state: LoopState) -> Comparison | None:
        champion, shadow = state.champion_model, state.registry.models[state.candidate]
        seen = decided_by(self._reader, state.shadow_at[1], champion.digest, self._scorer(shadow))
        if seen is None:
            return None
        return compare(seen.rows, seen.other, seen.logged, self._labels.view(), state.registry.review, self._settings)

    # what is said

    def _events(self, state: LoopState, evidence: Evidence, step: Step, now_ms: int) -> list[Control]:
        said = Words(self._actor, step.reason, now_ms)
        if step.action == "retrain":
            run = f"{state.champion}:{state.runs + 1}"
            return [said.started(run, step, now_ms, state.champion)]
        if step.action == "train":
            return self._trained(state, said)
        if step.action == "test":
            return self._test(state, said)
        if step.action == "promote":
            promotion = said.deployment(state, state.registry.models[step.model], state.candidate)
            return promotion if state.registry.governance.four_eyes else [*promotion, said.withdrawn(state.candidate)]
        if step.action == "drop":
            return [said.withdrawn(step.model)]
        if step.action == "ramp":
            assert state.experiment is not None
            return [said.ramped(state.experiment.experiment_id, step.traffic)]
        if step.action == "conclude":
            return self._concluded(state, evidence, step, said)
        if step.action == "roll back":
            return said.rolled_back(state, evidence, step)
        return []

    def _trained(self, state: LoopState, said: Words) -> list[Control]:
        run = state.run
        assert run is not None
        champion = state.champion_model
        try:
            scorer = self._scorer(champion)
            made = candidates.make(
                self._log,
                self._partitions,
                candidates.Champion(
                    champion.name,
                    champion.version,
                    self._log.get_blob(champion.digest),
                    scorer,
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

    def _test(self, state: LoopState, said: Words) -> list[Control]:
        champion, candidate = state.champion_model, state.registry.models[state.candidate]
        name = _NO_NAME.sub("_", f"{candidate.label}-vs-{champion.version}-{state.runs}")
        while name in state.registry.governance.ended:
            name += "-again"
        return [said.test(name, champion, candidate, self._settings), said.withdrawn(state.candidate)]

    def _concluded(self, state: LoopState, evidence: Evidence, step: Step, said: Words) -> list[Control]:
        assert state.experiment is not None and evidence.report is not None
        verdict = evidence.report.verdict
        ended: list[Control] = [said.concluded(state.experiment.experiment_id, evidence.report)]
        if verdict.action == "promote":
            arm = next(arm for arm in state.experiment.arms if arm.name == verdict.arm)
            winner = Model(arm.model, arm.version, arm.digest)  # what was tested, whatever is registered by its name
            ended += said.deployment(state, winner, state.experiment.experiment_id)
        return ended


def is_still_so(state: LoopState, known: Known, step: Step) -> bool:
    """Whether what was appended since `state` leaves the step's ground as it was.

    A training takes hours. What others append meanwhile (segments, reference tables, lists, drift that was told) must
    not make it start again.
    """
    now = folded(known.entries)
    if step.action != "train" and now.drifting != state.drifting:
        return False
    return ground(now) == ground(state)


def ground(state: LoopState) -> LoopState:
    """The state less what no step rests on: position, reference tables, and open drift."""
    registry = msgspec.structs.replace(state.registry, references={})
    return replace(state, position=0, drifting={}, registry=registry)


def _free_version(state: LoopState, name: str, version: str, digest: str) -> str:
    """`version`, or the next patch of it that no other artifact has."""
    while (known := state.registry.models.get(f"{name}-{version}")) is not None and known.digest != digest:
        major, minor, patch = version.split(".")
        version = f"{major}.{minor}.{int(patch) + 1}"
    return version
