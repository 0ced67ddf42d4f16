"""The archiver: copies hot entries into segments, and only then removes them from the hot log (I7).

Steps for one segment, in this order. A crash between any two loses nothing, and the next run continues:

    1  read a run of sealed batches from the hot log, checking the chain from the archive's end on; copy the control
       events under which it was decided (`core.log.archive.control_files`)
    2  write the segment's files, synced                       (killed here: files not in the manifest are overwritten)
    3  read them back: SHA-256, every entry byte for byte, the chain once more
    4  replace the manifest by one with the new row            (killed here: the next run does step 5)
    5  append SegmentArchived to the control stream, with the row's digest

Trimming: append LogTrimmed first, then trim, so a log that lacks entries always says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from core.codec import decode_seal
from core.control_stream import Known, accepted, append, effective
from core.errors import Conflict, Corrupt, Incomplete
from core.events import Control, LogTrimmed, Position, SegmentArchived
from core.log import seals
from core.log.archive import chain, control_files, manifest, segment
from core.log.archive.archive import Archive
from core.log.archive.manifest import File, Row
from core.log.base import GENESIS_DIGEST, STREAMS, Entry, EventLog, Head, Stream

ACTOR = "sentinel archive"
SEGMENT_TRANSACTIONS = 100_000
"""A segment is closed when it holds this many transactions, or this many other entries."""


def archive_partition(
    hot: EventLog,
    archive: Archive,
    partition: int,
    *,
    recorded_until: int,
    segment_transactions: int = SEGMENT_TRANSACTIONS,
    progress: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Archive the batches up to the last one recorded by `recorded_until` (epoch ms). Returns the new rows.

    A batch that claims to be later than one after it was recorded under a wrong clock; it is as old as that one.

    The caller must hold `archive.store.locked()`. Raises Corrupt if the hot log's chain is broken or does not continue
    the archive, Incomplete if the log lacks control events under which it was decided.
    """
    archive.refresh(partition)
    end = archive.end(partition)
    chain.check_joined(hot, partition, end)
    made: list[Row] = []
    for run in _runs(_due(hot, partition, end, recorded_until), segment_transactions):
        _check_control(hot, partition, run[-1].head)
        control_files.cover(hot, archive, run[-1].head.control)
        row = _write(archive, partition, run)
        made.append(row)
        progress(row)
    return made


def _check_control(hot: EventLog, partition: int, last: Head) -> None:
    """Raise Incomplete if the log lacks a control event under which its batches were decided. Its server was emptied or
    lost its tail, and a worker had not noticed yet: such batches will not be in the log once its backup is restored.
    """
    end = hot.control_head()
    if last.control > end:
        raise Incomplete(
            f"partition {partition}: seal {last.sequence} was decided under control event {last.control}, but the"
            f" control stream ends at {end}: the log lost events. Nothing is archived; restore the log from a backup"
        )


def record(log: EventLog, archive: Archive, partitions: Iterable[int], now: int) -> int:
    """Append SegmentArchived for every row not yet in the control stream. Returns how many. now: epoch ms."""
    rows = [(partition, row) for partition in partitions for row in archive.rows(partition)]

    def decide(known: Known) -> list[Control]:
        recorded = _archived(effective(known.entries))
        return [
            SegmentArchived(
                occurred_at=now,
                actor=ACTOR,
                partition=partition,
                first_sequence=row.first_sequence,
                last_sequence=row.last_sequence,
                digest=row.digest,
            )
            for partition, row in rows
            if recorded.get((partition, row.last_sequence)) != row.digest
        ]

    return len(append(log, decide).events)


def archived_rows(log: EventLog) -> dict[tuple[int, int], str]:
    """Row digests by (partition, last sequence), according to the control stream."""
    return _archived(accepted(log))


def _archived(events: Iterable[tuple[int, Control]]) -> dict[tuple[int, int], str]:
    return {(e.partition, e.last_sequence): e.digest for _, e in events if isinstance(e, SegmentArchived)}


def trimmed(log: EventLog) -> dict[int, int]:
    """By partition, the last seal up to which the hot log may have been trimmed, according to the control stream."""
    return _trimmed(accepted(log))


def _trimmed(events: Iterable[tuple[int, Control]]) -> dict[int, int]:
    found: dict[int, int] = {}
    for _, event in events:
        if isinstance(event, LogTrimmed):
            found[event.partition] = max(found.get(event.partition, 0), event.up_to_sequence)
    return found


