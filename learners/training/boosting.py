"""LightGBM as this project uses it: one thread, seeded, the same bytes for the same rows. No search, no metrics.

Every fit goes through here, so that the deterministic `parameters` and the extra rows without reference tables apply to
the champion, to each trial of the search and to any other forest.

LightGBM itself calls the C library's exp. tests/unit/learners/test_processors.py finds the same bytes with and without
the vector instructions that change it, but no more can be promised than for one version of LightGBM and the C library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from core.features import spec
from core.features.reference import COLUMNS, FIRST_COLUMN
from learners.training.dataset import TrainingSet

ROUNDS_MAX = 400
PATIENCE = 40
MISSING_TABLES_SHARE = 0.3

ReportProgress = Callable[[str, int, int], object]
"""Called with the stage of the work, the steps done, and their total number."""


def parameters(seed: int, overrides: Mapping[str, object] | None = None) -> dict[str, Any]:
    """LightGBM's parameters: the defaults, then `overrides`, then those that make training reproducible."""
    defaults: dict[str, object] = {
        "learning_rate": 0.06,
        "num_leaves": 31,
        "min_data_in_leaf": 40,
        "feature_fraction": 0.7,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "max_bin": 255,
    }
    fixed: dict[str, object] = {
        "objective": "binary",
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    return {**defaults, **(overrides or {}), **fixed}


def dataset(
    data: TrainingSet, seed: int, missing_tables_share: float, reference: lgb.Dataset | None = None
) -> lgb.Dataset:
    """LightGBM's binned rows, including the extra ones of `without_tables`; the two are joined without copying."""
    copies, chosen = _copies(data, seed, missing_tables_share)
    labels = np.concatenate([data.labels, data.labels[chosen]]).astype(np.float64)
    rows = [data.features, copies] if len(chosen) else data.features
    categories = [k for k, each in enumerate(data.inputs or ()) if each.kind == "category"]
    return lgb.Dataset(rows, labels, reference, feature_name=list(data.names), categorical_feature=categories)


def fit(
    data: TrainingSet,
    params: Mapping[str, Any],
    rounds: int,
    *,
    missing_tables_share: float = MISSING_TABLES_SHARE,
    later: TrainingSet | None = None,
    callbacks: list[Callable[..., Any]] | None = None,
) -> lgb.Booster:
    """A forest of `rounds` trees; with `later` rows, of at most `rounds`, stopped early where the loss on them is
    lowest (`best_iteration`).

    With weighted rows (scale_pos_weight) the loss is a poor stopping criterion, so average precision is used instead.
    """
    params = dict(params)
    train = dataset(data, int(params["seed"]), missing_tables_share)
    valid: list[lgb.Dataset] = []
    callbacks = list(callbacks or [])
    if later is not None:
        weighted = float(params.get("scale_pos_weight", 1.0)) != 1.0
        params["metric"] = "average_precision" if weighted else "binary_logloss"
        valid = [dataset(later, int(params["seed"]), missing_tables_share, train)]
        callbacks.append(lgb.early_stopping(PATIENCE, verbose=False))
    # A booster kept in training also keeps the trees after the best iteration.
    keep = later is not None
    return lgb.train(
        params, train, num_boost_round=rounds, valid_sets=valid, callbacks=callbacks, keep_training_booster=keep
    )


def margins(booster: lgb.Booster, features: NDArray[np.float32], trees: int | None = None) -> NDArray[np.float64]:
    """Raw scores (log-odds) of rows (n, F) from the first `trees` trees (default: up to the best iteration, or all)."""
    found = booster.predict(features, raw_score=True, num_iteration=trees, num_threads=1)
    return np.asarray(found, dtype=np.float64)


def without_tables(data: TrainingSet, seed: int, share: float = MISSING_TABLES_SHARE) -> TrainingSet:
    """The rows, and a share of them repeated as they would look without reference tables.

    A worker may run before the first table is published, or when a table can't be loaded. In a model that never saw
    this case, missing values would follow arbitrary branches.
    """
    copies, chosen = _copies(data, seed, share)
    return TrainingSet(
        features=np.concatenate([data.features, copies]),
        labels=np.concatenate([data.labels, data.labels[chosen]]),
        times=np.concatenate([data.times, data.times[chosen]]),
        amounts=np.concatenate([data.amounts, data.amounts[chosen]]),
        accounts=np.concatenate([data.accounts, data.accounts[chosen]]),
        inputs=data.inputs,
    )


def _copies(data: TrainingSet, seed: int, share: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(features (k, WIDTH), indices (k,) of the rows they are copies of)."""
    rng = np.random.Generator(np.random.PCG64(seed))
    chosen = np.flatnonzero(rng.random(len(data.labels)) < share)
    copies = data.features[chosen]
    for kind, first in FIRST_COLUMN.items():
        column = spec.index(first)
        for name in spec.NAMES[column : column + COLUMNS[kind]]:
            if name in data.names:
                copies[:, data.names.index(name)] = np.nan
    return copies, chosen
