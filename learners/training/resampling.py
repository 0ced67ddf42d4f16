"""Compiled kernels of the paired comparison: log losses, sums and rankings under resampled accounts.

Only IEEE 754 +, −, ×, ÷ in a fixed order, so that a figure has the same bits on every CPU: neither the C library's
logarithm, nor numpy's blocked sums, nor BLAS. The random draws come from PCG64, which is integer arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from core.jit import njit
from core.numeric import LOG2E, exp2

Floats = NDArray[np.float64]

_TERMS = 17
"""Terms of the series of log(1 + u), u in (0, 1]: its argument is at most 1/3, so each adds about one decimal digit."""


@njit
def log_losses(margins: Floats, labels: NDArray[np.bool_]) -> Floats:
    """−log of the probability that each margin (log-odds) gives the true label: float64 (n,), from bool labels (n,).

    log(1 + e^−|m|) by 2 artanh(s) = 2 Σ s^(2k+1) / (2k+1), s = u / (2 + u), u = e^−|m|; relative error below 1e-14.
    """
    out = np.empty(len(margins), dtype=np.float64)
    for i in range(len(margins)):
        wrong = -margins[i] if labels[i] else margins[i]
        u = exp2(-abs(wrong) * LOG2E)
        s = u / (2.0 + u)
        square = s * s
        total = 0.0
        for k in range(_TERMS - 1, -1, -1):
            total = total * square + 1.0 / (2 * k + 1)
        out[i] = max(wrong, 0.0) + 2.0 * s * total
    return out


_STEPS = 60
_SHIFT_MAX = 64.0


@njit
def level_shift(margins: Floats, expected: float) -> float:
    """The shift of all margins (log-odds) (n,) at which their probabilities sum up to `expected`, by bisection within
    ±64; ±64 if no shift does.
    """
    low, high = -_SHIFT_MAX, _SHIFT_MAX
    for _ in range(_STEPS):
        shift = 0.5 * (low + high)
        total = 0.0
        for i in range(len(margins)):
            total += 1.0 / (1.0 + exp2(-(margins[i] + shift) * LOG2E))
        if total < expected:
            low = shift
        else:
            high = shift
    return 0.5 * (low + high)


@njit
def sums_of(rows: Floats, weights: NDArray[np.int64]) -> Floats:
    """Σ over accounts of weight × row: rows (g, k), weights (g,) → (k,), in the order of the accounts."""
    out = np.zeros(rows.shape[1], dtype=np.float64)
    for g in range(rows.shape[0]):
        if weights[g]:
            weight = np.float64(weights[g])
            for k in range(rows.shape[1]):
                out[k] += weight * rows[g, k]
    return out


@njit
def ranking(
    frauds: NDArray[np.bool_], member: NDArray[np.int64], last: NDArray[np.bool_], weights: NDArray[np.int64]
) -> tuple[float, float]:
    """(average precision, area under the ROC curve) of rows in descending order of score, each weighted by its account.

    frauds, member (index of the account), last (the last row of its distinct score): (n,). weights: (accounts,). NaN
    where a class is missing (`metrics.average_precision`, `metrics.roc_auc`).
    """
    positives = negatives = 0.0
    area = precision = 0.0
    hits = misses = own_hits = own_misses = 0.0
    for i in range(len(frauds)):
        weight = np.float64(weights[member[i]])
        if frauds[i]:
            own_hits += weight
            positives += weight
        else:
            own_misses += weight
            negatives += weight
        if last[i]:
            area += own_misses * (hits + 0.5 * own_hits)
            hits += own_hits
            misses += own_misses
            if own_hits > 0.0:
                precision += own_hits * (hits / (hits + misses))
            own_hits = own_misses = 0.0
    if positives <= 0.0:
        return np.nan, np.nan
    if negatives <= 0.0:
        return precision / positives, np.nan
    return precision / positives, area / (positives * negatives)


class Ranked:
    """Rows in descending order of score, ready for `ranking` under any weights of their accounts."""

    def __init__(self, labels: NDArray[np.bool_], scores: Floats, member: NDArray[np.int64]) -> None:
        """All (n,): labels bool, scores float64, member int64 (index of the account)."""
        order = np.argsort(-scores, kind="stable")
        ordered = scores[order]
        self._frauds = labels[order]
        self._member = member[order]
        self._last = np.append(ordered[1:] != ordered[:-1], True)

    def measure(self, weights: NDArray[np.int64]) -> tuple[float, float]:
        """(average precision, AUC) with each row weighted by its account: weights int64 (accounts,)."""
        average_precision, area = ranking(self._frauds, self._member, self._last, weights)
        return float(average_precision), float(area)


def resamples(accounts: int, rounds: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each account is drawn in each round of a bootstrap over accounts (Efron, Tibshirani 1993): int64
    (accounts,). An account's transactions are not independent, so it is drawn with all of its rows.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    for _ in range(rounds):
        yield np.bincount(rng.integers(0, accounts, accounts), minlength=accounts)
