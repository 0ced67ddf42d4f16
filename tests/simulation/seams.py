"""Puts the simulated surroundings in the place of the real ones, and takes them away again.

The product reaches its surroundings in few places: Kafka's clients are classes that it imports, clocks, threads and
randomness modules, and files are written by `core.files`. Every module of the simulated rooms that imports one of these
is found by itself, so that a new module can't escape.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import Empty
from typing import Any

import structlog
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

import core.context
import core.files
import core.pipeline
import core.program.deciding
import core.program.loading
import core.program.plan
import ingest
import projections.reference.publisher
import responders
from core.program.shipped import DEFAULT_PROGRAM
from ingest import bootstrap, evidence, ownership, snapshots, worker
from responders import engine
from tests.builders.models import ARTIFACT
from tests.simulation import clients, consumers, disk
from tests.simulation.world import World

ROOMS = (ingest, responders)
"""The packages whose modules get simulated clocks, threads and randomness."""
IDLE_S = 0.25
"""How long an idle worker waits for a message: the fewer idle rounds, the more schedules a minute."""


class _Time:
    """As the module `time`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def time(self) -> float:
        return self._world.wall()

    def time_ns(self) -> int:
        return int(self._world.wall() * 1_000_000_000)

    def monotonic(self) -> float:
        return 1_000.0 + self._world.now

    perf_counter = monotonic

    def process_time(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self._world.sleep(seconds)


class _Event:
    """As threading.Event."""

    def __init__(self, world: World) -> None:
        self._world, self._is_set = world, False

    def set(self) -> None:
        self._is_set = True

    def wait(self, timeout: float) -> bool:
        return self._world.wait(timeout, lambda: self._is_set)


class _Thread:
    """As threading.Thread."""

    def __init__(self, world: World, target: Callable[[], None]) -> None:
        self._world, self._target = world, target

    def start(self) -> None:
        self._world.thread(self._target)


class _Threading:
    """As the module `threading`; locks are never contended where a switch happens only in a call."""

    def __init__(self, world: World) -> None:
        self._world = world

    def Event(self) -> _Event:
        return _Event(self._world)

    def Thread(self, target: Callable[[], None], **more: Any) -> _Thread:
        return _Thread(self._world, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(threading, name)


class _Pending:
    """As concurrent.futures.Future."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.is_done = False
        self.outcome: Any = None
        self.error: BaseException | None = None

    def done(self) -> bool:
        return self.is_done

    def result(self) -> Any:
        while not self.is_done:
            self._world.wait(3600.0, self.done)
        if self.error is not None:
            raise self.error
        return self.outcome


class _Pool:
    """As ThreadPoolExecutor: each piece of work is a thread of the process."""

    def __init__(self, world: World) -> None:
        self._world = world

    def submit(self, act: Callable[..., Any], *arguments: Any) -> _Pending:
        pending = _Pending(self._world)

        def run() -> None:
            try:
                pending.outcome = act(*arguments)
            except Exception as error:  # noqa: BLE001 - as a pool does
                pending.error = error
            pending.is_done = True

        self._world.thread(run)
        return pending

    def shutdown(self, **how: Any) -> None:
        """Its threads end with their work."""


class _Queue:
    """As queue.SimpleQueue."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._items: deque[Any] = deque()

    def put(self, item: Any) -> None:
        self._items.append(item)

    def get_nowait(self) -> Any:
        if not self._items:
            raise Empty
        return self._items.popleft()

    def get(self, timeout: float) -> Any:
        self._world.wait(timeout, lambda: bool(self._items))
        return self.get_nowait()


class _Secrets:
    """As the module `secrets`. A log that is begun under the same `salt` has the same identity, so that two runs can be
    compared.
    """

    def __init__(self, salt: Callable[[], str]) -> None:
        self._salt = salt

    def token_hex(self, size: int) -> str:
        return hashlib.sha256(f"{self._salt()} {size}".encode()).hexdigest()[: 2 * size]


def _small_baseline() -> tuple[bytes, dict[str, object]]:
    return ARTIFACT, {"name": "tiny", "version": "1.0.0", "spec": 1}


_programs: dict[object, Any] = {}
"""What was made of programs: pure, and most of a worker's start."""


def _load(digest: str, load_blob: Callable[[str], bytes]) -> Any:
    loaded = core.program.loading.load
    if digest in ("", DEFAULT_PROGRAM):
        return loaded(digest, load_blob)
    load_blob(digest)  # the call itself may fail
    return _once((loaded, digest), lambda: loaded(digest, load_blob))


def _plan(checked: Any, kernel: Any) -> Any:
    return _once((core.program.plan.plan, id(checked)), lambda: core.program.plan.plan(checked, kernel))


def _program(plan: Any, key: Any, values: dict[str, float], disabled: tuple[str, ...]) -> Any:
    known = (core.program.deciding.Program, id(plan), key, tuple(values.items()), disabled)
    return _once(known, lambda: core.program.deciding.Program(plan, key, values, disabled))


def _once(key: object, make: Callable[[], Any]) -> Any:
    if key not in _programs:
        _programs[key] = make()
    return _programs[key]


_CLIENTS = {Consumer: consumers.Consumer, Producer: clients.Producer, AdminClient: clients.AdminClient}


def _modules() -> list[Any]:
    found = []
    for room in ROOMS:
        for each in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            found.append(importlib.import_module(each.name))
    return found


_MODULES = _modules()


@contextmanager
def installed(world: World, on: disk.Disk, salt: Callable[[], str], **constants: Any) -> Iterator[None]:
    """The surroundings are this world's within the block. constants: of `ingest.worker`, by name."""
    changed: list[tuple[Any, str, Any, bool]] = []

    def put(module: Any, name: str, value: Any) -> None:
        changed.append((module, name, module.__dict__.get(name), name in module.__dict__))
        setattr(module, name, value)

    stand_ins = {
        time: _Time(world),
        threading: _Threading(world),
        random: world.random,
        secrets: _Secrets(salt),
    }
    for module in _MODULES:
        for name, value in list(vars(module).items()):
            for real, stand_in in stand_ins.items():
                if value is real:
                    put(module, name, stand_in)
            if isinstance(value, type):
                for real, stand_in in _CLIENTS.items():
                    if issubclass(value, real):
                        put(module, name, stand_in)
            if value is ThreadPoolExecutor:
                put(module, name, lambda *arguments, **options: _Pool(world))
    put(projections.reference.publisher, "time", _Time(world))
    put(engine, "SimpleQueue", lambda: _Queue(world))
    put(core.files, "os", on.system())
    put(core.files, "fcntl", on.locks())
    put(core.files, "open", on.open)
    for module in (ownership, evidence):
        put(module, "Path", on.path)
    put(snapshots, "Path", on.path)
    put(bootstrap, "shipped_baseline", _small_baseline)
    put(core.pipeline, "warm_up", lambda context, identity: None)
    put(core.context, "load", _load)
    put(core.context, "plan", _plan)
    put(core.context, "Program", _program)
    for name, value in {"IDLE_S": IDLE_S, **constants}.items():
        put(worker, name, value)
    disk.mount(on)
    logging = structlog.get_config()
    structlog.configure(processors=[_note(world)], wrapper_class=structlog.BoundLogger, cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**logging)
        for module, name, value, was_there in reversed(changed):
            if was_there:
                setattr(module, name, value)
            else:
                delattr(module, name)


def _note(world: World) -> Callable[..., Any]:
    def processor(logger: Any, method: str, event: dict[str, Any]) -> Any:
        if world.tracing and world.is_within and method != "debug":
            fields = ", ".join(f"{name}={value}" for name, value in event.items() if name != "event")
            world.note(f"    {world.current.name} says {event['event']}: {fields}"[:300])
        raise structlog.DropEvent

    return processor


def unwatched() -> list[str]:
    """Modules of the rooms that take a clock, a thread or randomness by another way than the module's name."""
    wrong = []
    for module in _MODULES:
        for name, value in vars(module).items():
            if any(value is real for real in (time.time, time.monotonic, time.sleep, threading.Thread, random.random)):
                wrong.append(f"{module.__name__}.{name}")
    return wrong
