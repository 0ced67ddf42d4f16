"""The operations by which tests break a log in memory do what they say, and nothing to the log it was cloned from."""

from __future__ import annotations

import pytest

from core.errors import BadInput, ConcurrencyError, Corrupt
from core.events import Position
from core.log.base import STREAMS, Head
from core.log.memory import MemoryLog
from tests.builders.batches import batch_after, contents, verify


@pytest.fixture
def log() -> MemoryLog:
    """Four batches in partition 0, three control events and a blob."""
    log, head = MemoryLog(), Head()
    for _ in range(4):
        head = log.append(0, batch_after(head), head)
    log.append_control([b"one", b"two", b"three"], 0)
    log.put_blob(b"blob")
    return log


def test_a_clone_is_a_log_of_its_own(log: MemoryLog) -> None:
    """A clone holds the same and goes on by itself; the clone of a trimmed log accepts no used ID again either."""
    before, head = contents(log, 0), log.head(0)
    log.trim(0, head)
    clone = log.clone()
    assert contents(clone, 0) == contents(log, 0) != before
    clone.append(0, batch_after(head), head)
    clone.append_control([b"four"], 3)
    clone.put_blob(b"other")
    assert log.head(0) == head and log.control_head() == 3
    with pytest.raises(BadInput):
        log.get_blob(log.clone().put_blob(b"other"))
    forgotten = Head(sequence=head.sequence, digest=head.digest)
    with pytest.raises(ConcurrencyError, match="holds"):
        log.clone().append(0, batch_after(forgotten), forgotten)


def test_tampering_replaces_inserts_and_removes_one_entry(log: MemoryLog) -> None:
    """The entry of an ID is replaced, inserted in order, or removed; every other entry and the head stay."""
    before, head = contents(log, 0), log.head(0)
    for stream in STREAMS:
        held = before[stream]
        middle = held[len(held) // 2].id
        changed = log.clone()
        changed.tamper(0, stream, middle, b"changed")
        assert [e.payload for e in contents(changed, 0)[stream] if e.id == middle] == [b"changed"]
        assert len(contents(changed, 0)[stream]) == len(held)
        removed = log.clone()
        removed.tamper(0, stream, middle, None)
        assert contents(removed, 0)[stream] == [e for e in held if e.id != middle]
        removed.tamper(0, stream, middle, log.get(0, stream, middle))
        assert contents(removed, 0) == before
        behind = Position(9, 9)
        removed.tamper(0, stream, behind, b"behind")
        assert contents(removed, 0)[stream][-1] == (behind, b"behind")
        assert changed.head(0) == removed.head(0) == head
    assert contents(log, 0) == before


def test_a_truncated_log_is_the_log_as_it_once_was(log: MemoryLog) -> None:
    """After the loss of its tail a partition verifies up to the seal that is left, and goes on from there."""
    for sequence in range(5):
        shorter = log.clone()
        shorter.truncate(0, sequence)
        head = verify(contents(shorter, 0))
        assert head == shorter.head(0) and head.sequence == sequence
        assert shorter.append(0, batch_after(head), head).sequence == sequence + 1


def test_the_control_stream_and_blobs_can_be_broken(log: MemoryLog) -> None:
    """A control event is changed, removed or lost with all after it; a blob is changed or lost."""
    log.tamper_control(2, b"TWO")
    assert log.read_control() == [(1, b"one"), (2, b"TWO"), (3, b"three")]
    log.tamper_control(1, None)
    assert log.read_control() == [(1, b"TWO"), (2, b"three")]
    log.truncate_control(1)
    assert log.read_control() == [(1, b"TWO")] and log.control_head() == 1
    digest = log.put_blob(b"blob")
    log.tamper_blob(digest, b"bulb")
    with pytest.raises(Corrupt):
        log.get_blob(digest)
    log.tamper_blob(digest, None)
    with pytest.raises(BadInput):
        log.get_blob(digest)
