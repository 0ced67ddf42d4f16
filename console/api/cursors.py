"""Cursors of paged answers: where the next page begins, opaque to clients, with the cut of the first page, so that a
list that grows meanwhile neither repeats nor skips anything.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from core.errors import UNDECODABLE, BadInput

C = TypeVar("C", bound=msgspec.Struct)
LIMIT_MAX = 1_000


class DecisionCursor(msgspec.Struct, frozen=True, array_like=True):
    """After a decision: its time, partition and position; as_of: the cut."""

    at: int
    partition: int
    generation: int
    offset: int
    as_of: str


class RowCursor(msgspec.Struct, frozen=True, array_like=True):
    """After the first `rows` of a list as of a cut, which never changes."""

    rows: int
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
    except (ValueError, binascii.Error, *UNDECODABLE):
        raise BadInput("cursor is not one that this list gave: leave it out to begin again") from None


def place_of(cursor: str, as_of: str | None) -> tuple[int, str | None]:
    """How many rows of a list come before the page asked for, and as of which moment. Raises BadInput."""
    if not cursor:
        return 0, as_of
    found = decode(cursor, RowCursor)
    if found.rows < 0:
        raise BadInput("cursor is not one that this list gave: leave it out to begin again")
    return found.rows, found.as_of


def following(after: int, limit: int, rows: Sequence[Any], as_of: str) -> str:
    """The cursor of the page that follows one of `limit` rows; "" if there is none. rows: up to one more than that."""
    return encode(RowCursor(after + limit, as_of)) if len(rows) > limit else ""
