"""The vault: the keys that make tokens and sealed values, outside the log. What is destroyed here is gone for good.

One SQLite file, readable by its owner alone, which all workers, the API and commands on one log share:

    the master key     32 random bytes, in the file or, better, in the setting `vault_key`. From it follow the key of
                       all tokens but accounts', and the key under which the rows are found and encrypted
    a row per account  32 random bytes, found by a keyed hash of the account's ID. The account's token and the key of
                       its sealed values follow from them, and from nothing else

So whoever has the master key can compute the token of a known card, device or address, but nobody can find an account's
token once its row is destroyed. A row is durable before its token is used, so no crash splits an account in two. The
raw ID is nowhere in the file.

Cost: 15 µs per account that this process has not seen yet, and one fsync per batch with new accounts.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from core.errors import BadInput, Corrupt, Unavailable
from core.files import make_private_folder
from core.sealing import KEY_BYTES, seal
from core.settings import Settings
from core.tokens import account_token

MASTER_BYTES = 32
BUSY_MS = 10_000
ROWS_MAX = 500
_SCHEMA = """
create table if not exists meta (name text primary key, value blob not null) without rowid;
create table if not exists erased (token text primary key) without rowid;
create table if not exists accounts (
    found_by blob primary key, secret blob not null, token text not null unique
) without rowid;
"""


class AccountKeys(NamedTuple):
    """token: what stands for the account in the log. key: of its sealed values."""

    token: str
    key: bytes


class Vault:
    """One vault, open. Used by one thread."""

    def __init__(self, path: Path, master: bytes = b"") -> None:
        """Opens the file, or makes it. master: the key, if it is not kept in the file.

        Raises Unavailable if the file can't be used, BadInput if the master key is not the one that it was made with.
        """
        self._path = path
        try:
            make_private_folder(path.parent)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._file.executescript(
                f"pragma busy_timeout={BUSY_MS}; pragma journal_mode=wal; pragma synchronous=full;"
                f" pragma secure_delete=on; {_SCHEMA}"
            )
            self._master, made = self._kept_master(master)
        except (OSError, sqlite3.Error) as error:
            raise Unavailable(f"the vault {path} can't be used: {error}") from error
        self.key_id = self._derived(f"key ID {made.hex()}").hex()[:16]
        """Of this file: another one of the same master key has other rows, and so other tokens."""
        self._index_key = self._derived("index")
        self._cipher = AESSIV(self._derived("rows") + self._derived("rows, second half"))
        self.token_secret = self._derived("tokens")
        self.rejects_key = self._derived("rejects") + self._derived("rejects, second half")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def accounts(self, names: Iterable[str], partition: Callable[[str], int]) -> dict[str, AccountKeys]:
        """The keys of these accounts; new ones get some, which are durable when this returns. partition: of an account.

        Raises Unavailable.
        """
        wanted = list(dict.fromkeys(names))
        found = self._read(wanted)
        missing = [name for name in wanted if name not in found]
        if missing:
            made = []
            for name in missing:
                secret = secrets.token_bytes(MASTER_BYTES)
                by = self._found_by(name)
                made.append((by, self._cipher.encrypt(secret, [by]), account_token(secret, partition(name))))
            self._write({"insert or ignore into accounts values (?, ?, ?)": made})
            found |= self._read(missing)  # another process may have been first
        return found

    def find(self, name: str) -> AccountKeys | None:
        """The keys of an account, by its raw ID; None if it has none."""
        return self._read([name]).get(name)

    def by_token(self, token: str) -> AccountKeys | None:
        """The keys of an account, by its token; None if it has none, or has none any more."""
        row = self._ask("select found_by, secret, token from accounts where token = ?", [token])
        return self._keys(*row[0]) if row else None

    def erase(self, tokens: Sequence[str]) -> int:
        """Destroy the keys of these accounts, by their tokens; returns how many there were. Durable, and overwritten in
        the file, when this returns. The tokens are `unrecorded` until `recorded` is called. Raises Unavailable.
        """
        rows = [(token,) for token in tokens]
        erased = self._write(
            {"insert or ignore into erased values (?)": rows, "delete from accounts where token = ?": rows}
        )
        self._ask("pragma wal_checkpoint(truncate)", [])
        return erased

    @property
    def unrecorded(self) -> list[str]:
        """The tokens of accounts whose keys were destroyed, and whose erasure the log may not say yet."""
        return [str(row[0]) for row in self._ask("select token from erased order by token", [])]

    def recorded(self, tokens: Sequence[str]) -> None:
        """The log says now that these were erased."""
        self._write({"delete from erased where token = ?": [(token,) for token in tokens]})

    @property
    def count(self) -> int:
        """How many accounts have keys."""
        return int(self._ask("select count(*) from accounts", [])[0][0])

    def _kept_master(self, given: bytes) -> tuple[bytes, bytes]:
        """The master key, and the file's own ID; a new file keeps the key, or only a check value if it is given."""
        with closing(self._file.cursor()) as cursor:
            cursor.execute("begin immediate")
            kept = dict(cursor.execute("select name, value from meta").fetchall())
            if not kept:
                master = given or secrets.token_bytes(MASTER_BYTES)
                rows = [("check", _check_value(master)), ("id", secrets.token_bytes(16))]
                rows += [] if given else [("master", master)]
                cursor.executemany("insert into meta values (?, ?)", rows)
                kept = dict(rows)
            cursor.execute("commit")
        master = given or kept.get("master", b"")
        if not master:
            raise BadInput(f"the vault {self._path} does not hold its master key: set SENTINEL_VAULT_KEY")
        if _check_value(master) != kept["check"]:
            raise BadInput(f"the vault {self._path} was made with another master key than SENTINEL_VAULT_KEY")
        return master, kept["id"]

    def _derived(self, purpose: str) -> bytes:
        return blake2b(purpose.encode(), key=self._master, digest_size=32).digest()

    def _found_by(self, name: str) -> bytes:
        return blake2b(name.encode("utf-8", "surrogatepass"), key=self._index_key, digest_size=16).digest()

    def _read(self, names: Sequence[str]) -> dict[str, AccountKeys]:
        found: dict[str, AccountKeys] = {}
        for start in range(0, len(names), ROWS_MAX):
            page = {self._found_by(name): name for name in names[start : start + ROWS_MAX]}
            marks = ",".join("?" * len(page))
            query = f"select found_by, secret, token from accounts where found_by in ({marks})"
            for by, secret, token in self._ask(query, list(page)):
                found[page[by]] = self._keys(by, secret, token)
        return found

    def _keys(self, by: bytes, sealed: bytes, token: str) -> AccountKeys:
        try:
            secret = self._cipher.decrypt(sealed, [by])
        except InvalidTag:
            raise Corrupt(f"the vault {self._path} is damaged: a row does not open with its master key") from None
        return AccountKeys(token, blake2b(b"sealed values", key=secret, digest_size=KEY_BYTES).digest())

    def _ask(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        try:
            return self._file.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise Unavailable(f"the vault {self._path} can't be read: {error}") from error

    def _write(self, changes: Mapping[str, Sequence[Sequence[object]]]) -> int:
        """Carry out statements, each for its rows, in one transaction; returns how many rows the last one changed."""
        changed = 0
        try:
            self._file.execute("begin immediate")
            try:
                for statement, rows in changes.items():
                    changed = self._file.executemany(statement, rows).rowcount
                self._file.execute("commit")
            except BaseException:
                if self._file.in_transaction:  # SQLite ends it by itself when the disk is full, for instance
                    self._file.execute("rollback")
                raise
        except sqlite3.Error as error:
            raise Unavailable(f"the vault {self._path} can't be written: {error}") from error
        return changed


def _check_value(master: bytes) -> bytes:
    return blake2b(b"check value", key=master, digest_size=16).digest()


def tokenises(settings: Settings) -> bool:
    """Whether a log with these settings holds tokens: if they say so, and in production unless they deny it."""
    return settings.tokenise or (settings.environment == "production" and not settings.is_given("tokenise"))


def open_vault(settings: Settings) -> Vault | None:
    """The settings' vault, opened once in a process; None if the log holds no tokens. Raises as Vault."""
    return _opened(settings.vault, settings.vault_key, os.getpid()) if tokenises(settings) else None


@lru_cache(maxsize=8)
def _opened(path: str, key: str, _process: int) -> Vault:
    try:
        master = bytes.fromhex(key)
    except ValueError:
        master = b"?"
    if key and len(master) != MASTER_BYTES:
        raise BadInput(f"vault_key (SENTINEL_VAULT_KEY) must be {2 * MASTER_BYTES} hexadecimal digits")
    return Vault(Path(path), master)


def sealed_reject(vault: Vault, keys: AccountKeys | None, content: bytes) -> bytes:
    """A rejected message's bytes as they are kept: sealed under its account's key, or the vault's if it names none."""
    return seal(vault.rejects_key if keys is None else keys.key, "reject", content).encode()
