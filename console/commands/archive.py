"""`sentinel archive`: write sealed batches to Parquet segments, and trim them from Redis."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from console import profiles, wiring
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort
from core import control_stream
from core.errors import UNDECODABLE, BadInput
from core.log.archive import archiver, blobs, control_files, manifest, retention
from core.log.archive.archive import open_archive
from core.log.archive.archived import ArchivedLog
from core.log.archive.manifest import Row
from core.partitions import partitions_of
from core.settings import Settings
from core.times import DAY_MS, HOUR_MS
from projections.catalogue import ALL

_FIGURES = (
    "segments",
    "transactions",
    "bytes",
    "copied_blobs",
    "copied_blob_bytes",
    "control_events",
    "archive_bytes",
    "trimmed_entries",
    "removed_blobs",
    "removed_blob_bytes",
    "moved_segments",
    "moved_bytes",
    "moved_blobs",
    "moved_blob_bytes",
)


def archive(
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    directory: Annotated[
        str | None,
        typer.Option(help="Archive directory or URI (s3://bucket/folder?region=…). Default: the setting `archive`."),
    ] = None,
    hot_hours: Annotated[
        float | None,
        typer.Option(
            help="Keep batches recorded in the last so many hours in the hot log only; 0 archives all. Default: the"
            " setting archive_hot_hours (24).",
            min=0,
        ),
    ] = None,
    trim: Annotated[
        bool, typer.Option("--trim", help="Then remove archived entries older than --hot-hours from the hot log.")
    ] = False,
    projections: Annotated[
        Path | None,
        typer.Option(
            help="With --trim: directory of projection checkpoints; keeps every entry that one of them has yet to read."
        ),
    ] = None,
    keep_days: Annotated[
        float | None,
        typer.Option(
            help="Then move segments older than so many days to --cold, from where they are still read; 0 moves none."
            " Default: the setting archive_keep_days (0).",
            min=0,
        ),
    ] = None,
    cold: Annotated[
        str | None,
        typer.Option(help="Directory or URI for old segments. Default: the setting archive_cold."),
    ] = None,
    partition: Annotated[list[int] | None, typer.Option(help="Only this partition; may be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """Archive the log, verify it by reading it back, record it in the control stream; with --trim, free the hot log.

    The control stream, models, programs and tables are copied too, so that `sentinel restore` can rebuild a log server.
    With --keep-days, old segments move to a cheaper store. No segment is ever deleted: replay begins at the first seal.

    Safe to run beside workers and to kill at any time. Run only one at a time per archive. A trimmed log can only be
    read with its archive: set `archive` (SENTINEL_ARCHIVE) for every command and worker before the first --trim.
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
            f" {found['copied_blobs']} blobs, {found['copied_blob_bytes']:,} bytes,"
            f" {found['control_events']:,} control events copied: {found['archive_bytes']:,} bytes in the archive;"
            f" {found['trimmed_entries']:,} entries, {found['removed_blobs']} blobs,"
            f" {found['removed_blob_bytes']:,} bytes of blobs removed from the hot log;"
            f" {found['moved_segments']} segments, {found['moved_bytes']:,} bytes, {found['moved_blobs']} blobs,"
            f" {found['moved_blob_bytes']:,} bytes moved to the cold store"
        )


def _check(s: Settings, own: Settings, trim: bool, directory: str | None, cold: str | None) -> None:
    """Refuse to put entries where other processes would not find them. own: the settings without the flags."""
    if not s.archive:
        raise BadInput("missing archive location: give --directory, or set `archive` (SENTINEL_ARCHIVE)")
    if trim and directory is not None and not own.archive:
        raise BadInput(
            "--trim requires the setting `archive` (SENTINEL_ARCHIVE): workers can't read a trimmed log without it"
        )
    if trim and s.archive != own.archive:
        raise BadInput(
            f"--trim with --directory {directory}, but the setting `archive` is {own.archive}: workers would not find"
            " there what leaves the hot log. Use the setting's archive"
        )
    if s.archive_keep_days and not s.archive_cold:
        raise BadInput(
            "missing cold store: give --cold, or set `archive_cold` (SENTINEL_ARCHIVE_COLD); segments are moved, never"
            " deleted"
        )
    if s.archive_keep_days and cold is not None and not own.archive_cold:
        raise BadInput(
            "--keep-days requires the setting `archive_cold` (SENTINEL_ARCHIVE_COLD): workers can't read moved segments"
            " without it"
        )
    if s.archive_keep_days and s.archive_cold != own.archive_cold:
        raise BadInput(
            f"--keep-days with --cold {cold}, but the setting `archive_cold` is {own.archive_cold}: workers would not"
            " find moved segments there. Use the setting's store"
        )


