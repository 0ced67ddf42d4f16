"""Cursors of paged answers: where the next page begins, opaque to clients, with the cut of the first page, so that a
list that grows meanwhile neither repeats nor skips anything.
"""

from __future__ import annotations

import base64
import binascii
from typing import TypeVar

import msgspec

from core.errors import BadInput

C = TypeVar("C", bound=msgspec.Struct)
LIMIT_MAX = 1_000


class DecisionCursor(msgspec.Struct, frozen=True, array_like=True):
    """After a decision: its time, partition and position; as_of: the cut."""

    at: int
    partition: int
    generation: int
    offset: int
    as_of: str


class SequenceCursor(msgspec.Struct, frozen=True, array_like=True):
    """After a position of the control stream."""

    after: int


def encode(cursor: msgspec.Struct) -> str:
    """The cursor as text for a URL."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).decode().rstrip("=")


def decode(text: str, kind: type[C]) -> C:
    """The inverse of `encode`. Raises BadInput."""
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return msgspec.msgpack.decode(content, type=kind)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise BadInput("cursor is not one that this list gave: leave it out to begin again") from None
