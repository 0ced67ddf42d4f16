"""The ingest worker: Kafka in, decisions in the log, alerts out. Wires the pure pieces to the servers; decides nothing
itself.

One iteration, in this order (which makes it exactly once):
 1. fetch       from both topics into the owned partitions' intakes; rebalances happen here
 2. control     read new control events, unless the log server would have to answer an append in flight first, and
                report what can't be loaded (`ingest.contexts`); the next batch is decided under the newest context
 3. decide      take merged messages of every partition, decide them, and seal them behind the append in flight: states
                now run ahead of the log
 4. settle      wait for the append sent by step 5 of the previous iteration, and act on its outcome
                (`ingest.appending`)
 5. append      dead letters are produced and flushed, then one conditional append per partition, all in one message to
                the log server, whose answer is not awaited here

After a small batch (fewer than OVERLAP_MIN messages) the worker settles at once, and messages that arrive meanwhile
form the next batch. After a larger one it decides the next batch meanwhile. At a low rate a decision is thus
acknowledged as soon as it is durable, and under load the server syncs its disk while the worker decides. `linger_ms`
limits how often that happens. It counts from the last append, so it delays nothing where messages are rare.

Kafka's committed offsets are for display only. On assignment a partition is read from the log's own position; whatever
a crash left unfinished is read and decided again, to the same bits. A rebalance, too, waits for servers until
`unavailable_timeout_s`, and a partition that can't be loaded, read, decided or appended is parked. A worker that has
lost a partition without knowing it does no harm: its next append is refused (I1).

Cost per transaction in batches of 1,000: fetch 1.5 µs, decode 2, decide 7, finish and seal 3, append 2.
"""

from __future__ import annotations

import time

from confluent_kafka import Consumer, TopicPartition

from core.context import Resolver
from core.control_stream import ControlStream
from core.errors import SentinelError, Unavailable
from core.events import AccountsErased, SourceGenerationStarted
from core.identity import required
from core.log.base import EventLog
from core.program.checked import OwnField
from core.program.codes import ENGINE
from core.settings import Settings
from ingest import bootstrap, telemetry
from ingest.admission import admit
from ingest.appending import Appending
from ingest.batch_spans import batch_spans
from ingest.bounds import Bounds
from ingest.clock import Clock
from ingest.condition import Condition
from ingest.contexts import check_reach, decide, live_contexts
from ingest.fetching import Fetcher
from ingest.health import Health
from ingest.loading import Loader
from ingest.ownership import Ownership
from ingest.parking import Parking
from ingest.partition import Owned, Pending
from ingest.patience import persist
from ingest.preparing import Preparing
from ingest.protecting import Protection
from ingest.publisher import Publisher
from ingest.recording import RECORD_S, record_seals
from ingest.recovery import Recovery
from ingest.saving import Saving
from ingest.screening import screen
from ingest.stats import Stats
from ingest.tails import Tails
from ingest.topic_watch import TopicWatch
from ingest.vigilance import Vigilance
from ingest.warming import warm_up

CONTROL_POLL_S = 0.1
IDLE_S = 0.05
"""How long to wait for the first message when there is nothing to do."""
OVERLAP_MIN = 200
"""If a batch has at least this many messages, the next one is decided while it is in flight."""
BLOCKED_S = 0.001
"""How long to wait for messages while those held may not be taken yet."""
RESOLVE_S = 1.0
"""How often a model or table that could not be loaded is tried again, and a report that could not be appended."""
ALONE_S = 5.0
"""How long partitions are decided one at a time after deciding several together failed."""


