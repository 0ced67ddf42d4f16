"""Plots of a drift look: how far each figure is from its floor, and both windows of each drifted feature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from console.plots.figure import GREY, RED, new_axes, write_figures
from core.features import spec
from core.times import DAY_MS, minute_text
from learners.drift.compare import FeatureDrift
from learners.drift.look import Look
from learners.drift.policy import POLICIES, SCORE, DriftConfig
from learners.drift.rows import Rows

FEATURES_MAX = 24
SMALLEST = 0.05
"""Where the axis of effects begins, in multiples of the floor."""


def write_plots(look: Look, before: Rows, now: Rows, directory: Path) -> list[Path]:
    """Write effects.png, and <feature>.png for each drifted feature (at most `FEATURES_MAX`).

    before, now: rows that hold the look's windows (`Looker.rows`). Creates the directory if it is missing. Returns the
    files. Raises BadInput if they can't be written.
    """
    figures: dict[str, Any] = {}
    tall = max(4.0, 1.5 + 0.13 * sum(each.state == "tested" for each in look.findings))
    _effects(new_axes(figures, "effects", 9, tall), look)
    for each in [f for f in look.drifted if f.feature in (*spec.NAMES, SCORE)][:FEATURES_MAX]:
        reference, current = look.windows(each)
        rows = before.between(reference.start, reference.end), now.between(current.start, current.end)
        _windows(new_axes(figures, each.feature, 9, 4.5), each, *rows)
    return write_figures(directory, figures)


def _effects(axes: Any, look: Look) -> None:
    """The largest effect of each tested figure, in multiples of its floor, on a logarithmic axis, so that one large
    effect does not flatten the rest; above 1, an effect with enough evidence is drift.
    """
    config = DriftConfig()
    tested = [each for each in look.findings if each.state == "tested" and each.effects]
    heights = [max(effect / config.levels[name][0] for name, effect in each.effects.items()) for each in tested]
    order = np.argsort(heights, kind="stable")
    names = [f"{tested[i].feature} ({tested[i].window_ms / DAY_MS:g} d)" for i in order]
    colours = [RED if tested[i].drifted else GREY for i in order]
    axes.barh(names, [max(heights[i] - SMALLEST, 0.0) for i in order], left=SMALLEST, color=colours)
    axes.set_xscale("log")
    axes.set_xlim(SMALLEST, 1.2 * max([*heights, 1.0]))
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xlabel("largest effect size / floor (red: drifted; grey above 1: too little evidence)")
    axes.tick_params(axis="y", labelsize=7)
    axes.margins(y=0.01)
    windows = [f"{minute_text(w.start)} … {minute_text(w.end)}" for w in (look.current, look.reference)]
    title = (
        f"current    {look.rows:,} decisions of {windows[0]}\nreference {look.reference_rows:,} of {windows[1]} (UTC)"
    )
    axes.set_title(title, fontsize=9, loc="left")


def _windows(axes: Any, each: FeatureDrift, before: Rows, now: Rows) -> None:
    a, b = (_values(each.feature, rows) for rows in (before, now))
    policy = POLICIES.get(each.feature)
    if policy is not None and policy.kind == "categorical":
        _bars(axes, a, b, policy.categories)
    else:
        _curves(axes, a, b)
    effects = ", ".join(f"{name} {effect:.2f}" for name, effect in each.effects.items())
    axes.set_xlabel(f"{each.feature}, last {each.window_ms / DAY_MS:g} d")
    axes.set_title(
        f"{each.feature}: {each.severity}\n{effects}, p {each.p_value_adjusted:.1g}", fontsize=10, loc="left"
    )
    axes.legend(frameon=False)


def _values(feature: str, rows: Rows) -> NDArray[Any]:
    return rows.margins if feature == SCORE else rows.columns[spec.index(feature)]


def _curves(axes: Any, a: NDArray[Any], b: NDArray[Any]) -> None:
    """Both distribution functions without missing values, whose share is in the legend."""
    for values, colour, name in ((a, GREY, "reference"), (b, RED, "current")):
        held = np.sort(values[~np.isnan(values)])
        missing = 1.0 - len(held) / max(len(values), 1)
        label = f"{name} ({missing:.1%} missing)" if missing else name
        axes.plot(held, np.arange(1, len(held) + 1) / max(len(held), 1), color=colour, label=label, linewidth=1.5)
    everything = np.concatenate([a, b])
    everything = everything[~np.isnan(everything)]
    if len(everything) and everything.min() >= 0 and np.percentile(everything, 99) > 20 * max(np.median(everything), 1):
        axes.set_xscale("symlog")
    axes.set_ylabel("cumulative share")


def _bars(axes: Any, a: NDArray[Any], b: NDArray[Any], categories: tuple[float, ...]) -> None:
    """The share of each category and of missing values, side by side."""
    places = np.arange(len(categories) + 1)
    for values, colour, name, shift in ((a, GREY, "reference", -0.2), (b, RED, "current", 0.2)):
        shares = [*((values == c).mean() for c in categories), np.isnan(values).mean()]
        axes.bar(places + shift, shares, width=0.4, color=colour, label=name)
    axes.set_xticks(places, [*(f"{c:g}" for c in categories), "missing"], fontsize=8)
    axes.set_ylabel("share")
