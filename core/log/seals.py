"""Seals: the digest chains over a partition's batches and over the control stream (I8). Pure functions.

digest(n) = SHA-256(digest(n-1) ‖ root of the batch's entries ‖ header), where header is the seal's own JSON with an
empty digest, and the root is that of `core.log.batch_tree`. A flipped bit in an entry or header, a changed order, a
removed entry or a removed batch therefore changes every later digest. The first seal names the log and the partition,
so every digest depends on both.

control(k) = SHA-256(control(k-1) ‖ k, length, payload) over the control stream. A partition's first seal under a new
control position names it, so whatever a seal was decided under can't be changed either, nor be removed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from operator import lt

from core.codec import decode_seal, encode
from core.errors import BadInput
from core.events import START, Position, Seal
from core.log import batch_tree
from core.log.base import GENESIS_DIGEST, Batch, Entry, Head, Sealed, Stream

Read = Callable[..., list[Entry]]
"""EventLog.read."""
ID_PART_MAX = 2**64 - 1
"""Both parts of a stream entry's ID are unsigned 64-bit integers."""


def check(batch: Batch, head: Head) -> None:
    """Raise BadInput unless the batch may follow `head`: ascending IDs, paired scores, ends not before contents.

    Neither MULTI nor a script rolls back, so this must run before the first byte is sent.
    """
    transactions = _ascending("transactions", batch.transactions, head.transactions, batch.transactions_end)
    _ascending("feedback", batch.feedback, head.feedback, batch.feedback_end)
    if [score[0] for score in batch.scores] != transactions:
        raise BadInput("every transaction needs a score with the same ID", reason="bad_batch")
    alerts = _ascending("alerts", batch.alerts, head.transactions, batch.transactions_end)
    if alerts and not set(transactions).issuperset(alerts):
        raise BadInput("an alert needs a transaction with the same ID", reason="bad_batch")
    for index, entry in enumerate(batch.rejects):
        if entry.id != Position(head.sequence + 1, index + 1):
            raise BadInput(f"reject {index} must have the ID {head.sequence + 1}-{index + 1}", reason="bad_batch")
    if batch.control < head.control:
        raise BadInput("the control position goes backwards", reason="bad_batch")
    if batch.begins and head.sequence:
        raise BadInput("only a partition's first batch names the log and the partition", reason="bad_batch")
    if batch.control > head.control and len(batch.control_digest) != len(GENESIS_DIGEST):
        raise BadInput("a batch under a new control position needs the control stream's digest", reason="bad_batch")


def _ascending(name: str, entries: Sequence[Entry], after: Position, end: Position) -> list[Position]:
    """The entries' IDs."""
    if end < after:
        raise BadInput(f"{name} end {end} is before the log's {after}", reason="bad_batch")
    if not entries:
        return []
    ids = [entry[0] for entry in entries]
    if ids[0] <= after or ids[-1] > end or (len(ids) > 1 and not all(map(lt, ids, ids[1:]))):
        raise BadInput(f"{name} IDs must ascend strictly within ({after}, {end}]", reason="bad_batch")
    if ids[0][0] == ids[-1][0]:
        lowest, highest = ids[0][1], ids[-1][1]  # of one generation, so they ascend
    else:
        offsets = [offset for _, offset in ids]
        lowest, highest = min(offsets), max(offsets)
    if ids[-1][0] > ID_PART_MAX or lowest < 0 or highest > ID_PART_MAX:
        bad = next(each for each in ids if not (each[0] <= ID_PART_MAX and 0 <= each[1] <= ID_PART_MAX))
        raise BadInput(f"{bad} is not a valid entry ID: its parts are unsigned 64-bit integers", reason="bad_batch")
    return ids


def sealed(batch: Batch, expected: Head) -> Sealed:
    """The batch with the seal that it gets after `expected`. Raises BadInput if it may not follow."""
    check(batch, expected)
    paid = id_texts(batch.transactions)
    ids = (
        paid,
        paid,
        id_texts(batch.alerts) if batch.alerts else (),
        id_texts(batch.feedback) if batch.feedback else (),
        id_texts(batch.rejects) if batch.rejects else (),
    )
    head, payload = seal(batch, expected, ids)
    return Sealed(batch, expected, head, payload, ids)


def id_texts(entries: Sequence[Entry]) -> list[bytes]:
    """The entries' IDs as the server writes them, `b"1-533"`."""
    return [b"%d-%d" % entry[0] for entry in entries]


