"""Local users: one file of mode 0600 with roles, and passwords and tokens as Argon2id hashes; never a secret itself.

Changes are read, changed and replaced under a lock on a file beside it, so the command line and a running server can
both change it. A server notices a change by the file's time and size: a user who is disabled is refused at the next
request. A token is `ss_<ID>_<secret>`; the ID finds its record, the secret has 256 bits.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar, get_args

import msgspec
from argon2 import PasswordHasher, Type
from argon2.exceptions import Argon2Error, InvalidHashError
from msgspec.structs import replace

from core.errors import UNDECODABLE, BadInput, Corrupt, Unavailable
from core.files import write_atomic

Role = Literal["viewer", "submitter", "analyst", "rule_author", "publisher", "auditor", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
DEFAULT_FILE = Path(".sentinel/users.json")
PASSWORD_CHARACTERS = range(12, 257)
TOKENS_MAX = 50
LINK_MINUTES = 15
PERSON: tuple[Role, ...] = ("admin", "analyst", "rule_author", "publisher", "auditor")
"""All that a person can do, for whoever works alone."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_TOKEN = re.compile(r"ss_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")

_password = PasswordHasher(type=Type.ID)
_secret = PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1, type=Type.ID)
"""For tokens: a random secret of 256 bits can't be guessed from its hash, however fast that is."""
T = TypeVar("T")


class Token(msgspec.Struct, frozen=True, omit_defaults=True):
    """A token's record. Times in epoch ms; expires_at 0: never. is_link: it does nothing but begin one session."""

    token_id: str
    hash: str
    created_at: int
    expires_at: int = 0
    note: str = ""
    is_link: bool = False


class User(msgspec.Struct, frozen=True, omit_defaults=True):
    """A person or a machine. name: the actor of what they do, so it is never given to another."""

    name: str
    roles: tuple[Role, ...]
    created_at: int
    password: str = ""
    disabled: bool = False
    tokens: tuple[Token, ...] = ()


