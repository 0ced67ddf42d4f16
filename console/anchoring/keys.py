"""The notary's private key: an Ed25519 key as PEM (PKCS 8), in a file that nobody else may read
(`core.private_files`).
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from core.errors import BadInput
from core.private_files import read_secret


def create(path: Path) -> Ed25519PrivateKey:
    """A new key in a new file of mode 0600. Raises BadInput if the file exists or can't be written."""
    private = Ed25519PrivateKey.generate()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise BadInput(f"{path} exists: a key is never replaced") from None
    except OSError as error:
        raise BadInput(f"can't write {path}: {error.strerror}") from None
    return private


def load(path: Path) -> Ed25519PrivateKey:
    """The key of a file. Raises BadInput if there is none, or if others may read it."""
    try:
        path.stat()
    except OSError as error:
        raise BadInput(
            f"can't read the key {path}: {error.strerror}; `sentinel anchor --new-key {path}` makes one"
        ) from None
    try:
        private = load_pem_private_key(read_secret(path, "the notary's key").encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm, InternalError):
        raise BadInput(f"{path} is not an Ed25519 key in PEM without a password") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise BadInput(f"{path} is a key, but not an Ed25519 key")
    return private
