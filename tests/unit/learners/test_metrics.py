"""Measures against brute force: pairs for the ROC area, thresholds one by one for average precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learners import metrics

rows = st.lists(
    st.tuples(st.booleans(), st.integers(0, 6), st.floats(0.0, 1e6, allow_subnormal=False)), min_size=1, max_size=60
)


def arrays(data: list[tuple[bool, int, float]]) -> tuple[metrics.Labels, metrics.Scores, metrics.Scores]:
    labels, scores, amounts = zip(*data, strict=True)
    return np.array(labels, dtype=np.bool_), np.array(scores, dtype=np.float64), np.array(amounts, dtype=np.float64)


@settings(deadline=None, derandomize=True)
@given(rows)
def test_roc_auc_is_the_share_of_ordered_pairs(data: list[tuple[bool, int, float]]) -> None:
    """Over all pairs of a fraud and a legitimate row: won 1, tied ½; NaN without one of the classes."""
    labels, scores, _ = arrays(data)
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[labels] for b in scores[~labels]]
    expected = float(np.mean(pairs)) if pairs else math.nan
    assert metrics.roc_auc(labels, scores) == pytest.approx(expected, nan_ok=True)


@settings(deadline=None, derandomize=True)
@given(rows)
def test_average_precision_sums_over_distinct_scores(data: list[tuple[bool, int, float]]) -> None:
    """Recall gained at each distinct score, times the precision there; ties count together."""
    labels, scores, _ = arrays(data)
    expected, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        taken = scores >= threshold
        recall = (labels & taken).sum() / labels.sum() if labels.any() else math.nan
        expected += (recall - recall_before) * labels[taken].mean()
        recall_before = recall
    assert metrics.average_precision(labels, scores) == pytest.approx(
        expected if labels.any() else math.nan, nan_ok=True
    )


@settings(deadline=None, derandomize=True)
@given(rows)
def test_at_threshold_counts_what_is_alerted(data: list[tuple[bool, int, float]]) -> None:
    """Alert rate, precision, recall, value and FP:TP from plain counting."""
    labels, scores, amounts = arrays(data)
    alerted = scores >= 3
    at = metrics.at_threshold(labels, alerted, amounts)
    hits = sum(1 for y, a in zip(labels, alerted, strict=True) if y and a)
    raised = int(alerted.sum())
    assert at.alert_rate == pytest.approx(raised / len(labels))
    assert at.precision == pytest.approx(hits / raised if raised else math.nan, nan_ok=True)
    assert at.recall == pytest.approx(hits / labels.sum() if labels.any() else math.nan, nan_ok=True)
    assert at.false_positive_ratio == pytest.approx((raised - hits) / hits if hits else math.inf)


def test_a_perfect_and_an_inverted_ranking() -> None:
    """All frauds first: both measures 1; all frauds last: the ROC area is 0."""
    labels = np.array([True, True, False, False])
    assert metrics.roc_auc(labels, np.array([4.0, 3.0, 2.0, 1.0])) == 1.0
    assert metrics.average_precision(labels, np.array([4.0, 3.0, 2.0, 1.0])) == 1.0
    assert metrics.roc_auc(labels, np.array([1.0, 2.0, 3.0, 4.0])) == 0.0


def test_the_bootstrap_is_seeded_and_brackets_the_value() -> None:
    """The same seed gives the same interval, which holds the value on data with signal."""
    rng = np.random.Generator(np.random.PCG64(3))
    labels = rng.random(2000) < 0.1
    scores = rng.normal(labels * 1.0, 1.0)
    groups = rng.integers(0, 200, 2000)
    first, again = (metrics.bootstrap(labels, scores, groups, seed=5, rounds=50) for _ in range(2))
    assert first == again
    for interval in first.values():
        assert interval.low < interval.value < interval.high
