"""A reader of Protocol Buffers' wire format, for the few fields of ONNX that `models.onnx_trees` needs.

Owns the encoding (https://protobuf.dev/programming-guides/encoding), knows no message type. A message is scanned into
arrays by one compiled loop, since a forest's numbers come as one field each; a field that is cut short is Corrupt.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput, Corrupt
from core.jit import njit

FIELDS_MAX = 4_000_000
"""Fields of one message: they take 25 bytes each while it is read."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@njit
def _varint(data: NDArray[np.uint8], at: int, stop: int) -> tuple[np.uint64, int]:
    """(value, the position after it); a position of −1 if it is cut short or too long."""
    value = np.uint64(0)
    for shift in range(0, 70, 7):
        if at >= stop:
            return value, -1
        byte = data[at]
        at += 1
        if shift == 63 and byte > 1:
            return value, -1
        value |= np.uint64(byte & 127) << np.uint64(shift)
        if byte < 128:
            return value, at
    return value, -1


@njit
def _scan(
    data: NDArray[np.uint8],
    start: int,
    stop: int,
    numbers: NDArray[np.int64],
    wires: NDArray[np.int8],
    values: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> int:
    """Fill the arrays if they have room; return how many fields there are, −1 if the bytes are no message."""
    found = 0
    at = start
    while at < stop:
        tag, at = _varint(data, at, stop)
        if at < 0:
            return -1
        wire = np.int64(tag & np.uint64(7))
        number = np.int64(tag >> np.uint64(3))
        value = np.int64(at)
        if wire == 0:
            raw, at = _varint(data, at, stop)
            if at < 0:
                return -1
            value = np.int64(raw)
        elif wire == 2:
            size, at = _varint(data, at, stop)
            if at < 0 or size > np.uint64(stop - at):
                return -1
            value = np.int64(at)
            at += np.int64(size)
        elif wire == 1 or wire == 5:
            at += 8 if wire == 1 else 4
            if at > stop:
                return -1
        else:
            return -1
        if found < numbers.shape[0]:
            numbers[found], wires[found], values[found], ends[found] = number, wire, value, at
        found += 1
    return found


@njit
def _varints(data: NDArray[np.uint8], start: int, stop: int, out: NDArray[np.int64]) -> int:
    """Fill `out` with packed varints if it has room; return how many there are, −1 if one is cut short."""
    found = 0
    at = start
    while at < stop:
        value, at = _varint(data, at, stop)
        if at < 0:
            return -1
        if found < out.shape[0]:
            out[found] = np.int64(value)
        found += 1
    return found


class Message(NamedTuple):
    """A message's fields in order: number, wire type, and a varint's value or where the content begins, and its end."""

    data: NDArray[np.uint8]
    numbers: NDArray[np.int64]
    wires: NDArray[np.int8]
    values: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, data: NDArray[np.uint8], start: int, stop: int) -> Message:
        """The message in data[start:stop]. Raises Corrupt if it is none, BadInput if it has too many fields."""
        none = np.empty(0, dtype=np.int64)
        count = _scan(data, start, stop, none, np.empty(0, dtype=np.int8), none, none)
        if count < 0:
            raise Corrupt("its Protocol Buffers encoding is damaged")
        if count > FIELDS_MAX:
            raise BadInput(f"a message has more than {FIELDS_MAX} fields")
        numbers, values, ends = (np.empty(count, dtype=np.int64) for _ in range(3))
        wires = np.empty(count, dtype=np.int8)
        _scan(data, start, stop, numbers, wires, values, ends)
        return cls(data, numbers, wires, values, ends)

    def _of(self, number: int, wire: int) -> NDArray[np.intp]:
        at = np.flatnonzero(self.numbers == number)
        if (self.wires[at] != wire).any():
            raise Corrupt(f"its field {number} has another type")
        return at

    def messages(self, number: int) -> list[Message]:
        """The messages of a repeated field."""
        at = self._of(number, _BYTES)
        ranges = zip(self.values[at].tolist(), self.ends[at].tolist(), strict=True)
        return [Message.of(self.data, start, stop) for start, stop in ranges]

    def message(self, number: int) -> Message | None:
        """The last message of a field; None if there is none."""
        found = self.messages(number)
        return found[-1] if found else None

    def strings(self, number: int) -> list[bytes]:
        """The strings of a repeated field."""
        at = self._of(number, _BYTES)
        ranges = zip(self.values[at].tolist(), self.ends[at].tolist(), strict=True)
        whole = self.data.tobytes() if len(at) > 100 else b""
        return [whole[start:stop] if whole else self.data[start:stop].tobytes() for start, stop in ranges]

    def string(self, number: int) -> str:
        """The last string of a field, "" if there is none. Raises Corrupt if it is not UTF-8."""
        found = self.strings(number)
        try:
            return found[-1].decode() if found else ""
        except UnicodeDecodeError:
            raise Corrupt("it has a text that is not UTF-8") from None

    def integer(self, number: int) -> int:
        """The last varint of a field, 0 if there is none."""
        at = self._of(number, _VARINT)
        return int(self.values[at[-1]]) if len(at) else 0

    def integers(self, number: int) -> NDArray[np.int64]:
        """A repeated integer field, packed or not: int64 (n,)."""
        parts: list[NDArray[np.int64]] = []
        at = np.flatnonzero(self.numbers == number)
        if not (self.wires[at] == _BYTES).any():
            return self.values[self._of(number, _VARINT)]
        for i in self._of(number, _BYTES).tolist():
            start, stop = int(self.values[i]), int(self.ends[i])
            part = np.empty(stop - start, dtype=np.int64)
            count = _varints(self.data, start, stop, part)
            if count < 0:
                raise Corrupt(f"its field {number} is cut short")
            parts.append(part[:count].copy())
        return np.concatenate(parts)

    def singles(self, number: int) -> NDArray[np.float32]:
        """A repeated float field, packed or not: float32 (n,)."""
        at = np.flatnonzero(self.numbers == number)
        if (self.wires[at] == _BYTES).any():
            raw = b"".join(self.strings(number))
            if len(raw) % 4:
                raise Corrupt(f"its field {number} is cut short")
            return np.frombuffer(raw, dtype="<f4").astype(np.float32)
        starts = self.values[self._of(number, _FIXED32)]
        raw_bits = self.data[starts[:, None] + np.arange(4)].copy()
        return np.asarray(raw_bits.view("<f4").reshape(-1), dtype=np.float32)
