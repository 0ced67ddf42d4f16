"""Incremental LightGBM: more trees on new labels (continued boosting), or new leaf values in the old trees (refit).

States: no trees → trained from scratch on the first batch → updated. One batch is one update: all labels that arrived
since the last update, mixed with a sample of older rows (`replay`) to prevent forgetting.

- Boost: boosting continues from the champion's margins (`init_model`, with the rows in memory: given a dataset file,
  LightGBM would train from scratch). A small learning rate and few trees bound the effect of one batch.
- Refit: the structure is kept, v ← decay · v + (1 − decay) · η · (−G / (H + λ)) leaf by leaf, in tree order, with
  gradients at the refitted sum so far. This is LightGBM's `refit` with two differences. LightGBM's starts from
  probability ½ although the first tree contains the base rate; here the base rate is first taken off that tree. And
  LightGBM shrinks a leaf without rows towards 0; here a leaf with fewer than `leaf_rows_min` new rows keeps its value.
  A calibrated forest is refitted as it is: gradients are taken at the calibrated log-odds, and each tree's η was
  scaled with the calibration.
- Bound: a forest never has more than `trees_max` trees. At the bound the youngest trees are dropped before new ones
  are grown; a boosted sum without its last terms is still a model. Only trees that this learner added after it was
  trained from scratch or given a champion are dropped; if that leaves no room, boosting is refused: train from scratch.

A batch of one class leaves the state unchanged (LightGBM grows no trees on it). Cost: see benchmarks/incremental.py; a
refit holds 2 bytes per row and tree.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from learners import platt
from learners.metrics import Labels
from learners.training import boosting
from learners.training.base import Float32, Float64, check_batch, check_rows
from models import lightgbm_text
from models.forest import ForestScorer

Mode = Literal["boost", "refit"]
_CHUNK = 8192


@dataclass(frozen=True, slots=True)
class IncrementalSettings:
    """mode: how a batch is learned. learning_rate, trees: of an update; first_learning_rate, first_trees: of the first
    training from scratch. trees_max: bound on the forest. leaves, leaf_rows_min, l2: as in LightGBM. decay: the share
    of its value that a leaf keeps in a refit, in [0, 1].
    """

    mode: Mode = "boost"
    learning_rate: float = 0.03
    trees: int = 20
    first_learning_rate: float = 0.06
    first_trees: int = 100
    trees_max: int = 400
    leaves: int = 31
    leaf_rows_min: int = 40
    l2: float = 5.0
    decay: float = 0.9

    def __post_init__(self) -> None:
        """Raise BadInput for values that are out of range or incompatible."""
        if self.mode not in ("boost", "refit"):
            raise BadInput(f"incremental learner: mode must be boost or refit, not {self.mode!r}")
        if not (0 < self.trees < self.trees_max and 0 < self.first_trees <= self.trees_max):
            raise BadInput("incremental learner: 0 < trees < trees_max and 0 < first_trees <= trees_max must hold")
        if not (0.0 < self.learning_rate <= 1.0 and 0.0 < self.first_learning_rate <= 1.0 and 0.0 <= self.decay <= 1.0):
            raise BadInput("incremental learner: learning rates must be in (0, 1], decay in [0, 1]")
        if self.leaves < 2 or self.leaf_rows_min < 1 or self.l2 < 0.0:
            raise BadInput("incremental learner: leaves >= 2, leaf_rows_min >= 1, l2 >= 0 must hold")


class ForestLearner:
    """A `learners.training.base.Learner` whose state is a LightGBM text. Not thread-safe."""

    def __init__(self, columns: tuple[str, ...], settings: IncrementalSettings | None = None, seed: int = 0) -> None:
        """columns: the feature spec's names, in order. Starts with no trees; `restore` loads a champion."""
        self._columns = columns
        self._settings = settings or IncrementalSettings()
        self._seed = seed
        self._base = 0
        self._take(_empty(columns))

    def _take(self, content: bytes) -> None:
        scorer = ForestScorer.load(content, version=f"{self.name}-0.0.0", spec=0)
        if scorer.names != self._columns:
            raise BadInput("incremental learner: the model's column names do not match the feature spec")
        self._content, self._scorer = content, scorer

    @property
    def name(self) -> str:
        """The name under which its models are registered."""
        return "incremental"

    @property
    def kind(self) -> str:
        """The artifact's format."""
        return "lightgbm"

    @property
    def digest(self) -> str:
        """SHA-256 of `export()`."""
        return self._scorer.digest

    @property
    def trees(self) -> int:
        """The current number of trees."""
        return len(lightgbm_text.shrinkages(self._content))

    def predict(self, features: Float32) -> Float64:
        """Margins: float32 (n, F) → float64 (n,). Raises BadInput on another dtype or width."""
        check_rows(features, len(self._columns))
        return self._scorer.margins(features)

    def learn(self, features: Float32, labels: Labels, weights: Float64 | None = None) -> None:
        """Update with one batch. Raises BadInput if the batch is invalid or the bound leaves no room for more trees.

        Splitting a batch in two makes two updates, and so a different model.
        """
        checked = check_batch(features, labels, weights, len(self._columns))
        keep = checked > 0.0  # rows of weight 0 must not count towards leaf_rows_min
        features, labels, checked = features[keep], labels[keep], checked[keep]
        if labels.all() or not labels.any():
            return
        if self.trees and self._settings.mode == "refit":
            self._take(refit(self._content, features, labels, checked, self._settings))
        else:
            self._take(boost(self._content, features, labels, checked, self._settings, self._seed, self._base))
            self._base = self._base or self.trees

    def export(self) -> bytes:
        """LightGBM's text."""
        return self._content

    def restore(self, content: bytes) -> None:
        """Load an artifact's state, such as the champion's (`learners.training.base`). Raises Corrupt or BadInput."""
        self._take(content)
        self._base = self.trees


