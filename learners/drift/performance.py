"""Performance drift: the model's performance by labels in the current windows, compared with the reference, at equal
label maturity.

In both windows a payment's label is the one known `maturity_ms` after it. Otherwise a reference whose late chargebacks
have all arrived would look worse than a window whose chargebacks have not. A payment without a label by then
(`projections.labelling`) counts as legitimate; conflicts are left out. The current windows therefore end one maturity
before now. One lasts a week and one up to four: a week of a small stream has too few frauds for a loss to be certain.

    auc_roc              drop of the area under the ROC curve; DeLong's variance (DeLong et al. 1988), by account
                         (Obuchowski 1997)
    average_precision    drop; linearised variance (Binder 1983), by account
    calibration          |difference of ln(observed / expected frauds)|, expected = Σ probability; by account

Drops are tested one-sided (an improvement raises no alarm), calibration two-sided, by Student's t. Each window has as
many degrees of freedom as accounts carry its variance (Satterthwaite), and both together have Welch's, at most the
accounts with fraud minus one: frauds come in episodes, and where two accounts have most of them, ten episodes are two
observations. The windows' p-values are combined over all looks (`sequential`).

Sooner than these, `performance:recall` falls: the share of reported frauds that were alerted (`figures`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, stdtr

from learners import metrics
from learners.drift.compare import FeatureDrift, judged
from learners.drift.policy import PERFORMANCE, SHARES, DriftConfig
from learners.drift.rows import Rows
from learners.drift.sequential import adjusted, combined
from projections.labelling.view import FRAUD, REVIEW, LabelView

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
AUC, AVERAGE_PRECISION, CALIBRATION = "auc_roc", "average_precision", "calibration"


class LabelledRows(NamedTuple):
    """Decisions with labels: labels bool, margins float64 (log-odds), accounts uint64, (n,) each."""

    labels: NDArray[np.bool_]
    margins: Floats
    accounts: NDArray[np.uint64]


class Measured(NamedTuple):
    """A metric and its variance, clustered by account, with its degrees of freedom (Satterthwaite 1946)."""

    value: float
    variance: float
    freedom: float


NOT_MEASURED = Measured(float("nan"), float("nan"), float("nan"))


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """The model's performance in a window; AUC and AP with 95 % intervals. ece: see `calibration_error`."""

    rows: int
    frauds: int
    auc_roc: tuple[float, float, float]
    average_precision: tuple[float, float, float]
    observed_to_expected: float
    ece: float


def labelled(rows: Rows, digest: str, labels: LabelView | None, delay_ms: int) -> LabelledRows:
    """The rows that the model decided, each with the label known `delay_ms` after it; all legitimate if `labels` is
    None.
    """
    index = np.flatnonzero(rows.models == (rows.digests.index(digest) if digest in rows.digests else -2))
    if labels is None:
        return LabelledRows(np.zeros(len(index), dtype=np.bool_), rows.margins[index], rows.accounts[index])
    known_until = rows.times[index] + delay_ms
    found = labels.of_rows(rows.accounts[index], rows.transactions[index], known_until)
    keep = found != REVIEW
    index = index[keep]
    return LabelledRows(found[keep] == FRAUD, rows.margins[index], rows.accounts[index])


def auc_roc(data: LabelledRows, number: Ints | None = None) -> Measured:
    """Area under the ROC curve and the variance of its estimate; NaN if a class is missing. number: see `numbered`."""
    labels, scores = data.labels, data.margins
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return NOT_MEASURED
    ranks = metrics.midranks(scores)
    # Placement values: the share of the other class that a row is ranked correctly against, ties counting half.
    influence = np.empty(len(labels))
    influence[labels] = (ranks[labels] - metrics.midranks(scores[labels])) / negatives
    influence[~labels] = 1.0 - (ranks[~labels] - metrics.midranks(scores[~labels])) / positives
    value = float(influence[labels].mean())
    influence -= value
    influence[labels] /= positives
    influence[~labels] /= negatives
    return Measured(value, *_summed(influence, numbered(data) if number is None else number))


def average_precision(data: LabelledRows, number: Ints | None = None) -> Measured:
    """Average precision (`metrics.average_precision`) and its linearised variance. number: see `numbered`.

    With H(i) frauds and R(i) rows at or above row i's score, AP = Σ frauds H/R / frauds. Its derivative with respect to
    the weight of row j is (y_j·(H(j)/R(j) − AP) + Σ frauds i at or below j (y_j − H(i)/R(i)) / R(i)) / frauds.
    """
    value = metrics.average_precision(data.labels, data.margins)
    if value != value:
        return NOT_MEASURED
    order = np.argsort(-data.margins, kind="stable")
    labels = data.labels[order].astype(np.float64)
    last = np.append(np.flatnonzero(np.diff(data.margins[order])), len(order) - 1)
    sizes = np.diff(last, prepend=-1)
    hits = np.cumsum(labels)[last]
    frauds = np.diff(hits, prepend=0.0)
    precision = hits / (last + 1)
    below = np.cumsum((frauds / (last + 1))[::-1])[::-1]
    missed = np.cumsum((frauds * precision / (last + 1))[::-1])[::-1]
    of_row = [np.repeat(each, sizes) for each in (precision, below, missed)]
    influence = (labels * (of_row[0] - value + of_row[1]) - of_row[2]) / hits[-1]
    return Measured(value, *_summed(influence, (numbered(data) if number is None else number)[order]))


