"""A what-if as a plot: rates and money by day, logged and hypothetical."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from console.plots.figure import GREEN, GREY, RED, date_axis, new_figure, write_figure
from console.whatif_report import Line, Report


def write_plot(r: Report, path: Path) -> None:
    """Alert rate, recall, precision and money by day as one PNG. Raises BadInput if it can't be written."""
    days = np.array([line.day for line in r.days], dtype="datetime64[D]")
    figure = new_figure(10, 7)
    panels = figure.subplots(2, 2, sharex=True).ravel()
    for axes, name, label in zip(
        panels,
        ("alert_rate", "recall", "precision"),
        ("alert rate, %", "recall, %", "precision, %"),
        strict=False,
    ):
        _lines(axes, days, r.days, name, label)
    money = panels[3]
    money.bar(days, [line.money.saved for line in r.days], color=GREEN, label="saved")
    money.bar(days, [-line.money.lost for line in r.days], color=RED, label="lost")
    money.axhline(0, color="black", linewidth=0.8)
    money.set_ylabel("money")
    for axes in panels:
        date_axis(axes)
        axes.grid(axis="y", alpha=0.3)
        axes.legend(fontsize=8, loc="best")
    figure.suptitle(
        f"what if {'; '.join(r.changes) or 'nothing changed'}\n{r.total.decisions:,} decisions,"
        f" {r.total.frauds:,} frauds, {r.total.changed:,} changed decisions",
        fontsize=10,
    )
    write_figure(path, figure)


def _lines(axes: Any, days: Any, lines: list[Line], name: str, label: str) -> None:
    for words, colour, style in (("logged", GREY, "-"), ("what if", RED, "--")):
        side = "logged" if words == "logged" else "whatif"
        values = [getattr(getattr(line, side), name) for line in lines]
        percent = [float("nan") if v is None else 100 * v for v in values]
        axes.plot(days, percent, style, color=colour, marker="o", markersize=3, linewidth=1.5, label=words)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(label)
