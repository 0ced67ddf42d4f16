"""What `sentinel verify` finds without a checkpoint: what seals say of the control stream, and what the control stream
and snapshots say of the partitions. And what it can't find, which a checkpoint must show.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from console.commands.verify import run
from core import control_stream
from core.codec import decode_seal, encode
from core.control_stream import ControlStream
from core.events import LogTrimmed, Seal, SealPoint, SealsRecorded, SegmentArchived
from core.features.state import AccountState
from core.identity import FIXED
from core.log.anchored import Anchors
from core.log.archive.control_chain import check_control
from core.log.base import Batch
from core.log.checkpoints import Checkpoint
from core.log.memory import MemoryLog
from core.settings import Settings
from ingest.snapshots import SnapshotStore
from tests.builders.anchors import checkpoint_of
from tests.builders.decisions import append_unchecked
from tests.builders.events import T0
from tests.builders.forging import control_changed, rechained
from tests.builders.logs import PARTITIONS, entries, filled, heads

ANN: dict[str, Any] = {"occurred_at": T0, "actor": "ann"}


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    return filled(5, 700)


def faults(log: MemoryLog, snapshots: str = "/nonexistent", signed: Checkpoint | None = None) -> list[str]:
    anchors = Anchors([signed] if signed is not None else [])
    return run(Settings(log_prefix="ss", snapshot_directory=snapshots), log, None, anchors=anchors).faults


def newest_named(log: MemoryLog) -> int:
    """The last control position that a seal names."""
    return max(decode_seal(e.payload).control for p in range(PARTITIONS) for e in entries(log, p, "seals"))


def recorded(log: MemoryLog, **sequences: int) -> MemoryLog:
    """A copy in which the control stream records these seals (p0=…)."""
    other = log.clone()
    points = []
    for name, sequence in sequences.items():
        head = next(h for h in heads(log, int(name[1:])) if h.sequence == sequence)
        points.append(SealPoint(int(name[1:]), sequence, head.digest))
    append_unchecked(other, SealsRecorded(**ANN, seals=tuple(points)))
    return other


# --- where partitions belong ----------------------------------------------------------------------------------------


def test_exchanged_partitions_are_found(log: MemoryLog) -> None:
    """Each partition is whole in itself, and its first seal says that it is another one."""
    swapped = log.clone()
    swapped.exchange(0, 2)
    assert faults(swapped) == [
        f"partition {p}: hot log: seal 1 belongs to {FIXED.log_id}/{other}, not to {FIXED.log_id}/{p}: the streams are"
        " others"
        for p, other in ((0, 2), (2, 0))
    ]


def test_a_partition_of_another_log_is_found(log: MemoryLog) -> None:
    """Even one whose control stream is the same in everything but the log's ID."""
    other = control_changed(log, 1, lambda event: msgspec.structs.replace(event, log_id="1d" * 16))
    assert any("belongs to" in fault for fault in faults(other))
    assert len(faults(other)) >= PARTITIONS


# --- the control stream ---------------------------------------------------------------------------------------------


def test_the_digest_of_the_control_stream_is_the_one_that_seals_name(log: MemoryLog) -> None:
    """A partition's seal names it exactly when its control position advances; an untouched log has no fault."""
    stream = ControlStream()
    stream.advance(log)
    assert stream.digest == check_control(log).end.digest
    for p in range(PARTITIONS):
        before = 0
        for entry in entries(log, p, "seals"):
            seal = decode_seal(entry.payload)
            expected = check_control(log).digests[seal.control] if seal.control > before else ""
            assert seal.control_digest == expected
            before = seal.control
    assert faults(log) == [] == faults(log, signed=checkpoint_of(log))


def test_any_changed_control_event_that_a_seal_was_decided_under_is_found(log: MemoryLog) -> None:
    """A reason, an actor, a time: whatever decodes again, and changes no decision. The fault names the events between
    which it is.
    """
    for position in range(1, newest_named(log) + 1):
        for change in ({"reason": "as told by bob"}, {"actor": "bob"}, {"occurred_at": 7}):
            forged = control_changed(log, position, lambda e, c=change: msgspec.structs.replace(e, **c))
            named = faults(forged)
            assert len(named) == 1 and named[0].startswith("control stream: an event from "), position
            first, last = _range(named[0])
            assert first <= position <= last


def _range(fault: str) -> tuple[int, int]:
    words = fault.split()
    return int(words[words.index("from") + 1]), int(words[words.index("to") + 1])


def test_removed_and_exchanged_control_events_are_found(log: MemoryLog) -> None:
    """The last event that a seal names, removed with all after it; two neighbours exchanged; one left out."""
    newest = newest_named(log)
    cut = log.clone()
    cut.truncate_control(newest - 1)
    assert f"ends at event {newest - 1}, but seal" in faults(cut)[0]
    payloads = [payload for _, payload in log.read_control()]
    swapped = log.clone()
    swapped.tamper_control(newest, payloads[newest - 2])
    swapped.tamper_control(newest - 1, payloads[newest - 1])
    assert "an event from" in faults(swapped)[0]
    left_out = log.clone()
    left_out.tamper_control(3, None)
    assert faults(left_out)


def test_what_no_seal_was_decided_under_yet_only_shows_against_a_checkpoint(log: MemoryLog) -> None:
    """An event after the last seal can still be changed or removed; the next batch of any partition ends that."""
    late = log.clone()
    position = append_unchecked(late, LogTrimmed(**ANN, partition=0, up_to_sequence=1))
    signed = checkpoint_of(late)
    changed = control_changed(late, position, lambda e: msgspec.structs.replace(e, reason="x"))
    removed = late.clone()
    removed.truncate_control(position - 1)
    for forged in (changed, removed):
        assert faults(forged) == [] and faults(forged, signed=signed)


