"""Shared by all plots: figures without a display, colours, a time axis, files.

matplotlib is loaded when the first figure is created. pyplot is not used: no global state, safe in any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import Any

from core.errors import BadInput

BLUE, RED, GREEN, GREY, PALE = "#2c5f8a", "#c0392b", "#2e7d5b", "#8e9aab", "#c9d4e2"
DOTS_PER_INCH = 120


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib Figure; width and height in inches."""
    from matplotlib import rcParams
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rcParams["text.parse_math"] = False  # "$" in a name is no formula
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_axes(figures: dict[str, Any], name: str, width: float, height: float) -> Any:
    """The axes of a new single-panel figure, stored as `figures[name]`."""
    figures[name] = figure = new_figure(width, height)
    return figure.add_subplot()


def write_figures(directory: Path, figures: Mapping[str, Any]) -> list[Path]:
    """Write each figure as `<name>.png` and return the files. Creates the directory if it is missing.

    Raises BadInput if a file can't be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{error.filename or directory}: {error.strerror}") from error
    return [write_figure(directory / f"{name}.png", figure) for name, figure in figures.items()]


def write_figure(path: Path, figure: Any) -> Path:
    """Write one figure as PNG, without program name or time. Raises BadInput if it can't be written."""
    try:
        figure.savefig(path, format="png", metadata={"Software": None})
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    return path


def date_axis(axes: Any, label: str = "") -> None:
    """Put UTC time on the x axis, with concise date labels."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=UTC)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))
    axes.set_xlabel(label)
