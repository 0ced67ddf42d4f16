"""`sentinel archive`: seal the hot log into Parquet segments, and take out of Redis what they hold."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from console import wiring
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort
from core.errors import BadInput
from core.log.archive import archiver, retention
from core.log.archive.archive import Archive, open_archive
from core.log.archive.manifest import Row
from core.log.base import EventLog
from core.partitions import partitions_of
from core.settings import Settings
from core.times import DAY_MS, HOUR_MS


def archive(
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    directory: Annotated[
        str | None,
        typer.Option(help="Directory or URI (s3://bucket/folder?region=…) of the archive; default: the setting."),
    ] = None,
    hot_hours: Annotated[
        float | None,
        typer.Option(
            help="Batches taken in since so many hours stay in the hot log only; 0 archives all. Default: the setting"
            " archive_hot_hours, 24.",
            min=0,
        ),
    ] = None,
    trim: Annotated[
        bool, typer.Option("--trim", help="Then remove from the hot log what is archived and older than --hot-hours.")
    ] = False,
    projections: Annotated[
        Path | None,
        typer.Option(
            help="With --trim: folder of projection checkpoints; nothing is trimmed that one has yet to read."
        ),
    ] = None,
    keep_days: Annotated[
        float | None,
        typer.Option(
            help="Then move segments older than so many days to --cold, where they are still read from; 0 moves none."
            " Default: the setting archive_keep_days, 0.",
            min=0,
        ),
    ] = None,
    cold: Annotated[
        str | None,
        typer.Option(help="Directory or URI that old segments are moved to; default: the setting archive_cold."),
    ] = None,
    partition: Annotated[list[int] | None, typer.Option(help="Only this partition (may be repeated).")] = None,
    as_json: Json = False,
) -> None:
    """Archive the log, verify by reading back, record it in the control stream; with --trim, free the hot log.

    With --keep-days old segments go on to a cheaper store. None is ever deleted: replay begins at the first seal.

    Safe beside workers, and to kill at any moment. Run one at a time per archive. A log that was trimmed is read
    through the setting `archive` (SENTINEL_ARCHIVE): set it for every command and worker before the first --trim.
    """
    s = wiring.settings(
        config,
        redis_host=redis_host,
        redis_port=redis_port,
        log_prefix=log_prefix,
        archive=directory,
        archive_cold=cold,
        archive_hot_hours=hot_hours,
        archive_keep_days=keep_days,
    )
    _check(s, wiring.settings(config), trim, directory, cold)
    found = run(s, trim=trim, only=partition, projections=projections, quiet=as_json)
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        print(
            f"{found['segments']} segments, {found['transactions']:,} transactions, {found['bytes']:,} bytes archived;"
            f" {found['trimmed_entries']:,} entries trimmed; {found['moved_segments']} segments,"
            f" {found['moved_bytes']:,} bytes moved to the cold store"
        )


def _check(s: Settings, own: Settings, trim: bool, directory: str | None, cold: str | None) -> None:
    """Refuse what would put entries where nothing else looks for them. own: the settings without this command's."""
    if not s.archive:
        raise BadInput("missing archive location: give --directory, or set `archive` (SENTINEL_ARCHIVE)")
    if trim and directory is not None and not own.archive:
        raise BadInput("--trim needs the setting `archive` (SENTINEL_ARCHIVE), or nothing else would find the archive")
    if s.archive_keep_days and not s.archive_cold:
        raise BadInput(
            "segments are moved, not deleted, for replay begins at the first seal: name a --cold store, or the setting"
            " `archive_cold` (SENTINEL_ARCHIVE_COLD)"
        )
    if s.archive_keep_days and cold is not None and not own.archive_cold:
        raise BadInput(
            "--keep-days needs the setting `archive_cold` (SENTINEL_ARCHIVE_COLD), or nothing else would find what it"
            " moves"
        )


def run(
    s: Settings,
    *,
    trim: bool,
    only: list[int] | None = None,
    projections: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Archive, trim and move as the command does; returns what it prints with --json."""
    hot = wiring.open_hot(s)
    store = open_archive(s.archive, s.archive_cold)
    total = dict.fromkeys(("segments", "transactions", "bytes", "trimmed_entries", "moved_segments", "moved_bytes"), 0)

    def progress(row: Row) -> None:
        size = sum(file.bytes for file in row.files)
        total["segments"] += 1
        total["transactions"] += row.count("transactions")
        total["bytes"] += size
        if not quiet:
            print(f"partition {row.partition:>3}  seals {row.first_sequence} … {row.last_sequence}  {size:,} bytes")

    try:
        partitions = partitions_of(hot, only)
        now = int(time.time() * 1000)
        recorded_until = now - math.ceil(s.archive_hot_hours * HOUR_MS)
        with store.store.locked():
            for p in partitions:
                archiver.archive_partition(hot, store, p, recorded_until=recorded_until, progress=progress)
            archiver.record(hot, store, partitions, now)
            if trim:
                total["trimmed_entries"] = _trim(hot, store, partitions, recorded_until, projections, now)
            if s.archive_keep_days:
                for p in partitions:
                    segments, size = retention.move_old(store, p, now - math.ceil(s.archive_keep_days * DAY_MS))
                    total["moved_segments"] += segments
                    total["moved_bytes"] += size
    finally:
        hot.close()
    return total


def _trim(
    hot: EventLog, archive: Archive, partitions: list[int], recorded_until: int, projections: Path | None, now: int
) -> int:
    removed = 0
    for p in partitions:
        point = archiver.trim_point(archive, p, recorded_until, checkpointed(projections, p))
        removed += archiver.trim(hot, archive, p, point, now)
    return removed


def checkpointed(directory: Path | None, partition: int) -> list[int]:
    """For each projection checkpoint in the folder, the last seal of the partition that it has taken in.

    Raises BadInput if a checkpoint does not read: trimming must not guess.
    """
    if directory is None:
        return []
    if not directory.is_dir():
        raise BadInput(f"{directory} is not a folder of projection checkpoints")
    places: list[int] = []
    for path in sorted(directory.glob("*.checkpoint")):
        with open(path, "rb") as file:
            line = file.readline()
        try:
            sources = msgspec.json.decode(line, type=_Checkpoint).sources
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadInput(f"{path} is not a projection's checkpoint: {error}") from None
        place = sources.get(partition)
        places.append(place.sequence if place is not None else 0)
    return places


class _Place(msgspec.Struct, frozen=True):
    sequence: int


class _Checkpoint(msgspec.Struct, frozen=True):
    """The part of a checkpoint's first line (projections.engine.checkpoints) that trimming depends on."""

    sources: dict[int, _Place]