def run(
    s: Settings,
    *,
    trim: bool,
    only: list[int] | None = None,
    projections: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Archive, trim and move segments and blobs; returns what the command prints with --json."""
    profiles.check_settings(s, profiles.LOG_ONLY)
    hot = wiring.open_hot(s)
    store = open_archive(s.archive, s.archive_cold)
    total = dict.fromkeys(_FIGURES, 0)

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
            known, held = control_files.newest(store).end, store.store.sizes(manifest.BLOBS)
            for p in partitions:
                archiver.archive_partition(hot, store, p, recorded_until=recorded_until, progress=progress)
            archiver.record(hot, store, partitions, now)
            whole = ArchivedLog(hot, store)
            for line in blobs.copy(whole, control_stream.history(hot)).missing:
                print(f"warning: not archived: {line}", file=sys.stderr)
            if trim:
                needed = reading(projections, s.log_prefix) if projections is not None else []
                for p in partitions:
                    point = archiver.trim_point(store, p, recorded_until, [places.get(p, 0) for places in needed])
                    total["trimmed_entries"] += archiver.trim(hot, store, p, point, now)
                removed = blobs.remove_superseded(whole, control_stream.history(hot), partitions_of(hot))
                total["removed_blobs"], total["removed_blob_bytes"] = removed.blobs, removed.bytes
            ends = {p: store.end(p).sequence for p in partitions_of(hot)}
            reach = control_files.consistent_end(hot, ends, control_files.newest(store).end)
            control_files.cover(hot, store, reach)
            total["control_events"] = control_files.newest(store).end - known
            total["archive_bytes"] = store.bytes_held(ends)
            fresh = {name: size for name, size in store.store.sizes(manifest.BLOBS).items() if name not in held}
            total["copied_blobs"], total["copied_blob_bytes"] = len(fresh), sum(fresh.values())
            if s.archive_keep_days:
                _move(whole, partitions, now - math.ceil(s.archive_keep_days * DAY_MS), total)
    finally:
        hot.close()
    return total


def _move(log: ArchivedLog, partitions: list[int], recorded_until: int, total: dict[str, int]) -> None:
    """Move old segments, and the tables that only they need, to the cold store; counted in `total`."""
    for p in partitions:
        segments, size = retention.move_old(log.archive, p, recorded_until)
        total["moved_segments"] += segments
        total["moved_bytes"] += size
    position = retention.oldest_position(log.archive, partitions_of(log), recorded_until)
    tables = blobs.superseded(control_stream.history(log), position)
    total["moved_blobs"], total["moved_blob_bytes"] = retention.move_blobs(log.archive, tables)


def reading(directory: Path, prefix: str) -> list[dict[int, int]]:
    """For each projection checkpoint of the log in the directory, the last seal that it has applied, by partition.
    Those of projections that read only the control stream need nothing of a partition.

    One of a projection or version that this release does not have is ignored, with a warning, so that what nobody
    continues can't keep the log from being trimmed. If another release still does, as during an upgrade, it reads what
    was trimmed from the archive. Raises BadInput if a checkpoint can't be read: trimming must not guess.
    """
    if not directory.is_dir():
        raise BadInput(f"{directory} is not a directory of projection checkpoints")
    found: list[dict[int, int]] = []
    for path in sorted(directory.glob("*.checkpoint")):
        with open(path, "rb") as file:
            line = file.readline()
        try:
            header = msgspec.json.decode(line, type=_Checkpoint)
        except UNDECODABLE as error:
            raise BadInput(f"{path} is not a projection checkpoint: {error}") from None
        if path.name != f"{prefix}-{header.name}-{header.version}.checkpoint":
            continue  # another log's
        known = next((each for each in ALL if (each.name, each.version) == (header.name, header.version)), None)
        if known is None:
            print(
                f"warning: {path} holds nothing back: this release has no projection {header.name}-{header.version}."
                " Remove the file once no process of another release uses it",
                file=sys.stderr,
            )
        elif known.reads_partitions:
            found.append({partition: place.sequence for partition, place in header.sources.items()})
    return found


class _Place(msgspec.Struct, frozen=True):
    sequence: int


class _Checkpoint(msgspec.Struct, frozen=True):
    """The part of a checkpoint's first line (projections.engine.checkpoints) that trimming uses."""

    sources: dict[int, _Place]
    name: str
    version: int
