"""`sentinel prove`: one decision in a file that anybody can verify with a public key, without us and our servers."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from console import wiring
from console.anchoring.proving import anchor_in
from console.anchoring.settings import anchor_settings
from console.commands.audit import locate
from console.log_options import asked_of
from console.options import Config, Json, LogPrefix, RedisHost, RedisPort
from core import control_stream
from core.errors import BadInput
from core.files import write_atomic
from core.identity import required
from core.log.readonly import ReadOnlyLog
from projections.audit import proof


def prove(
    transaction_id: Annotated[str | None, typer.Argument(help="The transaction whose decision is proved.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file to write; it holds personal data, so its mode is 0600.")
    ] = None,
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    account: Annotated[str | None, typer.Option(help="Its account; makes the search faster.")] = None,
    position: Annotated[
        str | None, typer.Option(help="Its position in the log (p07:1-533) or its alert's ID; replaces the search.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="File with the signed checkpoint. Default: the newest in the directories of [anchors]."),
    ] = None,
    level: Annotated[
        int,
        typer.Option(
            help="1: only that the decision stands in the log like this, without program, model and settings. 2: that"
            " it follows from its features. 3: that these follow from the account's history, which the file then"
            " holds: every earlier payment with its score, and every verdict and block with who gave it and why.",
            min=1,
            max=3,
        ),
    ] = 2,
    days: Annotated[
        int | None,
        typer.Option(
            help="With --level 3: only payments of so many days before the decision; features that look back further"
            " are then taken from the record.",
            min=1,
            max=36_500,
        ),
    ] = None,
    whole_control: Annotated[
        bool,
        typer.Option(
            "--whole-control",
            help="For an auditor: with all control events up to the decision. They hold lists of identifiers, names of"
            " staff and the key of the log's hashes.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the proof that a decision stands in the log that a checkpoint signs, and follows from its features.

    Whoever receives it runs `sentinel-verify FILE --public-key KEY` (docs/proofs.md). It holds nothing of other
    accounts, unless --whole-control is given, and of this one only the payment, unless --level 3 is. Reads only.
    """
    s = wiring.settings(config, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix)
    if out is None:
        raise BadInput("missing --out: the file to write")
    if level < 2 and whole_control:
        raise BadInput("--whole-control is for levels 2 and 3; remove --level 1")
    if level < 3 and days is not None:
        raise BadInput("--days limits the account's history, which only --level 3 holds: add it, or remove --days")
    if not out.parent.is_dir():
        raise BadInput(f"--out {out}: the directory {out.parent} does not exist")
    with closing(ReadOnlyLog(wiring.open_log(s))) as log:
        paid, owner = asked_of(s, log, "transaction_id", transaction_id), asked_of(s, log, "account_id", account)
        found = locate(log, paid, owner, position)
        control = control_stream.history(log)
        state = control_stream.fold(control)
        anchor = anchor_in(anchor_settings(s.anchors), required(state.identity).log_id, checkpoint)
        content = proof.prove(log, found.place, control, anchor, level=level, whole_control=whole_control, days=days)
    try:
        write_atomic(out, content, mode=0o600)
    except OSError as error:
        raise BadInput(f"--out {out}: {error.strerror}") from error
    number = None if anchor is None else anchor.checkpoint.number
    if anchor is None:
        print(f"unanchored: {_missing(state.checkpoint)}. Nothing outside the proof vouches for it", file=sys.stderr)
    if as_json:
        summary = {"place": str(found.place), "transaction_id": found.transaction_id, "checkpoint": number,
                   "bytes": len(content)}  # fmt: skip
        print(msgspec.json.encode(summary).decode())
    else:
        against = "without a checkpoint" if number is None else f"against checkpoint {number}"
        print(f"{out}: transaction {found.transaction_id} at {found.place}, {len(content):,} bytes, {against}")


def _missing(signed: int) -> str:
    """Why there is no checkpoint to prove against, and what to do. signed: the newest that the log records, or 0."""
    if not signed:
        return "no checkpoint of this log has been signed yet: run sentinel anchor"
    return (
        f"checkpoint {signed} of this log has been signed, but this command was not given it: name its file"
        " (--checkpoint) or the settings file whose [anchors] directories hold it (--config)"
    )
