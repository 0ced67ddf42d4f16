"""Which partition a key belongs to: the partitioners that Kafka's clients use by default. Pure.

murmur2 is Java's default and librdkafka's `murmur2` and `murmur2_random`; crc32 is librdkafka's own default,
`consistent_random`, and its `consistent`. A log's is chosen when it is created (`core.identity`), and a worker rejects
a message in a partition that its key does not map to.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from core.events import Partitioner

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


PARTITIONERS: dict[Partitioner, Callable[[bytes, int], int]] = {"murmur2": partition_murmur2, "crc32": partition_crc32}
