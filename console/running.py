"""`sentinel run` and `up`: every process of a system on this machine, supervised until it is asked to stop.

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

import msgspec

from console import wiring
from console.api import users as known
from console.api.users import UserFile
from console.direct_http import open_url
from console.process_ids import ProcessId, process_id
from console.processes import Place, Process, chosen, metrics_port
from console.run_folder import STATE, ProcessState, RunState
from console.run_logs import log_files, shorten
from console.run_place import Servers, write_environment
from console.service import Service, read_stats
from console.supervisor import Supervisor, Unit
from core.errors import SentinelError
from core.files import write_atomic
from core.settings import Settings
from ingest import backlog, kafka_client

POLL_S = 0.1
DRAIN_S = 10.0
SHORTEN_S = 30.0
"""How often logs are looked at that have become too long."""


IN_TERMINAL = "Ctrl-C stops everything; the same command goes on from there\n"
IN_BACKGROUND = "sentinel status shows what runs; sentinel down stops everything, and sentinel up goes on from there"


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
        self._id = process_id(os.getpid()) or ProcessId(os.getpid(), "")
        self._started_at = int(time.time() * 1000)
        self._shortened = time.monotonic()
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
                self._shorten_logs()
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

    def _shorten_logs(self) -> None:
        if time.monotonic() - self._shortened < SHORTEN_S:
            return
        self._shortened = time.monotonic()
        for file in log_files(self.place.directory).values():
            shorten(file)

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
        settings = msgspec.structs.replace(s, metrics_port=metrics_port(process, s.metrics_port))
        service = Service(process.name, process.command(self.place), settings, self.place.directory)
        questions = {"running": None, "partitions": self._owns_all, "http": self._answers}
        return Unit(
            service,
            after=(*(("valkey", "broker") if stack else ()), *process.after),
            is_ready=questions[process.ready],
            before=partial(self.place.stats.unlink, missing_ok=True) if is_worker else _nothing,
        )

    def _owns_all(self) -> bool:
        stats = read_stats(self.place.stats)
        if stats is None:
            return False
        return self.servers.stack is None or len(stats["partitions"]) == self.servers.settings.partitions

    def _answers(self) -> bool:
        return answers(f"{self.place.url}/readyz")

    def _changed(self) -> None:
        does = {process.name: process.does for process in self.processes}
        for unit in self.supervisor.units:
            if unit.was_ready and unit.name not in self._announced:
                self._announced.add(unit.name)
                if unit.name in does:
                    self.say(f"{unit.name:<11} {does[unit.name]}")
                if unit.name == "console":
                    self.ready()
        found = [self._state_of(unit) for unit in self.supervisor.units]
        config = None if self.place.config is None else str(self.place.config)
        state = RunState(
            self._id,
            self.place.url,
            self._started_at,
            config,
            is_local=self.servers.stack is not None,
            processes=found,
            metrics_host=self.servers.settings.metrics_host,
        )
        with contextlib.suppress(OSError):  # a full disk stops no process
            write_atomic(self._state_file, msgspec.json.encode(state), b"\n", durable=False)

    def _state_of(self, unit: Unit) -> ProcessState:
        since = time.time() - (time.monotonic() - unit.since if unit.since else 0.0)
        pid = unit.child.pid if unit.child.running else None
        process = process_id(pid) if pid is not None else None
        first = self.servers.settings.metrics_port
        port = next((metrics_port(each, first) for each in self.processes if each.name == unit.name), 0)
        return ProcessState(unit.name, unit.state, int(since * 1000), unit.restarts, unit.said, process, port)

    def _before_stop(self, name: str) -> None:
        if name != "worker" or self.servers.stack is None:
            return
        try:
            left = _left(self.servers.settings)
        except SentinelError as error:
            self.say(f"whether everything is decided is not known: {error}")
            return
        if left:
            self.say(f"{left:,} messages were not decided, and the local broker forgets them")


def _nothing() -> None:
    pass


def answers(url: str) -> bool:
    """Whether a server says 200 there."""
    try:
        with open_url(url, timeout=1.0) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def _left(s: Settings) -> int:
    """How many messages are undecided, after the worker had up to DRAIN_S to decide all. Raises Unavailable."""
    deadline = time.monotonic() + DRAIN_S
    with contextlib.closing(wiring.open_log(s)) as log:
        while (left := backlog.undecided(s, log)) and time.monotonic() < deadline:
            time.sleep(POLL_S)
    return left


def run(servers: Servers, place: Place, options: frozenset[str], say: Callable[[str], None], closing: str) -> None:
    """Run until stopped, and say what a person needs to know. closing: how they stop it. Raises SentinelError."""
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
        say("")
        if owner:
            link = known.login_link(users, owner, int(time.time() * 1000), place.url)
            say(f"  open {link}")
            say("")
            say(f"this logs in as {owner}, once, within {known.LINK_MINUTES} minutes")
            say(f"another link: sentinel user link {owner} --url {place.url}{file_option}")
        else:
            say(f"  open {place.url}")
            say("")
            say(f"nobody is an administrator: sentinel user add NAME --role admin --password{file_option}")
        if environment is not None:
            say(f"commands in another terminal: . {shown(environment)}")
        say(f"logs of all processes: {shown(place.directory)}/*.log")
        say(closing)

    Run(servers, place, options, say, ready).until_stopped()
    say("stopped")


def say(line: str) -> None:
    """Tell the person who watches."""
    print(line, flush=True)


def shown(path: Path) -> str:
    """The path as short as it can be written here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
