"""The event log's protocol, and the records that cross it.

The log of one partition is six streams (`STREAMS`) that only the partition's owner appends to, a batch at a time:

    transactions  scores  alerts     ID = <generation>-<Kafka offset + 1> of the transaction
    feedback                         ID = the same of the feedback topic
    rejects                          ID = <seal sequence>-<index + 1>
    seals                            ID = <sequence>-1, sequence = 1, 2, 3 … one per batch

and one control stream for the whole log, ID = <sequence>-1. A batch is appended whole or not at all, and only if the
partition's last seal is the expected one (I1). The seal is therefore the partition's head: the source positions that
are consumed, the control position seen, and the digest over everything before it (I8).

States of an append as its caller sees them:
    returned           the batch is durable to the degree that the server's settings promise
    ConcurrencyError   another writer came first; nothing was written; the caller's state is stale
    Unavailable        unknown outcome was resolved by reading the head back and could not be; the caller must
                       read `head()` before it goes on. Implementations must not retry a write blindly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from core.events import START, Position

Stream = Literal["transactions", "scores", "alerts", "feedback", "rejects", "seals"]
STREAMS: tuple[Stream, ...] = ("transactions", "scores", "alerts", "feedback", "rejects", "seals")

GENESIS_DIGEST = "0" * 64


class Entry(NamedTuple):
    """One entry of a stream: its ID and its event as JSON bytes."""

    id: Position
    payload: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """Where a partition's log ends. `sequence` 0 is the empty log."""

    sequence: int = 0
    transactions: Position = START
    feedback: Position = START
    control: int = 0
    published: Position = START
    digest: str = GENESIS_DIGEST


@dataclass(slots=True)
class Batch:
    """What one append adds to a partition. IDs ascend strictly in every list; scores pair with transactions 1:1.

    `transactions_end`/`feedback_end` are the last source positions consumed (rejected messages included); they
    never lie before the last ID of the list they belong to.
    """

    control: int
    recorded_at: int
    transactions_end: Position
    feedback_end: Position
    published: Position = START
    transactions: list[Entry] = field(default_factory=list)
    scores: list[Entry] = field(default_factory=list)
    alerts: list[Entry] = field(default_factory=list)
    feedback: list[Entry] = field(default_factory=list)
    rejects: list[Entry] = field(default_factory=list)


class PendingAppend(Protocol):
    """An append that was sent and whose outcome is not known yet."""

    def results(self) -> list[Head | Exception]:
        """Wait for it: for each batch the new head or the error, as `append_many`."""


class EventLog(Protocol):
    """See the module's head. Every method raises Unavailable if the server can't be reached."""

    def head(self, partition: int) -> Head:
        """The partition's last seal, decoded; `Head()` if nothing was ever appended."""

    def append(self, partition: int, batch: Batch, expected: Head) -> Head:
        """Append `batch` with a new seal (`core.log.seals.seal`) if the head is still `expected`. Returns the new head.

        Raises ConcurrencyError if not (nothing written), BadInput if the batch breaks its own rules (nothing
        written). A lost reply is resolved by reading the head back: ours → success, `expected` → sent again once.
        """

    def append_many(self, batches: Sequence[tuple[int, Batch, Head]]) -> list[Head | Exception]:
        """`append` for several partitions in one round trip per server; each result is a Head or the error."""

    def start_append(self, batches: Sequence[tuple[int, Batch, Head]]) -> PendingAppend:
        """`append_many` in two halves: send now, and wait in `results`, which must be called once."""

    def read(
        self, partition: int, stream: Stream, after: Position = START, count: int = 1000, until: Position | None = None
    ) -> list[Entry]:
        """Up to `count` entries with after < ID ≤ until, ascending."""

    def get(self, partition: int, stream: Stream, entry_id: Position) -> bytes | None:
        """One entry's payload by its ID."""

    def length(self, partition: int, stream: Stream) -> int:
        """Entries held in the stream now."""

    def trim(self, partition: int, up_to: Head) -> int:
        """Remove every entry that the seals up to `up_to` cover, all at once, and the seals before it; how many.

        The seal of `up_to` itself stays, as the anchor of what is left; so the head is never removed, and no ID can
        be written again. Trimming again, or to an earlier head, removes nothing. Whoever calls this has the entries
        in the archive (I7). Raises ConcurrencyError if the log's seal of that sequence is another one or is yet to
        come; nothing is removed then.
        """

    def control_head(self) -> int:
        """The control stream's last sequence; 0 if empty."""

    def append_control(self, payloads: Sequence[bytes], expected: int) -> int:
        """Append control events if the stream's last sequence is `expected` (else ConcurrencyError). New sequence."""

    def read_control(self, after: int = 0, count: int = 1000) -> list[tuple[int, bytes]]:
        """Up to `count` (sequence, payload) with sequence > after, ascending."""

    def put_blob(self, content: bytes) -> str:
        """Store an immutable blob (a model, a reference table) under its SHA-256 (hex), which is returned."""

    def get_blob(self, digest: str) -> bytes:
        """The blob. Raises Corrupt if its SHA-256 is not `digest` (I10), BadInput if there is none."""

    def close(self) -> None:
        """Give connections back. The log is unusable afterwards."""
