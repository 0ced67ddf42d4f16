"""How often each rule hit, and how often it was right: by the index's columns and the labels, as of a moment. Pure.

Hits with an effect only: shadow hits are not in the index (a backtest tells them). A decision with two rules counts for
both. Cost: a mask over the columns, and the labels of the payments that hit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from console.api.index import told_apart
from console.api.row_labels import RowLabels
from console.api.views import Columns
from core.times import DAY_MS, date_text
from learners import metrics
from projections.labelling.view import FRAUD, LEGITIMATE, LabelView

NORMAL_95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""
DAYS_MAX = 400


class RuleHits(msgspec.Struct, frozen=True):
    """A rule's hits in the period. alerts: hits whose decision raised an alert; judged: hits on payments that are
    labelled fraud (confirmed) or legitimate; precision: confirmed / judged, with its interval (Wilson, 95 %), None if
    none is judged. amount: of all hits, base currency; confirmed_amount: of confirmed ones. days: hits by UTC day of
    receipt, the last 400.
    """

    code: str
    hits: int
    alerts: int
    judged: int
    confirmed: int
    precision: float | None
    low: float | None
    high: float | None
    amount: float
    confirmed_amount: float
    days: dict[str, int]


class RuleHitsAnswer(msgspec.Struct, frozen=True):
    """By hits, most first. start, end: epoch ms of receipt, start ≤ t < end. decisions: all in the period. rules that
    share the index's last bit, because there are more than it has, are not told apart and left out (`uncounted`).
    """

    as_of: str
    start: int
    end: int
    decisions: int
    rules: list[RuleHits]
    uncounted: list[str]


class Chosen(NamedTuple):
    """The decisions of a period on which some rule hit, as columns (n,). decisions: how many there are in all."""

    decisions: int
    columns: dict[str, NDArray[Any]]


_COLUMNS = ("at", "amount", "account", "transaction", "rules", "severity")


def chosen(columns: Mapping[int, Columns], start: int, end: int) -> Chosen:
    """Copies of the columns, which may be kept."""
    decisions, parts = 0, []
    for of in columns.values():
        within = (of["at"] >= start) & (of["at"] < end)
        decisions += int(np.count_nonzero(within))
        rows = np.flatnonzero(within & (of["rules"] != 0))
        parts.append({name: of[name][rows] for name in _COLUMNS})
    return Chosen(decisions, {name: np.concatenate([part[name] for part in parts]) for name in _COLUMNS})


def hits(found: Chosen, bits: Mapping[str, int], view: LabelView, as_of: str, start: int, end: int) -> RuleHitsAnswer:
    """The answer. bits: of each code that ever hit (`DecisionIndex.bits`)."""
    labels = RowLabels(view).of(found.columns)
    codes, uncounted = told_apart(bits)
    told = [_rule(code, found.columns, labels, np.uint64(bit)) for bit, code in codes.items()]
    return RuleHitsAnswer(
        as_of,
        start,
        end,
        found.decisions,
        sorted((rule for rule in told if rule.hits), key=lambda rule: (-rule.hits, rule.code)),
        uncounted,
    )


def _rule(code: str, c: Mapping[str, NDArray[Any]], labels: NDArray[np.int8], bit: np.uint64) -> RuleHits:
    rows = np.flatnonzero((c["rules"] >> bit) & np.uint64(1))
    mine, amounts = labels[rows], c["amount"][rows]
    confirmed = int(np.count_nonzero(mine == FRAUD))
    judged = confirmed + int(np.count_nonzero(mine == LEGITIMATE))
    low = high = precision = None
    if judged:
        bounds = metrics.wilson(np.array([float(confirmed)]), np.array([judged]), NORMAL_95)
        precision, low, high = confirmed / judged, float(bounds[0][0]), float(bounds[1][0])
    days, counts = np.unique(c["at"][rows] // DAY_MS, return_counts=True)
    return RuleHits(
        code,
        len(rows),
        int(np.count_nonzero(c["severity"][rows])),
        judged,
        confirmed,
        precision,
        low,
        high,
        float(amounts.sum()),
        float(amounts[mine == FRAUD].sum()),
        {date_text(int(day) * DAY_MS): int(n) for day, n in zip(days[-DAYS_MAX:], counts[-DAYS_MAX:], strict=True)},
    )
