"""`sentinel anchor`: sign checkpoints of the log, and leave copies where its operator can't change them."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from console import profiles, wiring
from console.anchoring import keys
from console.anchoring.notary import Notary
from console.anchoring.running import Anchoring, Round
from console.anchoring.settings import AnchorSettings, anchor_settings, destinations
from console.follower_health import followed
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort
from core.control_stream import identity_of
from core.errors import BadInput, Unavailable
from core.log import checkpoints, notes
from core.log.archive import restoring
from core.log.archive.archive import open_archive
from core.log.base import EventLog
from core.settings import Settings
from core.times import utc
from ingest.families import ANCHORS_FAILING
from ingest.health import BOARD, Health

EXIT_FAILED = 1
ROUND_S = 600.0
"""How long a round may take."""


def anchor(
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    key: Annotated[Path | None, typer.Option(help="The notary's private key. Default: key_file of [anchors].")] = None,
    directory: Annotated[
        list[str] | None,
        typer.Option(help="Directory or URI for anchors; may be repeated. Default: directories of [anchors]."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Continue until interrupted.")] = False,
    every: Annotated[
        float | None,
        typer.Option(help="Seconds between two checkpoints with --follow. Default: every_s of [anchors].", min=1),
    ] = None,
    archived: Annotated[
        bool | None,
        typer.Option(
            "--archived/--all",
            help="Sign only what the archive holds, so that a restored log has all that is anchored. Default: archived"
            " of [anchors].",
        ),
    ] = None,
    new_key: Annotated[
        Path | None, typer.Option(help="Only make a key in this new file, and print the public key.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Only print the public key, for those who verify.")] = False,
    as_json: Json = False,
) -> None:
    """Sign a checkpoint of the whole log, and give it to every destination of [anchors]: directories or buckets,
    witnesses, time stamping authorities. Exit code 1 if one of them did not take it, 3 if the log does not contain what
    was signed before.

    `sentinel verify --public-key` then finds every change of what a checkpoint covers. Run one notary per log, under a
    user who can't change the log; keep the directories where the log's operator can't change them.
    """
    s = wiring.settings(config, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix)
    given = anchor_settings(s.anchors)
    if directory:
        given = msgspec.structs.replace(given, directories=tuple(directory))
    if archived is not None:
        given = msgspec.structs.replace(given, archived=archived)
    if new_key is not None and public:
        raise BadInput("--new-key prints the public key: leave out --public")
    if given.archived and not s.archive:
        raise BadInput("to sign what the archive holds, name it: the setting `archive` (SENTINEL_ARCHIVE)")
    with closing(profiles.open_log(s, profiles.LOG_ONLY)) as log:
        if new_key is not None:
            name = checkpoints.origin_of(identity_of(log).log_id)
            print(notes.public_key(name, keys.create(new_key)).text)
            return
        if public:
            name = checkpoints.origin_of(identity_of(log).log_id)
            print(notes.public_key(name, keys.load(_key_file(given, key))).text)
            return
        every_s = every or given.every_s
        _run(log, s, given, key, every_s, followed(s, log, ROUND_S) if follow else None, as_json)


def _key_file(given: AnchorSettings, key: Path | None) -> Path:
    if key is None and not given.key_file:
        raise BadInput(
            "missing key: give --key, or set key_file in [anchors]; `sentinel anchor --new-key FILE` makes one"
        )
    return key or Path(given.key_file)


def _run(
    log: EventLog,
    s: Settings,
    given: AnchorSettings,
    key: Path | None,
    every_s: float,
    health: Health | None,
    as_json: bool,
) -> None:
    """health: with --follow."""
    directories, others = destinations(given)
    view = (lambda: restoring.as_archived(open_archive(s.archive, s.archive_cold))) if given.archived else None
    with closing(Notary(log, Path(given.state), keys.load(_key_file(given, key)), view)) as notary:
        anchoring = Anchoring(notary, directories, others)
        anchoring.adopt(_tell)
        failing = 0
        BOARD.put("anchors", lambda: [ANCHORS_FAILING.is_(failing)])
        while True:
            started = time.monotonic()
            try:
                found = anchoring.round(int(time.time() * 1000))
            except Unavailable as error:
                if health is None:
                    raise
                trouble = str(error)
                _tell(trouble)
            else:
                _report(found, as_json, quiet=health is not None)
                failing, trouble = len(found.failed), "; ".join(": ".join(each) for each in found.failed.items())
                if health is None:
                    if found.failed:
                        raise typer.Exit(EXIT_FAILED)
                    return
            health.stepped(every_s, trouble)
            time.sleep(max(every_s - (time.monotonic() - started), 0.0))


def _report(found: Round, as_json: bool, quiet: bool) -> None:
    for name, reason in found.failed.items():
        _tell(f"{name}: {reason}")
    if found.signed is None or (quiet and not found.is_new and not found.delivered):
        return
    checkpoint = found.signed.checkpoint
    state = checkpoint.state
    seals = sum(head.size for head in state.partitions)
    if as_json:
        summary = {
            "number": checkpoint.number,
            "time_ms": state.time_ms,
            "seals": seals,
            "control": state.control.size,
            "digest": checkpoint.digest,
            "delivered": found.delivered,
            "failed": found.failed,
        }
        print(msgspec.json.encode(summary).decode(), flush=True)
        return
    where = ", ".join(found.delivered) or "no new destination"
    moment = utc(state.time_ms).isoformat(sep=" ", timespec="seconds")
    print(
        f"checkpoint {checkpoint.number} of {moment}: {seals:,} seals, {state.control.size:,} control events; {where}",
        flush=True,
    )


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
