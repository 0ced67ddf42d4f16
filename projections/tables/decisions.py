"""Logged decisions as tables for people: one row each, with plain names and types, from archive and hot log alike.

Columns that are not asked for are not read. Rows of what does not decode here have nulls.

Cost: of a row of the archive, what its columns take; of the hot log, 20 µs, which is its JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.events import START, Position
from core.log.archive.columns import SCORE, TRANSACTION, feature_columns, feature_rows
from core.log.base import EventLog
from core.receipt import AHEAD_MS, BEHIND_MS
from projections.audit.stored_tables import Part, parts
from projections.audit.whatif import Scope
from projections.engine.as_of import Cut

TIME = pa.timestamp("ms", "UTC")
FEATURES = "features"
_HIDDEN = frozenset(("f_generation", "f_offset", "width"))
_LISTS = frozenset(("rules", "shadow_rules"))


class Period(NamedTuple):
    """start ≤ t < end, epoch ms; None is no bound."""

    start: int | None = None
    end: int | None = None


class Column(NamedTuple):
    """A column: its type, the archive's columns that it is made from, and how. make: of the table of these, and the
    partition's number.
    """

    type: pa.DataType
    reads: tuple[str, ...]
    make: Callable[[pa.Table, int], Any]


def _as_stored(name: str, kind: pa.DataType) -> Column:
    return Column(kind, (name,), lambda table, _: table[name].cast(kind))


def _listed(name: str) -> Column:
    def make(table: pa.Table, _: int) -> Any:
        text = table[name].cast(pa.string())
        split = pc.split_pattern(text, ",")
        return pc.if_else(pc.equal(text, ""), pa.scalar([], split.type), split)

    return Column(pa.list_(pa.string()), (name,), make)


def _position(prefix: str) -> Callable[[pa.Table, int], Any]:
    def make(table: pa.Table, _: int) -> Any:
        parts_of = (table[f"{prefix}{part}"].cast(pa.string()) for part in ("generation", "offset"))
        return pc.binary_join_element_wise(*parts_of, "-")

    return make


def _place(table: pa.Table, partition: int) -> Any:
    return pc.binary_join_element_wise(pa.scalar(f"p{partition:02d}"), _position("")(table, partition), ":")


def _plain(columns: Mapping[str, Any]) -> dict[str, Column]:
    return {
        name: _listed(name) if name in _LISTS else _as_stored(name, column.type)
        for name, column in columns.items()
        if name not in _HIDDEN
    }


_PLACE = {
    "place": Column(pa.string(), ("generation", "offset"), _place),
    "partition": Column(
        pa.int32(), ("generation",), lambda table, partition: pa.repeat(pa.scalar(partition, pa.int32()), len(table))
    ),
    "generation": _as_stored("generation", pa.uint64()),
    "position": _as_stored("offset", pa.uint64()),
}
_AMOUNT = {
    "amount_base": Column(
        pa.float64(), ("amount", "rate"), lambda table, _: pc.multiply(table["amount"], table["rate"].fill_null(1.0))
    )
}
_SEEN = {"f": Column(pa.string(), ("f_generation", "f_offset"), _position("f_"))}
_FEATURES = {FEATURES: Column(pa.list_(pa.float32()), ("width",), lambda table, _: table[FEATURES])}

TRANSACTIONS: dict[str, Column] = _PLACE | _plain(TRANSACTION) | _AMOUNT
_NAMED = {name: TRANSACTIONS[name] for name in ("received_at", "transaction_id", "account_id")}
SCORES: dict[str, Column] = _PLACE | _NAMED | _plain(SCORE) | _SEEN | _FEATURES
DECISIONS: dict[str, Column] = TRANSACTIONS | SCORES


def schema_of(columns: Mapping[str, Column]) -> pa.Schema:
    """The columns as a schema of Arrow."""
    return pa.schema([(name, column.type) for name, column in columns.items()])


def tables(
    log: EventLog,
    partition: int,
    until: Position,
    names: Sequence[str],
    scope: Scope,
) -> Iterator[pa.Table]:
    """The partition's decisions up to a position, part by part in log order, as a table of these columns. scope: rows
    of other event times may be left out.
    """
    for part in parts(log, partition, START, until, scope):
        yield columns_of(part, partition, names)


def all_tables(log: EventLog, cut: Cut, names: Sequence[str], period: Period) -> Iterator[pa.Table]:
    """`tables` of every partition up to the cut. Rows received in other times than the period may be left out."""
    for partition, bound in cut.partitions.items():
        yield from tables(log, partition, bound.transactions, names, scope_of(period))


def scope_of(period: Period) -> Scope:
    """The event times that payments received in a period can have."""
    return Scope(
        None if period.start is None else period.start - BEHIND_MS,
        None if period.end is None else period.end + AHEAD_MS,
    )


def columns_of(part: Part, partition: int, names: Sequence[str], rows: Any = None) -> pa.Table:
    """Columns of one part. rows: only these, by their numbers, ascending; None for all."""
    wanted = {name: DECISIONS[name] for name in names}
    reads = dict.fromkeys(read for column in wanted.values() for read in column.reads)
    table = part([*reads] or ["generation"])
    if FEATURES in wanted:
        table = table.append_column(FEATURES, _vectors(part, table["width"]))
    if rows is not None:
        table = table.take(rows)
    return pa.table({name: column.make(table, partition) for name, column in wanted.items()}, schema=schema_of(wanted))


def _vectors(part: Part, widths: pa.ChunkedArray) -> pa.Array:
    """Every row's stored features as a list; null where they don't decode."""
    sizes = widths.fill_null(0).to_numpy()
    count = int(sizes.max(initial=0))
    values, _ = feature_rows(part([*feature_columns(count), "width"]), count)
    is_stored = np.arange(count)[None, :] < sizes[:, None]
    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(ends), pa.array(values.T[is_stored]))
    return pc.if_else(pa.chunked_array([widths.is_valid().combine_chunks()]), lists, None)
