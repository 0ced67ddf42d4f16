"""Looking every day at windows of several lengths without raising more false alarms: a sequential test that spends an
error budget.

For each figure (a feature, the score, a performance metric), each window length w and each contrast c (`clustered`), a
look yields a p-value. A figure has drifted when, for any of them,

    p_wc ≤ α·π·u_w·v_c / n          π: the figure's share of the error budget α, Σ π = 1
                                    u_w, v_c: weights of windows and contrasts, Σ u = Σ v = 1; n: looks in `horizon_ms`

so by the union bound P(any figure drifts at any of n looks) ≤ Σ_figures Σ_looks Σ_wc α·π·u_w·v_c / n = α, whatever the
dependence between looks, windows, contrasts and figures. That generality is needed: the reference is frozen, so all
looks share its sampling error, and accounts keep their habits from day to day.

It is an e-detector (Shin, Ramdas, Rinaldo 2022, "E-detectors: a nonparametric framework for sequential change
detection"), limited to the change points t − w: with τ_wc the bound above, e = 1{p ≤ τ} / τ is an e-value (the
all-or-nothing calibrator; Vovk, Wang 2021, "E-values: calibration, combination and applications", section 2), and the
weighted mean of these e-values reaches n / (α·π) exactly when one p-value reaches its bound. A smooth calibrator, such
as κ·p^(κ − 1), gains if several windows agree, but costs a factor of 10 to 40 in p at the bounds that matter here.

`adjusted` is the p-value of this test: the smallest α at which the figure drifts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def combined(p_values: Floats, weights: Floats) -> float:
    """The p-value of one look from p-values with these weights (which sum to at most 1): the least p / weight, at most
    1. NaN (not tested) is no evidence, and its weight is not given to others.
    """
    tested = p_values == p_values
    return float(np.min(p_values[tested] / weights[tested], initial=1.0))


def adjusted(p_value: float, share: float, looks: int) -> float:
    """The p-value over all looks of the horizon, for a figure with this share of the error budget, from that of one
    look.
    """
    return min(1.0, looks * p_value / share) if share > 0 else 1.0
