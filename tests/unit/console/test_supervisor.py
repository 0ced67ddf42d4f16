"""The supervisor's table of states, with children that only pretend."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from console.supervisor import DELAY_S_MAX, SLOW_S, STEADY_S, Supervisor, Unit
from core.errors import BadInput, Unavailable


@dataclass
class Pretended:
    """A child that runs until the test ends it. refuses: why it can't be started."""

    name: str
    running: bool = False
    exit_code: int | None = None
    lines: list[str] = field(default_factory=list)
    starts: int = 0
    refuses: Exception | None = None
    did: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int | None:
        return 1 if self.running else None

    def start(self) -> None:
        self.starts += 1
        if self.refuses is not None:
            raise self.refuses
        self.running, self.exit_code = True, None

    def stop(self) -> None:
        self.did.append(f"stop {self.name}")
        self.running = False

    def kill(self) -> None:
        self.did.append(f"kill {self.name}")
        self.running = False

    def last_lines(self, count: int = 6) -> list[str]:
        return self.lines[-count:]

    def ends(self, code: int, *lines: str) -> None:
        self.running, self.exit_code = False, code
        self.lines += lines


class World:
    """A supervisor of pretended children, its clock, and what it said."""

    def __init__(self, *units: Unit) -> None:
        self.now = 0.0
        self.said: list[str] = []
        self.supervisor = Supervisor(units, self.said.append, lambda: self.now)

    def pass_time(self, seconds: float) -> None:
        """Time passes in steps of a quarter of a second."""
        for _ in range(int(seconds * 4)):
            self.now += 0.25
            self.supervisor.step()


def test_children_start_once_what_they_need_is_ready() -> None:
    """The second waits for the first to be ready, not only to run."""
    first, second = Pretended("first"), Pretended("second")
    is_ready = False
    world = World(Unit(first, is_ready=lambda: is_ready), Unit(second, after=("first",)))
    world.pass_time(5)
    assert (first.running, second.running) == (True, False)
    is_ready = True
    world.pass_time(1)
    assert world.supervisor.is_ready
    assert second.running
    assert world.said == []


def test_a_child_that_ends_is_started_again_with_growing_delay() -> None:
    """1, 2, 4 … s, never more than the maximum; what it said last is told each time."""
    child = Pretended("worker")
    world = World(Unit(child))
    for _ in range(9):
        world.pass_time(0.5)
        assert child.running
        child.ends(4, "noise", "sentinel: the log server does not answer")
        before = child.starts
        world.pass_time(0.25)
        delay = float(world.said[-1].split(" in ")[1].split(" s")[0]) if " in " in world.said[-1] else 0.0
        world.pass_time(delay - 0.5)
        assert child.starts == before
        world.pass_time(1.0)
        assert child.starts == before + 1
    delays = [line.rsplit(" in ", 1)[1] for line in world.said if "exit code" in line]
    assert delays[:4] == ["1 s", "2 s", "4 s", "8 s"]
    assert delays[-1] == f"{DELAY_S_MAX:.0f} s"
    assert "worker ended with exit code 4 (the log server does not answer)" in world.said[0]
    assert world.supervisor.units[0].restarts == 9


def test_a_steady_child_begins_with_the_shortest_delay_again() -> None:
    """Two crashes an hour apart are not a loop of crashes."""
    child = Pretended("worker")
    world = World(Unit(child))
    world.pass_time(1)
    for _ in range(3):
        child.ends(-9)
        world.pass_time(STEADY_S + 5)
        assert child.running
    delays = [line.rsplit(" in ", 1)[1] for line in world.said if "killed by signal 9" in line]
    assert delays == ["1 s", "1 s", "1 s"]