def _empty(columns: tuple[str, ...]) -> bytes:
    """A forest without trees. LightGBM needs rows to learn its columns; these are not trained on."""
    rows = np.zeros((2, len(columns)), dtype=np.float32)
    data = lgb.Dataset(rows, np.array([0.0, 1.0]), feature_name=list(columns), params={"verbosity": -1})
    booster = lgb.Booster({"objective": "binary", "verbosity": -1, "num_threads": 1}, data)
    return str(booster.model_to_string()).encode()


def boost(
    content: bytes,
    features: Float32,
    labels: Labels,
    weights: Float64,
    settings: IncrementalSettings,
    seed: int,
    base_trees: int = 0,
) -> bytes:
    """The model's text with `settings.trees` more trees (or `first_trees` if it has none), within `trees_max`.

    base_trees: how many of the first trees must be kept. Raises BadInput if they leave no room for more. Random draws
    are seeded with the seed and the model's bytes, so each update has its own, reproducible from the state.
    """
    found = len(lightgbm_text.shrinkages(content))
    overrides = {
        "learning_rate": settings.learning_rate if found else settings.first_learning_rate,
        "num_leaves": settings.leaves,
        "min_data_in_leaf": settings.leaf_rows_min,
        "lambda_l2": settings.l2,
    }
    parameters = boosting.parameters((seed + int(hashlib.sha256(content).hexdigest()[:7], 16)) % 2**31, overrides)
    names = list(lightgbm_text.parse(content).feature_names)
    data = lgb.Dataset(features, labels.astype(np.float64), weight=weights, feature_name=names)
    if not found:
        return str(lgb.train(parameters, data, settings.first_trees).model_to_string()).encode()
    room = settings.trees_max - settings.trees
    if base_trees > room:
        raise BadInput(
            f"the model has {base_trees} trees: {settings.trees} more would exceed the limit of {settings.trees_max}."
            " Train a new model from scratch"
        )
    base = lgb.Booster(model_str=content.decode())
    if found > room:
        base = lgb.Booster(model_str=base.model_to_string(num_iteration=room))
    booster = lgb.train(parameters, data, settings.trees, init_model=base)
    return str(booster.model_to_string()).encode()


