"""Training from the log: labels as known, splits by time, the same bytes for the same seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from console.plots.training import write_plots
from console.wiring import load_scorer
from core.context import Resolver
from core.errors import BadInput
from core.features import spec
from core.features.reference import COLUMNS, FIRST_COLUMN
from core.log.memory import MemoryLog
from core.numeric import sigmoid
from core.times import DAY_MS
from ingest.offline import OfflineIngest
from learners import metrics
from learners.training import boosting, training
from learners.training.card import model_card
from learners.training.dataset import FRAUD, PRESUMED, TrainingSet, as_known
from learners.training.splits import Split, known_compromised
from learners.training.training import Naming, Recipe, Trained
from sources.synthetic import SyntheticConfig, SyntheticStream
from tests.builders.decisions import created

PARTITIONS = 2
NAMING = Naming(version="9.9.9", parent="baseline-1.0.0", data="a test")


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    """20,000 synthetic transactions with 4 % fraud over 33 days, decided offline without a model."""
    config = SyntheticConfig(transactions=20_000, accounts=200, merchants=400, fraud_rate=0.04, seed=3)
    memory = MemoryLog()
    offline = OfflineIngest(memory, Resolver(memory.get_blob, load_scorer), partitions=PARTITIONS)
    for chunk in SyntheticStream(config, flush_feedback=True).records():
        offline.feed(chunk)
    offline.flush()
    return memory


def test_rows_are_the_logged_decisions_in_order_of_event_time(log: MemoryLog) -> None:
    """Every decision is a row, ascending in event time, with as many frauds as verdicts."""
    data = training.read(log, range(PARTITIONS))
    assert data.features.shape == (20_000, spec.WIDTH)
    assert data.features.dtype == np.float32
    assert (np.diff(data.times) >= 0).all()
    assert int(data.labels.sum()) == 800
    assert np.array_equal(data.features[:, spec.index("amount")], data.amounts.astype(np.float32))


def test_labels_are_those_known_at_the_time(log: MemoryLog) -> None:
    """A verdict that came after `known_until` is not seen; none had come before the stream began."""
    everything = training.read(log, range(PARTITIONS))
    half = int(everything.times[len(everything.times) // 2])
    known = training.read(log, range(PARTITIONS), known_until=half)
    assert 0 < known.labels.sum() < everything.labels.sum()
    assert not known.labels[known.times > half].any()
    assert not training.read(log, range(PARTITIONS), known_until=0).labels.any()


@pytest.fixture(scope="module")
def data(log: MemoryLog) -> TrainingSet:
    return training.read(log, range(PARTITIONS))


@pytest.fixture(scope="module")
def split(data: TrainingSet) -> Split:
    return training.split_by_time(data.times, test_share=0.25, gap_days=3.0, warm_up_days=3.0)


@pytest.fixture(scope="module")
def trained(data: TrainingSet, split: Split) -> Trained:
    return training.train(data, split, seed=1, naming=NAMING)


def test_the_same_log_and_seed_give_the_same_model_and_a_loadable_one(
    log: MemoryLog, data: TrainingSet, split: Split, trained: Trained
) -> None:
    """Two trainings give the same bytes and card; our scorer loads them and says what the card's figures were of."""
    again = training.train(training.read(log, range(PARTITIONS)), split, seed=1, naming=NAMING)
    assert trained.content == again.content
    assert msgspec.json.encode(trained.card) == msgspec.json.encode(again.card)
    assert training.train(data, split, seed=2).content != trained.content
    scorer = load_scorer(trained.content, "baseline-9.9.9", trained.digest)
    assert trained.held is not None
    labels, found = trained.held.data.labels, trained.held.probabilities
    mine = sigmoid(scorer.margins(trained.held.data.features), 1.0)
    assert mine == pytest.approx(found, abs=1e-12)
    card = msgspec.json.decode(msgspec.json.encode(trained.card))
    assert card["metrics"]["auc_roc"] == pytest.approx(metrics.roc_auc(labels, mine), abs=1e-9)
    assert card["metrics"]["auc_roc"] > 0.7
    assert card["split"]["train_ms"][1] <= card["split"]["test_ms"][0] - 3 * DAY_MS


def test_nothing_after_the_training_days_reaches_the_model(data: TrainingSet, split: Split, trained: Trained) -> None:
    """Other labels and features in gap and test, and verdicts that came after the test began, leave the same bytes."""
    assert data.verdicts is not None and data.origin is not None
    later = data.times >= split.train_end
    features = data.features.copy()
    features[later] = 0.0
    known = data.verdicts.known_at("log") <= split.test_start
    said = [
        s if k else msgspec.structs.replace(s, verdict="legitimate")
        for s, k in zip(data.verdicts.said, known, strict=True)
    ]
    assert 0 < known.sum() < len(known)
    verdicts = replace(data.verdicts, said=said)
    other = as_known(replace(data, features=features, verdicts=verdicts), data.known.until if data.known else 0)
    other = replace(other, labels=other.labels | (later & (np.arange(len(later)) % 7 == 0)))
    found = training.train(other, split, seed=1, naming=NAMING)
    assert found.content == trained.content
    assert found.card["metrics"] != trained.card["metrics"]


