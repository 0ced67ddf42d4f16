"""`sentinel sql`: one SELECT over the log, answered by DuckDB."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from console import log_options
from console.log_options import DIRECTORY, AsOf, opened_log
from console.options import Config, LogPrefix, RedisHost, RedisPort
from console.search_options import Csv, check_formats
from console.tables import print_table
from core.errors import BadInput
from core.text import csv_cell

if TYPE_CHECKING:
    import pyarrow as pa

    from projections.tables.sql import Result


def sql(
    context: typer.Context,
    statement: Annotated[str, typer.Argument(metavar="SELECT", help="For example: select * from decisions limit 5")],
    as_of: AsOf = None,
    limit: Annotated[int, typer.Option(help="Rows of a table that are shown; JSON and CSV have all.", min=1)] = 100,
    memory_mb: Annotated[
        int, typer.Option(help="Memory that the statement may take, in MB.", min=64, show_default=True)
    ] = 1024,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array of objects, one a row.")] = False,
    as_csv: Csv = False,
    config: Config = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
) -> None:
    """Ask the log in SQL (DuckDB's dialect): decisions, transactions, scores, alerts, feedback, rejects, seals and
    control are tables; `describe decisions` lists a table's columns.

    Nothing is written, and no file is read but the log. Only the columns that the statement names are read.
    """
    check_formats(as_json, as_csv)
    log_options.options(context, config, redis_host, redis_port, log_prefix, DIRECTORY)
    from projections.tables.sql import query  # loads DuckDB

    with opened_log(context) as log:
        found = query(log, statement, as_of=as_of, memory_mb=memory_mb)
        if as_json:
            _print_json(found)
        elif as_csv:
            _print_csv(found)
        else:
            _print_table(found, limit)


def _rows(found: Result) -> Iterator[dict[str, Any]]:
    names = found.schema.names
    for batch in found.batches:
        columns = [_values(name, column) for name, column in zip(names, batch.columns, strict=True)]
        for row in zip(*columns, strict=True):
            yield dict(zip(names, row, strict=True))


def _values(name: str, column: pa.Array) -> list[Any]:
    """The column's values. Raises BadInput for a time that Python does not have: infinity, or beyond the year 9999."""
    try:
        values: list[Any] = column.to_pylist()
    except (OverflowError, ValueError) as error:
        raise BadInput(f"column {name!r} can't be printed: {error}; make it text: cast(… as varchar)") from None
    return values


def _json(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()  # str: of times in nanoseconds


def _print_json(found: Result) -> None:
    between = "["
    for row in _rows(found):
        print(between + _json(row), end="")
        between = ","
    print("[]" if between == "[" else "]")


def _print_csv(found: Result) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(map(csv_cell, found.schema.names))
    for row in _rows(found):
        writer.writerow([csv_cell(_text(value)) for value in row.values()])


def _print_table(found: Result, limit: int) -> None:
    shown: list[dict[str, Any]] = []
    for row in _rows(found):
        if len(shown) == limit:
            print(f"sentinel: the first {limit:,} rows; --limit shows more, --json and --csv all", file=sys.stderr)
            break
        shown.append({name: _text(value) for name, value in row.items()})
    print_table(found.schema.names, shown)


def _text(value: Any) -> Any:
    """A cell: numbers as they are, times in ISO 8601, the rest as JSON."""
    if value is None or isinstance(value, str | int | float):
        return value
    text = _json(value)
    return text.strip('"') if text.startswith('"') else text
