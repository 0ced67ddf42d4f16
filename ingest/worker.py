"""The ingest worker: Kafka in, decisions in the log, alerts out. Wires the pure pieces to the servers; decides nothing
itself.

One iteration, in this order (the order is what makes it exactly once):
 1. poll        fetch from both topics into the owned partitions' intakes; rebalances happen here
 2. control     read new control events; the next batch is decided under the newest context
 3. decide      take merged messages of every partition and decide them: states now run ahead of the log
 4. settle      wait for the append that step 5 of the last iteration started
                  returned        → the decisions are acknowledged: publish, count, remember the head
                  ConcurrencyError → drop that partition's newer work and load it again from the log
                  Unavailable      → try again until `unavailable_timeout_s`; then stop with an error
 5. append      dead letters are produced and flushed, then one conditional append per partition, all in one round trip,
                on a second thread: the server syncs its disk while this thread polls and decides the next batch

Kafka's committed offsets are for display only. On assignment a partition is read from the log's own position; whatever
a crash leaves behind is read and decided again, to the same bits. A worker that lost a partition without knowing it
can't harm: its next append is refused (I1).

Cost per transaction at 1,000 a batch: fetch 1.5 µs, decode 1, decide 6, encode 1.5, seal 1, append 5 (mostly on the
other thread).
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from core import pipeline, replay
from core.control import Context, Resolver
from core.control_stream import ControlStream
from core.errors import ConcurrencyError, Corrupt, SentinelError, Unavailable
from core.log.base import EventLog, Head
from core.settings import Settings
from ingest import bootstrap, kafka_client, telemetry
from ingest.intake import Message, Side
from ingest.partition import Owned, Pending, finish
from ingest.publisher import Publisher
from ingest.snapshots import SnapshotStore
from ingest.stats import Stats

CONTROL_POLL_S = 0.05
HELD_MAX = 20_000
"""Messages of one side of one partition held back before its fetching pauses."""
SETTLE_POLL_S = 0.001
"""How long to wait for messages while an append is in flight, whose outcome is due in about a millisecond."""
RETRY_S = 0.2
RESOLVE_S = 1.0
"""How often a model or table that could not be loaded is tried again."""


@dataclass(slots=True)
class InFlight:
    """Batches handed to the append thread."""

    pendings: list[Pending]
    future: Future[list[Head | Exception]]


class Worker:
    """One consumer-group member. `run` returns when asked to stop, or when `drain` found every owned partition at its
    end.
    """

    def __init__(
        self,
        settings: Settings,
        log: EventLog,
        resolver: Resolver,
        *,
        drain: bool = False,
        stats: Stats | None = None,
    ) -> None:
        self._settings = settings
        self._log = log
        self._resolver = resolver
        self._drain = drain
        self._stats = stats or Stats(None)
        self._snapshots = SnapshotStore(Path(settings.snapshot_directory), settings.log_prefix)
        self._owned: dict[int, Owned] = {}
        self._parked: dict[int, Owned] = {}
        self._assigned_once = False
        self._stopping = False
        self._in_flight: InFlight | None = None
        self._control = ControlStream()
        self._context: Context | None = None
        self._control_read_at = 0.0
        self._resolved_at = 0.0
        self._snapshot_at = time.monotonic()
        self._appender = ThreadPoolExecutor(1, thread_name_prefix="append")
        self._publisher = Publisher(settings)
        self._logger = telemetry.logger().bind(group=settings.consumer_group)

    def stop(self) -> None:
        """Ask `run` to finish what is in flight and return. Safe from a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Consume until stopped or drained. Raises SentinelError for what a restart or a person must mend."""
        self._control = bootstrap.ensure(self._log, self._settings)
        self._resolve()
        assert self._context is not None
        pipeline.warm_up(self._context)
        self._transactions = kafka_client.transactions_consumer(self._settings)
        self._feedback = kafka_client.feedback_consumer(self._settings)
        self._transactions.subscribe(
            [self._settings.transactions_topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )
        try:
            while not self._stopping and not self._drained():
                self._step()
            self._settle()
            self._park()
            self._publisher.close()
            self._stats.write(self._counts(), force=True)
        finally:
            self._appender.shutdown(wait=True)
            self._transactions.close()
            self._feedback.close()

    def _step(self) -> None:
        self._poll()
        self._read_control()
        pendings = self._decide()
        self._settle()
        pendings = [p for p in pendings if self._owned.get(p.partition.partition) is p.partition]
        if pendings:
            self._append(pendings)
        self._housekeeping()

    # 1. poll

    def _poll(self) -> None:
        linger = self._settings.linger_ms / 1000
        if self._full():
            timeout = 0.0
        elif self._in_flight is not None:
            timeout = min(linger, SETTLE_POLL_S)
        else:
            timeout = linger if self._owned else 0.1
        messages = self._transactions.consume(self._settings.batch_size, timeout)
        self._sort(messages, self._settings.transactions_topic)
        if self._owned:
            self._sort(self._feedback.consume(self._settings.batch_size, 0), self._settings.feedback_topic)
        self._balance_fetching()

    def _full(self) -> bool:
        return sum(len(o.intake.transactions.records) for o in self._owned.values()) >= self._settings.batch_size

    def _sort(self, messages: list[KafkaMessage], topic: str) -> None:
        """Put fetched messages into their partition's intake. Raises Unavailable or Corrupt for errors that won't
        pass.
        """
        is_feedback = topic == self._settings.feedback_topic
        now = time.time() * 1000.0
        for m in messages:
            partition, offset = m.partition(), m.offset()
            error = m.error()
            if error is not None:
                self._consume_error(error, topic, partition, is_feedback)
                continue
            owned = self._owned.get(partition) if partition is not None else None
            if owned is None or offset is None:
                continue
            side = owned.intake.feedback if is_feedback else owned.intake.transactions
            side.at_end = False
            side.records.append(Message(offset, m.timestamp()[1], m.key(), m.value(), now))

    def _consume_error(self, error: KafkaError, topic: str, partition: int | None, is_feedback: bool) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            owned = self._owned.get(partition) if partition is not None else None
            if owned is not None:
                (owned.intake.feedback if is_feedback else owned.intake.transactions).at_end = True
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise Corrupt(
                f"{topic}[{partition}]: Kafka no longer holds the offset that the log comes to ({error.str()}). The"
                " topic lost messages that were never decided: raise its retention, and start a new log prefix if the"
                " loss is accepted"
            )
        elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise Unavailable(f"topic {topic} is gone: {error.str()}")
        elif error.fatal() or error.code() == KafkaError.FENCED_INSTANCE_ID:
            raise Unavailable(f"this worker left the group: {error.str()}")
        else:
            self._logger.warning("ingest.kafka_error", topic=topic, partition=partition, error=error.str())

    def _balance_fetching(self) -> None:
        """Pause a side that holds too much while the other is behind; resume it when it has come down."""
        for topic, consumer, name in (
            (self._settings.transactions_topic, self._transactions, "transactions"),
            (self._settings.feedback_topic, self._feedback, "feedback"),
        ):
            for owned in self._owned.values():
                side: Side = getattr(owned.intake, name)
                held = len(side.records)
                if not side.paused and held > HELD_MAX:
                    consumer.pause([TopicPartition(topic, owned.partition)])
                    side.paused = True
                elif side.paused and held < HELD_MAX // 2:
                    consumer.resume([TopicPartition(topic, owned.partition)])
                    side.paused = False

    # 2. control

    def _read_control(self) -> None:
        now = time.monotonic()
        if now - self._control_read_at < CONTROL_POLL_S:
            return
        self._control_read_at = now
        try:
            entries = self._control.advance(self._log)
        except Unavailable as error:
            self._logger.warning("ingest.control_unavailable", error=str(error))
            return  # decide under the context we have: its position is recorded
        for entry in entries:
            if entry.refused:
                self._logger.warning("ingest.control_refused", control=entry.position, why=entry.refused)
        is_behind = self._context is None or self._context.position != self._control.position
        if is_behind or self._may_recover(now):
            self._resolve()

    def _may_recover(self, now: float) -> bool:
        """Whether the context lacks an artifact that may have been out of reach for a moment only."""
        return self._context is not None and self._context.degraded is not None and now - self._resolved_at > RESOLVE_S

    def _resolve(self) -> None:
        before = self._context
        self._context = self._resolver.context(self._control.state)
        self._resolved_at = time.monotonic()
        if self._context.degraded and (before is None or before.degraded != self._context.degraded):
            self._logger.warning("ingest.degraded", reason=self._context.degraded, control=self._context.position)

    # 3. decide

    def _decide(self) -> list[Pending]:
        pendings: list[Pending] = []
        recorded_at = int(time.time() * 1000)
        room = self._settings.batch_size
        waiting = [o for o in self._owned.values() if o.intake.transactions.records or o.intake.feedback.records]
        for share, owned in zip(range(len(waiting), 0, -1), waiting, strict=True):
            pending = owned.take(max(1, room // share), recorded_at)
            if pending is not None:
                pendings.append(pending)
                room -= len(pending.messages)
        if not pendings:
            return []
        assert self._context is not None
        decided = pipeline.decide(self._context, [p.work for p in pendings])
        for pending, result in zip(pendings, decided, strict=True):
            pending.decided, pending.context = result, self._context
        return pendings

    # 4. settle

    def _settle(self) -> None:
        """Wait for the append in flight and act on each partition's outcome."""
        flight, self._in_flight = self._in_flight, None
        if flight is None:
            return
        outcomes = flight.future.result()
        deadline = time.monotonic() + self._settings.unavailable_timeout_s
        for pending, first in zip(flight.pendings, outcomes, strict=True):
            outcome = first
            while isinstance(outcome, Unavailable):
                if self._stopping or time.monotonic() > deadline:
                    raise outcome
                self._logger.warning(
                    "ingest.log_unavailable", partition=pending.partition.partition, error=str(outcome)
                )
                time.sleep(RETRY_S)
                outcome = self._append_again(pending)
            if isinstance(outcome, ConcurrencyError):
                telemetry.CONFLICTS.inc()
                self._reload(pending.partition, outcome)
            elif isinstance(outcome, Exception):
                raise outcome
            else:
                self._acknowledge(pending, outcome)

    def _append_again(self, pending: Pending) -> Head | Exception:
        """After an unknown outcome: what the log's head says, or another try."""
        try:
            head = self._log.head(pending.partition.partition)
            if head == pending.sealed():
                return head
            assert pending.batch is not None
            return self._log.append(pending.partition.partition, pending.batch, pending.expected)
        except SentinelError as error:
            return error

    def _acknowledge(self, pending: Pending, head: Head) -> None:
        owned = pending.partition
        owned.head = head
        assert pending.decided is not None
        self._publisher.publish(owned, pending)
        self._stats.record(pending, time.time() * 1000.0)

    def _reload(self, owned: Owned, reason: Exception) -> None:
        """Somebody else wrote, or the log's tail was lost: take the partition's truth from the log again."""
        self._logger.warning("ingest.partition_reloaded", partition=owned.partition, reason=str(reason))
        fresh = self._load(owned.partition)
        self._owned[owned.partition] = fresh
        transactions, feedback = fresh.start_offsets()
        for consumer, topic, offset, side in (
            (self._transactions, self._settings.transactions_topic, transactions, owned.intake.transactions),
            (self._feedback, self._settings.feedback_topic, feedback, owned.intake.feedback),
        ):
            place = TopicPartition(topic, owned.partition, offset)
            consumer.seek(place)
            if side.paused:
                consumer.resume([place])

    # 5. append

    def _append(self, pendings: list[Pending]) -> None:
        for pending in pendings:
            pending.expected = pending.partition.head
            assert pending.decided is not None and pending.context is not None
            finish(pending, pending.decided, pending.context.position)
        self._publisher.dead_letters(pendings)
        batches = [(p.partition.partition, p.batch, p.expected) for p in pendings if p.batch is not None]
        self._in_flight = InFlight(pendings, self._appender.submit(self._log.append_many, batches))

    # ownership

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._settle()
        numbers = sorted(p.partition for p in partitions)
        started = time.monotonic()
        self._control = bootstrap.ensure(self._log, self._settings)
        self._resolve()
        for number in numbers:
            self._owned[number] = self._load(number)
        self._parked.clear()
        starts = [
            TopicPartition(self._settings.transactions_topic, n, self._owned[n].start_offsets()[0]) for n in numbers
        ]
        if self._incremental:
            consumer.incremental_assign(starts)
        else:
            consumer.assign(starts)
        self._assign_feedback()
        self._assigned_once = True
        telemetry.PARTITIONS.set(len(self._owned))
        self._logger.info("ingest.assigned", partitions=numbers, load_seconds=round(time.monotonic() - started, 3))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._settle()
        self._release([p.partition for p in partitions])
        if self._incremental:
            consumer.incremental_unassign(partitions)
        else:
            consumer.unassign()
        self._assign_feedback()
        self._logger.info("ingest.revoked", partitions=sorted(p.partition for p in partitions))

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """The group gave our partitions away already; an append in flight is fenced by the log itself."""
        self._on_revoke(consumer, partitions)

    @property
    def _incremental(self) -> bool:
        return (
            self._settings.assignment_strategy == "cooperative-sticky"
            or self._settings.kafka.get("group.protocol") == "consumer"
        )

    def _release(self, numbers: list[int]) -> None:
        for number in numbers:
            owned = self._owned.pop(number, None)
            if owned is not None:
                self._save(owned)
                self._parked[number] = owned
        telemetry.PARTITIONS.set(len(self._owned))

    def _park(self) -> None:
        self._release(list(self._owned))

    def _load(self, partition: int) -> Owned:
        """Head and state of a partition: as we left it if nobody wrote since, else from snapshot and log."""
        generations = self._control.state.generations
        numbers = (generations["transactions"].number, generations["feedback"].number)
        head = self._log.head(partition)
        parked = self._parked.get(partition)
        if parked is not None and parked.head == head and parked.settled:
            state, sequence = parked.state, parked.snapshot_sequence
        else:
            started = time.monotonic()
            known = self._snapshots.load(partition, self._log, head)
            after, base = known if known else (Head(), None)
            state = replay.rebuild(self._log, partition, head, base, after)
            sequence = after.sequence
            self._logger.debug(
                "ingest.partition_loaded",
                partition=partition,
                sequence=head.sequence,
                snapshot_sequence=after.sequence,
                accounts=len(state),
                seconds=round(time.monotonic() - started, 3),
            )
        owned = Owned(partition, head, state, numbers, snapshot_sequence=sequence)
        self._publisher.republish(self._log, owned)
        return owned

    def _assign_feedback(self) -> None:
        topic = self._settings.feedback_topic
        wanted = []
        for number, owned in sorted(self._owned.items()):
            held = owned.intake.feedback.records
            offset = held[-1].offset + 1 if held else owned.start_offsets()[1]
            wanted.append(TopicPartition(topic, number, offset))
            owned.intake.feedback.at_end = False
            owned.intake.feedback.paused = False
        if wanted:
            self._feedback.assign(wanted)
        else:
            self._feedback.unassign()

    # housekeeping

    def _drained(self) -> bool:
        return (
            self._drain
            and self._assigned_once
            and self._in_flight is None
            and all(o.intake.drained for o in self._owned.values())
        )

    def _housekeeping(self) -> None:
        now = time.monotonic()
        self._publisher.poll(self._log, self._owned.values())
        self._stats.write(self._counts())
        if now - self._snapshot_at < self._settings.snapshot_interval_s:
            return
        self._snapshot_at = now
        stale = [o for o in self._owned.values() if o.head.sequence > o.snapshot_sequence]
        if stale:
            self._settle()
            for owned in stale:
                if self._owned.get(owned.partition) is owned:
                    self._save(owned)
        self._commit()

    def _save(self, owned: Owned) -> None:
        """Snapshot a settled partition; a failure costs only time at the next start."""
        if not owned.settled or owned.head.sequence == owned.snapshot_sequence:
            return
        try:
            self._snapshots.save(owned.partition, owned.head, owned.state)
            owned.snapshot_sequence = owned.head.sequence
        except SentinelError as error:
            self._logger.warning("ingest.snapshot_failed", partition=owned.partition, error=str(error))

    def _commit(self) -> None:
        """Kafka's committed offsets, for lag displays only."""
        offsets = [
            TopicPartition(self._settings.transactions_topic, number, owned.head.transactions.offset)
            for number, owned in self._owned.items()
            if owned.head.transactions.generation == owned.generations[0]
        ]
        if offsets:
            try:
                self._transactions.commit(offsets=offsets, asynchronous=True)
            except KafkaException as error:
                self._logger.info("ingest.commit_failed", error=str(error))

    def _counts(self) -> dict[str, Any]:
        return {
            "partitions": sorted(self._owned),
            "control": self._control.position,
            "positions": {str(n): str(o.head.transactions) for n, o in sorted(self._owned.items())},
        }
