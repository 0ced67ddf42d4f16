"""Anybody appends anything at any time, processes die anywhere: the loop never raises, never says what the fold
refuses, and agrees with the live fold.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from core import control_stream, events
from core.codec import encode
from core.control_stream import Blobs
from core.errors import BadInput, ConcurrencyError
from core.events import Control
from core.log.memory import MemoryLog
from core.times import DAY_MS
from learners.experiments.verdict import Verdict
from learners.governance import models as acts
from learners.governance.control_events import Act
from learners.loop.evidence import NewLabels
from learners.loop.orchestrator import Orchestrator, Tools, _free_version
from learners.loop.policy import Evidence
from learners.loop.settings import LearnSettings
from learners.loop.state import LoopState, loop_state
from tests.builders.events import fuzz
from tests.builders.loop import FIRST, NOW, by, comparison, experiment, model, sha
from tests.builders.models import ARTIFACT, load_tiny

CONTENTS = [ARTIFACT + b" " * n for n in range(4)]
LOST = b"never stored"
VERSIONS = ("1.0.0", "1.1.0", "2.0.0", "9.9.9")


class Dies(Exception):
    """The process is gone."""


class Log:
    """A log that others write to between a look and an append, and whose writer dies before or after an append."""

    def __init__(self, log: MemoryLog, rng: random.Random, others: Any) -> None:
        self._log, self._rng, self._others = log, rng, others

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append_control(self, payloads: Sequence[bytes], expected: int) -> int:
        chance = self._rng.random()
        if chance < 0.1:
            raise Dies
        if chance < 0.2:
            self._others()
        position = self._log.append_control(payloads, expected)
        if chance > 0.9:
            raise Dies
        return position


def anything(rng: random.Random, log: MemoryLog) -> None:
    """Somebody acts by a command, or appends an event by other means, which may make no sense at all."""
    who = rng.choice(["ann", "bob", "loop"])
    act = Act(who, "why not", NOW)
    known = loop_state(log)
    label = rng.choice([*known.registry.models, "m-0.0.0"])
    name = rng.choice([known.registry.governance.experiment, *known.registry.governance.ended, "e1", "e2"])
    content, version = rng.choice([*CONTENTS, LOST]), rng.choice(VERSIONS)
    arms = (
        events.Arm("control", "m", "1.0.0", known.registry.governance.champion or "0" * 64, 5000),
        events.Arm(rng.choice(["candidate", "b", "c d"]), "m", version, model(content, version)["digest"], 5000),
    )
    causes = [*known.registry.proposals, "", "m-1.1.0", name]
    raw: list[Control] = [
        events.ModelRegistered(**by(who), **model(content, version), spec=1),
        events.ModelDeployed(
            **by(who, causation_id=rng.choice(causes)),
            **model(content, version),
            alias=rng.choice(["champion", "champion", "shadow", "candidate"]),
        ),
        events.ModelRolledBack(**by(who), **model(content, version)),
        events.ModelWithdrawn(**by(who), alias=rng.choice(["shadow", "champion"])),
        events.DeploymentProposed(
            **by(who, causation_id=rng.choice(causes)), proposal_id=rng.choice("pq"), **model(content, version)
        ),
        events.GovernanceChanged(**by(who), four_eyes=rng.random() < 0.5),
        experiment(name, who, arms=arms, primary=rng.choice(["value_lost", "joy"]), causation_id=rng.choice(causes)),
        events.ExperimentRamped(**by(who), experiment_id=name, traffic=rng.choice([0, 5000, 10_000, 10_001])),
        events.ExperimentStopped(**by(who), experiment_id=name),
        events.ExperimentConcluded(
            **by(who), experiment_id=name, verdict=rng.choice(["promote", "keep"]), winner=rng.choice(["candidate", ""])
        ),
        events.RetrainingStarted(
            **by(who), run_id=rng.choice("rs"), trigger="manual", known_until=rng.choice([0, NOW, 10**30])
        ),
        events.RetrainingFinished(**by(who), run_id=rng.choice("rs"), **model(content, version)),
        events.RetrainingRejected(**by(who), run_id=rng.choice("rs")),
    ]
    commands: list[Any] = [
        lambda: acts.deploy(log, label, act, rng.choice(acts.ALIASES)),
        lambda: acts.roll_back(log, act),
        lambda: acts.withdraw(log, "shadow", act),
        lambda: acts.set_four_eyes(log, rng.random() < 0.5, act),
        lambda: acts.approve(log, next(iter(known.registry.proposals), ""), act),
    ]
    if rng.random() < 0.4:
        with suppress(BadInput):
            rng.choice(commands)()
        return
    chosen = rng.choice(raw)
    log.append_control([encode(chosen)], log.control_head())


class Loop(Orchestrator):
    """The loop with an eye that sees anything, and a training that yields a model now and then."""

    rng = random.Random(0)

    def evidence(self, state: LoopState, now_ms: int) -> Evidence:
        seen = super().evidence(state, now_ms)
        rng = self.rng
        bad = comparison(0.5, 0.01)
        report = seen.report
        if report is not None:
            action = rng.choice(["continue", "promote", "stop", "rollback"])
            arm = rng.choice(report.definition.arms[1:]).name if action == "promote" else ""
            report = msgspec.structs.replace(report, verdict=Verdict(action, arm, ("seen",)))
        return msgspec.structs.replace(
            seen,
            labels=NewLabels(rng.choice([0, 10**6]), rng.choice([0, 10**5])),
            guard=rng.choice([None, comparison(), bad]),
            shadow=rng.choice([None, comparison(), bad]) if state.phase == "shadowing" else None,
            report=report,
        )

    def _trained(self, state: LoopState, now_ms: int, blobs: Blobs) -> list[Control]:
        made = super()._trained(state, now_ms, blobs)  # there is no data: rejected
        if self.rng.random() < 0.3 or state.run is None:
            return made
        content = self.rng.choice(CONTENTS)
        version = _free_version(state, "m", self.rng.choice(VERSIONS), sha(content))
        finished = events.RetrainingFinished(**by("loop"), run_id=state.run.run_id, **model(content, version))
        registered = events.ModelRegistered(**by("loop"), **model(content, version), spec=1)
        return [registered, finished, events.ModelDeployed(**by("loop"), **model(content, version), alias="shadow")]


@fuzz(max_examples=100)
@given(st.integers(0, 2**32))
def test_anything_goes(seed: int) -> None:
    """Commands, raw events, other processes and deaths in any order: every state is one that the loop goes on from."""
    rng = random.Random(seed)
    log = MemoryLog()
    for content in CONTENTS:
        log.put_blob(content)
    settings = LearnSettings(
        watch_drift=False, interval_days=rng.choice([0.0, 1.0]), test=rng.random() < 0.7, shadow_hours=1.0
    )
    if rng.random() < 0.9:
        log.append_control([encode(event) for event in FIRST], 0)
    now = NOW
    loop: Loop | None = None
    for _ in range(40):
        now += rng.choice([0, 3_600_000, 3 * DAY_MS, 20 * DAY_MS])
        for _ in range(rng.choice([0, 1, 1, 2])):
            anything(rng, log)
        if loop is None or rng.random() < 0.2:
            watched: Any = Log(log, rng, lambda: anything(rng, log))
            loop = Loop(watched, [0], settings, Tools(load_tiny, lambda call: 0.0), actor="loop")
            loop.rng = rng
        before = log.control_head()
        try:
            _, said = loop.step(now)
        except Dies:
            loop = None
            continue
        except ConcurrencyError as error:
            raise AssertionError("somebody else wrote first: no reason to stop") from error
        state = loop_state(log)
        assert len(said) <= log.control_head() - before
        own = range(log.control_head() - len(said) + 1, log.control_head() + 1)
        assert not [state.registry.refused[n] for n in own if n in state.registry.refused]
        live = control_stream.current(log)
        assert live.governance == state.registry.governance
        assert (live.champion.digest if live.champion else "") == state.registry.governance.champion
        assert (live.experiment.experiment_id if live.experiment else "") == live.governance.experiment
        assert (state.experiment.experiment_id if state.experiment else "") == live.governance.experiment
