"""Files of verdicts as rows with their line numbers: CSV, JSON lines, Parquet. Rows are not validated here.

A row that can't be read at all becomes a row with `broken` set, and reading continues after it. Empty CSV cells and
nulls are left out. Line numbers start at 1 and include a CSV's header; in a Parquet file they are row numbers.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import UNDECODABLE, BadInput
from core.times import to_epoch_ms
from sources.lines import LINE_MAX, bounded_lines

COLUMNS = (
    "transaction_id",
    "account_id",
    "verdict",
    "source",
    "actor",
    "occurred_at",
    "confidence",
    "amount",
    "currency",
    "merchant_id",
    "device_id",
    "transaction_occurred_at",
    "reason",
)
BATCH_ROWS = 10_000
_NUMBERS = ("occurred_at", "confidence", "amount", "transaction_occurred_at")


class Row(NamedTuple):
    """One row: its values by column. broken: (reason code, detail) if it could not be read."""

    line: int
    values: dict[str, Any]
    broken: tuple[str, str] | None = None


def read_rows(path: Path) -> Iterator[Row]:
    """The file's rows; its suffix determines the format. Raises BadInput if it can't be opened or has unknown columns;
    a later error ends the rows with a broken one.
    """
    reader = {".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet, ".pq": _parquet}.get(
        path.suffix.lower()
    )
    if reader is None:
        raise BadInput(f"{path}: unknown format: the file's name must end in .csv, .jsonl or .parquet")
    try:
        rows = reader(path)
        first = next(rows, None)
    except (OSError, pa.ArrowException) as error:
        raise BadInput(f"{path}: can't be read: {_first_line(error)}") from None
    return _guarded(path, first, rows)


def _guarded(path: Path, first: Row | None, rows: Iterator[Row]) -> Iterator[Row]:
    if first is None:
        return
    line = first.line
    yield first
    try:
        for row in rows:
            line = row.line
            yield row
    except BadInput as error:  # a line that is too long
        yield Row(line + 1, {}, ("unreadable", f"can't be read from here on: {error}"))
    except (OSError, pa.ArrowException) as error:
        yield Row(line + 1, {}, ("unreadable", f"{path} can't be read from here on: {_first_line(error)}"))


def _first_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or ["?"])[0]


def check_columns(path: Path, names: list[str]) -> None:
    """Raise BadInput if a column is unknown or repeated, or transaction_id is missing."""
    for name in names:
        if name not in COLUMNS:
            raise BadInput(f"{path}: unknown column {name!r}; known: {', '.join(COLUMNS)}")
        if names.count(name) > 1:
            raise BadInput(f"{path}: the column {name!r} appears twice")
    if "transaction_id" not in names:
        raise BadInput(f"{path}: the column transaction_id is missing")


def _csv(path: Path) -> Iterator[Row]:
    # Bytes that are not UTF-8 become lone surrogates, which the validation of the row refuses.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(bounded_lines(file, str(path)), strict=True)
        try:
            header = next(reader, None)
        except csv.Error as error:
            raise BadInput(f"{path}: line 1 is not CSV: {error}") from None
        if header is None:
            raise BadInput(f"{path}: the file is empty; its first line names the columns")
        names = [name.strip() for name in header]
        check_columns(path, names)
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Row(line, {}, ("not_csv", str(error)))
                continue
            if not cells:
                continue
            values = {name: cell.strip() for name, cell in zip(names, cells, strict=False) if cell.strip()}
            if len(cells) != len(names):
                yield Row(line, values, ("wrong_cells", f"{len(cells)} cells under {len(names)} columns"))
            else:
                yield Row(line, values)


def json_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number, line) of every line that is not blank. Raises OSError; BadInput as `bounded_lines`."""
    with path.open("rb") as file:
        for line, text in enumerate(bounded_lines(file, str(path)), 1):
            if text.strip():
                yield line, text.strip()


def _json_lines(path: Path) -> Iterator[Row]:
    for line, text in json_lines(path):
        try:
            values = msgspec.json.decode(text.removeprefix(b"\xef\xbb\xbf"))
        except UNDECODABLE as error:
            yield Row(line, {}, ("not_json", str(error)))
            continue
        if not isinstance(values, dict):
            yield Row(line, {}, ("wrong_type", "the line is not a JSON object"))
        else:
            yield Row(line, {name: value for name, value in values.items() if value is not None})


def _parquet(path: Path) -> Iterator[Row]:
    with pq.ParquetFile(path) as file:
        check_columns(path, list(file.schema_arrow.names))
        line = 0
        for batch in file.iter_batches(BATCH_ROWS):
            for values in batch.to_pylist():
                line += 1
                yield Row(line, {n: _plain(n, v) for n, v in values.items() if v is not None})


def _plain(name: str, value: Any) -> Any:
    """A Parquet cell as CSV or JSON would represent it: times in epoch ms, numbers as float, IDs as text."""
    if isinstance(value, datetime):
        return to_epoch_ms(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, int) and not isinstance(value, bool) and name not in _NUMBERS:
        return str(value)
    return value


csv.field_size_limit(LINE_MAX)
