"""Adaptive against frozen, week by week: what does retraining gain, and where?

    python -m benchmarks.prequential handbook PATH [--plot FILE.svg] [--json]
    python -m benchmarks.prequential synthetic [--drift behaviour|mix|amount|hours|all|none] [--seed N] [--json]

Every payment is decided in order of time into a log in memory (features as logged, verdicts late). Then, for each week
[T, T + 7 d) from the first that can be tested:

    adaptive      retrained at T on the TRAIN_DAYS days before T − 7 d, with the labels known at T
    frozen        trained once, like adaptive at the beginning of the fair weeks: on days FAIR_DAYS, with the labels
                  known a week after them. The fair opponent: as many days, as much history, the same tables
    first month   trained once on the first FIRST_MONTH_DAYS days. A weak opponent: accounts had no history yet

All score the same payments: those of the week without cards known to be compromised by then. Predict first, learn
later (Dawid 1984, prequential): no row is scored by a model that saw it or its label. Measures are AUC ROC, average
precision and card precision@100, of each week and over all weeks together: rows are pooled for the first two (the
models' margins are log-odds of the same event), days for the third. The gain over the fair opponent has a 95 % interval
from a bootstrap over accounts, which keeps an account's payments together.

The synthetic stream changes on day DRIFT_DAY, the first of the fair weeks, in honest behaviour or in fraud.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from console import wiring
from console.bench import handbook
from console.plots.figure import BLUE, GREY, RED, new_figure
from core.context import Resolver
from core.control import DEFAULT_DECLINE, DEFAULT_REVIEW
from core.errors import BadInput
from core.log.memory import MemoryLog
from core.policy import Thresholds
from core.times import DAY_MS, WEEK_MS
from ingest.offline import OfflineIngest
from learners import metrics
from learners.training.dataset import TrainingSet, as_known, labelled
from learners.training.paired import PairedScores, compare
from learners.training.reading import read
from learners.training.splits import Split, known_compromised
from sources.catalogue import open_source
from sources.source import Source
from sources.synthetic import Drift, SyntheticConfig, SyntheticStream

FIRST_MONTH_DAYS = 30
TRAIN_DAYS = 28
FAIR_DAYS = (37, 65)
DRIFT_DAY = 72
SYNTHETIC_DAYS = 121
SYNTHETIC_ACCOUNTS = 2_000
ROUNDS = 200
MODELS = ("adaptive", "frozen", "first month")
MEASURES = ("auc_roc", "average_precision", f"card_precision_{handbook.CARDS_A_DAY}")

Report = Callable[[str], object]
Score = Callable[[NDArray[np.float32]], NDArray[np.float64]]


def synthetic(drift: str, seed: int, days: int = SYNTHETIC_DAYS, accounts: int = SYNTHETIC_ACCOUNTS) -> Source:
    """A stream that drifts on day DRIFT_DAY; "none" drifts nowhere."""
    changed: dict[str, Any] = {} if drift == "none" else {"drift": cast(Drift, drift), "drift_at": DRIFT_DAY / days}
    return SyntheticStream(
        SyntheticConfig(days=days, accounts=accounts, seed=seed, **changed), labels="fraud", flush_feedback=True
    )


def decided(source: Source, hours: int, report: Report) -> TrainingSet:
    """Every decision of the stream with its verdicts, in order of event time."""
    log = MemoryLog()
    offline = OfflineIngest(
        log, Resolver(log.get_blob, wiring.load_scorer), partitions=handbook.PARTITIONS, reference_hours=hours
    )
    for chunk in source.records():
        offline.feed(chunk)
    offline.flush()
    report("the stream is decided")
    return read(log, range(handbook.PARTITIONS), clock="event")


def weeks(data: TrainingSet, report: Report = lambda text: None) -> list[dict[str, Any]]:
    """Each test week's rows and scores by model; `frozen` only from the week on that begins a week after FAIR_DAYS.
    Raises BadInput if the data end before the first week.
    """
    origin = int(data.times[0]) // DAY_MS * DAY_MS
    end = int(data.times[-1]) + 1
    month_end = origin + FIRST_MONTH_DAYS * DAY_MS
    start = month_end + WEEK_MS
    if start + WEEK_MS > end:
        raise BadInput(f"{(end - origin) / DAY_MS:.0f} days are too few: the first tested week begins on day 37")
    fair_from, fair_to = (origin + day * DAY_MS for day in FAIR_DAYS)
    models: dict[str, Score] = {"first month": _fit(data, origin, month_end, start)}
    rows = []
    while start + WEEK_MS <= end:
        split = Split(start - 2 * WEEK_MS, start - WEEK_MS, start, start + WEEK_MS)
        around = data.between(split.start, split.end)
        around = as_known(around, split.end + WEEK_MS)  # the week's final labels
        test = around.rows((around.times >= start) & ~known_compromised(around, split))
        models["adaptive"] = _fit(data, max(origin, start - WEEK_MS - TRAIN_DAYS * DAY_MS), start - WEEK_MS, start)
        if start == fair_to + WEEK_MS:
            models["frozen"] = _fit(data, fair_from, fair_to, start)
        scores = {name: score(test.features) for name, score in models.items()}
        rows.append({"start_ms": start, "test": test, "scores": scores})
        report(f"week {len(rows)}: {len(test):,} payments, {int(test.labels.sum())} frauds")
        start += WEEK_MS
    return rows


def _fit(data: TrainingSet, start: int, end: int, now: int) -> Score:
    """The product's scorer of a model trained on [start, end) with the labels known at `now`."""
    content = handbook.train(labelled(as_known(data.between(start, end), now)))
    return wiring.load_scorer(content, "prequential-1.0.0", hashlib.sha256(content).hexdigest()).margins


