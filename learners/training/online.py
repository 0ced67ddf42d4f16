"""The online learner: River's running scaler and logistic regression, one label at a time, exported as JSON.

Each label is one step of stochastic gradient descent on the log loss. The learner therefore adapts to a new kind of
fraud within hours, while a forest waits for its next training. States: nothing learned (all margins 0) → learning,
without end. What can go wrong, and how it is handled:

- Missing and infinite values: neither the scaler nor the weights learn from them; scoring replaces NaN by the mean.
- Outliers: scaled values are clipped at ±clip deviations, in learning and in scoring, so one label moves a weight by
  at most rate · weight · clip. Because the gradient of the log loss is bounded, nothing can diverge.
- Few frauds: a fraud weighs as much as `fraud_weight` legitimate rows. This would raise every margin by
  ln(fraud_weight), so the artifact's `offset` subtracts it (prior correction: King, Zeng 2001, Logistic Regression in
  Rare Events Data).
- Order: labels are learned in the order given. Another order gives another model (tested in test_learner.py).

Predictions come from `models.linear` on the same state, not from River, so they are bit-equal to the served model's.
Cost: about 90 µs a label for 71 columns (benchmarks/incremental.py), nearly all of it in River's dictionaries.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from river import linear_model, optim, preprocessing
from river.utils import VectorDict

from core.errors import BadInput
from core.numeric import LOG2E, exp2, log
from learners.metrics import Labels
from learners.training.base import Float32, Float64, check_batch, check_rows
from models.linear import Coefficients, LinearModel, coefficients, linear_margins, parse, render
from models.rows import contiguous


@dataclass(frozen=True, slots=True)
class OnlineSettings:
    """rate: learning rate of the weights and the intercept; l2: L2 penalty per step; clip: in standard deviations;
    fraud_weight: the weight of a fraud relative to a legitimate row.
    """

    rate: float = 0.005
    l2: float = 1e-6
    clip: float = 5.0
    fraud_weight: float = 2.0

    def __post_init__(self) -> None:
        """Raise BadInput for a value out of range."""
        if not (0.0 < self.rate <= 1.0 and 0.0 <= self.l2 < 1.0):
            raise BadInput("online learner: rate must be in (0, 1] and l2 in [0, 1)")
        if not (0.0 < self.clip <= 1e3 and 1e-3 <= self.fraud_weight <= 1e6):
            raise BadInput("online learner: clip must be in (0, 1000] and fraud_weight in [0.001, 1000000]")


class _ExactLoss(optim.losses.Log):
    """River's log loss with the gradient's logistic from the core: the C library's differs between processors."""

    def gradient(self, y_true: Any, y_pred: Any) -> Any:
        """D loss / d margin of one row: p − y."""
        return 1.0 / (1.0 + exp2(-y_pred * LOG2E)) - (1.0 if y_true else 0.0)


class _ExactScaler(preprocessing.StandardScaler):
    """River's scaler with sqrt, which IEEE 754 defines to the last bit, for its power of ½, which it does not."""

    def transform_one(self, x: Any) -> Any:
        """The row's values in standard deviations from the running means; 0 for a column that never varied."""
        means, variances = self.means, self.vars
        return {j: (z - means[j]) / math.sqrt(variances[j]) if variances[j] else 0.0 for j, z in x.items()}


