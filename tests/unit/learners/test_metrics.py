"""Measures against brute force: pairs for the ROC area, thresholds one by one for average precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from core.times import DAY_MS
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
    scores = 1.0 / (1.0 + np.exp(-rng.normal(labels * 1.0, 1.0)))
    groups = rng.integers(0, 200, 2000)
    first, again = (metrics.bootstrap(labels, scores, groups, seed=5, rounds=50) for _ in range(2))
    assert first == again
    for interval in first.values():
        assert interval.low < interval.value < interval.high


probabilities = st.lists(
    st.tuples(st.booleans(), st.floats(0.0, 1.0, allow_subnormal=False)), min_size=1, max_size=60
).map(lambda data: (np.array([y for y, _ in data]), np.array([p for _, p in data])))


@settings(deadline=None, derandomize=True)
@given(probabilities)
def test_brier_and_log_loss_are_means_over_rows(data: tuple[metrics.Labels, metrics.Scores]) -> None:
    """Row by row: the squared error, and minus the log of what the outcome was given, at least 1e-15."""
    labels, p = data
    pairs = list(zip(labels.tolist(), p.tolist(), strict=True))
    assert metrics.brier(labels, p) == pytest.approx(sum((q - y) ** 2 for y, q in pairs) / len(pairs))
    losses = [-math.log(max(q if y else 1.0 - q, 1e-15)) for y, q in pairs]
    assert metrics.log_loss(labels, p) == pytest.approx(sum(losses) / len(pairs))


@settings(deadline=None, derandomize=True)
@given(probabilities, st.integers(1, 12))
def test_ece_weighs_the_bins_gaps(data: tuple[metrics.Labels, metrics.Scores], bins: int) -> None:
    """Each distinct probability goes to the bin of the middle of its rows; the gaps of the means, weighed by rows."""
    labels, p = data
    k = min(bins, len(p))
    parts: dict[int, list[tuple[float, bool]]] = {}
    for q in sorted(set(p.tolist())):
        first, count = int((p < q).sum()), int((p == q).sum())
        parts.setdefault((first + count // 2) * k // len(p), []).extend((q, bool(y)) for y in labels[p == q])
    total = sum(abs(sum(q for q, _ in part) - sum(y for _, y in part)) for part in parts.values())
    assert metrics.ece(labels, p, bins) == pytest.approx(total / len(p), abs=1e-12)
    found = metrics.reliability(labels, p, bins)
    assert found.rows.tolist() == [len(parts[bin]) for bin in sorted(parts)]
    if len(set(p.tolist())) == len(p):
        assert found.rows.max() - found.rows.min() <= 1


@settings(deadline=None, derandomize=True)
@given(rows)
def test_pr_curve_is_precision_and_recall_at_every_score(data: list[tuple[bool, int, float]]) -> None:
    """At each distinct score, from the highest down, by counting."""
    labels, scores, _ = arrays(data)
    curve = metrics.pr_curve(labels, scores)
    if not labels.any():
        assert len(curve.thresholds) == 0
        return
    assert curve.thresholds.tolist() == sorted(set(scores.tolist()), reverse=True)
    for threshold, precision, recall in zip(*curve, strict=True):
        taken = scores >= threshold
        assert precision == pytest.approx(labels[taken].mean())
        assert recall == pytest.approx(labels[taken].sum() / labels.sum())


payments = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 6), st.booleans(), st.integers(0, 9)), min_size=1, max_size=80
)


def handbook_card_precision(data: list[tuple[int, int, bool, int]], k: int) -> list[float]:
    """The Handbook's card_precision_top_k in plain Python: day, account, fraud, score."""
    detected: set[int] = set()
    out = []
    for day in sorted({row[0] for row in data}):
        best: dict[int, int] = {}
        fraud: dict[int, bool] = {}
        for _, account, is_fraud, score in (row for row in data if row[0] == day and row[1] not in detected):
            best[account] = max(best.get(account, -1), score)
            fraud[account] = fraud.get(account, False) or is_fraud
        top = sorted(best, key=lambda account: (-best[account], account))[:k]
        found = [account for account in top if fraud[account]]
        detected.update(found)
        out.append(len(found) / k)
    return out


@settings(deadline=None, derandomize=True)
@given(payments, st.integers(1, 4))
def test_card_precision_is_the_handbooks(data: list[tuple[int, int, bool, int]], k: int) -> None:
    """Accounts by their highest score of the day, k of them, those found with fraud not seen again."""
    days, accounts, labels, scores = (np.array(column) for column in zip(*data, strict=True))
    found = metrics.card_precision_at_k(labels, scores * 1.0, days * DAY_MS + 5, accounts, k)
    assert [day.precision for day in found] == pytest.approx(handbook_card_precision(data, k))
    assert metrics.mean_card_precision(found) == pytest.approx(np.mean(handbook_card_precision(data, k)))
    assert [day.day for day in found] == sorted({row[0] for row in data})


@settings(deadline=None, derandomize=True, max_examples=30)
@given(rows, st.integers(0, 5))
def test_the_bootstrap_draws_whole_accounts(data: list[tuple[bool, int, float]], seed: int) -> None:
    """Weights stand for rows that are drawn several times: the percentiles are those of the rows copied out."""
    labels, counts, _ = arrays(data)
    p = counts / 6.0
    groups = np.arange(len(labels)) // 3 * 7 + 1
    found = metrics.bootstrap(labels, p, groups, seed=seed, rounds=12)
    rng = np.random.Generator(np.random.PCG64(seed))
    names = np.unique(groups)
    samples = []
    for _ in range(12):
        drawn = rng.integers(0, len(names), len(names))
        taken = np.concatenate([np.flatnonzero(groups == names[i]) for i in drawn])
        y, q = labels[taken], p[taken]
        measures = (metrics.roc_auc, metrics.average_precision, metrics.brier, metrics.log_loss)
        samples.append([measure(y, q) for measure in measures])
    for name, column in zip(("auc_roc", "average_precision", "brier", "log_loss"), np.array(samples).T, strict=True):
        if np.isnan(column).all():
            assert math.isnan(found[name].low)
            continue
        low, high = np.nanpercentile(column, [2.5, 97.5])
        assert found[name][1:] == pytest.approx((low, high), abs=1e-12)


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 10**6), st.floats(0.0, 1.0))
def test_wilsons_interval_is_scipys(rows: int, share: float) -> None:
    """The interval of a binomial share that scipy calls wilson."""
    hits = round(rows * share)
    low, high = metrics.wilson(np.array([hits * 1.0]), np.array([rows]), float(norm.ppf(0.975)))
    expected = binomtest(hits, rows).proportion_ci(method="wilson")
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=1e-9)
