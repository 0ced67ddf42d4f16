"""Incremental learning: how long each learner takes for 100,000 labels, and what scoring and judging the result costs.

    python -m benchmarks.incremental [--labels 100000] [--trees 150] [--json PATH]

Labels and features are synthetic (`benchmarks.forest.synthetic`), as wide as the feature spec. A champion of `--trees`
trees is trained first, untimed. Then each learner processes all labels in one update: boosting and refit as one batch,
the online learner label by label. "progressive" is the online learner without a champion: every row is predicted alone,
and every label is learned alone, after a delay. One run each: an update is long enough to time once.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forest import microseconds_per_row, synthetic
from core.features import spec
from core.policy import Thresholds
from learners import metrics
from learners.training.base import Learner
from learners.training.gate import GateSettings, judge
from learners.training.incremental import ForestLearner, IncrementalSettings, replay
from learners.training.online import OnlineLearner
from learners.training.paired import PairedScores
from learners.training.progressive import progressive
from models import artifacts

SECONDS_MAX = 60.0
DELAY_ROWS = 5_000
BATCH = 500
CHAMPION_ROWS = 50_000


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """(wall, CPU) time of one call; they differ on a busy machine."""
    begin, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begin, time.process_time() - cpu


def measure(labels: int, trees: int) -> dict[str, Any]:
    """Train the champion, then time each learner on the same labels and judge it on later rows."""
    x, y = synthetic(CHAMPION_ROWS + labels + CHAMPION_ROWS, spec.WIDTH, seed=0)
    truth = y > 0.0
    first, update, later = (
        slice(0, CHAMPION_ROWS),
        slice(CHAMPION_ROWS, CHAMPION_ROWS + labels),
        slice(CHAMPION_ROWS + labels, len(x)),
    )
    champion = ForestLearner(spec.NAMES, IncrementalSettings(first_trees=trees))
    champion.learn(x[first], truth[first])
    learners: dict[str, Learner] = {
        "continued boosting": ForestLearner(spec.NAMES, IncrementalSettings()),
        "refit": ForestLearner(spec.NAMES, IncrementalSettings(mode="refit")),
        "online (River)": OnlineLearner(spec.NAMES),
    }
    lines = []
    for name, learner in learners.items():
        if learner.kind == "lightgbm":
            learner.restore(champion.export())
        taken = seconds(lambda learner=learner: learner.learn(x[update], truth[update]))  # type: ignore[misc]
        lines.append({"learner": name, **_times(taken), **_after(learner, champion, x[later], truth[later])})
    rows = np.arange(labels, dtype=np.int64)
    online = OnlineLearner(spec.NAMES)
    taken = seconds(lambda: progressive(online, x[update], truth[update], rows, rows + DELAY_ROWS))
    lines.append(
        {"learner": "online, progressive", **_times(taken), **_after(online, champion, x[later], truth[later])}
    )
    return {
        "labels": labels,
        "features": spec.WIDTH,
        "champion_trees": trees,
        "champion_average_precision": metrics.average_precision(truth[later], champion.predict(x[later])),
        "replay_seconds": seconds(lambda: replay(truth[update], labels // 2, seed=0))[0],
        "learners": lines,
    }


def _times(taken: tuple[float, float]) -> dict[str, float]:
    return {"seconds": taken[0], "cpu_seconds": taken[1]}


def _after(learner: Learner, champion: Learner, x: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Average precision on later rows, µs per row of the artifact's scorer, seconds of the gate."""
    scorer = artifacts.load_scorer(
        learner.export(), version="b-1.0.0", expected_digest=learner.digest, spec=spec.SPEC_VERSION, columns=spec.NAMES
    )
    latency = microseconds_per_row(scorer.margins, x, BATCH)
    accounts = np.arange(len(x), dtype=np.int64) % 5_000
    amounts = np.ones(len(x))
    paired = PairedScores(
        champion.predict(x), learner.predict(x), truth, accounts, amounts, Thresholds(0.4, 0.8), latency
    )
    result = judge(paired, GateSettings(), seed=0)
    _, gate = seconds(lambda: judge(paired, GateSettings(), seed=0))
    return {
        "average_precision": result.metrics["average_precision"],
        "scorer_us_per_row": latency,
        "artifact_kb": len(learner.export()) / 1024,
        "gate_cpu_seconds": gate,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=100_000)
    parser.add_argument("--trees", type=int, default=150)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures here")
    arguments = parser.parse_args()
    result = measure(arguments.labels, arguments.trees)
    print(
        f"{result['labels']:,} labels × {result['features']} features, champion of {result['champion_trees']} trees"
        f" (average precision {result['champion_average_precision']:.3f}), one thread"
    )
    print(
        f"{'learner':<22}{'update s':>10}{'CPU s':>8}{'CPU µs/label':>14}{'AP later':>10}{'µs/row':>8}{'kB':>8}"
        f"{'gate CPU s':>12}"
    )
    for line in result["learners"]:
        print(
            f"{line['learner']:<22}{line['seconds']:>10.1f}{line['cpu_seconds']:>8.1f}"
            f"{line['cpu_seconds'] / result['labels'] * 1e6:>14.1f}"
            f"{line['average_precision']:>10.3f}{line['scorer_us_per_row']:>8.2f}{line['artifact_kb']:>8.0f}"
            f"{line['gate_cpu_seconds']:>12.2f}"
        )
    print(f"drawing {result['labels'] // 2:,} rows to replay: {result['replay_seconds'] * 1e3:.0f} ms")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    slow = [line["learner"] for line in result["learners"] if line["seconds"] > SECONDS_MAX]
    if slow:
        raise SystemExit(f"over {SECONDS_MAX:.0f} s: {', '.join(slow)}")


if __name__ == "__main__":
    main()
