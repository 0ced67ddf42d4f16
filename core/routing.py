"""Which program and model decide which row, and the context under which each row is explained and logged. Pure.

While an experiment runs, an account's arm (`core.assignment`) says which program and model decide its rows. The shadow
model also scores every row, without influence on the decision. A model that has no finite number for a row has failed
on it: the row gets margin 0, and its context has no scorer and says so in `degraded` (I9). A shadow model that fails
gives no margin; the decision itself is complete.

Whether a model fails on a row depends on the model and the row alone, so a replay finds the same rows (I12): if a call
raises or yields another shape, each of its rows is tried alone.

Cost: one call of each model that has rows, and a dictionary look-up per row while an experiment runs or a model fails;
a model that raises costs one call per row (about 10 µs).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from core.assignment import NOT_ENROLLED
from core.context import MODEL_ERROR, SHADOW_FAILED, Context, join_reasons
from core.scoring import Scorer

Read = Callable[[Scorer, NDArray[np.int64]], NDArray[np.float32]]
"""What a model reads of some rows of the batch, int64 (k,) → float32 (k, F)."""


class Routing:
    """The margins of n rows and the context of each.

    margins float64 (n,), failed bool (n,): of the deciding models. shadows: float64 (n,), None without a shadow model.
    programs: those that decide some rows; which: int8 (n,), each row's place among them, None if there is only one.
    Rows are scored by `score`, each program's apart, all at once or in waves.
    """

    __slots__ = (
        "_arms",
        "_context",
        "_is_uniform",
        "_known",
        "failed",
        "margins",
        "programs",
        "shadow_failed",
        "shadows",
        "which",
    )

    def __init__(self, context: Context, accounts: list[str], n: int) -> None:
        """accounts: those of the n rows, or none if no experiment runs."""
        self._context = context
        self._arms = context.allocation.arms_of(accounts) if context.allocation is not None else None
        self.programs = context.programs
        self.which: NDArray[np.int8] | None = None
        if self._arms is not None and len(self.programs) > 1:
            of_arms = [self.programs.index(under.program) for under in (*context.arms, context)]  # −1: not enrolled
            self.which = np.array(of_arms, dtype=np.int8)[self._arms]
        self.margins, self.failed = np.zeros(n), np.zeros(n, dtype=np.bool_)
        has_shadow = context.shadow is not None
        self.shadows = np.zeros(n) if has_shadow else None
        self.shadow_failed = np.zeros(n, dtype=np.bool_) if has_shadow else None
        self._known: dict[tuple[int, bool, bool], Context] = {}
        self._is_uniform: bool | None = None

    def score(self, rows: NDArray[np.int64], read: Read) -> None:
        """Compute the margins of some rows, ascending, that one program decides and whose features are known."""
        if self._arms is None and len(rows) == len(self.margins):  # usually: all rows at once
            self.margins, self.failed = _margins(self._context.scorer, rows, read)
            if self.shadows is not None:
                self.shadows, self.shadow_failed = _margins(self._context.shadow, rows, read)
            self._is_uniform = None
            return
        arms = None if self._arms is None else self._arms[rows]
        self.margins[rows], self.failed[rows] = _score(self._context, arms, rows, read)
        self._is_uniform = None
        if self.shadows is not None and self.shadow_failed is not None:
            self.shadows[rows], self.shadow_failed[rows] = _margins(self._context.shadow, rows, read)

    @property
    def is_uniform(self) -> bool:
        """Whether every row has the batch's own context."""
        if self._is_uniform is None:
            self._is_uniform = (
                self._arms is None
                and not np.count_nonzero(self.failed)
                and (self.shadow_failed is None or not np.count_nonzero(self.shadow_failed))
            )
        return self._is_uniform

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


def _margins(
    scorer: Scorer | None, rows: NDArray[np.int64], read: Read
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Margins (n,), and on which rows the model failed (n,); without a model, zeros and none."""
    n = len(rows)
    if scorer is None:
        return np.zeros(n), np.zeros(n, dtype=np.bool_)
    features = read(scorer, rows)
    margins = _called(scorer, features)
    if margins is None:
        alone = (_called(scorer, features[i : i + 1]) for i in range(n))
        margins = np.array([np.nan if row is None else row[0] for row in alone], dtype=np.float64)
    good = np.isfinite(margins)
    if np.count_nonzero(good) == n:  # usually
        return margins, np.zeros(n, dtype=np.bool_)
    return np.where(good, margins, 0.0), ~good


def _called(scorer: Scorer, features: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """The rows' margins (n,); None if the model raises or yields anything else."""
    try:
        margins = np.asarray(scorer.margins(features), dtype=np.float64, order="C")
    except MemoryError:  # says nothing about the model
        raise
    except Exception:  # noqa: BLE001 - I9: whatever a model does, the stream goes on; the score says so
        return None
    return margins if margins.shape == (len(features),) else None


def _score(
    context: Context, arms: NDArray[np.int8] | None, rows: NDArray[np.int64], read: Read
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """As `_margins`, each row by its arm's model; one call per model."""
    if arms is None:
        return _margins(context.scorer, rows, read)
    mine_of: dict[str, tuple[Scorer | None, NDArray[np.bool_]]] = {}
    for arm, under in enumerate((context, *context.arms), NOT_ENROLLED):
        scorer, mine = mine_of.get(under.digest, (under.scorer, np.zeros(len(arms), dtype=np.bool_)))
        mine_of[under.digest] = (scorer, mine | (arms == arm))
    margins, failed = np.zeros(len(arms)), np.zeros(len(arms), dtype=np.bool_)
    for scorer, mine in mine_of.values():
        if mine.any():
            margins[mine], failed[mine] = _margins(scorer, rows[mine], read)
    return margins, failed
