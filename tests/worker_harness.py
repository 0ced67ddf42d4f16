"""What the end-to-end tests of the ingest worker share: a stage of servers, workers on it, and what their log must
hold.

`Stage` is one log prefix, pair of topics and consumer group on running servers. A worker is a child process
(`Stage.worker`, to kill) or a thread of the test (`Threaded`, quick to start). `assert_sound` checks everything that
holds for any log: the chain of seals, the order of IDs, and that a replay decides every transaction to the same bytes.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from console import wiring
from console.service import Service, read_stats
from core import control_stream, pipeline, verification
from core.codec import decode_reject, encode
from core.events import Control, Position
from core.features.state import AccountState
from core.identity import required
from core.log.base import Entry, EventLog, Head, Stream
from core.log.memory import MemoryLog
from core.replay import Timeline
from core.settings import Settings
from core.verification import Verification
from ingest import kafka_client
from ingest.admission import admit
from ingest.intake import Message
from ingest.partition import Owned, finish
from ingest.producer import publish
from ingest.screening import screen
from ingest.stats import Stats
from ingest.worker import Worker
from sources.record import Record
from sources.synthetic import START_MS, SyntheticConfig, SyntheticStream
from tests.builders import batches
from tests.builders.events import HISTORY

WAIT_S = 60.0
Reload = Callable[[Owned, Exception], None]
_numbers = itertools.count()


class Raw(NamedTuple):
    """A Kafka message to produce, or one that was read back."""

    topic: str
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int = -1
    offset: int = -1


def wait_for(condition: Callable[[], Any], what: str, seconds: float = WAIT_S) -> Any:
    """Ask until the answer is true, and return it. Fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain: {what}"
        time.sleep(0.01)
    return answer


@dataclass(frozen=True)
class Stage:
    """Settings that name the servers, topics, group and prefix of one test, and a directory for its files."""

    settings: Settings
    directory: Path

    def changed(self, **changes: Any) -> Stage:
        """The same stage with other settings."""
        return Stage(msgspec.structs.replace(self.settings, **changes), self.directory)

    def create_topics(self) -> None:
        s = self.settings
        names = [s.transactions_topic, s.feedback_topic, s.decisions_topic, s.dead_letter_topic]
        kafka_client.create_topics(s, [name for name in names if name])

    def produce(self, records: Iterable[Record]) -> list[Record]:
        """Publish records as `sentinel produce` does; returns them."""
        kept = list(records)
        publish([kept], self.settings)
        return kept

    def send(self, messages: Iterable[Raw], **properties: Any) -> None:
        """Produce any bytes at all, in order; every delivery is confirmed."""
        failures: list[KafkaError] = []
        producer = Producer({**kafka_client.common(self.settings), "partitioner": "murmur2_random", **properties})
        for m in messages:
            producer.produce(
                m.topic,
                m.value,
                m.key,
                partition=m.partition,
                timestamp=m.timestamp,
                headers=list(m.headers) or None,
                on_delivery=lambda error, _: failures.append(error) if error else None,
            )
            producer.poll(0)
        assert producer.flush(30) == 0
        assert not failures, failures

    def messages(self, topic: str) -> list[Raw]:
        """All that the topic holds, partition by partition, in order."""
        of_groups = ("max.poll.interval.ms", "group.protocol")
        consumer = Consumer(
            {
                **{name: value for name, value in kafka_client.common(self.settings).items() if name not in of_groups},
                "group.id": "reader",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 20,
            }
        )
        described = kafka_client.describe(self.settings, [topic])[topic]
        assert described is not None, f"no topic {topic}"
        consumer.assign([TopicPartition(topic, p, 0) for p in range(described.partitions)])
        open_ends = set(range(described.partitions))
        found: list[Raw] = []
        deadline = time.monotonic() + WAIT_S
        while open_ends:
            assert time.monotonic() < deadline, f"{topic} can't be read to its end"
            for m in consumer.consume(1000, 0.2):
                error, partition = m.error(), m.partition() or 0
                if error is None:
                    pairs: Any = m.headers() or []
                    headers = tuple((str(name), bytes(value)) for name, value in pairs)
                    found.append(Raw(topic, m.key(), m.value(), m.timestamp()[1], headers, partition, m.offset() or 0))
                elif error.code() == KafkaError._PARTITION_EOF:
                    open_ends.discard(partition)
        consumer.close()
        return sorted(found, key=lambda m: (m.partition, m.offset))

    def worker(self, name: str, *flags: str) -> Service:
        """A worker as a child process, not started yet; its statistics go where `stats` reads them."""
        stats = str(self._stats_path(name))
        config = str(self.config())
        return Service(
            name, ["ingest", "--config", config, "--stats-file", stats, *flags], self.settings, self.directory
        )

    def config(self, more: str = "") -> Path:
        """A settings file with these settings but their tables, and `more` TOML."""
        config = self.directory / f"{self.settings.log_prefix}.toml"
        known = {key: value for key, value in msgspec.to_builtins(self.settings).items() if not isinstance(value, dict)}
        config.write_text("".join(f"{key} = {_toml(value)}\n" for key, value in known.items()) + more)
        config.chmod(0o600)
        return config

    def _stats_path(self, name: str) -> Path:
        return self.directory / f"{name}.stats.json"

    def stats(self, name: str) -> dict[str, Any]:
        """What the worker of that name last wrote; {} before that."""
        return read_stats(self._stats_path(name)) or {}

    def owned(self, name: str) -> list[int]:
        """The partitions that the worker of that name last said it owns."""
        partitions: list[int] = self.stats(name).get("partitions", [])
        return partitions

    @contextmanager
    def log(self) -> Iterator[EventLog]:
        """The event log, on a connection of its own."""
        log = wiring.open_log(self.settings)
        try:
            yield log
        finally:
            log.close()

    def drain(self) -> Stats:
        """Run one undisturbed worker, in this process, until everything that was produced is decided.

        It has a consumer group of its own: the local broker may never let a group form again of which a member was
        killed, and the log's position does not depend on the group.
        """
        worker = Threaded(self.changed(consumer_group=f"{self.settings.consumer_group}-{next(_numbers)}"), drain=True)
        worker.start()
        worker.join()
        return worker.stats


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(list(value) if isinstance(value, tuple) else value)


