"""An experiment as pictures: who was exposed, and each arm's gain with its confidence sequence."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from console.plots.figure import BLUE, GREY, RED, date_axis, new_axes, new_figure, write_figures
from core.times import utc
from learners.experiments.report import paths
from learners.experiments.verdict import METRICS
from projections.views.experiments_answers import ExperimentAnswer

POINTS_MAX = 2_000
"""Maximum number of points per curve."""


def write_plots(answer: ExperimentAnswer, directory: Path) -> list[str]:
    """Write exposure.png and <arm>.png per treated arm (gain and confidence sequence over time). Returns their names.

    Raises BadInput if the files can't be written.
    """
    definition = answer.experiment.definition
    figures: dict[str, Any] = {}
    _exposure(new_axes(figures, "exposure", 8, 4), answer)
    for treated in range(1, len(definition.arms)):
        found = paths(answer.experiment, answer.seen, treated)
        if not found:
            continue
        figure = new_figure(10, 7)
        figure.suptitle(f"{definition.experiment_id}: {definition.arms[treated].name} against control")
        level = definition.alpha / (len(METRICS) * (len(definition.arms) - 1))
        for axes, metric in zip(figure.subplots(2, 2).ravel(), METRICS, strict=True):
            low, high = found[metric].intervals(level)
            gain = METRICS[metric] * found[metric].estimate
            ends = (low, high) if METRICS[metric] > 0 else (-high, -low)
            _gain(axes, metric, answer.seen.mature_at, gain, ends)
        figures[definition.arms[treated].name] = figure
    return [path.name for path in write_figures(directory, figures)]


def _thinned(count: int) -> Any:
    return np.unique(np.linspace(0, count - 1, min(count, POINTS_MAX)).astype(np.int64))


def _times(at: Any) -> list[datetime]:
    return [utc(ms) for ms in at.tolist()]


def _exposure(axes: Any, answer: ExperimentAnswer) -> None:
    seen, arms = answer.seen, answer.experiment.definition.arms
    for index, (arm, colour) in enumerate(zip(arms, [GREY, BLUE, RED, *("black",) * len(arms)], strict=False)):
        at = seen.exposed_at[seen.exposed == index]
        if len(at):
            some = _thinned(len(at))
            axes.step(
                _times(at[some]), some + 1, where="post", color=colour, label=f"{arm.name} ({arm.share / 100:g} %)"
            )
    for change in answer.experiment.changes:
        axes.axvline(utc(change.occurred_at), color="black", lw=0.5, ls=":")
    axes.set_title(f"{answer.experiment.definition.experiment_id} (dotted: start, ramps, end)", fontsize=10)
    axes.set_ylabel("accounts exposed")
    if len(seen.exposed):
        axes.legend(frameon=False)
    date_axis(axes, "log time, UTC")


def _gain(axes: Any, metric: str, at: Any, gain: Any, ends: tuple[Any, Any]) -> None:
    some = _thinned(len(gain))
    when = _times(at[some])
    ends, gain = (100.0 * ends[0], 100.0 * ends[1]), 100.0 * gain
    axes.fill_between(when, ends[0][some], ends[1][some], color=BLUE, alpha=0.2, lw=0)
    axes.plot(when, gain[some], color=BLUE)
    axes.axhline(0.0, color="black", lw=0.8)
    reach = 3.0 * float(max(abs(ends[0][-1]), abs(ends[1][-1]), 1e-6))
    axes.set_ylim(-reach, reach)
    axes.set_title(f"{metric}: gain, percentage points (up is better)", fontsize=10)
    date_axis(axes, "log time, UTC")
