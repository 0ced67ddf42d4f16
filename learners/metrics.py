"""Metrics of fraud models. Float64 arrays in, plain floats out; no state."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.times import DAY_MS

Labels = NDArray[np.bool_]
Scores = NDArray[np.float64]


def midranks(values: Scores) -> NDArray[np.float64]:
    """Ranks from 1, ties averaged (scipy.stats.rankdata, without its import time of a second)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle: NDArray[np.float64] = np.cumsum(counts) - (counts - 1) / 2.0
    return middle[inverse]


def roc_auc(labels: Labels, scores: Scores) -> float:
    """Area under the ROC curve: the probability that a fraud scores above a legitimate payment, ties counting half
    (Mann, Whitney 1947). NaN if one class is missing.
    """
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    ranks = midranks(scores)
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(labels: Labels, scores: Scores) -> float:
    """Σ (increase in recall × precision) over the distinct scores, descending; NaN without frauds."""
    if not labels.any():
        return float("nan")
    curve = pr_curve(labels, scores)
    return float(np.sum(np.diff(curve.recall, prepend=0.0) * curve.precision))


class AtThreshold(NamedTuple):
    """Metrics of alerting at a threshold. Shares in [0, 1]; false_positive_ratio is FP:TP (inf without a true
    positive).
    """

    alert_rate: float
    precision: float
    recall: float
    value_detection_rate: float
    false_positive_ratio: float


def at_threshold(labels: Labels, alerted: Labels, amounts: Scores) -> AtThreshold:
    """Metrics of the alerts `alerted`, bool (n,). value_detection_rate is the share of the fraudulent amount that was
    alerted. NaN where the denominator is 0.
    """
    true = int((labels & alerted).sum())
    raised, frauds = int(alerted.sum()), int(labels.sum())
    value = float(amounts[labels].sum())
    return AtThreshold(
        alert_rate=raised / len(labels) if len(labels) else float("nan"),
        precision=true / raised if raised else float("nan"),
        recall=true / frauds if frauds else float("nan"),
        value_detection_rate=float(amounts[labels & alerted].sum()) / value if value else float("nan"),
        false_positive_ratio=(raised - true) / true if true else float("inf"),
    )


class Curve(NamedTuple):
    """Precision and recall at each distinct score, from the highest down; float64 (k,) each."""

    thresholds: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


def pr_curve(labels: Labels, scores: Scores) -> Curve:
    """Precision and recall with each distinct score as the threshold. Empty without frauds."""
    positives = int(labels.sum())
    if positives == 0:
        return Curve(*(np.empty(0) for _ in range(3)))
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order])
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    return Curve(scores[order][last], hits[last] / (last + 1), hits[last] / positives)


# --- probabilities ------------------------------------------------------------------------------------------------


def brier(labels: Labels, probabilities: Scores) -> float:
    """Mean squared error of the probabilities (Brier 1950); NaN without rows."""
    return float(np.mean((probabilities - labels) ** 2)) if len(labels) else float("nan")


LOG_LOSS_FLOOR = 1e-15


def log_loss(labels: Labels, probabilities: Scores) -> float:
    """Mean −log of the probability assigned to the true label, clipped at 1e-15 from below; NaN without rows."""
    if not len(labels):
        return float("nan")
    given = np.where(labels, probabilities, 1.0 - probabilities)
    return float(-np.mean(np.log(np.maximum(given, LOG_LOSS_FLOOR))))


class Reliability(NamedTuple):
    """Bins with equal numbers of rows, by probability: mean probability, share of fraud, rows; (k,) each."""

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    rows: NDArray[np.int64]


