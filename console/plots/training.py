"""The model card's plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from console.plots.figure import BLUE, GREY, RED, new_axes, write_figures
from core.errors import BadInput
from core.times import DAY_MS, date_text
from learners import metrics
from learners.training.evaluation import HeldOut
from learners.training.training import Trained

ROWS_A_BIN = 10
FLOOR = 1e-5
"""Lower bound of probabilities on the logarithmic scale; smaller ones are drawn here."""


def write_plots(trained: Trained, directory: Path) -> list[str]:
    """Write calibration.png, precision_recall.png, importance.png and card_precision.png. Returns their names.

    Raises BadInput if the files can't be written, or if the model has no test period.
    """
    held, card = trained.held, trained.card
    if held is None:
        raise BadInput("this model has no test period; there is nothing to plot")
    figures: dict[str, Any] = {}
    _calibration(_axes(figures, "calibration"), held)
    _precision_recall(_axes(figures, "precision_recall"), held)
    _importance(_axes(figures, "importance"), card)
    _card_precision(_axes(figures, "card_precision"), card)
    return [path.name for path in write_figures(directory, figures)]


def _axes(figures: dict[str, Any], name: str) -> Any:
    axes = new_axes(figures, name, 6.4, 4.4)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes


def _calibration(axes: Any, held: HeldOut) -> None:
    axes.plot([FLOOR, 1.0], [FLOOR, 1.0], color=GREY, linewidth=1, label="perfect")
    edges = 10.0 ** np.arange(np.log10(FLOOR), 0.01, 0.5)[1:-1]
    for name, values, colour in (("before", held.uncalibrated, GREY), ("after", held.probabilities, BLUE)):
        bins = np.searchsorted(edges, values)
        rows_all = np.bincount(bins)
        drawn = np.flatnonzero(rows_all >= ROWS_A_BIN)
        rows = rows_all[drawn]
        predicted = np.maximum(np.bincount(bins, values)[drawn] / rows, FLOOR)
        frauds = np.bincount(bins[held.data.labels], minlength=len(rows_all))[drawn].astype(np.float64)
        low, high = metrics.wilson(frauds, rows)
        observed, low = np.maximum(frauds / rows, FLOOR), np.maximum(low, FLOOR)
        errors = [np.maximum(observed - low, 0.0), np.maximum(high - observed, 0.0)]
        axes.errorbar(predicted, observed, errors, fmt="o", markersize=4, color=colour, label=f"{name} calibration")
    axes.set(xscale="log", yscale="log", ylim=(FLOOR, 1.5))
    axes.set(xlabel="mean predicted probability", ylabel="share of fraud, 95 % interval")
    axes.set_title("Calibration on the test period, two bins per decade")
    axes.legend(frameon=False)


def _precision_recall(axes: Any, held: HeldOut) -> None:
    labels = held.data.labels
    curve = metrics.pr_curve(labels, held.probabilities)
    axes.step(curve.recall, curve.precision, where="post", color=BLUE)
    axes.axhline(float(labels.mean()), color=GREY, linewidth=1, linestyle="--")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_title(f"Precision and recall, average {metrics.average_precision(labels, held.probabilities):.3f}")


def _importance(axes: Any, card: dict[str, Any]) -> None:
    gains = dict(reversed(card["importance"].items()))
    axes.barh(list(gains), list(gains.values()), color=BLUE)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel("gain over all splits")
    axes.set_title("Most important features")


def _card_precision(axes: Any, card: dict[str, Any]) -> None:
    days, k = card["cards"]["days"], card["cards"]["k"]
    when = [date_text(day["day"] * DAY_MS)[5:] for day in days]
    places = np.arange(len(days))
    axes.bar(places, [min(day["compromised"] / k, 1.0) for day in days], color=GREY, label="best possible")
    axes.bar(places, [day["precision"] for day in days], color=RED, label=f"found in top {k}", width=0.6)
    step = max(1, len(days) // 12)
    axes.set_xticks(places[::step], when[::step], fontsize=8)
    axes.set_title(f"Card precision@{k} by day")
    axes.legend(frameon=False)
