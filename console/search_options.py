"""Options of the commands that search payments and alerts, and what they mean."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, get_args

import typer

from console.options import moment
from core.errors import BadInput
from core.text import csv_cell

From = Annotated[str | None, typer.Option("--from", metavar="TIME", help="Not before (2026-03-01T12:00Z, epoch ms).")]
To = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Before this time.")]
Account = Annotated[str | None, typer.Option("--account", help="Only this account's.")]
Rule = Annotated[str | None, typer.Option("--rule", metavar="CODE", help="Only those that this rule hit.")]
Grade = Annotated[str | None, typer.Option("--severity", help="low, medium, high or critical.")]
MinAmount = Annotated[float | None, typer.Option("--min-amount", help="At least, in the base currency.")]
MaxAmount = Annotated[float | None, typer.Option("--max-amount", help="At most, in the base currency.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")]


def period(start: str | None, end: str | None) -> tuple[int | None, int | None]:
    """The times of --from and --to, epoch ms. Raises BadInput."""
    first, last = moment("--from", start), moment("--to", end)
    if first is not None and last is not None and first >= last:
        raise BadInput(f"--from {start} must be before --to {end}")
    return first, last


def check_amounts(low: float | None, high: float | None) -> None:
    """Raise BadInput if no amount is between the two."""
    if low is not None and high is not None and low > high:
        raise BadInput(f"--min-amount {low:g} must not be above --max-amount {high:g}")


def one_of(option: str, text: str | None, kind: Any) -> Any:
    """The text if it is one of the literal's values; None if it is not given. Raises BadInput."""
    if text is not None and text not in get_args(kind):
        raise BadInput(f"{option} must be one of {', '.join(get_args(kind))}, not {text!r}")
    return text


def check_formats(as_json: bool, as_csv: bool) -> None:
    """Raise BadInput if both are asked for."""
    if as_json and as_csv:
        raise BadInput("--json and --csv exclude each other")


def plain_rows(frame: Any) -> list[dict[str, Any]]:
    """The rows of a Polars frame as the API writes them: times in epoch ms."""
    import polars.selectors as of

    rows: list[dict[str, Any]] = frame.with_columns(of.datetime().dt.epoch("ms")).to_dicts()
    return rows


def print_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """The rows as CSV with a header; values of a list are separated by spaces."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(map(csv_cell, columns))
    for row in rows:
        cells = (row[column] for column in columns)
        writer.writerow([csv_cell(" ".join(map(str, v)) if isinstance(v, list | tuple) else v) for v in cells])
