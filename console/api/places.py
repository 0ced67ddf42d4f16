"""Rows of the index: where their payments stand in the log, the payments there, and columns as a table.

Cost: one round trip for each partition that is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from console.api.views import Columns
from core.codec import decode_transaction
from core.events import Position, TransactionReceived
from core.log.base import EventLog
from core.log.paging import entries_at

PLACE = ("partition", "generation", "offset")
"""The columns of a table that say where a payment stands."""


class Row(NamedTuple):
    """A payment's place."""

    partition: int
    position: Position


def place_of(each: Mapping[str, Any]) -> Row:
    """The place of a table's row."""
    return Row(each["partition"], Position(each["generation"], each["offset"]))


def payments_at(log: EventLog, rows: Iterable[Row]) -> dict[Row, TransactionReceived]:
    """The payments at these places. Raises Corrupt if the log does not hold one."""
    wanted: dict[int, dict[Position, None]] = {}
    for row in rows:
        wanted.setdefault(row.partition, {})[row.position] = None
    read: dict[Row, TransactionReceived] = {}
    for partition, positions in wanted.items():
        for entry in entries_at(log, partition, "transactions", list(positions)):
            read[Row(partition, entry.id)] = decode_transaction(entry.payload)
    return read


def run_of(rows: NDArray[np.intp]) -> NDArray[np.intp] | slice:
    """The rows, or a slice if they follow one another, as in most periods: then nothing is copied."""
    if len(rows) > 0 and rows[-1] - rows[0] + 1 == len(rows):
        return slice(rows[0], rows[-1] + 1)
    return rows


def table(
    columns: Mapping[int, Columns], names: Sequence[str], chosen: Callable[[Columns], NDArray[np.bool_]]
) -> pl.DataFrame:
    """The named columns of the chosen rows, bool (n,), with their place and their number in the table, `row`. May be
    kept: rows of the index never change.
    """
    parts = []
    for partition, c in columns.items():
        at = run_of(np.flatnonzero(chosen(c)))
        part = pl.DataFrame({name: c[name][at] for name in (*PLACE[1:], *names)})
        parts.append(part.with_columns(partition=pl.lit(partition, pl.Int32)))
    return pl.concat(parts).with_row_index("row")