def seal(batch: Batch, head: Head, ids: Sequence[Sequence[bytes]] | None = None) -> tuple[Head, bytes]:
    """The head after `batch`, and the seal entry's payload. Cost: that of `core.log.batch_tree`.

    ids: `id_texts` of each of `contents(batch)`, if the caller has them.
    """
    published = max(batch.published, head.published)
    counts = len(batch.transactions), len(batch.alerts), len(batch.feedback), len(batch.rejects)
    named = b'"control_digest":"%b",' % batch.control_digest.encode() if batch.control > head.control else b""
    if batch.begins:
        named += b'"begins":"%b",' % batch.begins.encode()
    values = (
        *batch.transactions_end,
        *batch.feedback_end,
        batch.control,
        named,
        *counts,
        batch.recorded_at,
        *published,
    )
    header = _HEADER % values
    parts = ids or [id_texts(entries) for _, entries in contents(batch)]
    digest = _digest(head.digest, b'%b"}' % header, batch, parts)
    after = Head(head.sequence + 1, batch.transactions_end, batch.feedback_end, batch.control, published, digest)
    return after, b'%b%b"}' % (header, digest.encode())


_HEADER = (
    b'{"type":"seal.v1","transactions":"%d-%d","feedback":"%d-%d","control":%d,%b"counts":[%d,%d,%d,%d],'
    b'"recorded_at":%d,"published":"%d-%d","digest":"'
)
"""`encode(Seal(...))` up to the digest, without building the event: every partition of every append has one."""


def control_digest(previous: str, position: int, payload: bytes) -> str:
    """The control stream's digest (64 hex digits) after the event at `position`; `GENESIS_DIGEST` before the first."""
    return hashlib.sha256(bytes.fromhex(previous) + b"%d %d " % (position, len(payload)) + payload).hexdigest()


def contents(batch: Batch) -> tuple[tuple[bytes, Sequence[Entry]], ...]:
    """The streams' names and entries in the order of the digest, without the seals."""
    return (
        (b"transactions", batch.transactions),
        (b"scores", batch.scores),
        (b"alerts", batch.alerts),
        (b"feedback", batch.feedback),
        (b"rejects", batch.rejects),
    )


def chain(previous: str, header: Seal, batch: Batch) -> str:
    """The digest (64 hex digits) that follows `previous`; `header.digest` must be ""."""
    return _digest(previous, encode(header), batch, [id_texts(entries) for _, entries in contents(batch)])


def _digest(previous: str, header: bytes, batch: Batch, ids: Sequence[Sequence[bytes]]) -> str:
    root = batch_tree.root(batch_tree.leaves(batch, ids))
    return hashlib.sha256(b"".join((bytes.fromhex(previous), root, header))).hexdigest()


def begins(log_id: str, partition: int) -> str:
    """What a partition's first seal says of where it belongs."""
    return f"{log_id}/{partition}"


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


def count_of(seal: Seal, stream: Stream) -> int:
    """How many entries of the stream the seal's batch has."""
    transactions, alerts, feedback, rejects = seal.counts
    counts: dict[Stream, int] = {
        "transactions": transactions,
        "scores": transactions,
        "alerts": alerts,
        "feedback": feedback,
        "rejects": rejects,
        "seals": 1,
    }
    return counts[stream]


def beginning(read: Read, partition: int, stream: Stream) -> Position:
    """Where a stream begins in a log that may have been trimmed: see EventLog.begin. Two reads of one entry.

    A log is trimmed up to a seal, and this seal stays. So the first seal tells what was removed; only if it is seal 1,
    its own entries have to be looked for.
    """
    first = read(partition, "seals", START, 1)
    if not first:
        return START
    head = head_from_entry(first[0])
    last = covered(head)[stream]
    if head.sequence > 1:
        return last
    if stream == "seals" or not count_of(decode_seal(first[0].payload), stream):
        return START
    return START if read(partition, stream, START, 1, last) else last


def covered(head: Head) -> dict[Stream, Position]:
    """For each stream, the last ID that the seals up to `head` cover; for the seals, the one before `head`'s own."""
    return {
        "transactions": head.transactions,
        "scores": head.transactions,
        "alerts": head.transactions,
        "feedback": head.feedback,
        "rejects": Position(head.sequence, ID_PART_MAX),
        "seals": Position(max(head.sequence - 1, 0), ID_PART_MAX),
    }


def head_from_entry(entry: Entry) -> Head:
    """The head that an entry of the seals represents. Raises Corrupt if it does not decode."""
    return head_of(entry.id.generation, decode_seal(entry.payload))
