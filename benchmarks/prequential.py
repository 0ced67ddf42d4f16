"""Adaptive against frozen over the complete Handbook file, week by week: what does retraining gain?

    python -m benchmarks.prequential PATH [--plot FILE.svg] [--json]

Every payment is decided in order of time into a log in memory (features as logged, verdicts 7 days late). Then, for
each week [T, T + 7 d) from the first that can be tested:

    frozen     one model, trained once on the first month, with the labels known a week after it
    adaptive   retrained at T on the TRAIN_DAYS days before T − 7 d, with the labels known at T

Both score the same payments: those of the week without cards known to be compromised by then. Predict first, learn
later (Dawid 1984, prequential): no row is scored by a model that saw it or its label. Measures are AUC ROC, average
precision and card precision@100, of each week and over all weeks together: rows are pooled for the first two (the
models' margins are log-odds of the same event), days for the third.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from console import wiring
from console.bench import handbook
from console.plots.figure import BLUE, RED, new_figure
from core.control import Resolver
from core.errors import BadInput
from core.log.memory import MemoryLog
from core.times import DAY_MS, WEEK_MS
from ingest.offline import OfflineIngest
from learners import metrics
from learners.training.dataset import TrainingSet, as_known, labelled
from learners.training.reading import read
from learners.training.splits import Split, known_compromised
from sources.catalogue import open_source

FIRST_MONTH_DAYS = 30
TRAIN_DAYS = 28
MODELS = ("adaptive", "frozen")
MEASURES = ("auc_roc", "average_precision", f"card_precision_{handbook.CARDS_A_DAY}")

Report = Callable[[str], object]


def decided(path: Path, hours: int, report: Report) -> TrainingSet:
    """Every decision of the file with its verdicts, in order of event time."""
    log = MemoryLog()
    offline = OfflineIngest(
        log, Resolver(log.get_blob, wiring.load_scorer), partitions=handbook.PARTITIONS, reference_hours=hours
    )
    for chunk in open_source("handbook", path=path, flush_feedback=True).records():
        offline.feed(chunk)
    offline.flush()
    report("the file is decided")
    return read(log, range(handbook.PARTITIONS), clock="event")


def weeks(data: TrainingSet, report: Report = lambda text: None) -> list[dict[str, Any]]:
    """Each test week's measures by model. Raises BadInput if the data end before the first week."""
    origin = int(data.times[0]) // DAY_MS * DAY_MS
    end = int(data.times[-1]) + 1
    month_end = origin + FIRST_MONTH_DAYS * DAY_MS
    start = month_end + WEEK_MS
    if start + WEEK_MS > end:
        raise BadInput(f"{(end - origin) / DAY_MS:.0f} days are too few: the first tested week begins on day 37")
    frozen = _fit(data, origin, month_end, start)
    rows = []
    while start + WEEK_MS <= end:
        split = Split(start - 2 * WEEK_MS, start - WEEK_MS, start, start + WEEK_MS)
        around = data.between(split.start, split.end)
        around = as_known(around, split.end + WEEK_MS)  # the week's final labels
        test = around.rows((around.times >= start) & ~known_compromised(around, split))
        trained = _fit(data, max(origin, start - WEEK_MS - TRAIN_DAYS * DAY_MS), start - WEEK_MS, start)
        scores = {"adaptive": trained(test.features), "frozen": frozen(test.features)}
        rows.append({"start_ms": start, "test": test, "scores": scores})
        report(f"week {len(rows)}: {len(test):,} payments, {int(test.labels.sum())} frauds")
        start += WEEK_MS
    return rows


def _fit(data: TrainingSet, start: int, end: int, now: int) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """The product's scorer of a model trained on [start, end) with the labels known at `now`."""
    content = handbook.train(labelled(as_known(data.between(start, end), now)))
    return wiring.load_scorer(content, "prequential-1.0.0", hashlib.sha256(content).hexdigest()).margins


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures by week and over all weeks, and in how many weeks adaptive is ahead."""
    by_week = [
        {
            "start_ms": row["start_ms"],
            "rows": len(row["test"]),
            "frauds": int(row["test"].labels.sum()),
            **{model: handbook.measure(row["test"], row["scores"][model]) for model in MODELS},
        }
        for row in rows
    ]
    labels = np.concatenate([row["test"].labels for row in rows])
    overall = {}
    for model in MODELS:
        scores = np.concatenate([row["scores"][model] for row in rows])
        overall[model] = {
            MEASURES[0]: metrics.roc_auc(labels, scores),
            MEASURES[1]: metrics.average_precision(labels, scores),
            MEASURES[2]: float(np.mean([week[model][MEASURES[2]] for week in by_week])),
        }
    ahead = {
        measure: {
            "ahead": sum(week["adaptive"][measure] > week["frozen"][measure] for week in by_week),
            "equal": sum(week["adaptive"][measure] == week["frozen"][measure] for week in by_week),
        }
        for measure in MEASURES
    }
    return {"weeks": by_week, "overall": overall, "adaptive_ahead": ahead, "train_days": TRAIN_DAYS}


def table(result: dict[str, Any]) -> str:
    """The result as text."""
    lines = [f"{'week of':<12}{'rows':>9}{'frauds':>8}" + "".join(f"{m + ' adaptive/frozen':>38}" for m in MEASURES)]
    for week in result["weeks"]:
        day = np.datetime64(week["start_ms"], "ms").astype("datetime64[D]")
        cells = "".join(f"{week['adaptive'][m]:>28.4f} / {week['frozen'][m]:.4f} " for m in MEASURES)
        lines.append(f"{day!s:<12}{week['rows']:>9,}{week['frauds']:>8}{cells}")
    cells = "".join(
        f"{result['overall']['adaptive'][m]:>28.4f} / {result['overall']['frozen'][m]:.4f} " for m in MEASURES
    )
    lines.append(f"{'all':<29}{cells}")
    count = len(result["weeks"])
    won = ", ".join(f"{m} in {result['adaptive_ahead'][m]['ahead']} of {count} weeks" for m in MEASURES)
    lines.append(f"adaptive ahead: {won}")
    return "\n".join(lines)


def plot(result: dict[str, Any], path: Path) -> None:
    """Week by week, one panel per measure, as SVG or PNG by the file's suffix."""
    from matplotlib import rc_context

    figure = new_figure(7.5, 7.0)
    panels = figure.subplots(len(MEASURES), 1, sharex=True)
    at = [np.datetime64(week["start_ms"], "ms").astype("datetime64[D]").astype(object) for week in result["weeks"]]
    for axes, measure in zip(panels, MEASURES, strict=True):
        for model, colour in (("adaptive", BLUE), ("frozen", RED)):
            axes.plot(at, [week[model][measure] for week in result["weeks"]], marker="o", color=colour, label=model)
        axes.set_ylabel(measure)
        axes.grid(alpha=0.3)
    panels[0].legend(loc="lower right")
    panels[0].set_title("Handbook data, week by week: retrained weekly or frozen after the first month")
    figure.autofmt_xdate()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "prequential"}):  # small, and reproducible
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Adaptive against frozen, week by week.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(None if arguments is None else list(arguments))
    data = decided(options.path, handbook.REFERENCE_HOURS, print if not options.json else lambda text: None)
    result = summary(weeks(data, print if not options.json else lambda text: None))
    if options.plot is not None:
        plot(result, options.plot)
    print(msgspec.json.encode(result).decode() if options.json else table(result))


if __name__ == "__main__":
    main()
