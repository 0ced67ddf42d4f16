"""Splits a partition's streams into the batches of its seals, and checks them against the seals (I8). Only reads.

Works on anything that can be read like a log: the hot log, one segment, or both combined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from core.codec import decode_seal, encode
from core.errors import Corrupt, Incomplete
from core.events import Position
from core.log import seals
from core.log.base import STREAMS, Batch, Entry, EventLog, Head, Stream
from core.log.covering import Span, follows

Read = Callable[[Stream, Position, int, Position | None], list[Entry]]
"""(stream, after, count, until) → entries, as EventLog.read for one partition."""

PAGE = 2000


class Sealed(NamedTuple):
    """One batch as stored, its seal's entry, the head it makes, the time of its append (epoch ms), and what its seal
    says of its decisions.
    """

    batch: Batch
    entry: Entry
    head: Head
    recorded_at: int
    span: Span


def check_joined(hot: EventLog, partition: int, end: Head) -> None:
    """Raise Incomplete unless the hot log holds `end`, the archive's last seal: both belong together, and nothing
    between them is lost.
    """
    if end.sequence == 0:
        return
    at = Position(end.sequence, 1)
    payload = hot.get(partition, "seals", at)
    if payload is not None and seals.head_from_entry(Entry(at, payload)) == end:
        return
    where = f"partition {partition}: the archive ends with seal {end.sequence}"
    if payload is not None:
        raise Incomplete(f"{where}, which differs in the log: the archive belongs to another log")
    first = hot.read(partition, "seals", count=1)
    if first and first[0].id.generation > end.sequence:
        raise Incomplete(
            f"{where}, but the log begins with seal {first[0].id.generation}: the seals between them are missing."
            " Restore the newest copy of the archive, or set `archive` (SENTINEL_ARCHIVE) to its location"
        )
    raise Incomplete(f"{where}, which is not in the log: the log lost its tail, or the archive belongs to another log")


def batches(read: Read, after: Head, until: int) -> Iterator[Sealed]:
    """The batches after `after` up to seal `until`, each checked: sequence, counts, digest, no position backwards.

    Raises Corrupt, naming the seal, at the first that does not follow, and if the seals end before `until`.
    """
    streams = {stream: _Ahead(read, stream, last) for stream, last in seals.covered(after).items()}
    streams["seals"] = _Ahead(read, "seals", Position(after.sequence, seals.ID_PART_MAX))
    head = after
    while head.sequence < until:
        entry = streams["seals"].one()
        if entry is None:
            raise Corrupt(f"seal {head.sequence + 1} and everything it covers are missing: the seals end before it")
        if entry.id != Position(head.sequence + 1, 1):
            raise Corrupt(f"seal {head.sequence + 1} is missing: {entry.id} follows {head.sequence}")
        sealed = _checked(streams, entry, head)
        head = sealed.head
        yield sealed


def _checked(streams: dict[Stream, _Ahead], entry: Entry, previous: Head) -> Sealed:
    name = f"seal {entry.id.generation}"
    try:
        found = decode_seal(entry.payload)
        head = seals.head_of(entry.id.generation, found)
    except (Corrupt, ValueError) as error:
        raise Corrupt(f"{name} does not decode: {error}") from None
    if encode(found) != entry.payload:
        raise Corrupt(f"{name} was changed: its JSON is not what the log writes")
    last = seals.covered(head)
    taken = {stream: streams[stream].take(last[stream]) for stream in STREAMS if stream != "seals"}
    batch = Batch(
        control=head.control,
        recorded_at=found.recorded_at,
        transactions_end=head.transactions,
        feedback_end=head.feedback,
        published=head.published,
        control_digest=found.control_digest,
        begins=found.begins,
        transactions=taken["transactions"],
        scores=taken["scores"],
        alerts=taken["alerts"],
        feedback=taken["feedback"],
        rejects=taken["rejects"],
    )
    transactions, alerts, feedback, rejects = found.counts
    counts = (transactions, transactions, alerts, feedback, rejects)
    for (stream, entries), count in zip(taken.items(), counts, strict=True):
        if len(entries) != count:
            between = f"{entries[0].id} … {entries[-1].id}" if entries else "none"
            raise Corrupt(f"{name} counts {count} {stream}, but the log holds {len(entries)} ({between})")
    header = msgspec.structs.replace(found, digest="")
    if seals.chain(previous.digest, header, batch) != found.digest:
        raise Corrupt(
            f"{name} does not match: an entry of its batch, the seal or its order was changed"
            f" (transactions after {previous.transactions} up to {head.transactions},"
            f" feedback after {previous.feedback} up to {head.feedback}, rejects {head.sequence}-*)"
        )
    if wrong := follows(previous, head):
        raise Corrupt(wrong)
    if bool(found.control_digest) != (head.control > previous.control):
        state = "no" if head.control > previous.control else "a"
        raise Corrupt(f"{name} has {state} control digest: control position {previous.control}, then {head.control}")
    if found.begins and previous.sequence:
        raise Corrupt(f"{name} says that partition {found.begins} begins with it")
    span = Span.of(previous, head, found.recorded_at)
    return Sealed(batch, entry, head, found.recorded_at, span)


class _Ahead:
    """One stream, read in pages and taken up to a position."""

    def __init__(self, read: Read, stream: Stream, after: Position) -> None:
        self._read, self._stream, self._after = read, stream, after
        self._page: list[Entry] = []
        self._at = 0

    def take(self, until: Position) -> list[Entry]:
        taken: list[Entry] = []
        while self._filled() and self._page[self._at].id <= until:
            taken.append(self._page[self._at])
            self._at += 1
        return taken

    def one(self) -> Entry | None:
        if not self._filled():
            return None
        self._at += 1
        return self._page[self._at - 1]

    def _filled(self) -> bool:
        if self._at < len(self._page):
            return True
        self._page, self._at = self._read(self._stream, self._after, PAGE, None), 0
        if self._page:
            self._after = self._page[-1].id
        return bool(self._page)
