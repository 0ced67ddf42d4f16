"""Checkpoints: a log's state at some time as a signed note, which a person can read and a witness can countersign.

    stream-sentinel/<log ID>                the origin, which is also the key's name
    <number>                                size of the tree of states: 1, 2, 3 …
    <root>                                  its root (base64)
    time 2026-01-31T12:00:00.000Z           the state, from here to the end of the text
    previous <SHA-256>                      of the text of the checkpoint before (hex), or of nothing for the first
    control <size> <root>                   the control stream's events
    partition 0 <size> <root>               the partition's seals; one line for each partition of the log
    …

It is a C2SP tlog-checkpoint: the tree is one of RFC 6962 (`core.log.merkle`) whose leaf n is the state of checkpoint n
(its lines with their newlines). So its root commits to every state that was ever signed, and any witness can check that
checkpoints never go back. The trees that a state names have as leaves the JSON of a control event or of a seal, as the
log holds it. Pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from core.errors import Corrupt
from core.log import merkle, notes
from core.log.notes import Note, PublicKey
from core.times import to_epoch_ms, utc

ORIGIN = "stream-sentinel/"
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")


class TreeHead(NamedTuple):
    """A tree's size and root (32 bytes)."""

    size: int = 0
    root: bytes = merkle.EMPTY

    @property
    def text(self) -> str:
        return f"{self.size} {base64.b64encode(self.root).decode()}"


class State(NamedTuple):
    """A log at a time (epoch ms). previous: SHA-256 (hex) of the checkpoint's text before. partitions: by number."""

    time_ms: int
    previous: str
    control: TreeHead
    partitions: tuple[TreeHead, ...]

    @property
    def text(self) -> str:
        lines = [
            f"time {_time_text(self.time_ms)}",
            f"previous {self.previous}",
            f"control {self.control.text}",
            *(f"partition {number} {head.text}" for number, head in enumerate(self.partitions)),
        ]
        return "".join(f"{line}\n" for line in lines)

    @property
    def leaf(self) -> bytes:
        """Its hash in the tree of states."""
        return merkle.leaf(self.text.encode())


class Checkpoint(NamedTuple):
    """A state of the log `log_id`, and the tree of states up to it: `number` leaves with this root."""

    log_id: str
    number: int
    root: bytes
    state: State

    @property
    def text(self) -> str:
        root = base64.b64encode(self.root).decode()
        return f"{origin_of(self.log_id)}\n{self.number}\n{root}\n{self.state.text}"

    @property
    def digest(self) -> str:
        """SHA-256 of the text (hex)."""
        return digest_of(self.text)

    @property
    def head(self) -> TreeHead:
        """The tree of states."""
        return TreeHead(self.number, self.root)


NOTHING = hashlib.sha256(b"").hexdigest()
"""`previous` of the first checkpoint."""


def origin_of(log_id: str) -> str:
    """The first line of a log's checkpoints, and the name of the key that signs them."""
    return f"{ORIGIN}{log_id}"


def digest_of(text: str) -> str:
    """SHA-256 of a checkpoint's text (hex)."""
    return hashlib.sha256(text.encode()).hexdigest()


def parse(text: str) -> Checkpoint:
    """A note's text as a checkpoint. Raises Corrupt if it is not one, spelled exactly as `Checkpoint.text` does."""
    lines = text.split("\n")
    try:
        origin, number, root, time, previous, control, *partitions = lines[:-1]
        states = _tree_head(f"{number} {root}")
        found = Checkpoint(
            origin.removeprefix(ORIGIN),
            states.size,
            states.root,
            State(
                to_epoch_ms(datetime.fromisoformat(time.removeprefix("time "))),
                previous.removeprefix("previous "),
                _tree_head(control.removeprefix("control ")),
                tuple(_tree_head(line.removeprefix(f"partition {n} ")) for n, line in enumerate(partitions)),
            ),
        )
        if found.number < 1 or not re.fullmatch("[0-9a-f]{64}", found.state.previous) or found.text != text:
            raise ValueError(text)
    except (ValueError, binascii.Error, OverflowError):
        raise Corrupt(f"the note is not a checkpoint of a log: {text[:60]!r}") from None
    return found


def read(content: bytes, keys: Sequence[PublicKey]) -> tuple[Checkpoint, Note]:
    """The checkpoint in a file, and the note. Raises Corrupt unless one of the keys signed it."""
    note = notes.parse(content)
    found = parse(note.text)
    if not any(verified.key.kind == notes.ED25519 for verified in notes.verify(note, keys)):
        names = ", ".join(f"{each.name} ({each.key_id.hex()})" for each in note.signatures)
        raise Corrupt(f"checkpoint {found.number} is not signed by any of the given keys, but by {names}")
    return found, note


def backwards(older: Checkpoint, newer: Checkpoint) -> str:
    """How `newer` goes back behind `older`, or contradicts it, as far as the two alone tell; "" if it does not."""
    where = f"checkpoint {newer.number} goes back behind checkpoint {older.number}"
    if newer.log_id != older.log_id:
        return f"checkpoint {newer.number} is of log {newer.log_id}, not of {older.log_id}"
    if newer.number < older.number:
        return where
    if newer.number == older.number:
        return "" if newer.text == older.text else f"there are two different checkpoints {newer.number}"
    if newer.number == older.number + 1 and newer.state.previous != older.digest:
        return f"checkpoint {newer.number} does not name checkpoint {older.number} as the one before it"
    if newer.state.time_ms < older.state.time_ms:
        return f"{where}: its time is earlier"
    if len(newer.state.partitions) < len(older.state.partitions):
        return f"{where}: it has fewer partitions"
    pairs = [("the control stream", older.state.control, newer.state.control)]
    pairs += [
        (f"partition {n}", was, now)
        for n, (was, now) in enumerate(zip(older.state.partitions, newer.state.partitions, strict=False))
    ]
    for name, was, now in pairs:
        if now.size < was.size:
            return f"{where}: {name} had {was.size:,} leaves, then {now.size:,}"
        if now.size == was.size and now.root != was.root:
            return f"{where}: {name} has other content at the same size"
    return ""


def _tree_head(text: str) -> TreeHead:
    size, _, root = text.partition(" ")
    if not _NUMBER.fullmatch(size):
        raise ValueError(text)
    head = TreeHead(int(size), base64.b64decode(root, validate=True))
    if len(head.root) != merkle.HASH_BYTES:
        raise ValueError(text)
    return head


def _time_text(epoch_ms: int) -> str:
    return utc(epoch_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
