"""Scoring speed: our forest kernel and LightGBM's own predict, one thread each, and a check that the bits agree.

    python -m benchmarks.forest [--trees 150] [--leaves 31] [--features 60] [--json PATH]

Trains a synthetic model first (some seconds). Figures are the best of several runs, in µs per row.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from models.forest import ForestScorer

BATCHES = (1, 40, 500, 4096)
_RUNS = 7
_ROWS_PER_RUN = 2048


def synthetic(rows: int, features: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Features like ours (counts, sums, missing values, zeros), float32 (rows, features), and labels (rows,)."""
    random = np.random.default_rng(seed)
    x = random.lognormal(size=(rows, features)).astype(np.float32)
    x[:, : features // 6] = np.round(x[:, : features // 6])
    x[random.random(x.shape) < 0.1] = np.nan
    x[random.random(x.shape) < 0.05] = 0.0
    known = np.minimum(np.nan_to_num(x), 5.0)
    score = known @ np.linspace(-1.0, 1.0, features) + 3.0 * (known[:, 0] > known[:, 1])
    score += 2.0 * random.normal(size=rows)
    return x, (score > np.quantile(score, 0.95)).astype(np.float64)


def microseconds_per_row(score: Callable[[NDArray[Any]], object], x: NDArray[Any], batch: int) -> float:
    """The best of _RUNS; a run scores different batches of contiguous rows."""
    calls = max(1, _ROWS_PER_RUN // batch)
    starts = [(call * batch) % (len(x) - batch + 1) for call in range(calls)]
    best = float("inf")
    for _ in range(_RUNS):
        begin = time.perf_counter()
        for start in starts:
            score(x[start : start + batch])
        best = min(best, time.perf_counter() - begin)
    return best / calls / batch * 1e6


def measure(trees: int, leaves: int, features: int) -> dict[str, Any]:
    """Train, compare the bits, time both. Raises SystemExit if any bit differs."""
    x, y = synthetic(40_000, features, seed=0)
    parameters = {"objective": "binary", "num_leaves": leaves, "verbose": -1, "num_threads": 1, "seed": 0}
    booster = lightgbm.train(parameters, lightgbm.Dataset(x, y), trees)
    content = booster.model_to_string().encode()
    begin = time.perf_counter()
    scorer = ForestScorer.load(content, version="benchmark-1.0.0", spec=0)
    load_ms = (time.perf_counter() - begin) * 1e3
    rows, _ = synthetic(max(BATCHES), features, seed=1)
    wide = rows.astype(np.float64)

    def reference(batch: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(booster.predict(batch, raw_score=True, num_threads=1))

    if scorer.margins(rows).tobytes() != reference(wide).tobytes():
        raise SystemExit("our margins differ from LightGBM's")
    begin = time.perf_counter()
    for row in rows[:1000]:
        scorer.contributions(row)
    return {
        "trees": trees,
        "leaves": leaves,
        "features": features,
        "load_ms": load_ms,
        "contributions_us": (time.perf_counter() - begin) * 1e3,
        "batches": [
            {
                "rows": batch,
                "ours_us_per_row": microseconds_per_row(scorer.margins, rows, batch),
                "lightgbm_us_per_row": microseconds_per_row(reference, wide, batch),
            }
            for batch in BATCHES
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trees", type=int, default=150)
    parser.add_argument("--leaves", type=int, default=31)
    parser.add_argument("--features", type=int, default=60)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures here")
    arguments = parser.parse_args()
    result = measure(arguments.trees, arguments.leaves, arguments.features)
    print(f"{result['trees']} trees × {result['leaves']} leaves × {result['features']} features, one thread, same bits")
    print(f"{'batch':>8}{'ours µs/row':>14}{'LightGBM µs/row':>18}{'ratio':>8}")
    for line in result["batches"]:
        ours, theirs = line["ours_us_per_row"], line["lightgbm_us_per_row"]
        print(f"{line['rows']:>8}{ours:>14.2f}{theirs:>18.2f}{theirs / ours:>8.1f}")
    print(f"load {result['load_ms']:.0f} ms, contributions {result['contributions_us']:.1f} µs per row")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
