"""An experiment's report as text and pictures; `sentinel experiment show` and `sentinel query experiment` share it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from console.tables import print_fields, print_table, span_text, time_text
from core.errors import BadInput
from core.times import utc
from learners.experiments.report import Report, paths
from learners.experiments.verdict import METRICS
from projections.views.experiments_answers import ExperimentAnswer

BLUE, RED, GREY = "#2c5f8a", "#c0392b", "#9aa5b1"
DOTS_PER_INCH = 110
POINTS_MAX = 2_000
"""Points a curve is drawn with at most."""


def print_report(report: Report) -> None:
    """Exposure, sample ratio, gains with intervals, verdict."""
    definition = report.definition
    rows: list[dict[str, Any]] = [
        {
            "arm": row.name,
            "model": row.model,
            "share": f"{row.share:.1%}",
            "exposed": f"{row.exposed:,}",
            "expected": f"{row.expected:,.0f}",
            "mature": f"{row.mature:,}",
            **{metric: f"{value:.3%}" if value == value else "" for metric, value in row.means.items()},
        }
        for row in report.arms
    ]
    print_table(("arm", "model", "share", "exposed", "expected", "mature", *METRICS), rows)
    print_table(
        ("arm", "metric", "role", "gain", "from", "to", "p_better", "p_worse"),
        [
            {
                "arm": f.arm,
                "metric": f.metric,
                "role": "primary" if f.metric == definition.primary else _role(f.metric, definition.guardrails),
                "gain": f"{f.gain:+.4%}" if f.gain == f.gain else "",
                "from": f"{f.interval.low:+.4%}",
                "to": f"{f.interval.high:+.4%}",
                "p_better": f"{f.p_better:.2g}",
                "p_worse": f"{f.p_worse:.2g}",
            }
            for f in report.findings
        ],
    )
    print_table(
        ("when", "action", "traffic", "actor", "reason"),
        [
            {**msgspec.to_builtins(c), "when": time_text(c.occurred_at), "traffic": f"{c.traffic / 100:g} %"}
            for c in report.changes
        ],
    )
    ratio = report.sample_ratio
    print_fields(
        {
            "experiment": f"{report.experiment_id} ({' '.join(filter(None, (report.state, report.conclusion)))})",
            "verdict": f"{report.verdict.action} {report.verdict.arm}".strip(),
            "because": "; ".join(report.verdict.reasons),
            "accounts count": f"with their first {span_text(definition.window_ms)} of event time; mature"
            f" {span_text(definition.window_ms + definition.maturity_ms)} of log time after their first transaction",
            "sample_ratio": f"p {ratio.p_anytime:.3g} at any time (chi-square now: {ratio.p_chi_square:.3g})",
            "excluded": report.excluded,
            "as_of": report.as_of,
        }
    )


def _role(metric: str, guardrails: tuple[str, ...]) -> str:
    return "guardrail" if metric in guardrails else ""


def draw(answer: ExperimentAnswer, directory: Path) -> list[str]:
    """Write exposure.png and one <arm>.png for each treated arm (gain and confidence sequence over time); their names.

    Raises BadInput if the files can't be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    definition = answer.experiment.definition
    figures: dict[str, Any] = {}
    figures["exposure.png"] = figure = Figure(figsize=(8, 4), layout="constrained")
    _exposure(figure.subplots(), answer)
    for treated in range(1, len(definition.arms)):
        found = paths(answer.experiment, answer.seen, treated)
        if not found:
            continue
        figure = Figure(figsize=(10, 7), layout="constrained")
        figure.suptitle(f"{definition.experiment_id}: {definition.arms[treated].name} against control")
        level = definition.alpha / (len(METRICS) * (len(definition.arms) - 1))
        for axes, metric in zip(figure.subplots(2, 2).ravel(), METRICS, strict=True):
            low, high = found[metric].intervals(level)
            gain = METRICS[metric] * found[metric].estimate
            ends = (low, high) if METRICS[metric] > 0 else (-high, -low)
            _gain(axes, metric, answer.seen.mature_at, gain, ends)
        figures[f"{definition.arms[treated].name}.png"] = figure
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            FigureCanvasAgg(figure).print_png(str(directory / name), metadata={"Software": ""})
    except OSError as error:
        raise BadInput(f"{directory}: can't be written: {error.strerror}") from None
    return list(figures)


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
    axes.set_title(f"{answer.experiment.definition.experiment_id} (dotted: started, ramped, ended)", fontsize=10)
    axes.set_ylabel("accounts exposed")
    if len(seen.exposed):
        axes.legend(frameon=False)
    _dated(axes)


def _dated(axes: Any) -> None:
    """Log time along x, dates and hours told once."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=UTC)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))
    axes.set_xlabel("log time, UTC", fontsize=8)


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
    _dated(axes)
