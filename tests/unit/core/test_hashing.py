"""Keyed hashes: SipHash's published vectors, a second implementation, and what the key is for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.hashing import HashKey, hash_strings
from core.identity import FIXED
from tests.builders.events import fuzz
from tests.builders.feature_oracle import siphash, string_hash

# SipHash's published vectors (vectors.h of the reference implementation), for 0 to 31 bytes: hashes of 00 01 02 … with
# the key 00 01 … 0f.
VECTORS = (
    (0x726FDB47DD0E0E31, 0x74F839C593DC67FD, 0x0D6C8009D9A94F5A, 0x85676696D7FB7E2D),
    (0xCF2794E0277187B7, 0x18765564CD99A68D, 0xCBC9466E58FEE3CE, 0xAB0200F58B01D137),
    (0x93F5F5799A932462, 0x9E0082DF0BA9E4B0, 0x7A5DBBC594DDB9F3, 0xF4B32F46226BADA7),
    (0x751E8FBC860EE5FB, 0x14EA5627C0843D90, 0xF723CA908E7AF2EE, 0xA129CA6149BE45E5),
    (0x3F2ACC7F57C29BDB, 0x699AE9F52CBE4794, 0x4BC1B3F0968DD39C, 0xBB6DC91DA77961BD),
    (0xBED65CF21AA2EE98, 0xD0F2CBB02E3B67C7, 0x93536795E3A33E88, 0xA80C038CCD5CCEC8),
    (0xB8AD50C6F649AF94, 0xBCE192DE8A85B8EA, 0x17D835B85BBB15F3, 0x2F2E6163076BCFAD),
    (0xDE4DAAACA71DC9A5, 0xA6A2506687956571, 0xAD87A3535C49EF28, 0x32D892FAD841C342),
)


@pytest.mark.parametrize("length", range(1, 32))
def test_hashes_are_the_reference_vectors(length: int) -> None:
    """Hashes of 1 to 31 bytes are the reference implementation's."""
    text = bytes(range(length)).decode()
    expected = VECTORS[length // 4][length % 4]
    assert int(hash_strings([text], FIXED.key)[0]) == expected == siphash(text.encode(), bytes(range(16)))


def test_the_oracle_hashes_nothing_as_the_reference_does() -> None:
    """The second implementation also agrees on no bytes at all, which `hash_strings` reserves for "not given"."""
    assert siphash(b"", bytes(range(16))) == VECTORS[0][0]
    assert hash_strings(["", "a", ""], FIXED.key).tolist()[::2] == [0, 0] and len(hash_strings([], FIXED.key)) == 0


@fuzz(max_examples=300)
@given(st.lists(st.text(st.characters(exclude_characters="\x1f", exclude_categories=["Cs"]), max_size=40), max_size=8))
def test_hashes_are_the_second_implementations(strings: list[str]) -> None:
    """Any list, with empty strings anywhere, hashes string by string as the oracle's implementation does."""
    assert hash_strings(strings, FIXED.key).tolist() == [string_hash(s) for s in strings]


def test_hash_bits_are_well_mixed() -> None:
    """The top six bits, which pick the sketch's bit, spread short numbered ids evenly (chi-square, 63 degrees)."""
    for pattern in ("m{}", "{}", "merchant-{:06d}"):
        top = hash_strings([pattern.format(i) for i in range(64_000)], FIXED.key) >> np.uint64(58)
        counts = np.bincount(top.astype(np.int64), minlength=64)
        assert ((counts - 1000.0) ** 2 / 1000.0).sum() < 120.0


def test_names_that_collide_under_one_key_do_not_under_another() -> None:
    """Whoever doesn't know the key can't make two names share anything: every key orders and groups names afresh."""
    names = [f"m{i}" for i in range(20_000)]
    one, other = (hash_strings(names, HashKey.of(f"{i:032x}")) >> np.uint64(44) for i in (1, 2))
    order = np.argsort(one)
    together = order[:-1][one[order][:-1] == one[order][1:]], order[1:][one[order][:-1] == one[order][1:]]
    assert len(together[0]) > 50
    assert (other[together[0]] == other[together[1]]).sum() <= 2


def test_keys_are_128_bits_of_hexadecimal() -> None:
    """A key has 32 hexadecimal digits and reads back as the same text; a derived one depends on key and salt."""
    text = "00112233445566778899aabbccddeeff"
    assert HashKey.of(text).text == text
    for wrong in ("", text[:-1], text + "0", "zz" * 16, text[:30] + "  "):
        with pytest.raises(ValueError):
            HashKey.of(wrong)
    keys = [FIXED.key, FIXED.key.derived("a"), FIXED.key.derived("b"), HashKey.of(text).derived("a")]
    assert len(set(keys)) == 4 and FIXED.key.derived("a") == FIXED.key.derived("a")


def test_a_separator_within_a_string_stays_within_it() -> None:
    """Outsiders choose strings: one of many U+001F neither moves nor overwrites what follows it."""
    hostile = ["a", "\x1f" * 1000, "b\x1fc", "d"]
    expected = [string_hash(text.replace("\x1f", "\ufffd")) for text in hostile]
    assert hash_strings(hostile, FIXED.key).tolist() == expected
    assert hash_strings(["\x1f"], FIXED.key).tolist() == [string_hash("\ufffd")]
