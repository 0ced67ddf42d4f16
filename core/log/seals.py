"""Seals: the digest chain over a partition's batches (I8). Pure functions.

digest(n) = SHA-256(digest(n-1) ‖ header ‖ for each stream: name, count, then per entry ID, length, payload), where
header is the seal's own JSON with an empty digest. So one flipped bit in an entry, a header or the order, a removed
entry or a removed batch changes every later digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from core.codec import decode_seal, encode
from core.errors import BadInput
from core.events import Position, Seal
from core.log.base import Batch, Entry, Head, Stream

ID_PART_MAX = 2**64 - 1
"""Both parts of a stream entry's ID are unsigned 64-bit integers."""


def check(batch: Batch, head: Head) -> None:
    """Raise BadInput unless the batch may follow `head`: ascending IDs, paired scores, ends not before contents.

    Neither MULTI nor a script rolls back, so this runs before the first byte is sent.
    """
    _ascending("transactions", batch.transactions, head.transactions, batch.transactions_end)
    _ascending("feedback", batch.feedback, head.feedback, batch.feedback_end)
    if len(batch.scores) != len(batch.transactions) or any(
        t[0] != s[0] for t, s in zip(batch.transactions, batch.scores, strict=True)
    ):
        raise BadInput("every transaction needs a score with the same ID", reason="bad_batch")
    _ascending("alerts", batch.alerts, head.transactions, batch.transactions_end)
    if batch.alerts:
        known = {t[0] for t in batch.transactions}
        if any(a[0] not in known for a in batch.alerts):
            raise BadInput("an alert needs a transaction with the same ID", reason="bad_batch")
    for index, entry in enumerate(batch.rejects):
        if entry.id != Position(head.sequence + 1, index + 1):
            raise BadInput(f"reject {index} must have the ID {head.sequence + 1}-{index + 1}", reason="bad_batch")
    if batch.control < head.control:
        raise BadInput("the control position goes backwards", reason="bad_batch")


def _ascending(name: str, entries: Sequence[Entry], after: Position, end: Position) -> None:
    if end < after:
        raise BadInput(f"{name} end {end} lies before the log's {after}", reason="bad_batch")
    if not entries:
        return
    if entries[0].id <= after or entries[-1].id > end or any(a[0] >= b[0] for a, b in pairwise(entries)):
        raise BadInput(f"{name} IDs must ascend strictly within ({after}, {end}]", reason="bad_batch")


def seal(batch: Batch, head: Head) -> tuple[Head, bytes]:
    """The head after `batch`, and the seal entry's payload. Cost: one SHA-256 pass over the batch's bytes."""
    header = Seal(
        transactions=str(batch.transactions_end),
        feedback=str(batch.feedback_end),
        control=batch.control,
        counts=(len(batch.transactions), len(batch.alerts), len(batch.feedback), len(batch.rejects)),
        recorded_at=batch.recorded_at,
        published=str(max(batch.published, head.published)),
        digest="",
    )
    digest = chain(head.digest, header, batch)
    sealed = msgspec.structs.replace(header, digest=digest)
    return head_of(head.sequence + 1, sealed), encode(sealed)


def chain(previous: str, header: Seal, batch: Batch) -> str:
    """The digest (64 hex digits) that follows `previous`; `header.digest` must be ""."""
    parts: list[bytes] = [bytes.fromhex(previous), encode(header)]
    for name, entries in (
        ("transactions", batch.transactions),
        ("scores", batch.scores),
        ("alerts", batch.alerts),
        ("feedback", batch.feedback),
        ("rejects", batch.rejects),
    ):
        parts.append(b"\n%s %d\n" % (name.encode(), len(entries)))
        for (generation, offset), payload in entries:
            parts.append(b"%d-%d %d " % (generation, offset, len(payload)))
            parts.append(payload)
    return hashlib.sha256(b"".join(parts)).hexdigest()


def head_of(sequence: int, sealed: Seal) -> Head:
    """A decoded seal as a head."""
    return Head(
        sequence=sequence,
        transactions=Position.parse(sealed.transactions),
        feedback=Position.parse(sealed.feedback),
        control=sealed.control,
        published=Position.parse(sealed.published),
        digest=sealed.digest,
    )


def covered(head: Head) -> dict[Stream, Position]:
    """For each stream the last ID that the seals up to `head` cover; of the seals, the one before `head`'s own."""
    return {
        "transactions": head.transactions,
        "scores": head.transactions,
        "alerts": head.transactions,
        "feedback": head.feedback,
        "rejects": Position(head.sequence, ID_PART_MAX),
        "seals": Position(max(head.sequence - 1, 0), ID_PART_MAX),
    }


def head_from_entry(entry: Entry) -> Head:
    """The head that a seals-stream entry stands for. Raises Corrupt if it does not decode."""
    return head_of(entry.id.generation, decode_seal(entry.payload))
