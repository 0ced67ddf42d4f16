"""The distribution of verdict delays, from which the label maturity can be chosen. Pure.

Only verdicts that have already arrived are observed, so recent payments show short delays only: delays are
right-truncated at the time between the payment and the end of observation. The distribution is estimated by its
reverse-time hazard (Lagakos, Barraj and De Gruttola 1988, "Nonparametric analysis of truncated survival data, with
application to AIDS", Biometrika 75; equivalent to Kaplan–Meier in reverse time, and to the chain-ladder factors of loss
reserving):

    F(d) = Π over u > d of (1 − n_u / N_u)
    n_u  = verdicts with delay u (whole days) on payments observed for at least u days
    N_u  = verdicts with delay ≤ u on payments observed for at least u days
    var log F(d) ≈ Σ over u > d of n_u / (N_u (N_u − n_u))            (Greenwood)

F is relative to the longest observable delay; longer delays have not been observed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, sqrt

import msgspec
import numpy as np

from core.times import DAY_MS

AGES_DAYS = (0, 1, 2, 3, 5, 7, 10, 14, 21, 30, 45, 60, 90, 120, 180, 270, 365)
SHARES = (0.5, 0.8, 0.9, 0.95, 0.99)
Z = 1.959964
"""The normal quantile of a 95 % interval."""


class KnownShare(msgspec.Struct, frozen=True):
    """The share of frauds known this many days after the payment, with its 95 % interval."""

    days: int
    share: float
    low: float
    high: float


class Maturity(msgspec.Struct, frozen=True):
    """A source's delays. Quantiles are of the estimated distribution, corrected for truncation.

    frauds: number of verdicts it is estimated from. seen_median_days: their observed median, uncorrected. horizon_days:
    the longest observable delay. curve: by age. days_to: share (as text) → days until that share is known.
    """

    frauds: int
    seen_median_days: float
    horizon_days: int
    curve: list[KnownShare]
    days_to: dict[str, int]


def maturity(delays_ms: Sequence[int], observed_ms: Sequence[int]) -> Maturity | None:
    """The maturity from each fraud's delay (payment → verdict) and its payment's time under observation, both in ms;
    None if there are no frauds.

    Negative delays count as 0; a fraud observed for less than its delay counts as observed for exactly its delay.
    """
    if not delays_ms:
        return None
    delay_ms = np.maximum(np.asarray(delays_ms, dtype=np.int64), 0)
    delay = delay_ms // DAY_MS
    limit = np.maximum(np.asarray(observed_ms, dtype=np.int64) // DAY_MS, delay)
    share, variance = distribution(delay, limit)
    horizon = len(share) - 1
    curve = []
    for days in (*(d for d in AGES_DAYS if d < horizon), horizon):
        spread = exp(Z * sqrt(float(variance[days])))
        value = float(share[days])
        curve.append(KnownShare(days, value, value / spread, min(value * spread, 1.0)))
    days_to = {f"{wanted:g}": int(np.argmax(share >= wanted)) for wanted in SHARES}
    return Maturity(len(delay), float(np.median(delay_ms)) / DAY_MS, horizon, curve, days_to)


def distribution(
    delay: np.ndarray[tuple[int], np.dtype[np.int64]], limit: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """F and the variance of log F at 0 … max(limit) days. delay ≤ limit, whole days, (n,)."""
    horizon = int(limit.max())
    at = np.bincount(delay, minlength=horizon + 1)
    # N_u counts delay ≤ u ≤ limit: delays up to u, minus those with a limit below u (whose delays are below u too).
    ended = np.concatenate([[0], np.cumsum(np.bincount(limit, minlength=horizon + 1))[:-1]])
    risk = np.cumsum(at) - ended
    hazard = np.divide(at, risk, out=np.zeros(horizon + 1), where=risk > 0)
    share = np.ones(horizon + 1)
    variance = np.zeros(horizon + 1)
    left = risk - at
    term = np.divide(at, risk * left, out=np.full(horizon + 1, np.inf), where=(risk > 0) & (left > 0))
    term[at == 0] = 0.0
    for d in range(horizon - 1, -1, -1):
        share[d] = share[d + 1] * (1.0 - hazard[d + 1])
        variance[d] = variance[d + 1] + term[d + 1]
    variance[share <= 0.0] = 0.0
    return share, variance
