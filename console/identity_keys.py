"""Private keys of identities: files of mode 0600, PKCS #8 in PEM, encrypted if SENTINEL_IDENTITY_PASSPHRASE is set. A
line before the key says whose it is, so that a command knows who acts without asking the log.

    Name: Ann
    -----BEGIN PRIVATE KEY-----
    …
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.errors import BadInput, Unavailable
from core.files import write_atomic
from core.persons import fault
from core.signing import key_id

PASSPHRASE = "SENTINEL_IDENTITY_PASSPHRASE"
_NAME = "Name: "
_FILE_BYTES_MAX = 65_536


class FileKey:
    """A `core.log.base.Signer`: an identity's name and its private key."""

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        self._name, self._private = name, private
        self.public_key = private.public_key().public_bytes_raw().hex()
        """64 hex digits."""

    @property
    def name(self) -> str:
        return self._name

    @property
    def key_id(self) -> str:
        return key_id(bytes.fromhex(self.public_key))

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)


def new(name: str) -> FileKey:
    """A new key. Raises BadInput if nobody can have this name."""
    if why := fault(name):
        raise BadInput(f"{name!r} can't be an identity's name: {why}")
    return FileKey(name, Ed25519PrivateKey.generate())


def write(path: Path, key: FileKey, environ: Mapping[str, str]) -> None:
    """Write a new file that only its owner can read. Raises BadInput if there is one already."""
    if path.exists():
        raise BadInput(f"{path} exists already: keys are never overwritten")
    passphrase = environ.get(PASSPHRASE, "").encode()
    content = key._private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption(),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(path, f"{_NAME}{key.name}\n".encode(), content, mode=0o600)
    except OSError as error:
        raise Unavailable(f"can't write {path}: {error.strerror}") from None


def read(path: Path, environ: Mapping[str, str]) -> FileKey:
    """The key in a file. Raises BadInput if others may read it, or if it is none, Unavailable if it can't be read."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            content = file.read(_FILE_BYTES_MAX)
    except OSError as error:
        raise Unavailable(f"can't read the key {path} (identity_key): {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise BadInput(f"{path} is not a file (identity_key)")
    if status.st_mode & 0o077:
        raise BadInput(f"{path} may be read by others: run chmod 600 {path}")
    first, _, pem = content.partition(b"\n")
    name = first.decode("utf-8", "replace").removeprefix(_NAME).strip()
    if not first.startswith(_NAME.encode()) or not name:
        raise BadInput(f"{path} does not begin with `{_NAME}…`: it is no key of `sentinel identity new`")
    passphrase = environ.get(PASSPHRASE, "").encode() or None
    try:
        private = serialization.load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError) as error:
        raise BadInput(f"{path}: {_why(str(error), passphrase is not None)}") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise BadInput(f"{path} holds a key of another kind than Ed25519")
    return FileKey(name, private)


def _why(error: str, has_passphrase: bool) -> str:
    if "not given but private key is encrypted" in error:
        return f"the key is encrypted: set {PASSPHRASE}"
    if has_passphrase:
        return f"the key can't be decrypted: is {PASSPHRASE} right? ({error.splitlines()[0][:100]})"
    return f"no private key in PEM: {error.splitlines()[0][:100]}"