def log_observed_to_expected(data: LabelledRows, number: Ints | None = None) -> Measured:
    """Calibration in the large: ln(frauds / Σ probability), with linearised variance; NaN without frauds. number: see
    `numbered`.
    """
    observed = float(data.labels.sum())
    probability = expit(data.margins)
    expected = float(probability.sum())
    if not observed or not expected:
        return NOT_MEASURED
    influence = data.labels / observed - probability / expected
    of_accounts = _summed(influence, numbered(data) if number is None else number)
    return Measured(float(np.log(observed / expected)), *of_accounts)


def calibration_error(data: LabelledRows, bins: int = 10) -> float:
    """Expected calibration error (Naeini et al. 2015): mean |fraud share − mean probability| over bins with equal
    numbers of rows by score, weighted by rows. NaN without rows.
    """
    if not len(data.labels):
        return float("nan")
    order = np.argsort(data.margins, kind="stable")
    parts = np.array_split(np.arange(len(order)), min(bins, len(order)))
    gap = (data.labels - expit(data.margins))[order]
    return float(sum(abs(gap[part].sum()) for part in parts) / len(order))


def numbered(data: LabelledRows) -> Ints:
    """Each row's account as a number, from 0 without gaps, int64 (n,)."""
    return np.unique(data.accounts, return_inverse=True)[1]


def _summed(influence: Floats, number: Ints) -> tuple[float, float]:
    """Variance of an estimate from its influence values, summed by account first (Obuchowski 1997), and its degrees of
    freedom: as many as accounts carry it, (Σs²)² / Σs⁴ − 1. number: of each value's account.
    """
    squares = np.bincount(number, weights=influence) ** 2
    whole, fourth = float(squares.sum()), float((squares * squares).sum())
    freedom = whole * whole / fourth - 1.0 if fourth > 0 else 0.0
    return whole * len(squares) / max(len(squares) - 1, 1), max(freedom, 0.5)


def fraud_accounts(data: LabelledRows) -> int:
    """The number of accounts with a fraud: the independent observations behind recall."""
    return len(np.unique(data.accounts[data.labels]))


def measure(data: LabelledRows) -> dict[str, Measured]:
    """The three metrics that are compared."""
    order = np.argsort(-data.margins)  # sorted once, at a fraction of the cost of each metric's own sorting
    data = LabelledRows(data.labels[order], data.margins[order], data.accounts[order])
    number = numbered(data)
    return {
        AUC: auc_roc(data, number),
        AVERAGE_PRECISION: average_precision(data, number),
        CALIBRATION: log_observed_to_expected(data, number),
    }


def summary(data: LabelledRows, measured: dict[str, Measured]) -> Performance:
    """The metrics for display."""
    return Performance(
        rows=len(data.labels),
        frauds=int(data.labels.sum()),
        auc_roc=_interval(measured[AUC]),
        average_precision=_interval(measured[AVERAGE_PRECISION]),
        observed_to_expected=float(np.exp(measured[CALIBRATION].value)),
        ece=calibration_error(data),
    )


def _interval(measured: Measured) -> tuple[float, float, float]:
    reach = 1.959964 * float(np.sqrt(measured.variance))
    return measured.value, max(0.0, measured.value - reach), min(1.0, measured.value + reach)


def compare_performance(
    reference: LabelledRows,
    currents: Sequence[LabelledRows | None],
    before: dict[str, Measured],
    nows: Sequence[dict[str, Measured]],
    config: DriftConfig,
) -> list[FeatureDrift]:
    """Verdicts on the three metrics (`measure` of each window), named "performance:…". currents: the windows, one for
    each of `performance_windows_ms`; None for one that the log does not cover yet.
    """
    return [_metric(name, reference, currents, before, nows, config) for name in (AUC, AVERAGE_PRECISION, CALIBRATION)]


def _metric(
    name: str,
    reference: LabelledRows,
    currents: Sequence[LabelledRows | None],
    before: dict[str, Measured],
    nows: Sequence[dict[str, Measured]],
    config: DriftConfig,
) -> FeatureDrift:
    two_sided = name == CALIBRATION
    p_values = np.full(len(currents), np.nan)
    changes = np.full(len(currents), np.nan)
    for place, (current, now) in enumerate(zip(currents, nows, strict=True)):
        if current is None:
            continue
        victims = min(fraud_accounts(data) for data in (reference, current))
        change = before[name].value - now[name].value
        spread = before[name].variance + now[name].variance
        if victims < config.fraud_accounts_min or not spread > 0:
            continue
        z = change / float(np.sqrt(spread))
        parts = sum(each.variance**2 / each.freedom for each in (before[name], now[name]))
        freedom = min(spread**2 / parts, victims - 1) if parts > 0 else victims - 1
        p_values[place] = (2 if two_sided else 1) * stdtr(freedom, -abs(z) if two_sided else -z)
        changes[place] = abs(change) if two_sided else max(change, 0.0)
    if np.isnan(p_values).all():
        return FeatureDrift(feature=PERFORMANCE + name, kind="performance", state="too_few_rows")
    best = int(np.nanargmin(p_values))
    current = currents[best]
    assert current is not None
    p_value = combined(p_values, np.full(len(currents), 1.0 / len(currents)))
    return judged(
        FeatureDrift(
            feature=PERFORMANCE + name,
            kind="performance",
            state="tested",
            effects={name: float(changes[best])},
            test={AUC: "delong", AVERAGE_PRECISION: "linearised", CALIBRATION: "observed_to_expected"}[name],
            p_value=p_value,
            p_value_adjusted=adjusted(p_value, SHARES["performance"] / 4, config.looks),
            window_ms=config.performance_windows_ms[best],
            rows=(len(current.labels), len(reference.labels)),
        ),
        config,
    )