def trim_point(archive: Archive, partition: int, recorded_until: int, needed: Sequence[int] = ()) -> Head:
    """How far the hot log may be trimmed: the end of the last archived segment that was recorded by `recorded_until`
    and that every reader has passed.

    needed: for each projection that reads only the hot log, the sequence of the last seal it has applied.
    """
    limit = min(needed, default=None)
    for row in reversed(archive.rows(partition)):
        if row.last_recorded_at <= recorded_until and (limit is None or row.last_sequence <= limit):
            return row.end
    return Head()


def trim(log: EventLog, archive: Archive, partition: int, up_to: Head, now: int) -> int:
    """Trim the hot log up to `up_to`, the end of an archived segment. Returns the number of entries removed.

    Before that, the segments that the log would lose are loaded and checked against their SHA-256 once more.
    """
    archive.refresh(partition)
    rows = [row for row in archive.rows(partition) if row.last_sequence <= up_to.sequence]
    if up_to.sequence == 0:
        return 0
    if not rows or rows[-1].end != up_to:
        raise Conflict(f"partition {partition}: seal {up_to.sequence} does not end an archived segment")
    first = log.read(partition, "seals", count=1)
    held_from = first[0].id.generation if first else 0
    for row in rows:
        if row.last_sequence >= held_from:
            archive.load(row)

    def decide(known: Known) -> list[Control]:
        if _trimmed(effective(known.entries)).get(partition, 0) >= up_to.sequence:
            return []
        return [LogTrimmed(occurred_at=now, actor=ACTOR, partition=partition, up_to_sequence=up_to.sequence)]

    append(log, decide)
    return log.trim(partition, up_to)


def _due(hot: EventLog, partition: int, end: Head, recorded_until: int) -> Iterator[chain.Sealed]:
    last = _last_recorded(hot, partition, end, recorded_until)

    def read(stream: Stream, after: Position, count: int, until: Position | None) -> list[Entry]:
        return hot.read(partition, stream, after, count, until)

    try:
        yield from chain.batches(read, end, last)
    except Corrupt as error:
        raise Corrupt(f"partition {partition}, hot log: {error}") from None


def _last_recorded(hot: EventLog, partition: int, end: Head, recorded_until: int) -> int:
    """The last sequence after `end` whose batch was recorded by then; `end`'s if there is none. Reads all seals."""
    last = end.sequence
    after, until = (Position(head.sequence, seals.ID_PART_MAX) for head in (end, hot.head(partition)))
    while page := hot.read(partition, "seals", after, chain.PAGE, until):
        for entry in page:
            try:
                if decode_seal(entry.payload).recorded_at <= recorded_until:
                    last = entry.id.generation
            except Corrupt:
                return max(last, entry.id.generation)  # reading the batches will say where and why
        after = page[-1].id
    return last


def _runs(batches: Iterator[chain.Sealed], size: int) -> Iterator[list[chain.Sealed]]:
    run: list[chain.Sealed] = []
    transactions = others = 0
    for sealed in batches:
        run.append(sealed)
        batch = sealed.batch
        transactions += len(batch.transactions)
        others += len(batch.alerts) + len(batch.feedback) + len(batch.rejects) + 1
        if max(transactions, others) >= size:
            yield run
            run, transactions, others = [], 0, 0
    if run:
        yield run


def _write(archive: Archive, partition: int, run: list[chain.Sealed]) -> Row:
    before = archive.rows(partition)
    streams: dict[Stream, list[Entry]] = {stream: [] for stream in STREAMS}
    for sealed in run:
        for stream in STREAMS:
            streams[stream] += [sealed.entry] if stream == "seals" else getattr(sealed.batch, stream)
    first, last = run[0].head.sequence, run[-1].head
    files: list[File] = []
    for name, content in segment.encode(streams).items():
        path = manifest.file_name(partition, first, last.sequence, name)
        archive.store.write(path, content)
        files.append(File(name=path, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)))
    row = manifest.sealed(
        Row(
            partition=partition,
            first_sequence=first,
            last_sequence=last.sequence,
            transactions=str(last.transactions),
            feedback=str(last.feedback),
            control=last.control,
            published=str(last.published),
            seal_digest=last.digest,
            first_recorded_at=run[0].recorded_at,
            last_recorded_at=run[-1].recorded_at,
            counts={stream: len(entries) for stream, entries in streams.items()},
            files=tuple(files),
            previous=before[-1].digest if before else GENESIS_DIGEST,
        )
    )
    segment.compare(archive.load(row), streams)
    if archive.refresh(partition):
        raise Conflict(f"partition {partition}: another process is archiving it into {archive.store}")
    archive.store.write(manifest.name_of(partition), manifest.encode([*before, row]))
    archive.refresh(partition)
    if archive.rows(partition)[-1:] != (msgspec.structs.replace(row),):
        raise Corrupt(f"the manifest of partition {partition} differs from what was just written")
    return row