class Users(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file's content."""

    version: Literal[1] = 1
    users: dict[str, User] = {}


class UserFile:
    """The users in one file; read again when it has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._users = Users()

    def load(self) -> Users:
        """The users now; none if there is no file. Raises Corrupt if it is damaged, BadInput if others may read it."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return Users()
        except OSError as error:
            raise Unavailable(f"can't read {self.path}: {error.strerror}") from None
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp != self._seen:
            if status.st_mode & 0o077:
                raise BadInput(f"{self.path} may be read by others: run chmod 600 {self.path}")
            try:
                self._users = msgspec.json.decode(self.path.read_bytes(), type=Users)
            except OSError as error:
                raise Unavailable(f"can't read {self.path}: {error.strerror}") from None
            except UNDECODABLE as error:
                raise Corrupt(f"{self.path} is not a file of users: {error}") from None
            self._seen = stamp
        return self._users

    def change(self, act: Callable[[dict[str, User]], T]) -> T:
        """Apply `act` to the users and replace the file, unless it raises."""
        with self._locked():
            users = dict(self.load().users)
            result = act(users)
            content = msgspec.json.format(msgspec.json.encode(Users(users=users)), indent=2)
            try:
                write_atomic(self.path, content, b"\n", mode=0o600)
            except OSError as error:
                raise Unavailable(f"can't write {self.path}: {error.strerror}") from None
        return result

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.path.with_name(f"{self.path.name}.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(f"can't write beside {self.path}: {error.strerror}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def is_name(text: str) -> bool:
    """Whether a user can have this name."""
    return _NAME.fullmatch(text) is not None


def find(users: dict[str, User], name: str) -> User:
    """The user. Raises BadInput if there is none."""
    if name not in users:
        raise BadInput(f"no user {name!r}; known: {', '.join(sorted(users)) or 'none'}")
    return users[name]


def add(file: UserFile, name: str, roles: list[str], now_ms: int, password: str = "") -> User:
    """Add a user, or give one other roles and, if one is given, another password."""
    if not is_name(name):
        raise BadInput(f"{name!r} is not a user name: up to 64 of a-z 0-9 . _ @ -, beginning with a letter or digit")
    unknown = [role for role in roles if role not in ROLES]
    if unknown or not roles:
        raise BadInput(f"{unknown[0] if unknown else 'no role'}: give roles out of {', '.join(ROLES)}")
    given = msgspec.convert(tuple(dict.fromkeys(roles)), tuple[Role, ...])
    hashed = _hashed(password) if password else ""

    def act(users: dict[str, User]) -> User:
        known = users.get(name)
        changed = {"roles": given, "disabled": False, **({"password": hashed} if hashed else {})}
        users[name] = User(name, given, now_ms, hashed) if known is None else replace(known, **changed)
        return users[name]

    return file.change(act)


def _hashed(password: str) -> str:
    if len(password) not in PASSWORD_CHARACTERS:
        raise BadInput(f"a password has {PASSWORD_CHARACTERS.start} to {PASSWORD_CHARACTERS.stop - 1} characters")
    return _password.hash(password)


def set_password(file: UserFile, name: str, password: str) -> User:
    """Give a user another password. Raises BadInput if it is too short or too long."""
    hashed = _hashed(password)

    def act(users: dict[str, User]) -> User:
        users[name] = replace(find(users, name), password=hashed)
        return users[name]

    return file.change(act)


def disable(file: UserFile, name: str) -> User:
    """Refuse the user from now on, and forget their tokens."""

    def act(users: dict[str, User]) -> User:
        users[name] = replace(find(users, name), disabled=True, tokens=())
        return users[name]

    return file.change(act)


def new_token(
    file: UserFile, name: str, now_ms: int, *, days: float = 0.0, note: str = "", is_link: bool = False
) -> str:
    """A new token of the user. It is returned, never stored: nobody can see it again."""
    token_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    until = now_ms + int(days * 86_400_000) if days else 0
    record = Token(token_id, _secret.hash(secret), now_ms, until, note, is_link)

    def act(users: dict[str, User]) -> None:
        user = find(users, name)
        if user.disabled:
            raise BadInput(f"{name} is disabled: `sentinel user add {name} --role …` enables them")
        kept = tuple(token for token in user.tokens if not 0 < token.expires_at <= now_ms)
        if len(kept) >= TOKENS_MAX:
            raise BadInput(f"{name} has {len(kept)} tokens already: revoke one")
        users[name] = replace(user, tokens=(*kept, record))

    file.change(act)
    return f"ss_{token_id}_{secret}"


def revoke(file: UserFile, name: str, token_id: str) -> None:
    """Forget a token. Raises BadInput if the user has no such one."""

    def act(users: dict[str, User]) -> None:
        user = find(users, name)
        kept = tuple(token for token in user.tokens if token.token_id != token_id)
        if len(kept) == len(user.tokens):
            raise BadInput(f"{name} has no token {token_id!r}; theirs: {', '.join(t.token_id for t in kept) or 'none'}")
        users[name] = replace(user, tokens=kept)

    file.change(act)


def token_parts(text: str) -> tuple[str, str] | None:
    """(ID, secret) of a token; None if it can't be one."""
    match = _TOKEN.fullmatch(text)
    return (match[1], match[2]) if match else None


def verify(hashed: str, secret: str) -> bool:
    """Whether a password or a token's secret has this hash. Takes 5 ms for a token, 60 ms for a password; as long as
    for a password if hashed is "": how long a login takes doesn't tell whether its name exists.
    """
    try:
        return _password.verify(hashed or _nobodys(), secret) and bool(hashed)
    except (Argon2Error, InvalidHashError, UnicodeEncodeError):  # a hash is ASCII
        return False


@cache
def _nobodys() -> str:
    """The hash of a password that nobody knows."""
    return _password.hash(secrets.token_urlsafe(32))


def login_link(file: UserFile, name: str, now_ms: int, url: str) -> str:
    """An address of the console that logs the user in, once and within LINK_MINUTES. url: the console's."""
    token = new_token(file, name, now_ms, days=LINK_MINUTES / 1440, note="login link", is_link=True)
    return f"{url}/#login={token}"


def file_option(path: Path) -> str:
    """What `sentinel user` takes, after a space, to change this file; "" if it is the one that it finds by itself."""
    return "" if path.resolve() == DEFAULT_FILE.resolve() else f" --users {shlex.quote(str(path))}"


def owner(file: UserFile, now_ms: int) -> str:
    """The name of an administrator; if the file has no users, `admin` is added, with every role of a person. "" if
    nobody is an administrator.
    """
    known = file.load().users
    if not known:
        return add(file, "admin", list(PERSON), now_ms).name
    return next((user.name for user in known.values() if "admin" in user.roles and not user.disabled), "")