def stage(kafka_servers: str, host: str, port: int, directory: Path, *, history: bool = True, **changes: Any) -> Stage:
    """A stage on these servers with names that no other test of the run uses. Its messages are history, whenever they
    are dated, unless `history` is off.
    """
    name = f"e{os.getpid()}-{next(_numbers)}"
    settings = Settings(
        kafka_servers=kafka_servers,
        redis_host=host,
        redis_port=port,
        log_prefix=name,
        consumer_group=name,
        transactions_topic=f"{name}.transactions",
        feedback_topic=f"{name}.feedback",
        dead_letter_topic=f"{name}.rejects",
        snapshot_directory=str(directory / f"{name}.snapshots"),
        partitions=4,
        session_timeout_ms=1_200,
        assignment_strategy="range",  # as on the local stack
    )
    made = Stage(msgspec.structs.replace(settings, **changes), directory)
    if history:
        with made.log() as log:
            control_stream.append(log, lambda known: [] if known.state.histories else [HISTORY])
    return made


class Threaded:
    """A worker in a thread of this process. A context manager; leaving it stops the worker and raises what it
    raised.
    """

    def __init__(self, on: Stage, *, drain: bool = False, log: EventLog | None = None) -> None:
        self.stats = Stats(None)
        self._log = log or wiring.open_log(on.settings)
        self.worker = Worker(on.settings, self._log, wiring.open_resolver(self._log), drain=drain, stats=self.stats)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def _run(self) -> None:
        try:
            self.worker.run()
        except BaseException as error:  # noqa: BLE001 - `join` raises it
            self._error = error

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """Wait until it has ended, and raise what it raised."""
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive(), "the worker does not end"
        self._log.close()
        if self._error is not None:
            raise self._error

    def check(self) -> None:
        """Raise what the worker raised, if it has ended."""
        if not self._thread.is_alive():
            self.join()

    def stop(self) -> None:
        self.worker.stop()
        self.join()

    def __enter__(self) -> Threaded:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


# --- streams -------------------------------------------------------------------------------------------------------


def synthetic(
    transactions: int, *, seed: int = 7, accounts: int = 300, days: float = 12.0, start: int = START_MS
) -> list[Record]:
    """Transactions and, mixed in by time, verdicts on many of them."""
    config = SyntheticConfig(
        transactions=transactions,
        accounts=accounts,
        days=days,
        start=start,
        merchants=200,
        fraud_rate=0.05,
        label_delay_days=1.0,
        seed=seed,
    )
    return [r for chunk in SyntheticStream(config, flush_feedback=True, labels="all").records() for r in chunk]


def count(records: Iterable[Record], topic: str) -> int:
    return sum(r.topic == topic for r in records)


# --- what the log holds --------------------------------------------------------------------------------------------


@dataclass
class Held:
    """A partition of a log without what two runs may differ in: when it was recorded, and where batches were cut.

    rejects: (topic, position, reason, key, value), in order of topic and position.
    """

    transactions: list[tuple[Position, dict[str, Any]]]
    scores: list[Entry]
    alerts: list[Entry]
    feedback: list[tuple[Position, dict[str, Any]]]
    rejects: list[tuple[str, Position, str, bytes | None, bytes | None]] = field(default_factory=list)


