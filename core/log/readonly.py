"""A read-only log, given to experiments over the live log so that they can't write to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from core.errors import BadInput
from core.events import START, Position
from core.log.base import Batch, Entry, EventLog, Head, PendingAppend, Sealed, Signer, Stream


class ReadOnlyLog:
    """An EventLog whose writing methods all raise BadInput without touching the log behind it."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    @property
    def signer(self) -> Signer | None:
        """Who opened the log: they sign feedback, which goes into the log by way of Kafka."""
        return self._log.signer

    def head(self, partition: int) -> Head:
        return self._log.head(partition)

    def append(self, partition: int, batch: Batch, expected: Head) -> Head:
        _refuse()

    def append_many(self, batches: Sequence[tuple[int, Batch, Head]]) -> list[Head | Exception]:
        _refuse()

    def start_append(self, appends: Sequence[tuple[int, Sealed]]) -> PendingAppend:
        _refuse()

    def read(
        self, partition: int, stream: Stream, after: Position = START, count: int = 1000, until: Position | None = None
    ) -> list[Entry]:
        return self._log.read(partition, stream, after, count, until)

    def follow(
        self, after: Mapping[tuple[int, Stream], Position], wait_ms: int, count: int = 1000
    ) -> dict[tuple[int, Stream], list[Entry]]:
        return self._log.follow(after, wait_ms, count)

    def begin(self, partition: int, stream: Stream) -> Position:
        return self._log.begin(partition, stream)

    def get(self, partition: int, stream: Stream, entry_id: Position) -> bytes | None:
        return self._log.get(partition, stream, entry_id)

    def get_many(self, partition: int, stream: Stream, entry_ids: Sequence[Position]) -> list[bytes | None]:
        return self._log.get_many(partition, stream, entry_ids)

    def length(self, partition: int, stream: Stream) -> int:
        return self._log.length(partition, stream)

    def trim(self, partition: int, up_to: Head) -> int:
        _refuse()

    def continue_after(self, partition: int, seal: Entry) -> None:
        _refuse()

    def control_head(self) -> int:
        return self._log.control_head()

    def append_control(self, payloads: Sequence[bytes], expected: int) -> int:
        _refuse()

    def read_control(self, after: int = 0, count: int = 1000) -> list[tuple[int, bytes]]:
        return self._log.read_control(after, count)

    def put_blob(self, content: bytes) -> str:
        _refuse()

    def get_blob(self, digest: str) -> bytes:
        return self._log.get_blob(digest)

    def held_blobs(self, digests: Sequence[str]) -> list[str]:
        return self._log.held_blobs(digests)

    def remove_blob(self, digest: str) -> None:
        _refuse()

    def server_time(self) -> int | None:
        return self._log.server_time()

    def close(self) -> None:
        self._log.close()


def _refuse() -> NoReturn:
    raise BadInput("this log is read-only")