def test_rows_in_review_or_pending_are_neither_learnt_nor_judged(data: TrainingSet, split: Split) -> None:
    """With a conflict on every tenth verdict, and a maturity, parts hold labelled rows only."""
    assert data.verdicts is not None and data.known is not None
    said = [
        msgspec.structs.replace(s, verdict="unsure") if i % 10 == 0 else s for i, s in enumerate(data.verdicts.said)
    ]
    doubtful = replace(data, verdicts=replace(data.verdicts, said=said))
    doubtful = as_known(doubtful, split.end, maturity_ms=2 * DAY_MS)
    learnt, judged = training.parts(doubtful, split, exclude_known=False)
    for part in (learnt, judged):
        assert part.statuses is not None
        assert set(part.statuses.tolist()) <= {FRAUD, PRESUMED}
    assert (
        not judged.labels[judged.times > split.end - 2 * DAY_MS].size
        or judged.labels[judged.times > split.end - 2 * DAY_MS].all()
    )
    everything = training.parts(data, split, exclude_known=False)
    without = training.parts(data, split)[1]
    out = known_compromised(data, split)
    tested = (data.times >= split.test_start) & (data.times < split.end)
    assert np.array_equal(without.features, data.features[tested & ~out], equal_nan=True)
    assert 0 < out.sum() == len(everything[1]) - len(without)
    assert len(learnt) < len(everything[0])
    assert len(judged) < len(everything[1])


def test_a_weighted_model_is_calibrated_back(data: TrainingSet, split: Split) -> None:
    """Frauds weighed by their rarity distort the probabilities; calibration takes that out again."""
    found = training.train(data, split, seed=8, recipe=Recipe(class_weight="balanced"))
    calibration = msgspec.convert(found.card["calibration"], type=dict[str, Any])
    assert calibration["after"]["ece"] < 0.75 * calibration["before"]["ece"]
    assert calibration["after"]["log_loss"] < calibration["before"]["log_loss"]
    parameters = msgspec.convert(found.card["parameters"], type=dict[str, Any])
    assert parameters["scale_pos_weight"] > 5
    plain = training.train(data, split, seed=8, recipe=Recipe(class_weight="balanced", calibrate=False))
    assert plain.card["calibration"]["before"] == plain.card["calibration"]["after"] == calibration["before"]  # type: ignore[index]


def test_the_search_is_repeatable_and_starts_from_the_defaults(data: TrainingSet, split: Split) -> None:
    """Two searches are equal; the first trial is the defaults; the best has the highest mean; the model uses it."""
    few = boosting.ROUNDS_MAX
    boosting.ROUNDS_MAX = 25
    try:
        first, again = (training.train(data, split, seed=4, recipe=Recipe(trials=8)) for _ in range(2))
    finally:
        boosting.ROUNDS_MAX = few
    assert first.content == again.content and first.card == again.card
    search = msgspec.convert(first.card["search"], type=dict[str, Any])
    trials = search["trials"]
    defaults = boosting.parameters(4)
    assert len(trials) == 8
    assert trials[0]["overrides"] == {name: defaults[name] for name in trials[0]["overrides"]}
    finished = [t["average_precision"] for t in trials if not t["pruned"]]
    assert trials[search["best"]]["average_precision"] == max(finished)
    parameters = msgspec.convert(first.card["parameters"], type=dict[str, Any])
    assert parameters | trials[search["best"]]["overrides"] == parameters


def test_the_card_says_what_was_measured(trained: Trained, tmp_path: Path) -> None:
    """Every part in Markdown, numbers that add up, and four pictures."""
    card = msgspec.json.decode(msgspec.json.encode(trained.card))
    text = model_card(card, write_plots(trained, tmp_path))
    for wanted in ("9.9.9", trained.digest, "baseline-1.0.0", "## Calibration", "Card precision@100", "![importance]"):
        assert wanted in text
    assert card["left_out"] == 0 and "left out:" not in text
    assert "7 more decisions are left out: they are of another engine" in model_card({**card, "left_out": 7})
    for name in ("calibration", "precision_recall", "importance", "card_precision"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    days = card["cards"]["days"]
    assert card["metrics"]["card_precision_100"] == pytest.approx(np.mean([day["precision"] for day in days]))
    for at in card["thresholds"]:
        assert at["alert_rate"] <= at["alert_rate_allowed"]
    assert all(low <= card["metrics"][name] <= high for name, (low, high) in card["intervals"].items())
    assert sum(card["known"]["statuses"].values()) == card["rows"] == 20_000
    assert all(isinstance(value, float) for value in card["metrics"].values())


def test_rows_without_tables_differ_only_in_reference_columns(log: MemoryLog) -> None:
    """The added rows are copies of others with every reference column missing."""
    data = training.read(log, range(PARTITIONS))
    more = training.without_tables(data, seed=1)
    extra = more.features[len(data.labels) :]
    assert 0.25 < len(extra) / len(data.labels) < 0.35
    columns = [spec.index(FIRST_COLUMN[kind]) + i for kind in FIRST_COLUMN for i in range(COLUMNS[kind])]
    assert np.isnan(extra[:, columns]).all()
    rng = np.random.Generator(np.random.PCG64(1))
    original = data.features[rng.random(len(data)) < boosting.MISSING_TABLES_SHARE].copy()
    original[:, columns] = np.nan
    assert extra.tobytes() == original.tobytes()
    assert len(training.without_tables(data, seed=1, share=0.0)) == len(data)


def test_too_little_data_is_said_in_one_line(log: MemoryLog) -> None:
    """An empty log, too short a span and too few frauds are bad input."""
    with pytest.raises(BadInput, match="no transaction"):
        training.read(created(), [0])
    times = np.arange(0, 5 * DAY_MS, DAY_MS // 4, dtype=np.int64)
    with pytest.raises(BadInput, match="too little data"):
        training.split_by_time(times, test_share=0.25, gap_days=7.0, warm_up_days=7.0)
    data = training.read(log, range(PARTITIONS), known_until=0)
    split = training.split_by_time(data.times, test_share=0.25, gap_days=3.0, warm_up_days=3.0)
    with pytest.raises(BadInput, match="too few frauds"):
        training.train(data, split, seed=1)
