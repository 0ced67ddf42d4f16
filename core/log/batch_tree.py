"""The tree over a batch's entries, whose root its seal chains: one entry is proved without the content of the others.

    leaf of a decision     SHA-256(0x00 "decision " ID " " size " " transaction " " size " " score)
    leaf of another entry  SHA-256(0x00 "alert " | "feedback " | "reject " ID " " size " " payload)
    node                   SHA-256(0x01 ‖ its children, up to FAN of them)

Leaves stand in the order decisions, alerts, feedback, rejects, as the seal counts them; each level takes FAN at a time.
A tree of one leaf is that leaf, a tree of none SHA-256(""). IDs are text, `1-533`; sizes are decimal, in bytes.

A transaction and its score share a leaf: half the hashes, and a hash that goes to somebody else can't be guessed from
a payment's fields, because the score also holds the account's features. Pure. Cost: one SHA-256 per leaf; nodes add
a sixteenth of that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from core.log.base import Batch

FAN = 16
"""Children of a node. Two would double the hashes; the proof of one entry among 512 has 31 of them, 992 bytes."""

Kind = Literal["decision", "alert", "feedback", "reject"]

Path = list[tuple[list[bytes], list[bytes]]]
"""A leaf's proof: for each level from the leaves up, the hashes on the left and on the right within its node."""

EMPTY = hashlib.sha256(b"").digest()
_DECISION, _ALERT, _FEEDBACK, _REJECT = b"\x00decision ", b"\x00alert ", b"\x00feedback ", b"\x00reject "


class _Sizes(dict[int, bytes]):
    """`b" %d " % size`, at a quarter of the cost for usual payloads."""

    def __missing__(self, size: int) -> bytes:
        return b" %d " % size


_SIZES = _Sizes({size: b" %d " % size for size in range(4096)})


def leaf(kind: Kind, entry_id: str, *payloads: bytes) -> bytes:
    """The hash (32 bytes) of an entry; of a decision, from the transaction and the score. For readers of proofs."""
    parts = b"".join(b" %d %b" % (len(payload), payload) for payload in payloads)
    return hashlib.sha256(b"\x00%b %b%b" % (kind.encode(), entry_id.encode(), parts)).digest()


def leaves(batch: Batch, ids: Sequence[Sequence[bytes]]) -> list[bytes]:
    """The hashes of a batch's entries, in the tree's order. ids: `id_texts` of each of `contents(batch)` (`seals`)."""
    sha256, join, sizes = hashlib.sha256, b"".join, _SIZES
    found = [
        sha256(join((_DECISION, text, sizes[len(paid)], paid, sizes[len(score)], score))).digest()
        for text, (_, paid), (_, score) in zip(ids[0], batch.transactions, batch.scores, strict=True)
    ]
    for name, texts, entries in (
        (_ALERT, ids[2], batch.alerts),
        (_FEEDBACK, ids[3], batch.feedback),
        (_REJECT, ids[4], batch.rejects),
    ):
        if entries:
            found += [
                sha256(join((name, text, sizes[len(payload)], payload))).digest()
                for text, (_, payload) in zip(texts, entries, strict=True)
            ]
    return found


def root(hashes: Sequence[bytes]) -> bytes:
    """The root over the leaves' hashes."""
    if not hashes:
        return EMPTY
    level = hashes
    while len(level) > 1:
        level = _above(level)
    return level[0]


def path(hashes: Sequence[bytes], index: int) -> Path:
    """The proof that leaf `index` stands under the root."""
    found: Path = []
    level = hashes
    while len(level) > 1:
        first = index - index % FAN
        found.append((list(level[first:index]), list(level[index + 1 : first + FAN])))
        level, index = _above(level), index // FAN
    return found


def root_of(hashed: bytes, index: int, size: int, proof: Path) -> bytes | None:
    """The root that the proof gives for a leaf's hash at `index` among `size`; None if the proof is not one of them."""
    if not 0 <= index < size:
        return None
    for left, right in proof:
        first = index - index % FAN
        if size <= 1 or (len(left), len(right)) != (index - first, min(size - first, FAN) - (index - first) - 1):
            return None
        if any(len(each) != len(EMPTY) for each in (*left, *right)):
            return None
        hashed = hashlib.sha256(b"".join((b"\x01", *left, hashed, *right))).digest()
        index, size = index // FAN, -(-size // FAN)
    return hashed if size == 1 else None


def _above(level: Sequence[bytes]) -> list[bytes]:
    """The nodes over a level's hashes."""
    sha256 = hashlib.sha256
    return [sha256(b"\x01" + b"".join(level[first : first + FAN])).digest() for first in range(0, len(level), FAN)]
