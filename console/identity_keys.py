"""Private keys of identities: files of mode 0600 (`core.private_files`), PKCS #8 in PEM, encrypted if
SENTINEL_IDENTITY_PASSPHRASE is set. A line before the key says whose it is, so that a command knows who acts without
asking the log.

    Name: Ann
    -----BEGIN PRIVATE KEY-----
    …
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.errors import BadInput, Unavailable
from core.files import write_atomic
from core.persons import fault
from core.private_files import read_secret
from core.signing import key_id

PASSPHRASE = "SENTINEL_IDENTITY_PASSPHRASE"
_NAME = "Name: "


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

    def pem(self, passphrase: bytes) -> bytes:
        """The private key, encrypted unless the passphrase is b""."""
        return self._private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption(),
        )


def new(name: str) -> FileKey:
    """A new key. Raises BadInput if nobody can have this name."""
    if why := fault(name):
        raise BadInput(f"{name!r} can't be an identity's name: {why}")
    return FileKey(name, Ed25519PrivateKey.generate())


def write(path: Path, key: FileKey, environ: Mapping[str, str]) -> None:
    """Write a new file that only its owner can read. Raises BadInput if there is one already."""
    if path.exists():
        raise BadInput(f"{path} exists already: keys are never overwritten")
    content = key.pem(environ.get(PASSPHRASE, "").encode())
    try:
        write_atomic(path, f"{_NAME}{key.name}\n".encode(), content, mode=0o600)
    except OSError as error:
        raise Unavailable(f"can't write {path}: {error.strerror}") from None


def read(path: Path, environ: Mapping[str, str]) -> FileKey:
    """The key in a file. Raises BadInput if it can't be read, if others may read it, or if it is none."""
    first, _, pem = read_secret(path, "identity_key").partition("\n")
    name = first.removeprefix(_NAME).strip()
    if not first.startswith(_NAME) or not name:
        raise BadInput(f"{path} does not begin with `{_NAME}…`: it is no key of `sentinel identity new`")
    passphrase = environ.get(PASSPHRASE, "").encode() or None
    try:
        private = serialization.load_pem_private_key(pem.encode(), passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError) as error:
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
