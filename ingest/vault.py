"""The vault: the keys that make tokens and sealed values, outside the log. What is destroyed here is gone for good.

One SQLite file, readable by its owner alone, which all workers, the API and commands on one log share:

    the key            32 random bytes, in the file or, better, in the setting `vault_key_file`. Under it stand the root
                       and the rows, and by it the rows are found; it can be exchanged (`rotate`)
    the root           32 random bytes that never change, encrypted under the key. From it follow the vault's ID, which
                       the log names, and the key of all tokens but accounts'
    a row per account  32 random bytes, found by a keyed hash of the account's ID. The account's token and the key of
                       its sealed values follow from them, and from nothing else

So whoever has key and file can compute the token of a known card, device or address, but nobody can find an account's
token once its row is destroyed. A row is durable before its token is used, so no crash splits an account in two. The
raw ID is nowhere in the file.

A row is found by a hash, under the key, of a hash of the ID under the root. The second one stands in the row,
encrypted. So all rows can be moved under another key without raw IDs, in one transaction: after a crash the file has
the old key or the new one, as a whole. Every transaction, and every answer "not there", first looks whether the file
still has the key that this process knows: with an old one it would give known accounts new tokens.

Cost: 15 µs per account that this process has not seen yet, and one fsync per batch with new accounts.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from core.errors import BadInput, Corrupt, Unavailable
from core.files import make_private_folder
from core.private_files import read_secret
from core.sealing import KEY_BYTES as SEALING_BYTES
from core.sealing import seal
from core.settings import Settings
from core.tokens import account_token

KEY_BYTES = 32
INDEX_BYTES = 16
BUSY_MS = 10_000
ROWS_MAX = 500
_SCHEMA = """
create table if not exists meta (name text primary key, value blob not null) without rowid;
create table if not exists erased (token text primary key) without rowid;
create table if not exists accounts ({columns}) without rowid;
"""
_COLUMNS = "found_by blob primary key, secret blob not null, token text not null unique"
_PAGE = "select found_by, secret, token from accounts where found_by > ? order by found_by limit ?"


class AccountKeys(NamedTuple):
    """token: what stands for the account in the log. key: of its sealed values."""

    token: str
    key: bytes


class Vault:
    """One vault, open. Used by one thread."""

    def __init__(self, path: Path, key: bytes = b"") -> None:
        """Opens the file, or makes it. key: if it is not kept in the file.

        Raises Unavailable if the file can't be used, BadInput if the key is not the file's.
        """
        self._path = path
        try:
            make_private_folder(path.parent)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._file.executescript(
                f"pragma busy_timeout={BUSY_MS}; pragma journal_mode=wal; pragma synchronous=full;"
                f" pragma secure_delete=on; {_SCHEMA.format(columns=_COLUMNS)}"
            )
            self._key, self._made, root = self._opened(key)
        except (OSError, sqlite3.Error) as error:
            raise Unavailable(f"the vault {path} can't be used: {error}") from error
        self.key_id = derived(root, f"key ID {self._made.hex()}").hex()[:16]
        """Of this file, whatever its key: another file has other rows, and so other tokens."""
        self._index_key = derived(root, "index")
        self.token_secret = derived(root, "tokens")
        self.rejects_key = derived(root, "rejects") + derived(root, "rejects, second half")
        self._root = root

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
                secret = secrets.token_bytes(KEY_BYTES)
                row = self._key.row(self._indexed(name), secret)
                made.append((*row, account_token(secret, partition(name))))
            self._write({"insert or ignore into accounts values (?, ?, ?)": made})
            found |= self._read(missing)  # another process may have been first
        return found

    def find(self, name: str) -> AccountKeys | None:
        """The keys of an account, by its raw ID; None if it has none."""
        found = self._read([name]).get(name)
        if found is None:
            self._check_key()
        return found

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
        self.tidy()
        return erased

    def rotate(self, new: bytes, *, is_kept: bool = False) -> int:
        """Exchange the key: move root and rows under the `new` one, in one transaction; returns how many rows. The old
        one opens nothing any more. is_kept: keep the new key in the file.

        Whatever else has the vault open must start again with the new key. Raises Unavailable.
        """
        other = Key(new)
        moved = 0
        with self._transaction():
            self._file.execute(f"create table moved ({_COLUMNS}) without rowid")
            last = b""
            while rows := self._file.execute(_PAGE, (last, ROWS_MAX)).fetchall():
                last = rows[-1][0]
                opened = [self._row(by, sealed) for by, sealed, _ in rows]
                made = [(*other.row(index, secret), row[2]) for (secret, index), row in zip(opened, rows, strict=True)]
                self._file.executemany("insert into moved values (?, ?, ?)", made)
                moved += len(made)
            self._file.execute("drop table accounts")
            self._file.execute("alter table moved rename to accounts")
            meta = {"check": other.check, "root": other.wrapped(self._root, self._made)}
            meta |= {"key": new} if is_kept else {}
            self._file.execute("delete from meta where name = 'key'")
            self._file.executemany("insert or replace into meta values (?, ?)", meta.items())
        self._key = other
        self.tidy()
        return moved

    def tidy(self) -> None:
        """Overwrite what was deleted, also where a crash came between an exchange of keys and this."""
        self._ask("pragma wal_checkpoint(truncate)", [])

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

    def _opened(self, given: bytes) -> tuple[Key, bytes, bytes]:
        """The key, the file's own ID and the root; a new file gets both, and keeps the key unless it is given."""
        with closing(self._file.cursor()) as cursor:
            cursor.execute("begin immediate")
            kept = dict(cursor.execute("select name, value from meta").fetchall())
            if not kept:
                first, made = given or secrets.token_bytes(KEY_BYTES), secrets.token_bytes(16)
                root = Key(first).wrapped(secrets.token_bytes(KEY_BYTES), made)
                kept = {"id": made, "check": Key(first).check, "root": root} | ({} if given else {"key": first})
                cursor.executemany("insert into meta values (?, ?)", kept.items())
            cursor.execute("commit")
        if "root" not in kept:
            raise BadInput(f"the vault {self._path} is of an earlier build: begin a new log with a new vault")
        if not (given or "key" in kept):
            raise BadInput(f"the vault {self._path} does not hold its key: set vault_key_file, or SENTINEL_VAULT_KEY")
        key = Key(given or kept["key"])
        if key.check != kept["check"]:
            raise BadInput(f"the key (vault_key_file, SENTINEL_VAULT_KEY) is not that of the vault {self._path}")
        return key, kept["id"], key.unwrapped(kept["root"], kept["id"])

    def _check_key(self) -> None:
        """Raise BadInput if the file has another key than this process knows."""
        if self._ask("select value from meta where name = 'check'", []) != [(self._key.check,)]:
            raise BadInput(f"the key of the vault {self._path} was exchanged: start again with the new one")

    def _indexed(self, name: str) -> bytes:
        return blake2b(name.encode("utf-8", "surrogatepass"), key=self._index_key, digest_size=INDEX_BYTES).digest()

    def _read(self, names: Sequence[str]) -> dict[str, AccountKeys]:
        found: dict[str, AccountKeys] = {}
        for start in range(0, len(names), ROWS_MAX):
            page = {self._key.found_by(self._indexed(name)): name for name in names[start : start + ROWS_MAX]}
            marks = ",".join("?" * len(page))
            query = f"select found_by, secret, token from accounts where found_by in ({marks})"
            for by, secret, token in self._ask(query, list(page)):
                found[page[by]] = self._keys(by, secret, token)
        return found

    def _keys(self, by: bytes, sealed: bytes, token: str) -> AccountKeys:
        secret, _ = self._row(by, sealed)
        return AccountKeys(token, blake2b(b"sealed values", key=secret, digest_size=SEALING_BYTES).digest())

    def _row(self, by: bytes, sealed: bytes) -> tuple[bytes, bytes]:
        """A row's secret, and its account's index."""
        try:
            return self._key.opened(by, sealed)
        except InvalidTag:
            self._check_key()
            raise Corrupt(f"the vault {self._path} is damaged: a row does not open with its key") from None

    def _ask(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        try:
            return self._file.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise Unavailable(f"the vault {self._path} can't be read: {error}") from error

    def _write(self, changes: Mapping[str, Sequence[Sequence[object]]]) -> int:
        """Carry out statements, each for its rows, in one transaction; returns how many rows the last one changed."""
        changed = 0
        with self._transaction():
            for statement, rows in changes.items():
                changed = self._file.executemany(statement, rows).rowcount
        return changed

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing, under the key that this process knows. Raises Unavailable, and BadInput as `_check_key`."""
        try:
            self._file.execute("begin immediate")
            try:
                self._check_key()
                yield
                self._file.execute("commit")
            except BaseException:
                if self._file.in_transaction:  # a full disk ends it by itself
                    self._file.execute("rollback")
                raise
        except sqlite3.Error as error:
            raise Unavailable(f"the vault {self._path} can't be written: {error}") from error


class Key:
    """The key of a vault, and what stands under it."""

    def __init__(self, key: bytes) -> None:
        self.check = blake2b(b"check value", key=key, digest_size=16).digest()
        self._found_by = derived(key, "found by")
        self._rows = AESSIV(derived(key, "rows") + derived(key, "rows, second half"))
        self._wrapping = AESSIV(derived(key, "root") + derived(key, "root, second half"))

    def found_by(self, index: bytes) -> bytes:
        """By what an account's row is found. index: of its ID, under the root."""
        return blake2b(index, key=self._found_by, digest_size=INDEX_BYTES).digest()

    def row(self, index: bytes, secret: bytes) -> tuple[bytes, bytes]:
        """By what a row is found, and its encrypted content."""
        by = self.found_by(index)
        return by, self._rows.encrypt(secret + index, [by])

    def opened(self, by: bytes, sealed: bytes) -> tuple[bytes, bytes]:
        """A row's secret and index. Raises InvalidTag."""
        content = self._rows.decrypt(sealed, [by])
        return content[:KEY_BYTES], content[KEY_BYTES:]

    def wrapped(self, root: bytes, made: bytes) -> bytes:
        """The root, encrypted. made: the file's ID."""
        return self._wrapping.encrypt(root, [made])

    def unwrapped(self, wrapped: bytes, made: bytes) -> bytes:
        """The inverse of `wrapped`. Raises Corrupt."""
        try:
            return self._wrapping.decrypt(wrapped, [made])
        except InvalidTag:
            raise Corrupt("the vault is damaged: its root does not open with its key") from None


def derived(key: bytes, purpose: str) -> bytes:
    """32 bytes for one purpose."""
    return blake2b(purpose.encode(), key=key, digest_size=32).digest()


def tokenises(settings: Settings) -> bool:
    """Whether a log with these settings holds tokens: if they say so, and in production unless they deny it."""
    return settings.tokenise or (settings.environment == "production" and not settings.is_given("tokenise"))


def open_vault(settings: Settings) -> Vault | None:
    """The settings' vault, opened once in a process; None if the log holds no tokens. Raises as Vault and `key_of`."""
    return _opened(settings.vault, key_of(settings), os.getpid()) if tokenises(settings) else None


def key_of(settings: Settings) -> bytes:
    """The key that the settings give; b"" for none. Raises BadInput if it is no key, or if others may read its file."""
    if settings.vault_key and settings.vault_key_file:
        raise BadInput("give the vault's key once: vault_key_file, or SENTINEL_VAULT_KEY")
    if settings.vault_key_file:
        return read_key(Path(settings.vault_key_file), "vault_key_file")
    return _key(settings.vault_key, "vault_key (SENTINEL_VAULT_KEY)") if settings.vault_key else b""


def key_place(settings: Settings) -> str:
    """Where the vault's key is, in words."""
    return settings.vault_key_file or ("the setting vault_key" if settings.vault_key else "the vault itself")


def read_key(path: Path, setting: str) -> bytes:
    """The key in a file that only its owner may read. Raises BadInput."""
    return _key(read_secret(path, setting), f"{setting} {path}")


def _key(text: str, where: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise BadInput(f"{where} must be {2 * KEY_BYTES} hexadecimal digits")
    return key


@lru_cache(maxsize=8)
def _opened(path: str, key: bytes, _process: int) -> Vault:
    return Vault(Path(path), key)


def sealed_reject(vault: Vault, keys: AccountKeys | None, content: bytes) -> bytes:
    """A rejected message's bytes as they are kept: sealed under its account's key, or the vault's if it names none."""
    return seal(vault.rejects_key if keys is None else keys.key, "reject", content).encode()
