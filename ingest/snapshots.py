"""Snapshots of a partition's account state: a worker that takes over a partition needs to fold only the log's tail.

A file `<prefix>-p07.snapshot`: one JSON line (partition, sequence, digest, positions), then the bytes of an
AccountState. It is written atomically (`core.files`). It is believed only if its code over all of this is right under
the log's key (I17) and the log's seal of that sequence has the same digest; anything else is ignored and the state is
folded from the log. Deleting snapshots is always safe.

The line has a code of its own, under the same key, so that whoever only reads it (`sentinel doctor`, `verify`) need not
read hundreds of megabytes to know that this log's workers wrote it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from core.errors import UNDECODABLE, Corrupt, Unavailable
from core.events import Position
from core.features.state import AccountState, StateCopy
from core.files import write_atomic
from core.identity import LogIdentity
from core.log.base import EventLog, Head
from core.log.seals import head_from_entry
from core.program.rings import RingStep

HEADER_MAX = 4096
"""Bytes of a snapshot's first line at most."""


class Forgotten(NamedTuple):
    """What a partition holds, and what its bounds have made it forget, when its snapshot was taken."""

    accounts: int
    evicted: int
    evicted_protected: int
    payments: int


class _Header(msgspec.Struct, frozen=True):
    partition: int
    sequence: int
    digest: str
    transactions: str
    feedback: str
    control: int
    accounts: int = 0
    evicted: int = 0
    evicted_protected: int = 0
    forgotten: int = 0
    code: str = ""

    def code_under(self, identity: LogIdentity) -> str:
        """The line's HMAC-SHA256, in hexadecimal digits."""
        line = msgspec.json.encode(msgspec.structs.replace(self, code=""))
        return hmac.digest(identity.mac_key("snapshot header"), line, "sha256").hex()

    def is_of(self, identity: LogIdentity) -> bool:
        """Whether somebody with the log's key wrote it."""
        return hmac.compare_digest(self.code.encode("utf-8", "replace"), self.code_under(identity).encode())


class SnapshotStore:
    """Snapshots in one directory, which may be shared by workers on several machines."""

    def __init__(self, directory: Path, prefix: str) -> None:
        self._directory = directory
        self._prefix = prefix

    def _path(self, partition: int) -> Path:
        return self._directory / f"{self._prefix}-p{partition:02d}.snapshot"

    def save(self, partition: int, head: Head, state: AccountState) -> None:
        """Replace the partition's snapshot. Raises Unavailable if the directory can't be written."""
        self.taken(partition, head, state)()

    def taken(self, partition: int, head: Head, state: AccountState) -> Callable[[], None]:
        """Copy the state, and give what replaces the partition's snapshot by the copy, in any thread: see `save`."""
        header = _Header(
            partition,
            head.sequence,
            head.digest,
            str(head.transactions),
            str(head.feedback),
            head.control,
            len(state),
            state.evicted,
            state.evicted_protected,
            state.remembered.forgotten // 2,
        )
        header = msgspec.structs.replace(header, code=header.code_under(state.identity))
        return partial(self._write, partition, header, state.copy())

    def _write(self, partition: int, header: _Header, copy: StateCopy) -> None:
        path = self._path(partition)
        try:
            line = msgspec.json.encode(header)
            write_atomic(path, line + b"\n", *copy.parts(line))
        except OSError as error:
            raise Unavailable(f"snapshot {path} can't be written: {error.strerror}") from error

    def forgotten(self, identity: LogIdentity) -> dict[int, Forgotten | None]:
        """As the snapshots of the log's partitions say; None for one that is not this log's, or was changed. A file
        that can't be read is left out.
        """
        return {
            partition: Forgotten(header.accounts, header.evicted, header.evicted_protected, header.forgotten)
            if header.is_of(identity)
            else None
            for partition, header in self._headers(identity.partitions).items()
        }

    def is_of(self, partition: int, identity: LogIdentity) -> bool:
        """Whether the partition's snapshot says that it is this log's, under the log's key."""
        header = self._header(partition)
        return header is not None and header.is_of(identity)

    def heads(self, partitions: int) -> dict[int, Head]:
        """What the snapshots of these partitions say, unchecked: of a log that is gone, with its key. A file that can't
        be read is left out.
        """
        found = {partition: self.head(partition) for partition in range(partitions)}
        return {partition: head for partition, head in found.items() if head is not None}

    def _headers(self, partitions: int) -> dict[int, _Header]:
        found = {partition: self._header(partition) for partition in range(partitions)}
        return {partition: header for partition, header in found.items() if header is not None}

    def _header(self, partition: int) -> _Header | None:
        try:
            with self._path(partition).open("rb") as file:
                return msgspec.json.decode(file.readline(HEADER_MAX), type=_Header)
        except (OSError, *UNDECODABLE):
            return None

    def load(
        self,
        partition: int,
        log: EventLog,
        until: Head,
        identity: LogIdentity,
        steps: Sequence[RingStep] = (),
        required: Sequence[RingStep] = (),
    ) -> tuple[Head, AccountState] | None:
        """The partition's snapshot, if it can be trusted, is not beyond `until` and holds the aggregates of `required`;
        else None. steps: the aggregates that the state should hold if the snapshot does.
        """
        try:
            content = self._path(partition).read_bytes()
        except OSError:
            return None
        line, _, body = content.partition(b"\n")
        head = _head(line, partition)
        try:
            if head is None or head.sequence > until.sequence or not _in_log(log, partition, head):
                return None
            state = AccountState.from_bytes(body, identity, steps, line)
            return (head, state) if all(step.digest in state.rings for step in required) else None
        except (ValueError, Corrupt):
            return None

    def head(self, partition: int) -> Head | None:
        """The head at which the partition's snapshot was taken; None if there is none that reads."""
        try:
            with self._path(partition).open("rb") as file:
                return _head(file.readline(HEADER_MAX), partition)
        except OSError:
            return None


def _head(line: bytes, partition: int) -> Head | None:
    try:
        header = msgspec.json.decode(line, type=_Header)
        head = Head(
            sequence=header.sequence,
            transactions=Position.parse(header.transactions),
            feedback=Position.parse(header.feedback),
            control=header.control,
            digest=header.digest,
        )
    except (ValueError, *UNDECODABLE):
        return None
    return head if header.partition == partition and header.sequence > 0 else None


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
