"""What is older than it should be, measured against the log: reference tables, read models, the archive."""

from __future__ import annotations

from collections.abc import Iterator

from console.log_options import DIRECTORY
from console.server_findings import Finding
from console.tables import span_text, time_text
from core.codec import decode_seal, decode_transaction
from core.control import ControlState
from core.events import Position
from core.features.reference import FIRST_COLUMN
from core.log.archive.archived import ArchivedLog
from core.log.archive.archiver import archived_rows
from core.log.base import EventLog
from core.log.paging import read
from core.receipt import receive_time
from core.settings import Settings
from core.times import DAY_MS, HOUR_MS
from projections.catalogue import ALL
from projections.engine.checkpoints import CheckpointStore

TABLES_OLD_MS = 2 * DAY_MS
"""Tables are published once a day, or more often."""
VIEWS_OLD_MS = HOUR_MS
"""Whoever folds read models saves checkpoints every minute."""
ARCHIVE_LATE_MS = DAY_MS
"""How much older than `archive_hot_hours` a batch may become before it is archived."""


def table_findings(log: EventLog, state: ControlState) -> Iterator[Finding]:
    """Whether reference tables keep up with the payments. Both times are receive times, so history counts as itself."""
    partitions = range(state.generations["transactions"].partitions)
    received = [time for p in partitions if (time := _last_received(log, p))]
    if not received:
        return
    for kind in FIRST_COLUMN:
        as_of = state.references.get(kind, ("", 0))[1]
        behind = max(received) - as_of if as_of else max(received) - _first_received(log, partitions)
        if behind > TABLES_OLD_MS:
            what = (
                f"is of {time_text(as_of)}, {span_text(behind)} behind the payments" if as_of else "was never published"
            )
            yield Finding(
                f"table {kind}", "warn", f"{what}: its features say too little", "run `sentinel reference --follow`"
            )


def _last_received(log: EventLog, partition: int) -> int:
    content = log.get(partition, "transactions", log.head(partition).transactions)
    return 0 if content is None else receive_time(decode_transaction(content))


def _first_received(log: EventLog, partitions: range) -> int:
    first = [entry for p in partitions for entry in read(log, p, "transactions", count=1)]
    return min(receive_time(decode_transaction(entry.payload)) for entry in first)


def read_model_findings(s: Settings, log: EventLog, state: ControlState, now_ms: int) -> Iterator[Finding]:
    """Whether the checkpoints in this folder are kept up; none, if nobody keeps any here."""
    store = CheckpointStore(DIRECTORY, s.log_prefix)
    late: dict[str, int] = {}
    for projection in ALL:
        for partition, sequence in store.places(projection).items():
            if partition in range(state.generations["transactions"].partitions):
                since = _sealed_at(log, partition, sequence + 1)
                if since and now_ms - since > VIEWS_OLD_MS:
                    late[projection.name] = max(late.get(projection.name, 0), now_ms - since)
    if late:
        worst = max(late, key=lambda name: late[name])
        yield Finding(
            "read models",
            "warn",
            f"{len(late)} in {DIRECTORY} are behind the log, {worst} by {span_text(late[worst])}: commands fold the"
            " rest each time",
            "run `sentinel serve` or `sentinel project --follow`; see what it says if it runs",
        )


def archive_age_findings(s: Settings, log: EventLog, state: ControlState, now_ms: int) -> Iterator[Finding]:
    """Whether the archive is there, has all that was archived, and goes on."""
    recorded: dict[int, int] = {}
    for partition, sequence in archived_rows(log):
        recorded[partition] = max(recorded.get(partition, 0), sequence)
    if not isinstance(log, ArchivedLog):
        if recorded:
            yield Finding(
                "archive",
                "fail",
                f"the log was archived ({sum(recorded.values()):,} batches), and these settings name no archive",
                "set `archive` (SENTINEL_ARCHIVE) to its location",
            )
        elif s.environment != "development":
            said = "none is set: if the log server's data is lost, so is everything"
            yield Finding(
                "archive", "warn", said, "set `archive`, and run `sentinel archive` regularly (docs/archive.md)"
            )
        return
    lacking = sorted(p for p, sequence in recorded.items() if log.archive.end(p).sequence < sequence)
    if lacking:
        yield Finding(
            "archive",
            "fail",
            f"{log.archive.store} lacks batches of partitions {', '.join(map(str, lacking))} that were archived",
            "correct `archive` (SENTINEL_ARCHIVE), or restore it from its backup before anything is trimmed",
        )
        return
    since = [
        _sealed_at(log, p, log.archive.end(p).sequence + 1) for p in range(state.generations["transactions"].partitions)
    ]
    oldest = min((each for each in since if each), default=now_ms)
    late = now_ms - oldest - s.archive_hot_hours * HOUR_MS
    if late > ARCHIVE_LATE_MS:
        said = f"what is {span_text(now_ms - oldest)} old is not archived yet"
        yield Finding("archive", "warn", said, "run `sentinel archive` regularly, and see what it says if it is run")


def _sealed_at(log: EventLog, partition: int, sequence: int) -> int:
    """When the seal was recorded, epoch ms; 0 if the log has none with this number."""
    if sequence < 1 or sequence > log.head(partition).sequence:
        return 0
    found = read(log, partition, "seals", Position(sequence - 1, 0), 1)
    return decode_seal(found[0].payload).recorded_at if found else 0
