"""Plots of a source's profile, one per breakdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from console.plots.figure import PALE, RED, date_axis, new_axes, write_figures
from sources.analysis import Profile, Slice


def write_plots(profile: Profile, directory: Path) -> list[Path]:
    """Write hours.png, weekdays.png, amounts.png, days.png and, if there are frauds, scenarios.png.

    Creates the directory if it is missing. Returns the files. Raises BadInput if they can't be written.
    """
    figures: dict[str, Any] = {}
    _bars(_axes(figures, "hours", profile), profile.hours, "hour of the day (UTC)")
    _bars(_axes(figures, "weekdays", profile), profile.weekdays, "weekday (UTC)")
    _bars(_axes(figures, "amounts", profile), profile.amounts, "amount")
    _days(_axes(figures, "days", profile), profile.days)
    if profile.scenarios:
        _scenarios(_axes(figures, "scenarios", profile), profile.scenarios)
    return write_figures(directory, figures)


def _axes(figures: dict[str, Any], name: str, profile: Profile) -> Any:
    axes = new_axes(figures, name, 9, 4.5)
    frauds = f"{profile.frauds:,} frauds ({profile.fraud_rate:.2%})"
    axes.set_title(f"{profile.source}: {profile.transactions:,} transactions, {frauds}", fontsize=10, loc="left")
    return axes


def _bars(axes: Any, rows: Sequence[Slice], label: str) -> None:
    """Transactions as bars, the fraud rate as a line on a second axis."""
    places = range(len(rows))
    axes.bar(places, [row.transactions for row in rows], color=PALE)
    axes.set_xticks(places, [row.name for row in rows])
    axes.tick_params(axis="x", labelsize=8, rotation=20 if max(len(row.name) for row in rows) > 5 else 0)
    axes.set_xlabel(label)
    axes.set_ylabel("transactions")
    _rate_line(axes, places, rows, marker="o")


def _days(axes: Any, rows: Sequence[Slice]) -> None:
    dates = np.array([row.name for row in rows], dtype="datetime64[D]")
    axes.bar(dates, [row.transactions for row in rows], color=PALE, width=1.0)
    date_axis(axes, "day (UTC)")
    axes.set_ylabel("transactions")
    _rate_line(axes, dates, rows, marker="")


def _rate_line(axes: Any, places: Any, rows: Sequence[Slice], marker: str) -> None:
    rate = axes.twinx()
    values = [100 * row.fraud_rate if row.transactions else float("nan") for row in rows]
    rate.plot(places, values, color=RED, marker=marker, markersize=4, linewidth=1.5)
    rate.set_ylim(bottom=0)
    rate.set_ylabel("fraud rate, %", color=RED)
    rate.tick_params(axis="y", colors=RED)


def _scenarios(axes: Any, rows: Sequence[Slice]) -> None:
    names = [row.name or "(unnamed)" for row in rows][::-1]
    bars = axes.barh(names, [row.frauds for row in rows][::-1], color=RED)
    axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
    axes.set_xlabel("frauds")
