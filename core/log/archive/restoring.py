"""Restores a log from its archive: as it was when its segments end, as if everything archived had been trimmed.

Steps, in this order. A crash between any two loses nothing, and the next run continues; a log server that holds
anything else is refused.

    1  store the blobs that the next decisions need
    2  for each partition, store its last archived seal: its head, and the anchor of what follows
    3  append the control stream, whole, in one request, with the events that say that it was restored: so no restored
       log hides it  (a worker that starts before finds partitions without a control stream, and refuses)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from core import control_stream
from core.codec import decode_control
from core.errors import BadInput, Conflict, Corrupt
from core.events import Control, Position
from core.log.anchored import Anchors, Expected
from core.log.archive import blobs, control_files
from core.log.archive.archive import Archive
from core.log.archive.archived import ArchivedLog
from core.log.archive.control_chain import evidence_in, unreadable
from core.log.base import Entry, EventLog, Head, Signer, Stream
from core.log.checkpoints import Checkpoint
from core.log.memory import MemoryLog
from core.log.seals import head_from_entry
from core.partitions import partitions_of

_ELSEWHERE = (
    "Nothing is ever overwritten: name another server, or another prefix (SENTINEL_LOG_PREFIX), or empty this one"
    " yourself once nobody needs it"
)


class Restorable(NamedTuple):
    """What an archive restores. control: the events; seals: each partition's last, if it has any; partitions: all of
    the log's. lost: seals that the events name and the archive lacks, in words.
    """

    control: tuple[bytes, ...]
    seals: Mapping[int, Entry]
    partitions: list[int]
    lost: list[str]

    @property
    def heads(self) -> dict[int, Head]:
        """Where each partition continues."""
        return {p: head_from_entry(self.seals[p]) if p in self.seals else Head() for p in self.partitions}

    def log(self, archive: Archive, signer: Signer | None = None) -> ArchivedLog:
        """The restored log, to be read before anything is written. signer: who would append to it."""
        streams: dict[tuple[int, Stream], list[Entry]] = {(p, "seals"): [seal] for p, seal in self.seals.items()}
        hot = MemoryLog.restored(streams, self.control, {})
        hot.signer = signer
        return ArchivedLog(hot, archive)


def restorable(archive: Archive) -> Restorable:
    """What the archive restores. Raises BadInput if it holds no control stream, Corrupt if that or a segment that ends
    a partition is damaged.
    """
    control = control_files.everything(archive).payloads
    if not control:
        raise BadInput(
            f"the archive {archive.store} holds no control stream: is this the right place? An archive of an earlier"
            " release gets one with the next `sentinel archive`, from the running log"
        )
    partitions = partitions_of(MemoryLog.restored({}, control, {}))
    seals: dict[int, Entry] = {}
    for p in partitions:
        if (end := archive.end(p)).sequence:
            at = Position(end.sequence, 1)
            payload = archive.get(p, "seals", at)
            if payload is None or head_from_entry(Entry(at, payload)) != end:
                raise Corrupt(f"partition {p}: the last segment does not end with the seal that the manifest names")
            seals[p] = Entry(at, payload)
    lost = []
    for number, payload in enumerate(control, 1):
        for p, _, found in evidence_in(number, decode_control(payload)):
            if found.sequence > archive.end(p).sequence:
                lost.append(f"partition {p}: {found.who} is at seal {found.sequence}, the archive ends before it")
    return Restorable(control, seals, partitions, lost)


def lost_blobs(archive: Archive, found: Restorable) -> dict[str, str]:
    """The blobs (SHA-256) that the archive lacks, in words; not those that it holds damaged."""
    lacking = (each for each in unreadable(found.log(archive)) if each.is_absent)
    return {
        each.digest: f"blob {each.digest}, which control event {each.number} needs, is not in the archive"
        for each in lacking
    }


def as_archived(archive: Archive) -> EventLog:
    """The log as far as the archive holds it, and would restore it. Raises as `restorable`."""
    return restorable(archive).log(archive)


class Contained(Anchors):
    """Anchors, without what they demand beyond the restored log. beyond: the checkpoints that cover more."""

    def __init__(self, anchors: Anchors, found: Restorable) -> None:
        super().__init__(anchors.checkpoints)
        self._control, self._ends = len(found.control), {p: head.sequence for p, head in found.heads.items()}

    def control(self) -> Expected:
        heads = ((each.state.control, each) for each in self.checkpoints)
        return Expected("control events", (pair for pair in heads if pair[0].size <= self._control))

    def partition(self, number: int) -> Expected:
        states = ((each.state.partitions, each) for each in self.checkpoints)
        heads = ((state[number], each) for state, each in states if number < len(state))
        return Expected("seals", (pair for pair in heads if pair[0].size <= self._ends.get(number, 0)))

    @property
    def beyond(self) -> list[Checkpoint]:
        """The checkpoints that cover seals or control events which are not restored."""
        return [each for each in self.checkpoints if self._is_beyond(each)]

    def _is_beyond(self, checkpoint: Checkpoint) -> bool:
        state = checkpoint.state
        ends = enumerate(state.partitions)
        return state.control.size > self._control or any(head.size > self._ends.get(p, 0) for p, head in ends)


def check_empty(log: EventLog, found: Restorable) -> None:
    """Raise BadInput unless the server holds nothing of the log but, perhaps, what an interrupted restoring wrote."""
    if end := log.control_head():
        raise BadInput(f"the log server is not empty: it holds {end:,} control events. {_ELSEWHERE}")
    heads = found.heads.items()
    other = [p for p, head in heads if log.head(p) not in (Head(), head) or log.length(p, "seals") > 1]
    if other:
        raise BadInput(f"the log server is not empty: it holds partitions {', '.join(map(str, other))}. {_ELSEWHERE}")


def with_record(
    found: Restorable, archive: Archive, signer: Signer | None, record: Sequence[Control]
) -> tuple[bytes, ...]:
    """The control stream with the events that say that it was restored. Raises BadInput if they may not follow, for
    want of a role or a key.
    """
    log = found.log(archive, signer)
    control_stream.append(log, lambda known: record)
    return tuple(payload for _, payload in log.read_control(count=log.control_head()))


def write(log: EventLog, archive: Archive, found: Restorable, control: Sequence[bytes]) -> int:
    """Restore into an empty log (`check_empty`). control: `with_record`. Returns the bytes of blobs that were stored.
    Raises Conflict or ConcurrencyError if somebody else writes to the log meanwhile; BadInput, with only blobs
    written, if the server holds a damaged one, because a blob that is there is not written again.
    """
    size = 0
    whole = found.log(archive)
    held = set(archive.blobs())
    for digest in blobs.needed(whole, control_stream.history(whole)):
        if digest in held:  # else it is lost (`lost_blobs`)
            content = whole.get_blob(digest)
            _put(log, digest, content)
            size += len(content)
    for p, seal in found.seals.items():
        log.continue_after(p, seal)
    log.append_control(control, 0)
    check_written(log, found, control)
    return size


def _put(log: EventLog, digest: str, content: bytes) -> None:
    log.put_blob(content)
    try:
        log.get_blob(digest)
    except Corrupt:
        raise BadInput(f"the log server is not empty: it holds the blob {digest}, damaged. {_ELSEWHERE}") from None


def check_written(log: EventLog, found: Restorable, control: Sequence[bytes]) -> None:
    """Raise Conflict unless the log is what was to be restored."""
    held = [payload for _, payload in log.read_control(count=len(control))]
    if held != list(control) or any(log.head(p) != head for p, head in found.heads.items()):
        raise Conflict("somebody else wrote to the log meanwhile: stop all workers, empty the server, and try again")
