"""The whole loop on one stream: drift → retrain → refused by the gate; loss of performance → retrain → shadow → A/B
test → promote; a poisoned model → rolled back; and everything rebuilt from the log.

Log time is event time, so a month passes in seconds. The worker is the offline one: the same path, without Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from console import wiring
from console.loop_demo import BANK, DRIFT, LEARN
from core import control_stream, events
from core.codec import decode_control
from core.context import Resolver
from core.features import spec
from core.log.base import EventLog
from core.log.memory import MemoryLog
from core.replay import Timeline
from core.times import DAY_MS
from core.verification import verify
from ingest.offline import OfflineIngest
from learners.governance import models as acts
from learners.governance.control_events import Act, Artifact
from learners.loop.evidence import ExperimentReports
from learners.loop.orchestrator import Orchestrator, Tools
from learners.loop.state import loop_state
from learners.training import reading
from learners.training.online import OnlineLearner
from models import lightgbm_text
from projections.audit.blast_radius import affected, summary
from projections.catalogue import ALL
from projections.engine.base import CONTROL
from projections.engine.runner import Runner
from projections.engine.states import open_states
from projections.labelling.reader import LabelReader
from projections.views.experiments_answers import experiment_answer
from projections.views.registry import REGISTRY
from sources.catalogue import open_source

PARTITIONS = [0, 1]


class Dies(Exception):
    """The process is gone."""


class DyingLog:
    """A log whose writer dies right before the append that ends a training, once; keeps what it would have said."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self.unsaid: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append_control(self, payloads: Sequence[bytes], expected: int) -> int:
        if not self.unsaid and any(b'"retraining_finished.v1"' in payload for payload in payloads):
            self.unsaid = list(payloads)
            raise Dies
        return self._log.append_control(payloads, expected)


class World:
    """The stream, the worker and the loop, a day at a time."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.dying = DyingLog(self.log)
        self.worker = OfflineIngest(self.log, Resolver(self.log.get_blob, wiring.load_scorer), partitions=2)
        self.records = iter([r for chunk in _source().records() for r in chunk])
        self.waiting: Any = next(self.records)
        self.start = self.waiting.timestamp
        self.day = 0
        self.done: list[tuple[int, str, list[str]]] = []
        self.why: list[str] = []
        self.restart(self.dying)  # type: ignore[arg-type]

    @property
    def now(self) -> int:
        return int(self.start + self.day * DAY_MS)

    def restart(self, log: EventLog) -> None:
        """A new process: nothing but the log is left."""
        self.loop = Orchestrator(log, PARTITIONS, LEARN, Tools(wiring.load_scorer, lambda call: 0.001), DRIFT)

    def live_a_day(self) -> None:
        """A day of transactions and verdicts through the worker."""
        self.day += 1
        while self.waiting is not None and self.waiting.timestamp < self.now:
            self.worker.feed([self.waiting])
            self.waiting = next(self.records, None)
        self.worker.flush()

    def act(self) -> None:
        """The loop's steps of the day; a process that dies is started again."""
        for _ in range(10):
            try:
                step, events_ = self.loop.step(self.now)
            except Dies:
                self.done.append((self.day, "died", []))
                self.restart(self.log)
                continue
            self.worker.follow_control()
            if not events_:
                return
            self.done.append((self.day, step.action, [type(e).__name__ for e in events_]))
            self.why.append(f"day {self.day}: {step.action}: {step.reason} {[e.reason for e in events_]}")
        raise AssertionError(f"the loop does not come to rest: {self.done}")

    def until(self, reached: Callable[[], bool], days: int) -> None:
        """Live and act until it is so."""
        for _ in range(days):
            self.live_a_day()
            self.act()
            if reached():
                return
        raise AssertionError("\n".join([f"not reached by day {self.day}", *self.why]))


def _source() -> Any:
    return open_source("synthetic", labels="fraud", flush_feedback=True, synthetic=BANK)


def _first_model(log: MemoryLog) -> bytes:
    """A linear model that learned the first three days, label by label."""
    data = reading.read(log, PARTITIONS)
    learner = OnlineLearner(spec.NAMES)
    learner.learn(data.features, data.labels)
    return learner.export()


@pytest.fixture(scope="module")
def world() -> World:
    """The story, told once; tests look at what it left."""
    world = World()
    for _ in range(3):
        world.live_a_day()
    ann = Act("ann", "to begin with", world.now)
    content = _first_model(world.log)
    acts.register(world.log, Artifact(content, "card", "1.0.0", spec.SPEC_VERSION), ann)
    acts.deploy(world.log, "card-1.0.0", ann)
    world.worker.follow_control()
    world.until(lambda: any(action == "conclude" for _, action, _ in world.done), days=25)
    world.live_a_day()
    # Somebody forces a poisoned model into production: every score turned around.
    state = loop_state(world.log)
    good = world.log.get_blob(state.registry.models[state.champion].digest)
    bad = lightgbm_text.with_leaf_values(good, [-tree.leaf_value for tree in lightgbm_text.parse(good).trees])
    mallory = Act("mallory", "trust me", world.now)
    acts.register(world.log, Artifact(bad, "card", "9.9.9", spec.SPEC_VERSION, parent="1.1.0"), mallory)
    acts.deploy(world.log, "card-9.9.9", mallory)
    world.worker.follow_control()
    world.until(lambda: any(action == "roll back" for _, action, _ in world.done), days=3)
    world.live_a_day()
    return world


