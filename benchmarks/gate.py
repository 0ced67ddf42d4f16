"""The gate on rare events: does it accept an equal model, and refuse the champion shifted by 0.7 log-odds?

    python -m benchmarks.gate [--seeds 20] [--first-seed 0] [--models 6] [--json PATH]

Champions are LightGBM forests, calibrated as always, trained on 30 days of the synthetic stream (2,000 accounts, 1 %
fraud; docs/synthetic.md), with the labels known 30 days after them; an equal model is one trained on the same rows with
another seed. Both are judged with the default settings on the 24 days after that, of 100, 600 and 2,000 of the
accounts. Each seed draws its accounts and its pair of models. "former" is the gate of release 0.2.0 in brief: average
precision, AUC, ECE by 0.01, Brier score by 5 %, changed decisions as a share of all rows. Takes about eight minutes,
most of it training.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np

from console.wiring import load_scorer
from core.context import Resolver
from core.log.memory import MemoryLog
from core.numeric import sigmoid
from core.policy import Thresholds
from core.times import DAY_MS
from ingest.offline import OfflineIngest
from learners import metrics
from learners.training import boosting, training
from learners.training.dataset import TrainingSet
from learners.training.gate import GateSettings, average_precision_gain, judge
from learners.training.paired import PairedScores
from learners.training.splits import Split
from sources.synthetic import SyntheticConfig, SyntheticStream

ACCOUNTS, DAYS, STREAM_SEED = 2_000, 87, 31
FIT_DAYS, MATURITY_DAYS = (3, 33), 30
SIZES = (100, 600, 2_000)
SHIFTS = (0.7, -0.7)
AT = Thresholds(0.4, 0.8)


def stream() -> TrainingSet:
    """The synthetic stream's decisions with their labels."""
    config = SyntheticConfig(
        transactions=3 * ACCOUNTS * DAYS, accounts=ACCOUNTS, merchants=2_000, fraud_rate=0.01, seed=STREAM_SEED
    )
    log = MemoryLog()
    offline = OfflineIngest(log, Resolver(log.get_blob, load_scorer), partitions=2)
    for chunk in SyntheticStream(config, flush_feedback=True).records():
        offline.feed(chunk)
    offline.flush()
    return training.read(log, range(2))


def fitted(data: TrainingSet, count: int) -> tuple[TrainingSet, list[np.ndarray]]:
    """The later days, and on them the margins of `count` models trained with different seeds."""
    start = int(data.times[0])
    split = Split(*(start + days * DAY_MS for days in (*FIT_DAYS, FIT_DAYS[1] + MATURITY_DAYS, DAYS)))
    held = data.between(split.test_start, split.end)
    recipe = training.Recipe(exclude_known=False)
    models = [training.train(data, split, seed=seed, recipe=recipe).content for seed in range(count)]
    return held, [boosting.margins(lgb.Booster(model_str=model.decode()), held.features) for model in models]


def former(paired: PairedScores, seed: int) -> bool:
    """The verdict of release 0.2.0's gate, without latency and stability."""
    labels, margins = paired.labels, (paired.champion, paired.candidate)
    gain = average_precision_gain(labels, *margins, paired.accounts, 200, 0.95, seed)
    p, q = (sigmoid(m, 1.0) for m in margins)
    decided = [np.digitize(x, AT[:2]) for x in (p, q)]
    return bool(
        gain.value >= -0.005
        and gain.low >= -0.05
        and metrics.roc_auc(labels, margins[1]) >= metrics.roc_auc(labels, margins[0]) - 0.01
        and metrics.ece(labels, q) <= metrics.ece(labels, p) + 0.01
        and metrics.brier(labels, q) <= 1.05 * metrics.brier(labels, p)
        and np.mean(decided[0] != decided[1]) <= 0.05
    )


def row(held: TrainingSet, models: list[np.ndarray], size: int, seeds: range) -> dict[str, Any]:
    """Accepted runs of each kind, by the gate and by the former one, and the reasons of refusals."""
    accepted: Counter[str] = Counter()
    before: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    names, frauds = np.unique(held.accounts), []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        use = np.isin(held.accounts, rng.choice(names, min(size, len(names)), replace=False))
        one, two = rng.permutation(len(models))[:2].tolist()
        frauds.append(int(held.labels[use].sum()))
        candidates = {"equal": models[two]} | {f"{shift:+.1f}": models[one] + shift for shift in SHIFTS}
        for kind, margins in candidates.items():
            paired = PairedScores(
                models[one][use],
                margins[use],
                held.labels[use],
                held.accounts[use],
                held.amounts[use],
                AT,
                1.0,
            )
            result = judge(paired, GateSettings(), seed)
            accepted[kind] += result.accepted
            before[kind] += former(paired, seed)
            reasons.update(f"{kind}: {' '.join(reason.split()[:3])}" for reason in result.reasons)
    kinds = ("equal", *(f"{shift:+.1f}" for shift in SHIFTS))
    return {
        "accounts": size,
        "seeds": len(seeds),
        "first_seed": seeds.start,
        "frauds": int(np.median(frauds)),
        "accepted": {kind: accepted[kind] for kind in kinds},
        "accepted_before": {kind: before[kind] for kind in kinds},
        "reasons": dict(reasons.most_common()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="runs of each size")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--models", type=int, default=6, help="models trained on the same rows")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures here")
    arguments = parser.parse_args()
    held, models = fitted(stream(), arguments.models)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    print(f"accepted of {arguments.seeds} (the gate of 0.2.0 in brackets)")
    print(f"{'accounts':>9}{'frauds':>8}{'equal':>14}{'+0.7':>14}{'-0.7':>14}")
    rows = []
    for size in SIZES:
        rows.append(row(held, models, size, seeds))
        now, was = rows[-1]["accepted"], rows[-1]["accepted_before"]
        cells = "".join(f"{f'{now[kind]} ({was[kind]})':>14}" for kind in now)
        print(f"{size:>9,}{rows[-1]['frauds']:>8,}{cells}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
