"""The adaptive loop in the simulation: two orchestrators on one control stream, each of which may die at any call.

What the loop sees is given (new labels, a shadow that is better, a test that it wins), and its training returns a model
at once; everything else is the product's: fold, decide, act. Two models are promoted, one after the other. Whatever
strikes, the control stream must tell the same story as an undisturbed loop's: nothing is begun twice, nothing left out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from core import control_stream
from core.codec import encode
from core.errors import Conflict, Corrupt, Unavailable
from core.identity import FIXED
from learners.experiments.verdict import Verdict
from learners.loop import candidates
from learners.loop.evidence import NewLabels
from learners.loop.orchestrator import Orchestrator, Tools
from learners.loop.policy import Evidence
from learners.loop.settings import LearnSettings
from learners.loop.state import LoopState, loop_state
from learners.training.gate import GateResult
from tests.builders.loop import FIRST, comparison, paired_trial
from tests.builders.models import ARTIFACT, load_tiny
from tests.simulation import faults as planning
from tests.simulation.faults import Fault
from tests.simulation.logs import Connection, Server, Trouble
from tests.simulation.world import Process, World, text_of

RUNS = 2
"""Models that are trained and promoted."""
SETTINGS = LearnSettings(
    watch_drift=False,
    labels_min=1,
    frauds_min=1,
    interval_days=0.0,
    shadow_hours=0.0,
    shadow_rows_min=1,
    guard_days=0.001,
)
KINDS = ("kill", "kill", "request", "request", "freeze", "log refuses", "log forgets")
CALLS = 150
STEP_S = 0.2
TRAINING_S = 0.5
NAMED = ("type", "name", "version", "digest", "alias", "run_id", "trigger", "experiment_id", "verdict", "winner")
"""What two stories are compared by: all but times, reasons and figures."""


class Loop(Orchestrator):
    """The orchestrator of a world in which every candidate turns out to be better."""

    def evidence(self, state: LoopState, now_ms: int) -> Evidence:
        seen = super().evidence(state, now_ms)
        report = seen.report
        if report is not None:
            arm = report.definition.arms[-1].name
            report = msgspec.structs.replace(report, verdict=Verdict("promote", arm, ("it is better",)))
        is_open = state.runs < RUNS or state.phase != "idle"
        return msgspec.structs.replace(
            seen,
            labels=NewLabels(1_000, 100) if is_open else NewLabels(0, 0),
            guard=None,
            shadow=comparison(),
            trial=paired_trial(),
            report=report,
        )


class Bench:
    """A log server, two orchestrators, and the faults that strike them."""

    def __init__(self, seed: int, faults: Sequence[Fault], *, loops: int = 2, tracing: bool = False) -> None:
        self.world = World(seed, tracing=tracing)
        self.server = Server(self.world)
        self.faults, self.struck = list(faults), list[Fault]()
        self.wrong: list[str] = []
        self.loops = loops
        self.chance = random.Random(f"bench {seed}")
        self._die_after: int | None = None

    def run(self) -> list[dict[str, Any]]:
        """The story that the control stream tells in the end."""
        events = [FIXED.event("worker"), *FIRST]
        self.server.write(lambda log: log.put_blob(ARTIFACT))
        self.server.write(lambda log: log.append_control([encode(event) for event in events], 0))
        self.server.begun = 2
        self.world.on_call, self.world.on_done = self._on_call, self._on_done
        make, candidates.make = candidates.make, self._train
        try:
            for number in range(self.loops):
                self.world.later(0.1 * number, partial(self._start, number))
            if not self.world.run(self._is_done, 120.0):
                self.wrong.append(f"the loop does not get on: {loop_state(self.server.log).phase}")
        finally:
            candidates.make = make
            self.world.close()
        return self._story()

    def _train(self, *arguments: Any) -> list[candidates.Candidate]:
        self.world.sleep(TRAINING_S)
        runs = loop_state(self.server.log).runs
        accepted = GateResult(True, (), {"rows": 100.0})
        return [candidates.Candidate("retrained", f"1.{runs}.0", ARTIFACT + b" " * runs, accepted)]

    def _start(self, number: int) -> None:
        def work() -> None:
            loop = Loop(Connection(self.server), [0], SETTINGS, Tools(load_tiny, lambda call: 0.0))
            while True:
                loop.step(int(self.world.wall() * 1000))
                self.world.sleep(STEP_S)

        process = self.world.start(f"loop-{number}", work)
        process.at_end.append(partial(self._ended, number, process))

    def _ended(self, number: int, process: Process) -> None:
        error = process.error
        is_damaged = any(fault.kind == "log forgets" for fault in self.struck)
        if error is not None:
            self.world.note(f"{process.name} ended by {text_of(error)}")
            if not isinstance(error, Unavailable) and not (is_damaged and isinstance(error, Conflict | Corrupt)):
                self.wrong.append(f"{process.name} ended by {text_of(error)}")
        if not self.world.closed:
            self.world.later(0.3 * self.chance.random(), partial(self._start, number))

    def _is_done(self) -> bool:
        if self.wrong:
            return True
        if self.server.log.control_head() < 5:
            return False
        state = loop_state(self.server.log)
        return state.runs >= RUNS and state.phase == "idle" and state.champion == f"m-1.{RUNS}.0"

    def _story(self) -> list[dict[str, Any]]:
        entries = control_stream.history(self.server.log)
        if refused := [entry.refused for entry in entries if entry.refused]:
            self.wrong.append(f"the loop appended what the fold refuses: {refused[0]}")
        told = [msgspec.json.decode(entry.payload, type=dict[str, Any]) for entry in entries]
        return [{name: event[name] for name in NAMED if name in event} for event in told]

    def _on_call(self, process: Process, what: str, number: int) -> None:
        while self.faults and self.faults[0].at <= number:
            fault = self.faults.pop(0)
            self.struck.append(fault)
            self.world.note(f"--- {fault} strikes {process.name}")
            match fault.kind:
                case "kill" if fault.how == "before":
                    self.world.die()
                case "kill":
                    self._die_after = number
                case "freeze":
                    process.frozen_until = self.world.now + fault.seconds
                case "request":
                    self.server.troubles.append(Trouble(fault.how, fault.seconds, "append_control"))
                case "log refuses":
                    self.server.refuses, self.server.refuses_until = fault.how, self.world.now + fault.seconds
                case "log forgets":
                    self.server.lose_tail(fault.seconds)
                case kind:
                    raise AssertionError(f"no such fault: {kind}")

    def _on_done(self, process: Process, what: str, number: int) -> None:
        if self._die_after == number:
            self._die_after = None
            self.world.die()


def drawn(seed: int) -> list[Fault]:
    """The faults of a seed."""
    chance = random.Random(f"loop {seed}")
    count = chance.choice((1, 2, 3, 5))
    return sorted(planning.one(chance, chance.choice(KINDS), chance.randrange(CALLS)) for _ in range(count))


def judged(bench: Bench, undisturbed: list[dict[str, Any]]) -> list[str]:
    """What is wrong with the story that a bench tells; [] if nothing is."""
    story = bench.run()
    if not bench.wrong and story != undisturbed:
        first = next((pair for pair in zip(story, undisturbed, strict=False) if pair[0] != pair[1]), None)
        bench.wrong.append(f"another story, of {len(story)} events, not {len(undisturbed)}: {first}")
    return bench.wrong
