"""Content-addressed artifacts on disk, and the baseline model that ships with the project.

An artifact's name is the SHA-256 of its bytes, checked on every read (I10); a file is complete or absent. Knows nothing
about what is inside.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from core.errors import BadInput, Corrupt, Unavailable

BASELINE_DIRECTORY = Path(__file__).resolve().parent / "baseline"

_DIGEST = re.compile(r"[0-9a-f]{64}")


class ArtifactStore:
    """A directory of immutable files named by their SHA-256. Any number of processes may use it at once."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        """The directory is made on the first `put`."""
        self._directory = Path(directory)

    def put(self, content: bytes) -> str:
        """Stores the bytes, durably, and returns their SHA-256 (64 hex digits). Raises Unavailable if the disk won't.

        Steps: 1 write a temporary file, 2 fsync it, 3 rename it, 4 fsync the directory. Safe to repeat; a damaged
        file of the same name is replaced.
        """
        digest = hashlib.sha256(content).hexdigest()
        path = self._directory / digest
        try:
            if path.is_file() and path.read_bytes() == content:
                return digest
            self._directory.mkdir(parents=True, exist_ok=True)
            _write_durably(path, content)
        except OSError as error:
            raise Unavailable(f"can't store an artifact in {self._directory}: {error.strerror}") from error
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes. Raises BadInput if there are none or `digest` is none, Corrupt if they are not what was put."""
        if not _DIGEST.fullmatch(digest):
            raise BadInput(f"not a SHA-256 digest: {digest[:80]!r}")
        try:
            content = (self._directory / digest).read_bytes()
        except FileNotFoundError:
            raise BadInput(f"no artifact {digest} in {self._directory}") from None
        except OSError as error:
            raise Unavailable(f"can't read artifact {digest}: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise Corrupt(f"artifact {digest} in {self._directory} has other bytes than were stored")
        return content

    def digests(self) -> tuple[str, ...]:
        """The digests of all artifacts, sorted. Their bytes are not checked."""
        try:
            return tuple(sorted(name for name in os.listdir(self._directory) if _DIGEST.fullmatch(name)))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise Unavailable(f"can't list the artifacts in {self._directory}: {error.strerror}") from error


def _write_durably(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class _Card(msgspec.Struct):
    """What a model card must have; it may have more."""

    name: str
    version: str
    spec: int
    digest: str
    metrics: dict[str, float]


def shipped_baseline(directory: str | os.PathLike[str] = BASELINE_DIRECTORY) -> tuple[bytes, dict[str, Any]]:
    """(model.txt's bytes, card.json as a dict) of the model that ships with the project; the SHA-256 is checked.

    Raises BadInput if a file is absent, Corrupt if the card is malformed or its digest is not the model's.
    """
    folder = Path(directory)
    try:
        content = (folder / "model.txt").read_bytes()
        card_json = (folder / "card.json").read_bytes()
    except FileNotFoundError as error:
        raise BadInput(f"the shipped baseline model is not here: {error.filename} is missing") from None
    try:
        card = msgspec.json.decode(card_json, type=dict[str, Any])
        digest = msgspec.convert(card, _Card).digest
    except msgspec.DecodeError as error:  # ValidationError is one too
        raise Corrupt(f"the model card {folder / 'card.json'} does not read: {error}") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise Corrupt(f"{folder / 'model.txt'} is not the model of its card: the SHA-256 differs")
    return content, card
