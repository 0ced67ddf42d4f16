"""SHAP values of one row, by LightGBM itself: exact Shapley values of the trees, for audits. Never on the hot path.

The scorer's own contributions (`ForestScorer.contributions`, Saabas 2014) follow the row's path and cost a microsecond;
these average over all orders in which features could be revealed (TreeSHAP, path-dependent: Lundberg, Erion, Lee 2018).
"""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from core.errors import Corrupt


def shap_values(content: bytes, row: NDArray[np.float32]) -> tuple[float, NDArray[np.float64]]:
    """(bias, shares (F,)) of one row (F,) in log-odds: bias + sum(shares) = margin within rounding.

    content: the artifact, LightGBM's text, whose SHA-256 the caller has checked. Raises Corrupt if LightGBM does not
    read it, or if it has another number of columns.
    """
    try:
        booster = lgb.Booster(model_str=content.decode())
        found = booster.predict(row[None, :].astype(np.float64), pred_contrib=True, num_threads=1)
    except (lgb.basic.LightGBMError, UnicodeDecodeError) as error:
        raise Corrupt(f"LightGBM does not explain with this model: {error}") from error
    values = np.asarray(found, dtype=np.float64)[0]
    return float(values[-1]), values[:-1]
