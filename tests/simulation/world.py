"""A deterministic scheduler of processes on one thread, with a clock that moves only when everybody waits.

A process is a stack of ordinary product code in a greenlet. It runs until it calls its surroundings (`World.call`) or
waits (`World.sleep`, `World.wait`); then whoever is due next runs. So the same seed and the same faults give the same
schedule, and every call is a place at which the process may be killed: before it has its effect, or after.

A killed process is unwound by `Crashed`. What its code does on the way has no effect, because every call of a dead
process raises `Crashed` again.
"""

from __future__ import annotations

import heapq
import itertools
import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from greenlet import getcurrent, greenlet

from core.errors import SentinelError

EPOCH_S = 1_790_000_000.0
"""The time of day at which every simulation begins."""
LATENCY_S = 0.002
"""The longest that a call takes when nothing is wrong."""
T = TypeVar("T")


class Crashed(BaseException):
    """The process is dead: nothing catches this but the scheduler."""


class Stuck(Exception):
    """Nobody can ever run again, or the time is over."""


@dataclass(eq=False, slots=True)
class Task:
    """A thread of a process. It is due at `wake_at`, or as soon as `is_ready` says so."""

    process: Process
    greenlet: greenlet
    wake_at: float
    is_ready: Callable[[], bool] | None = None


@dataclass(eq=False, slots=True)
class Process:
    """A process of one machine. clock_ahead_s: by how much its wall clock is wrong. frozen_until: stopped by SIGSTOP.

    error: what ended it, if anything did; ended: whether it runs no more; killed: whether it was killed.
    """

    world: World
    name: str
    ended: bool = False
    killed: bool = False
    error: BaseException | None = None
    frozen_until: float = 0.0
    clock_ahead_s: float = 0.0
    calls: int = 0
    tasks: list[Task] = field(default_factory=list)
    at_end: list[Callable[[], None]] = field(default_factory=list)

    def end(self) -> None:
        """Run no more."""
        if not self.ended:
            self.ended = True
            for each in self.at_end:
                each()