def wilson(
    hits: NDArray[np.float64], rows: NDArray[np.int64], deviations: float = 1.96
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score interval of a share (Wilson 1927), by default 95 %: (low, high), (k,) each. rows must be above 0."""
    share, z2 = hits / rows, deviations**2
    centre = (share + z2 / (2 * rows)) / (1 + z2 / rows)
    half = deviations * np.sqrt(share * (1 - share) / rows + z2 / (4 * rows**2)) / (1 + z2 / rows)
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


CALIBRATION_BINS = 20


def equal_bins(values: Scores, bins: int = CALIBRATION_BINS) -> NDArray[np.int64]:
    """The bin of each value, from 0 in ascending order, without gaps: int64 (n,). Bins have about equal numbers of
    rows; equal values share one bin, so the order of the rows never matters.

    A distinct value goes to the bin in which the middle of its rows falls.
    """
    if not len(values):
        return np.empty(0, dtype=np.int64)
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) // 2
    wanted = middle * min(bins, len(values)) // len(values)
    return np.asarray(np.unique(wanted, return_inverse=True)[1][inverse], dtype=np.int64)


def reliability(labels: Labels, probabilities: Scores, bins: int = CALIBRATION_BINS) -> Reliability:
    """Predicted and observed shares of fraud by bin. Bins have equal numbers of rows, not equal width: with 1 % fraud
    nearly every probability is near 0, and one wide bin would hold them all (Nixon et al. 2019). Equal probabilities
    share one bin (`equal_bins`).
    """
    if not len(labels):
        return Reliability(np.empty(0), np.empty(0), np.empty(0, dtype=np.int64))
    member = equal_bins(probabilities, bins)
    order = np.argsort(probabilities, kind="stable")  # sums in one order, whatever the order of the rows
    sizes = np.bincount(member)
    predicted = np.bincount(member[order], probabilities[order]) / sizes
    observed = np.bincount(member, labels.astype(np.float64)) / sizes
    return Reliability(predicted, observed, sizes.astype(np.int64))


def ece(labels: Labels, probabilities: Scores, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error (Naeini 2015): mean |predicted − observed| over the bins of `reliability`, weighted by
    rows. NaN without rows.
    """
    found = reliability(labels, probabilities, bins)
    if not len(found.rows):
        return float("nan")
    return float(np.sum(np.abs(found.predicted - found.observed) * found.rows) / found.rows.sum())


# --- accounts, day by day -------------------------------------------------------------------------------------------


class CardDay(NamedTuple):
    """One UTC day: active accounts, those with a fraud, those of them found among the top k, and found / k."""

    day: int
    accounts: int
    compromised: int
    found: int
    precision: float


def card_precision_at_k(
    labels: Labels, scores: Scores, times: NDArray[np.int64], accounts: NDArray[np.int64], k: int = 100
) -> list[CardDay]:
    """Card precision@k by day: the precision of a team that investigates k accounts a day (Fraud Detection Handbook,
    Le Borgne et al. 2022, section 4.3).

    An account's score and label for a day are the maxima over its payments of that day. The k accounts with the
    highest scores are investigated (ties: smaller account number first); an account found to have a fraud is excluded
    from later days. precision divides by k even if fewer accounts are left. times: epoch ms; `day` is the epoch day.
    The Handbook's figure is the mean of the days' precision.
    """
    days = times // DAY_MS
    detected = np.empty(0, dtype=np.int64)
    out: list[CardDay] = []
    for day in np.unique(days).tolist():
        rows = np.flatnonzero(days == day)
        rows = rows[~np.isin(accounts[rows], detected)]
        seen, inverse = np.unique(accounts[rows], return_inverse=True)
        score = np.full(len(seen), -np.inf)
        np.maximum.at(score, inverse, scores[rows])
        fraud = np.bincount(inverse, labels[rows], minlength=len(seen)) > 0
        top = np.argsort(-score, kind="stable")[:k]
        found = seen[top[fraud[top]]]
        detected = np.concatenate([detected, found])
        out.append(CardDay(int(day), len(seen), int(fraud.sum()), len(found), len(found) / k))
    return out


def mean_card_precision(days: list[CardDay]) -> float:
    """The mean of the days' precision; NaN without a day."""
    return float(np.mean([day.precision for day in days])) if days else float("nan")


# --- confidence -----------------------------------------------------------------------------------------------------


class Interval(NamedTuple):
    """A metric with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def bootstrap(
    labels: Labels, scores: Scores, groups: NDArray[np.int64], seed: int, rounds: int = 200
) -> dict[str, Interval]:
    """Percentile bootstrap over groups (accounts), so that an account's transactions stay together (Efron 1979).

    Returns auc_roc, average_precision, brier and log_loss; scores are probabilities. An account drawn k times has
    weight k, so that rows are sorted only once: a round is O(n).
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    names, inverse = np.unique(groups, return_inverse=True)
    order = np.argsort(scores, kind="stable")
    y, s, member = labels[order], scores[order], inverse[order]
    last = np.append(np.flatnonzero(np.diff(s)), len(s) - 1)
    squared = (s - y) ** 2
    surprise = -np.log(np.maximum(np.where(y, s, 1.0 - s), LOG_LOSS_FLOOR))
    samples: dict[str, list[float]] = {"auc_roc": [], "average_precision": [], "brier": [], "log_loss": []}
    for _ in range(rounds):
        drawn = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
        weights = drawn[member].astype(np.float64)
        total = weights.sum()
        auc, precision = _weighted(np.cumsum(weights * y)[last], np.cumsum(weights)[last])
        samples["auc_roc"].append(auc)
        samples["average_precision"].append(precision)
        samples["brier"].append(float(weights @ squared / total))
        samples["log_loss"].append(float(weights @ surprise / total))
    points = {
        "auc_roc": roc_auc(labels, scores),
        "average_precision": average_precision(labels, scores),
        "brier": brier(labels, scores),
        "log_loss": log_loss(labels, scores),
    }
    return {name: Interval(points[name], *_middle(values)) for name, values in samples.items()}


def _middle(values: list[float]) -> tuple[float, float]:
    """The middle 95 % of the values that are not NaN; NaN if all are."""
    found = np.array(values)
    found = found[~np.isnan(found)]
    if not len(found):
        return float("nan"), float("nan")
    low, high = np.percentile(found, [2.5, 97.5]).tolist()
    return low, high


def _weighted(frauds: NDArray[np.float64], rows: NDArray[np.float64]) -> tuple[float, float]:
    """(area under the ROC curve, average precision) from the cumulative weights of frauds and of all rows up to each
    distinct score, ascending. NaN where a class is missing.
    """
    positives, negatives = frauds[-1], rows[-1] - frauds[-1]
    if positives <= 0:
        return float("nan"), float("nan")
    own = np.diff(frauds, prepend=0.0)
    legitimate = rows - frauds
    below = np.concatenate([[0.0], legitimate[:-1]])
    auc = float(own @ (below + 0.5 * (legitimate - below)) / (positives * negatives)) if negatives > 0 else float("nan")
    taken = rows[-1] - np.concatenate([[0.0], rows[:-1]])
    hits = positives - np.concatenate([[0.0], frauds[:-1]])
    present = taken > 0
    precision = np.divide(hits, taken, out=np.zeros_like(hits), where=present)
    return auc, float(own @ precision / positives)
