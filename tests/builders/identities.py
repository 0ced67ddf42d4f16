"""People and services with keys, and a roster of them."""

from __future__ import annotations

import hashlib
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core import control_stream
from core.events import Control, IdentityAdded, IdentityRequired, LogCreated
from core.identity import FIXED
from core.log.memory import MemoryLog
from core.signing import encoded, intended, key_id


class Key:
    """A `core.log.base.Signer` whose private key follows from its name and a number."""

    def __init__(self, name: str, number: int = 0) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"{name} {number}".encode()).digest())
        self._name = name
        self.public_key = self._private.public_key().public_bytes_raw().hex()

    @property
    def name(self) -> str:
        return self._name

    @property
    def key_id(self) -> str:
        return key_id(bytes.fromhex(self.public_key))

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)


ROLES: dict[str, tuple[str, ...]] = {
    "ann": ("admin", "publisher", "rule_author", "analyst"),
    "bob": ("admin", "publisher"),
    "carol": ("analyst",),
    "worker-1": ("worker",),
    "loop": ("learner",),
    "web": ("api",),
}
KEYS = {name: Key(name) for name in ROLES}


def by(actor: str) -> dict[str, Any]:
    return {"occurred_at": 1, "actor": actor}


def added(name: str, actor: str = "ann", **given: Any) -> IdentityAdded:
    """`actor` puts this person or service on the roster."""
    fields = {"roles": ROLES[name], "public_key": KEYS[name].public_key, **given}
    return IdentityAdded(**by(actor), name=name, **fields)


def created() -> LogCreated:
    return FIXED.event("sentinel ingest")


def enrolled(required: bool = True) -> list[tuple[str, Control]]:
    """(who signs, event): a log whose roster has everybody of ROLES; "" for nobody. required: identity is."""
    found: list[tuple[str, Control]] = [("", created()), *(("ann", added(name)) for name in ROLES)]
    return [*found, ("ann", IdentityRequired(**by("ann"), required=True))] if required else found


def put(log: MemoryLog, *signed: tuple[str, Control]) -> dict[int, str]:
    """Append events as somebody does who bypasses every check; returns what the fold refuses, by position. Each is
    signed by KEYS of the name beside it, "" for nobody.
    """
    for name, event in signed:
        signer = KEYS.get(name)
        place = control_stream.current(log).next_place
        payloads = encoded(intended([event], signer), signer, place)
        log.append_control(payloads, place.position - 1)
    return control_stream.current(log).refused


def log_of(*signed: tuple[str, Control]) -> MemoryLog:
    """A log with these events, none of them refused."""
    log = MemoryLog()
    refused = put(log, *signed)
    assert not refused, refused
    return log
