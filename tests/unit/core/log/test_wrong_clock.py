"""Batches recorded under a clock ten years ahead stop neither archive, trimming, retention nor time travel."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.log.archive import retention
from core.log.archive.archive import open_archive
from core.log.archive.archiver import archive_partition, trim_point
from core.log.base import Head
from core.log.memory import MemoryLog
from core.times import DAY_MS
from projections.engine.as_of import resolve
from tests.builders.batches import batch_after

T0 = 1_790_000_000_000
STEP = 60_000
YEARS = 3_650 * DAY_MS


@pytest.fixture
def log() -> MemoryLog:
    """Thirty batches, a minute apart; those from 11 to 14 claim to be ten years later."""
    log, head = MemoryLog(), Head()
    for n in range(30):
        batch = batch_after(head, transactions=2, alerts=0, feedback=0, rejects=0)
        batch.recorded_at = T0 + n * STEP + (YEARS if 10 <= n < 14 else 0)
        head = log.append(0, batch, head)
    return log


def test_the_archive_goes_on(log: MemoryLog, tmp_path: Path) -> None:
    """All batches but the newest five are due, and the log may be trimmed as far; old segments move."""
    archive = open_archive(str(tmp_path / "warm"), str(tmp_path / "cold"))
    until = T0 + 24 * STEP
    made = archive_partition(log, archive, 0, recorded_until=until, segment_transactions=6)
    assert made[-1].last_sequence == 25
    assert trim_point(archive, 0, until).sequence == 25
    moved, _ = retention.move_old(archive, 0, T0 + 20 * STEP)
    assert moved == sum(row.last_recorded_at <= T0 + 20 * STEP or row.last_recorded_at > until for row in made)


def test_what_is_not_due_yet_stays(log: MemoryLog, tmp_path: Path) -> None:
    """A batch that claims the future is not due before one after it is."""
    made = archive_partition(log, open_archive(str(tmp_path)), 0, recorded_until=T0 + 9 * STEP)
    assert made[-1].last_sequence == 10


@pytest.mark.parametrize(("minute", "sequence"), [(29, 30), (10**6, 30), (20, 21), (14, 15), (13, 10), (9, 10), (4, 5)])
def test_time_travel_finds_every_moment(log: MemoryLog, minute: int, sequence: int) -> None:
    """As of now everything is there; as of each minute, all recorded by then; wrong ones with the next right one."""
    cut = resolve(log, [0], str(T0 + minute * STEP))
    assert cut.partitions[0].place.sequence == sequence
