"""Hash trees: what a proof of inclusion says the root is.

Merkle tree of RFC 6962   leaf SHA-256(0x00 ‖ content), node SHA-256(0x01 ‖ left ‖ right); of n leaves, the left
                          subtree has the largest power of two below n
tree of a batch           up to 16 children a node: SHA-256(0x01 ‖ children); leaves in the order decisions, alerts,
                          feedback, rejects
"""

import bisect
import hashlib
from itertools import pairwise

from .errors import Refused

FAN = 16

Path = list[tuple[list[bytes], list[bytes]]]
"""For each level of a batch's tree from the leaves up, the hashes on the left and on the right within the node."""


def leaf(content: bytes) -> bytes:
    """The hash of a leaf of RFC 6962."""
    return hashlib.sha256(b"\0" + content).digest()


def root_of(hashed: bytes, index: int, size: int, proof: list[bytes]) -> bytes:
    """The root of a tree of `size` leaves that holds `hashed` at `index`. Raises Refused if the proof has another form.

    proof: the other subtrees' hashes, from the leaf up.
    """
    if not 0 <= index < size:
        raise Refused(f"a tree of {size} leaves has no leaf {index}")
    if size == 1:
        if proof:
            raise Refused("a proof of inclusion has too many hashes")
        return hashed
    if not proof:
        raise Refused("a proof of inclusion has too few hashes")
    half = 1 << (size - 1).bit_length() - 1
    *below, other = proof
    if index < half:
        left, right = root_of(hashed, index, half, below), other
    else:
        left, right = other, root_of(hashed, index - half, size - half, below)
    return hashlib.sha256(b"\1" + left + right).digest()


def joint_root(leaves: list[tuple[int, bytes]], size: int, proof: list[bytes]) -> bytes:
    """The root of a tree of `size` leaves that holds these hashes, at least one, at these places, which must ascend.

    proof: the hashes of the largest subtrees that hold none of them, from the left.
    """
    places = [place for place, _ in leaves]
    if not places or places[-1] >= size or any(a >= b for a, b in pairwise([-1, *places])):
        raise Refused(f"a tree of {size} leaves does not have the leaves of the proof")
    others = iter(proof)

    def root(begin: int, end: int, first: int, last: int) -> bytes:
        if first == last:
            if (other := next(others, None)) is None:
                raise Refused("a proof of inclusion has too few hashes")
            return other
        if end - begin == 1:
            return leaves[first][1]
        middle = begin + (1 << (end - begin - 1).bit_length() - 1)
        split = bisect.bisect_left(places, middle, first, last)
        left = root(begin, middle, first, split)
        return hashlib.sha256(b"\1" + left + root(middle, end, split, last)).digest()

    found = root(0, size, 0, len(leaves))
    if next(others, None) is not None:
        raise Refused("a proof of inclusion has too many hashes")
    return found


def tree_root(hashes: list[bytes]) -> bytes:
    """The root over leaves, given as hashes; at least one."""
    if len(hashes) == 1:
        return hashes[0]
    half = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + tree_root(hashes[:half]) + tree_root(hashes[half:])).digest()


def grown_root(root: bytes, old: int, new: int, proof: list[bytes], is_whole: bool = True) -> tuple[bytes, bytes]:
    """The roots of a tree's first `old` leaves and of all `new`, as a proof of consistency says (RFC 6962, 2.1.2).

    root: what the first is known to be; used where the proof leaves it out. is_whole: whether the first `old` leaves
    are a complete subtree so far.
    """
    if not 0 < old <= new:
        raise Refused(f"a tree of {new} leaves does not continue one of {old}")
    if old == new:
        if len(proof) != (0 if is_whole else 1):
            raise Refused("a proof of consistency has another length than it must have")
        return (root, root) if is_whole else (proof[0], proof[0])
    if not proof:
        raise Refused("a proof of consistency has too few hashes")
    half = 1 << (new - 1).bit_length() - 1
    *below, other = proof
    if old <= half:
        first, whole = grown_root(root, old, half, below, is_whole)
        return first, hashlib.sha256(b"\1" + whole + other).digest()
    first, whole = grown_root(root, old - half, new - half, below, False)
    return hashlib.sha256(b"\1" + other + first).digest(), hashlib.sha256(b"\1" + other + whole).digest()


def batch_leaf(kind: str, entry: str, *payloads: bytes) -> bytes:
    """The hash of an entry of a batch; of a "decision", from the transaction and the score."""
    sizes = b"".join(b" %d %b" % (len(payload), payload) for payload in payloads)
    return hashlib.sha256(f"\0{kind} {entry}".encode() + sizes).digest()


def batch_root(hashed: bytes, index: int, size: int, path: Path) -> bytes:
    """The root of a batch's tree of `size` leaves that holds `hashed` at `index`."""
    if not 0 <= index < size:
        raise Refused(f"a batch of {size} entries has no entry {index}")
    for left, right in path:
        place = index % FAN
        if size == 1 or (len(left), len(right)) != (place, min(size - (index - place), FAN) - place - 1):
            raise Refused("the proof within the batch does not have the form of its tree")
        hashed = hashlib.sha256(b"\1" + b"".join([*left, hashed, *right])).digest()
        index, size = index // FAN, -(-size // FAN)
    if size != 1:
        raise Refused("the proof within the batch has too few levels")
    return hashed
