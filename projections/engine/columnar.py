"""Reads the archive of a partition as columns, for projections that fold by columns (`Projection.columnar`).

A `ColumnarBatch` is the part of one segment that belongs to the requested batches. Decisions stay in columns; only
feedback and alerts, which are few, are decoded and placed at the rows where the feed (`projections.engine.feed`) would
place them: an account event before the first decision of its batch that saw it (the score's `f`), or else after the
batch's last decision.

If the columns do not determine the facts exactly, the fold stops before the segment and continues fact by fact, which
reports any fault precisely. This applies to a row that can't be decoded, an `f` that decreases or has no column, an ID
beyond 16 bits of generation or 48 of offset, and counts that differ from the seals'.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core.codec import decode_account_event, decode_alert, decode_score, decode_seal
from core.errors import Corrupt
from core.events import START, Position, Seal
from core.log.archive.archived import ArchivedLog
from core.log.archive.columns import SCORE, TRANSACTION
from core.log.archive.manifest import Row
from core.log.archive.segment import Segment
from core.log.base import Entry, EventLog, Stream
from projections.engine.base import CONTROL, ColumnarBatch, Fact, Place, Projection, S, fold
from projections.engine.feed import facts_between

SEGMENTS = 64
"""Segments folded before the state is updated, which bounds the memory for account events."""

_IDS = ("generation", "offset", "f_generation", "f_offset")
_DECODED = ("account_id", "decision")
"""Null where the transaction or the score can't be decoded."""

_RAW = ("raw_transaction", "raw_score")
_REPEATED = frozenset(
    name
    for name, column in (TRANSACTION | SCORE).items()
    if pa.types.is_string(column.type) and name not in ("transaction_id", "attributes")
)
_GENERATIONS, _OFFSETS = np.uint64(2**16), np.uint64(2**48)


class NotColumnar(Exception):
    """The segment's columns do not determine its facts exactly."""


def fold_between(
    projection: Projection[S], log: EventLog, source: int, after: Place, until: Place, state: S | None = None
) -> S:
    """Fold the facts between two places of a source into `state` (or a new one) and return it.

    Folds by columns where the projection can and the log is archived, fact by fact elsewhere; the state is the same.
    """
    state = projection.initial() if state is None else state
    while True:
        after, _ = fold_archived(projection, log, source, after, until, state)
        row = _row_after(log, source, after) if projection.columnar is not None else None
        if row is None or Place(row.last_sequence) >= until:
            return fold(projection, facts_between(log, source, after, until), state)
        end = Place(row.last_sequence)
        fold(projection, facts_between(log, source, after, end), state)
        after = end


def fold_archived(
    projection: Projection[S],
    log: EventLog,
    source: int,
    after: Place,
    until: Place,
    state: S,
    segments_max: int = SEGMENTS,
) -> tuple[Place, str]:
    """Fold whole archived batches after `after`, up to `until`, by columns into `state`, as far as possible.

    Returns the place reached, which is the end of a batch, and its mark; `after` and "" if nothing could be folded.
    """
    columnar = projection.columnar
    if columnar is None or source == CONTROL or after.inside or not isinstance(log, ArchivedLog):
        return after, ""
    log.begin(source, "seals")  # refuses an archive that does not belong to the log, and reads its newest manifest
    folding = columnar.begin(state, projection.handlers)
    place, mark = after, ""
    try:
        for row in _rows(log, source, after, until)[:segments_max]:
            last = min(until.sequence, row.last_sequence)
            segment = log.archive.segment(row)
            batch = _columnar_batch(segment, source, place.sequence, last, columnar.columns, projection.handlers)
            folding.take(batch)
            place, mark = batch.end, batch.mark
    except (NotColumnar, Corrupt):
        pass  # folding fact by fact will report where and why
    if place != after:
        folding.finish()
    return place, mark


def _rows(log: ArchivedLog, partition: int, after: Place, until: Place) -> list[Row]:
    rows = log.archive.rows(partition)
    return [row for row in rows if row.last_sequence > after.sequence and row.first_sequence <= until.sequence]


def _row_after(log: EventLog, source: int, place: Place) -> Row | None:
    """The archived segment with the batch after the place; None if it is not archived."""
    if source == CONTROL or not isinstance(log, ArchivedLog):
        return None
    return next((row for row in log.archive.rows(source) if row.last_sequence > place.sequence), None)


