"""Reads columns of a segment's file of decisions without reading the rest of it: what a question about a few columns
of millions of rows costs. Each page's checksum is verified, not the file's SHA-256 (`sentinel verify` does that).

Parquet's statistics save work twice: row groups of other times are skipped, and a column that holds one value in all
rows is not decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import Corrupt
from core.events import Position
from core.log.archive.columns import ID, SCORE, TRANSACTION
from core.log.archive.segment import ids_of, with_columns

_REPEATED = [
    name
    for name, column in (TRANSACTION | SCORE).items()
    if pa.types.is_string(column.type) and name not in ("transaction_id", "attributes")
]
_CONSTANT = ("rate",)
"""Numbers that are no whole ones, of which statistics tell all: finite and not 0."""
HELD = 32
"""Columns of one value that are kept: segments of one size share them."""


class Range(NamedTuple):
    """The rows wanted: after < ID ≤ until, and start_ms ≤ event time < end_ms, in epoch ms; None is no bound. Rows of
    another time may be returned.
    """

    after: Position | None = None
    until: Position | None = None
    start_ms: int | None = None
    end_ms: int | None = None


EVERYTHING = Range()


def read_columns(source: Any, columns: Sequence[str], wanted: Range = EVERYTHING) -> pa.Table:
    """Columns of a segment's file of decisions, as `segment.Segment.table`. Strings that repeat are dictionary-encoded,
    as stored. Raises Corrupt.
    """
    try:
        file = pq.ParquetFile(source, page_checksum_verification=True, read_dictionary=_REPEATED)
        schema, metadata = file.schema_arrow, file.metadata
        places = {name: place for place, name in enumerate(schema.names)}
        held = [name for name in columns if name in places or not name.startswith("feature_")]
        groups = [g for g in range(metadata.num_row_groups) if may_hold(metadata.row_group(g), places, wanted)]
        is_bounded = wanted.after is not None or wanted.until is not None
        constant = {} if is_bounded or not groups else _constants(metadata, groups, places, held)
        read = list(dict.fromkeys([*held, *ID])) if is_bounded else [name for name in held if name not in constant]
        table = file.read_row_groups(groups, read, use_threads=False) if groups else schema.empty_table().select(read)
        for name, value in constant.items():
            table = table.append_column(name, _repeated(value, schema.field(name).type, len(table)))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise Corrupt(f"not a segment: {' '.join(str(error).split())}") from None
    if is_bounded:
        ids = ids_of(table)
        begin = 0 if wanted.after is None else ids.place(wanted.after)
        end = len(table) if wanted.until is None else ids.place(wanted.until)
        table = table.slice(begin, max(end - begin, 0))
    return with_columns(table, columns)


def may_hold(group: Any, places: dict[str, int], wanted: Range) -> bool:
    """Whether a row group may hold rows of the wanted time: rows that don't decode have none, and are always read."""
    if wanted.start_ms is None and wanted.end_ms is None:
        return True
    of = group.column(places["occurred_at"]).statistics
    if of is None or not of.has_min_max or of.null_count != 0:
        return True
    return (wanted.end_ms is None or of.min_raw < wanted.end_ms) and (
        wanted.start_ms is None or of.max_raw >= wanted.start_ms
    )


def _constants(metadata: Any, groups: Sequence[int], places: dict[str, int], columns: Sequence[str]) -> dict[str, Any]:
    """The columns that hold one value in all rows, by the statistics of their row groups; text and whole numbers only,
    whose statistics are exact, and `_CONSTANT`. At least one other column is left to be read.
    """
    found: dict[str, Any] = {}
    for name in columns[:-1]:
        place = places[name]
        of = metadata.schema.column(place)
        logical = str(of.logical_type)
        is_whole = of.physical_type == "INT64" and "Timestamp" not in logical
        if not (is_whole or logical == "String" or name in _CONSTANT):
            continue
        value = _only(metadata.row_group(groups[0]).column(place).statistics)
        others = (metadata.row_group(g).column(place).statistics for g in groups[1:])
        if value is not None and all(_only(each) == value for each in others):
            found[name] = value
    return found


def _only(statistics: Any) -> Any:
    """The value that all rows of a column chunk have; None if the statistics don't tell."""
    if statistics is None or not statistics.has_min_max or statistics.null_count != 0:
        return None
    low, high = statistics.min, statistics.max
    return None if low != high or (isinstance(low, float) and low == 0.0) else low


@lru_cache(maxsize=HELD)
def _repeated(value: Any, kind: Any, count: int) -> pa.Array:
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(np.zeros(count, dtype=np.int32), pa.array([value], kind.value_type))
    return pa.repeat(pa.scalar(value, kind), count)
