"""Merkle trees: the vectors of Certificate Transparency, another implementation as oracle, and proofs that can fail."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from core.errors import BadInput
from core.log import merkle

CONTENTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""The roots over the first 0 to 8 of CONTENTS, from the test data of Certificate Transparency (RFC 6962)."""


def leaves(count: int) -> list[bytes]:
    return [merkle.leaf(b"%d" % n) for n in range(count)]


def test_roots_are_those_of_certificate_transparency() -> None:
    """The published roots, of the whole tree and of each prefix as the tree grows."""
    tree = merkle.Tree()
    assert tree.root().hex() == ROOTS[0]
    for content, expected in zip(CONTENTS, ROOTS[1:], strict=True):
        tree.add(merkle.leaf(content))
        assert tree.root().hex() == expected
        assert merkle.Tree(tree.size, tree.peaks).root().hex() == expected


def test_another_implementation_has_the_same_roots_and_proofs() -> None:
    """pymerkle, for every size up to 40: roots, inclusion proofs hash by hash, and consistency with its older roots."""
    other = InmemoryTree(algorithm="sha256")
    for size in range(1, 41):
        other.append_entry(b"%d" % (size - 1))
        held = leaves(size)
        root = merkle.root(held)
        assert root == other.get_root(size)
        for index in range(size):
            theirs = other.prove_inclusion(index + 1, size)
            assert [held[index], *merkle.inclusion(held, index)] == theirs.path
        for old in range(1, size):
            assert merkle.is_consistent(old, size, other.get_root(old), root, merkle.consistency(held, old))


def test_published_proofs() -> None:
    """Inclusion and consistency proofs of the tree of seven leaves, as RFC 9162 (2.1.5) writes them out."""
    a, b, c, d, e, f, j = leaves(7)
    g, h, i = merkle.node(a, b), merkle.node(c, d), merkle.node(e, f)
    k, l = merkle.node(g, h), merkle.node(i, j)  # noqa: E741  # the RFC's names
    held = leaves(7)
    assert merkle.inclusion(held, 0) == [b, h, l]
    assert merkle.inclusion(held, 3) == [c, g, l]
    assert merkle.inclusion(held, 4) == [f, j, k]
    assert merkle.inclusion(held, 6) == [i, k]
    assert merkle.consistency(held, 3) == [c, d, g, l]
    assert merkle.consistency(held, 4) == [l]
    assert merkle.consistency(held, 6) == [i, j, k]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data(), size=st.integers(1, 70))
def test_inclusion_proofs_prove_their_leaf_only(data: st.DataObject, size: int) -> None:
    """Each leaf has a proof; with another leaf, place, size or hash it gives another root or none."""
    held = leaves(size)
    root, index = merkle.root(held), data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion(held, index)
    assert merkle.root_from_inclusion(held[index], index, size, proof) == root
    assert merkle.root_from_inclusion(merkle.leaf(b"x"), index, size, proof) != root
    other = data.draw(st.integers(-1, size))
    assert other == index or merkle.root_from_inclusion(held[index], other, size, proof) != root
    assert merkle.root_from_inclusion(held[index], index, size, [*proof, root]) is None
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        changed = [*proof[:place], merkle.leaf(b"y"), *proof[place + 1 :]]
        assert merkle.root_from_inclusion(held[index], index, size, changed) != root
        assert merkle.root_from_inclusion(held[index], index, size, proof[:-1]) is None
        assert merkle.root_from_inclusion(held[index], index, size, [*proof[:-1], proof[-1][:-1]]) is None


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data(), new=st.integers(1, 70))
def test_consistency_proofs_prove_continuation_only(data: st.DataObject, new: int) -> None:
    """Every prefix is consistent; a tree that differs in one old leaf is not, nor is a changed proof."""
    held = leaves(new)
    old = data.draw(st.integers(0, new))
    old_root, root, proof = merkle.root(held[:old]), merkle.root(held), merkle.consistency(held, old)
    assert merkle.is_consistent(old, new, old_root, root, proof)
    assert not merkle.is_consistent(new + 1, new, root, root, proof)
    if old:
        place = data.draw(st.integers(0, old - 1))
        forged = [*held[:place], merkle.leaf(b"x"), *held[place + 1 :]]
        assert not merkle.is_consistent(old, new, old_root, merkle.root(forged), merkle.consistency(forged, old))
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        assert not merkle.is_consistent(old, new, old_root, root, [*proof[:place], root, *proof[place + 1 :]])
        assert not merkle.is_consistent(old, new, old_root, root, proof[:-1])
    assert not merkle.is_consistent(old, new, old_root, root, [*proof, root])


def test_impossible_requests_are_refused() -> None:
    """A leaf that a tree lacks, an older tree that is larger, peaks that do not fit a size."""
    with pytest.raises(BadInput):
        merkle.inclusion(leaves(3), 3)
    with pytest.raises(BadInput):
        merkle.consistency(leaves(3), 4)
    with pytest.raises(BadInput):
        merkle.Tree(3, leaves(1))