def _columnar_batch(
    segment: Segment, partition: int, after: int, until: int, columns: Sequence[str], handled: Collection[type]
) -> ColumnarBatch:
    """A segment's batches with after < sequence ≤ until. Raises NotColumnar, or Corrupt if it is inconsistent."""
    sealed = segment.read("seals", Position(after, 1), until - after, Position(until, 1))
    if not sealed or (sealed[0].id.generation, sealed[-1].id.generation) != (after + 1, until):
        raise Corrupt(f"partition {partition}: the segment lacks some of the seals {after + 1} … {until}")
    seals = [decode_seal(entry.payload) for entry in sealed]
    before = segment.get("seals", Position(after, 1))
    begin = decode_seal(before) if before is not None else None
    transactions = _bounds(begin.transactions if begin is not None else None, seals[-1].transactions)
    feedback = _bounds(begin.feedback if begin is not None else None, seals[-1].feedback)
    wanted = list(dict.fromkeys((*_IDS, *_DECODED, *columns)))
    table = segment.table([*wanted, *_RAW], *transactions, dictionaries=[c for c in wanted if c in _REPEATED])
    verdicts = segment.read("feedback", feedback[0], segment.count("feedback"), feedback[1])
    counts = np.array([seal.counts for seal in seals], dtype=np.int64)
    if [table.num_rows, len(verdicts)] != [counts[:, 0].sum(), counts[:, 2].sum()]:
        raise Corrupt(
            f"partition {partition}: the segment's entries differ from the counts of seals {after + 1} … {until}"
        )
    seen = _keys(table, "f_")
    _check_raw(table)
    if len(seen) and np.any(seen[1:] < seen[:-1]):
        raise NotColumnar
    return ColumnarBatch(
        decisions=table.select(wanted),
        alerts=_alerts(segment, transactions, _keys(table, "")),
        events=_events(partition, verdicts, seals, counts, seen, handled),
        end=Place(until),
        mark=seals[-1].digest,
    )


def _bounds(begin: str | None, end: str) -> tuple[Position, Position]:
    return (START if begin is None else Position.parse(begin)), Position.parse(end)


def _keys(table: pa.Table, prefix: str) -> NDArray[np.uint64]:
    """The table's IDs as one number each, in the order of the IDs."""
    generations, offsets = (table[f"{prefix}{part}"] for part in ("generation", "offset"))
    if generations.null_count or offsets.null_count:
        raise NotColumnar
    return _combined(generations.to_numpy(), offsets.to_numpy())


def _combined(generations: NDArray[np.uint64], offsets: NDArray[np.uint64]) -> NDArray[np.uint64]:
    if len(generations) and (generations.max() >= _GENERATIONS or offsets.max() >= _OFFSETS):
        raise NotColumnar
    return generations * _OFFSETS + offsets


def _keys_of(entries: Sequence[Entry]) -> NDArray[np.uint64]:
    pairs = np.array([entry.id for entry in entries], dtype=np.uint64).reshape(-1, 2)
    return _combined(pairs[:, 0], pairs[:, 1])


def _check_raw(table: pa.Table) -> None:
    """Raise NotColumnar unless entries stored as logged can be decoded and have the same `f` as their columns."""
    if all(table[name].null_count == len(table) for name in _RAW):
        return
    if any(table[name].null_count for name in _DECODED):
        raise NotColumnar
    columns: list[list[Any]] = [table[name].to_pylist() for name in ("raw_score", "f_generation", "f_offset")]
    for payload, generation, offset in zip(*columns, strict=True):
        if payload is None:
            continue
        try:
            seen = Position.parse(decode_score(payload).feedback_position)
        except (Corrupt, ValueError):
            raise NotColumnar from None
        if seen != (generation, offset):
            raise NotColumnar


def _alerts(segment: Segment, bounds: tuple[Position, Position], keys: NDArray[np.uint64]) -> list[tuple[int, Any]]:
    """Alerts by the row of their decision; orphan alerts are left out, as in the feed."""
    stream: Stream = "alerts"
    entries = segment.read(stream, bounds[0], segment.count(stream), bounds[1])
    if not entries:
        return []
    wanted = _keys_of(entries)
    rows = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    found = keys[rows] == wanted if len(keys) else np.zeros(len(wanted), dtype=np.bool_)
    pairs = zip(rows.tolist(), entries, found.tolist(), strict=True)
    return [(row, decode_alert(entry.payload)) for row, entry, is_there in pairs if is_there]


def _events(
    partition: int,
    verdicts: list[Entry],
    seals: list[Seal],
    counts: NDArray[np.int64],
    seen: NDArray[np.uint64],
    handled: Collection[type],
) -> list[tuple[int, Fact]]:
    if not verdicts:
        return []
    ends = np.cumsum(counts[:, 0])
    batch = np.repeat(np.arange(len(seals)), counts[:, 2])
    rows = np.searchsorted(seen, _keys_of(verdicts), "left")
    rows = np.clip(rows, ends[batch] - counts[batch, 0], ends[batch])
    found = []
    for row, of, entry in zip(rows.tolist(), batch.tolist(), verdicts, strict=True):
        event = decode_account_event(entry.payload)
        if type(event) in handled:
            found.append((row, Fact(partition, entry.id, seals[of].recorded_at, event)))
    return found