def test_the_story(world: World) -> None:
    """Drift is told before any row to train on has it, so the gate refuses; the loss that follows leads to a training,
    which dies and is done again, a shadow, a test, a promotion; poison is rolled back.
    """
    assert [(action, names) for _, action, names in world.done] == [
        ("retrain", ["RetrainingStarted"]),
        ("train", ["RetrainingRejected"]),
        ("retrain", ["RetrainingStarted"]),
        ("died", []),
        ("train", ["ModelRegistered", "RetrainingFinished", "ModelDeployed"]),
        ("test", ["ExperimentStarted", "ModelWithdrawn"]),
        ("conclude", ["ExperimentConcluded", "ModelDeployed"]),
        ("roll back", ["DegradationDetected", "ModelRolledBack"]),
    ]
    state = loop_state(world.log)
    assert state.champion == "card-1.1.0" and state.phase == "idle" and not state.registry.refused
    drifted_on = (BANK.drift_at or 0.0) * BANK.span_ms / DAY_MS
    told_on = world.done[0][0]
    assert told_on > drifted_on > told_on - 2 * LEARN.maturity_days - LEARN.holdout_days  # where training ends
    causes = [why for why in world.why if ": retrain:" in why]
    assert "performance:" not in causes[0] and "performance:" in causes[1]


def test_a_training_that_died_is_done_again_to_the_same_bytes(world: World) -> None:
    """What the dead process was about to say is what the next one said: same model, same figures."""
    said = [payload for _, payload in world.log.read_control(count=10**6)]
    assert len(world.dying.unsaid) == 3 and all(payload in said for payload in world.dying.unsaid)


def test_every_decision_replays(world: World) -> None:
    """Champion, arms, shadow and poison: every score and alert of the story comes out the same, byte for byte."""
    timeline = Timeline(control_stream.history(world.log), Resolver(world.log.get_blob, wiring.load_scorer))
    for p in PARTITIONS:
        found = verify(world.log, p, world.log.head(p), timeline)
        assert found.first_difference is None and found.identical == found.decisions > 20_000


def test_the_registry_and_the_test_are_rebuilt_from_the_log(world: World) -> None:
    """A copy of the log gives the same registry and the same test results, hash for hash and figure for figure."""
    told = [event for _, event in control_stream.accepted(world.log)]
    name = next(e.experiment_id for e in told if isinstance(e, events.ExperimentConcluded))
    lived = ExperimentReports(world.log, PARTITIONS, LabelReader(world.log, PARTITIONS)).report(name)
    copied = world.log.clone()
    again = ExperimentReports(copied, PARTITIONS, LabelReader(copied, PARTITIONS)).report(name)
    assert lived is not None and repr(lived) == repr(again)  # repr: NaN equals NaN
    runner = Runner(copied, PARTITIONS, [REGISTRY])
    runner.catch_up()
    assert REGISTRY.digest(runner.view(REGISTRY, CONTROL).state) == REGISTRY.digest(loop_state(world.log).registry)
    concluded = next(e for _, e in control_stream.accepted(copied) if isinstance(e, events.ExperimentConcluded))
    assert concluded.verdict == "promote" and concluded.winner == "candidate"
    asked = experiment_answer(open_states(copied, ALL, now_ms=world.now), name)
    assert asked.experiment.conclusion == concluded


def test_the_blast_radius_of_the_poison_is_what_it_decided(world: World) -> None:
    """Every decision with its digest, no other, and only between its deployment and the rollback."""
    registry = loop_state(world.log).registry
    digest = registry.models["card-9.9.9"].digest
    rows = list(affected(world.log, PARTITIONS, digest, LabelReader(world.log, PARTITIONS).view))
    assert len(rows) > 500 and summary(iter(rows)).decisions["decline"] > 100
    deployed = next(d for d in registry.deployments if d.model == "card-9.9.9")
    back = next(d for d in registry.deployments if d.action == "rollback")
    assert deployed.occurred_at <= min(r.occurred_at for r in rows)
    assert max(r.occurred_at for r in rows) <= back.occurred_at


def test_the_live_fold_agrees_with_the_registry(world: World) -> None:
    """The state that workers decide under and the read model never differ."""
    live = control_stream.current(world.log)
    registry = loop_state(world.log).registry
    assert live.governance == registry.governance and live.champion is not None
    assert live.champion.label == registry.aliases["champion"] and live.experiment is None and live.shadow is None


def test_every_step_says_who_and_why(world: World) -> None:
    """No event of the loop is without an actor, a reason and, where something caused it, its cause."""
    own = [decode_control(p) for _, p in world.log.read_control(count=10**6) if b'"sentinel learn"' in p]
    assert len(own) >= 9
    for event in own:
        drift = isinstance(event, events.DriftDetected | events.DriftCleared)
        assert drift or event.reason
    trained = [e for e in own if isinstance(e, events.RetrainingFinished)]
    assert np.isfinite(trained[0].metrics["average_precision_gain"])
