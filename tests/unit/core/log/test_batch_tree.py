"""The tree over a batch's entries: every entry has a proof, and nothing else has."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.log import batch_tree, seals
from core.log.base import Batch, Entry, Head
from core.log.batch_tree import FAN
from core.log.seals import contents, id_texts
from tests.builders.batches import batch_after

SIZES = [1, 2, FAN - 1, FAN, FAN + 1, 2 * FAN + 3, FAN * FAN, FAN * FAN + 1]


def hashes(count: int) -> list[bytes]:
    return [hashlib.sha256(b"%d" % n).digest() for n in range(count)]


def leaves(batch: Batch) -> list[bytes]:
    return batch_tree.leaves(batch, [id_texts(entries) for _, entries in contents(batch)])


def test_the_root_is_the_documented_one() -> None:
    """Nodes of FAN children, level by level; the last of a level has what is left."""
    given = hashes(FAN + 2)
    first, rest = (hashlib.sha256(b"\x01" + b"".join(part)).digest() for part in (given[:FAN], given[FAN:]))
    assert batch_tree.root(given) == hashlib.sha256(b"\x01" + first + rest).digest()
    assert batch_tree.root(given[:1]) == given[0]
    assert batch_tree.root([]) == hashlib.sha256(b"").digest()


@pytest.mark.parametrize("size", SIZES)
def test_every_leaf_has_a_proof(size: int) -> None:
    """The proof of each leaf gives the root, at its place only."""
    given = hashes(size)
    root = batch_tree.root(given)
    for index in {0, 1 % size, size // 2, size - 1}:
        proof = batch_tree.path(given, index)
        assert batch_tree.root_of(given[index], index, size, proof) == root
        others = [n for n in (index - 1, index + 1, size) if n != index]
        assert not any(batch_tree.root_of(given[index], n, size, proof) == root for n in others)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data(), size=st.integers(2, 3 * FAN))
def test_a_changed_proof_gives_no_root(data: st.DataObject, size: int) -> None:
    """Another leaf, a changed or missing hash, or another size never gives the root."""
    given = hashes(size)
    root, index = batch_tree.root(given), data.draw(st.integers(0, size - 1))
    proof = batch_tree.path(given, index)
    assert batch_tree.root_of(hashlib.sha256(b"x").digest(), index, size, proof) != root
    level = data.draw(st.integers(0, len(proof) - 1))
    side = data.draw(st.sampled_from([n for n in (0, 1) if proof[level][n]]))
    place = data.draw(st.integers(0, len(proof[level][side]) - 1))
    held = proof[level][side][place]
    for other in (bytes([held[0] ^ 1]) + held[1:], held[1:], b""):
        proof[level][side][place] = other
        assert batch_tree.root_of(given[index], index, size, proof) != root
    del proof[level][side][place]
    assert batch_tree.root_of(given[index], index, size, proof) is None
    assert batch_tree.root_of(given[index], index, size, proof[:-1]) is None


def test_an_entry_of_a_batch_is_proved_by_itself() -> None:
    """From one entry's content, its proof and the seal's header, the digest of the seal follows."""
    head = Head()
    batch = batch_after(head, transactions=40, alerts=3, feedback=2, rejects=1)
    found = leaves(batch)
    assert len(found) == 40 + 3 + 2 + 1
    digest, payload = seals.seal(batch, head)[0].digest, seals.seal(batch, head)[1]
    header = payload.replace(digest.encode(), b"")
    entries: list[tuple[batch_tree.Kind, int, list[Entry]]] = [
        ("decision", 39, [batch.transactions[39], batch.scores[39]]),
        ("alert", 42, batch.alerts[2:]),
        ("feedback", 43, batch.feedback[:1]),
        ("reject", 45, batch.rejects),
    ]
    for kind, index, held in entries:
        leaf = batch_tree.leaf(kind, str(held[0].id), *(entry.payload for entry in held))
        root = batch_tree.root_of(leaf, index, len(found), batch_tree.path(found, index))
        assert root is not None
        assert hashlib.sha256(bytes.fromhex(head.digest) + root + header).hexdigest() == digest, kind


def test_large_payloads_are_hashed_alike() -> None:
    """A size above those that are prepared is spelled the same."""
    batch = batch_after(Head(), transactions=1, alerts=0, feedback=0, rejects=0)
    paid, score = b"p" * 100_000, b"s" * 5_000
    batch.transactions[0] = Entry(batch.transactions[0].id, paid)
    batch.scores[0] = Entry(batch.scores[0].id, score)
    assert leaves(batch) == [batch_tree.leaf("decision", "1-1", paid, score)]
