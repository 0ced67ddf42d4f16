"""`sentinel verify`: checks that the log is intact and unchanged: hot log, archive and manifest as one chain, and
against anchors.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import typer

from console import wiring
from console.anchoring import reading, timestamps
from console.anchoring.reading import Read
from console.anchoring.settings import anchor_settings
from console.limits import MAX_DEGRADED, MAX_LATE, MaxDegraded, MaxLate, exceeded
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort
from core import control_stream
from core.errors import BadInput, Corrupt, SentinelError
from core.identity import LogIdentity
from core.lateness import late
from core.log.anchored import Anchors
from core.log.archive import blobs, control_files, verifying
from core.log.archive.archive import Archive, open_archive
from core.log.archive.archived import ArchivedLog
from core.log.archive.archiver import archived_rows
from core.log.archive.control_chain import ControlChain, Evidence, Point, check_control, check_named
from core.log.archive.verifying import Checked
from core.log.base import EventLog
from core.log.checkpoints import Checkpoint
from core.log.growth import Trees
from core.log.notes import Note, PublicKey
from core.partitions import partitions_of
from core.settings import Settings
from core.times import utc
from ingest.snapshots import SnapshotStore

EXIT_FAULT, EXIT_LIMIT = 3, 1


def verify(
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    partition: Annotated[list[int] | None, typer.Option(help="Only this partition; may be repeated.")] = None,
    public_key: Annotated[
        list[str] | None,
        typer.Option(
            help="Public key of the log's notary, or of a witness, or a file with keys; may be repeated. Default:"
            " public_keys of [anchors]."
        ),
    ] = None,
    anchors: Annotated[
        list[str] | None,
        typer.Option(help="Directory or URI with anchors; may be repeated. Default: directories of [anchors]."),
    ] = None,
    timestamp_roots: Annotated[
        Path | None, typer.Option(help="PEM file of root certificates; time stamps are checked against them.")
    ] = None,
    incremental: Annotated[
        Path | None,
        typer.Option(
            help="Check only what came after the checkpoint in this file, which an earlier run wrote, and remember the"
            " newest one there. Without the file, everything is checked."
        ),
    ] = None,
    since: Annotated[
        Path | None,
        typer.Option(
            help="Check only what came after this checkpoint, a file of an anchor that was verified before; the seals"
            " before it are read, but not what they cover."
        ),
    ] = None,
    max_degraded: MaxDegraded = MAX_DEGRADED,
    max_late: MaxLate = MAX_LATE,
    as_json: Json = False,
) -> None:
    """Check every seal, entry, segment, manifest line, control event and blob, and that every decision names the
    context of its seal. Exit code 0 if the log is intact, 3 if it is corrupt, 1 if too many decisions were degraded or
    late.

    Finds any changed bit and any removed entry or segment, and prints where. With the anchors of `sentinel anchor` and
    the notary's public key, nothing that a checkpoint covers can be changed, computed again or removed unseen; the
    output says since when decisions are unanchored.
    """
    s = wiring.settings(config, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix)
    if incremental is not None and partition:
        raise BadInput("--incremental remembers the whole log; remove --partition")
    if incremental is not None and since is not None:
        raise BadInput("give --incremental or --since, not both")
    started = time.monotonic()
    with closing(wiring.open_hot(s)) as log:
        archive = open_archive(s.archive, s.archive_cold) if s.archive else None
        whole = ArchivedLog(log, archive) if archive is not None else log
        read, given = _anchors(s, public_key, anchors, timestamp_roots, _Begin(whole, incremental, since))
        found = run(s, log, archive, partition, given, read)
    beyond = exceeded(found.decisions, found.degraded, found.late, max_degraded, max_late)
    if incremental is not None and read is not None and not found.faults:
        newest, places = given.newest, found.places(given)
        if newest is not None and places is not None:
            reading.write_progress(incremental, read.notes[newest.number], places)
    _report(found, beyond, time.monotonic() - started, as_json)
    if found.faults:
        raise typer.Exit(EXIT_FAULT)
    if beyond:
        raise typer.Exit(EXIT_LIMIT)


class _Begin(NamedTuple):
    """From where on to check: what --incremental and --since name."""

    log: EventLog
    incremental: Path | None
    since: Path | None

    def read(self, keys: list[PublicKey]) -> tuple[Checkpoint, Note, Trees] | None:
        """The checkpoint, with the trees there; None for everything. Raises BadInput, and Corrupt if the log does not
        contain the checkpoint.
        """
        if self.since is not None:
            return reading.read_since(self.since, keys, self.log)
        return reading.read_progress(self.incremental, keys) if self.incremental is not None else None


def _anchors(
    s: Settings, keys: list[str] | None, places: list[str] | None, roots: Path | None, begin: _Begin
) -> tuple[Read | None, Anchors]:
    """What the directories hold, and what to verify against. Raises BadInput if anchors were asked for and there are
    none.
    """
    configured = anchor_settings(s.anchors)
    texts = [*(keys or configured.public_keys)]
    if places and not texts:
        raise BadInput("--anchors requires --public-key, which `sentinel anchor --new-key` printed")
    if keys and not (places or configured.directories):
        raise BadInput("--public-key requires --anchors, the directories with the anchors")
    if not texts:
        if begin.incremental is not None or begin.since is not None:
            raise BadInput("--incremental and --since require --public-key and --anchors")
        return None, Anchors([])
    parsed = [*reading.parse_keys(texts), *configured.witness_keys()]
    path = roots or (Path(configured.timestamp_roots) if configured.timestamp_roots else None)
    certificates = timestamps.read_roots(path) if path is not None else []
    since = begin.read(parsed)
    first = since[0].number if since is not None else 0
    read = reading.read_anchors(places or configured.directories, parsed, certificates, first)
    if places and not read.checkpoints and not read.faults:
        raise BadInput(f"no checkpoint of log {read.log_id} is in {', '.join(places)}")
    return read, reading.anchors_of(read, since)


@dataclass(frozen=True, slots=True)
class Found:
    """Each partition's result, the end of the control stream, and every fault, one line each. newest: the checkpoint
    that the log contains, None if there is none; read: the anchors.
    """

    partitions: list[Checked]
    control: Point
    faults: list[str]
    chain: ControlChain = field(default_factory=ControlChain)
    newest: Checkpoint | None = None
    since: Checkpoint | None = None
    read: Read | None = None

    @property
    def decisions(self) -> int:
        return sum(checked.decisions for checked in self.partitions)

    @property
    def degraded(self) -> int:
        return sum(checked.degraded for checked in self.partitions)

    @property
    def late(self) -> int:
        return late([checked.pace for checked in self.partitions])

    @property
    def unanchored(self) -> int:
        """Decisions that no checkpoint covers."""
        return sum(checked.unanchored for checked in self.partitions)

    def places(self, anchors: Anchors) -> Any:
        """`Anchors.places`."""
        return anchors.places(self.chain.expected, {each.partition: each.expected for each in self.partitions})


def run(
    s: Settings,
    log: EventLog,
    archive: Archive | None,
    only: list[int] | None = None,
    anchors: Anchors | None = None,
    read: Read | None = None,
    *,
    is_whole: bool = True,
    without: Collection[str] = (),
) -> Found:
    """Check the log. is_whole: also, that it has not lost what its control stream or a snapshot has seen; without:
    blobs (SHA-256) that are known to be lost. Raises BadInput if it is empty and there are no anchors.
    """
    anchors = anchors or Anchors([])
    newest, since = anchors.newest, anchors.since[0] if anchors.since is not None else None
    control = check_control(log if archive is None else ArchivedLog(log, archive), anchors, without)
    faults = [*(read.faults if read is not None else [])]
    if archive is not None:
        faults += blobs.faults(archive)
        faults += [f"archive: {wrong}" for wrong in [control_files.fault(log, archive)] if wrong]
    if wrong := anchors.contradictions(control.states):
        faults.append(f"anchors: {wrong}")
    if newest is not None and control.log_id != newest.log_id:
        faults.append(
            f"control stream: this is log {control.log_id or 'without ID'}, the anchors are of {newest.log_id}"
        )
    if control.fault:
        faults.append(f"control stream: {control.fault}")
    try:
        partitions = partitions_of(log, only)
        archived = archived_rows(log)
        if archive is not None and not is_whole:
            archived = {(p, last): row for (p, last), row in archived.items() if last <= archive.end(p).sequence}
    except (BadInput, Corrupt) as error:
        if newest is None and not faults:
            raise
        return Found([], control.end, [*faults, f"can't read the log: {error}"], control, newest, since, read)
    if newest is not None and not only:
        partitions = sorted({*partitions, *range(len(newest.state.partitions))})
    found = []
    try:
        identity = control_stream.current(log).identity
    except SentinelError:  # what is wrong with it is told below
        identity = None
    for p in partitions:
        evidence = control.evidence_of(p) + _snapshot(s, p, identity) if is_whole else []
        checked = verifying.check_partition(log, archive, p, archived, evidence, control.log_id, anchors)
        found.append(checked)
        if checked.fault:
            faults.append(f"partition {p}: {checked.fault}")
    end = control.end
    if not control.fault and (fault := check_named(log, control, [n for checked in found for n in checked.named])):
        faults.append(f"control stream: {fault}")
    return Found(found, end, faults, control, newest, since, read)


def _snapshot(s: Settings, partition: int, identity: LogIdentity | None) -> list[Evidence]:
    """The seal at which the partition's snapshot on this machine was taken, if there is one. One without a code under
    the log's key is told as such: it is no proof, but the log may have been exchanged, with its key.
    """
    store = SnapshotStore(Path(s.snapshot_directory), s.log_prefix)
    head = store.head(partition)
    is_ours = identity is not None and store.is_of(partition, identity)
    whose = "this log's workers wrote it" if is_ours else "not written under this log's key: another log's, or forged"
    who = f"the snapshot in {s.snapshot_directory} ({whose}),"
    return [Evidence(who, head.sequence, head.digest)] if head is not None else []


def _report(found: Found, beyond: list[str], seconds: float, as_json: bool) -> None:
    faults, control, newest = found.faults, found.control, found.newest
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
            "checkpoint": newest.number if newest is not None else None,
            "checkpoint_at": newest.state.time_ms if newest is not None else None,
            "since": found.since.number if found.since is not None else None,
            "checkpoint_named": max(found.chain.states, default=None),
            "anchors": found.read.files if found.read is not None else 0,
            "unanchored": found.unanchored,
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
    since = f" after checkpoint {found.since.number}" if found.since is not None else ""
    print(
        f"{entries:,} entries{since}, {control.sequence:,} control events; {found.decisions:,} decisions,"
        f" {found.degraded:,} degraded, {found.late:,} late: {state} ({seconds:.1f} s)"
    )
    print(_anchored(found))


def _anchored(found: Found) -> str:
    """How far the log is anchored, in one line."""
    newest, read = found.newest, found.read
    if newest is None:
        return f"unanchored: {found.decisions:,} decisions; nothing outside the log shows whether it was rewritten"
    parts = [f"checkpoint {newest.number}"]
    if read is not None:
        parts += [f"{read.files:,} anchors"]
        parts += [f"{name} cosigned checkpoint {number}" for name, (number, _) in sorted(read.cosigned.items())]
        if read.stamped is not None:
            parts.append(f"checkpoint {read.stamped[0]} was time-stamped at {_text(read.stamped[1])}")
    last = max(found.chain.states, default=0)
    if last > newest.number:
        parts.append(f"the log names checkpoint {last}, which is not among the anchors")
    return f"{', '.join(parts)}; unanchored since {_text(newest.state.time_ms)}: {found.unanchored:,} decisions"


def _text(epoch_ms: int) -> str:
    return utc(epoch_ms).strftime("%Y-%m-%d %H:%M:%S")
