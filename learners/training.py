"""Training a champion from the log: features as logged, labels as known, split by time. Deterministic given the seed.

train → gap of the label delay → test, in order of event time, never shuffled (a shuffled split leaks an account's later
frauds into its earlier rows). The number of trees is chosen on the last part of the training period; the test period is
only measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from core.codec import decode_account_event, decode_score, decode_transaction
from core.control import DEFAULT_DECLINE, DEFAULT_REVIEW
from core.errors import BadInput
from core.events import START, FeedbackReceived
from core.features import spec
from core.features.reference import COLUMNS, FIRST_COLUMN
from core.features.spec import DAY_MS
from core.log.base import EventLog
from learners import metrics

PAGE = 2000
MODEL_NAME = "baseline"
MISSING_TABLES_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Rows in order of event time: features float32 (n, WIDTH), labels bool (n,), times epoch ms, amounts in
    currency.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.bool_]
    times: NDArray[np.int64]
    amounts: NDArray[np.float64]
    accounts: NDArray[np.int64]

    def rows(self, mask: NDArray[np.bool_]) -> TrainingSet:
        return TrainingSet(
            self.features[mask], self.labels[mask], self.times[mask], self.amounts[mask], self.accounts[mask]
        )


def read(log: EventLog, partitions: Iterable[int], known_until: int | None = None) -> TrainingSet:
    """Every decision of the log with its features as logged, labelled by the verdicts that had come by `known_until`
    (epoch ms).

    A transaction is fraud if its last verdict is; without one it counts as legitimate, so leave out what is younger
    than the label delay. Raises BadInput if the log holds no transaction.
    """
    vectors: list[bytes] = []
    keys: list[str] = []
    times: list[int] = []
    amounts: list[float] = []
    accounts: dict[str, int] = {}
    owners: list[int] = []
    verdicts: dict[str, tuple[int, bool]] = {}
    for partition in partitions:
        at = START
        while entries := log.read(partition, "transactions", at, PAGE):
            scores = log.read(partition, "scores", at, PAGE, entries[-1].id)
            for entry, score in zip(entries, scores, strict=True):
                t = decode_transaction(entry.payload)
                vectors.append(decode_score(score.payload).features)
                keys.append(t.transaction_id)
                times.append(t.occurred_at)
                amounts.append(t.amount)
                owners.append(accounts.setdefault(t.account_id, len(accounts)))
            at = entries[-1].id
        _read_verdicts(log, partition, known_until, verdicts)
    if not keys:
        raise BadInput("the log holds no transaction to train on")
    order = np.argsort(np.array(times), kind="stable")
    features = np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(keys), spec.WIDTH)
    labels = np.array([verdicts.get(key, (0, False))[1] for key in keys], dtype=np.bool_)
    return TrainingSet(
        features=np.ascontiguousarray(features[order], dtype=np.float32),
        labels=labels[order],
        times=np.array(times, dtype=np.int64)[order],
        amounts=np.array(amounts)[order],
        accounts=np.array(owners, dtype=np.int64)[order],
    )


def _read_verdicts(
    log: EventLog, partition: int, known_until: int | None, verdicts: dict[str, tuple[int, bool]]
) -> None:
    at = START
    while entries := log.read(partition, "feedback", at, PAGE):
        for entry in entries:
            event = decode_account_event(entry.payload)
            if not isinstance(event, FeedbackReceived) or event.verdict == "unsure":
                continue
            if known_until is not None and event.occurred_at > known_until:
                continue
            if event.occurred_at >= verdicts.get(event.transaction_id, (0, False))[0]:
                verdicts[event.transaction_id] = (event.occurred_at, event.verdict == "fraud")
        at = entries[-1].id


@dataclass(frozen=True, slots=True)
class Split:
    """Event times (epoch ms) of a prequential split: train [start, train_end), gap, test [test_start, end)."""

    start: int
    train_end: int
    test_start: int
    end: int


def split_by_time(times: NDArray[np.int64], test_share: float, gap_days: float, warm_up_days: float) -> Split:
    """The last `test_share` of the time span is the test; the gap before it is the label delay; the first days warm up.

    Raises BadInput if nothing is left to train on.
    """
    first, last = int(times[0]), int(times[-1]) + 1
    test_start = last - int((last - first) * test_share)
    split = Split(
        start=first + int(warm_up_days * DAY_MS),
        train_end=test_start - int(gap_days * DAY_MS),
        test_start=test_start,
        end=last,
    )
    if split.train_end <= split.start:
        days = (last - first) / DAY_MS
        raise BadInput(
            f"{days:.1f} days of data are too few for {warm_up_days} to warm up, {gap_days} of gap and a test"
        )
    return split


@dataclass(frozen=True, slots=True)
class Trained:
    """A model as LightGBM text, its SHA-256, and what its card says."""

    content: bytes
    digest: str
    card: dict[str, object]


def train(data: TrainingSet, split: Split, *, seed: int, version: str, data_description: str) -> Trained:
    """Fit, choose the number of trees on the last fifth of the training period, refit on all of it, measure on the
    test.
    """
    training = data.rows((data.times >= split.start) & (data.times < split.train_end))
    test = data.rows((data.times >= split.test_start) & (data.times < split.end))
    if training.labels.sum() < 50 or test.labels.sum() < 20:
        raise BadInput(
            f"too few frauds: {int(training.labels.sum())} to train (50 needed),"
            f" {int(test.labels.sum())} to test (20 needed)"
        )
    cut = split.train_end - (split.train_end - split.start) // 5
    parameters = _parameters(seed)
    early = training.rows(training.times < cut)
    late = training.rows(training.times >= cut)
    probe = lgb.train(
        parameters,
        _dataset(without_tables(early, seed)),
        num_boost_round=400,
        valid_sets=[_dataset(without_tables(late, seed))],
        callbacks=[lgb.early_stopping(40, verbose=False)],
    )
    rounds = max(20, int(probe.best_iteration * 1.1))
    booster = lgb.train(parameters, _dataset(without_tables(training, seed)), num_boost_round=rounds)
    content = booster.model_to_string().encode()
    scores = np.asarray(booster.predict(test.features.astype(np.float64), num_threads=1), dtype=np.float64)
    intervals = metrics.bootstrap(test.labels, scores, test.accounts, seed)
    importance = booster.feature_importance("gain")
    top = np.argsort(-importance, kind="stable")[:15]
    card: dict[str, object] = {
        "name": MODEL_NAME,
        "version": version,
        "spec": spec.SPEC_VERSION,
        "digest": hashlib.sha256(content).hexdigest(),
        "trees": rounds,
        "seed": seed,
        "parameters": parameters,
        "data": data_description,
        "split": {
            "train_ms": [split.start, split.train_end],
            "test_ms": [split.test_start, split.end],
            "train_rows": len(training.labels),
            "train_frauds": int(training.labels.sum()),
            "test_rows": len(test.labels),
            "test_frauds": int(test.labels.sum()),
        },
        "metrics": {name: interval.value for name, interval in intervals.items()},
        "intervals": {name: [interval.low, interval.high] for name, interval in intervals.items()},
        "at_review": metrics.at_threshold(test.labels, scores >= DEFAULT_REVIEW, test.amounts)._asdict(),
        "at_decline": metrics.at_threshold(test.labels, scores >= DEFAULT_DECLINE, test.amounts)._asdict(),
        "importance": {spec.NAMES[i]: round(float(importance[i]), 1) for i in top},
    }
    return Trained(content, str(card["digest"]), card)


def without_tables(data: TrainingSet, seed: int) -> TrainingSet:
    """The rows, and a share of them once more as they would look without reference tables.

    A worker may run before the first table is published, or when one can't be loaded. A model that never saw that would
    be sent down arbitrary branches by the missing values.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    chosen = np.flatnonzero(rng.random(len(data.labels)) < MISSING_TABLES_SHARE)
    copies = data.features[chosen].copy()
    for kind, first in FIRST_COLUMN.items():
        column = spec.index(first)
        copies[:, column : column + COLUMNS[kind]] = np.nan
    return TrainingSet(
        features=np.concatenate([data.features, copies]),
        labels=np.concatenate([data.labels, data.labels[chosen]]),
        times=np.concatenate([data.times, data.times[chosen]]),
        amounts=np.concatenate([data.amounts, data.amounts[chosen]]),
        accounts=np.concatenate([data.accounts, data.accounts[chosen]]),
    )


def _parameters(seed: int) -> dict[str, object]:
    return {
        "objective": "binary",
        "learning_rate": 0.06,
        "num_leaves": 31,
        "min_data_in_leaf": 40,
        "feature_fraction": 0.7,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "max_bin": 255,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 2,
        "verbosity": -1,
    }


def _dataset(data: TrainingSet) -> lgb.Dataset:
    return lgb.Dataset(
        data.features, data.labels.astype(np.float64), feature_name=list(spec.NAMES), free_raw_data=False
    )