@pytest.mark.parametrize("digest", ["", "ab" * 32])
def test_a_seal_names_the_digest_if_and_only_if_it_must(log: MemoryLog, digest: str) -> None:
    """A partition sealed again without digests, or with an invented one, is found."""

    def change(batch: Batch, seal: Seal) -> Seal:
        if seal.control_digest or digest:
            batch.control_digest = digest
            return msgspec.structs.replace(seal, control_digest=digest)
        return seal

    assert faults(rechained(log, 2, change))


def test_events_appended_during_the_check_are_read(log: MemoryLog) -> None:
    """A worker that goes on while the log is verified names events that were not there at the start."""

    class Growing(MemoryLog):
        def head(self, partition: int) -> Any:
            if len(self._control) < len(whole):
                self._control = list(whole)
            return super().head(partition)

    whole = [payload for _, payload in log.read_control()]
    growing = Growing()
    growing.__dict__.update(log.clone().__dict__)
    growing.truncate_control(5)
    assert faults(growing) == []


# --- partitions -----------------------------------------------------------------------------------------------------


def test_a_deleted_or_cut_partition_is_found_by_what_the_control_stream_says_of_it(log: MemoryLog) -> None:
    """Archived, trimmed or recorded: a partition can't end before the seal that an event names. Without an archive
    configured, too.
    """
    last = log.head(1).sequence
    says = [
        SegmentArchived(**ANN, partition=1, first_sequence=1, last_sequence=last - 2, digest="ab" * 32),
        LogTrimmed(**ANN, partition=1, up_to_sequence=last - 2),
        SealsRecorded(**ANN, seals=(SealPoint(1, last - 2, heads(log, 1)[last - 2].digest),)),
    ]
    for event in says:
        for keep in (0, 1, last - 3):
            forged = log.clone()
            append_unchecked(forged, event)
            assert faults(forged) == []
            forged.truncate(1, keep)
            assert "partition 1: the tail is missing: control event" in faults(forged)[0], (event, keep)
            assert f"the log ends at {keep}" in faults(forged)[0]


def test_a_partition_computed_again_before_its_recorded_seal_is_found(log: MemoryLog) -> None:
    """One time in one batch changed and everything after it sealed again: exact in itself, not the recorded one."""
    middle = log.head(0).sequence // 2

    def change(batch: Batch, seal: Seal) -> Seal:
        done.append(seal)
        return msgspec.structs.replace(seal, recorded_at=seal.recorded_at + (len(done) == middle - 1))

    done: list[Seal] = []
    forged = rechained(recorded(log, p0=middle), 0, change)
    named = faults(forged)
    assert len(named) == 1 and f"seal {middle} differs from the one of control event" in named[0]
    done = []
    behind = rechained(recorded(log, p0=middle - 2), 0, change)
    assert faults(behind) == []  # newer than what is recorded: only a checkpoint shows it
    assert faults(behind, signed=checkpoint_of(log))


def test_the_newest_recorded_seal_stands_for_those_before(log: MemoryLog) -> None:
    """Several records, in any order of partitions: the furthest one of each partition counts."""
    other = recorded(recorded(recorded(log, p0=3, p2=5), p0=7), p0=6, p1=2)
    assert faults(other) == []
    assert control_stream.current(other).recorded == {0: 6, 1: 2, 2: 5}
    other.truncate(0, 6)
    assert "is at seal 7, the log ends at 6" in faults(other)[0]


def test_a_snapshot_proves_how_far_its_partition_was(log: MemoryLog, tmp_path: Path) -> None:
    """A tail cut before this machine's snapshot, a partition deleted, or computed again before it; a file that does not
    read proves nothing.
    """
    store = SnapshotStore(tmp_path, "ss")
    marks = heads(log, 1)
    store.save(1, marks[-2], AccountState(FIXED))
    assert faults(log, str(tmp_path)) == []
    for keep in (0, 2):
        forged = log.clone()
        forged.truncate(1, keep)
        assert faults(forged) == []
        assert "the tail is missing: the snapshot in" in faults(forged, str(tmp_path))[0]
    other = rechained(log, 1, lambda batch, seal: msgspec.structs.replace(seal, recorded_at=seal.recorded_at + 1))
    assert "differs from the one of the snapshot" in faults(other, str(tmp_path))[0]
    (tmp_path / "ss-p01.snapshot").write_bytes(b'{"partition":1}\n')
    assert faults(other, str(tmp_path)) == []


def test_a_cut_tail_that_nothing_names_only_shows_against_a_checkpoint(log: MemoryLog) -> None:
    """Batches, or a whole partition, that no event, snapshot or archive names: intact to `verify` without anchors."""
    for keep in (0, log.head(2).sequence - 1):
        forged = log.clone()
        forged.truncate(2, keep)
        assert faults(forged) == []
        assert "the tail is missing: checkpoint 1 of" in faults(forged, signed=checkpoint_of(log))[0]


def test_an_event_of_seals_reads_back() -> None:
    """The record in the log is the event."""
    event = SealsRecorded(**ANN, seals=(SealPoint(3, 9, "ab" * 32),))
    log = MemoryLog()
    append_unchecked(log, event)
    assert control_stream.accepted(log) == [(1, event)] and encode(event) == log.read_control()[0][1]