def summary(rows: list[dict[str, Any]], rounds: int = ROUNDS) -> dict[str, Any]:
    """Figures by week; over the weeks of each frozen model, adaptive against it. Gains have intervals over accounts."""
    by_week = [
        {
            "start_ms": row["start_ms"],
            "rows": len(row["test"]),
            "frauds": int(row["test"].labels.sum()),
            **{model: handbook.measure(row["test"], scores) for model, scores in row["scores"].items()},
        }
        for row in rows
    ]
    against = {}
    for opponent in MODELS[1:]:
        chosen = [(row, week) for row, week in zip(rows, by_week, strict=True) if opponent in row["scores"]]
        if chosen:
            against[opponent] = _against(opponent, chosen, rounds)
    return {"weeks": by_week, "against": against, "train_days": TRAIN_DAYS, "fair_days": FAIR_DAYS}


def _against(opponent: str, chosen: list[tuple[dict[str, Any], dict[str, Any]]], rounds: int) -> dict[str, Any]:
    """Adaptive and the opponent over the weeks: pooled figures, weeks ahead, and the gain in average precision."""
    rows, by_week = zip(*chosen, strict=True)
    tests: list[TrainingSet] = [row["test"] for row in rows]
    labels = np.concatenate([test.labels for test in tests])
    pooled = {m: np.concatenate([row["scores"][m] for row in rows]) for m in ("adaptive", opponent)}
    figures = {
        model: {
            MEASURES[0]: metrics.roc_auc(labels, scores),
            MEASURES[1]: metrics.average_precision(labels, scores),
            MEASURES[2]: float(np.mean([week[model][MEASURES[2]] for week in by_week])),
        }
        for model, scores in pooled.items()
    }
    found = compare(
        PairedScores(
            champion=pooled[opponent],
            candidate=pooled["adaptive"],
            labels=labels,
            accounts=np.concatenate([test.accounts for test in tests]),
            amounts=np.concatenate([test.amounts for test in tests]),
            thresholds=Thresholds(DEFAULT_REVIEW, DEFAULT_DECLINE),
            latency_us=0.0,
        ),
        rounds,
        0.95,
        handbook.SEED,
    )
    return {
        "weeks": len(by_week),
        "figures": figures,
        "ahead": {m: sum(week["adaptive"][m] > week[opponent][m] for week in by_week) for m in MEASURES},
        "average_precision_gain": found.average_precision_gain._asdict(),
        "auc_gain": found.auc_gain._asdict(),
        "value_gain": found.value_gain._asdict(),
    }


