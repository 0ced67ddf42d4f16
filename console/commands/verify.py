"""`sentinel verify`: checks that the log is intact and unchanged: hot log, archive and manifest as one chain."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from console import wiring
from console.limits import MAX_DEGRADED, MAX_LATE, MaxDegraded, MaxLate, exceeded
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort
from core.errors import BadInput, Corrupt
from core.files import write_atomic
from core.lateness import late
from core.log.archive import verifying
from core.log.archive.archive import Archive, open_archive
from core.log.archive.archiver import archived_rows
from core.log.archive.control_chain import Evidence, Point, check_control, check_named
from core.log.archive.verifying import Checked, SignedHead
from core.log.base import EventLog
from core.partitions import partitions_of
from core.settings import Settings
from ingest.snapshots import SnapshotStore

EXIT_FAULT, EXIT_LIMIT = 3, 1


def verify(
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    partition: Annotated[list[int] | None, typer.Option(help="Only this partition; may be repeated.")] = None,
    head: Annotated[Path | None, typer.Option(help="Signed head from an earlier run; the log must contain it.")] = None,
    write_head: Annotated[
        Path | None, typer.Option(help="If the log is intact, write its current head, signed with --key.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Key file of the signature (HMAC-SHA256), at least 16 bytes.")
    ] = None,
    max_degraded: MaxDegraded = MAX_DEGRADED,
    max_late: MaxLate = MAX_LATE,
    as_json: Json = False,
) -> None:
    """Check every seal, entry, segment, manifest line, control event and blob, and that every decision names the
    context of its seal. Exit code 0 if the log is intact, 3 if it is corrupt, 1 if too many decisions were degraded or
    late.

    Finds any changed bit and any removed entry or segment, and prints where. Only a signed head shows that the newest
    batches or control events were removed, or that everything from some place on was computed again. So write a head
    after each run (--write-head) and keep it where the log's owner can't change it.
    """
    s = wiring.settings(config, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix)
    if (head or write_head) and key is None:
        raise BadInput("--head and --write-head require --key FILE")
    if write_head is not None and partition:
        raise BadInput("--write-head signs the whole log; remove --partition")
    secret = _read(key) if key is not None else b""
    signed = verifying.read_signed_head(_read(head), secret) if head is not None else None
    started = time.monotonic()
    with closing(wiring.open_hot(s)) as log:
        found = run(s, log, open_archive(s.archive, s.archive_cold) if s.archive else None, partition, signed)
    beyond = exceeded(found.decisions, found.degraded, found.late, max_degraded, max_late)
    if write_head is not None and not found.faults:
        heads = {checked.partition: checked.head for checked in found.partitions}
        _replace(write_head, verifying.signed_head(s.log_prefix, heads, found.control, secret))
    _report(found, beyond, time.monotonic() - started, as_json)
    if found.faults:
        raise typer.Exit(EXIT_FAULT)
    if beyond:
        raise typer.Exit(EXIT_LIMIT)


@dataclass(frozen=True, slots=True)
class Found:
    """Each partition's result, the end of the control stream, and every fault, one line each."""

    partitions: list[Checked]
    control: Point
    faults: list[str]

    @property
    def decisions(self) -> int:
        return sum(checked.decisions for checked in self.partitions)

    @property
    def degraded(self) -> int:
        return sum(checked.degraded for checked in self.partitions)

    @property
    def late(self) -> int:
        return late([checked.pace for checked in self.partitions])


def run(
    s: Settings,
    log: EventLog,
    archive: Archive | None,
    only: list[int] | None = None,
    signed: SignedHead | None = None,
) -> Found:
    """Check the log. Raises BadInput if the signed head is of another log, or if the log is empty."""
    if signed is not None and signed.log != s.log_prefix:
        raise BadInput(f"the signed head belongs to log {signed.log!r}, not to {s.log_prefix!r}")
    control = check_control(log, signed.control if signed is not None else None)
    faults = [f"control stream: {control.fault}"] if control.fault else []
    try:
        partitions = partitions_of(log, only)
        archived = archived_rows(log)
    except (BadInput, Corrupt) as error:
        if signed is None and not faults:
            raise
        return Found([], control.end, [*faults, f"can't read the log: {error}"])
    found = []
    for p in partitions:
        point = signed.partitions.get(str(p)) if signed is not None else None
        evidence = control.evidence_of(p) + _snapshot(s, p)
        checked = verifying.check_partition(log, archive, p, point, archived, evidence, control.log_id)
        found.append(checked)
        if checked.fault:
            faults.append(f"partition {p}: {checked.fault}")
    end = control.end
    if not control.fault and (fault := check_named(log, control, [n for checked in found for n in checked.named])):
        faults.append(f"control stream: {fault}")
    return Found(found, end, faults)


def _snapshot(s: Settings, partition: int) -> list[Evidence]:
    """The seal at which the partition's snapshot on this machine was taken, if there is one."""
    head = SnapshotStore(Path(s.snapshot_directory), s.log_prefix).head(partition)
    who = f"the snapshot in {s.snapshot_directory} (if it is another log's, delete it),"
    return [Evidence(who, head.sequence, head.digest)] if head is not None else []


def _report(found: Found, beyond: list[str], seconds: float, as_json: bool) -> None:
    faults, control = found.faults, found.control
    entries = sum(checked.entries for checked in found.partitions)
    if as_json:
        summary = {
            "ok": not faults and not beyond,
            "faults": faults,
            "exceeded": beyond,
            "entries": entries,
            "decisions": found.decisions,
            "degraded": found.degraded,
            "late": found.late,
            "segments": sum(checked.segments for checked in found.partitions),
            "seals": {str(checked.partition): checked.head.sequence for checked in found.partitions},
            "control": control.sequence,
            "seconds": round(seconds, 3),
        }
        print(msgspec.json.encode(summary).decode())
        return
    for line in [*faults, *beyond]:
        print(line, file=sys.stderr)
    for checked in found.partitions:
        state = "CORRUPT" if checked.fault else "ok"
        print(
            f"partition {checked.partition:>3}  {checked.segments:>4} segments  seal {checked.head.sequence:>9,}"
            f"  {checked.entries:>11,} entries  {state}"
        )
    state = "CORRUPT" if faults else "intact"
    print(
        f"{entries:,} entries, {control.sequence:,} control events; {found.decisions:,} decisions, {found.degraded:,}"
        f" degraded, {found.late:,} late: {state} ({seconds:.1f} s)"
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}") from None


def _replace(path: Path, content: bytes) -> None:
    try:
        write_atomic(path, content)
    except OSError as error:
        raise BadInput(f"can't write {path}: {error.strerror}") from None
