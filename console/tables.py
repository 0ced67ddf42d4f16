"""How commands print answers: tables, fields, times and JSON, in one format everywhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from rich.table import Table

from console.terminal import console
from core.text import visible
from core.times import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, utc

WIDTH_PIPED = 240
"""Columns of a table that is not printed to a terminal."""


def print_json(answer: Any) -> None:
    """One JSON value on a line of its own."""
    print(msgspec.json.encode(answer).decode())


def time_text(epoch_ms: int) -> str:
    """ISO 8601 UTC to the second; "" for 0."""
    if not epoch_ms:
        return ""
    return utc(epoch_ms).isoformat(timespec="seconds").replace("+00:00", "Z")


def span_text(milliseconds: float) -> str:
    """A duration in its most readable unit."""
    for unit, size in (("d", DAY_MS), ("h", HOUR_MS), ("min", MINUTE_MS), ("s", SECOND_MS)):
        if milliseconds >= size:
            return f"{milliseconds / size:.3g} {unit}"
    return f"{milliseconds:.3g} ms"


def print_fields(values: Mapping[str, Any]) -> None:
    """One name and value per line."""
    width = max(20, *(len(name) for name in values)) if values else 20
    for name, value in values.items():
        text = (
            ", ".join(f"{visible(str(k))} {shown(v)}" for k, v in value.items())
            if isinstance(value, dict)
            else shown(value)
        )
        print(f"{visible(name):<{width}} {text}")


def print_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows under the given columns; prints nothing if there are no rows."""
    lines = [[shown(row[column]) for column in columns] for row in rows]
    if not lines:
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(visible(column))
    for line in lines:
        table.add_row(*line)
    console(width=None if sys.stdout.isatty() else WIDTH_PIPED).print(table)


def shown(value: Any) -> str:
    """A value as a table shows it; "" for None."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1 else f"{value:,.2f}"
    if isinstance(value, list | tuple):
        return " ".join(shown(v) for v in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else visible(str(value))
