"""How commands print answers: tables, fields, times and JSON, the same everywhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

WIDTH_PIPED = 240
"""Columns of a table whose reader is no terminal."""


def print_json(answer: Any) -> None:
    """One JSON value on a line of its own."""
    print(msgspec.json.encode(answer).decode())


def time_text(epoch_ms: int) -> str:
    """ISO 8601 UTC to the second; "" for 0."""
    if not epoch_ms:
        return ""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def print_fields(values: Mapping[str, Any]) -> None:
    """A name and its value a line."""
    for name, value in values.items():
        text = ", ".join(f"{k} {shown(v)}" for k, v in value.items()) if isinstance(value, dict) else shown(value)
        print(f"{name:<20} {text}")


def print_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows under the columns named; nothing if there are none."""
    lines = [[shown(row[column]) for column in columns] for row in rows]
    if not lines:
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column)
    for line in lines:
        table.add_row(*line)
    Console(width=None if sys.stdout.isatty() else WIDTH_PIPED, markup=False).print(table)


def shown(value: Any) -> str:
    """A value as a table shows it; "" for None."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1 else f"{value:,.2f}"
    if isinstance(value, list | tuple):
        return " ".join(shown(v) for v in value)
    return "" if value is None else str(value)
