"""The online learner against River used directly and against batch statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
from river import linear_model, optim, preprocessing

from core.errors import BadInput
from learners.training.online import OnlineLearner, OnlineSettings
from models.linear import parse

COLUMNS = ("amount", "hour", "count", "risk", "constant")
PLAIN = OnlineSettings(rate=0.01, l2=1e-4, clip=1000.0, fraud_weight=1.0)


def problem(count: int, seed: int, missing: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.lognormal(size=(count, len(COLUMNS))).astype(np.float32)
    x[:, 4] = 7.0
    y = x[:, 0] > 2.5
    x[random.random(x.shape) < missing] = np.nan
    return x, y


def test_without_our_additions_it_is_river() -> None:
    """No missing values, no clipping, no fraud weight: River's own pipeline gives the same margins within rounding."""
    x, y = problem(400, 1, missing=0.0)
    model = preprocessing.StandardScaler() | linear_model.LogisticRegression(
        optim.SGD(0.01), l2=1e-4, intercept_lr=0.01
    )
    for row, label in zip(x.tolist(), y.tolist(), strict=True):
        model["StandardScaler"].learn_one(dict(enumerate(row)))
        scaled = model["StandardScaler"].transform_one(dict(enumerate(row)))
        model["LogisticRegression"].learn_one(scaled, label)
    learner = OnlineLearner(COLUMNS, PLAIN)
    learner.learn(x, y)
    for row, margin in zip(x[:50].tolist(), learner.predict(x[:50]).tolist(), strict=True):
        p = model.predict_proba_one(dict(enumerate(row)))[True]
        assert math.isclose(math.log(p / (1 - p)), margin, rel_tol=1e-9, abs_tol=1e-9)


def test_running_statistics_are_those_of_the_values_that_were_there() -> None:
    """Counts, means and population variances are numpy's over the finite values of each column."""
    x, y = problem(700, 2)
    x[5, 0], x[6, 1] = np.inf, -np.inf
    learner = OnlineLearner(COLUMNS)
    learner.learn(x, y)
    found = parse(learner.export())
    for j in range(len(COLUMNS)):
        there = x[:, j][np.isfinite(x[:, j])].astype(np.float64)
        assert found.counts[j] == len(there)
        assert math.isclose(found.means[j], there.mean(), rel_tol=1e-9)
        assert math.isclose(found.variances[j], there.var(), rel_tol=1e-9, abs_tol=1e-12)
    assert found.steps == learner.steps == 700


def test_a_batch_is_its_rows_one_after_the_other() -> None:
    """Label by label and all at once lead to the same state, with predictions in between or not."""
    x, y = problem(200, 3)
    weights = np.random.default_rng(0).random(200) + 0.5
    whole, single = OnlineLearner(COLUMNS), OnlineLearner(COLUMNS)
    whole.learn(x, y, weights)
    for i in range(200):
        single.predict(x[i : i + 1])
        single.learn(x[i : i + 1], y[i : i + 1], weights[i : i + 1])
    assert whole.export() == single.export()


def test_the_weight_of_frauds_is_taken_off_the_margin_again() -> None:
    """With frauds learned twenty-fold the mean probability is still near the share of frauds."""
    x, y = problem(6000, 4, missing=0.0)
    y &= np.random.default_rng(1).random(len(y)) < 0.3
    learner = OnlineLearner(COLUMNS, OnlineSettings(rate=0.002, fraud_weight=20.0))
    for _ in range(3):
        learner.learn(x, y)
    p = 1 / (1 + np.exp(-learner.predict(x)))
    raw = 1 / (1 + np.exp(-learner.predict(x) - math.log(20.0)))
    assert abs(p.mean() - y.mean()) < 0.4 * y.mean() < 2.0 * y.mean() < raw.mean()


def test_one_wild_label_moves_little() -> None:
    """A value of 1e30 on one row shifts no weight by more than rate × clip."""
    x, y = problem(500, 5, missing=0.0)
    learner = OnlineLearner(COLUMNS)
    learner.learn(x, y)
    before = parse(learner.export()).weights
    wild = np.array([[1e30, 1.0, 1.0, 1.0, 7.0]], dtype=np.float32)
    learner.learn(wild, np.array([False]))  # against what it has learned, so that the gradient is large
    s = OnlineSettings()
    for old, new in zip(before, parse(learner.export()).weights, strict=True):
        assert abs(new - old) <= s.rate * s.clip * 1.001


def test_columns_left_out_have_no_say() -> None:
    """With `use`, the other columns keep a weight and a count of 0, and changing them changes no margin."""
    x, y = problem(300, 6)
    learner = OnlineLearner(COLUMNS, use=("risk", "amount"))
    learner.learn(x, y)
    found = parse(learner.export())
    assert [bool(count) for count in found.counts] == [True, False, False, True, False]
    assert [bool(weight) for weight in found.weights] == [True, False, False, True, False]
    other = x.copy()
    other[:, [1, 2, 4]] = 99.0
    assert learner.predict(other).tobytes() == learner.predict(x).tobytes()
    with pytest.raises(BadInput, match="unknown columns: colour"):
        OnlineLearner(COLUMNS, use=("colour",))


def test_an_artifact_of_other_settings_is_bad_input() -> None:
    """Another clip, fraud weight or set of columns would go on learning something else, so it is refused."""
    x, y = problem(50, 7)
    learner = OnlineLearner(COLUMNS)
    learner.learn(x, y)
    for other in (
        OnlineLearner(COLUMNS, OnlineSettings(clip=3.0)),
        OnlineLearner(COLUMNS, OnlineSettings(fraud_weight=7.0)),
        OnlineLearner(COLUMNS, use=COLUMNS[:2]),
    ):
        before = other.digest
        with pytest.raises(BadInput):
            other.restore(learner.export())
        assert other.digest == before


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"rate": 2.0}, {"l2": 1.0}, {"clip": 0.0}, {"fraud_weight": 0.0}])
def test_settings_that_can_not_learn_are_bad_input(wrong: dict[str, float]) -> None:
    """Each bound is checked when the settings are made."""
    with pytest.raises(BadInput):
        OnlineSettings(**wrong)
