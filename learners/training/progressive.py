"""Progressive validation with delayed labels: predict a row when it happens, learn it when its label arrives.

The honest figure of a learner that never stops (Gama, Sebastião, Rodrigues 2013; with delay: Gomes et al. 2017,
`river.evaluate.progressive_validation`): every prediction is made before its own label, and with only those labels that
had arrived. Pure: times are passed in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from learners.metrics import Labels
from learners.training.base import Float32, Float64, Learner

NEVER = 2**63 - 1


def progressive(
    learner: Learner,
    features: Float32,
    labels: Labels,
    times: NDArray[np.int64],
    arrivals: NDArray[np.int64],
    batch: int = 1,
) -> Float64:
    """Margins (n,) of rows in ascending order of event time, each as predicted at its time.

    The learner is left with the labels that arrived up to the last row's time, but for a last batch that is not full.

    times, arrivals: int64 (n,), epoch ms; an arrival is when the row's label was known, NEVER for none. A label that
    arrives at the very time of a row is learned first: it was known. Labels are learned in the order of arrival, at the
    same time in the order of rows, and once at least `batch` of them wait (1: at once); a forest wants thousands.
    Raises BadInput if times descend, a label arrives before its row, or lengths differ.
    """
    _check(features, labels, times, arrivals, batch)
    order = np.argsort(arrivals, kind="stable")
    known = np.searchsorted(arrivals[order], times, side="right")  # labels that had arrived, by row
    out = np.empty(len(times), dtype=np.float64)
    learned = start = 0
    while start < len(times):
        if known[start] - learned >= batch:
            rows = order[learned : known[start]]
            learner.learn(features[rows], labels[rows])
            learned = int(known[start])
        # Rows before the next learning see the same state: one call predicts them all.
        end = int(np.searchsorted(known, learned + batch, side="left"))
        out[start:end] = learner.predict(features[start:end])
        start = end
    return out


def _check(
    features: Float32, labels: Labels, times: NDArray[np.int64], arrivals: NDArray[np.int64], batch: int
) -> None:
    if not len(features) == len(labels) == len(times) == len(arrivals):
        raise BadInput("progressive validation: features, labels, times and arrivals differ in length")
    if (np.diff(times) < 0).any():
        raise BadInput("progressive validation: rows must be in ascending order of event time")
    if (arrivals < times).any():
        raise BadInput("progressive validation: a label arrives before its transaction")
    if batch < 1:
        raise BadInput(f"progressive validation: batch must be at least 1, not {batch}")
