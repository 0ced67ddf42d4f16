"""SHAP values of one row from the artifact that decided: for audits, never on the hot path.

For trees, LightGBM computes exact Shapley values. The scorer's own contributions (`ForestScorer.contributions`, Saabas
2014) follow the row's path and cost a microsecond; these average over all orders in which features could be revealed
(TreeSHAP, path-dependent: Lundberg, Erion, Lee 2018). For a linear model they are its terms: a sum of functions of one
column each has the same shares in every order, so the terms are the Shapley values against the learned means (baseline
Shapley: Sundararajan, Najmi 2020).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput, Corrupt
from models.linear import LinearScorer

TREES = "SHAP values, path-dependent TreeSHAP (Lundberg, Erion, Lee 2018), computed now from the logged artifact"
LINEAR = "the linear model's terms, which are its Shapley values against the learned means (Sundararajan, Najmi 2020)"


def of_linear(content: bytes, row: NDArray[np.float32]) -> tuple[float, NDArray[np.float64]]:
    """See `models.artifacts.shap_values`."""
    try:
        bias, shares = LinearScorer.load(content, version="audited", spec=0).contributions(row)
    except BadInput as error:
        raise Corrupt(f"the linear model can't explain this row: {error}") from error
    return bias, shares


def of_trees(content: bytes, row: NDArray[np.float32]) -> tuple[float, NDArray[np.float64]]:
    """See `models.artifacts.shap_values`."""
    import lightgbm as lgb  # heavy, and only an audit of one tree model's decision needs it

    try:
        booster = lgb.Booster(model_str=content.decode())
        found = booster.predict(row[None, :].astype(np.float64), pred_contrib=True, num_threads=1)
    except (lgb.basic.LightGBMError, UnicodeDecodeError) as error:
        raise Corrupt(f"LightGBM can't explain this model's score: {error}") from error
    values = np.asarray(found, dtype=np.float64)[0]
    return float(values[-1]), values[:-1]
