"""`sentinel verify`: checks that the log is intact and unchanged: hot log, archive and manifest as one chain."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from console import wiring
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort
from core.errors import BadInput, Corrupt
from core.files import write_atomic
from core.log.archive import verifying
from core.log.archive.archive import Archive, open_archive
from core.log.archive.archiver import archived_rows
from core.log.archive.verifying import Checked, Point, SignedHead
from core.log.base import EventLog
from core.partitions import partitions_of
from core.settings import Settings

EXIT_FAULT = 3


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
    as_json: Json = False,
) -> None:
    """Check every seal, entry, segment, manifest line and blob. Exit code 0 if the log is intact, 3 if it is corrupt.

    Finds any changed bit and any removed entry or segment, and prints where. Two changes only show against a signed
    head: removing the newest batches, and changing the control stream. So write a head after each run (--write-head)
    and keep it where the log's owner can't change it.
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
        found, control, faults = run(
            s, log, open_archive(s.archive, s.archive_cold) if s.archive else None, partition, signed
        )
    if write_head is not None and not faults:
        heads = {checked.partition: checked.head for checked in found}
        _replace(write_head, verifying.signed_head(s.log_prefix, heads, control, secret))
    _report(found, control, faults, time.monotonic() - started, as_json)
    if faults:
        raise typer.Exit(EXIT_FAULT)


def run(
    s: Settings,
    log: EventLog,
    archive: Archive | None,
    only: list[int] | None = None,
    signed: SignedHead | None = None,
) -> tuple[list[Checked], Point, list[str]]:
    """Each partition's result, the end of the control stream, and every fault, one line each. Raises BadInput."""
    if signed is not None and signed.log != s.log_prefix:
        raise BadInput(f"the signed head belongs to log {signed.log!r}, not to {s.log_prefix!r}")
    control, fault = verifying.check_control(log, signed.control if signed is not None else None)
    faults = [f"control stream: {fault}"] if fault else []
    try:
        partitions = partitions_of(log, only)
        archived = archived_rows(log)
    except (BadInput, Corrupt) as error:
        if signed is None and not faults:
            raise
        return [], control, [*faults, f"can't read the log: {error}"]
    found = []
    for p in partitions:
        point = signed.partitions.get(str(p)) if signed is not None else None
        checked = verifying.check_partition(log, archive, p, point, archived)
        found.append(checked)
        if checked.fault:
            faults.append(f"partition {p}: {checked.fault}")
    return found, control, faults


def _report(found: list[Checked], control: Point, faults: list[str], seconds: float, as_json: bool) -> None:
    entries = sum(checked.entries for checked in found)
    if as_json:
        summary = {
            "ok": not faults,
            "faults": faults,
            "entries": entries,
            "segments": sum(checked.segments for checked in found),
            "seals": {str(checked.partition): checked.head.sequence for checked in found},
            "control": control.sequence,
            "seconds": round(seconds, 3),
        }
        print(msgspec.json.encode(summary).decode())
        return
    for fault in faults:
        print(fault, file=sys.stderr)
    for checked in found:
        state = "CORRUPT" if checked.fault else "ok"
        print(
            f"partition {checked.partition:>3}  {checked.segments:>4} segments  seal {checked.head.sequence:>9,}"
            f"  {checked.entries:>11,} entries  {state}"
        )
    state = "CORRUPT" if faults else "intact"
    print(f"{entries:,} entries, {control.sequence:,} control events: {state} ({seconds:.1f} s)")


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
