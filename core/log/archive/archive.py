"""The reader's view of an archive: each partition's manifest rows, and their segments as continuous streams.

A segment's files are checked against the manifest's SHA-256 whenever they are loaded, so changed data is never
returned. Thread-safe. The writer is `core.log.archive.archiver`.
"""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import pyarrow as pa

from core.errors import Corrupt
from core.events import START, Position
from core.log import seals
from core.log.archive import manifest
from core.log.archive.column_reading import Range, read_columns
from core.log.archive.manifest import BLOBS, CONTROL, DECISIONS, EVENTS, Row
from core.log.archive.segment import Segment
from core.log.archive.store import Store, Version, open_store
from core.log.base import Entry, Head, Stream, is_digest

SEGMENTS_HELD = 4
"""Loaded segments kept in memory: a replay reads scores, alerts and feedback at about the same place."""


class Archive:
    """Reads what was archived. Raises Corrupt if bytes are not what was written, Unavailable if the store can't be
    reached.
    """

    def __init__(self, store: Store, cold: Store | None = None) -> None:
        """cold: the store to which `core.log.archive.retention` moves old segments, if there is one."""
        self.store = store
        self.cold = cold
        self._lock = threading.RLock()
        self._rows: dict[int, tuple[Version | None, tuple[Row, ...]]] = {}
        self._segments: OrderedDict[tuple[int, int], Segment] = OrderedDict()

    def rows(self, partition: int) -> tuple[Row, ...]:
        """The partition's rows as of the last `refresh`; the first call refreshes."""
        with self._lock:
            if partition not in self._rows:
                self.refresh(partition)
            return self._rows[partition][1]

    def hold(self, partition: int, rows: Sequence[Row]) -> None:
        """Take these for the partition's rows until the manifest is replaced."""
        with self._lock:
            self._rows[partition] = (self.store.version(manifest.name_of(partition)), tuple(rows))

    def refresh(self, partition: int) -> bool:
        """Read the manifest again if it was replaced. Returns whether the rows changed."""
        name = manifest.name_of(partition)
        with self._lock:
            version = self.store.version(name)
            held = self._rows.get(partition)
            if held is not None and held[0] == version:
                return False
            content = self.store.read(name) if version is not None else None
            rows = manifest.decode(content, partition) if content is not None else ()
            self._rows[partition] = (version, rows)
            return held is None or held[1] != rows

    def end(self, partition: int) -> Head:
        """The head of the last archived seal; `Head()` if nothing is archived."""
        rows = self.rows(partition)
        return rows[-1].end if rows else Head()

    def count(self, partition: int, stream: Stream) -> int:
        """Archived entries of the stream."""
        return sum(row.count(stream) for row in self.rows(partition))

    def read(
        self, partition: int, stream: Stream, after: Position = START, count: int = 1000, until: Position | None = None
    ) -> list[Entry]:
        """As EventLog.read, over all segments."""
        out: list[Entry] = []
        for row in self._from(partition, stream, after):
            if row.count(stream):
                out += self.segment(row).read(stream, after, count - len(out), until)
            if len(out) >= count or (until is not None and _last(row, stream) >= until):
                break
        return out

    def get(self, partition: int, stream: Stream, entry_id: Position) -> bytes | None:
        """As EventLog.get, over all segments."""
        for row in self._from(partition, stream, entry_id, inclusive=True)[:1]:
            return self.segment(row).get(stream, entry_id) if row.count(stream) else None
        return None

    def tables(self, partition: int, columns: Sequence[str], after: Position, until: Position) -> Iterator[pa.Table]:
        """The decisions with after < ID ≤ until as columns (`columns.COLUMNS`), one table per segment, in order."""
        for row in self._from(partition, "transactions", after):
            yield self.segment(row).table(columns, after, until)
            if row.end.transactions >= until:
                return

    def groups(self, partition: int, columns: Sequence[str], after: Position, until: Position) -> Iterator[pa.Table]:
        """As `tables`, a row group (`segment.ROW_GROUP`) at a time, so that a caller with other work need not wait for
        a whole segment. Columns of features can't be asked for.
        """
        for row in self._from(partition, "transactions", after):
            yield from self.segment(row).groups(columns, after, until)
            if row.end.transactions >= until:
                return

    def column_parts(
        self,
        partition: int,
        after: Position,
        until: Position,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> Iterator[Callable[[Sequence[str]], pa.Table]]:
        """As `tables`, but each part is read when it is called with the columns wanted, in any thread, and only these
        are read: pages are checked by their checksums, files not by the manifest's SHA-256 (`sentinel verify` does).
        Row groups without any event time in start_ms … end_ms (epoch ms) are left out; equal calls give equal rows.
        """
        begin = START
        for row in self.rows(partition):
            end = row.end.transactions
            if end > after and begin < until and row.count("transactions"):
                low, high = after if after > begin else None, until if until < end else None
                yield partial(self._columns, row, Range(low, high, start_ms, end_ms))
            begin = end

    def _columns(self, row: Row, wanted: Range, columns: Sequence[str]) -> pa.Table:
        name = next(file.name for file in row.files if file.name.endswith(DECISIONS))
        source = self.store.open(name)
        if source is None and self.cold is not None:
            source = self.cold.open(name)
        if source is None:
            raise Corrupt(f"{name} is missing")
        with source:
            try:
                return read_columns(source, columns, wanted)
            except Corrupt as error:
                raise Corrupt(f"{name}: {error}") from None

    def segment(self, row: Row) -> Segment:
        """The row's segment, checked. Raises Corrupt if a file is missing or is not what the manifest says."""
        key = (row.partition, row.first_sequence)
        with self._lock:
            found = self._segments.get(key)
            if found is None:
                found = self.load(row)
                self._segments[key] = found
                if len(self._segments) > SEGMENTS_HELD:
                    self._segments.popitem(last=False)
            else:
                self._segments.move_to_end(key)
            return found

    def blobs(self) -> list[str]:
        """The SHA-256 of every blob that the archive holds, ascending (`core.log.archive.blobs`)."""
        stores = [self.store] if self.cold is None else [self.store, self.cold]
        return sorted({name for store in stores for name in store.names(BLOBS) if is_digest(name)})

    def blob(self, digest: str) -> bytes | None:
        """A blob; None if the archive does not hold it. Raises Corrupt if it is not what was archived, BadInput if the
        digest is none.
        """
        name = manifest.blob_name(digest)
        content = self._content(name)
        return content if content is None else _checked(name, content, digest)

    def bytes_held(self, partitions: Iterable[int]) -> int:
        """The size of all that the archive holds of these partitions, with blobs and control stream."""
        stores = [self.store] if self.cold is None else [self.store, self.cold]
        others = sum(sum(store.sizes(folder).values()) for store in stores for folder in (BLOBS, CONTROL))
        return others + sum(file.bytes for p in partitions for row in self.rows(p) for file in row.files)

    def write_blob(self, digest: str, content: bytes) -> None:
        """Store a blob, durably, and read it back. Raises Corrupt if it is not what was written."""
        name = manifest.blob_name(digest)
        self.store.write(name, content)
        _checked(name, self.store.read(name) or b"", digest)

    def _content(self, name: str) -> bytes | None:
        """A file, wherever it is. It is removed here only once the cold store has it."""
        content = self.store.read(name)
        return self.cold.read(name) if content is None and self.cold is not None else content

    def load(self, row: Row) -> Segment:
        """The row's segment from its files, each compared with its SHA-256. Raises Corrupt that names the file."""
        contents: dict[str, bytes] = {}
        for file in row.files:
            content = self._content(file.name)
            if content is None:
                raise Corrupt(f"{file.name} is missing")
            contents[file.name.rpartition("/")[2].partition(".")[2]] = _checked(file.name, content, file.sha256)
        try:
            return Segment(contents[DECISIONS], contents[EVENTS])
        except Corrupt as error:
            raise Corrupt(f"{row.files[0].name}: {error}") from None

    def _from(self, partition: int, stream: Stream, after: Position, inclusive: bool = False) -> tuple[Row, ...]:
        """The rows from the first one that may hold an entry after (or at) the position."""
        rows = self.rows(partition)
        place = bisect_left(rows, after, key=lambda row: _last(row, stream))
        if not inclusive and place < len(rows) and _last(rows[place], stream) == after:
            place += 1
        return rows[place:]


def _checked(name: str, content: bytes, digest: str) -> bytes:
    """The content. Raises Corrupt, naming the file, if its SHA-256 is another one."""
    if hashlib.sha256(content).hexdigest() != digest:
        raise Corrupt(f"{name} is not what was archived: its SHA-256 differs")
    return content


def _last(row: Row, stream: Stream) -> Position:
    return Position(row.last_sequence, 1) if stream == "seals" else seals.covered(row.end)[stream]


def open_archive(location: str, cold: str = "") -> Archive:
    """The archive in a directory or at a URI; an empty one if nothing is there yet. Raises BadInput.

    cold: directory or URI of the store to which old segments are moved; "" for none.
    """
    return Archive(open_store(location), open_store(cold) if cold else None)
