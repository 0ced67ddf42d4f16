"""Record batches of Kafka's format v2 as no client would write them, and a Produce request that sends them as they are.

Format: https://kafka.apache.org/documentation/#recordbatch; request: Produce version 7.
"""

from __future__ import annotations

import socket
import struct
import zlib
from collections.abc import Sequence

import pyarrow as pa

GZIP, ZSTD = 1, 4


def crc32c(content: bytes) -> int:
    """CRC-32C (Castagnoli), bit-reflected."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def varint(value: int) -> bytes:
    """A signed integer in zigzag variable-length form."""
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def record(delta: int, key: bytes, value: bytes) -> bytes:
    """One record at this offset delta."""
    body = b"\0" + varint(0) + varint(delta) + varint(len(key)) + key + varint(len(value)) + value + varint(0)
    return varint(len(body)) + body


def batch(records: Sequence[bytes], timestamp: int, codec: int = 0, *, bad_crc: bool = False) -> bytes:
    """A batch of `record`s, compressed."""
    content = b"".join(records)
    if codec == GZIP:
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        content = packer.compress(content) + packer.flush()
    elif codec == ZSTD:
        content = pa.Codec("zstd", 19).compress(content, asbytes=True)
    return framed(content, len(records), timestamp, codec, bad_crc=bad_crc)


def framed(content: bytes, count: int, timestamp: int, codec: int, *, bad_crc: bool = False) -> bytes:
    checked = struct.pack(">hiqqqhii", codec, count - 1, timestamp, timestamp, -1, -1, -1, count) + content
    crc = crc32c(checked) ^ (1 if bad_crc else 0)
    after_length = struct.pack(">ibI", -1, 2, crc) + checked
    return struct.pack(">qi", 0, len(after_length)) + after_length


def produce(bootstrap: str, topic: str, partition: int, content: bytes) -> tuple[int, int]:
    """Send a batch to a broker that leads the partition. Returns its (error code, base offset)."""
    host, _, port = bootstrap.rpartition(":")
    name = topic.encode()
    body = struct.pack(">hhi", -1, 1, 10_000) + struct.pack(">i", 1) + struct.pack(">h", len(name)) + name
    body += struct.pack(">iii", 1, partition, len(content)) + content
    header = struct.pack(">hhih", 0, 7, 1, 4) + b"test"
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
        size = struct.unpack(">i", _exactly(connection, 4))[0]
        answer = _exactly(connection, size)
    at = 4 + 4 + 2 + len(name) + 4 + 4
    code, offset = struct.unpack(">hq", answer[at : at + 10])
    return code, offset


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        if not part:
            raise ConnectionError("the broker closed the connection")
        found += part
    return found
