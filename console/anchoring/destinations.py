"""Where copies of checkpoints go: a directory or bucket, a witness over HTTP, a time stamping authority.

Each is asked by itself; what fails is tried again with the next checkpoint, because the newest commits to all before.
A witness returns a cosignature and an authority a time stamp; both are kept in the directories, beside the checkpoint:

    <log ID>/000000012.checkpoint                the signed note
    <log ID>/000000012.<witness>.cosigned        the note with a witness's signature
    <log ID>/000000012.<authority>.tsr           a time stamp (RFC 3161) of the note's text
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

import requests

from console.anchoring.notary import Signed
from core.errors import BadInput, Corrupt, Unavailable
from core.log import merkle, notes
from core.log.archive.store import open_store
from core.log.notes import PublicKey

TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 100_000
CHECKPOINT = "checkpoint"
_SIZE = re.compile("[0-9]{1,19}")
_NAME = re.compile(r"(\d{9,})\.(?:checkpoint|([A-Za-z0-9._-]+)\.(cosigned|tsr))")


class Attachment(NamedTuple):
    """What a destination returned for the directories: the ending of its file's name, and the content."""

    ending: str
    content: bytes


class Destination(Protocol):
    """name: for messages."""

    name: str

    def deliver(self, signed: Signed, states: Sequence[bytes]) -> Attachment | None:
        """Take a checkpoint; states: the leaves of its tree of states. Safe to repeat.

        Raises Unavailable if it can't be reached or refuses for now, Corrupt if it holds a contradicting one.
        """


class Found(NamedTuple):
    """A file of a directory of anchors: its name for messages, the checkpoint's number, `checkpoint`, `cosigned` or
    `tsr`, and the content.
    """

    name: str
    number: int
    kind: str
    content: bytes


class Directory:
    """A local directory (files are created once, with mode 0444) or a URI as of the archive, whose bucket should lock
    objects. Whoever can change the directory can remove anchors; no one can make others.
    """

    def __init__(self, location: str) -> None:
        """Raises BadInput if the location is not valid."""
        self.name = location
        self._store = open_store(location)

    def deliver(self, signed: Signed, states: Sequence[bytes]) -> Attachment | None:
        if not self.attach(signed, CHECKPOINT, signed.note.content):
            name = _file_name(signed, CHECKPOINT)
            if notes.parse(self._store.read(name) or b"").text != signed.note.text:
                raise Corrupt(f"{self.name}/{name} is another checkpoint: two notaries signed, or the log was restored")
        return None

    def attach(self, signed: Signed, ending: str, content: bytes) -> bool:
        """Create a file of this checkpoint; False if it exists."""
        name = _file_name(signed, ending)
        if self._store.local:
            return _create(Path(str(self._store)) / name, content)
        if self._store.version(name) is not None:
            return False
        self._store.write(name, content)
        return True

    def files(self, log_id: str, begin: int = 0) -> Iterator[Found]:
        """What the directory holds of a log from checkpoint `begin` on, by number."""
        for name in sorted(self._store.names(log_id)):
            if (matched := _NAME.fullmatch(name)) and int(matched[1]) >= begin:
                content = self._store.read(f"{log_id}/{name}")
                if content is not None:
                    yield Found(f"{self.name}/{log_id}/{name}", int(matched[1]), matched[3] or CHECKPOINT, content)

    def newest(self, log_id: str) -> bytes | None:
        """The checkpoint with the highest number; None if there is none."""
        names = [
            name for name in self._store.names(log_id) if name.endswith(f".{CHECKPOINT}") and _NAME.fullmatch(name)
        ]
        if not names:
            return None
        return self._store.read(f"{log_id}/{max(names, key=lambda name: int(name.partition('.')[0]))}")


class Witness:
    """A witness that speaks C2SP's tlog-witness: it checks that checkpoints of a log never go back, and cosigns."""

    def __init__(self, url: str, key: PublicKey) -> None:
        """url: of the witness, without `add-checkpoint`."""
        self.name = url
        self._key = key
        self._old = 0

    def deliver(self, signed: Signed, states: Sequence[bytes]) -> Attachment | None:
        answer = self._ask(signed, states)
        if answer.status_code == 409 and answer.headers.get("Content-Type", "").startswith("text/x.tlog.size"):
            text = _text(answer).strip()
            if not _SIZE.fullmatch(text) or int(text) > signed.checkpoint.number:
                raise Corrupt(f"{self.name} has already seen checkpoint {text[:20]} of this log: it would go back")
            self._old = int(text)
            answer = self._ask(signed, states)
        if answer.status_code != 200:
            said = " ".join(_text(answer)[:200].split())
            raise Unavailable(f"{self.name} answers {answer.status_code} {said}")
        lines = [line for line in _text(answer).split("\n") if line]
        note = signed.note._replace(signatures=tuple(notes.parse_signature(line) for line in lines))
        if not notes.verify(note, [self._key]):
            raise Unavailable(f"{self.name} did not sign with the key {self._key.name}")
        self._old = signed.checkpoint.number
        both = note._replace(signatures=(*signed.note.signatures, *note.signatures))
        return Attachment(f"{word(self._key.name)}.cosigned", both.content)

    def _ask(self, signed: Signed, states: Sequence[bytes]) -> requests.Response:
        proof = merkle.consistency(states[: signed.checkpoint.number], self._old)
        lines = "".join(f"{base64.b64encode(each).decode()}\n" for each in proof)
        body = f"old {self._old}\n{lines}\n".encode() + signed.note.content
        return post(f"{self.name.rstrip('/')}/add-checkpoint", body, "text/plain; charset=utf-8")


def post(url: str, body: bytes, kind: str) -> requests.Response:
    """The answer to a POST. Raises Unavailable if there is none, or one that is large or can't be read."""
    content = b""
    try:
        answer = requests.post(
            url, data=body, headers={"Content-Type": kind}, timeout=TIMEOUT_S, allow_redirects=False, stream=True
        )
        for part in answer.iter_content(ANSWER_BYTES_MAX + 1):
            content += part
            if len(content) > ANSWER_BYTES_MAX:
                raise Unavailable(f"{url}: the answer is longer than {ANSWER_BYTES_MAX:,} bytes")
    except (requests.RequestException, OSError, ValueError) as error:
        raise Unavailable(f"{url}: {type(error).__name__}") from None
    answer._content = content
    return answer


def _text(answer: requests.Response) -> str:
    return answer.content.decode(errors="replace")


def check_url(name: str, url: str) -> None:
    """Raise BadInput unless it is an https address, or http on loopback."""
    try:
        parts = urlsplit(url)
        is_local = parts.hostname in ("127.0.0.1", "::1", "localhost")
        valid = bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and is_local))
    except ValueError:  # brackets in the host
        valid = False
    if not valid:
        raise BadInput(f"{name} must be an https address (http only on loopback), not {url!r}")


def word(text: str) -> str:
    """A name as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "witness"


def _file_name(signed: Signed, ending: str) -> str:
    return f"{signed.checkpoint.log_id}/{signed.checkpoint.number:09d}.{ending}"


def _create(path: Path, content: bytes) -> bool:
    """Create a file that is complete or absent, durably; False if it exists. Raises Unavailable."""
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return False
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            with suppress(OSError):
                temporary.unlink()
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise Unavailable(f"can't write {path}: {error.strerror}") from None
    return True
