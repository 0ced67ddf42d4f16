"""Seals: each holds SHA-256(digest of the seal before ‖ root of its batch ‖ its own JSON with an empty digest)."""

import hashlib
import re

from .bundle import Seal
from .errors import Refused

_PARTS = re.compile(rb'(.*"digest":")([0-9a-f]{64})("})', re.DOTALL)


def digest_of(seal: Seal, root: bytes) -> str:
    """What its digest must be if the batch has this root. Raises Refused if it does not end with one."""
    start, _, end = _parts(seal)
    return hashlib.sha256(seal.previous + root + start + end).hexdigest()


def stated_digest(seal: Seal) -> str:
    """The digest that it holds."""
    return _parts(seal)[1].decode()


def _parts(seal: Seal) -> tuple[bytes, bytes, bytes]:
    found = _PARTS.fullmatch(seal.payload)
    if found is None:
        raise Refused("the seal does not end with its digest")
    return found[1], found[2], found[3]
