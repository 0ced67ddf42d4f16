"""Signed notes (C2SP signed-note): a short text with Ed25519 signatures of named keys, which a person can read. Pure.

    text, ending with a newline
    <empty line>
    — <key name> base64(key ID ‖ signature)

A key ID is the first four bytes of SHA-256(name ‖ "\\n" ‖ type ‖ key). A public key is written `name+key ID in
hex+base64(type ‖ key)`. Types: 1, Ed25519 over the text; 4, a witness's cosignature, Ed25519 over
"cosignature/v1\\ntime <seconds>\\n" and the text, where eight bytes with that time precede the signature.

Signatures by unknown keys are ignored, as the format demands; one by a known key that does not verify is an error.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from core.errors import BadInput, Corrupt

ED25519, COSIGNATURE = 1, 4
"""Types of keys."""
NOTE_BYTES_MAX = 1_000_000
SIGNATURES_MAX = 100
_DASH = "\u2014 "
_ID_BYTES, _TIME_BYTES, _KEY_BYTES = 4, 8, 32


class PublicKey(NamedTuple):
    """A key that verifies notes: its name, type and 32 bytes."""

    name: str
    kind: int
    key: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys of one name apart."""
        return hashlib.sha256(b"%b\n%c%b" % (self.name.encode(), self.kind, self.key)).digest()[:_ID_BYTES]

    @property
    def text(self) -> str:
        """As it is written in files and options."""
        encoded = base64.b64encode(bytes([self.kind]) + self.key).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """The key of a text `name+key ID+base64`. Raises BadInput if it is not one."""
        wrong = BadInput(f"{text[:80]!r} is not a public key of the form name+8 hex digits+base64")
        name, _, rest = text.strip().partition("+")
        hashed, _, encoded = rest.partition("+")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise wrong from None
        if len(raw) != 1 + _KEY_BYTES or raw[0] not in (ED25519, COSIGNATURE) or not is_name(name):
            raise wrong
        key = cls(name, raw[0], raw[1:])
        if key.key_id.hex() != hashed:
            raise wrong
        return key


class Signature(NamedTuple):
    """One signature line: who signed, the key's ID, and the bytes."""

    name: str
    key_id: bytes
    signature: bytes

    @property
    def line(self) -> str:
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"


class Note(NamedTuple):
    """A text with its signatures, none of which has been verified."""

    text: str
    signatures: tuple[Signature, ...]

    @property
    def content(self) -> bytes:
        """As it is stored and sent."""
        return (self.text + "\n" + "".join(each.line for each in self.signatures)).encode()


class Verified(NamedTuple):
    """A verified signature. time_s: when the witness signed, in seconds since the epoch; None of other signatures."""

    key: PublicKey
    time_s: int | None


def is_name(name: str) -> bool:
    """Whether a key may have this name."""
    return bool(name) and "+" not in name and not any(each.isspace() or ord(each) < 32 for each in name)


def public_key(name: str, private: Ed25519PrivateKey, kind: int = ED25519) -> PublicKey:
    """The public half of a key under a name. Raises BadInput if the name is not one."""
    if not is_name(name):
        raise BadInput(f"{name!r} can't name a key: it must have no spaces and no plus signs, and not be empty")
    return PublicKey(name, kind, private.public_key().public_bytes_raw())


def sign(text: str, name: str, private: Ed25519PrivateKey) -> Note:
    """The text with one signature. Raises BadInput if it is not a note's text."""
    _check_text(text)
    key = public_key(name, private)
    return Note(text, (Signature(name, key.key_id, private.sign(text.encode())),))


def cosign(text: str, name: str, private: Ed25519PrivateKey, time_s: int) -> Signature:
    """A witness's signature of a text at a time (seconds since the epoch)."""
    key = public_key(name, private, COSIGNATURE)
    signed = private.sign(_cosigned(text, time_s))
    return Signature(name, key.key_id, time_s.to_bytes(_TIME_BYTES, "big") + signed)


def parse(content: bytes) -> Note:
    """A note, decoded and not verified. Raises Corrupt if it does not have a note's form."""
    if len(content) > NOTE_BYTES_MAX:
        raise Corrupt(f"a note has at most {NOTE_BYTES_MAX:,} bytes, not {len(content):,}")
    try:
        decoded = content.decode()
    except UnicodeDecodeError:
        raise Corrupt("the note is not UTF-8") from None
    text, found, rest = decoded.rpartition("\n\n")
    if not found or not rest.endswith("\n"):
        raise Corrupt("the note has no signatures after an empty line")
    text += "\n"
    lines = rest[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise Corrupt(f"the note has {len(lines)} signatures; at most {SIGNATURES_MAX} are read")
    try:
        _check_text(text)
    except BadInput as error:
        raise Corrupt(str(error)) from None
    return Note(text, tuple(parse_signature(line) for line in lines))


def parse_signature(line: str) -> Signature:
    """A signature line without its newline. Raises Corrupt if it is not one."""
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not line.startswith(_DASH) or not is_name(name) or len(raw) <= _ID_BYTES:
        raise Corrupt(f"the note has an invalid signature line: {line[:80]!r}")
    return Signature(name, raw[:_ID_BYTES], raw[_ID_BYTES:])


def verify(note: Note, keys: Sequence[PublicKey]) -> list[Verified]:
    """The signatures by these keys. Raises Corrupt if one of them does not verify."""
    known = {(key.name, key.key_id): key for key in keys}
    found = []
    for each in note.signatures:
        key = known.get((each.name, each.key_id))
        if key is not None:
            found.append(Verified(key, _verified(note.text, each, key)))
    return found


def _verified(text: str, each: Signature, key: PublicKey) -> int | None:
    signed, signature, time_s = text.encode(), each.signature, None
    if key.kind == COSIGNATURE:
        time_s = int.from_bytes(signature[:_TIME_BYTES], "big")
        signed, signature = _cosigned(text, time_s), signature[_TIME_BYTES:]
    try:
        Ed25519PublicKey.from_public_bytes(key.key).verify(signature, signed)
    except (InvalidSignature, ValueError):
        raise Corrupt(f"the signature of {key.name} does not match: the note was changed") from None
    return time_s


def _cosigned(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def _check_text(text: str) -> None:
    if not text.endswith("\n") or len(text) < 2:
        raise BadInput("a note's text must end with a newline")
    if any(ord(each) < 32 and each != "\n" for each in text):
        raise BadInput("a note's text must not have control characters")
