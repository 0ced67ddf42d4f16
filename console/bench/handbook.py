"""The Fraud Detection Handbook's protocol, run with the product's own stream, features, training and scorer.

    sentinel bench handbook PATH [--json]          (or python -m console.bench.handbook PATH [--json])

Train on 2018-07-25 … 07-31, labels 7 days late, test on 2018-08-08 … 08-14. Known compromised cards are excluded from
the test, which leaves 58,264 payments (Le Borgne et al., Fraud Detection Handbook, 2022, sections 4 and 5.2). Steps:

1. Decide every payment in time order into an in-memory log; each verdict arrives 7 days after its payment; reference
   tables are published every hour; no model is deployed yet.
2. At 2018-08-08 00:00, train two models on the log as of that time: one on the 7 days, one on all days before. Deploy
   the first as champion and the second as shadow, by control events.
3. Decide the test week live with these models: its scores are the margins in the log.
4. Read the test rows back and score their logged features again with the same artifacts; the bits must be equal. Then
   compute the measures, each also as a share of the ceiling (console.bench.handbook_ceiling).

Nothing is tuned on the test week: `OVERRIDES` and `ROUNDS` were chosen on earlier weeks (docs/handbook.md).
Cost: about two minutes on one core, and 4 GB.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from console import wiring
from console.bench import handbook_ceiling as ceiling
from core.codec import decode_score
from core.context import Resolver
from core.errors import BadInput, Corrupt
from core.events import Control, ModelDeployed, ModelRegistered, Position
from core.features import spec
from core.log.base import EventLog
from core.log.memory import MemoryLog
from core.times import DAY_MS, parse_iso
from ingest.offline import OfflineIngest
from learners import metrics
from learners.training import boosting
from learners.training.dataset import TrainingSet, labelled
from learners.training.reading import read
from learners.training.splits import Split, known_compromised
from sources.catalogue import open_source
from sources.record import Record

PARTITIONS = 4
REFERENCE_HOURS = 1
CARDS_A_DAY = 100
CHANCE_DRAWS = 100
SEED = 1
ROUNDS = 150
OVERRIDES: dict[str, object] = {
    "learning_rate": 0.05,
    "num_leaves": 16,
    "min_data_in_leaf": 20,
    "lambda_l2": 5.0,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
}
"""Small trees for a small training week, chosen on test weeks before the Handbook's (docs/handbook.md)."""

WARM_UP_DAYS = 30
"""Days excluded from the start of "all history": reference tables look back 37 days."""

Report = Callable[[str], object]
Scores = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Protocol:
    """When to train and test, epoch ms, and the expected number of test rows (0: unknown)."""

    split: Split
    test_rows: int = 0


HANDBOOK = Protocol(
    Split(parse_iso("2018-07-25"), parse_iso("2018-08-01"), parse_iso("2018-08-08"), parse_iso("2018-08-15")), 58_264
)


def train(training: TrainingSet) -> bytes:
    """Train a forest on labelled rows; returns LightGBM text. The same rows give the same bytes."""
    booster = boosting.fit(training, boosting.parameters(SEED, OVERRIDES), ROUNDS, missing_tables_share=0.0)
    return booster.model_to_string().encode()


def decide(path: Path, protocol: Protocol, report: Report) -> tuple[EventLog, dict[str, bytes]]:
    """Steps 1 to 3. Returns the log of the whole file, and the artifacts by name."""
    log = MemoryLog()
    offline = OfflineIngest(
        log, Resolver(log.get_blob, wiring.load_scorer), partitions=PARTITIONS, reference_hours=REFERENCE_HOURS
    )
    source = open_source("handbook", path=path, flush_feedback=True)
    models: dict[str, bytes] = {}
    done = 0
    for chunk in source.records():
        before, after = _cut(chunk, protocol.split.test_start) if not models else ([], chunk)
        offline.feed(before)
        if after and not models:
            offline.flush()
            report("training on the log as of the first day of the test")
            models = _trained(log, protocol.split)
            offline.change(_deployed(log, models, protocol.split.test_start))
        offline.feed(after)
        done += len(chunk)
        if done % 131_072 < len(chunk):
            report(f"{done:,} records decided")
    offline.flush()
    if not models:
        raise BadInput(f"{path} ends before the test begins")
    return log, models


