"""Verifies that everything is present and as written: the chain over manifest, segments and hot log (I8), the roots of
checkpoints (I16), and that every decision names the context of its seal (I12).

Without checkpoints, every change and gap is found except what nothing inside the log can reveal: the newest batches of
a partition cut off cleanly, the newest control events that no seal names yet, and a log that was computed again from
some place on to its end, seals and all. A checkpoint reveals these, up to the time when it was signed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from core.codec import decode_score_key
from core.context import lacks_something
from core.errors import Corrupt
from core.events import Position
from core.lateness import Pace
from core.log import seals
from core.log.anchored import Anchors, Expected
from core.log.archive import chain
from core.log.archive.archive import Archive
from core.log.archive.control_chain import Evidence, Named
from core.log.base import STREAMS, Entry, EventLog, Head, Stream
from core.log.covering import feedback_seen
from core.log.growth import head_at

TRIES = 5
"""How often a partition is checked at most: it is checked again if it was trimmed meanwhile."""


@dataclass(slots=True)
class Checked:
    """What was checked of one partition; `fault` describes the first fault, "" if the partition is intact.

    degraded: decisions that lacked something that decides (`core.context.lacks_something`); pace: its batches, for
    `core.lateness`; named: the control positions that its seals name. begins: what its first seal must say; None is
    anything. expected: the roots that it must have. unanchored: decisions that no checkpoint covers. start: the head
    from which on it is checked; what comes before was checked earlier, and is not counted.
    """

    partition: int
    begins: str | None = None
    expected: Expected = field(default_factory=lambda: Expected("seals", ()))
    start: Head = Head()  # noqa: RUF009  # frozen
    unanchored: int = 0
    segments: int = 0
    archived_seals: int = 0
    hot_seals: int = 0
    entries: int = 0
    decisions: int = 0
    degraded: int = 0
    pace: Pace = field(default_factory=Pace)
    named: list[Named] = field(default_factory=list)
    head: Head = Head()  # noqa: RUF009  # frozen
    fault: str = ""

    def take(self, sealed: chain.Sealed) -> None:
        """Count a batch. Raises Corrupt if one of its scores names other positions than its seal (I12), and if the
        first seal is that of another partition or log, or the seals differ from a checkpoint's.
        """
        batch, span = sealed.batch, sealed.span
        if span.sequence == 1 and self.begins not in (None, batch.begins):
            raise Corrupt(f"seal 1 belongs to {batch.begins or 'no log'}, not to {self.begins}: the streams are others")
        if wrong := self.expected.add(sealed.entry.payload):
            raise Corrupt(wrong)
        for entry in batch.scores:
            key = decode_score_key(entry.payload)
            if wrong := span.fault(entry.id, feedback_seen(key.feedback_position), key.control_position):
                raise Corrupt(wrong)
            self.degraded += lacks_something(key.degraded)
        self.decisions += len(batch.scores)
        if span.sequence > self.expected.signed:
            self.unanchored += len(batch.scores)
        self.entries += 2 * len(batch.transactions) + len(batch.alerts) + len(batch.feedback) + len(batch.rejects) + 1
        self.pace.add(span.control, span.recorded_at, len(batch.scores))
        if batch.control_digest:
            self.named.append(Named(self.partition, span.sequence, span.control, batch.control_digest))


def check_partition(
    hot: EventLog,
    archive: Archive | None,
    partition: int,
    archived: Mapping[tuple[int, int], str] | None = None,
    evidence: Sequence[Evidence] = (),
    log_id: str = "",
    anchors: Anchors | None = None,
) -> Checked:
    """Check one partition. archived: `core.log.archive.archiver.archived_rows`; evidence: seals that it must contain;
    log_id: the log that its first seal must name ("": any); anchors: the checkpoints that it must contain, and from
    where on it is to be checked.
    """
    for _ in range(TRIES):
        expected = (anchors or Anchors([])).partition(partition)
        result = Checked(partition, seals.begins(log_id, partition) if log_id else None, expected)
        result.start = result.head = head_at(expected.grown)
        first = _first_seal(hot, partition)
        try:
            if wrong := expected.begin() or _begun(hot, archive, partition, expected):
                raise Corrupt(wrong)
            _check(hot, archive, partition, archived or {}, result)
            if wrong := expected.end():
                raise Corrupt(wrong)
            for each in evidence:
                _contains(hot, archive, result, each)
        except Corrupt as error:
            result.fault = str(error)
            if _first_seal(hot, partition) == first:
                return result
            if archive is not None:
                archive.refresh(partition)
            continue
        return result
    return result


def _begun(hot: EventLog, archive: Archive | None, partition: int, expected: Expected) -> str:
    """What is wrong with the seal after which the partition is checked; or ""."""
    sequence, last = expected.grown.tree.size, expected.grown.last
    if sequence == 0:
        return ""
    payload = _seal(hot, archive, partition, sequence)
    if payload is None:
        return f"the tail is missing: seal {sequence} was verified before, and is no longer in the log"
    return "" if payload == last else f"seal {sequence} differs from the one that was verified: the log was rewritten"


def _seal(hot: EventLog, archive: Archive | None, partition: int, sequence: int) -> bytes | None:
    """A seal's JSON, wherever it is."""
    at = Position(sequence, 1)
    payload = archive.get(partition, "seals", at) if archive is not None else None
    return payload or hot.get(partition, "seals", at)


def _first_seal(hot: EventLog, partition: int) -> list[Entry]:
    return hot.read(partition, "seals", count=1)


