"""One simulated installation: servers, workers and their supervisor, producers. `people` act on it; `striking` has the
faults strike it.

A worker that is killed, or that ends by an error that a restart may mend, is started again after a moment. Any other
error, and anything that must never happen at the moment at which it happens, is noted in `wrong`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from core import control_stream
from core.codec import decode_control, encode
from core.context import Resolver
from core.errors import BadInput, Conflict, Corrupt, SentinelError, Unavailable
from core.events import LogCreated, Position
from core.log.archive.archive import Archive
from core.log.archive.archived import ArchivedLog
from core.log.base import EventLog, Sealed
from core.settings import Settings
from ingest.stats import Stats
from ingest.worker import Worker
from tests.builders.events import HISTORY
from tests.builders.models import load_tiny
from tests.simulation import archive, consumers, responding, seams
from tests.simulation.archive import SimulatedStore
from tests.simulation.broker import Broker, Stored, Topic
from tests.simulation.disk import Disk
from tests.simulation.faults import Fault
from tests.simulation.logs import Connection, Server
from tests.simulation.people import People
from tests.simulation.scenario import ROLES, Scenario
from tests.simulation.striking import Striker
from tests.simulation.traffic import Planned
from tests.simulation.world import Process, World, text_of

SNAPSHOTS = "/snapshots"
LIMIT_S = 240.0
"""Simulated seconds within which everything must be decided."""
RESTART_S = 0.4


@dataclass(slots=True)
class Sent:
    """A message in one of the source topics, and where. message: as planned; None if a responder sent it."""

    message: Planned | None
    role: str
    topic_id: str
    partition: int
    offset: int


@dataclass
class Stage:
    """See the module's head. struck: the faults that struck, with the call; happened: rare events by name."""

    scenario: Scenario
    faults: Sequence[Fault]
    tracing: bool = False
    wrong: list[str] = field(default_factory=list)
    struck: list[Fault] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    sent: list[Sent] = field(default_factory=list)
    appended: dict[tuple[int, Position], set[bytes]] = field(default_factory=dict)
    """The scores that any log server has ever held, by partition and position."""
    published: dict[tuple[int, Position], set[tuple[str, float]]] = field(default_factory=dict)
    """What the topic of decisions says, by partition and position: decision and probability."""

    def __post_init__(self) -> None:
        s = self.scenario
        self.world = World(s.seed, tracing=self.tracing)
        self.disk = Disk(self.world)
        self.server = Server(self.world, on_append=self._on_append)
        self.settings = Settings(
            partitions=s.partitions,
            decisions_topic="decisions",
            dead_letter_topic="rejects",
            assignment_strategy="cooperative-sticky" if s.is_cooperative else "range",
            session_timeout_ms=1_000,
            batch_size=s.batch_size,
            linger_ms=s.linger_ms,
            accounts_max=64,
            snapshot_directory=SNAPSHOTS,
            snapshot_interval_s=0.4,
            unavailable_timeout_s=1.5,
            archive="/archive" if s.archives else "",
        )
        self.broker = Broker(
            self.world,
            session_s=1.0,
            on_produce=self._on_produce,
            on_stored=self._on_stored,
            on_commit=self._on_commit,
        )
        self.chance = random.Random(f"stage {s.seed}")
        self.workers: dict[int, Worker] = {}
        self.processes: dict[int, Process] = {}
        self.is_stopping = False
        self.new_log = ""
        self.store = SimulatedStore(self.world, self.disk)
        self._sending: Planned | None = None
        self.receiver = responding.Receiver(self.world)
        self._ask_again_at = 0.0
        self.others: dict[str, Process] = {}
        self.unsent = len(s.messages)
        self.people = People(self)

    # --- the run ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """From the start until everything that was sent is decided, and everybody has stopped."""
        self._create()
        consumers.connect(self.broker)
        constants = {"OVERLAP_MIN": self.scenario.overlap_min}
        with seams.installed(self.world, self.disk, lambda: f"{self.scenario.seed}/{self.server.emptied}", **constants):
            try:
                self._run()
            finally:
                self.world.close()

    def _run(self) -> None:
        striker = Striker(self)
        self.world.on_call, self.world.on_done = striker.on_call, striker.on_done
        for number in range(self.scenario.workers):
            self.world.later(0.3 * number * self.chance.random(), partial(self._start_worker, number))
        self.world.later(0.0, self.people.watch)
        if self.scenario.archives:
            self.world.later(0.0, self._start_archiver)
        for number in range(self.scenario.responders):
            self.world.later(0.1 + 0.2 * number, partial(self._start_responder, number))
        if self.scenario.responders:
            self.world.later(0.2, self.people.switch_responders_on)
        if not self.world.run(self._is_done, LIMIT_S):
            self.wrong.append(f"stalled: {self._progress()}")
            return
        self.is_stopping = True
        for worker in self.workers.values():
            worker.stop()
        if not self.world.run(lambda: all(p.ended for p in self.processes.values()), 60.0):
            self.wrong.append("a worker does not stop")
        if self.scenario.archives:
            self.happened["segments"] += sum(name.endswith(".decisions.parquet") for name in self.disk.names)

    def _create(self) -> None:
        s = self.scenario
        for name in ROLES:
            self.broker.create(name, s.partitions, takes_append_time=s.takes_append_time)
        for name in ("decisions", "rejects"):
            self.broker.create(name, 1)
        if s.is_history:
            self.server.write(lambda log: log.append_control([encode(HISTORY)], 0))
            self.server.begun = 1
        for message in s.messages:
            if message.at:
                self.world.later(message.at, partial(self.send, message))
            else:
                self.send(message)
        for act in s.acts:
            self.world.later(act.at, partial(self.people.act, act.name))

    def send(self, message: Planned) -> None:
        """Send it now, or once its topic is there."""
        topic = self.broker.topics.get(message.role)
        if topic is None:
            self.world.later(0.1, partial(self.send, message))
            return
        self._sending = message
        self.broker.append(message.role, message.key.encode(), message.value, message.timestamp, gap=message.gap)
        self._sending = None
        self.unsent -= 1

    # --- workers ----------------------------------------------------------------------------------------------------

    def open_log(self) -> EventLog:
        """A process's way to the log."""
        hot = Connection(self.server)
        return ArchivedLog(hot, Archive(self.store)) if self.scenario.archives else hot

    def _start_archiver(self) -> None:
        if self.is_stopping or self.world.closed:
            return
        partitions = range(self.scenario.partitions)
        hot = Connection(self.server)
        process = self.world.start(
            "archiver", lambda: archive.work(self.world, hot, self.store, partitions, self._archiver_failed)
        )
        self.others["archiver"] = process
        process.at_end.append(partial(self._archiver_ended, process))

    def _start_responder(self, number: int) -> None:
        if self.is_stopping or self.world.closed:
            return
        name = f"responder-{number}"
        log = self.open_log()
        process = self.world.start(
            name, lambda: responding.work(self.world, self.settings, log, self.receiver, lambda: self.is_stopping)
        )
        self.others[name] = process
        process.at_end.append(partial(self._responder_ended, number, process))

    def _responder_ended(self, number: int, process: Process) -> None:
        error = process.error
        if error is not None:
            self.happened[f"responder ended by {type(error).__name__}"] += 1
            self.world.note(f"{process.name}: ended by {text_of(error)}")
            has_no_log = isinstance(error, BadInput) and not self.has_begun()
            if not self._may_end_by(error) and not has_no_log and process.world.now > 1.0:
                self.wrong.append(f"{process.name} ended by {text_of(error)}")
        if not self.world.closed:
            self.world.later(RESTART_S * self.chance.random(), partial(self._start_responder, number))

    def _archiver_failed(self, said: str) -> None:
        self.happened["archiver failed"] += 1
        self.world.note(f"    archiver: {said}")

    def _archiver_ended(self, process: Process) -> None:
        if process.error is not None:
            self.wrong.append(f"the archiver ended by {text_of(process.error)}")
        if not self.world.closed:
            self.world.later(RESTART_S, self._start_archiver)

    def kill_everybody(self) -> None:
        """Kill all workers, responders and the archiver."""
        for process in [*self.processes.values(), *self.others.values()]:
            if not process.ended:
                self.world.kill(process)

    def log_of_all(self) -> EventLog:
        """The log as the servers hold it in the end, without a network."""
        return ArchivedLog(self.server.log, Archive(self.store)) if self.scenario.archives else self.server.log

    def _start_worker(self, number: int) -> None:
        if self.has_begun():
            self.new_log = ""  # what somebody said of one loss is not said of the next
        if not self.is_stopping:
            process = self.world.start(f"worker-{number}", partial(self._work, number))
            self.processes[number] = process
            process.at_end.append(partial(self._worker_ended, number, process))

    def _work(self, number: int) -> None:
        log = self.open_log()
        worker = Worker(self.settings, log, Resolver(log.get_blob, load_tiny), stats=Stats(None), new_log=self.new_log)
        self.workers[number] = worker
        worker.run()

    def _worker_ended(self, number: int, process: Process) -> None:
        self.workers.pop(number, None)
        if process.error is not None:
            self.happened[f"ended by {type(process.error).__name__}"] += 1
            self.world.note(f"{process.name}: ended by {text_of(process.error)}")
            if not self._may_end_by(process.error):
                self.wrong.append(f"{process.name} ended by {text_of(process.error)}")
            if isinstance(process.error, BadInput) and self.server.backup is None and not self.has_begun():
                self.world.later(1.0, self.people.begin_anew)
        if not self.is_stopping and not self.world.closed:
            self.world.later(RESTART_S * self.chance.random(), partial(self._start_worker, number))

    def _may_end_by(self, error: BaseException) -> bool:
        """Whether a restart, or a person, mends what ended a worker."""
        is_damaged = {"log forgets", "log emptied"} & {fault.kind for fault in self.struck}
        if isinstance(error, Unavailable):
            return True
        if isinstance(error, Conflict | Corrupt):
            return bool(is_damaged)
        may_refuse = {"log emptied", "grown", "recreated"} & {fault.kind for fault in self.struck}
        return isinstance(error, BadInput) and bool(may_refuse or (is_damaged and not self.has_begun()))

    # --- what is watched --------------------------------------------------------------------------------------------

    def _on_append(self, partition: int, sealed: Sealed) -> None:
        if self.server.begun <= 1:
            self.server.begun = self.server.writes
        for position, payload in sealed.batch.scores:
            self.appended.setdefault((partition, position), set()).add(payload)

    def _on_produce(self, topic: str, value: bytes | None) -> None:
        if topic == "decisions":
            said = msgspec.json.decode(value or b"", type=dict[str, Any])
            place = said["partition"], Position.parse(said["position"])
            if place not in self.appended:
                self.wrong.append(f"published before it was in the log: {place[0]} {place[1]}")

    def _on_stored(self, topic: Topic, partition: int, message: Stored) -> None:
        if topic.name in ROLES:
            self.sent.append(Sent(self._sending, topic.name, topic.identity, partition, message.offset))
        if topic.name == "decisions":
            said = msgspec.json.decode(message.value or b"", type=dict[str, Any])
            place = said["partition"], Position.parse(said["position"])
            self.published.setdefault(place, set()).add((said["decision"], said["probability"]))

    def _on_commit(self, topic: str, partition: int, offset: int) -> None:
        head = self.server.log.head(partition).transactions
        if offset > head.offset and not self.server.lost_tail and not self.server.emptied and topic == ROLES[0]:
            self.wrong.append(f"committed offset {offset} of partition {partition}, but the log ends at {head}")

    def _is_done(self) -> bool:
        if self.unsent or self.people.undone or self.server.backup is not None or self.wrong:
            return not self.unsent and not self.people.undone and bool(self.wrong)
        log = self.server.log
        if not self.has_begun():
            return False
        for p in range(self.scenario.partitions):
            head = log.head(p)
            for role, at in zip(ROLES, (head.transactions, head.feedback), strict=True):
                topic = self.broker.topics.get(role)
                if topic is None or len(topic.partitions) != self.scenario.partitions:
                    return False
                part = topic.partitions[p]
                if part.messages and at.offset != part.messages[-1].offset + 1:
                    return False
        if not (self._is_of_newest_generation() and self._is_accepted() and self._is_published()):
            return False
        return not self.scenario.responders or self._is_responded()

    def _is_responded(self) -> bool:
        """Whether everything that alerts ask for is done; asked ten times a second."""
        if self.world.now >= self._ask_again_at:
            self._ask_again_at = self.world.now + 0.1
            try:
                return responding.is_finished(self.log_of_all(), range(self.scenario.partitions))
            except SentinelError:
                return False
        return False

    def _is_accepted(self) -> bool:
        """Whether what Kafka deleted before it was decided is known to be lost."""
        if not self.happened["expired"]:
            return True
        skipped = control_stream.current(self.server.log).skipped
        for p in range(self.scenario.partitions):
            head = self.server.log.head(p)
            for role, at in zip(ROLES, (head.transactions, head.feedback), strict=True):
                start = self.broker.topics[role].partitions[p].start
                if max(at.offset, skipped.get((role, p), (0, 0))[1]) < start:
                    return False
        return True

    def _is_published(self) -> bool:
        """Whether all that the log holds was published."""
        log = self.log_of_all()
        for p in range(self.scenario.partitions):
            if any((p, e.id) not in self.published for e in log.read(p, "scores", count=10**6)):
                return False
        return True

    def has_begun(self) -> bool:
        """Whether the log has an identity: it lacks one after the server was emptied."""
        first = self.server.log.read_control(0, 3)
        return any(isinstance(decode_control(payload), LogCreated) for _, payload in first)

    def _is_of_newest_generation(self) -> bool:
        """Whether the log names the topics that there are, if one was made again."""
        if not self.happened["recreated"]:
            return True
        state = control_stream.current(self.server.log)
        if not state.generations:
            return False
        for p in range(self.scenario.partitions):
            head = self.server.log.head(p)
            for role, at in zip(ROLES, (head.transactions, head.feedback), strict=True):
                known, topic = state.generations[role], self.broker.topics[role]
                if known.topic_id != topic.identity:
                    return False
                if topic.partitions[p].messages and at.generation != known.number:
                    return False
        return True

    def _progress(self) -> str:
        heads = [self.server.log.head(p) for p in range(self.scenario.partitions)]
        ends = [
            [part.end for part in self.broker.topics[role].partitions] for role in ROLES if role in self.broker.topics
        ]
        parked = control_stream.current(self.server.log).parked
        return (
            f"at {[(str(h.transactions), str(h.feedback)) for h in heads]}, Kafka ends at {ends}, parked {parked},"
            f" ended {dict(self.happened)}, processes {[(p.name, p.ended) for p in self.processes.values()]}"
        )
