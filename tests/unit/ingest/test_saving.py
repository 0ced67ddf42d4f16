"""Snapshots are taken one at a time, with time for work between, and written beside it."""

from __future__ import annotations

import errno
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from core.context import Resolver
from core.events import Position
from core.features.state import AccountState
from core.identity import FIXED
from core.log.base import Head
from core.log.memory import MemoryLog
from core.settings import Settings
from ingest import snapshots
from ingest.ownership import Ownership
from ingest.partition import Owned
from ingest.saving import Saving
from tests.builders.decisions import decide_in
from tests.builders.events import stream
from tests.builders.models import load_tiny, no_blob

INTERVAL_S, SAVE_S = 60.0, 0.4


@dataclass
class Partitions:
    """Stands for `Ownership`: copying a state takes SAVE_S of its clock's time."""

    is_saving = False
    now: float = 1_000.0
    stale: list[int] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)
    saved: list[int] = field(default_factory=list)

    def owns(self, owned: int) -> bool:
        return owned not in self.lost

    def save_beside(self, owned: int) -> None:
        self.now += SAVE_S
        self.saved.append(owned)


def saving(of: Any) -> Saving:
    return Saving(of, INTERVAL_S, lambda: of.now)


def test_every_partition_is_saved_once_in_a_round() -> None:
    """Whatever number is stale, each call saves one, and nothing is due before a round and after it."""
    of = Partitions(stale=[3, 5, 8])
    on = saving(of)
    of.now += INTERVAL_S - 1.0
    assert not on.begin() and not on.is_due
    of.now += 1.0
    assert on.begin()
    for count in (1, 2, 3):
        assert on.is_due
        on.save_one()
        assert len(of.saved) == count
        of.now += SAVE_S
    assert sorted(of.saved) == [3, 5, 8] and not on.is_due and not on.begin()


def test_there_is_as_much_time_for_work_as_for_saving() -> None:
    """After one is saved, the next is not due before as much time has passed as saving took."""
    of = Partitions(stale=[1, 2])
    on = saving(of)
    of.now += INTERVAL_S
    on.begin()
    on.save_one()
    of.now += SAVE_S * 0.9
    assert not on.is_due
    of.now += SAVE_S * 0.2
    assert on.is_due


def test_what_is_no_longer_owned_is_not_saved() -> None:
    """A partition that was revoked or loaded again since the round began is left out."""
    of = Partitions(stale=[1, 2, 3])
    on = saving(of)
    of.now += INTERVAL_S
    on.begin()
    of.lost = {2, 3}
    while on.is_due:
        on.save_one()
    assert of.saved == [1]


def test_the_next_waits_until_the_last_one_is_written() -> None:
    """A thread is still writing, so nothing is due, however long it takes."""
    of = Partitions(stale=[1, 2])
    on = saving(of)
    of.now += INTERVAL_S
    on.begin()
    on.save_one()
    of.is_saving = True
    of.now += 50 * SAVE_S
    assert not on.is_due
    of.is_saving = False
    assert on.is_due


class Disk:
    """Stands for `write_atomic`: waits to be released, and fails as often as it should."""

    def __init__(self) -> None:
        self.is_free = threading.Event()
        self.failures = 0
        self.written: list[bytes] = []

    def write(self, path: Path, *parts: bytes, durable: bool = True) -> None:
        assert self.is_free.wait(10)
        if self.failures:
            self.failures -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        self.written.append(b"".join(parts))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(snapshots, "write_atomic", disk.write)
    return disk


def owning(tmp_path: Path) -> tuple[Ownership, Owned]:
    """An ownership of one partition, which has a batch behind it."""
    ownership = Ownership(Settings(snapshot_directory=str(tmp_path)), MemoryLog(), Resolver(no_blob, load_tiny))
    owned = Owned(0, Head(sequence=3, digest="d3", transactions=Position(1, 100)), AccountState(FIXED), (1, 1))
    ownership.partitions[0] = owned
    return ownership, owned


def go_on(owned: Owned) -> None:
    """One batch more, of many payments, which the log has."""
    head = owned.head
    at = Position(1, head.transactions.offset + 1_000)
    owned.head = owned.tip = msgspec.structs.replace(head, sequence=head.sequence + 1, transactions=at)
    owned.transactions_end = at
    decide_in(stream(owned.head.sequence, 20), [], state=owned.state)


def held(content: bytes) -> str:
    """The digest of the state in a snapshot's file."""
    line, _, body = content.partition(b"\n")
    return AccountState.from_bytes(body, FIXED, (), line).digest()


def test_a_snapshot_is_of_the_moment_at_which_it_was_taken(tmp_path: Path, disk: Disk) -> None:
    """The worker goes on while it is written: the file holds the state and the seal of then, and the partition is stale
    again. A partition that is given away waits for what is being written, then has its own, last snapshot.
    """
    ownership, owned = owning(tmp_path)
    then = owned.state.digest()
    ownership.save_beside(owned)
    assert ownership.is_saving
    go_on(owned)
    disk.is_free.set()
    ownership.release([0])
    first, last = disk.written
    assert held(first) == then and b'"sequence":3' in first
    assert held(last) == owned.state.digest() != then and b'"sequence":4' in last
    assert owned.snapshot_sequence == 4 and not ownership.is_saving


def test_a_disk_that_fails_meanwhile_is_told_and_tried_again(tmp_path: Path, disk: Disk) -> None:
    """The partition stays stale, as nothing of it was saved, and its next snapshot is written."""
    ownership, owned = owning(tmp_path)
    disk.failures = 1
    disk.is_free.set()
    with structlog.testing.capture_logs() as logs:
        ownership.save_beside(owned)
        while ownership.is_saving:
            time.sleep(0.001)
        assert ownership.stale == [owned]
        ownership.save(owned)
    assert [(log["event"], log["partition"]) for log in logs] == [("ingest.snapshot_failed", 0)]
    assert len(disk.written) == 1 and owned.snapshot_sequence == 3 and not ownership.stale