def _check(
    hot: EventLog,
    archive: Archive | None,
    partition: int,
    archived: Mapping[tuple[int, int], str],
    result: Checked,
) -> None:
    end = _check_archive(archive, partition, result) if archive is not None else Head()
    rows = archive.rows(partition) if archive is not None else ()
    known = {row.last_sequence: row.digest for row in rows}
    for (owner, last), digest in archived.items():
        if archive is not None and owner == partition and known.get(last) != digest:
            state = "has a different one" if last in known else "does not have it"
            raise Corrupt(f"the control stream names an archived segment up to seal {last}, but the manifest {state}")
    _check_hot(hot, archive, partition, end, result)


def _contains(hot: EventLog, archive: Archive | None, result: Checked, evidence: Evidence) -> None:
    """Raise Corrupt unless the checked log contains the seal that somebody has seen."""
    who, sequence, digest = evidence
    if result.head.sequence < sequence:
        raise Corrupt(f"the tail is missing: {who} is at seal {sequence}, the log ends at {result.head.sequence}")
    if not digest or sequence == 0:
        return
    payload = _seal(hot, archive, result.partition, sequence)
    if payload is None or seals.head_from_entry(Entry(Position(sequence, 1), payload)).digest != digest:
        raise Corrupt(f"seal {sequence} differs from the one of {who.rstrip(',')}: the log was rewritten")


def _check_archive(archive: Archive, partition: int, result: Checked) -> Head:
    """The manifest, and every segment from genesis or the start on. Returns the archive's end."""
    head = result.start
    for row in archive.rows(partition):
        if row.last_sequence <= result.start.sequence:
            continue
        found = archive.load(row)
        try:
            for sealed in chain.batches(found.read, head, row.last_sequence):
                head = sealed.head
                result.archived_seals += 1
                result.take(sealed)
            if head != row.end:
                raise Corrupt(f"ends at seal {head.sequence} with a head that differs from the manifest's")
            for stream in STREAMS:
                if found.count(stream) != row.count(stream):
                    raise Corrupt(f"holds {found.count(stream)} {stream}, but the manifest says {row.count(stream)}")
        except Corrupt as error:
            raise Corrupt(f"{row.files[0].name}: {error}") from None
        result.segments += 1
        result.head = head
    return archive.end(partition)


def _check_hot(hot: EventLog, archive: Archive | None, partition: int, end: Head, result: Checked) -> None:
    """Check the hot log from where it was trimmed to its head, and that it continues the archive."""

    def read(stream: Stream, after: Position, count: int, until: Position | None) -> list[Entry]:
        return hot.read(partition, stream, after, count, until)

    try:
        head = hot.head(partition)
    except ValueError as error:
        raise Corrupt(f"hot log: the last seal does not decode: {error}") from None
    first = _first_seal(hot, partition)
    if not first:
        if end.sequence:
            raise Corrupt(f"hot log: empty, although seal {end.sequence} is archived: at least that one must remain")
        return
    start = _begin(hot, archive, partition, first[0])
    if start.sequence > end.sequence:
        raise Corrupt(
            f"hot log: begins with seal {start.sequence}, but the archive ends at {end.sequence}:"
            " the seals between are missing"
        )
    if head.sequence < end.sequence:
        raise Corrupt(f"hot log: the tail is missing: it ends at seal {head.sequence}, the archive at {end.sequence}")
    if start.sequence < result.start.sequence:
        start = result.start
    last = start
    joined = start if start.sequence == end.sequence else None
    if start.sequence > end.sequence:  # everything archived was checked before
        joined = end
    try:
        for sealed in chain.batches(read, start, head.sequence):
            last = sealed.head
            result.hot_seals += 1
            if last.sequence > max(end.sequence, result.start.sequence):
                result.take(sealed)
            if last.sequence == end.sequence:
                joined = last
    except Corrupt as error:
        raise Corrupt(f"hot log: {error}") from None
    if joined != end:
        raise Corrupt(f"hot log: its seal {end.sequence} differs from the archive's last")
    for stream, position in seals.covered(last).items():
        beyond = [e for e in hot.read(partition, stream, position, 2) if e.id != Position(last.sequence, 1)]
        if (beyond if stream == "seals" else hot.read(partition, stream, position, 1)) and hot.head(partition) == head:
            raise Corrupt(f"hot log: {stream} has entries after {position} that no seal covers")
    result.head = last


def _begin(hot: EventLog, archive: Archive | None, partition: int, first: Entry) -> Head:
    """The head after which the hot log's batches begin: `Head()`, or that of the seal up to which it was trimmed.

    Raises Corrupt if the archive does not hold that very seal, or if older entries remain.
    """
    sequence = first.id.generation
    try:
        head = seals.head_from_entry(first)
    except ValueError as error:
        raise Corrupt(f"hot log: seal {sequence} does not decode: {error}") from None
    held = archive.get(partition, "seals", first.id) if archive is not None else None
    left = [
        s for s, last in seals.covered(head).items() if s != "seals" and hot.read(partition, s, count=1, until=last)
    ]
    if sequence == 1 and (left or held is None):
        return Head()
    if held is None:
        raise Corrupt(f"hot log: begins with seal {sequence}, and no archive holds what came before it")
    if held != first.payload:
        raise Corrupt(f"hot log: its first seal, {sequence}, differs from the archive's")
    if left:
        raise Corrupt(f"hot log: begins with seal {sequence}, but has older {', '.join(left)} that no seal covers")
    return head
