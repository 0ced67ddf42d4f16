"""Runs seeds: one schedule, its undisturbed twin, a failing one shortened, and a kill at every single call."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from core.log.base import EventLog
from tests.simulation import faults as planning
from tests.simulation.faults import Fault
from tests.simulation.oracle import Held, held, judged
from tests.simulation.scenario import Scenario, scenario
from tests.simulation.stage import Stage
from tests.simulation.traffic import planned
from tests.simulation.world import Stuck

CALLS = 320
"""Faults strike among so many calls; most schedules have more."""


@dataclass(frozen=True)
class Outcome:
    """What became of a schedule. wrong: what must not be; [] if all is well. struck: the faults that took place."""

    seed: int
    wrong: list[str]
    struck: list[Fault]
    calls: int
    seconds: float
    happened: Counter[str]
    trace: list[str]
    decisions: int = 0


def run(seed: int, faults: Sequence[Fault] | None = None, *, tracing: bool = False) -> Outcome:
    """The schedule of a seed, with its own faults or these."""
    of = scenario(seed)
    drawn = planning.drawn(seed, CALLS) if faults is None else list(faults)
    twin = undisturbed(of) if of.is_history else None
    return staged(Stage(of, drawn, tracing), twin)


def staged(stage: Stage, twin: list[Held] | None) -> Outcome:
    """Run a stage and judge what it leaves."""
    try:
        stage.run()
    except Stuck as error:
        stage.wrong.append(f"stuck: {error}")
    log = stage.log_of_all()
    if not stage.wrong:
        stage.wrong += judged(stage, log, twin)
    decisions = sum(log.length(p, "scores") for p in range(stage.scenario.partitions)) if not stage.wrong else 0
    world = stage.world
    return Outcome(
        stage.scenario.seed, stage.wrong, stage.struck, world.calls, world.now, stage.happened, world.trace, decisions
    )


def undisturbed(of: Scenario) -> list[Held]:
    """The log of the scenario without any fault, by one worker in large batches."""
    stage = Stage(replace(of, workers=1, batch_size=1_000, overlap_min=200, archives=False), [])
    stage.run()
    assert not stage.wrong, stage.wrong
    log: EventLog = stage.log_of_all()
    return [held(log, p) for p in range(of.partitions)]


def small(*, workers: int = 1, archives: bool = False) -> Scenario:
    """A few messages: short enough to kill somebody at every call. Without an archive they are a history; with one,
    they are sent while the archiver runs.
    """
    messages = planned(random.Random("small"), 9, seconds=2.5 if archives else 0.0, accounts=3, gaps=True)
    return replace(
        scenario(0),
        partitions=workers,
        workers=workers,
        is_history=not archives,
        takes_append_time=False,
        batch_size=4,
        linger_ms=0,
        overlap_min=3,
        archives=archives,
        responders=0,
        messages=tuple(messages),
        acts=(),
    )


def crashes(of: Scenario) -> Iterator[Outcome]:
    """The scenario with a process killed at call 0, 1, 2 … to the last, each time before its effect and after."""
    twin = undisturbed(of) if of.is_history else None
    calls = staged(Stage(of, []), twin).calls
    for at in range(calls):
        for how in ("before", "after"):
            yield staged(Stage(of, [Fault(at, "kill", how)]), twin)


def shortened(seed: int, faults: Sequence[Fault]) -> list[Fault]:
    """The faults without those that are not needed for the schedule to fail."""
    kept = list(faults)
    for fault in list(kept):
        fewer = [each for each in kept if each is not fault]
        if run(seed, fewer).wrong:
            kept = fewer
    return kept