class OnlineLearner:
    """A `learners.training.base.Learner`. Not thread-safe."""

    def __init__(
        self, columns: tuple[str, ...], settings: OnlineSettings | None = None, use: Iterable[str] | None = None
    ) -> None:
        """columns: the feature spec's names, in order. use: the columns to learn from (None: all); the others keep
        weight 0. Raises BadInput for an unknown column.
        """
        self._columns = columns
        self._settings = settings or OnlineSettings()
        wanted = set(columns if use is None else use)
        if unknown := sorted(wanted - set(columns)):
            raise BadInput(f"online learner: unknown columns: {', '.join(unknown)}")
        self._used = tuple(j for j, name in enumerate(columns) if name in wanted)
        self._offset = -float(log(np.array([self._settings.fraud_weight]))[0])
        self._resume(dict.fromkeys(self._used, 0.0), 0.0, {}, {}, {}, steps=0)

    def _resume(
        self,
        weights: dict[int, float],
        intercept: float,
        counts: dict[int, int],
        means: dict[int, float],
        variances: dict[int, float],
        *,
        steps: int,
    ) -> None:
        """Set River's two models to a given state. Their dictionaries are always filled in column order, so that no sum
        over one can depend on which column was seen first.
        """
        s = self._settings
        self._scaler: Any = _ExactScaler()
        self._scaler.counts.update(counts)
        self._scaler.means.update(means)
        self._scaler.vars.update(variances)
        self._regression: Any = linear_model.LogisticRegression(
            optimizer=optim.SGD(s.rate), loss=_ExactLoss(), l2=s.l2, intercept_init=intercept, intercept_lr=s.rate
        )
        self._regression._weights = VectorDict(weights)
        self._regression.optimizer.n_iterations = steps
        self._steps = steps
        self._coefficients: Coefficients | None = None

    @property
    def name(self) -> str:
        """The name under which its models are registered."""
        return "online"

    @property
    def kind(self) -> str:
        """The artifact's format."""
        return "linear"

    @property
    def digest(self) -> str:
        """SHA-256 of `export()`."""
        return hashlib.sha256(self.export()).hexdigest()

    @property
    def steps(self) -> int:
        """The number of labels learned."""
        return self._steps

    def predict(self, features: Float32) -> Float64:
        """Margins: float32 (n, F) → float64 (n,). Raises BadInput on another dtype or width."""
        check_rows(features, len(self._columns))
        if self._coefficients is None:
            self._coefficients = coefficients(self._model())
        out: Float64 = linear_margins(contiguous(features), *self._coefficients)
        return out

    def learn(self, features: Float32, labels: Labels, weights: Float64 | None = None) -> None:
        """Learn the rows one after the other; a batch gives the same state as its rows one by one. Raises BadInput."""
        checked = check_batch(features, labels, weights, len(self._columns))
        if not len(features):
            return
        low, high, fraud_weight = -self._settings.clip, self._settings.clip, self._settings.fraud_weight
        scaler, regression, used = self._scaler, self._regression, self._used
        rows = features[:, used].tolist()
        for row, fraud, weight in zip(rows, labels.tolist(), checked.tolist(), strict=True):
            known = {j: x for j, x in zip(used, row, strict=True) if x - x == 0.0}  # neither NaN nor infinite
            scaler.learn_one(known)
            scaled = {j: low if z < low else min(z, high) for j, z in scaler.transform_one(known).items()}
            regression.learn_one(scaled, fraud, w=weight * fraud_weight if fraud else weight)
        self._steps += len(rows)
        self._coefficients = None

    def _model(self) -> LinearModel:
        width = range(len(self._columns))
        weights = self._regression.weights
        scaler = self._scaler
        # Before the first label every margin is 0, so there is nothing to correct.
        return LinearModel(
            features=self._columns,
            counts=tuple(scaler.counts.get(j, 0) for j in width),
            means=tuple(scaler.means.get(j, 0.0) for j in width),
            variances=tuple(scaler.vars.get(j, 0.0) for j in width),
            weights=tuple(weights.get(j, 0.0) for j in width),
            intercept=float(self._regression.intercept),
            offset=self._offset if self._steps else 0.0,
            clip=self._settings.clip,
            steps=self._steps,
        )

    def export(self) -> bytes:
        """The linear model's JSON (`models.linear`)."""
        return render(self._model())

    def restore(self, content: bytes) -> None:
        """Load the state of an artifact; see `learners.training.base`. Raises Corrupt or BadInput."""
        model = parse(content)
        if model.features != self._columns:
            raise BadInput("online learner: the artifact's column names do not match the feature spec")
        offset = self._offset if model.steps else 0.0
        if model.clip != self._settings.clip or not math.isclose(model.offset, offset, rel_tol=1e-12, abs_tol=1e-12):
            raise BadInput("online learner: the artifact was trained with another clip or fraud_weight")
        used = set(self._used)
        if any(model.counts[j] or model.weights[j] for j in range(len(self._columns)) if j not in used):
            raise BadInput("online learner: the artifact was trained on columns that this learner does not use")
        seen = [j for j in self._used if model.counts[j]]
        if model.steps:
            self._offset = model.offset
        self._resume(
            {j: model.weights[j] for j in self._used},
            model.intercept,
            {j: model.counts[j] for j in seen},
            {j: model.means[j] for j in seen},
            {j: model.variances[j] for j in seen},
            steps=model.steps,
        )
