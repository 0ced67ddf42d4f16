"""One log as hot log alone, archive alone and half of each: readers must not tell them apart."""

from __future__ import annotations

from pathlib import Path

from core.codec import decode_seal
from core.log.archive import archiver
from core.log.archive.archive import open_archive
from core.log.archive.archived import ArchivedLog
from core.log.base import EventLog
from core.log.memory import MemoryLog
from core.partitions import partitions_of

SEGMENT = 200


def forms(log: MemoryLog, directory: Path) -> dict[str, EventLog]:
    """The log in its three forms; what is archived is trimmed."""
    return {
        "hot": log,
        "half": archived(log, directory / "half", 0.5),
        "archive": archived(log, directory / "all", 1.0),
    }


def archived(log: MemoryLog, directory: Path, share: float) -> ArchivedLog:
    """A copy of the log with this share of its batches in an archive, and only there."""
    hot, archive = log.clone(), open_archive(str(directory))
    found = ArchivedLog(hot, archive)
    for p in partitions_of(log):
        times = [decode_seal(entry.payload).recorded_at for entry in log.read(p, "seals", count=10**6)]
        until = times[max(int(len(times) * share) - 1, 0)]
        archiver.archive_partition(hot, archive, p, recorded_until=until, segment_transactions=SEGMENT)
        found.trim(p, archive.end(p))
    return found
