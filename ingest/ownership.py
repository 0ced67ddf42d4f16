"""The partitions that this worker owns: loaded when they are assigned, saved when they are revoked.

States of a partition: assigned → loaded (as it was left if nobody has written since, else from snapshot and log) →
owned → reloaded (another owner wrote, or the log's tail was lost) … → saved and kept → assigned again, or forgotten.
One that can't be loaded is not owned (`ingest.parking`).

The consumer group decides which partitions are assigned (`ingest.worker`); this module knows nothing about fetching. A
snapshot that can't be written or read only costs time at the next start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from core import replay
from core.codec import decode_seal
from core.context import Resolver
from core.control import ControlState
from core.control_stream import current
from core.errors import Corrupt, Incomplete, SentinelError, Unavailable
from core.events import START, Position
from core.features.state import AccountState
from core.identity import FIXED, LogIdentity, required
from core.log.base import EventLog, Head
from core.log.seals import begins
from core.receipt import AHEAD_MS
from core.settings import Settings
from core.times import minute_text
from ingest import telemetry
from ingest.partition import OFFSET_BEGINNING, Owned
from ingest.snapshots import SnapshotStore


class _Writing(NamedTuple):
    """A snapshot that is being written: at which seal it was taken."""

    owned: Owned
    head: Head
    written: Future[None]


class Ownership:
    """The owned partitions by number, in the order of their assignment."""

    def __init__(self, settings: Settings, log: EventLog, resolver: Resolver) -> None:
        """resolver: for the programs whose aggregates states must hold."""
        self._log = log
        self._resolver = resolver
        self._snapshots = SnapshotStore(Path(settings.snapshot_directory), settings.log_prefix)
        self._kept: dict[int, Owned] = {}
        self._saved: dict[int, Position] = {}
        self._writer = ThreadPoolExecutor(1, "snapshots")
        self._writing: _Writing | None = None
        self._logger = telemetry.logger()
        self.partitions: dict[int, Owned] = {}

    def take(
        self, numbers: Iterable[int], control: ControlState, failed: Callable[[int, Exception], None] | None = None
    ) -> list[Owned]:
        """Own these partitions from now on.

        failed: told of a partition that can't be loaded, unless the log server can't be reached; by default, the error
        is raised.
        """
        taken: list[Owned] = []
        for number in numbers:
            try:
                taken.append(self._load(number, control))
            except Unavailable:
                raise
            except Exception as error:
                if failed is None:
                    raise
                failed(number, error)
            self._kept.pop(number, None)
        self.partitions |= {owned.partition: owned for owned in taken}
        telemetry.PARTITIONS.set(len(self.partitions))
        return taken

    def keep(self, numbers: Collection[int]) -> None:
        """These partitions were assigned. States that were kept of others now belong to other workers: forget them."""
        self._kept = {number: owned for number, owned in self._kept.items() if number in numbers}

    def release(self, numbers: Iterable[int]) -> None:
        """Stop owning these partitions. Their states are kept in case they come back unchanged."""
        self._finish()
        for number in numbers:
            owned = self.partitions.pop(number, None)
            if owned is not None:
                if not self._is_fresh(owned):
                    self.save(owned)
                self._kept[number] = owned
        telemetry.PARTITIONS.set(len(self.partitions))

    def _is_fresh(self, owned: Owned) -> bool:
        """Whether the next owner folds what came after the snapshot in less time than writing another would take: a
        payment costs about as much as an account.
        """
        at, end = self._saved.get(owned.partition, START), owned.head.transactions
        return at.generation == end.generation and end.offset - at.offset <= len(owned.state)

    def drop(self, partition: int) -> None:
        """Stop owning the partition and forget its state, which may be wrong."""
        self.partitions.pop(partition, None)
        telemetry.PARTITIONS.set(len(self.partitions))

    def forget(self, tokens: frozenset[str]) -> None:
        """Forget the keys of these accounts, by their tokens."""
        for owned in self.partitions.values():
            owned.names = {name: keys for name, keys in owned.names.items() if keys.token not in tokens}

    def reload(self, owned: Owned, control: ControlState) -> Owned:
        """Load the partition from the log again, replacing this worker's state of it."""
        fresh = self._load(owned.partition, control)
        self.partitions[owned.partition] = fresh
        return fresh

    def begin_again(self, owned: Owned, control: ControlState) -> Owned:
        """The partition with the state that it has, and nothing taken beyond its head; nothing may be in flight."""
        fresh = sources_of(control, owned.partition).owned(
            owned.partition, owned.head, owned.state, owned.snapshot_sequence
        )
        self.partitions[owned.partition] = fresh
        return fresh

    def owns(self, owned: Owned) -> bool:
        """Whether this very state is still the partition's."""
        return self.partitions.get(owned.partition) is owned

    @property
    def stale(self) -> list[Owned]:
        """Partitions that have advanced since their last snapshot."""
        return [o for o in self.partitions.values() if o.head.sequence > o.snapshot_sequence]

    def save(self, owned: Owned) -> None:
        """Take a snapshot of a settled partition; a failure only costs time at the next start."""
        self.save_beside(owned)
        self._finish()

    def save_beside(self, owned: Owned) -> None:
        """As `save`, but only the copy of the state is made now; a thread hashes and writes it. Waits for the snapshot
        before it.
        """
        self._finish()
        if owned.settled and owned.head.sequence != owned.snapshot_sequence:
            write = self._snapshots.taken(owned.partition, owned.head, owned.state)
            self._writing = _Writing(owned, owned.head, self._writer.submit(write))

    @property
    def is_saving(self) -> bool:
        """Whether a snapshot is being written."""
        return self._writing is not None and not self._writing.written.done()

    def _finish(self) -> None:
        """Wait for the snapshot that is being written."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            writing.written.result()
            writing.owned.snapshot_sequence = writing.head.sequence
            self._saved[writing.owned.partition] = writing.head.transactions
        except SentinelError as error:
            self._logger.warning("ingest.snapshot_failed", partition=writing.owned.partition, error=str(error))

    def _holds(self, owned: Owned, control: ControlState) -> bool:
        return all(step.digest in owned.state.rings for step in self._resolver.steps(control, "now"))

    def _load(self, partition: int, control: ControlState) -> Owned:
        """Load a partition: as we left it if nobody has written since, else from snapshot and log."""
        sources = sources_of(control, partition)
        head = self._log.head(partition)
        if head.control > control.position:
            raise Incomplete(
                f"partition {partition}: its last seal has seen control position {head.control}, but the control stream"
                f" ends at {control.position}: it lost its tail. Restore the log from a backup"
            )
        self._check_beginning(partition, head, required(control.identity))
        kept = self._kept.get(partition)
        if kept is not None and kept.head == head and kept.settled and self._holds(kept, control):
            return sources.owned(partition, head, kept.state, kept.snapshot_sequence)
        started = time.monotonic()
        identity = required(control.identity)
        steps, needed = self._resolver.steps(control, "kept"), self._resolver.steps(control, "now")
        known = self._snapshots.load(partition, self._log, head, identity, steps, needed)
        after, base = known if known else (Head(), None)
        self._saved[partition] = after.transactions
        state = replay.rebuild(self._log, partition, head, identity, base, after, steps)
        self._logger.debug(
            "ingest.partition_loaded",
            partition=partition,
            sequence=head.sequence,
            snapshot_sequence=after.sequence,
            accounts=len(state),
            seconds=round(time.monotonic() - started, 3),
        )
        if state.received_at > time.time() * 1000 + AHEAD_MS:
            self._logger.warning(
                "ingest.clock_behind",
                partition=partition,
                received_until=minute_text(state.received_at),
                remedy="compare this machine's clock with that of the worker that wrote the log before",
            )
        return sources.owned(partition, head, state, after.sequence)

    def _check_beginning(self, partition: int, head: Head, identity: LogIdentity) -> None:
        """Raise Corrupt if the partition's first seal names another log. On an emptied server an append of a worker
        that has not noticed may come after another worker began a new log: a partition that was empty is so again.
        """
        first = self._log.read(partition, "seals", START, 1) if head.sequence else []
        said = decode_seal(first[0].payload).begins if first else ""
        if said and said != begins(identity.log_id, partition):
            raise Corrupt(
                f"partition {partition} begins as {said}, and this log is {identity.log_id}: its server was emptied,"
                " and a worker of the former log appended to it before it noticed. Stop all workers, and begin again"
                " under another log prefix (SENTINEL_LOG_PREFIX), with another archive if there is one"
            )


def prepare(log: EventLog, settings: Settings, resolver: Resolver) -> int:
    """Take a snapshot of each of the log's partitions, folded up to its present end, beside workers that own them.
    Returns the number of partitions. Raises BadInput if the log has not begun; else as loading a partition.
    """
    control = current(log)
    partitions = required(control.identity).partitions
    ownership = Ownership(settings, log, resolver)
    for partition in range(partitions):
        ownership.take([partition], control)
        ownership.release([partition])
        ownership.keep(())
    return partitions


class Sources(NamedTuple):
    """What the control stream says of a partition's two source topics (transactions, feedback)."""

    generations: tuple[int, int]
    starts: tuple[int, int]
    skipped: tuple[int, int]

    def offsets(self, head: Head) -> tuple[int, int]:
        """The Kafka offsets at which a log that ends here continues."""
        return self.owned(0, head, AccountState(FIXED), 0).start_offsets()

    def owned(self, partition: int, head: Head, state: AccountState, snapshot_sequence: int) -> Owned:
        return Owned(
            partition,
            head,
            state,
            self.generations,
            snapshot_sequence=snapshot_sequence,
            starts=self.starts,
            skipped=self.skipped,
        )


def sources_of(control: ControlState, partition: int) -> Sources:
    """The partition's sources as the control stream has them."""
    generations, starts, skipped = [], [], []
    for role in ("transactions", "feedback"):
        known = control.generations[role]
        generations.append(known.number)
        starts.append(known.starts[partition] if known.starts else OFFSET_BEGINNING)
        number, offset = control.skipped.get((role, partition), (0, 0))
        skipped.append(offset if number == known.number else 0)
    return Sources((generations[0], generations[1]), (starts[0], starts[1]), (skipped[0], skipped[1]))
