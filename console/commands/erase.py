"""`sentinel erase`: destroys the keys of people's accounts in a log with tokens, and says what is left of them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from console import wiring
from console.acts import Actor, Reason, act_of
from console.erasing import erase as erase_accounts
from console.log_options import DIRECTORY
from console.options import Config, Json
from console.tables import print_fields, print_json
from core import control_stream
from core.errors import BadInput
from core.files import write_atomic
from ingest.vault import open_vault

SHOWN = 5


def erase(
    accounts: Annotated[list[str] | None, typer.Argument(help="Accounts, by their raw IDs or tokens.")] = None,
    reason: Reason = "",
    file: Annotated[Path | None, typer.Option(help="File with one account a line, UTF-8.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="Write the certificate here, as JSON.")] = None,
    actor: Actor = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Destroy the keys of accounts in a log with tokens. This can't be undone.

    Their tokens can then no longer be computed from their IDs, and their sealed values no longer be opened. Log,
    archive, snapshots and checkpoints are searched for their raw IDs; what is found is said, and exits with 1.
    Decisions, chain and proofs stay as they are.

    sentinel erase 4711 --reason "request of 26 November"
    """
    s = wiring.settings(config)
    names = [*(accounts or []), *_lines(file)]
    if not names:
        raise BadInput("name an account, or a file of them (--file)")
    if not reason.strip():
        raise BadInput("--reason must say why")
    if certificate is not None and not certificate.parent.is_dir():  # the keys are gone by the time it is written
        raise BadInput(f"--certificate {certificate}: the directory {certificate.parent} does not exist")
    vault = open_vault(s)
    if vault is None:
        raise BadInput("only a log with tokens can forget: set SENTINEL_TOKENISE=true and name its vault")
    folders = {"snapshots": Path(s.snapshot_directory), "projections": DIRECTORY}
    with closing(wiring.open_log(s)) as log:
        identity = control_stream.identity_of(log)
        act = act_of(actor, reason, log)
        done = erase_accounts(log, vault, identity, names, act, {n: p for n, p in folders.items() if p.is_dir()})
    if certificate is not None:
        write_atomic(certificate, msgspec.json.format(msgspec.json.encode(done), indent=2) + b"\n")
    if as_json:
        print_json(done)
    else:
        left = [f"{place}: {where}" for place, each in done.still_found.items() for where in each[:SHOWN]]
        print_fields(
            {
                "erased": f"{done.keys_destroyed:,} accounts",
                "recorded": f"c{done.position}",
                "searched": ", ".join(f"{place} {size:,} bytes" for place, size in done.searched_bytes.items()),
                "raw IDs found": "; ".join(left) or "none",
            }
        )
    if done.still_found:
        raise typer.Exit(1)


def _lines(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--file {file} can't be read: {error}") from None
