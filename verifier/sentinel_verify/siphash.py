"""SipHash-2-4 (Aumasson and Bernstein 2012) under a log's key: the draws of experiment arms and of roll-outs."""

import hashlib

_MASK = 2**64 - 1


def of_text(text: str, key: bytes) -> int:
    """The hash of a text; 0 for "" and only for it."""
    return siphash(text.replace("\x1f", "\ufffd").encode(), key) or 1 if text else 0


def derived(key: bytes, salt: str) -> bytes:
    """An independent key for one purpose."""
    return hashlib.sha256(key + salt.encode()).digest()[:16]


def siphash(content: bytes, key: bytes) -> int:
    """Sections 2.2 to 2.4 of the paper."""
    k0, k1 = (int.from_bytes(key[at : at + 8], "little") for at in (0, 8))
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]
    padded = content + bytes(7 - len(content) % 8) + bytes([len(content) & 0xFF])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v[3] ^= word
        _round(v)
        _round(v)
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(4):
        _round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def _round(v: list[int]) -> None:
    for a, b, c, d, first, second in ((0, 1, 2, 3, 13, 16), (2, 1, 0, 3, 17, 21)):
        v[a] = v[a] + v[b] & _MASK
        v[c] = v[c] + v[d] & _MASK
        v[b], v[d] = _left(v[b], first) ^ v[a], _left(v[d], second) ^ v[c]
        v[a] = _left(v[a], 32)


def _left(x: int, bits: int) -> int:
    return (x << bits | x >> 64 - bits) & _MASK


def mixed(x: int) -> int:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _MASK
    return x ^ x >> 31
