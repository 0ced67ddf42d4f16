"""The event log's protocol, and the records that it exchanges.

The log of one partition is six streams (`STREAMS`) that only the partition's owner appends to, a batch at a time:

    transactions  scores  alerts     ID = <generation>-<Kafka offset + 1> of the transaction
    feedback                         ID = the same of the feedback topic
    rejects                          ID = <seal sequence>-<index + 1>
    seals                            ID = <sequence>-1, sequence = 1, 2, 3 … one per batch

and one control stream for the whole log, ID = <sequence>-1. A batch is appended completely or not at all, and only if
the partition's last seal is the expected one (I1). The seal is therefore the partition's head: the source positions
consumed, the control position seen, and the digest over everything before it (I8).

Outcomes of an append for its caller:
    returned           the batch is as durable as the server's settings promise
    ConcurrencyError   another writer came first; nothing was written; the caller's state is stale
    Unavailable        the outcome is unknown and could not be found out by reading the head back; the caller must
                       read `head()` before it continues. Implementations must not retry a write blindly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from core.errors import BadInput
from core.events import START, Position

Stream = Literal["transactions", "scores", "alerts", "feedback", "rejects", "seals"]
STREAMS: tuple[Stream, ...] = ("transactions", "scores", "alerts", "feedback", "rejects", "seals")

GENESIS_DIGEST = "0" * 64


class Entry(NamedTuple):
    """One entry of a stream: its ID and its event as JSON bytes."""

    id: Position
    payload: bytes


class Head(msgspec.Struct, frozen=True):
    """Where a partition's log ends. `sequence` 0 is the empty log."""

    sequence: int = 0
    transactions: Position = START
    feedback: Position = START
    control: int = 0
    published: Position = START
    digest: str = GENESIS_DIGEST


class Batch(msgspec.Struct):
    """What one append adds to a partition. IDs ascend strictly in every list; scores match transactions 1:1.

    `transactions_end` and `feedback_end` are the last source positions consumed, including rejected messages. They
    are never before the last ID of their list. control_digest: of the control stream up to `control`, which the seal
    names if `control` has advanced since the one before. begins: `core.log.seals.begins` in a partition's first batch.
    """

    control: int
    recorded_at: int
    transactions_end: Position
    feedback_end: Position
    published: Position = START
    control_digest: str = ""
    begins: str = ""
    transactions: list[Entry] = []
    scores: list[Entry] = []
    alerts: list[Entry] = []
    feedback: list[Entry] = []
    rejects: list[Entry] = []


class Sealed(NamedTuple):
    """A batch with its seal (`core.log.seals.sealed`): what an append adds if the head is `expected`.

    head: the head after the append. payload: the seal's JSON. ids: the entries' IDs as the server writes them, for each
    of STREAMS except the seals.
    """

    batch: Batch
    expected: Head
    head: Head
    payload: bytes
    ids: tuple[Sequence[bytes], ...]


class PendingAppend(Protocol):
    """An append that was sent and whose outcome is not known yet."""

    def results(self) -> list[Head | Exception]:
        """Wait for the outcome: for each batch the new head or the error, as `append_many`."""


def is_digest(text: str) -> bool:
    """Whether a text is a SHA-256 in lower-case hex."""
    return len(text) == 64 and all(character in "0123456789abcdef" for character in text)


def check_digest(digest: str) -> str:
    """The digest. Raises BadInput if it is none: it becomes part of a key or of a file's name."""
    if not is_digest(digest):
        raise BadInput(f"{digest!r} is not a SHA-256 in lower-case hex")
    return digest


class Signer(Protocol):
    """Who appends control events: a name on the roster (`core.roster`), and a private key that never leaves it."""

    @property
    def name(self) -> str:
        """The identity's name."""

    @property
    def key_id(self) -> str:
        """The ID of its public key."""

    def sign(self, message: bytes) -> bytes:
        """The message's Ed25519 signature (64 bytes)."""