class Worker:
    """One consumer-group member. `run` returns when asked to stop or, with `drain`, once every owned partition is at
    its end.
    """

    def __init__(
        self,
        settings: Settings,
        log: EventLog,
        resolver: Resolver,
        *,
        drain: bool = False,
        stats: Stats | None = None,
        new_log: str = "",
        health: Health | None = None,
    ) -> None:
        """new_log: see `bootstrap.ensure`. health: is told how the worker is."""
        self._settings = settings
        self._log = log
        self._drain = drain
        self._new_log = new_log
        self._stats, self._health = stats or Stats(None), health or Health()
        self._clock = Clock(log)
        self._ownership = Ownership(settings, log, resolver)
        self._resolver = resolver
        self._preparing = Preparing(log, self._ownership.partitions)
        self._parking = Parking(log, lambda: self._control)
        self._alone_until, self._turn = 0.0, 0
        self._fetcher: Fetcher | None = None
        self._assigned_once = False
        self._stopping = False
        self._is_blocked = False
        self._control = ControlStream()
        self._contexts = live_contexts(log, resolver)
        self._control_read_at = 0.0
        self._resolved_at = 0.0
        self._recorded_at = time.monotonic()
        self._saving = Saving(self._ownership, settings.snapshot_interval_s, time.monotonic)
        self._tails = Tails(log, time.monotonic())
        self._spans = batch_spans(settings)
        self._publisher = Publisher(settings, self._spans)
        wait_s = settings.unavailable_timeout_s
        self._protection = Protection.of(settings, lambda action: persist(action, wait_s, lambda: self._stopping))
        self._bounds = Bounds()
        self._loader = Loader(settings, log, self._ownership, self._parking, self._publisher, lambda: self._stopping)
        self._recovery = Recovery(settings, log, self._ownership, self._parking, self._loader, lambda: self._control)
        self._appending = Appending(
            settings, log, self._ownership, self._parking, self._recovery, self._publisher, self._stats,
            self._reload, lambda: self._stopping, self._spans,
        )  # fmt: skip
        self._logger = telemetry.logger().bind(group=settings.consumer_group)

    def stop(self) -> None:
        """Ask `run` to finish what is in flight and return. Safe from a signal handler."""
        self._stopping = True

    @property
    def partitions(self) -> list[int]:
        """The partitions owned now."""
        return sorted(self._ownership.partitions)

    @property
    def control_position(self) -> int:
        """Up to where it has read the control stream."""
        return self._control.position

    def run(self) -> None:
        """Consume until stopped or drained. Raises SentinelError for errors that need a restart or a person."""
        self._logger.info("ingest.started", release=telemetry.RELEASE, engine=ENGINE)
        self._clock.now_ms()
        self._resolve(bootstrap.ensure(self._log, self._settings, self._new_log))
        for ignored in bootstrap.ignored_settings(self._control.state, self._settings).values():
            self._logger.warning("ingest.setting_ignored", message=ignored)
        warm_up(self._settings, self._contexts.usual(self._control), required(self._control.state.identity))
        fetcher = self._fetcher = self._recovery.fetcher = Fetcher(
            self._settings, self._ownership.partitions, self._parking.fail
        )
        self._vigilance = Vigilance(self._settings, fetcher.rejoin)
        self._condition = Condition(
            self._settings, self._log, fetcher, self._ownership, self._parking, self._vigilance, lambda: self._control
        )
        self._condition.report(self._health)
        # Partitions that are lost have already been given away; the log itself fences an append in flight.
        fetcher.subscribe(self._on_assign, self._on_revoke, self._on_revoke)
        try:
            with TopicWatch(self._settings) as watch:
                while not self._stopping and not self._drained():
                    self._step(fetcher)
                    if watch.differs(self._control.state.generations):
                        self._follow_topics()
                if self._stopping:
                    self._saving.complete(lambda: self._step(fetcher))
            self._appending.settle()
            fetcher.commit()
            self._ownership.release(list(self._ownership.partitions))
            trouble = self._parking.first_trouble() if self._drain and not self._stopping else None
        finally:
            fetcher.close()  # at once: until it has left the group, nobody decides its partitions
        self._publisher.close()
        self._stats.write(self._condition.counts, force=True)
        if trouble is not None:
            raise trouble

    def _step(self, fetcher: Fetcher) -> None:
        fetcher.poll(0.0 if self._appending.in_flight else IDLE_S, self._waits_until(fetcher.held))
        if self._appending.in_flight and fetcher.held < OVERLAP_MIN:
            self._appending.settle()
            self._read_control()
        else:
            if not self._appending.in_flight:
                self._read_control()
            began = time.perf_counter()
            if pendings := self._decide():
                telemetry.STAGES.record("decide", time.perf_counter() - began)
            self._appending.settle()
            for partition, error in self._parking.exhausted(p.partition.partition for p in pendings):
                self._recovery.pass_or_park(partition, error)
            self._read_control()
            pendings = [p for p in pendings if self._ownership.owns(p.partition)]
            if pendings:
                self._appending.send(pendings)
                if sum(len(pending.messages) for pending in pendings) < OVERLAP_MIN:
                    self._appending.settle()
        self._housekeeping(fetcher)

    def _waits_until(self, held: int) -> float:
        """Until when the next batch may wait for more messages. held: transactions held in the intakes."""
        if self._appending.in_flight:
            return 0.0
        if self._is_blocked:
            return time.monotonic() + BLOCKED_S
        return self._appending.sent_at + self._settings.linger_ms / 1000 if held < self._settings.batch_size else 0.0

    # 2. control

    def _read_control(self, *, now_due: bool = False) -> None:
        now = time.monotonic()
        if now - self._control_read_at < CONTROL_POLL_S and not now_due:
            return
        self._control_read_at = now
        try:
            entries = self._control.advance(self._log)
        except Unavailable as error:
            self._logger.warning("ingest.control_unavailable", error=str(error))
            return  # decide under the present context: its position is recorded
        check_reach(self._control, self._ownership.partitions.values())
        for entry in entries:
            if isinstance(entry.event, SourceGenerationStarted):
                self._renew()
            elif isinstance(entry.event, AccountsErased):
                self._forget(frozenset(entry.event.accounts))
            if entry.refused:
                self._logger.warning("ingest.control_refused", control=entry.position, why=entry.refused)
        is_behind = not self._contexts.covers(self._control, self._ownership.partitions)
        if is_behind or (self._contexts.unsettled and now - self._resolved_at > RESOLVE_S):
            self._resolve()

    def _resolve(self, control: ControlStream | None = None) -> None:
        """Bring the partitions' contexts to the end of the control stream, or of this one from now on."""
        self._control = control or self._control
        self._contexts.refresh(self._control, self._ownership.partitions)
        self._preparing.follow(self._control.state, self._resolver)
        self._resolved_at = time.monotonic()

    # 3. decide

    def _decide(self) -> list[Pending]:
        pendings: list[Pending] = []
        recorded_at = self._clock.now_ms()
        self._spans.begin()
        room = self._settings.batch_size
        waiting = [
            owned
            for owned in self._ownership.partitions.values()
            if (owned.intake.transactions.records or owned.intake.feedback.records)
            and self._is_ready(owned)
            and owned.tip.control <= self._contexts.position
        ]
        if waiting and time.monotonic() < self._alone_until:
            self._turn += 1
            waiting = [waiting[self._turn % len(waiting)]]
        for share, owned in zip(range(len(waiting), 0, -1), waiting, strict=True):
            try:
                pending = owned.take(max(1, room // share), recorded_at)
            except Exception as error:  # noqa: BLE001 - a bulkhead: the other partitions go on
                self._recovery.park(owned.partition, error)
                continue
            if pending is not None:
                pendings.append(pending)
                room -= sum(len(part.messages) for part in pending.decoded)
        self._is_blocked = bool(waiting) and not pendings
        if not pendings:
            return []
        screen(pendings, self._protection, self._own_fields())
        position = self._contexts.position
        self._admit(pendings)
        if self._contexts.position != position:
            ready = [pending for pending in pendings if self._is_ready(pending.partition)]
            if len(ready) < len(pendings):  # a program was found to be in force just now
                self._give_back([pending for pending in pendings if pending not in ready])
                pendings = ready
        pendings = [pending for pending in pendings if self._ownership.owns(pending.partition)]
        self._spans.decoded()
        try:
            decide(pendings, self._contexts)
        except Exception as error:  # noqa: BLE001 - a bulkhead
            self._isolate(pendings, error)
            return []
        self._spans.decided()
        return pendings

    def _forget(self, tokens: frozenset[str]) -> None:
        """Forget the keys of accounts that were erased: who returns is somebody new."""
        self._ownership.forget(tokens)
        self._protection.forget()

    def _own_fields(self) -> list[OwnField]:
        """The own fields of the programs in force, if their classes of personal data matter."""
        if self._protection.vault is None:
            return []
        programs = self._contexts.usual(self._control).programs
        return [each for program in programs for each in program.plan.program.fields.values()]

    def _is_ready(self, owned: Owned) -> bool:
        """Whether the partition may be decided: its context is known, and its state holds what its programs need."""
        context = self._contexts.of(owned.partition)
        if context is None or owned.partition == self._preparing.held_back:
            return False
        return not context.steps or all(step.digest in owned.state.rings for step in context.steps)

    def _give_back(self, pendings: list[Pending]) -> None:
        """Nothing of these batches is decided yet: fetch them again once their partitions are prepared."""
        self._appending.settle()
        assert self._fetcher is not None
        for pending in pendings:
            if self._ownership.owns(pending.partition):
                pending.partition.state.received_at = pending.clock
                self._fetcher.restart(
                    pending.partition, self._ownership.begin_again(pending.partition, self._control.state)
                )

    def _isolate(self, pendings: list[Pending], error: Exception) -> None:
        """Deciding failed and left these partitions' states half changed: park the partition if it was alone, else
        load all of them again, and decide one partition at a time for a while.
        """
        self._appending.settle()
        if len(pendings) == 1:
            self._recovery.park(pendings[0].partition.partition, error)
            return
        self._alone_until = time.monotonic() + ALONE_S
        for pending in pendings:
            if self._ownership.owns(pending.partition):
                self._reload(pending.partition, error)

    def _admit(self, pendings: list[Pending]) -> None:
        """Admit the batches under the context in which they will be decided: the newest, if it matters."""
        position = self._contexts.position
        if sum([self._admit_one(pending) for pending in pendings]):
            self._read_control(now_due=True)  # a history may have been opened or ended just now
            if self._contexts.position != position:
                for pending in pendings:
                    self._admit_one(pending)

    def _admit_one(self, pending: Pending) -> int:
        context = self._contexts.of(pending.partition.partition)
        required = context.program.required if context is not None else {}
        state = self._control.state
        return admit(pending, state.histories, required, state.governance.roster)

    # partitions loaded again

    def _reload(self, owned: Owned, reason: Exception) -> None:
        """Another owner wrote, or the log's tail was lost: load the partition from the log again."""
        self._logger.warning("ingest.partition_reloaded", partition=owned.partition, reason=str(reason))
        fresh = self._loader.reload(owned, self._control.state)
        assert self._fetcher is not None
        if fresh is None:
            self._fetcher.pause(owned.partition)
        else:
            self._fetcher.restart(owned, fresh)

    def _try_again(self, partitions: list[int]) -> None:
        self._appending.settle()
        try:
            self._resolve(bootstrap.ensure(self._log, self._settings))
        except SentinelError as error:  # the topics may be what is wrong
            for partition in partitions:
                self._recovery.park(partition, error)
        else:
            self._recovery.try_again(partitions)

    # rebalances

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._appending.settle()
        assert self._fetcher is not None
        numbers = sorted(p.partition for p in self._fetcher.ours(partitions))
        if numbers:  # waiting for servers in here can make the client miss that the topic changes
            self._resolve(self._loader.control())
            self._ownership.keep(numbers)
            # All of them before any is fetched: a client that is given a place, and soon another, may go on at either.
            self._loader.arrive(numbers, self._control.state)
        self._fetcher.assign(numbers)
        self._assigned_once = True
        self._logger.info("ingest.assigned", partitions=numbers)

    def _follow_topics(self) -> None:
        """A source topic was made again: begin a new generation, and read it from its beginning."""
        self._appending.settle()
        self._resolve(self._loader.control())
        self._renew()

    def _renew(self) -> None:
        if outdated := self._recovery.outdated:
            self._appending.settle()
            self._recovery.renew(outdated)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._appending.settle()
        assert self._fetcher is not None
        ours = self._fetcher.ours(partitions)
        numbers = sorted(p.partition for p in ours)
        self._ownership.release(numbers)
        self._parking.forget(numbers)
        self._fetcher.unassign(ours)
        self._logger.info("ingest.revoked", partitions=numbers)

    # housekeeping

    def _drained(self) -> bool:
        return (
            self._drain
            and self._assigned_once
            and not self._appending.in_flight
            and all(owned.intake.drained for owned in self._ownership.partitions.values())
        )

    def _housekeeping(self, fetcher: Fetcher) -> None:
        now = time.monotonic()
        self._health.stepped()
        self._publisher.poll(self._log, self._ownership.partitions.values())
        self._stats.write(self._condition.counts)
        self._bounds.look(self._ownership.partitions.values(), now)
        self._preparing.work(self._control, self._clock.now_ms)
        partitions = self._control.state.generations["transactions"].partitions
        self._vigilance.look(self._ownership.partitions, len(self._parking.parked), partitions)
        if self._parking.parked:
            self._parking.record()
            self._parking.resume([n for n, each in self._ownership.partitions.items() if each.intake.drained])
            if due := self._parking.due():
                self._try_again(due)
        if self._tails.is_due(now):
            self._appending.settle()
            for owned, error in self._tails.changed(self._ownership.partitions, now):
                self._reload(owned, error)
        if now - self._recorded_at >= RECORD_S:
            self._recorded_at = now
            self._appending.settle()
            record_seals(self._log, self._control, self._ownership.partitions.values())
        if self._saving.begin():
            fetcher.commit()
        if self._saving.is_due:
            self._appending.settle()
            self._saving.save_one()