class World:
    """The scheduler and its clock. now: seconds since the beginning."""

    def __init__(self, seed: int, *, tracing: bool = False) -> None:
        self.random = random.Random(f"world {seed}")
        self.now = 0.0
        self.calls = 0
        self.trace: list[str] = []
        self.tracing = tracing
        self.closed = False
        self.on_call: Callable[[Process, str, int], None] = lambda process, what, number: None
        self.on_done: Callable[[Process, str, int], None] = lambda process, what, number: None
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._tasks: list[Task] = []
        self._current: Task | None = None
        self._scheduler = getcurrent()

    # --- processes --------------------------------------------------------------------------------------------------

    def start(self, name: str, main: Callable[[], None]) -> Process:
        """A process that runs `main` and ends with it."""
        process = Process(self, name)
        self._spawn(process, main, is_main=True)
        return process

    def thread(self, main: Callable[[], None]) -> None:
        """A thread beside the current one, in its process."""
        self._spawn(self.current, main, is_main=False)

    def _spawn(self, process: Process, main: Callable[[], None], *, is_main: bool) -> None:
        def run() -> None:
            try:
                main()
            except Crashed:
                pass
            except BaseException as error:  # noqa: BLE001 - told by the process
                if process.error is None and not process.killed:
                    process.error = error
                process.end()
            if is_main:
                process.end()

        task = Task(process, greenlet(run, parent=self._scheduler), self.now)
        process.tasks.append(task)
        self._tasks.append(task)

    def kill(self, process: Process) -> None:
        """End the process now, wherever it is. Only from a timer, or by the process itself (`die`)."""
        process.killed = True
        process.end()
        self.note(f"{process.name}: killed")

    def die(self) -> NoReturn:
        """End the current process here."""
        self.kill(self.current)
        raise Crashed

    @property
    def current(self) -> Process:
        """The process that runs now."""
        assert self._current is not None, "no process runs"
        return self._current.process

    @property
    def is_within(self) -> bool:
        """Whether a process runs now, rather than the simulation itself."""
        return self._current is not None

    # --- time and calls ---------------------------------------------------------------------------------------------

    def wall(self) -> float:
        """The time of day, s, by the current process's clock."""
        return EPOCH_S + self.now + (self._current.process.clock_ahead_s if self._current is not None else 0.0)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something by and by, whatever becomes of the process that asks for it."""
        heapq.heappush(self._timers, (self.now + max(seconds, 0.0), next(self._numbers), act))

    def sleep(self, seconds: float) -> None:
        """Let others run for so long."""
        self._pause(self.now + max(seconds, 0.0), None)

    def wait(self, seconds: float, is_ready: Callable[[], bool]) -> bool:
        """Wait until it is so, or for `seconds`. Whether it is so."""
        if not is_ready():
            self._pause(self.now + max(seconds, 0.0), is_ready)
        return is_ready()

    def call(self, what: str, effect: Callable[[], T]) -> T:
        """A call of the current process to its surroundings: takes a moment, then has its effect."""
        process = self._alive()
        number, self.calls = self.calls, self.calls + 1
        process.calls += 1
        if self.tracing:
            self.note(f"{process.name}: {what}", number)
        self.on_call(process, what, number)
        self.sleep(self.random.random() * LATENCY_S)
        result = effect()
        self.on_done(process, what, number)
        if process.frozen_until > self.now:
            self.sleep(0.0)
        return result

    def _alive(self) -> Process:
        if self.closed or self._current is None or self._current.process.ended:
            raise Crashed
        return self._current.process

    def _pause(self, until: float, is_ready: Callable[[], bool] | None) -> None:
        self._alive()
        task = self._current
        assert task is not None
        task.wake_at, task.is_ready = until, is_ready
        self._scheduler.switch()
        task.is_ready = None
        self._alive()

    def note(self, text: str, number: int | None = None) -> None:
        """Add a line to the trace."""
        if self.tracing:
            self.trace.append(f"{self.now:9.4f} {'' if number is None else number:>5} {text}")

    # --- scheduling -------------------------------------------------------------------------------------------------

    def run(self, until: Callable[[], bool], seconds: float) -> bool:
        """Schedule until it is so, or for `seconds`. Whether it is so. Raises Stuck if nobody can run any more."""
        end = self.now + seconds
        while not until():
            if not self._next(end):
                return until()
        return True

    def _next(self, end: float) -> bool:
        """Let the next one run. False if nobody is due before `end`."""
        best, chosen = self._timers[0][0] if self._timers else float("inf"), None
        for task in self._tasks:
            process = task.process
            if process.ended:
                self._remove(task)
                return True
            due = task.wake_at
            if due > self.now and task.is_ready is not None and task.is_ready():
                due = self.now
            due = max(due, process.frozen_until)
            if due < best:
                best, chosen = due, task
        if best == float("inf"):
            raise Stuck("nobody can run any more")
        if best > end:
            self.now = end
            return False
        self.now = max(self.now, best)
        if chosen is None:
            heapq.heappop(self._timers)[2]()
        else:
            self._resume(chosen)
        return True

    def _resume(self, task: Task, error: BaseException | None = None) -> None:
        self._current = task
        try:
            if error is None:
                task.greenlet.switch()
            else:
                task.greenlet.throw(error)
        finally:
            self._current = None
        if task.greenlet.dead:
            self._tasks.remove(task)

    def _remove(self, task: Task) -> None:
        """Unwind a task of a process that has ended."""
        while not task.greenlet.dead:
            if not task.greenlet:
                self._tasks.remove(task)  # it has not begun
                return
            self._current = task
            try:
                task.greenlet.throw(Crashed())
            finally:
                self._current = None
        self._tasks.remove(task)

    def close(self) -> None:
        """End every process."""
        for task in list(self._tasks):
            task.process.end()
        while self._tasks:
            self._remove(self._tasks[0])
        self.closed = True
        self._timers.clear()


def text_of(error: Any) -> str:
    """An error in one line, with the places in the code that it came through if nobody raised it on purpose."""
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, SentinelError):
        return said
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return said + " at " + " ← ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in reversed(frames))
