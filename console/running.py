"""`sentinel run`: every process of a system on this machine, supervised until it is asked to stop.

Servers: those of the settings if they name Kafka and the log server; otherwise the local stack, whose log is kept in
`directory`. The local broker keeps nothing, so before it is stopped, whoever sends is stopped first, and then the
worker decides what is left. Its topics are made again at the next start, and a new generation of positions begins.

One log file for each process lies in the directory of the run (`console.run_place`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from urllib.error import URLError
from urllib.request import urlopen

import msgspec

from console import wiring
from console.api import users as known
from console.api.users import UserFile
from console.processes import Place, Process, chosen
from console.run_place import STATE, ProcessState, RunState, Servers, write_environment
from console.service import Service, read_stats
from console.supervisor import Supervisor, Unit
from core.control_stream import current
from core.errors import SentinelError
from core.files import write_atomic
from core.settings import Settings
from ingest import kafka_client
from ingest.ownership import sources_of

POLL_S = 0.1
DRAIN_S = 10.0
LOG_BYTES_MAX = 10 * 2**20


@dataclass
class Run:
    """One run. say: called with each line for the person who watches; ready: once, when the console answers."""

    servers: Servers
    place: Place
    options: frozenset[str]
    say: Callable[[str], None]
    ready: Callable[[], None]

    def __post_init__(self) -> None:
        self._stopping = False
        self._announced: set[str] = set()
        self.processes = chosen(self.options)
        self.supervisor = Supervisor(
            [*self._server_units(), *map(self._unit, self.processes)], self.say, time.monotonic
        )

    def until_stopped(self) -> None:
        """Start everything, and keep it running until SIGINT, SIGTERM or SIGHUP. Raises SentinelError, and stops
        everything before that. A second signal ends the children at once.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)
        try:
            while not self._stopping:
                if self.supervisor.step():
                    self._changed()
                time.sleep(POLL_S)
            self.say("stopping …")
        finally:
            self.supervisor.stop(self._before_stop)
            with contextlib.suppress(OSError):
                self._state_file.unlink()

    @property
    def _state_file(self) -> Path:
        return self.place.directory / STATE

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        if self._stopping:
            raise KeyboardInterrupt  # their watchdogs end the children
        self._stopping = True

    def _server_units(self) -> list[Unit]:
        s, stack = self.servers
        if stack is None:
            return []
        topics = [name for name in (s.transactions_topic, s.feedback_topic, s.dead_letter_topic) if name]
        # After a restart the broker is empty and knows no producer, so its clients begin anew, too.
        make_topics = partial(kafka_client.create_topics, s, topics)
        return [Unit(stack.valkey), Unit(stack.broker, then=make_topics, takes_along=True)]

    def _unit(self, process: Process) -> Unit:
        s, stack = self.servers
        is_worker = process.ready == "partitions"
        # One port can't serve the metrics of two processes: the setting is the worker's.
        settings = s if is_worker else msgspec.structs.replace(s, metrics_port=0)
        service = Service(process.name, process.command(self.place), settings, self.place.directory)
        questions = {"running": None, "partitions": self._owns_all, "http": self._answers}
        return Unit(
            service,
            after=(*(("valkey", "broker") if stack else ()), *process.after),
            is_ready=questions[process.ready],
            before=partial(self._clear, service.log_path, is_worker),
        )

    def _clear(self, log: Path, is_worker: bool) -> None:
        """Put a long log aside, and forget what an earlier worker owned."""
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            os.replace(log, log.with_suffix(".log.1"))
        if is_worker:
            self.place.stats.unlink(missing_ok=True)

    def _owns_all(self) -> bool:
        stats = read_stats(self.place.stats)
        if stats is None:
            return False
        return self.servers.stack is None or len(stats["partitions"]) == self.servers.settings.partitions

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.place.url}/readyz", timeout=1.0) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def _changed(self) -> None:
        does = {process.name: process.does for process in self.processes}
        for unit in self.supervisor.units:
            if unit.was_ready and unit.name not in self._announced:
                self._announced.add(unit.name)
                if unit.name in does:
                    self.say(f"{unit.name:<11} {does[unit.name]}")
                if unit.name == "console":
                    self.ready()
        found = [ProcessState(u.name, u.state, u.child.pid, u.restarts) for u in self.supervisor.units]
        with contextlib.suppress(OSError):  # a full disk stops no process
            content = msgspec.json.encode(RunState(os.getpid(), self.place.url, found))
            write_atomic(self._state_file, content, b"\n", durable=False)

    def _before_stop(self, name: str) -> None:
        if name != "worker" or self.servers.stack is None:
            return
        try:
            left = _drained(self.servers.settings)
        except SentinelError as error:
            self.say(f"whether everything is decided is not known: {error}")
            return
        if left:
            self.say(f"{left:,} messages were not decided, and the local broker forgets them")


def _drained(s: Settings) -> int:
    """Wait until the log has everything that the broker has; returns how many messages are left after DRAIN_S."""
    deadline = time.monotonic() + DRAIN_S
    names = (s.transactions_topic, s.feedback_topic)
    with contextlib.closing(wiring.open_log(s)) as log:
        ends = kafka_client.end_offsets(s, list(names))
        while True:
            state = current(log)
            left = 0
            for p in range(s.partitions):
                read = sources_of(state, p).offsets(log.head(p))
                left += sum(max(ends[name][p] - max(at, 0), 0) for name, at in zip(names, read, strict=True))
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(POLL_S)


def run(servers: Servers, place: Place, options: frozenset[str]) -> None:
    """Run until stopped, and say what a person needs to know. Raises SentinelError."""
    s = servers.settings
    log_server = f"log {s.redis_host}:{s.redis_port}"
    if servers.stack is None:
        say(f"{'servers':<11} Kafka {s.kafka_servers}, {log_server} (from the settings)")
    else:
        say(f"{'servers':<11} broker {s.kafka_servers}, {log_server} (of its own; data in {shown(place.directory)})")
    environment = write_environment(servers, place.directory)
    users = UserFile(place.users)
    file_option = known.file_option(place.users)
    owner = known.owner(users, int(time.time() * 1000))

    def ready() -> None:
        if owner:
            link = known.login_link(users, owner, int(time.time() * 1000), place.url)
            say(f"\n  open {link}\n")
            say(f"this logs in as {owner}, once, within {known.LINK_MINUTES} minutes")
            say(f"another link: sentinel user link {owner} --url {place.url}{file_option}")
        else:
            say(f"\n  open {place.url}\n")
            say(f"nobody is an administrator: sentinel user add NAME --role admin --password{file_option}")
        if environment is not None:
            say(f"commands in another terminal: . {shown(environment)}")
        say(f"logs of all processes: {shown(place.directory)}/*.log")
        say("Ctrl-C stops everything; the same command goes on from there\n")

    Run(servers, place, options, say, ready).until_stopped()
    say("stopped")


def say(line: str) -> None:
    """Tell the person who watches."""
    print(line, flush=True)


def shown(path: Path) -> str:
    """The path as short as it can be written here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
