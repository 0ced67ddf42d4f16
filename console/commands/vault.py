"""`sentinel vault`: the file with the keys of a log with tokens (docs/privacy.md)."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer

from console import wiring
from console.options import Config, Json
from console.tables import print_fields, print_json
from core.errors import BadInput, Unavailable
from core.files import write_atomic
from ingest.vault import KEY_BYTES, Vault, key_of, key_place, read_key

app = typer.Typer(
    help="The vault of a log with tokens: show it, and give it another key.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
KeyFile = Annotated[Path, typer.Argument(help="File of the new key, of mode 0600; `new-key` makes one.")]


@app.command()
def show(config: Config = None, as_json: Json = False) -> None:
    """Show the vault's ID, how many accounts have keys in it, and where its own key is."""
    s = wiring.settings(config)
    vault = _existing(s.vault, key_of(s))
    found = {"vault": s.vault, "id": vault.key_id, "accounts": vault.count, "key": key_place(s)}
    print_json(found) if as_json else print_fields(found)


@app.command("new-key")
def new_key(file: KeyFile) -> None:
    """Make a key for a vault: 32 random bytes, in a file that only you can read."""
    if file.exists():
        raise BadInput(f"{file} exists already: keys are never overwritten")
    try:
        write_atomic(file, f"{secrets.token_hex(KEY_BYTES)}\n".encode(), mode=0o600)
    except OSError as error:
        raise Unavailable(f"can't write {file}: {error.strerror}") from None
    print(f"{file}: keep a copy apart from the vault, which can't be opened without this key")


@app.command()
def rotate(file: KeyFile, config: Config = None, as_json: Json = False) -> None:
    """Replace the vault's key with the one in the file: everything in the vault is re-encrypted, in one transaction.

    The settings must still name the old key. Then set vault_key_file to the new file, and restart all processes on the
    log: with the old key they stop. Backups of the vault need the old key: destroy them together.
    """
    s = wiring.settings(config)
    new = read_key(file, "the new key")
    old = key_of(s)
    if new == old:
        raise BadInput(f"{file} holds the key that the vault has already")
    try:
        moved = _existing(s.vault, old).rotate(new)
    except BadInput:
        vault = _existing(s.vault, new)  # raises, unless an exchange was cut short after it was done
        vault.tidy()
        moved = vault.count
    if as_json:
        print_json({"vault": s.vault, "accounts": moved})
    else:
        print(
            f"the keys of {moved:,} accounts are under the new key: set vault_key_file to {file}, and restart all"
            " processes"
        )


def _existing(path: str, key: bytes) -> Vault:
    """The vault. Raises BadInput if there is none."""
    if not Path(path).is_file():
        raise BadInput(f"there is no vault {path}: a worker on a log with tokens makes it (docs/privacy.md)")
    return Vault(Path(path), key)
