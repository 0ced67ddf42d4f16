"""`sentinel restore`: rebuild the log server from the archive."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from typing import Annotated, Any

import msgspec
import typer

from console import wiring
from console.anchoring import reading
from console.anchoring.settings import anchor_settings
from console.commands import verify
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort
from core import control_stream
from core.errors import BadInput, Corrupt
from core.events import Control, LogTrimmed
from core.identity import required
from core.log.anchored import Anchors
from core.log.archive import restoring
from core.log.archive.archive import Archive, open_archive
from core.log.archive.restoring import Contained, Restorable
from core.log.checkpoints import Checkpoint
from core.settings import Settings
from core.times import utc
from ingest.ownership import sources_of

ACTOR = "sentinel restore"


def restore(
    reason: Annotated[str, typer.Option(help="Why; recorded in the control stream.")],
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    directory: Annotated[
        str | None, typer.Option(help="Archive directory or URI. Default: the setting `archive`.")
    ] = None,
    public_key: Annotated[
        list[str] | None,
        typer.Option(help="Public key of the log's notary; may be repeated. Default: public_keys of [anchors]."),
    ] = None,
    anchors: Annotated[
        list[str] | None,
        typer.Option(help="Directory or URI with anchors; may be repeated. Default: directories of [anchors]."),
    ] = None,
    accept_lost: Annotated[
        bool,
        typer.Option(
            "--accept-lost",
            help="Restore although seals, events or blobs are lost that anchors cover, or the control stream names.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Restore the log into an empty log server from its archive: control stream, blobs, and each partition's position.

    Everything archived is verified first, as by `sentinel verify`; nothing is written if anything is wrong. Stop all
    workers before. Payments after the last archived batch are decided again, from Kafka, once workers run. Safe to kill
    and to run again.
    """
    s = wiring.settings(config, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix, archive=directory)
    if not s.archive:
        raise BadInput("missing archive location: give --directory, or set `archive` (SENTINEL_ARCHIVE)")
    if not reason.strip():
        raise BadInput("--reason must say why the log is restored")
    keys, places = list(public_key or ()), list(anchors or ())
    found = run(s, reason, _anchors(s, keys, places), accept_lost=accept_lost, quiet=as_json)
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        _report(found)


def run(
    s: Settings, reason: str, anchors: Anchors, *, accept_lost: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Restore; returns what the command prints with --json. Raises BadInput if the server is not empty, or something
    is lost that was not accepted; Corrupt, with every fault, if the archive is damaged.
    """
    started = time.monotonic()
    archive = open_archive(s.archive, s.archive_cold)
    found = restoring.restorable(archive)
    with closing(wiring.open_hot(s)) as log:
        restoring.check_empty(log, found)
        control = restoring.with_record(found, archive, log.signer, _record(archive, found, reason))
        contained = Contained(anchors, found)
        blobs = restoring.lost_blobs(archive, found)
        lost = [*found.lost, *map(_beyond, contained.beyond), *blobs.values()]
        if lost and not accept_lost:
            raise BadInput(f"lost: {'; '.join(lost)}. A later copy of the archive may have it. {_ACCEPT}")
        whole = found.log(archive)
        checked = verify.run(s, whole.hot, archive, anchors=contained, is_whole=False, without=blobs)
        if checked.faults:
            raise Corrupt(
                f"the archive {archive.store} is damaged, and nothing was restored: {'; '.join(checked.faults)}"
            )
        if not quiet:
            print(f"verified {checked.decisions:,} decisions and {len(found.control):,} control events")
        restoring.write(log, archive, found, control)
    state = control_stream.current(whole)
    return {
        "partitions": [
            {
                "partition": p,
                "seal": head.sequence,
                "transactions": str(head.transactions),
                "offsets": sources_of(state, p).offsets(head),
            }
            for p, head in found.heads.items()
        ],
        "control_events": len(found.control),
        "decisions": checked.decisions,
        "archive_bytes": archive.bytes_held(found.partitions),
        "checkpoint": None if checked.newest is None else checked.newest.number,
        "lost": lost,
        "tokens": required(state.identity).tokens,
        "seconds": round(time.monotonic() - started, 3),
    }


_ACCEPT = (
    "With --accept-lost, the log is restored without it: `sentinel verify` will say so for good, and a notary will not"
    " sign for this log again if a checkpoint covers what is lost"
)


def _anchors(s: Settings, keys: list[str], places: list[str]) -> Anchors:
    configured = anchor_settings(s.anchors)
    texts, where = keys or list(configured.public_keys), places or list(configured.directories)
    if not texts:
        if where:
            raise BadInput("--anchors requires --public-key, which `sentinel anchor --new-key` printed")
        return Anchors([])
    read = reading.read_anchors(where, [*reading.parse_keys(texts), *configured.witness_keys()], [])
    if read.faults:
        raise Corrupt(f"the anchors do not verify: {'; '.join(read.faults)}")
    return reading.anchors_of(read, None)


def _beyond(checkpoint: Checkpoint) -> str:
    moment = utc(checkpoint.state.time_ms).isoformat(sep=" ", timespec="seconds")
    return f"checkpoint {checkpoint.number} of {moment} covers more than the archive holds"


def _record(archive: Archive, found: Restorable, reason: str) -> list[Control]:
    """What the restored log says of its restoring: also of a partition that begins anew."""
    now, why = int(time.time() * 1000), f"restored from {archive.store}: {reason}"
    return [
        LogTrimmed(occurred_at=now, actor=ACTOR, reason=why, partition=p, up_to_sequence=head.sequence)
        for p, head in found.heads.items()
    ]


def _report(found: dict[str, Any]) -> None:
    for each in found["partitions"]:
        offsets = each["offsets"]
        print(
            f"partition {each['partition']:>3}  seal {each['seal']:>9,}  continues at offset {offsets[0]:,} of the"
            f" transactions, {offsets[1]:,} of the feedback"
        )
    print(
        f"{found['control_events']:,} control events, {found['decisions']:,} decisions restored from"
        f" {found['archive_bytes']:,} bytes ({found['seconds']:.1f} s)"
    )
    for line in found["lost"]:
        print(f"lost: {line}", file=sys.stderr)
    if found["tokens"]:
        print(
            f"this log holds tokens: workers need its vault (key {found['tokens']}), which no archive holds, and where"
            " whoever was erased since that copy was made must be erased again",
            file=sys.stderr,
        )
    print("next: `sentinel partition show` (does Kafka hold the messages from there?), then start the workers")
