"""A segment: the entries of a run of consecutive seals of one partition as two Parquet files, and back, byte for byte.

    decisions.parquet   one row per transaction with its score: typed columns, in order of ID, each stored feature a
                        float32 column of its own, so that a question about a few of them reads only these
    events.parquet      alerts, feedback, rejects and seals as (stream, ID, JSON)

An entry's JSON is regenerated from the typed columns by the log's encoder. Where that does not give the logged bytes
(an unknown field, another form of a number), the row keeps the payload in `raw_transaction` or `raw_score`. `encode`
finds these rows by reading back what it wrote.

Parquet's footers hold statistics per row group, so a query engine can skip data. Pure: bytes in, bytes out.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.errors import Corrupt
from core.events import START, Position
from core.log.archive.columns import (
    COLUMNS_OF,
    FEATURE,
    ID,
    RAW,
    SCORE,
    TRANSACTION,
    Column,
    decisions_table,
    scores_of,
    transactions_of,
)
from core.log.archive.manifest import DECISIONS, EVENTS
from core.log.base import STREAMS, Entry, Stream

ROW_GROUP = 32_768
COMPRESSION_LEVEL = 9
GROUPS_HELD = 2

OTHERS: tuple[Stream, ...] = ("alerts", "feedback", "rejects", "seals")


# --- writing ------------------------------------------------------------------------------------------------------


def encode(streams: Mapping[Stream, Sequence[Entry]]) -> dict[str, bytes]:
    """The segment's files by name (`DECISIONS`, `EVENTS`). Scores must match transactions one to one.

    The caller compares what it has stored (`compare`), so the files are not read a second time here.
    """
    transactions, scores = streams["transactions"], streams["scores"]
    decisions = decisions_file(decisions_table(transactions, scores))
    events = _write(_events_table(streams), {**ID, "stream": Column(pa.string()), "payload": Column(None, "PLAIN")})
    segment = Segment(decisions, events)
    raw_transactions = _differing(segment, "transactions", transactions)
    raw_scores = _differing(segment, "scores", scores)
    if raw_transactions or raw_scores:
        decisions = decisions_file(decisions_table(transactions, scores, raw_transactions, raw_scores))
    return {DECISIONS: decisions, EVENTS: events}


def decisions_file(table: pa.Table) -> bytes:
    """A table of `columns.decisions_table` as the file of a segment."""
    return _write(table, ID | TRANSACTION | SCORE | RAW)


def _differing(segment: Segment, stream: Stream, entries: Sequence[Entry]) -> set[Position]:
    held = segment.read(stream, count=len(entries))
    return {entry.id for entry, back in zip(entries, held, strict=True) if entry != back}


def compare(segment: Segment, streams: Mapping[Stream, Sequence[Entry]]) -> None:
    """Raise Corrupt unless the segment holds exactly these entries."""
    for stream, entries in streams.items():
        held = segment.read(stream, count=len(entries) + 1)
        if held != list(entries):
            differing = next((a.id for a, b in zip(entries, held, strict=False) if a != b), "at the end")
            raise Corrupt(f"{stream} read back from the segment differ from what was archived: {differing}")


def _events_table(streams: Mapping[Stream, Sequence[Entry]]) -> pa.Table:
    rows = [(stream, entry) for stream in OTHERS for entry in streams[stream]]
    return pa.table(
        {
            "stream": pa.array([stream for stream, _ in rows], pa.string()),
            "generation": pa.array([entry.id.generation for _, entry in rows], pa.uint64()),
            "offset": pa.array([entry.id.offset for _, entry in rows], pa.uint64()),
            "payload": pa.array([entry.payload for _, entry in rows], pa.binary()),
        }
    )


def _write(table: pa.Table, columns: Mapping[str, Column]) -> bytes:
    encodings = {name: column.encoding for name, column in columns.items() if column.encoding}
    encodings |= {name: FEATURE.encoding for name in table.column_names if name.startswith("feature_")}
    by_id = [pq.SortingColumn(table.column_names.index(name)) for name in ID]
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        row_group_size=ROW_GROUP,
        compression="zstd",
        compression_level=COMPRESSION_LEVEL,
        use_dictionary=[name for name in table.column_names if name not in encodings],
        column_encoding=encodings,
        sorting_columns=by_id if "stream" not in table.column_names else None,
        write_page_checksum=True,
    )
    return sink.getvalue()


def warm_up() -> None:
    """Write and read a segment without entries: pyarrow loads 0.2 s of code at its first conversion."""
    files = encode({stream: [] for stream in STREAMS})
    Segment(files[DECISIONS], files[EVENTS])


# --- reading ------------------------------------------------------------------------------------------------------


class Segment:
    """A segment's two files in memory. Row groups are decoded when they are read; the last few are kept."""

    def __init__(self, decisions: bytes, events: bytes) -> None:
        """Raises Corrupt if the bytes are not a segment's files."""
        self._decisions = decisions
        try:
            self._file = pq.ParquetFile(pa.BufferReader(decisions))
            ids = self._file.read(list(ID), use_threads=False)
            self._names = frozenset(self._file.schema_arrow.names)
            self._features = [name for name in self._file.schema_arrow.names if name.startswith("feature_")]
            others = pq.ParquetFile(pa.BufferReader(events)).read(use_threads=False)
            names = others["stream"].to_pylist()
            payloads: list[bytes] = others["payload"].to_pylist()
        except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
            raise _not_a_segment(error) from None
        with _readable():
            own, everything = ids_of(ids), ids_of(others)
        self._ids: dict[Stream, Ids] = {"transactions": own, "scores": own}
        self._payloads: dict[Stream, list[bytes]] = {}
        for stream in OTHERS:
            rows = [i for i, name in enumerate(names) if name == stream]
            self._ids[stream] = Ids(everything.generations[rows], everything.offsets[rows])
            self._payloads[stream] = [payloads[i] for i in rows]
        self._lock = threading.Lock()
        self._groups: OrderedDict[tuple[Stream, int], pa.Table] = OrderedDict()

    def count(self, stream: Stream) -> int:
        """Entries of the stream."""
        return len(self._ids[stream].offsets)

    def read(
        self, stream: Stream, after: Position = START, count: int = 1000, until: Position | None = None
    ) -> list[Entry]:
        """As EventLog.read. About 3 µs per entry."""
        ids = self._ids[stream]
        begin = ids.place(after)
        end = min(len(ids.offsets) if until is None else ids.place(until), begin + max(count, 0))
        if end <= begin:
            return []
        positions = map(Position, ids.generations[begin:end].tolist(), ids.offsets[begin:end].tolist())
        return list(map(Entry, positions, self._slice(stream, begin, end)))

    def get(self, stream: Stream, entry_id: Position) -> bytes | None:
        """As EventLog.get."""
        ids = self._ids[stream]
        place = ids.place(entry_id) - 1
        if place < 0 or (int(ids.generations[place]), int(ids.offsets[place])) != entry_id:
            return None
        return self._slice(stream, place, place + 1)[0]

    def table(
        self,
        columns: Sequence[str],
        after: Position = START,
        until: Position | None = None,
        dictionaries: Sequence[str] = (),
    ) -> pa.Table:
        """The decisions with after < ID ≤ until as columns (`columns.COLUMNS`, `columns.feature_columns`), for folds
        that do not need the JSON. A feature that no row of the segment stores is a column of nulls.

        dictionaries: string columns to return dictionary-encoded, as they are stored.
        """
        ids = self._ids["transactions"]
        begin, end = ids.place(after), len(ids.offsets) if until is None else ids.place(until)
        with self._lock:
            file = self._file
            if dictionaries:
                source = pa.BufferReader(self._decisions)
                file = pq.ParquetFile(source, metadata=file.metadata, read_dictionary=list(dictionaries))
            held = [name for name in columns if name in self._names or not name.startswith("feature_")]
            with _readable():
                table = file.read(held, use_threads=False).slice(begin, max(end - begin, 0))
        return table if len(held) == len(columns) else with_columns(table, columns)

    def groups(self, columns: Sequence[str], after: Position, until: Position) -> Iterator[pa.Table]:
        """As `table`, by row groups: about ROW_GROUP decisions are decoded at once. Columns of features can't be asked
        for.
        """
        ids = self._ids["transactions"]
        begin, end = ids.place(after), ids.place(until)
        first = 0
        for group in range(self._file.num_row_groups):
            size = self._file.metadata.row_group(group).num_rows
            start, stop = max(begin - first, 0), min(end - first, size)
            if start < stop:
                with self._lock, _readable():
                    table = self._file.read_row_group(group, columns=list(columns), use_threads=False)
                yield table.slice(start, stop - start).select(list(columns))
            first += size

    def _slice(self, stream: Stream, begin: int, end: int) -> list[bytes]:
        if stream in self._payloads:
            return self._payloads[stream][begin:end]
        build = transactions_of if stream == "transactions" else scores_of
        out: list[bytes] = []
        size = self._file.metadata.row_group(0).num_rows  # as written: ROW_GROUP may have changed since
        for group in range(begin // size, (end - 1) // size + 1):
            first = group * size
            start, stop = max(begin - first, 0), min(end - first, size)
            with _readable():
                out += build(self._group(stream, group).slice(start, stop - start))
        return out

    def _group(self, stream: Stream, group: int) -> pa.Table:
        with self._lock:
            table = self._groups.get((stream, group))
            if table is None:
                columns = COLUMNS_OF[stream] + (self._features if stream == "scores" else [])
                table = self._file.read_row_group(group, columns=columns, use_threads=False)
                table = self._groups[stream, group] = table.combine_chunks()
                if len(self._groups) > GROUPS_HELD:
                    self._groups.popitem(last=False)
            return table


@contextmanager
def _readable() -> Iterator[None]:
    """Parts of a file are read when they are asked for: what does not read then is as corrupt as at the beginning."""
    try:
        yield
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        raise _not_a_segment(error) from None


def _not_a_segment(error: Exception) -> Corrupt:
    return Corrupt(f"not a segment: {' '.join(str(error).split())}")


def with_columns(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The table's columns in this order; those of features that it lacks are null."""
    nothing = pa.nulls(len(table), FEATURE.type)
    return pa.table({name: table[name] if name in table.column_names else nothing for name in columns})


class Ids(NamedTuple):
    """IDs in ascending order: uint64 (n,) each."""

    generations: NDArray[np.uint64]
    offsets: NDArray[np.uint64]

    def place(self, position: Position) -> int:
        """How many IDs are ≤ position."""
        generation, offset = np.uint64(position.generation), np.uint64(position.offset)
        low = int(np.searchsorted(self.generations, generation, "left"))
        high = int(np.searchsorted(self.generations, generation, "right"))
        return low + int(np.searchsorted(self.offsets[low:high], offset, "right"))


def ids_of(table: pa.Table) -> Ids:
    return Ids(table["generation"].to_numpy(), table["offset"].to_numpy())
