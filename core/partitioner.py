"""Which partition a key belongs to: the partitioners that Kafka's clients use by default. Pure.

murmur2 is Java's default and librdkafka's `murmur2` and `murmur2_random`; crc32 is librdkafka's own default,
`consistent_random`, and its `consistent`. A log's is chosen when it is created (`core.identity`), and a worker rejects
a message in a partition that its key does not map to.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from core.events import Partitioner
from core.jit import njit

_SEED = np.uint32(0x9747B28C)
_M = np.uint32(0x5BD1E995)


@njit
def murmur2(key: bytes) -> Any:
    """Kafka's 32-bit murmur2 (seed 0x9747b28c) as an unsigned number.

    Source: org.apache.kafka.common.utils.Utils.murmur2; Austin Appleby's MurmurHash2, public domain.
    """
    length = len(key)
    h = np.uint32(_SEED ^ np.uint32(length))
    word = np.uint32(0)
    for at in range(length):
        word |= np.uint32(np.uint32(key[at]) << np.uint32(8 * (at & 3)))
        if at & 3 == 3:
            word = np.uint32(word * _M)
            word = np.uint32((word ^ (word >> np.uint32(24))) * _M)
            h = np.uint32(np.uint32(h * _M) ^ word)
            word = np.uint32(0)
    if length & 3:
        h = np.uint32((h ^ word) * _M)
    h = np.uint32((h ^ (h >> np.uint32(13))) * _M)
    return h ^ (h >> np.uint32(15))


def warm_up() -> None:
    """Load the compiled hash, so that no message waits for it."""
    murmur2(b"")


def partition_murmur2(key: bytes, partitions: int) -> int:
    """The partition in [0, partitions) that Java's default and librdkafka's murmur2 partitioners choose."""
    return (int(murmur2(key)) & 0x7FFFFFFF) % partitions


def partition_crc32(key: bytes, partitions: int) -> int:
    """The partition in [0, partitions) that librdkafka's `consistent` partitioners choose."""
    return zlib.crc32(key) % partitions


PARTITIONERS: dict[Partitioner, Callable[[bytes, int], int]] = {"murmur2": partition_murmur2, "crc32": partition_crc32}
