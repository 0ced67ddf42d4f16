"""Signed notes: the published vector, and that no bit can be changed."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.errors import BadInput, Corrupt
from core.log import notes
from core.log.notes import COSIGNATURE, PublicKey

PUBLISHED_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PUBLISHED = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()
"""The example of Go's package golang.org/x/mod/sumdb/note, where the format comes from."""
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))


def test_the_published_note_verifies() -> None:
    """Key, key ID and signature are read as Go's implementation writes them, and written back alike."""
    key = PublicKey.parse(PUBLISHED_KEY)
    assert key.text == PUBLISHED_KEY
    note = notes.parse(PUBLISHED)
    assert [found.key for found in notes.verify(note, [key])] == [key]
    assert note.content == PUBLISHED


def test_a_note_verifies_with_its_keys_only() -> None:
    """Signatures by unknown keys are ignored, also those by another key of the same name."""
    note = notes.sign("a\nb\n", "here", PRIVATE)
    assert notes.parse(note.content) == note
    own = notes.public_key("here", PRIVATE)
    assert [found.key for found in notes.verify(note, [own, notes.public_key("here", OTHER)])] == [own]
    assert notes.verify(note, [notes.public_key("there", PRIVATE), notes.public_key("here", OTHER)]) == []


def test_a_cosignature_tells_when() -> None:
    """A witness's signature is over the text and its own time."""
    note = notes.sign("a\n", "here", PRIVATE)
    signature = notes.cosign(note.text, "witness", OTHER, 1_700_000_000)
    both = notes.parse(note._replace(signatures=(*note.signatures, signature)).content)
    key = notes.public_key("witness", OTHER, COSIGNATURE)
    assert PublicKey.parse(key.text) == key
    assert [(found.key, found.time_s) for found in notes.verify(both, [key])] == [(key, 1_700_000_000)]
    later = notes.Signature("witness", key.key_id, (1_700_000_001).to_bytes(8, "big") + signature.signature[8:])
    with pytest.raises(Corrupt):
        notes.verify(note._replace(signatures=(later,)), [key])


def test_no_bit_can_be_changed() -> None:
    """Each flipped bit makes the note unreadable, unverifiable, or unsigned by the key."""
    content = notes.sign("stream-sentinel/1d\n7\nroot\n", "here", PRIVATE).content
    key = notes.public_key("here", PRIVATE)
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            assert notes.verify(notes.parse(bytes(changed)), [key]) == [], bit
        except Corrupt:
            continue


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text\n",
        b"text\n\n",
        "text\n\n— name AAAAAAAAAA==".encode(),
        "text\n\n— na me AAAAAAAAAA==\n".encode(),
        "text\n\n— name AAAA\n".encode(),
        b"text\n\n- name AAAAAAAAAA==\n",
        "te\txt\n\n— name AAAAAAAAAA==\n".encode(),
        "text\n\n— name AAAAAAAAAA==\n\nmore\n".encode(),
        "text\n\n— name AAAAAAAAAA==\n".encode() + b"\xff\n",
        b"x" * 2_000_000,
    ],
)
def test_what_is_no_note_is_corrupt(content: bytes) -> None:
    """Missing parts, spaces in names, short signatures, control characters, other bytes, too many bytes."""
    with pytest.raises(Corrupt):
        notes.parse(content)


@pytest.mark.parametrize(
    "text", ["", "name", "name+00000000+AQ==", PUBLISHED_KEY.replace("c7", "c8"), "a b" + PUBLISHED_KEY]
)
def test_what_is_no_public_key_is_bad_input(text: str) -> None:
    """A key's name, ID and bytes must fit together."""
    with pytest.raises(BadInput):
        PublicKey.parse(text)


def test_names_and_texts_are_checked_before_signing() -> None:
    """A name with a space or a plus sign, and a text without its last newline, can't be signed."""
    for name in ("", "a b", "a+b", "a\tb"):
        with pytest.raises(BadInput):
            notes.public_key(name, PRIVATE)
    for text in ("", "a", "\n", "a\0\n"):
        with pytest.raises(BadInput):
            notes.sign(text, "here", PRIVATE)
