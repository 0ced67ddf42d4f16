"""Which partition a key belongs to: the partitioners that Kafka's clients use by default. Pure.

murmur2 is Java's default and librdkafka's `murmur2`/`murmur2_random` (what `sentinel produce` sets); crc32 is
librdkafka's own default (`consistent_random`). A log does not record which one its producers used, so `detect` infers
it from a few keys whose partition is known.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import Literal

Name = Literal["murmur2", "crc32"]

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """Kafka's 32-bit murmur2 (seed 0x9747b28c) as an unsigned number.

    Source: org.apache.kafka.common.utils.Utils.murmur2; Austin Appleby's MurmurHash2, public domain.
    """
    length = len(key)
    h = _SEED ^ length
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(key[at : at + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = h * _M & _MASK ^ k
    if length > whole:
        h = (h ^ int.from_bytes(key[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def partition_murmur2(key: bytes, partitions: int) -> int:
    """The partition in [0, partitions) that Java's default and librdkafka's murmur2 partitioners choose."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def partition_crc32(key: bytes, partitions: int) -> int:
    """The partition in [0, partitions) that librdkafka's `consistent` partitioners choose."""
    return zlib.crc32(key) % partitions


PARTITIONERS: dict[Name, Callable[[bytes, int], int]] = {"murmur2": partition_murmur2, "crc32": partition_crc32}


def detect(samples: Iterable[tuple[bytes, int]], partitions: int) -> Name | None:
    """The partitioner that is consistent with every (key, partition) pair, murmur2 first; None if neither is.

    With no samples, or a single partition, any answer is right and murmur2 is returned.
    """
    known = list(samples)
    for name, choose in PARTITIONERS.items():
        if all(choose(key, partitions) == partition for key, partition in known):
            return name
    return None
