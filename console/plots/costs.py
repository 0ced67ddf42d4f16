"""The cost of thresholds as a picture: each family's cost by the share of payments reviewed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from console.plots.figure import BLUE, GREEN, GREY, new_axes, write_figure
from learners.training.costs import Comparison

_LABELS = {"probability": "by probability", "expected_loss": "by expected loss"}


def write_plot(found: Comparison, review_cost: float, path: Path) -> None:
    """Write the PNG. Raises BadInput if it can't be written."""
    figures: dict[str, Any] = {}
    axes = new_axes(figures, "costs", 8, 5)
    axes.set_title(f"Cost of reviews ({review_cost:g} each) and missed fraud")
    for one, colour in zip(found.curves, (GREY, BLUE), strict=True):
        axes.plot(100.0 * one.reviews / found.payments, one.cost, color=colour, label=_LABELS[one.by])
    for cost, colour, label in (
        (found.probability, GREY, "chosen on earlier payments"),
        (found.expected_loss, BLUE, "chosen on earlier payments"),
        (found.in_force, GREEN, "in force"),
    ):
        axes.plot(100.0 * cost.reviews / found.payments, cost.cost, "o", color=colour, label=label)
    most = max(cost.reviews for cost in (found.probability, found.expected_loss, found.in_force))
    axes.set_xlim(0.0, max(1.0, 300.0 * most / found.payments))
    shown = [one.cost[100.0 * one.reviews / found.payments <= axes.get_xlim()[1]] for one in found.curves]
    axes.set_ylim(0.0, 1.05 * float(max(np.max(cost) for cost in shown)))
    axes.set_xlabel("payments reviewed, %")
    axes.set_ylabel("cost, base currency")
    axes.legend()
    write_figure(path, figures["costs"])