def table(result: dict[str, Any]) -> str:
    """The result as text."""
    order = "adaptive / frozen / first month"
    lines = [f"{'week of':<12}{'rows':>9}{'frauds':>8}" + "".join(f"{m:>32}" for m in MEASURES), f"{order:>61}"]
    for week in result["weeks"]:
        day = np.datetime64(week["start_ms"], "ms").astype("datetime64[D]")
        shown = (" / ".join(f"{week[model][m]:.4f}" if model in week else "–" for model in MODELS) for m in MEASURES)
        lines.append(f"{day!s:<12}{week['rows']:>9,}{week['frauds']:>8}" + "".join(f"{cell:>32}" for cell in shown))
    for opponent, found in result["against"].items():
        figures = "; ".join(
            f"{m} {found['figures']['adaptive'][m]:.4f} / {found['figures'][opponent][m]:.4f}" for m in MEASURES
        )
        lines.append(f"adaptive / {opponent}, {found['weeks']} weeks: {figures}")
        for name in ("average_precision_gain", "auc_gain", "value_gain"):
            gain = found[name]
            lines.append(
                f"    {name.replace('_', ' ')} {gain['value']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})"
            )
        lines.append("    ahead: " + ", ".join(f"{m} in {n} of {found['weeks']}" for m, n in found["ahead"].items()))
    return "\n".join(lines)


def plot(result: dict[str, Any], path: Path, title: str) -> None:
    """Week by week, one panel per measure, as SVG or PNG by the file's suffix."""
    from matplotlib import rc_context

    figure = new_figure(7.5, 7.0)
    panels = figure.subplots(len(MEASURES), 1, sharex=True)
    for axes, measure in zip(panels, MEASURES, strict=True):
        for model, colour in zip(MODELS, (BLUE, RED, GREY), strict=True):
            known = [week for week in result["weeks"] if model in week]
            at = [np.datetime64(week["start_ms"], "ms").astype("datetime64[D]").astype(object) for week in known]
            axes.plot(at, [week[model][measure] for week in known], marker="o", color=colour, label=model)
        axes.set_ylabel(measure)
        axes.grid(alpha=0.3)
    panels[0].legend(loc="lower right")
    panels[0].set_title(title)
    figure.autofmt_xdate()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "prequential"}):  # small, and reproducible
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Adaptive against frozen, week by week.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    of_handbook = kinds.add_parser("handbook")
    of_handbook.add_argument("path", type=Path)
    of_synthetic = kinds.add_parser("synthetic")
    of_synthetic.add_argument("--drift", choices=(*get_args(Drift), "none"), default="behaviour")
    of_synthetic.add_argument("--seed", type=int, default=7)
    of_synthetic.add_argument("--accounts", type=int, default=SYNTHETIC_ACCOUNTS)
    for each in (of_handbook, of_synthetic):
        each.add_argument("--plot", type=Path)
        each.add_argument("--json", action="store_true")
    options = parser.parse_args(None if arguments is None else list(arguments))
    report: Report = print if not options.json else lambda text: None
    if options.kind == "handbook":
        source, title = open_source("handbook", path=options.path, flush_feedback=True), "Handbook data"
    else:
        source = synthetic(options.drift, options.seed, accounts=options.accounts)
        title = f"synthetic stream, drift on day {DRIFT_DAY}: {options.drift}"
    result = summary(weeks(decided(source, handbook.REFERENCE_HOURS, report), report))
    if options.plot is not None:
        plot(result, options.plot, f"{title}, week by week")
    print(msgspec.json.encode(result).decode() if options.json else table(result))


if __name__ == "__main__":
    main()