def refit(content: bytes, features: Float32, labels: Labels, weights: Float64, settings: IncrementalSettings) -> bytes:
    """The model's text with leaf values moved towards the new rows' optimum (formula and differences above)."""
    model = lightgbm_text.parse(content)
    rates = list(lightgbm_text.shrinkages(content))
    base = base_margin(content)
    if base:  # the first tree's shrinkage then belongs to the base rate, not to the tree's own step
        rates[0] = rates[1] if len(rates) > 1 else settings.first_learning_rate
    leaves = _leaves(content, features, len(model.trees))
    y = labels.astype(np.float64)
    margin = np.full(len(y), base)
    values: list[NDArray[np.float64]] = []
    for t, tree in enumerate(model.trees):
        old = tree.leaf_value - base if t == 0 else tree.leaf_value
        leaf, count = leaves[t], len(old)
        p = platt.probabilities(margin)
        gradient = np.bincount(leaf, weights * (p - y), count)
        hessian = np.bincount(leaf, weights * p * (1.0 - p), count) + settings.l2
        step = np.divide(-gradient, hessian, out=np.zeros(count), where=hessian > 0.0)
        moved = settings.decay * old + (1.0 - settings.decay) * rates[t] * step
        new = np.where(np.bincount(leaf, minlength=count) >= settings.leaf_rows_min, moved, old)
        margin += new[leaf]
        values.append(new + base if t == 0 else new)
    return lightgbm_text.with_leaf_values(content, values)


def base_margin(content: bytes) -> float:
    """The base rate's log-odds in the first tree: the mean of its leaf values, weighted by the leaves' hessians; 0.0 if
    it contains none.

    LightGBM adds the base rate's log-odds to the first tree (Tree::AddBias), unless it was configured to start from
    even odds or the classes are balanced. The tree itself shows which: at even odds a row's hessian is ¼. (Shrinkages
    don't: 1 is both that of a first tree with the base rate and a learning rate of 1, and DART changes each tree's.)
    At the base rate the gradients sum to 0, and so do the tree's own hessian-weighted values, up to λ.
    """
    tree = lightgbm_text.parse(content).trees[0]
    weights = np.array(lightgbm_text.leaf_weights(content), dtype=np.float64)
    counts = np.array(lightgbm_text.leaf_counts(content), dtype=np.float64)
    if len(weights) != len(tree.leaf_value) or weights.sum() <= 0.0:
        return float(tree.leaf_value.mean())
    if len(counts) == len(weights) and np.isclose(weights.sum(), 0.25 * counts.sum(), rtol=1e-4):
        return 0.0
    return float(np.average(tree.leaf_value, weights=weights))


def _leaves(content: bytes, features: Float32, trees: int) -> NDArray[np.uint16]:
    """The leaf that each row reaches: uint16 (trees, n)."""
    booster = lgb.Booster(model_str=content.decode())
    out = np.empty((trees, len(features)), dtype=np.uint16)
    for start in range(0, len(features), _CHUNK):
        chunk = features[start : start + _CHUNK]
        found = np.asarray(booster.predict(chunk, pred_leaf=True, num_threads=1))
        out[:, start : start + len(chunk)] = found.reshape(len(chunk), trees).T
    return out


def replay(labels: Labels, count: int, seed: int) -> tuple[NDArray[np.int64], Float64]:
    """A sample of older rows to mix into an update: (ascending row indices (m,), weights (m,)), m ≤ count.

    Frauds are rare, so up to half of the sample are frauds. The weights restore each class's share of the older rows
    (Horvitz, Thompson 1952) and sum to m, so a replayed row weighs 1 on average, like a new one.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    frauds, others = np.flatnonzero(labels), np.flatnonzero(~labels)
    taken = min(len(frauds), max(count // 2, count - len(others)), count)
    chosen = [(frauds, taken), (others, min(len(others), count - taken))]
    picked = [rng.choice(rows, size, replace=False) for rows, size in chosen]
    total = sum(len(rows) for rows in picked)
    weights = [np.full(size, len(rows) / size * total / len(labels)) if size else np.empty(0) for rows, size in chosen]
    numbers = np.concatenate(picked).astype(np.int64)
    order = np.argsort(numbers, kind="stable")
    return numbers[order], np.concatenate(weights)[order]
