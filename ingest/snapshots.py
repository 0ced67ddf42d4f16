"""Snapshots of a partition's account state: a worker that takes over a partition needs to fold only the log's tail.

A file `<prefix>-p07.snapshot`: one JSON line (partition, sequence, digest, positions), then `AccountState.to_bytes()`.
It is written atomically (`core.files`). It is trusted only if its checksum matches and the log's seal of that sequence
has the same digest; anything else is ignored and the state is folded from the log. Deleting snapshots is always safe.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from core.errors import Corrupt, Unavailable
from core.events import Position
from core.features.state import AccountState
from core.files import write_atomic
from core.log.base import EventLog, Head
from core.log.seals import head_from_entry


class _Header(msgspec.Struct, frozen=True):
    partition: int
    sequence: int
    digest: str
    transactions: str
    feedback: str
    control: int


class SnapshotStore:
    """Snapshots in one directory, which may be shared by workers on several machines."""

    def __init__(self, directory: Path, prefix: str) -> None:
        self._directory = directory
        self._prefix = prefix

    def _path(self, partition: int) -> Path:
        return self._directory / f"{self._prefix}-p{partition:02d}.snapshot"

    def save(self, partition: int, head: Head, state: AccountState) -> None:
        """Replace the partition's snapshot. Raises Unavailable if the directory can't be written."""
        header = _Header(
            partition, head.sequence, head.digest, str(head.transactions), str(head.feedback), head.control
        )
        path = self._path(partition)
        try:
            write_atomic(path, msgspec.json.encode(header) + b"\n", state.to_bytes())
        except OSError as error:
            raise Unavailable(f"snapshot {path} can't be written: {error.strerror}") from error

    def heads(self, partitions: int) -> dict[int, Head]:
        """What the snapshots of these partitions say, unchecked; a file that can't be read is left out."""
        found: dict[int, Head] = {}
        for partition in range(partitions):
            try:
                with open(self._path(partition), "rb") as file:
                    found[partition] = _head_of(msgspec.json.decode(file.readline(), type=_Header))
            except (OSError, msgspec.MsgspecError, ValueError):
                continue
        return found

    def load(self, partition: int, log: EventLog, until: Head) -> tuple[Head, AccountState] | None:
        """The partition's snapshot, if it can be trusted and is not beyond `until`; else None."""
        try:
            content = self._path(partition).read_bytes()
        except OSError:
            return None
        line, _, body = content.partition(b"\n")
        try:
            header = msgspec.json.decode(line, type=_Header)
            head = _head_of(header)
            if header.partition != partition or not 0 < header.sequence <= until.sequence:
                return None
            if not _in_log(log, partition, head):
                return None
            return head, AccountState.from_bytes(body)
        except (msgspec.MsgspecError, ValueError, Corrupt):
            return None


def _head_of(header: _Header) -> Head:
    return Head(
        sequence=header.sequence,
        transactions=Position.parse(header.transactions),
        feedback=Position.parse(header.feedback),
        control=header.control,
        digest=header.digest,
    )


def _in_log(log: EventLog, partition: int, head: Head) -> bool:
    entries = log.read(partition, "seals", Position(head.sequence, 0), 1)
    if not entries:
        return False
    logged = head_from_entry(entries[0])
    return (logged.sequence, logged.digest, logged.transactions, logged.feedback) == (
        head.sequence,
        head.digest,
        head.transactions,
        head.feedback,
    )
