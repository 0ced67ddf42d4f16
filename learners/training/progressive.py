"""Progressive validation with delayed labels: predict a row when it happens, learn it when its label arrives.

This evaluates an incremental learner without hindsight (Gama, Sebastião, Rodrigues 2013; with delay: Gomes et al.
2017, `river.evaluate.progressive_validation`): every prediction uses only the labels that had arrived by then. Pure:
times are passed in.
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
    """Margins (n,) of rows in ascending order of event time, each predicted at its time.

    Afterwards the learner has learned the labels that arrived up to the last row's time, except an incomplete last
    batch.

    times, arrivals: int64 (n,), epoch ms; an arrival is when the row's label became known, NEVER if it never did. A
    label that arrives at the same time as a row is learned before the row is predicted. Labels are learned in order of
    arrival (ties: order of rows) once at least `batch` are waiting (1: immediately); a forest needs thousands. Raises
    BadInput if times descend, a label arrives before its row, or lengths differ.
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
        # All rows before the next update see the same state, so one call predicts them all.
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
