"""A profile as pictures: one PNG a breakdown, drawn without a display. Nothing is counted here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from core.errors import BadInput
from sources.analysis import Profile, Slice

VOLUME_COLOUR = "#c9d4e2"
FRAUD_COLOUR = "#c0392b"
DOTS_PER_INCH = 120


def write_plots(profile: Profile, directory: Path) -> list[Path]:
    """Write hours.png, weekdays.png, amounts.png, days.png and (if there are frauds) scenarios.png.

    The directory is made if it is missing. Returns the files. Raises BadInput if they can't be written.
    """
    drawings: dict[str, Callable[[Any], None]] = {
        "hours": lambda axes: _bars(axes, profile.hours, "hour of the day (UTC)"),
        "weekdays": lambda axes: _bars(axes, profile.weekdays, "weekday (UTC)"),
        "amounts": lambda axes: _bars(axes, profile.amounts, "amount"),
        "days": lambda axes: _days(axes, profile.days),
    }
    if profile.scenarios:
        drawings["scenarios"] = lambda axes: _scenarios(axes, profile.scenarios)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return [_draw(directory / f"{name}.png", draw, profile) for name, draw in drawings.items()]
    except OSError as error:
        raise BadInput(f"{error.filename or directory}: {error.strerror}") from error


def _draw(path: Path, draw: Callable[[Any], None], profile: Profile) -> Path:
    # Figures without pyplot: no global state, no display, safe in any thread.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    draw(axes)
    frauds = f"{profile.frauds:,} frauds ({profile.fraud_rate:.2%})"
    axes.set_title(f"{profile.source}: {profile.transactions:,} transactions, {frauds}", fontsize=10, loc="left")
    figure.savefig(path)
    return path


def _bars(axes: Any, rows: Sequence[Slice], label: str) -> None:
    """Transactions as bars, the fraud rate as a line on a second axis."""
    places = range(len(rows))
    axes.bar(places, [row.transactions for row in rows], color=VOLUME_COLOUR)
    axes.set_xticks(places, [row.name for row in rows])
    axes.tick_params(axis="x", labelsize=8, rotation=20 if max(len(row.name) for row in rows) > 5 else 0)
    axes.set_xlabel(label)
    axes.set_ylabel("transactions")
    _rate_line(axes, places, rows, marker="o")


def _days(axes: Any, rows: Sequence[Slice]) -> None:
    import numpy as np
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    dates = np.array([row.name for row in rows], dtype="datetime64[D]")
    axes.bar(dates, [row.transactions for row in rows], color=VOLUME_COLOUR, width=1.0)
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.set_xlabel("day (UTC)")
    axes.set_ylabel("transactions")
    _rate_line(axes, dates, rows, marker="")


def _rate_line(axes: Any, places: Any, rows: Sequence[Slice], marker: str) -> None:
    rate = axes.twinx()
    values = [100 * row.fraud_rate if row.transactions else float("nan") for row in rows]
    rate.plot(places, values, color=FRAUD_COLOUR, marker=marker, markersize=4, linewidth=1.5)
    rate.set_ylim(bottom=0)
    rate.set_ylabel("fraud rate, %", color=FRAUD_COLOUR)
    rate.tick_params(axis="y", colors=FRAUD_COLOUR)


def _scenarios(axes: Any, rows: Sequence[Slice]) -> None:
    names = [row.name or "(not named)" for row in rows][::-1]
    bars = axes.barh(names, [row.frauds for row in rows][::-1], color=FRAUD_COLOUR)
    axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
    axes.set_xlabel("frauds")
