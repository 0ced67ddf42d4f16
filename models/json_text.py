"""Decodes an artifact's JSON within bounds: of bytes, of values, of depth. Nothing in it is ever executed (I10)."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from core.errors import BadInput, Corrupt
from models.trees import check_size

VALUES_MAX = 6_000_000
"""Values in all: they take about 32 bytes each while a document is decoded."""

_T = TypeVar("_T")


def decoded(content: bytes, decoder: msgspec.json.Decoder[_T], what: str) -> _T:
    """The document. Raises BadInput if it is too large, Corrupt if it is not JSON of the decoder's type."""
    check_size(content, what)
    if content.count(b",") > VALUES_MAX:
        raise BadInput(f"{what} has more than {VALUES_MAX} values")
    try:
        return decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # ValidationError is a DecodeError
        raise Corrupt(f"{what}: {error}") from None


def top_level(content: bytes) -> frozenset[str]:
    """The names of a JSON object's members; empty if the bytes are none."""
    if content[:1] != b"{" or content.count(b",") > VALUES_MAX:
        return frozenset()
    try:
        return frozenset(_MEMBERS.decode(content))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return frozenset()


_MEMBERS: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
