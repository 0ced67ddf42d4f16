"""The event log in memory: the reference implementation of the complete protocol, without durability.

Other implementations are compared with this one (tests/contracts/test_event_log.py), so it must stay simple enough to
be obviously right: one lock, sorted lists, checks before the first change.

It is also the log that tests corrupt. `clone`, `tamper*`, `truncate*` and `exchange` do, without any checks, what an
intruder or a lost disk would do to a server; readers of the log must detect it.
"""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from core.errors import BadInput, ConcurrencyError, Corrupt, SentinelError
from core.events import START, Position
from core.log import seals
from core.log.base import Batch, Entry, Head, PendingAppend, Sealed, Signer, Stream


class _Done(NamedTuple):
    """A PendingAppend whose outcome is known."""

    outcomes: list[Head | Exception]

    def results(self) -> list[Head | Exception]:
        return self.outcomes


class MemoryLog:
    """EventLog in this process's memory. Thread-safe."""

    def __init__(self, signer: Signer | None = None) -> None:
        self.signer = signer
        self._lock = threading.Condition(threading.Lock())
        self._heads: dict[int, Head] = {}
        self._streams: dict[tuple[int, Stream], list[Entry]] = {}
        self._trimmed: dict[tuple[int, Stream], Position] = {}
        self._control: list[bytes] = []
        self._blobs: dict[str, bytes] = {}

    def head(self, partition: int) -> Head:
        with self._lock:
            return self._heads.get(partition, Head())

    def append(self, partition: int, batch: Batch, expected: Head) -> Head:
        """See EventLog. Here a stream's last ID can't be ahead of the head, unless `expected` is forged."""
        return self._append(partition, seals.sealed(batch, expected))

    def _append(self, partition: int, sealed: Sealed) -> Head:
        batch, expected, head = sealed.batch, sealed.expected, sealed.head
        additions: dict[Stream, list[Entry]] = {
            "transactions": batch.transactions,
            "scores": batch.scores,
            "alerts": batch.alerts,
            "feedback": batch.feedback,
            "rejects": batch.rejects,
            "seals": [Entry(Position(head.sequence, 1), sealed.payload)],
        }
        with self._lock:
            actual = self._heads.get(partition, Head())
            if (actual.sequence, actual.digest) != (expected.sequence, expected.digest):
                raise ConcurrencyError(
                    f"partition {partition} is at seal {actual.sequence}, not at {expected.sequence}"
                )
            for stream, entries in additions.items():
                held = self._streams.get((partition, stream))
                top = held[-1].id if held else self._trimmed.get((partition, stream), START)
                if entries and entries[0].id <= top:
                    raise ConcurrencyError(f"partition {partition}: {stream} already holds {top}")
            for stream, entries in additions.items():
                self._streams.setdefault((partition, stream), []).extend(entries)
            self._heads[partition] = head
            self._lock.notify_all()
        return head

    def start_append(self, appends: Sequence[tuple[int, Sealed]]) -> PendingAppend:
        """See EventLog. Appends immediately."""
        results: list[Head | Exception] = []
        for partition, sealed in appends:
            try:
                results.append(self._append(partition, sealed))
            except SentinelError as error:
                results.append(error)
        return _Done(results)

    def append_many(self, batches: Sequence[tuple[int, Batch, Head]]) -> list[Head | Exception]:
        results: list[Head | Exception] = []
        for partition, batch, expected in batches:
            try:
                results.append(self.append(partition, batch, expected))
            except SentinelError as error:
                results.append(error)
        return results

    def read(
        self, partition: int, stream: Stream, after: Position = START, count: int = 1000, until: Position | None = None
    ) -> list[Entry]:
        with self._lock:
            held = self._streams.get((partition, stream), [])
            begin = bisect_right(held, after, key=_entry_id)
            end = len(held) if until is None else bisect_right(held, until, key=_entry_id)
            return held[begin : min(end, begin + max(count, 0))]

    def follow(
        self, after: Mapping[tuple[int, Stream], Position], wait_ms: int, count: int = 1000
    ) -> dict[tuple[int, Stream], list[Entry]]:
        def found() -> dict[tuple[int, Stream], list[Entry]]:
            pages = {}
            for key, position in after.items():
                held = self._streams.get(key, [])
                begin = bisect_right(held, position, key=_entry_id)
                pages[key] = held[begin : begin + count]
            return {key: page for key, page in pages.items() if page}

        with self._lock:
            self._lock.wait_for(found, wait_ms / 1000)
            return found()

    def begin(self, partition: int, stream: Stream) -> Position:
        return seals.beginning(self.read, partition, stream)

    def get(self, partition: int, stream: Stream, entry_id: Position) -> bytes | None:
        with self._lock:
            held = self._streams.get((partition, stream), [])
            place = bisect_right(held, entry_id, key=_entry_id) - 1
            return held[place].payload if place >= 0 and held[place].id == entry_id else None

    def get_many(self, partition: int, stream: Stream, entry_ids: Sequence[Position]) -> list[bytes | None]:
        return [self.get(partition, stream, entry_id) for entry_id in entry_ids]

    def length(self, partition: int, stream: Stream) -> int:
        with self._lock:
            return len(self._streams.get((partition, stream), []))

    def trim(self, partition: int, up_to: Head) -> int:
        removed = 0
        with self._lock:
            held = self._streams.get((partition, "seals"), [])
            if up_to.sequence == 0 or (held and up_to.sequence < held[0].id.generation):
                return 0
            place = bisect_right(held, Position(up_to.sequence, 1), key=_entry_id) - 1
            if place < 0 or seals.head_from_entry(held[place]) != up_to:
                raise ConcurrencyError(f"partition {partition}: seal {up_to.sequence} is not the expected one")
            for stream, last in seals.covered(up_to).items():
                entries = self._streams.get((partition, stream), [])
                end = bisect_right(entries, last, key=_entry_id)
                if end:
                    self._trimmed[partition, stream] = entries[end - 1].id
                    del entries[:end]
                    removed += end
        return removed

    def continue_after(self, partition: int, seal: Entry) -> None:
        head = seals.head_from_entry(seal)
        with self._lock:
            if self._heads.get(partition, Head()) not in (Head(), head):
                raise ConcurrencyError(f"partition {partition} is not empty")
            self._heads[partition] = head
            self._streams[partition, "seals"] = [seal]

    def control_head(self) -> int:
        with self._lock:
            return len(self._control)

    def append_control(self, payloads: Sequence[bytes], expected: int) -> int:
        with self._lock:
            if len(self._control) != expected:
                raise ConcurrencyError(f"the control stream is at {len(self._control)}, not at {expected}")
            self._control.extend(payloads)
            return len(self._control)

    def read_control(self, after: int = 0, count: int = 1000) -> list[tuple[int, bytes]]:
        with self._lock:
            return list(enumerate(self._control[after : after + max(count, 0)], after + 1))

    def put_blob(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        with self._lock:
            self._blobs.setdefault(digest, bytes(content))
        return digest

    def get_blob(self, digest: str) -> bytes:
        with self._lock:
            content = self._blobs.get(digest)
        if content is None:
            raise BadInput(f"the log holds no blob {digest}")
        if hashlib.sha256(content).hexdigest() != digest:
            raise Corrupt(f"the blob {digest} is not what was stored")
        return content

    def held_blobs(self, digests: Sequence[str]) -> list[str]:
        with self._lock:
            return [digest for digest in digests if digest in self._blobs]

    def remove_blob(self, digest: str) -> None:
        with self._lock:
            self._blobs.pop(digest, None)

    def server_time(self) -> int | None:
        return None

    def close(self) -> None:
        """Nothing to release."""

    @classmethod
    def restored(
        cls, streams: Mapping[tuple[int, Stream], Sequence[Entry]], control: Sequence[bytes], blobs: Mapping[str, bytes]
    ) -> MemoryLog:
        """A log with this content, as it was read from another one; nothing is checked."""
        log = cls()
        log._streams = {place: list(entries) for place, entries in streams.items()}
        log._control, log._blobs = list(control), dict(blobs)
        for (partition, stream), entries in streams.items():
            if stream == "seals" and entries:
                log._heads[partition] = seals.head_from_entry(entries[-1])
        return log

    def clone(self) -> MemoryLog:
        """An independent log with the same content."""
        other = MemoryLog(self.signer)
        with self._lock:
            other._heads, other._trimmed = dict(self._heads), dict(self._trimmed)
            other._streams = {name: list(entries) for name, entries in self._streams.items()}
            other._control, other._blobs = list(self._control), dict(self._blobs)
        return other

    def tamper(self, partition: int, stream: Stream, entry_id: Position, payload: bytes | None) -> None:
        """Replace or insert the entry with this ID, or remove it (None). The head stays."""
        with self._lock:
            held = self._streams.setdefault((partition, stream), [])
            place = bisect_left(held, entry_id, key=_entry_id)
            end = place + 1 if place < len(held) and held[place].id == entry_id else place
            held[place:end] = [] if payload is None else [Entry(entry_id, payload)]

    def tamper_control(self, sequence: int, payload: bytes | None) -> None:
        """Replace the control event, or remove it (None), after which the later ones have smaller sequences."""
        with self._lock:
            self._control[sequence - 1 : sequence] = [] if payload is None else [payload]

    def tamper_blob(self, digest: str, content: bytes | None) -> None:
        """Store other content under the digest, or nothing (None)."""
        with self._lock:
            if content is None:
                self._blobs.pop(digest, None)
            else:
                self._blobs[digest] = content

    def truncate(self, partition: int, sequence: int) -> None:
        """Lose every batch after this seal, like a server restored from an old backup; 0 loses them all."""
        with self._lock:
            held = self._streams.get((partition, "seals"), [])
            place = bisect_right(held, Position(sequence, 1), key=_entry_id) - 1
            head = seals.head_from_entry(held[place]) if place >= 0 else Head()
            for stream, last in (seals.covered(head) | {"seals": Position(sequence, 1)}).items():
                entries = self._streams.get((partition, stream), [])
                del entries[bisect_right(entries, last, key=_entry_id) :]
            self._heads[partition] = head

    def exchange(self, first: int, second: int) -> None:
        """Give each of two partitions the other's streams."""
        with self._lock:
            other = {first: second, second: first}
            self._streams = {(other.get(p, p), stream): held for (p, stream), held in self._streams.items()}
            self._trimmed = {(other.get(p, p), stream): last for (p, stream), last in self._trimmed.items()}
            self._heads = {other.get(p, p): head for p, head in self._heads.items()}

    def truncate_control(self, sequence: int) -> None:
        """Lose every control event after this sequence."""
        with self._lock:
            del self._control[sequence:]


def _entry_id(entry: Entry) -> Position:
    return entry.id
