"""The manifest of one partition's archive: one JSON line per segment, each chained to the line before (I8). Pure.

    p07/manifest.jsonl     a line is a `Row`; `digest` = SHA-256(previous digest ‖ the row with an empty digest)

A row names its files with their SHA-256 and the head that its last seal makes, so the manifest continues the log's own
chain. The file is replaced atomically; a row never changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from core.errors import UNDECODABLE, Corrupt
from core.events import Position
from core.log.base import GENESIS_DIGEST, STREAMS, Head, Stream, check_digest

DECISIONS, EVENTS = "decisions.parquet", "events.parquet"
"""The two files of a segment (`core.log.archive.segment`)."""


BLOBS, CONTROL = "blobs", "control"
"""The folders of blobs, and of the control stream."""


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a segment: its name under the archive's root, SHA-256 (hex) and size."""

    name: str
    sha256: str
    bytes: int


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One segment: the seals `first_sequence` … `last_sequence` and everything they cover.

    transactions … seal_digest are the last seal's (see core.log.base.Head); first_recorded_at and last_recorded_at the
    first and last seal's, epoch ms; counts: entries by stream; previous: the digest of the row before, or GENESIS.
    """

    partition: int
    first_sequence: int
    last_sequence: int
    transactions: str
    feedback: str
    control: int
    published: str
    seal_digest: str
    first_recorded_at: int
    last_recorded_at: int
    counts: dict[str, int]
    files: tuple[File, ...]
    previous: str
    digest: str = ""

    @property
    def end(self) -> Head:
        """The head that the segment's last seal makes."""
        return Head(
            sequence=self.last_sequence,
            transactions=Position.parse(self.transactions),
            feedback=Position.parse(self.feedback),
            control=self.control,
            published=Position.parse(self.published),
            digest=self.seal_digest,
        )

    def count(self, stream: Stream) -> int:
        """Entries of the stream in the segment."""
        return self.counts.get(stream, 0)


_rows = msgspec.json.Decoder(Row, strict=True)


def name_of(partition: int) -> str:
    """The manifest's file name."""
    return f"p{partition:02d}/manifest.jsonl"


def file_name(partition: int, first_sequence: int, last_sequence: int, kind: str) -> str:
    """The name of a segment's file; `kind` is DECISIONS or EVENTS."""
    return f"p{partition:02d}/{first_sequence:012d}-{last_sequence:012d}.{kind}"


def blob_name(digest: str) -> str:
    """The name of a blob's file (`core.log.archive.blobs`). Raises BadInput if the digest is none."""
    return f"{BLOBS}/{check_digest(digest)}"


def sealed(row: Row) -> Row:
    """The row with its digest."""
    content = msgspec.json.encode(msgspec.structs.replace(row, digest=""))
    return msgspec.structs.replace(row, digest=hashlib.sha256(bytes.fromhex(row.previous) + content).hexdigest())


def encode(rows: Sequence[Row]) -> bytes:
    """The manifest's bytes."""
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def decode(content: bytes, partition: int) -> tuple[Row, ...]:
    """The rows of a manifest, checked: form, chain, order, file names. Raises Corrupt that names the line.

    A row can name only its own segment's files. So whoever writes a manifest cannot have another file read or removed.
    """
    where = name_of(partition)
    rows: list[Row] = []
    previous, sequence = GENESIS_DIGEST, 0
    lines = content.split(b"\n")
    if lines.pop() != b"":
        raise Corrupt(f"{where}, line {len(lines) + 1}: the file ends within a line")
    for number, line in enumerate(lines, 1):
        try:
            row = _rows.decode(line)
        except UNDECODABLE as error:
            raise Corrupt(f"{where}, line {number}: does not decode: {error}") from None
        if row.previous != previous:
            raise Corrupt(f"{where}, line {number}: does not continue the line before: a line was removed or changed")
        if msgspec.json.encode(row) != line or sealed(row).digest != row.digest:
            raise Corrupt(f"{where}, line {number}: was changed: its digest does not match")
        if row.partition != partition or row.first_sequence != sequence + 1 or row.last_sequence < row.first_sequence:
            raise Corrupt(
                f"{where}, line {number}: covers seals {row.first_sequence} … {row.last_sequence} of partition"
                f" {row.partition}, but seals from {sequence + 1} of partition {partition} are expected"
            )
        segment = {file_name(partition, row.first_sequence, row.last_sequence, kind) for kind in (DECISIONS, EVENTS)}
        if {file.name for file in row.files} != segment or len(row.files) != len(segment):
            raise Corrupt(f"{where}, line {number}: names files that are not those of its segment")
        if sorted(row.counts) != sorted(STREAMS):
            raise Corrupt(f"{where}, line {number}: does not count exactly the log's streams")
        rows.append(row)
        previous, sequence = row.digest, row.last_sequence
    return tuple(rows)