def test_bad_input_before_it_was_ready_ends_the_run_with_its_words() -> None:
    """No restart mends a wrong setting; after it was ready once, the same exit code is a crash like any other."""
    child = Pretended("worker")
    ready = False
    world = World(Unit(child, is_ready=lambda: ready))
    world.pass_time(1)
    child.ends(2, "sentinel: sentinel.toml: batch_size = 0 must be between 1 and 100,000")
    with pytest.raises(BadInput, match=r"worker: sentinel.toml: batch_size = 0 must"):
        world.pass_time(1)
    world.supervisor.units[0].state, ready = "waiting", True
    world.pass_time(1)
    child.ends(2, "sentinel: a topic is missing")
    world.pass_time(3)
    assert child.running


def test_bad_input_soon_after_the_start_ends_the_run_if_readiness_cannot_be_asked() -> None:
    """That it runs proves nothing: it may not have looked at its settings yet. After STEADY_S it has."""
    responders, loop = Pretended("responders"), Pretended("loop")
    world = World(Unit(responders, is_ready=None), Unit(loop, is_ready=None))
    world.pass_time(5)
    assert world.supervisor.is_ready
    loop.ends(4, "sentinel: the log server does not answer")
    world.pass_time(5)
    assert loop.running
    responders.ends(2, "sentinel: the environment variable SECRET (secret_env) is not set")
    with pytest.raises(BadInput, match="responders: the environment variable SECRET"):
        world.pass_time(1)
    world = World(Unit(steady := Pretended("responders"), is_ready=None))
    world.pass_time(STEADY_S + 5)
    steady.ends(2, "sentinel: a topic is missing")
    world.pass_time(3)
    assert steady.running


def test_a_server_that_can_not_start_is_tried_again() -> None:
    """Unavailable while starting is a crash; bad input, such as a port in use, ends the run."""
    child = Pretended("valkey", refuses=Unavailable("did not answer within 20 s"))
    world = World(Unit(child))
    world.pass_time(1)
    assert "valkey can't start: did not answer within 20 s; it is started again in 1 s" in world.said
    child.refuses = None
    world.pass_time(3)
    assert world.supervisor.is_ready
    other = World(Unit(Pretended("valkey", refuses=BadInput("the port is in use"))))
    with pytest.raises(BadInput, match="port is in use"):
        other.pass_time(1)


def test_those_that_hold_what_it_forgets_are_started_again_with_it() -> None:
    """Only its dependents, only if it takes them along, and only once it is back."""
    done: list[str] = []
    broker, log = Pretended("broker", did=done), Pretended("log", did=done)
    worker, other = Pretended("worker", did=done), Pretended("other", did=done)
    topics: list[int] = []
    world = World(
        Unit(broker, takes_along=True, then=lambda: topics.append(broker.starts)),
        Unit(log),
        Unit(worker, after=("broker", "log")),
        Unit(other, after=("log",)),
    )
    world.pass_time(1)
    broker.ends(-9)
    world.pass_time(0.25)
    assert done == ["kill worker"]
    assert "with worker" in world.said[-1]
    world.pass_time(3)
    assert world.supervisor.is_ready
    assert (worker.starts, other.starts, topics) == (2, 1, [1, 2])
    log.ends(-9)
    world.pass_time(3)
    assert (worker.starts, other.starts) == (2, 1)


def test_they_are_stopped_in_the_opposite_order() -> None:
    """Whoever depends on another is stopped before it."""
    done: list[str] = []
    world = World(Unit(Pretended("a", did=done)), Unit(Pretended("b", did=done), after=("a",)))
    world.pass_time(1)
    world.supervisor.stop(lambda name: done.append(f"before {name}"))
    assert done == ["before b", "stop b", "before a", "stop a"]


def test_a_slow_child_is_mentioned_once() -> None:
    """With the end of its log, so that a person knows where to look."""
    child = Pretended("console", lines=['{"event": "api.waits", "error": "no log", "level": "info"}'])
    world = World(Unit(child, is_ready=lambda: False))
    world.pass_time(3 * SLOW_S)
    assert world.said == ["console is not ready after 60 s; its log ends: api.waits no log"]
