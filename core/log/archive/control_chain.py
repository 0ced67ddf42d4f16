"""Checks the control stream by itself, against checkpoints, and against the seals that name it (I8, I12, I16).

A partition's first seal under a control position contains the stream's digest up to there. So an event that was
changed, exchanged or removed shows as soon as any partition has decided after it; what came after the last such seal
only shows against a checkpoint.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from core.codec import decode_control
from core.control_stream import accepted
from core.errors import BadInput, Corrupt
from core.events import (
    CheckpointSigned,
    Control,
    LogCreated,
    LogTrimmed,
    SealsRecorded,
    SegmentArchived,
)
from core.log.anchored import Anchors, Expected
from core.log.archive.blobs import Named as Blob
from core.log.archive.blobs import named
from core.log.base import GENESIS_DIGEST, EventLog
from core.log.seals import control_digest
from core.program import document


class Point(msgspec.Struct, frozen=True):
    """A sequence and the digest there."""

    sequence: int
    digest: str


class Named(NamedTuple):
    """A control position with the digest that a seal names for it."""

    partition: int
    seal: int
    control: int
    digest: str


class Evidence(NamedTuple):
    """`who` has seen a partition's seal `sequence`, with this digest ("" if only the sequence is known)."""

    who: str
    sequence: int
    digest: str = ""


@dataclass(slots=True)
class ControlChain:
    """The control stream as read. digests: after each event, from `GENESIS_DIGEST` on; fault: the first, or "".

    evidence: by partition and kind, the furthest seal that an event names. Seals are chained, so it stands for those
    before it. log_id: that of the first LogCreated, "" if there is none. expected: the roots that it must have;
    states: by checkpoint, the hash of its state that an event names.
    """

    digests: list[str] = field(default_factory=lambda: [GENESIS_DIGEST])
    fault: str = ""
    evidence: dict[tuple[int, str], Evidence] = field(default_factory=dict)
    log_id: str = ""
    expected: Expected = field(default_factory=lambda: Expected("control events", ()))
    states: dict[int, bytes] = field(default_factory=dict)

    def evidence_of(self, partition: int) -> list[Evidence]:
        """What the control stream says about how far the partition's log has come."""
        return [found for (owner, _), found in self.evidence.items() if owner == partition]

    @property
    def end(self) -> Point:
        """The last event that was read in order."""
        return Point(len(self.digests) - 1, self.digests[-1])


class Unreadable(NamedTuple):
    """A blob that control event `number` names, or a library of the program that it names. is_absent: nowhere to be
    found, not damaged.
    """

    digest: str
    number: int
    why: str
    is_absent: bool


def check_control(log: EventLog, anchors: Anchors | None = None, without: Collection[str] = ()) -> ControlChain:
    """The control stream, checked: order, form, blobs, and against the checkpoints. without: blobs (SHA-256) that are
    known to be lost.
    """
    found = ControlChain(expected=(anchors or Anchors([])).control())
    found.fault = found.expected.begin()
    while not found.fault and (page := log.read_control(found.end.sequence)):
        for number, payload in page:
            if not found.fault:
                found.fault = _take(found, number, payload)
    if found.fault:
        return found
    if wrong := found.expected.end():
        found.fault = wrong
        return found
    for blob in unreadable(log):
        if blob.digest not in without:
            found.fault = f"control event {blob.number}: {blob.why}"
            break
    return found


def unreadable(log: EventLog) -> Iterator[Unreadable]:
    """The blobs that can't be read, of those that events name which take effect, oldest first. Raises as
    `core.control_stream.history`.
    """
    known: set[Blob] = set()
    for number, event in accepted(log):
        blob = named(event)
        if blob is not None and blob not in known:
            known.add(blob)
            yield from _unreadable(log, number, blob)


def _unreadable(log: EventLog, number: int, blob: Blob) -> Iterator[Unreadable]:
    content = _read(log, number, blob.digest)
    if isinstance(content, Unreadable):
        yield content
    elif blob.kind == "program":
        try:
            libraries = document.decode(content).uses.values()
        except Corrupt as error:
            yield Unreadable(blob.digest, number, str(error), is_absent=False)
            return
        read = (_read(log, number, library) for library in libraries)
        yield from (each for each in read if isinstance(each, Unreadable))


def _read(log: EventLog, number: int, digest: str) -> bytes | Unreadable:
    try:
        return log.get_blob(digest)
    except (Corrupt, BadInput) as error:
        return Unreadable(digest, number, str(error), isinstance(error, BadInput))


def _take(found: ControlChain, number: int, payload: bytes) -> str:
    """Add one event; what is wrong with it, or ""."""
    if number != found.end.sequence + 1:
        return f"control event {found.end.sequence + 1} is missing: {number} comes next"
    found.digests.append(control_digest(found.end.digest, number, payload))
    if wrong := found.expected.add(payload):
        return wrong
    try:
        event = decode_control(payload)
    except Corrupt as error:
        return f"control event {number}: {error}"
    if isinstance(event, LogCreated):
        found.log_id = found.log_id or event.log_id
    elif isinstance(event, CheckpointSigned):
        found.states.setdefault(event.number, _bytes_of(event.state))
    for partition, kind, evidence in evidence_in(number, event):
        known = found.evidence.setdefault((partition, kind), evidence)
        if evidence.sequence > known.sequence:
            found.evidence[partition, kind] = evidence
    return ""


def _bytes_of(text: str) -> bytes:
    """A hash in hex; b"" if it is none."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def evidence_in(number: int, event: Control) -> list[tuple[int, str, Evidence]]:
    """(partition, kind, what the event says about its seals). number: the event's."""
    match event:
        case SealsRecorded():
            who = f"control event {number}, which records it,"
            return [(seal.partition, "recorded", Evidence(who, seal.sequence, seal.digest)) for seal in event.seals]
        case SegmentArchived():
            who = f"control event {number}, which says that it was archived,"
            return [(event.partition, "archived", Evidence(who, event.last_sequence))]
        case LogTrimmed():
            who = f"control event {number}, which trims up to it,"
            return [(event.partition, "trimmed", Evidence(who, event.up_to_sequence))]
        case _:
            return []


def check_named(log: EventLog, chain: ControlChain, named: Iterable[Named]) -> str:
    """What differs between the control stream and what seals name, at the earliest position; "" if nothing does.

    Events that were appended since the chain was read are read now.
    """
    held_until = 0
    for each in sorted(named, key=lambda n: (n.control, n.partition)):
        while each.control > chain.end.sequence and (page := log.read_control(chain.end.sequence)):
            for number, payload in page:
                if number != chain.end.sequence + 1:
                    return f"control event {chain.end.sequence + 1} is missing: {number} comes next"
                chain.digests.append(control_digest(chain.end.digest, number, payload))
        where = f"seal {each.seal} of partition {each.partition}"
        if each.control > chain.end.sequence:
            return f"ends at event {chain.end.sequence}, but {where} names event {each.control}: its tail was removed"
        if chain.digests[each.control] != each.digest:
            return (
                f"an event from {held_until + 1} to {each.control} is not the one that {where} was decided under: the"
                " control stream or the seal was changed"
            )
        held_until = each.control
    return ""
