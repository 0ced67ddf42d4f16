"""Keeps child processes running: starts each once what it needs is ready, and starts it again if it ends by itself.

States of a child:

    waiting   for others to be ready → starting
    starting  it runs, and is not ready yet → ready, or it ended → resting
    ready     it ended → resting
    resting   until its delay is over → waiting

The delay begins with DELAY_S and doubles with each end, up to DELAY_S_MAX; after STEADY_S of being ready it begins
anew. A child that ends with exit code 2 before it has ever proved itself was given something that it can't use, and no
restart mends that: `step` raises what it said. Being ready proves a child, but one whose readiness can't be asked (it
counts as ready as soon as it runs) only once it has run for STEADY_S.

One thread calls `step`, a few times a second. This module knows neither what the children are nor the clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from core.errors import BadInput, SentinelError

DELAY_S = 1.0
DELAY_S_MAX = 60.0
STEADY_S = 60.0
SLOW_S = 60.0
"""A child that is not ready after this long is mentioned, once."""
WORDS_MAX = 300
USAGE = 2
"""The exit code of bad input (`core.errors.BadInput`)."""
State = Literal["waiting", "starting", "ready", "resting"]


class Child(Protocol):
    """A process that can be started any number of times: `console.service.Service`, `console.stack.Server`."""

    name: str

    @property
    def running(self) -> bool: ...
    @property
    def exit_code(self) -> int | None: ...
    @property
    def pid(self) -> int | None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def last_lines(self, count: int = ...) -> list[str]: ...


def _nothing() -> None:
    pass


@dataclass
class Unit:
    """A child under supervision. before, then: done each time before and after it is started. is_ready: asked while it
    is starting; None: it can't be asked. takes_along: whether those that need it are started again with it: they hold
    what it forgets.

    restarts: how often it was started again. said: how it ended the last time. is_proven: see the module's docstring.
    since: when it came into its state, until: when a resting child is started again, on the supervisor's clock.
    """

    child: Child
    after: Sequence[str] = ()
    is_ready: Callable[[], bool] | None = lambda: True
    before: Callable[[], None] = _nothing
    then: Callable[[], None] = _nothing
    takes_along: bool = False
    state: State = "waiting"
    restarts: int = 0
    said: str = ""
    failures: int = 0
    since: float = 0.0
    until: float = 0.0
    was_ready: bool = False
    is_proven: bool = False
    is_slow: bool = field(default=False, repr=False)

    @property
    def name(self) -> str:
        return self.child.name


class Supervisor:
    """See the module's docstring. say: called with each line for the person who watches. clock: seconds."""

    def __init__(self, units: Sequence[Unit], say: Callable[[str], None], clock: Callable[[], float]) -> None:
        self.units = list(units)
        self._say = say
        self._clock = clock

    def step(self) -> bool:
        """Do what is due; returns whether a child's state has changed. Raises BadInput (see the module's docstring)."""
        before = [unit.state for unit in self.units]
        for unit in self.units:
            match unit.state:
                case "waiting":
                    self._start(unit)
                case "starting":
                    self._follow_start(unit)
                case "ready":
                    if not unit.child.running:
                        self._ended_by_itself(unit)
                    elif self._clock() - unit.since > STEADY_S:
                        unit.failures, unit.is_proven = 0, True
                case "resting":
                    if self._clock() >= unit.until:
                        unit.state, unit.since = "waiting", self._clock()
        return before != [unit.state for unit in self.units]

    @property
    def is_ready(self) -> bool:
        """Whether every child is ready."""
        return all(unit.state == "ready" for unit in self.units)

    def is_up(self, name: str) -> bool:
        """Whether the child with this name is ready."""
        return any(unit.name == name and unit.state == "ready" for unit in self.units)

    def stop(self, before: Callable[[str], None] = lambda name: None) -> None:
        """Stop all, the last first. before: called with the name of each that runs before it is stopped."""
        for unit in reversed(self.units):
            if unit.child.running:
                before(unit.name)
            unit.child.stop()
            unit.state = "waiting"

    def _start(self, unit: Unit) -> None:
        if not all(self.is_up(name) for name in unit.after):
            return
        if unit.failures:
            unit.restarts += 1
        unit.since, unit.is_slow = self._clock(), False
        try:
            unit.before()
            unit.child.start()
            unit.then()
        except (SentinelError, OSError) as error:  # OSError: its log can't be opened, for example
            unit.child.stop()
            if isinstance(error, BadInput) and not unit.is_proven:
                raise
            self._ended(unit, f"can't start: {error}")
            return
        unit.state = "starting"

    def _follow_start(self, unit: Unit) -> None:
        if not unit.child.running:
            self._ended_by_itself(unit)
        elif unit.is_ready is None or unit.is_ready():
            if unit.failures:
                self._say(f"{unit.name} is ready again")
            unit.state, unit.since, unit.was_ready = "ready", self._clock(), True
            unit.is_proven = unit.is_proven or unit.is_ready is not None
        elif not unit.is_slow and self._clock() - unit.since > SLOW_S:
            unit.is_slow = True
            self._say(f"{unit.name} is not ready after {SLOW_S:.0f} s; its log ends: {words(unit.child)}")

    def _ended_by_itself(self, unit: Unit) -> None:
        if unit.child.exit_code == USAGE and not unit.is_proven:
            raise BadInput(f"{unit.name}: {words(unit.child)}")
        self._ended(unit, _end(unit.child))

    def _ended(self, unit: Unit, how: str) -> None:
        delay = min(DELAY_S * 2**unit.failures, DELAY_S_MAX)
        unit.failures += 1
        unit.state, unit.since, unit.said = "resting", self._clock(), how
        unit.until = unit.since + delay
        taken = [other for other in self.units if unit.takes_along and unit.name in other.after and other.child.running]
        with_it = f", with {', '.join(other.name for other in taken)}" if taken else ""
        self._say(f"{unit.name} {how}; it is started again in {delay:.0f} s{with_it}")
        for other in taken:
            other.child.kill()  # to end in order, it would wait for what has just ended
            other.state, other.since = "waiting", self._clock()


def _end(child: Child) -> str:
    code = child.exit_code
    how = "ended" if code is None else f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    said = words(child) if code is None or code >= 0 else ""
    return f"{how} ({said})" if said else how


def words(child: Child) -> str:
    """The last thing that a child said, in one line: its error if there is one."""
    lines = [line.strip() for line in child.last_lines(20) if line.strip()]
    errors = [line for line in lines if line.startswith("sentinel: ")]
    said = (errors or lines or [""])[-1].removeprefix("sentinel: ")
    if said.startswith("{"):
        said = _event(said)
    return said if len(said) <= WORDS_MAX else f"{said[: WORDS_MAX - 1]}…"


def _event(line: str) -> str:
    """A structured line of a log as its event and error."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    return " ".join(str(entry[name]) for name in ("event", "error", "reason") if entry.get(name))
