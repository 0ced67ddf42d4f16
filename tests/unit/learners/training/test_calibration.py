"""Calibration: the likeliest (a, b), folded into a model that scores a·m + b bit for bit in both scorers."""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from core.errors import BadInput, Corrupt
from core.numeric import sigmoid
from learners import metrics
from learners.platt import IDENTITY, Platt, probabilities
from learners.training import calibration
from models.forest import ForestScorer

Rows = np.ndarray


def rows(count: int, seed: int) -> tuple[Rows, Rows]:
    rng = np.random.Generator(np.random.PCG64(seed))
    x = rng.normal(size=(count, 6)).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    x[:, 5] = rng.integers(0, 9, count)
    odds = 2.0 * np.nan_to_num(x[:, 0]) + (x[:, 5] > 5) - 3.0
    return x, rng.random(count) < 1.0 / (1.0 + np.exp(-odds))


def forest(weight: float = 1.0, rounds: int = 60) -> lgb.Booster:
    x, y = rows(4000, 1)
    params = {"objective": "binary", "verbose": -1, "num_threads": 1, "seed": 1, "scale_pos_weight": weight}
    return lgb.train(params, lgb.Dataset(x, y * 1.0, categorical_feature=[5]), rounds)


@pytest.fixture(scope="module")
def content() -> bytes:
    return str(forest().model_to_string()).encode()


@settings(deadline=None, derandomize=True, max_examples=10)
@given(st.floats(0.01, 20.0), st.floats(-12.0, 12.0))
def test_the_folded_model_scores_a_m_plus_b(content: bytes, a: float, b: float) -> None:
    """Its margin is a·m + b to 1e-9, and our scorer gives LightGBM's bits on it."""
    x, _ = rows(300, 2)
    platt = Platt(a, b)
    folded = calibration.fold(content, platt)
    before = lgb.Booster(model_str=content.decode()).predict(x, raw_score=True)
    after = lgb.Booster(model_str=folded.decode()).predict(x, raw_score=True)
    assert np.abs(after - platt.margins(before)).max() < 1e-9
    scorer = ForestScorer.load(folded, version="folded-1.0.0", spec=1)
    assert scorer.margins(x).tobytes() == after.tobytes()


def test_reasons_still_add_up_and_keep_their_shares(content: bytes) -> None:
    """Each feature's share is a times what it was; bias and shares are the margin."""
    x, _ = rows(20, 3)
    plain = ForestScorer.load(content, version="p-1.0.0", spec=1)
    folded = ForestScorer.load(calibration.fold(content, Platt(0.25, -1.5)), version="f-1.0.0", spec=1)
    for row in x:
        bias, shares = plain.contributions(row)
        bias_after, shares_after = folded.contributions(row)
        assert bias_after + shares_after.sum() == pytest.approx(folded.margins(row[None])[0], abs=1e-9)
        assert shares_after == pytest.approx(0.25 * shares, abs=1e-9)
        assert bias_after == pytest.approx(0.25 * bias - 1.5, abs=1e-9)


def test_folding_is_deterministic_and_one_and_zero_change_nothing(content: bytes) -> None:
    """The same bytes each time; a = 1, b = 0 gives the model itself; a model can be trained on from the folded one."""
    platt = Platt(0.8, 0.3)
    folded = calibration.fold(content, platt)
    assert folded == calibration.fold(content, platt) != content
    assert calibration.fold(folded, IDENTITY) == folded
    x, y = rows(1000, 4)
    params = {"objective": "binary", "verbose": -1, "num_threads": 1}
    more = lgb.train(params, lgb.Dataset(x, y * 1.0), 5, init_model=lgb.Booster(model_str=folded.decode()))
    first = lgb.Booster(model_str=folded.decode()).predict(x, raw_score=True)
    assert np.abs(more.predict(x, raw_score=True, num_iteration=60) - first).max() < 1e-9


def test_a_forest_of_single_leaves_is_folded_too() -> None:
    """A model that learnt nothing but the base rate has one leaf a tree."""
    x = np.zeros((100, 2))
    y = np.arange(100) < 10
    booster = lgb.train({"objective": "binary", "verbose": -1}, lgb.Dataset(x, y * 1.0), 3)
    folded = calibration.fold(booster.model_to_string().encode(), Platt(2.0, 1.0))
    margin = lgb.Booster(model_str=folded.decode()).predict(x[:1], raw_score=True)[0]
    assert margin == pytest.approx(2.0 * booster.predict(x[:1], raw_score=True)[0] + 1.0, abs=1e-9)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.integers(0, 10**6), st.floats(0.05, 5.0), st.floats(-4.0, 4.0), st.sampled_from([1e-3, 1.0, 1e3]))
def test_the_fit_is_the_likeliest(seed: int, a: float, b: float, scale: float) -> None:
    """No optimiser of scipy's finds a smaller loss, whatever the margins' scale."""
    rng = np.random.Generator(np.random.PCG64(seed))
    z = rng.normal(0.0, 3.0, 400)
    labels = rng.random(400) < 1.0 / (1.0 + np.exp(-(a * z + b)))
    labels[:2] = [True, False]
    margins = z * scale
    try:
        found = calibration.fit(margins, labels)
    except BadInput:
        assert np.corrcoef(margins, labels)[0, 1] < 0.1
        return
    n, m = labels.sum(), (~labels).sum()
    targets = np.where(labels, (n + 1) / (n + 2), 1 / (m + 2))

    def loss(at: Rows) -> float:
        q = at[0] * z + at[1]
        return float(np.sum(np.logaddexp(0.0, q) - targets * q))

    best = minimize(loss, [1.0, 0.0], method="BFGS")
    assert loss(np.array([found.a * scale, found.b])) <= best.fun + 1e-6 * abs(best.fun)


def test_calibration_mends_a_weighted_model() -> None:
    """Frauds weighed 30 times push the probabilities up; after folding they mean what they say, on rows seen by neither
    fit, and the ranking is the same.
    """
    booster = forest(weight=30.0)
    x, y = rows(4000, 5)
    platt = calibration.fit(booster.predict(x, raw_score=True), y)
    folded = calibration.fold(booster.model_to_string().encode(), platt)
    x, y = rows(4000, 6)
    before = booster.predict(x)
    scorer = ForestScorer.load(folded, version="f-1.0.0", spec=1)
    after = sigmoid(scorer.margins(x), 1.0)
    assert metrics.ece(y, before) > 0.1 > 0.04 > metrics.ece(y, after)
    assert metrics.brier(y, after) < metrics.brier(y, before)
    assert metrics.roc_auc(y, after) == pytest.approx(metrics.roc_auc(y, before), abs=1e-6)
    assert probabilities(scorer.margins(x)) == pytest.approx(after, abs=1e-12)


def test_what_can_not_be_calibrated_is_refused(content: bytes) -> None:
    """One class only, scores that fall with fraud, an (a, b) that would turn the ranking, a text without trees."""
    margins = np.linspace(-3.0, 3.0, 50)
    with pytest.raises(BadInput, match="frauds and legitimate"):
        calibration.fit(margins, np.zeros(50, dtype=np.bool_))
    with pytest.raises(BadInput, match="does not score fraud higher"):
        calibration.fit(margins, margins < 0)
    for bad in (Platt(0.0, 1.0), Platt(-1.0, 0.0), Platt(1.0, float("nan")), Platt(float("inf"), 0.0)):
        with pytest.raises(BadInput, match="cannot fold"):
            calibration.fold(content, bad)
    with pytest.raises(Corrupt):
        calibration.fold(b"tree\nnothing", Platt(1.0, 0.0))
