"""Looking every day at windows of several lengths without raising more false alarms: e-values and an e-detector.

For each figure (a feature, the score, a performance metric) and each window length w, a look yields a p-value p_w. It
becomes an e-value by the calibrator e(p) = κ·p^(κ − 1) (Vovk, Wang 2021, "E-values: calibration, combination and
applications", section 2), whose mean is at most 1 without drift. The windows' e-values are averaged,

    M_t = Σ_w e(p_w,t) / windows                  E[M_t] ≤ 1 without drift, however the windows overlap

which is an e-detector (Shin, Ramdas, Rinaldo 2022, "E-detectors: a nonparametric framework for sequential change
detection") limited to the change points t − w: at time t it weighs the evidence that the change began one, three or
seven days ago. A figure with share π of the error budget α drifts when

    M_t ≥ n / (α·π)         n: looks in `horizon_ms`

and by Markov's inequality and the union bound P(any figure drifts at any of n looks) ≤ Σ_figures n·E[M]·α·π / n ≤ α,
whatever the dependence between looks, windows and figures. That generality is needed: the reference is frozen, so all
looks share its sampling error, and accounts keep their habits from day to day. The usual e-detectors (Shiryaev–Roberts
or CUSUM sums of betting e-processes) have the same order n / c, but need e-values that are valid conditionally on the
past, which neither allows. `adjusted` is the p-value of this test: the smallest α at which the figure drifts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

KAPPA = 0.08
"""The calibrator's exponent, near 1 / ln(1/p) for the p-values that matter (1e-5 … 1e-7), where e(p) is largest."""
P_MIN = 1e-280
"""Smaller p-values are no evidence beyond this one, and have no finite e-value."""


def e_values(p_values: Floats) -> Floats:
    """e(p) of p-values in [0, 1], same shape."""
    return KAPPA * np.maximum(p_values, P_MIN) ** (KAPPA - 1.0)


def detector(e_by_window: Floats) -> float:
    """M: the mean of the windows' e-values; windows that were not tested (NaN) count as no evidence (e = 0)."""
    return float(np.nansum(e_by_window) / len(e_by_window)) if len(e_by_window) else 0.0


def adjusted(evidence: float, share: float, looks: int) -> float:
    """The p-value of the e-detector over all looks of the horizon, for a figure with this share of the error budget."""
    return min(1.0, looks / (share * evidence)) if evidence > 0 else 1.0