class EventLog(Protocol):
    """See the module's docstring. Every method raises Unavailable if the server can't be reached."""

    @property
    def signer(self) -> Signer | None:
        """Who opened the log, and signs what is appended to the control stream (`core.control_stream`)."""

    def head(self, partition: int) -> Head:
        """The partition's last seal, decoded; `Head()` if nothing was ever appended."""

    def append(self, partition: int, batch: Batch, expected: Head) -> Head:
        """Append `batch` with a new seal (`core.log.seals.seal`) if the head is still `expected`. Returns the new head.

        Raises ConcurrencyError if it is not, BadInput if the batch is not valid; nothing is written in either case. A
        lost reply is resolved by reading the head back: ours → success, `expected` → sent again once.
        """

    def append_many(self, batches: Sequence[tuple[int, Batch, Head]]) -> list[Head | Exception]:
        """`append` for several partitions in one round trip per server; each result is a Head or the error."""

    def start_append(self, appends: Sequence[tuple[int, Sealed]]) -> PendingAppend:
        """`append_many` of sealed batches in two halves: send now, and wait in `results`, which must be called once."""

    def read(
        self, partition: int, stream: Stream, after: Position = START, count: int = 1000, until: Position | None = None
    ) -> list[Entry]:
        """Up to `count` entries with after < ID ≤ until, ascending."""

    def follow(
        self, after: Mapping[tuple[int, Stream], Position], wait_ms: int, count: int = 1000
    ) -> dict[tuple[int, Stream], list[Entry]]:
        """For each (partition, stream) of `after` that has any, up to `count` entries with greater IDs, ascending.

        Waits up to wait_ms (below 5,000) for the first; {} if none came. One batch's entries are seen together. Only
        for what may miss nothing but entries that were trimmed before they were read: a fold reads pages
        (`core.log.paging`).
        """

    def begin(self, partition: int, stream: Stream) -> Position:
        """The last ID before the first entry that the log holds of the stream; START if it holds all from the first
        on. `core.log.paging` proves with it that a read missed nothing. Raises Incomplete if the log can't tell.
        """

    def get(self, partition: int, stream: Stream, entry_id: Position) -> bytes | None:
        """One entry's payload by its ID."""

    def get_many(self, partition: int, stream: Stream, entry_ids: Sequence[Position]) -> list[bytes | None]:
        """`get` for several entries, in one round trip."""

    def length(self, partition: int, stream: Stream) -> int:
        """Entries held in the stream now."""

    def trim(self, partition: int, up_to: Head) -> int:
        """Atomically remove every entry that the seals up to `up_to` cover, and the seals before it. Returns how many.

        The seal of `up_to` itself stays as the anchor of what is left, so the head is never removed and no ID can be
        used again. Trimming again, or to an earlier head, removes nothing. The caller must have archived the entries
        (I7). Raises ConcurrencyError if the log's seal of that sequence is a different one or does not exist yet;
        nothing is removed then.
        """

    def continue_after(self, partition: int, seal: Entry) -> None:
        """Begin an empty partition after this seal, as if it had been trimmed up to it. Raises ConcurrencyError if it
        is not empty, unless it is at this very seal. The archive must hold what came before
        (`core.log.archive.restoring`).
        """

    def control_head(self) -> int:
        """The control stream's last sequence; 0 if empty."""

    def append_control(self, payloads: Sequence[bytes], expected: int) -> int:
        """Append control events if the stream's last sequence is `expected`, else raise ConcurrencyError. Returns the
        new last sequence.
        """

    def read_control(self, after: int = 0, count: int = 1000) -> list[tuple[int, bytes]]:
        """Up to `count` (sequence, payload) with sequence > after, ascending."""

    def put_blob(self, content: bytes) -> str:
        """Store an immutable blob (a model, a reference table). Returns its SHA-256 (hex), the key to it."""

    def get_blob(self, digest: str) -> bytes:
        """The blob. Raises Corrupt if its SHA-256 is not `digest` (I10), BadInput if the log has no such blob."""

    def held_blobs(self, digests: Sequence[str]) -> list[str]:
        """Those of the digests whose blobs the log server holds, in their order; the blobs are not read."""

    def remove_blob(self, digest: str) -> None:
        """Remove a blob, if it is there. The caller must have archived it (I7): `core.log.archive.blobs`."""

    def server_time(self) -> int | None:
        """The log server's clock, epoch ms; None if it has none, or if the user has no permission to ask."""

    def close(self) -> None:
        """Release connections. The log is unusable afterwards."""
