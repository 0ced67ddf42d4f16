"""Platt scaling (Platt 1999): a·m + b of a model's margins m, so that 1 / (1 + e^−(a·m + b)) is the share of frauds.

Fitted on labelled, held-out data. Training folds it into the model; drift uses it to estimate performance before labels
arrive.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.numeric import exp, log, sigmoid
from learners.metrics import Labels

ITERATIONS_MAX = 100
PRECISION = 1e-10
RIDGE = 1e-12
"""Added to the Hessian's diagonal, so that it can be inverted for any rows."""


class Platt(NamedTuple):
    """Calibrated log-odds = a × margin + b."""

    a: float
    b: float

    def margins(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """Margins (n,) → calibrated log-odds (n,)."""
        return self.a * margins + self.b

    def probabilities(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """Margins (n,) → calibrated probabilities (n,)."""
        return probabilities(self.margins(margins))


IDENTITY = Platt(1.0, 0.0)


def probabilities(margins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds (n,) → probabilities (n,), the bits of logged probabilities."""
    return np.asarray(sigmoid(np.ascontiguousarray(margins, dtype=np.float64), 1.0), dtype=np.float64)


def fit(margins: NDArray[np.float64], labels: Labels) -> Platt:
    """The maximum-likelihood (a, b), by Newton's method with backtracking (Lin, Lin, Weng 2007).

    margins float64 (n,), labels bool (n,). Platt's targets (n₊ + 1) / (n₊ + 2) and 1 / (n₋ + 2) replace 1 and 0, so
    that a perfect ranking or a missing class gives finite values. Without rows the result is the identity.

    Sums are numpy's own and the logarithms are the core's, not BLAS's and the C library's: calibration is part of a
    model's bytes, which must not depend on the processor.
    """
    if not len(labels):
        return IDENTITY
    positives = int(labels.sum())
    negatives = len(labels) - positives
    targets = np.where(labels, (positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0))
    # Margins are standardised, so that the starting point and the precision suit any scale.
    centre, scale = float(margins.mean()), float(margins.std()) or 1.0
    x = (margins - centre) / scale
    a, b = 0.0, float(log(np.array([(positives + 1.0) / (negatives + 1.0)]))[0])
    loss = _loss(x, targets, a, b)
    for _ in range(ITERATIONS_MAX):
        p = probabilities(a * x + b)
        of_a, of_b = float(np.sum(x * (p - targets))), float(np.sum(p - targets))
        weight = p * (1.0 - p)
        aa, ab, bb = float(np.sum(x * x * weight)) + RIDGE, float(np.sum(x * weight)), float(np.sum(weight)) + RIDGE
        determinant = aa * bb - ab * ab
        step_a, step_b = (bb * of_a - ab * of_b) / determinant, (aa * of_b - ab * of_a) / determinant
        size = 1.0
        while size > 1e-10:
            trial = (a - size * step_a, b - size * step_b)
            trial_loss = _loss(x, targets, *trial)
            if trial_loss < loss - 1e-4 * size * (of_a * step_a + of_b * step_b):
                break
            size /= 2.0
        else:
            break
        (a, b), loss = trial, trial_loss
        if max(abs(of_a), abs(of_b)) < PRECISION * len(x):
            break
    return Platt(a / scale, b - a * centre / scale)


def _loss(x: NDArray[np.float64], targets: NDArray[np.float64], a: float, b: float) -> float:
    """Cross-entropy of targets and sigmoid(a·x + b), without overflow."""
    z = a * x + b
    return float(np.sum(np.maximum(z, 0.0) + log(1.0 + exp(-np.abs(z))) - targets * z))
