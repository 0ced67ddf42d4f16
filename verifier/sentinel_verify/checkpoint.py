"""Checkpoints: signed notes (C2SP signed-note) that name the size and root of each tree of a log.

stream-sentinel/<log ID>
<number>
<root of the tree of states>
time 2026-01-31T12:00:00.000Z
previous <SHA-256>
control <size> <root>
partition 0 <size> <root>
…
                                        an empty line, then one line a signature:
— <key name> base64(key ID ‖ signature)
"""

import base64
import hashlib
import re
from typing import NamedTuple

from . import ed25519
from .errors import Misuse, Refused

ED25519, COSIGNATURE = 1, 4
"""Types of keys: over the text; a witness's, over "cosignature/v1", a time and the text."""


class Key(NamedTuple):
    """A public key `name+key ID+base64(type ‖ key)`."""

    name: str
    kind: int
    key: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys of one name apart."""
        return hashlib.sha256(f"{self.name}\n".encode() + bytes([self.kind]) + self.key).digest()[:4]

    @classmethod
    def parse(cls, text: str) -> "Key":
        """Raises Misuse if the text is no key."""
        name, _, rest = text.strip().partition("+")
        hashed, _, encoded = rest.partition("+")
        raw = _base64(encoded)
        if raw is None or len(raw) != 33 or raw[0] not in (ED25519, COSIGNATURE):
            raise Misuse(f"{text.strip()[:80]!r} is not a public key of the form name+8 hex digits+base64")
        found = cls(name, raw[0], raw[1:])
        if found.key_id.hex() != hashed:
            raise Misuse(f"the key ID in {text.strip()[:80]!r} is not the key's: it was copied wrongly, or changed")
        return found


class Head(NamedTuple):
    """A tree's size and root."""

    size: int
    root: bytes


class Checkpoint(NamedTuple):
    """What a checkpoint says, and the names of the keys that signed it."""

    log_id: str
    number: int
    time: str
    control: Head
    partitions: list[Head]
    signers: list[str]


_HASH = r"[A-Za-z0-9+/]{43}="
_SIZE = r"0|[1-9][0-9]{0,18}"
_FIRST = re.compile(
    rf"stream-sentinel/([^\n]+)\n([1-9][0-9]{{0,18}})\n{_HASH}\n"
    r"time ([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z)\nprevious [0-9a-f]{64}\n"
)
_HEAD = re.compile(rf"(control|partition (?:{_SIZE})) ({_SIZE}) ({_HASH})\n")


def read(note: str, keys: list[Key]) -> Checkpoint:
    """The checkpoint of a note. Raises Refused unless every signature is by one of the keys, and one by a log's."""
    text, found, rest = note.rpartition("\n\n")
    text += "\n"
    if not found or not rest.endswith("\n"):
        raise Refused("the checkpoint has no signature")
    signed = [_verified(text, line, keys) for line in rest[:-1].split("\n")]
    signers = [f"{key.name} ({key.key_id.hex()})" for key in signed]
    start = _FIRST.match(text)
    if start is None:
        raise Refused("what was signed is not a checkpoint")
    if not any((key.kind, key.name) == (ED25519, f"stream-sentinel/{start[1]}") for key in signed):
        raise Refused(f"the checkpoint of log {start[1]} is not signed by that log's notary")
    heads = []
    at, expected = start.end(), "control"
    while at < len(text):
        line_found = _HEAD.match(text, at)
        if line_found is None or line_found[1] != expected:
            raise Refused("what was signed is not a checkpoint: its trees are not in order")
        heads.append(Head(int(line_found[2]), base64.b64decode(line_found[3])))
        at, expected = line_found.end(), f"partition {len(heads) - 1}"
    if not heads:
        raise Refused("what was signed is not a checkpoint: it names no tree")
    return Checkpoint(start[1], int(start[2]), start[3], heads[0], heads[1:], signers)


def _verified(text: str, line: str, keys: list[Key]) -> Key:
    """The key by which a signature line is."""
    name, _, encoded = line.removeprefix("\u2014 ").partition(" ")
    raw = _base64(encoded)
    if not line.startswith("\u2014 ") or raw is None or len(raw) < 4:
        raise Refused(f"the checkpoint has an invalid signature line: {line[:80]!r}")
    key = next((each for each in keys if (each.name, each.key_id) == (name, raw[:4])), None)
    if key is None:
        raise Refused(f"the checkpoint is signed by {name} ({raw[:4].hex()}), and that is none of the given keys")
    signed, signature = text.encode(), raw[4:]
    if key.kind == COSIGNATURE:
        signed = f"cosignature/v1\ntime {int.from_bytes(signature[:8], 'big')}\n".encode() + signed
        signature = signature[8:]
    if not ed25519.verify(key.key, signed, signature):
        raise Refused(f"the signature of {name} does not match: the checkpoint was changed")
    return key


def _base64(text: str) -> bytes | None:
    """The bytes, or None unless the text is their only encoding."""
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return raw if base64.b64encode(raw).decode() == text else None
