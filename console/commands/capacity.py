"""`sentinel capacity`: what an installation needs for the payments that it must take (docs/capacity.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from console import capacity as planning
from console.capacity import FIGURES, MARGINS, Demand
from console.options import Json
from console.program_names import checked_file
from console.tables import print_fields, print_json
from core.program.library import kernel
from core.program.plan import layout
from core.settings import Settings


def capacity(
    payments_per_second: Annotated[float, typer.Option(help="At the busiest; sizes CPU.")],
    accounts: Annotated[int, typer.Option(help="Accounts that pay.")],
    payments_per_day: Annotated[
        float | None,
        typer.Option(help="On an average day; sizes memory and disk. Default: the busiest second, all day."),
    ] = None,
    hot_hours: Annotated[float, typer.Option(help="How long payments stay in the hot log (archive_hot_hours).")] = 24.0,
    archive_days: Annotated[float, typer.Option(help="How many days of archive to size.")] = 365.0,
    kafka_days: Annotated[float, typer.Option(help="Retention of the topic of payments.")] = 7.0,
    program: Annotated[
        Path | None, typer.Option(help="A program of your own, whose aggregates take memory and CPU.")
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="For a log with tokens (docs/privacy.md).")] = False,
    accounts_max: Annotated[
        int | None, typer.Option(help="Accounts that a partition holds (accounts_max). Default: the setting's.")
    ] = None,
    hot_bytes: Annotated[
        float, typer.Option(help="Bytes of your payments in the hot log, if you have measured them.")
    ] = FIGURES["hot"].value,
    archive_bytes: Annotated[
        float, typer.Option(help="The same in the archive: `sentinel archive` prints them.")
    ] = FIGURES["archive"].value,
    as_json: Json = False,
) -> None:
    """Work out partitions, workers, memory and disk for so many payments and accounts, from measured figures.

    Needs no servers. docs/capacity.md says how it is worked out, and how to measure your own.
    """
    held = layout(checked_file(program).checked, kernel()) if program is not None else None
    demand = Demand(
        payments_per_s=payments_per_second,
        payments_per_day=payments_per_second * planning.DAY_S if payments_per_day is None else payments_per_day,
        accounts=accounts,
        hot_hours=hot_hours,
        archive_days=archive_days,
        kafka_days=kafka_days,
        aggregates=0 if held is None else len(held.aggregates),
        program_bytes=0 if held is None or not held.aggregates else held.bytes_account,
        tokens=tokens,
        accounts_max=Settings().accounts_max if accounts_max is None else accounts_max,
        hot_bytes=hot_bytes,
        archive_bytes=archive_bytes,
    )
    found = planning.plan(demand)
    if as_json:
        figures = {name: each._asdict() for name, each in FIGURES.items()}
        margins = {name: {"value": value, "means": means} for name, (value, means) in MARGINS.items()}
        print_json({"demand": demand._asdict(), **found._asdict(), "figures": figures, "margins": margins})
        return
    print_fields({name: _shown(name, value) for name, value in found._asdict().items() if name != "notes"})
    for note in found.notes:
        print(f"note: {note}")


def _shown(name: str, value: Any) -> Any:
    """A value with its unit."""
    if "bytes" in name:
        return size_text(value)
    return f"{value:,.3g}" if isinstance(value, float) else value


def size_text(size: float) -> str:
    """A size in its most readable unit, of powers of 1,000."""
    for unit, large in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= large:
            return f"{size / large:.3g} {unit}"
    return f"{size:.0f} bytes"
