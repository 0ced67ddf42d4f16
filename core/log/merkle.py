"""Merkle trees of RFC 6962 (SHA-256): roots, growth in little memory, inclusion and consistency proofs. Pure.

    leaf   SHA-256(0x00 ‖ content)          node   SHA-256(0x01 ‖ left ‖ right)          empty tree   SHA-256("")

A tree of n leaves splits at the largest power of two below n. Proofs are made and checked as RFC 9162 describes them
(2.1.3, 2.1.4). Hashes are 32 bytes; places begin with 0.

Cost: about 2 µs a leaf.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise

from core.errors import BadInput

EMPTY = hashlib.sha256(b"").digest()
HASH_BYTES = 32


def leaf(content: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(b"\x00" + content).digest()


def node(left: bytes, right: bytes) -> bytes:
    """The hash over two subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that grows, as the roots of its complete subtrees, largest first: one per set bit of `size`."""

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        """Raises BadInput unless there are as many peaks as `size` has set bits."""
        self.size = size
        self.peaks = list(peaks)
        if size < 0 or len(self.peaks) != size.bit_count() or any(len(each) != HASH_BYTES for each in self.peaks):
            raise BadInput(f"{len(self.peaks)} hashes are not the subtrees of a tree of {size} leaves")

    def add(self, hashed: bytes) -> None:
        """Append a leaf, given as its hash."""
        size = self.size
        while size & 1:
            hashed = node(self.peaks.pop(), hashed)
            size >>= 1
        self.peaks.append(hashed)
        self.size += 1

    def root(self) -> bytes:
        """The root over all leaves."""
        if not self.peaks:
            return EMPTY
        found = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            found = node(peak, found)
        return found

    def copy(self) -> Tree:
        """A tree that grows independently."""
        return Tree(self.size, self.peaks)


def root(hashes: Sequence[bytes]) -> bytes:
    """The root over leaves, given as hashes."""
    tree = Tree()
    for hashed in hashes:
        tree.add(hashed)
    return tree.root()


def inclusion(hashes: Sequence[bytes], index: int) -> list[bytes]:
    """The proof that leaf `index` is in the tree over all leaves, given as hashes. Raises BadInput if it is not."""
    if not 0 <= index < len(hashes):
        raise BadInput(f"a tree of {len(hashes)} leaves has no leaf {index}")
    found: list[bytes] = []
    begin, end = 0, len(hashes)
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            found.append(root(hashes[middle:end]))
            end = middle
        else:
            found.append(root(hashes[begin:middle]))
            begin = middle
    return found[::-1]


def joint_inclusion(hashes: Sequence[bytes], indices: Sequence[int]) -> list[bytes]:
    """The proof that some leaves, at least one, are in the tree over all leaves: the roots of the largest subtrees that
    hold none of them, from the left. indices: ascending. Raises BadInput if they don't, or are not in the tree.
    """
    if not indices or indices[0] < 0 or indices[-1] >= len(hashes) or any(a >= b for a, b in pairwise(indices)):
        raise BadInput(f"a tree of {len(hashes)} leaves does not have the leaves asked for")
    found: list[bytes] = []
    open_ranges = [(0, len(hashes), 0, len(indices))]  # of leaves, and of the indices in them
    while open_ranges:
        begin, end, first, last = open_ranges.pop()
        if first == last:
            found.append(root(hashes[begin:end]))
        elif end - begin > 1:
            middle = begin + _split(end - begin)
            split = bisect_left(indices, middle, first, last)
            open_ranges += [(middle, end, split, last), (begin, middle, first, split)]
    return found


def consistency(hashes: Sequence[bytes], old: int) -> list[bytes]:
    """The proof that the tree over all leaves continues that over the first `old`. Raises BadInput if it can't."""
    if not 0 <= old <= len(hashes):
        raise BadInput(f"a tree of {len(hashes)} leaves does not continue one of {old}")
    if old in (0, len(hashes)):
        return []
    found: list[bytes] = []
    begin, end = 0, len(hashes)
    complete = True
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            found.append(root(hashes[middle:end]))
            end = middle
        else:
            found.append(root(hashes[begin:middle]))
            begin, complete = middle, False
    if not complete:
        found.append(root(hashes[begin:end]))
    return found[::-1]


def root_from_inclusion(hashed: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """The root that an inclusion proof gives for a leaf's hash; None if the proof is not one of leaf `index` of `size`
    (RFC 9162, 2.1.3.2).
    """
    if not 0 <= index < size or any(len(each) != HASH_BYTES for each in proof):
        return None
    at, last, found = index, size - 1, hashed
    for each in proof:
        if last == 0:
            return None
        if at & 1 or at == last:
            found = node(each, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node(found, each)
        at, last = at >> 1, last >> 1
    return found if last == 0 else None


def is_consistent(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether a consistency proof shows that the tree of `new` leaves continues that of `old` (RFC 9162, 2.1.4.2).

    The empty tree is continued by every tree, and a tree by itself; both without a proof.
    """
    if not 0 <= old <= new or any(len(each) != HASH_BYTES for each in proof):
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = path[0]
    for each in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            first, second = node(each, first), node(each, second)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            second = node(second, each)
        at, last = at >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


def _split(size: int) -> int:
    """The largest power of two below `size`, which is at least 2."""
    return 1 << (size - 1).bit_length() - 1
