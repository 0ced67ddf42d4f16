"""How right a model was on the payments that it decided: calibration, precision and recall, and the amount caught, by
the index's columns and the labels, as of a moment. Pure.

Only judged payments count, and alerts are judged more often than others: precision is near that of all payments,
recall is of the frauds that became known. Probabilities are float32 here, as everywhere that is not replayed.

Cost: a mask over the columns, the labels of the rows, and a sort of the judged payments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from console.api.places import run_of
from console.api.row_labels import RowLabels
from console.api.views import Columns
from learners import metrics
from projections.labelling.view import FRAUD, LEGITIMATE, LabelView

BINS = 10
POINTS = 40
_READ = ("at", "amount", "account", "transaction", "probability")


class CalibrationBin(msgspec.Struct, frozen=True):
    """Judged payments of about equal number, by probability: what the model said on average, the share of fraud, and
    its interval (Wilson, 95 %).
    """

    payments: int
    predicted: float
    observed: float
    low: float
    high: float


class CurvePoint(msgspec.Struct, frozen=True):
    """Alerting from this probability on: share of judged payments alerted, precision, recall of frauds by number and
    by amount; all in [0, 1].
    """

    threshold: float
    alerted: float
    precision: float
    recall: float
    value_detection_rate: float


class PerformanceAnswer(msgspec.Struct, frozen=True):
    """start, end: epoch ms of receipt, start ≤ t < end. decisions: of this model in the period; judged: with a label of
    fraud (frauds) or legitimate. Metrics are None without both classes. curve: by falling threshold.
    """

    as_of: str
    model: str
    start: int
    end: int
    decisions: int
    judged: int
    frauds: int
    auc_roc: float | None
    average_precision: float | None
    ece: float | None
    bins: list[CalibrationBin]
    curve: list[CurvePoint]


class Decided(NamedTuple):
    """A model's decisions of a period as columns (n,), partition by partition. May be kept: rows of the index never
    change.
    """

    parts: list[dict[str, NDArray[Any]]]


def decided(columns: Mapping[int, Columns], model: int, start: int, end: int) -> Decided:
    """model: its number in the index's column, −1 if it decided nothing."""
    parts = []
    for of in columns.values():
        at = run_of(np.flatnonzero((of["model"] == model) & (of["at"] >= start) & (of["at"] < end)))
        parts.append({name: of[name][at] for name in _READ})
    return Decided(parts)


def performance(found: Decided, view: LabelView, model: str, as_of: str, start: int, end: int) -> PerformanceAnswer:
    """The answer."""
    labels_of = RowLabels(view).of
    parts = []
    for part in found.parts:
        labels = labels_of(part)
        rows = np.flatnonzero((labels == FRAUD) | (labels == LEGITIMATE))
        parts.append((labels[rows] == FRAUD, part["probability"][rows].astype(np.float64), part["amount"][rows]))
    frauds, said, amounts = (np.concatenate(column) for column in zip(*parts, strict=True))
    has_both = bool(frauds.any() and not frauds.all())
    return PerformanceAnswer(
        as_of,
        model,
        start,
        end,
        sum(len(part["at"]) for part in found.parts),
        len(frauds),
        int(frauds.sum()),
        metrics.roc_auc(frauds, said) if has_both else None,
        metrics.average_precision(frauds, said) if has_both else None,
        metrics.ece(frauds, said, BINS) if has_both else None,
        _bins(frauds, said) if has_both else [],
        _curve(frauds, said, amounts) if has_both else [],
    )


def _bins(frauds: NDArray[np.bool_], said: NDArray[np.float64]) -> list[CalibrationBin]:
    found = metrics.reliability(frauds, said, BINS)
    low, high = metrics.wilson(found.observed * found.rows, found.rows)
    return [
        CalibrationBin(int(n), float(p), float(o), float(a), float(b))
        for n, p, o, a, b in zip(found.rows, found.predicted, found.observed, low, high, strict=True)
    ]


def _curve(frauds: NDArray[np.bool_], said: NDArray[np.float64], amounts: NDArray[np.float64]) -> list[CurvePoint]:
    """At most about POINTS thresholds, each a probability that occurred; equal ones are alerted together."""
    order = np.argsort(-said, kind="stable")
    hits = np.cumsum(frauds[order], dtype=np.int64)
    said, caught = said[order], np.cumsum(np.where(frauds, amounts, 0.0)[order])
    last = np.flatnonzero(np.append(said[1:] != said[:-1], True))
    wanted = np.unique(np.concatenate([np.linspace(0, len(last) - 1, POINTS // 2), _by_recall(hits[last])]).astype(int))
    return [
        CurvePoint(
            float(said[i]),
            float((i + 1) / len(said)),
            float(hits[i] / (i + 1)),
            float(hits[i] / hits[-1]),
            float(caught[i] / caught[-1]) if caught[-1] > 0 else 0.0,
        )
        for i in last[wanted].tolist()
    ]


def _by_recall(hits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places at about equal steps of recall, where most of the curve lies."""
    return np.minimum(np.searchsorted(hits, np.linspace(1, hits[-1], POINTS // 2)), len(hits) - 1)