def _cut(records: list[Record], at: int) -> tuple[list[Record], list[Record]]:
    """The records before the time `at`, and the others."""
    place = next((i for i, record in enumerate(records) if record.timestamp >= at), len(records))
    return records[:place], records[place:]


def _trained(log: EventLog, split: Split) -> dict[str, bytes]:
    data = read(log, range(PARTITIONS), split.test_start, clock="event", end=split.train_end)
    first = int(data.times[0]) // DAY_MS * DAY_MS + WARM_UP_DAYS * DAY_MS
    return {
        "7_days": train(labelled(data.between(split.start, split.train_end))),
        "all_history": train(labelled(data.between(min(first, split.start), split.train_end))),
    }


def _deployed(log: EventLog, models: dict[str, bytes], now: int) -> list[Control]:
    events: list[Control] = []
    for (name, content), alias in zip(models.items(), ("champion", "shadow"), strict=True):
        digest = log.put_blob(content)
        named: dict[str, Any] = {"occurred_at": now, "actor": "bench", "name": name, "version": "1.0.0"}
        events.append(ModelRegistered(**named, digest=digest, spec=spec.SPEC_VERSION))
        events.append(ModelDeployed(**named, digest=digest, alias=alias, reason="handbook protocol"))
    return events


def live_scores(log: EventLog, test: TrainingSet) -> Scores:
    """The logged margins of the rows, by model: float64 (n,)."""
    assert test.origin is not None
    champion, shadow = np.empty(len(test)), np.empty(len(test))
    ids = zip(test.origin.partitions, test.origin.generations, test.origin.offsets, strict=True)
    for row, (partition, generation, offset) in enumerate(ids):
        payload = log.get(int(partition), "scores", Position(int(generation), int(offset)))
        if payload is None:
            raise Corrupt(f"partition {partition} has no score {generation}-{offset}")
        score = decode_score(payload)
        if score.shadow is None or score.degraded:
            raise Corrupt(f"score {generation}-{offset} was computed without its models: {score.degraded}")
        champion[row], shadow[row] = score.margin, score.shadow
    return {"7_days": champion, "all_history": shadow}


def tested(data: TrainingSet, split: Split) -> TrainingSet:
    """The rows of the test week, without cards known to be compromised."""
    inside = (data.times >= split.test_start) & (data.times < split.end)
    return data.rows(inside & ~known_compromised(data, split))


def measure(test: TrainingSet, scores: NDArray[np.float64]) -> dict[str, float]:
    """The Handbook's three measures for scores (n,) on the rows."""
    days = metrics.card_precision_at_k(test.labels, scores, test.times, test.accounts, CARDS_A_DAY)
    return {
        "auc_roc": metrics.roc_auc(test.labels, scores),
        "average_precision": metrics.average_precision(test.labels, scores),
        f"card_precision_{CARDS_A_DAY}": metrics.mean_card_precision(days),
    }


@dataclass(frozen=True, slots=True)
class Ceiling:
    """measures: of the best possible score, on the actual labels. rows: number of test rows by the Handbook's own rule.
    by_chance: mean and standard deviation of AUC and average precision over labels drawn from its probabilities.
    """

    measures: dict[str, float]
    rows: int
    by_chance: dict[str, tuple[float, float]]


