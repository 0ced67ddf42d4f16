"""Measures of a fraud model, in the field's terms. Float64 in, plain floats out; no state."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Labels = NDArray[np.bool_]
Scores = NDArray[np.float64]


def roc_auc(labels: Labels, scores: Scores) -> float:
    """Area under the ROC curve: the chance that a fraud scores above a legitimate one, ties half (Mann, Whitney 1947).

    NaN if one class is missing.
    """
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(labels: Labels, scores: Scores) -> float:
    """Σ (recall step × precision) over the distinct scores, descending; NaN without a fraud."""
    positives = int(labels.sum())
    if positives == 0:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order])
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    precision = hits[last] / (last + 1)
    recall = hits[last] / positives
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


class AtThreshold(NamedTuple):
    """What alerting from a threshold on gives. Shares in [0, 1]; false_positive_ratio is FP:TP (inf without a hit)."""

    alert_rate: float
    precision: float
    recall: float
    value_detection_rate: float
    false_positive_ratio: float


def at_threshold(labels: Labels, alerted: Labels, amounts: Scores) -> AtThreshold:
    """value_detection_rate is the share of the fraud's amount that was alerted. NaN where nothing is there to divide
    by.
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


class Interval(NamedTuple):
    """A figure with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def bootstrap(
    labels: Labels, scores: Scores, groups: NDArray[np.int64], seed: int, rounds: int = 200
) -> dict[str, Interval]:
    """Percentile bootstrap over groups (accounts), so that one account's transactions stay together (Efron 1979)."""
    rng = np.random.Generator(np.random.PCG64(seed))
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    members = np.split(order, starts[1:])
    samples: dict[str, list[float]] = {"auc_roc": [], "average_precision": []}
    for _ in range(rounds):
        rows = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        samples["auc_roc"].append(roc_auc(labels[rows], scores[rows]))
        samples["average_precision"].append(average_precision(labels[rows], scores[rows]))
    points = {"auc_roc": roc_auc(labels, scores), "average_precision": average_precision(labels, scores)}
    return {
        name: Interval(points[name], *(float(q) for q in np.nanpercentile(values, [2.5, 97.5])))
        for name, values in samples.items()
    }
