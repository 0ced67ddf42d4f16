"""All tables of the log, by name: what `sentinel sql`, `sentinel export` and notebooks can ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from core.errors import BadInput
from core.log.base import EventLog
from projections.engine.as_of import Cut
from projections.tables import decisions, events
from projections.tables.decisions import TIME, Column, Period


class Table(NamedTuple):
    """A table. time: the column by which it is cut into periods. read: the wanted columns up to a cut, part by part;
    rows outside of the period may be left out.
    """

    holds: str
    time: str
    schema: pa.Schema
    read: Callable[[EventLog, Cut, Sequence[str], Period], Iterator[pa.Table]]

    def within(self, log: EventLog, cut: Cut, names: Sequence[str], period: Period) -> Iterator[pa.Table]:
        """The wanted columns of the rows of a period, part by part."""
        time = pc.field(self.time)
        wanted = pc.scalar(True)
        if period.start is not None:
            wanted &= time >= pa.scalar(period.start, TIME)
        if period.end is not None:
            wanted &= time < pa.scalar(period.end, TIME)
        for table in self.read(log, cut, list(dict.fromkeys([*names, self.time])), period):
            found = table.filter(wanted)
            if len(found):
                yield found.select(names)


def _decided(columns: Mapping[str, Column], holds: str) -> Table:
    return Table(holds, "received_at", decisions.schema_of(columns), decisions.all_tables)


TABLES: dict[str, Table] = {
    "decisions": _decided(decisions.DECISIONS, "payments with what was decided on them: `transactions` and `scores`"),
    "transactions": _decided(decisions.TRANSACTIONS, "payments as received"),
    "scores": _decided(decisions.SCORES, "decisions: probability, rules that hit, model, program, features"),
    "alerts": Table(
        "alerts as they were raised",
        "timestamp",
        events.KINDS["alerts"].schema,
        partial(events.stream_tables, "alerts"),
    ),
    "feedback": Table(
        "verdicts, blocks, work on cases, outcomes of actions",
        "recorded_at",
        events.KINDS["feedback"].schema,
        partial(events.stream_tables, "feedback"),
    ),
    "rejects": Table(
        "messages that could not be accepted, and why",
        "recorded_at",
        events.KINDS["rejects"].schema,
        partial(events.stream_tables, "rejects"),
    ),
    "seals": Table(
        "one for each batch", "recorded_at", events.KINDS["seals"].schema, partial(events.stream_tables, "seals")
    ),
    "control": Table(
        "models, programs, thresholds, lists, tests, people", "occurred_at", events.CONTROL, events.control_tables
    ),
}


def table_named(name: str) -> Table:
    """The table. Raises BadInput."""
    found = TABLES.get(name)
    if found is None:
        raise BadInput(f"there is no table {name!r}; there are {', '.join(TABLES)}")
    return found


def markdown() -> str:
    """The tables of docs/sql.md."""
    rows = ["| table | holds | columns |", "|---|---|---|"]
    for name, table in TABLES.items():
        columns = ", ".join(f"`{field.name}`" for field in table.schema)
        rows.append(f"| `{name}` | {table.holds} | {columns} |")
    return "\n".join(rows) + "\n"