def ceiling_of(path: Path, protocol: Protocol) -> Ceiling:
    """The ceiling of the test; see console.bench.handbook_ceiling."""
    payments = ceiling.load(path)
    rows = ceiling.handbook_test_rows(payments, protocol.split.start // DAY_MS)
    test = TrainingSet(
        features=np.empty((len(rows), 0), dtype=np.float32),
        labels=payments.frauds[rows],
        times=payments.times_ms[rows],
        amounts=payments.amounts[rows],
        accounts=payments.customers[rows],
    )
    scores = ceiling.scores(payments, rows)
    draws = ceiling.drawn(scores, CHANCE_DRAWS, SEED)
    by_chance = {}
    for name, of in (("auc_roc", metrics.roc_auc), ("average_precision", metrics.average_precision)):
        found = [of(labels, scores) for labels in draws]
        by_chance[name] = (float(np.mean(found)), float(np.std(found)))
    return Ceiling(measure(test, scores), len(rows), by_chance)


def run(path: Path, protocol: Protocol = HANDBOOK, report: Report = lambda text: None) -> dict[str, Any]:
    """Run the whole benchmark; returns plain data. Raises BadInput if the file is not the Handbook's, Corrupt if live
    scores differ from scores recomputed from the log.
    """
    started = time.process_time()
    top = ceiling_of(path, protocol)
    best, expected = top.measures, top.rows
    report(f"ceiling computed on {expected:,} rows")
    if protocol.test_rows and expected != protocol.test_rows:
        raise BadInput(f"{path} is not the Handbook's data: it has {expected:,} test rows, not {protocol.test_rows:,}")
    log, models = decide(path, protocol, report)
    split = protocol.split
    labels_known = split.end + 2 * split.gap_ms
    test = tested(read(log, range(PARTITIONS), labels_known, clock="event", start=split.start, end=split.end), split)
    if len(test) != expected:
        raise Corrupt(f"the log has {len(test):,} test rows, but the file has {expected:,}")
    scores = live_scores(log, test)
    equal = all(_again(models[name], test.features, name).tobytes() == scores[name].tobytes() for name in scores)
    if not equal:
        raise Corrupt("the deployed models' scores differ from scores recomputed from the logged features")
    result: dict[str, Any] = {
        "test_rows": len(test),
        "test_frauds": int(test.labels.sum()),
        "live_equals_offline": equal,
        "spec": spec.SPEC_VERSION,
        "reference_hours": REFERENCE_HOURS,
        "ceiling": best,
        "ceiling_by_chance": {name: {"mean": m, "sd": sd} for name, (m, sd) in top.by_chance.items()},
        "cpu_s": round(time.process_time() - started, 1),
    }
    for name, margins in scores.items():
        found = measure(test, margins)
        result[name] = {
            **found,
            "share_of_ceiling": {measure_: found[measure_] / best[measure_] for measure_ in best},
            "digest": hashlib.sha256(models[name]).hexdigest(),
        }
    return result


def _again(content: bytes, features: NDArray[np.float32], name: str) -> NDArray[np.float64]:
    scorer = wiring.load_scorer(content, f"{name}-1.0.0", hashlib.sha256(content).hexdigest())
    return scorer.margins(features)


def table(result: dict[str, Any]) -> str:
    """The result as text."""
    names = list(result["ceiling"])
    lines = [
        f"{result['test_rows']:,} payments, {result['test_frauds']} frauds, decided live by the deployed models;"
        " recomputed from the log: identical",
        f"{'trained on':<14}" + "".join(f"{name:>28}" for name in names),
    ]
    for key in ("7_days", "all_history"):
        cells = (f"{result[key][n]:.4f} ({result[key]['share_of_ceiling'][n]:.1%} of ceiling)" for n in names)
        lines.append(f"{key:<14}" + "".join(f"{cell:>28}" for cell in cells))
    lines.append(f"{'ceiling':<14}" + "".join(f"{result['ceiling'][n]:>28.4f}" for n in names))
    chance = ", ".join(f"{name} {c['mean']:.4f} ± {c['sd']:.4f}" for name, c in result["ceiling_by_chance"].items())
    lines.append(f"ceiling over {CHANCE_DRAWS} draws of labels from its own probabilities: {chance}")
    return "\n".join(lines)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="The Fraud Detection Handbook's protocol.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(None if arguments is None else list(arguments))
    result = run(options.path, report=lambda text: None)
    print(msgspec.json.encode(result).decode() if options.json else table(result))


if __name__ == "__main__":
    main()
