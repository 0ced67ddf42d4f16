"""The reading and appending parts of EventLog's contract, on a log that is archived and trimmed at every append."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from core.errors import BadInput, Corrupt
from core.log.archive.archive import open_archive
from core.log.archive.archived import ArchivedLog
from core.log.archive.archiver import archive_partition
from core.log.base import STREAMS, Batch, Entry, EventLog, Head
from core.log.memory import MemoryLog
from tests.builders.batches import batch_after, contents
from tests.contracts.test_event_log import (  # noqa: F401
    filled,
    test_a_batch_is_read_back_byte_for_byte,
    test_a_batch_without_entries_still_seals,
    test_a_head_of_another_history_is_refused,
    test_a_stale_head_is_refused_whole,
    test_an_empty_log_is_at_its_start,
    test_an_id_is_never_written_twice,
    test_an_unknown_blob_is_the_callers_fault,
    test_any_damage_breaks_the_chain,
    test_append_many_gives_each_batch_its_own_result,
    test_blobs_are_found_by_what_they_are,
    test_control_events_are_totally_ordered,
    test_control_needs_the_expected_position,
    test_get_finds_one_entry,
    test_ids_may_have_gaps_and_a_new_generation_starts_again,
    test_positions_never_go_back,
    test_reads_are_windows_of_the_stream,
    test_the_stored_entries_match_their_seals,
)


class EagerlyArchived(ArchivedLog):
    """Archives everything before the newest batch after every append, and trims it at every other one."""

    def append(self, partition: int, batch: Batch, expected: Head) -> Head:
        head = super().append(partition, batch, expected)
        self._settle(partition, expected)
        return head

    def append_many(self, batches: Sequence[tuple[int, Batch, Head]]) -> list[Head | Exception]:
        results = super().append_many(batches)
        for (partition, _, expected), result in zip(batches, results, strict=True):
            if isinstance(result, Head):
                self._settle(partition, expected)
        return results

    def _settle(self, partition: int, up_to: Head) -> None:
        newest = self.hot.read(partition, "seals")[-1].id.generation
        if up_to.sequence and newest == up_to.sequence + 1:
            archive_partition(_Until(self.hot, up_to), self.archive, partition, recorded_until=2**62)
            if up_to.sequence % 2:
                self.trim(partition, up_to)


class _Until(MemoryLog):
    """A log as it stood at an earlier head."""

    def __init__(self, log: EventLog, head: Head) -> None:
        super().__init__()
        self._log, self._head = log, head

    def head(self, partition: int) -> Head:
        return self._head

    def read(self, *arguments: object, **named: object) -> list[Entry]:
        return self._log.read(*arguments, **named)  # type: ignore[arg-type]

    def get(self, *arguments: object) -> bytes | None:
        return self._log.get(*arguments)  # type: ignore[arg-type]


@pytest.fixture
def event_log(tmp_path: Path) -> Iterator[EventLog]:
    log = EagerlyArchived(MemoryLog(), open_archive(str(tmp_path / "archive")))
    yield log
    log.close()


def test_the_fixture_archives_and_trims(event_log: ArchivedLog) -> None:
    """The suite above means something: entries are in the archive, and are gone from the hot log."""
    filled(event_log, batches=6)
    assert event_log.archive.end(0).sequence == 5
    assert event_log.hot.length(0, "transactions") < 18 == event_log.length(0, "transactions")


def test_trimming_is_not_seen_by_readers(event_log: ArchivedLog) -> None:
    """What the contract says of trimming holds for the hot log; a reader of both sees no difference."""
    head = filled(event_log, batches=6)
    before = contents(event_log, 0)
    event_log.trim(0, event_log.archive.end(0))
    assert contents(event_log, 0) == before
    assert event_log.head(0) == head
    assert event_log.hot.length(0, "transactions") == 3
    assert [event_log.length(0, stream) for stream in STREAMS] == [len(before[stream]) for stream in STREAMS]


def test_what_is_not_archived_is_not_trimmed(event_log: ArchivedLog) -> None:
    """Trimming to a head that the manifest does not list is refused, with nothing removed (I7)."""
    head = filled(event_log, batches=4)
    before = contents(event_log.hot, 0)
    with pytest.raises(BadInput):
        event_log.trim(0, head)
    assert contents(event_log.hot, 0) == before


def test_a_log_that_lost_its_tail_is_noticed(tmp_path: Path) -> None:
    """A hot log that ends before its archive raises Corrupt instead of being written on."""
    archive = open_archive(str(tmp_path))
    whole, shorter = MemoryLog(), MemoryLog()
    filled(whole, batches=4)
    filled(shorter, batches=2)
    archive_partition(whole, archive, 0, recorded_until=2**62)
    with pytest.raises(Corrupt, match="ends at seal 2"):
        ArchivedLog(shorter, archive).head(0)
    with pytest.raises(Corrupt, match="lost its tail"):
        archive_partition(shorter, archive, 0, recorded_until=2**62)
    other = MemoryLog()
    head = Head()
    for _ in range(5):
        head = other.append(0, batch_after(head, tag="other"), head)
    with pytest.raises(Corrupt, match="another log"):
        archive_partition(other, archive, 0, recorded_until=2**62)