def held(log: EventLog, partition: int) -> Held:
    streams = batches.contents(log, partition)

    def bare(entries: list[Entry]) -> list[tuple[Position, dict[str, Any]]]:
        decoded = [(e.id, msgspec.json.decode(e.payload, type=dict[str, Any])) for e in entries]
        for _, event in decoded:
            event.pop("recorded_at", None)
        return decoded

    rejects = [decode_reject(entry.payload) for entry in streams["rejects"]]
    return Held(
        bare(streams["transactions"]),
        streams["scores"],
        streams["alerts"],
        bare(streams["feedback"]),
        sorted((r.topic, Position.parse(r.position), r.reason, r.key, r.value) for r in rejects),
    )


def log_of(on: Stage) -> list[Held]:
    """Every partition of the stage's log."""
    with on.log() as log:
        return [held(log, p) for p in range(on.settings.partitions)]


def undisturbed(on: Stage) -> list[Held]:
    """What the stage's topics come to without a worker, a group or a server: read once, decided in one go.

    For topics of one generation, and a log whose control stream did not change after its start.
    """
    memory = MemoryLog()
    found = [on.messages(name) for name in (on.settings.transactions_topic, on.settings.feedback_topic)]
    with on.log() as log:
        control = control_stream.ControlStream()
        control.advance(log)
        context = wiring.open_resolver(log).context(control.state)
        identity = required(control.state.identity)
    for partition in range(on.settings.partitions):
        owned = Owned(partition, Head(), AccountState(identity), (1, 1))
        for side, messages in zip((owned.intake.transactions, owned.intake.feedback), found, strict=True):
            side.records.extend(
                Message(m.offset, m.timestamp, m.key, m.value) for m in messages if m.partition == partition
            )
            side.at_end = True
        while (pending := owned.take(1_000_000, recorded_at=0)) is not None:
            screen([pending])
            admit(pending, context.histories)
            decided = pipeline.decide(context, [pending.work])[0]
            finish([pending], [decided], context.position, control.digest)
            sealed = pending.sealed
            assert sealed is not None
            owned.head = memory.append(partition, sealed.batch, sealed.expected)
    return [held(memory, p) for p in range(on.settings.partitions)]


def total(on: Stage, log: EventLog, stream: Stream = "transactions") -> int:
    """Entries of one stream in all partitions."""
    return sum(log.length(p, stream) for p in range(on.settings.partitions))


def wait_for_decisions(on: Stage, log: EventLog, goal: int, still: Callable[[], None] = lambda: None) -> None:
    """Wait until the log holds `goal` decisions; `still` raises if there is no more hope."""

    def reached() -> bool:
        still()
        return total(on, log) >= goal

    wait_for(reached, f"{goal} decisions")


def assert_sound(on: Stage) -> list[Verification]:
    """Every partition: sealed without a gap, every ID once and ascending, and decided again to the same bytes."""
    with on.log() as log:
        timeline = Timeline(control_stream.history(log), wiring.open_resolver(log))
        found = []
        for partition in range(on.settings.partitions):
            streams = batches.contents(log, partition)
            assert batches.verify(streams) == log.head(partition)
            for entries in streams.values():
                ids = [entry.id for entry in entries]
                assert all(a < b for a, b in itertools.pairwise(ids))
            verified = verification.verify(log, partition, log.head(partition), timeline)
            assert verified.first_difference is None, str(verified.first_difference)
            assert verified.identical == verified.decisions == len(streams["transactions"])
            found.append(verified)
        return found


def assert_everything_once(on: Stage, records: list[Record], *, read_again: bool = False) -> None:
    """Each produced record is in the log exactly once, and the log holds nothing else. read_again: some were read
    twice, so a verdict may be there again, and a payment only as a reject that says so.
    """
    parts = log_of(on)
    taken = Counter(event["transaction_id"] for part in parts for _, event in part.transactions)
    produced = Counter(msgspec.json.decode(r.value)["transaction_id"] for r in records if r.topic == "transactions")
    assert not (lost := produced - taken), f"lost: {lost}"
    assert not (extra := taken - produced), f"decided again: {extra}"
    heard = Counter((e["account_id"], e["transaction_id"], e["source"]) for part in parts for _, e in part.feedback)
    said = Counter(
        (e["account_id"], e["transaction_id"], e["source"])
        for e in (msgspec.json.decode(r.value) for r in records if r.topic == "feedback")
    )
    assert not (lost := said - heard), f"verdicts lost: {lost}"
    rejects = {reason for part in parts for _, _, reason, _, _ in part.rejects}
    if read_again:
        assert heard.keys() == said.keys()
        assert rejects <= {"duplicate_transaction"}
    else:
        assert heard == said
        assert not rejects


def decoded(message: Raw) -> dict[str, Any]:
    """A message's JSON."""
    return msgspec.json.decode(message.value or b"", type=dict[str, Any])


def append_control(log: EventLog, *events: Control) -> int:
    """Append control events as a command would; returns the new position."""
    return log.append_control([encode(event) for event in events], expected=log.control_head())


def heads(on: Stage, log: EventLog) -> list[Head]:
    return [log.head(p) for p in range(on.settings.partitions)]
