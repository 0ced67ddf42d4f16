"""JSON objects that name a key twice. Parsers disagree on which of the values counts, so the source and this project
could read different amounts in one message: such a message is rejected. Pure.

The scan reads a document that a strict parser has already accepted: one object whose values are scalars, or objects of
scalars. Of each key it hashes length and three bytes. The document's own keys set one bit each of a word; the hash is
chosen so that those of an event never share a bit (a test holds it against the events). An inner object's keys go into
a table, and equal hashes are compared byte by byte. What is rare is left to the standard library's parser: two keys on
one bit, keys with escapes (`"amo\\u0075nt"`), arrays, deeper nesting, more keys than the table holds.

Cost: 0.25 µs per transaction of 260 bytes, 20 ns more per attribute; and 0.25 µs per call, so a caller with many
documents joins them.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from core.jit import njit

_NONE, _UNSURE = 0, 1
"""What the scan says: no key stands twice, or `duplicate_key` has to look."""
_INNER = 2048
"""Places in the hash table of an inner object's keys (a power of 2)."""
_HASH = 0x2D559ADF87CF0DF1


def duplicate_key(value: bytes) -> str | None:
    """A key that one object of this valid JSON document holds twice; None if there is none."""
    return None if scan(value) == _NONE else _parsed(value)


def _parsed(value: bytes) -> str | None:
    """The same by the standard library's parser."""
    twice: list[str] = []

    def keep(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                twice.append(key)
            seen.add(key)

    json.loads(value, object_pairs_hook=keep, parse_int=str, parse_float=str)
    return twice[0] if twice else None


@njit
def scan(text: bytes) -> int:
    """_NONE if no object of the document, or of several one after the other, names a key twice, else _UNSURE. Stays
    within the text, whatever it is.
    """
    last = len(text) - 1
    while last >= 0 and text[last] != 34:
        last -= 1  # the last quote: every scan for a quote ends there
    bits = np.uint64(0)
    table = np.zeros(0, dtype=np.int64)
    depth = held = 0
    is_key = False
    i = 0
    while i < last:
        c = text[i]
        if c == 34:  # a string
            start = i + 1
            i = start
            if is_key:
                while text[i] != 34:
                    if text[i] == 92:
                        return _UNSURE
                    i += 1
                is_key = False
                h = _hash(text, start, i)
                if depth == 1:
                    bit = np.uint64(1) << (h >> np.uint64(58))
                    if bits & bit:
                        return _UNSURE
                    bits |= bit
                else:
                    held += 1
                    if held * 4 > len(table) * 3 or _seen(text, table, h, start, i):
                        return _UNSURE
            else:
                while text[i] != 34:
                    i += 1
                k = i - 1
                while text[k] == 92:
                    k -= 1
                while (i - k) & 1 == 0:  # an odd number of backslashes before it: the quote is part of the text
                    i += 1
                    if i > last:
                        return _UNSURE
                    while text[i] != 34:
                        i += 1
                    k = i - 1
                    while text[k] == 92:
                        k -= 1
        elif c == 44:  # ,
            is_key = True
        elif c == 123:  # {
            depth += 1
            is_key = True
            if depth == 2:
                table, held = np.zeros(_INNER, dtype=np.int64), 0
            elif depth > 2:
                return _UNSURE
        elif c == 125:  # }
            depth -= 1
            is_key = False
            if depth == 0:
                bits = np.uint64(0)
        elif c == 91:  # [
            return _UNSURE
        i += 1
    return _NONE


@njit
def _hash(text: bytes, start: int, end: int) -> np.uint64:
    """Of the key text[start:end]: its length, first, last and middle byte."""
    size = end - start
    if size == 0:
        return np.uint64(0)
    mixed = size | text[start] << 8 | text[end - 1] << 16 | text[start + size // 2] << 24
    return np.uint64(mixed) * np.uint64(_HASH)


@njit
def _seen(text: bytes, table: Any, h: np.uint64, start: int, end: int) -> bool:
    """Whether the table holds the key text[start:end]; adds it if not. A place holds 1 + start << 32 | size."""
    size = end - start
    mask = len(table) - 1
    place = np.int64(h >> np.uint64(53)) & mask
    while table[place] != 0:
        if table[place] & 0xFFFFFFFF == size:
            first = (table[place] >> 32) - 1
            k = 0
            while k < size and text[first + k] == text[start + k]:
                k += 1
            if k == size:
                return True
        place = (place + 1) & mask
    table[place] = (start + 1) << 32 | size
    return False
