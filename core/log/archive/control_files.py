"""The control stream in the archive, so that a log can be restored from it (`core.log.archive.restoring`).

    control/000000000001.events     the events from 1 on, up to EVENTS of them; the next file begins with event 1,001

A file's first line is a `_Head`; the events follow byte for byte, each with a line feed. The newest file is replaced by
a longer one, atomically, until it is full; what it held is never changed, because it must be what the log holds.

The archive holds the stream as it was when its segments end: up to the first event that names a seal which is not
archived, so that what is restored is a state that the log was in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import NamedTuple

import msgspec

from core.codec import decode_control
from core.errors import UNDECODABLE, Corrupt, Incomplete
from core.events import Control
from core.log.archive import blobs
from core.log.archive.archive import Archive
from core.log.archive.archived import ArchivedLog
from core.log.archive.control_chain import evidence_in
from core.log.archive.manifest import CONTROL
from core.log.base import GENESIS_DIGEST, EventLog
from core.log.seals import control_digest

EVENTS = 1_000
"""Events of a full file."""
_NAME = re.compile(r"[0-9]{12}\.events")


class _Head(msgspec.Struct, frozen=True):
    """first: the sequence of the first event; previous, digest: of the control stream before and after the events."""

    first: int
    previous: str
    digest: str
    lengths: tuple[int, ...]


_heads = msgspec.json.Decoder(_Head, strict=True)


class Run(NamedTuple):
    """Consecutive events of the stream, with its digest after them. first: the sequence of the first one."""

    first: int = 1
    previous: str = GENESIS_DIGEST
    digest: str = GENESIS_DIGEST
    payloads: tuple[bytes, ...] = ()

    @property
    def end(self) -> int:
        """The sequence of the last event."""
        return self.first + len(self.payloads) - 1

    def with_more(self, payloads: Sequence[bytes]) -> Run:
        """The run with these events after its own."""
        digest = self.digest
        for number, payload in enumerate(payloads, self.end + 1):
            digest = control_digest(digest, number, payload)
        return Run(self.first, self.previous, digest, (*self.payloads, *payloads))


def newest(archive: Archive) -> Run:
    """The events of the newest file; `Run()` if there is none. Raises Corrupt."""
    names = _names(archive)
    return _read(archive, names[-1]) if names else Run()


def everything(archive: Archive) -> Run:
    """All events that the archive holds, from the first on. Raises Corrupt if one is missing or changed."""
    whole = Run()
    for name in _names(archive):
        part = _read(archive, name)
        if (part.first, part.previous) != (whole.end + 1, whole.digest):
            raise Corrupt(f"{name} does not continue the events before it, which end at {whole.end}")
        whole = Run(1, GENESIS_DIGEST, part.digest, (*whole.payloads, *part.payloads))
    return whole


def cover(hot: EventLog, archive: Archive, position: int) -> int:
    """Copy the events up to a position, unless the archive has them, and before them the blobs that they name: what is
    archived can be restored, wherever an archiver ends. Returns how many were copied.

    Raises Incomplete if the log ends before it, or before what the archive holds; Corrupt if it holds other events.
    """
    held = newest(archive)
    end = hot.control_head()
    if end < max(held.end, position):
        raise Incomplete(
            f"the control stream ends at {end}, but event {max(held.end, position)} was there: the log lost events, or"
            f" the archive {archive.store} belongs to another log. Nothing is archived; restore the log"
        )
    log = _events(hot, held.first - 1, max(position, held.end))
    if tuple(log[: len(held.payloads)]) != held.payloads:
        raise Corrupt(f"the control stream differs from what the archive {archive.store} holds of it")
    fresh = log[len(held.payloads) :]
    copied = len(fresh)
    blobs.copy_of(ArchivedLog(hot, archive), _readable(fresh))
    while fresh:
        if len(held.payloads) >= EVENTS:
            held = Run(held.end + 1, held.digest, held.digest)
        room = EVENTS - len(held.payloads)
        held = held.with_more(fresh[:room])
        archive.store.write(name_of(held.first), _encode(held))
        fresh = fresh[room:]
    return copied


def consistent_end(hot: EventLog, ends: Mapping[int, int], after: int) -> int:
    """The last position of the control stream before an event that names a seal which the archive lacks.

    ends: each partition's last archived seal; after: the position from which on to look.
    """
    position = after
    while page := hot.read_control(position):
        for number, payload in page:
            named = evidence_in(number, decode_control(payload))
            if any(found.sequence > ends.get(partition, 0) for partition, _, found in named):
                return position
            position = number
    return position


def fault(hot: EventLog, archive: Archive) -> str:
    """What is wrong with the archive's copy of the control stream, as `sentinel verify` tells it; or ""."""
    try:
        held = everything(archive)
    except Corrupt as error:
        return str(error)
    if tuple(_events(hot, 0, held.end)) != held.payloads:
        return f"the {held.end:,} control events that the archive holds are not those of the log"
    return ""


def name_of(first: int) -> str:
    """The name of the file that begins with an event."""
    return f"{CONTROL}/{first:012d}.events"


def _readable(payloads: Sequence[bytes]) -> Iterator[Control]:
    """The events, without what is none: `sentinel verify` tells that."""
    for payload in payloads:
        with suppress(Corrupt):
            yield decode_control(payload)


def _names(archive: Archive) -> list[str]:
    return [f"{CONTROL}/{name}" for name in archive.store.names(CONTROL) if _NAME.fullmatch(name)]


def _events(hot: EventLog, after: int, until: int) -> list[bytes]:
    found: list[bytes] = []
    while after < until and (page := hot.read_control(after, min(until - after, EVENTS))):
        found += [payload for _, payload in page]
        after = page[-1][0]
    return found


def _encode(run: Run) -> bytes:
    head = _Head(run.first, run.previous, run.digest, tuple(map(len, run.payloads)))
    return msgspec.json.encode(head) + b"\n" + b"".join(payload + b"\n" for payload in run.payloads)


def _read(archive: Archive, name: str) -> Run:
    content = archive.store.read(name)
    if content is None:
        raise Corrupt(f"{name} is missing")
    line, _, body = content.partition(b"\n")
    try:
        head = _heads.decode(line)
    except UNDECODABLE as error:
        raise Corrupt(f"{name} does not decode: {error}") from None
    ends = list(accumulate(length + 1 for length in head.lengths))
    payloads = [body[end - length - 1 : end - 1] for end, length in zip(ends, head.lengths, strict=True)]
    run = Run(head.first, head.previous, head.previous).with_more(payloads)
    if name != name_of(head.first) or _encode(run) != content or run.digest != head.digest:
        raise Corrupt(f"{name} is not what was archived: its digest does not match")
    return run
