"""Confidence-based performance estimation (CBPE): the model's performance before any label has arrived.

If scores are calibrated, a payment with probability p is a fraud with probability p. The expected numbers of true
positives, false positives and false negatives, and every metric derived from them, then follow from the scores alone
(CBPE, as in NannyML; Kivimäki et al. 2025, "Performance estimation in binary classification using calibrated
confidence"). Calibration is Platt scaling (`learners.platt`), fitted on the labelled reference window.

The estimate detects covariate shift, such as more payments in the grey zone. It can't detect a change in fraud itself
(concept shift), because p is then wrong; only labels show that (`performance`). The estimate is therefore displayed but
never reported as drift.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from learners.platt import Platt

Floats = NDArray[np.float64]


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Expected metrics of a window without labels. Shares in [0, 1]; NaN where the expected denominator is 0."""

    rows: int
    fraud_rate: float
    alert_rate: float
    precision: float
    recall: float
    auc_roc: float
    average_precision: float


def estimate(margins: Floats, calibration: Platt, alerted: NDArray[np.bool_]) -> Estimate:
    """Expected metrics of decisions with these margins; alerted, bool (n,): reviewed or declined.

    AUC is E[ordered pairs] / E[pairs], excluding pairs of a row with itself; precision, recall and average precision
    are also ratios of expectations, which is exact in the limit of many rows.
    """
    p = calibration.probabilities(margins)
    frauds, honest = float(p.sum()), float((1 - p).sum())
    hits = float(p[alerted].sum())
    raised = int(alerted.sum())
    order = np.argsort(margins, kind="stable")
    return Estimate(
        rows=len(p),
        fraud_rate=frauds / len(p) if len(p) else float("nan"),
        alert_rate=raised / len(p) if len(p) else float("nan"),
        precision=hits / raised if raised else float("nan"),
        recall=hits / frauds if frauds else float("nan"),
        auc_roc=_expected_auc(margins[order], p[order], frauds * honest - float((p * (1 - p)).sum())),
        average_precision=_expected_average_precision(margins[order][::-1], p[order][::-1]),
    )


def _expected_auc(margins: Floats, p: Floats, pairs: float) -> float:
    """Expected AUC of rows in ascending order of margin."""
    if pairs <= 0:
        return float("nan")
    first = np.flatnonzero(np.diff(margins, prepend=np.nan) != 0)
    tied = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(margins))))
    honest = np.add.reduceat(1 - p, first)
    below = (np.cumsum(honest) - honest)[tied]
    return float((p * (below + 0.5 * (honest[tied] - (1 - p)))).sum() / pairs)


def _expected_average_precision(margins: Floats, p: Floats) -> float:
    """Expected average precision of rows in descending order of margin."""
    if not len(p) or p.sum() <= 0:
        return float("nan")
    last = np.append(np.flatnonzero(np.diff(margins)), len(margins) - 1)
    hits = np.cumsum(p)[last]
    return float((np.diff(hits, prepend=0.0) * hits / (last + 1)).sum() / hits[-1])
