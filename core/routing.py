"""Which model scores which row, and the context under which each row is explained and logged. Pure.

While an experiment runs, an account's arm (`core.assignment`) decides which model scores its rows. The shadow model
also scores every row, without influence on the decision. A model that raises, yields a number that is not finite or an
array of another shape has failed on its rows: they get margin 0, and their context has no scorer and says so in
`degraded` (I9). A shadow model that fails gives no margin; the decision itself is complete.

Cost: one call of each model that has rows, and a dictionary look-up per row while an experiment runs or a model fails.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from core.assignment import NOT_ENROLLED
from core.control import MODEL_ERROR, SHADOW_FAILED, Context, join_reasons
from core.scoring import Scorer


class Routing:
    """The margins of n rows and the context of each.

    margins float64 (n,), failed bool (n,): of the deciding models. shadows: float64 (n,), None without a shadow model.
    """

    __slots__ = ("_arms", "_context", "_known", "failed", "is_uniform", "margins", "shadow_failed", "shadows")

    def __init__(self, context: Context, accounts: list[str], features: NDArray[np.float32]) -> None:
        self._context = context
        self._arms = context.allocation.arms_of(accounts) if context.allocation is not None else None
        self.margins, self.failed = _score(context, self._arms, features)
        self.shadows: NDArray[np.float64] | None = None
        self.shadow_failed: NDArray[np.bool_] | None = None
        if context.shadow is not None:
            self.shadows, self.shadow_failed = _margins(context.shadow, features)
        self._known: dict[tuple[int, bool, bool], Context] = {}
        self.is_uniform = (
            self._arms is None
            and not self.failed.any()
            and (self.shadow_failed is None or not self.shadow_failed.any())
        )
        """Whether every row has the batch's own context."""

    def of(self, row: int) -> Context:
        """The row's context: its arm's, without what failed for the row."""
        if self.is_uniform:
            return self._context
        key = (
            int(self._arms[row]) if self._arms is not None else NOT_ENROLLED,
            bool(self.failed[row]),
            self.shadow_failed is not None and bool(self.shadow_failed[row]),
        )
        if key not in self._known:
            self._known[key] = self._make(*key)
        return self._known[key]

    def _make(self, arm: int, failed: bool, shadow_failed: bool) -> Context:
        under = self._context if arm == NOT_ENROLLED else self._context.arms[arm]
        reasons = under.degraded.split("+") if under.degraded else []
        if failed:
            reasons.append(MODEL_ERROR)
            under = replace(under, scorer=None, degraded=join_reasons(reasons))
        if shadow_failed:
            reasons.append(SHADOW_FAILED)
            under = replace(under, shadow=None, shadow_model="", degraded=join_reasons(reasons))
        return under


def _margins(scorer: Scorer | None, features: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Margins (n,), and on which rows the model failed (n,); without a model, zeros and none."""
    n = len(features)
    if scorer is None:
        return np.zeros(n), np.zeros(n, dtype=np.bool_)
    try:
        margins = scorer.margins(features)
        bad = ~np.isfinite(margins)
    except Exception:  # noqa: BLE001 - I9: whatever a model does, the stream goes on; the score says so
        return np.zeros(n), np.ones(n, dtype=np.bool_)
    if margins.shape != (n,):
        return np.zeros(n), np.ones(n, dtype=np.bool_)
    return np.where(bad, 0.0, margins), bad


def _score(
    context: Context, arms: NDArray[np.int8] | None, features: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """As `_margins`, each row by its arm's model; one call per model."""
    if arms is None:
        return _margins(context.scorer, features)
    rows_of: dict[str, tuple[Scorer | None, NDArray[np.bool_]]] = {}
    for arm, under in enumerate((context, *context.arms), NOT_ENROLLED):
        scorer, rows = rows_of.get(under.digest, (under.scorer, np.zeros(len(arms), dtype=np.bool_)))
        rows_of[under.digest] = (scorer, rows | (arms == arm))
    margins, failed = np.zeros(len(arms)), np.zeros(len(arms), dtype=np.bool_)
    for scorer, rows in rows_of.values():
        if rows.any():
            margins[rows], failed[rows] = _margins(scorer, features[rows])
    return margins, failed
