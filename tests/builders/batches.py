"""Batches for tests of the event log, and a check of a whole partition against its seals."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from contextlib import suppress

import msgspec

from core.codec import decode_seal
from core.errors import BadInput
from core.events import START, Position
from core.log import seals
from core.log.base import STREAMS, Batch, Entry, EventLog, Head, Stream

NASTY = b'{"text":"\x00\r\n$5\r\n\xff"}'


def batch_after(
    head: Head,
    transactions: int = 3,
    alerts: int = 1,
    feedback: int = 2,
    rejects: int = 1,
    tag: str = "a",
    step: int = 1,
) -> Batch:
    """A valid batch after `head`; IDs are `step` apart, every payload names the tag and is unlike any other. Scores
    name the batch's f and c, as a replay requires.
    """

    def ids(last: Position, count: int) -> list[Position]:
        return [Position(max(last.generation, 1), last.offset + step * (n + 1)) for n in range(count)]

    def entries(stream: str, positions: list[Position]) -> list[Entry]:
        return [Entry(position, f'{{"{stream}":"{tag} {position}"}}'.encode() + NASTY) for position in positions]

    def score(position: Position) -> bytes:
        under = f'"f":"{head.feedback}","c":{head.control},"engine":1,"program":"","decision":"approve"'
        return f'{{"type":"score.v1",{under},"scores":"{tag} {position}"}}'.encode()

    taken, said = ids(head.transactions, transactions), ids(head.feedback, feedback)
    return Batch(
        control=head.control,
        recorded_at=1_600_000_000_000 + head.sequence,
        transactions_end=taken[-1] if taken else head.transactions,
        feedback_end=said[-1] if said else head.feedback,
        published=head.transactions,
        transactions=entries("transactions", taken),
        scores=[Entry(position, score(position)) for position in taken],
        alerts=entries("alerts", taken[:alerts]),
        feedback=entries("feedback", said),
        rejects=entries("rejects", [Position(head.sequence + 1, n + 1) for n in range(rejects)]),
    )


def contents(log: EventLog, partition: int) -> dict[Stream, list[Entry]]:
    """All that the log holds of a partition."""
    return {stream: log.read(partition, stream, count=1_000_000) for stream in STREAMS}


def batches_of(held: dict[Stream, list[Entry]]) -> list[tuple[Batch, str]]:
    """The stored batches, each with the digest that its seal claims, as the seals' positions cut the streams."""
    result = []
    transactions_from, feedback_from = START, START
    for entry in held["seals"]:
        sealed = decode_seal(entry.payload)
        transactions_to, feedback_to = Position.parse(sealed.transactions), Position.parse(sealed.feedback)
        batch = Batch(
            control=sealed.control,
            recorded_at=sealed.recorded_at,
            transactions_end=transactions_to,
            feedback_end=feedback_to,
            published=Position.parse(sealed.published),
            control_digest=sealed.control_digest,
            begins=sealed.begins,
            transactions=_between(held["transactions"], transactions_from, transactions_to),
            scores=_between(held["scores"], transactions_from, transactions_to),
            alerts=_between(held["alerts"], transactions_from, transactions_to),
            feedback=_between(held["feedback"], feedback_from, feedback_to),
            rejects=_between(held["rejects"], Position(entry.id.generation, 0), Position(entry.id.generation + 1, 0)),
        )
        result.append((batch, sealed.digest))
        transactions_from, feedback_from = transactions_to, feedback_to
    return result


def _between(entries: list[Entry], after: Position, until: Position) -> list[Entry]:
    def place(position: Position) -> int:
        return bisect_right(entries, position, key=lambda entry: entry.id)

    return entries[place(after) : place(until)]


def copy_partition(source: EventLog, partition: int, target: EventLog, into: int) -> None:
    """Append what `source` holds of a partition, batch by batch, to the empty partition `into` of `target`."""
    head = Head()
    for batch, digest in batches_of(contents(source, partition)):
        head = target.append(into, batch, head)
        assert head.digest == digest


def copy_log(source: EventLog, partitions: Iterable[int], target: EventLog) -> None:
    """Write a whole log into an empty one: control events, the blobs that they name, every partition's batches."""
    payloads = [payload for _, payload in source.read_control(count=1_000_000)]
    target.append_control(payloads, 0)
    for digest in set(re.findall(rb'"digest":"([0-9a-f]{64})"', b"".join(payloads))):
        with suppress(BadInput):  # an event may name a blob that was never stored
            target.put_blob(source.get_blob(digest.decode()))
    for partition in partitions:
        copy_partition(source, partition, target, partition)


def verify(held: dict[Stream, list[Entry]]) -> Head:
    """Recompute the chain from stored bytes. Raises AssertionError where it breaks; returns the last head."""
    head = Head()
    covered = dict.fromkeys(STREAMS, 0)
    for (batch, claimed), entry in zip(batches_of(held), held["seals"], strict=True):
        sealed = decode_seal(entry.payload)
        assert entry.id == Position(head.sequence + 1, 1), f"seal {entry.id} follows {head.sequence}"
        counts = (len(batch.transactions), len(batch.alerts), len(batch.feedback), len(batch.rejects))
        assert counts == sealed.counts and len(batch.scores) == counts[0], f"seal {entry.id} counts {sealed.counts}"
        header = msgspec.structs.replace(sealed, digest="")
        assert seals.chain(head.digest, header, batch) == claimed, f"seal {entry.id} does not match its batch"
        head = seals.head_from_entry(entry)
        covered["seals"] += 1
        for stream in STREAMS[:-1]:
            covered[stream] += len(getattr(batch, stream))
    assert covered == {stream: len(entries) for stream, entries in held.items()}, "entries that no seal covers"
    return head


def filled(log: EventLog, batches: int = 3) -> Head:
    """Append so many batches to partition 0; its head."""
    head = log.head(0)
    for _ in range(batches):
        head = log.append(0, batch_after(head), head)
    return head
