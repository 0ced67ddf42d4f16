"""How well the model is doing before any label has come: confidence-based performance estimation.

If a score is calibrated, a payment with probability p is a fraud in p of such cases, so the expected number of hits,
false alarms and misses, and from them every measure, follows from the scores alone (CBPE, as in NannyML; Kivimäki
et al. 2025, "Performance estimation in binary classification using calibrated confidence"). Calibration is
`learners.platt`'s, fitted on the labelled reference window.

It sees that the payments have changed (more of them in the grey zone: worse). It can't see that fraud itself has
changed, since then p is wrong: labels tell that (`performance`). So it is shown, and never told as drift.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from learners.platt import Platt

Floats = NDArray[np.float64]


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Expected figures of a window without labels. Shares in [0, 1]; NaN where nothing is expected to divide by."""

    rows: int
    fraud_rate: float
    alert_rate: float
    precision: float
    recall: float
    auc_roc: float
    average_precision: float


def estimate(margins: Floats, calibration: Platt, alerted: NDArray[np.bool_]) -> Estimate:
    """Expected figures of decisions with these margins; alerted (n,): which of them were reviewed or declined.

    AUC is E[ordered pairs] / E[pairs], pairs of a row with itself left out; precision, recall and average precision are
    ratios of expectations too, which is exact for many rows.
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
    """Of rows in ascending order of margin."""
    if pairs <= 0:
        return float("nan")
    first = np.flatnonzero(np.diff(margins, prepend=np.nan) != 0)
    tied = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(margins))))
    honest = np.add.reduceat(1 - p, first)
    below = (np.cumsum(honest) - honest)[tied]
    return float((p * (below + 0.5 * (honest[tied] - (1 - p)))).sum() / pairs)


def _expected_average_precision(margins: Floats, p: Floats) -> float:
    """Of rows in descending order of margin."""
    if not len(p) or p.sum() <= 0:
        return float("nan")
    last = np.append(np.flatnonzero(np.diff(margins)), len(margins) - 1)
    hits = np.cumsum(p)[last]
    return float((np.diff(hits, prepend=0.0) * hits / (last + 1)).sum() / hits[-1])
