"""Performance drift: the model's performance by labels in the current window, compared with the reference, at equal
label maturity.

In both windows a payment's label is the one known `maturity_ms` after it. Otherwise a reference whose late chargebacks
have all arrived would look worse than a window whose chargebacks have not. A payment without a label by then
(`projections.labelling`) counts as legitimate; conflicts are left out. The current window therefore ends one maturity
before now.

    auc_roc              drop of the area under the ROC curve; DeLong's variance (DeLong et al. 1988), by account
                         (Obuchowski 1997)
    average_precision    drop; variance by a seeded bootstrap over accounts (Efron 1979)
    calibration          |difference of ln(observed / expected frauds)|, expected = Σ probability; by account

Drops are tested one-sided (an improvement raises no alarm), calibration two-sided, by Student's t. The degrees of
freedom are the accounts with fraud minus one: frauds come in episodes, and ten episodes are ten observations. The three
p-values are adjusted together.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, stdtr

from learners import metrics
from learners.drift.compare import FeatureDrift, State, judged
from learners.drift.policy import PERFORMANCE, DriftConfig
from learners.drift.rows import Rows
from projections.labelling.view import FRAUD, REVIEW, LabelView

Floats = NDArray[np.float64]
ROUNDS = 200
SEED = 20
AUC, AVERAGE_PRECISION, CALIBRATION = "auc_roc", "average_precision", "calibration"


class LabelledRows(NamedTuple):
    """Decisions with labels: labels bool, margins float64 (log-odds), accounts uint64, (n,) each."""

    labels: NDArray[np.bool_]
    margins: Floats
    accounts: NDArray[np.uint64]


class Measured(NamedTuple):
    """A metric and its variance, clustered by account."""

    value: float
    variance: float


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


def auc_roc(data: LabelledRows) -> Measured:
    """Area under the ROC curve and the variance of its estimate; NaN if a class is missing."""
    labels, scores = data.labels, data.margins
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return Measured(float("nan"), float("nan"))
    ranks = metrics.midranks(scores)
    # Placement values: the share of the other class that a row is ranked correctly against, ties counting half.
    influence = np.empty(len(labels))
    influence[labels] = (ranks[labels] - metrics.midranks(scores[labels])) / negatives
    influence[~labels] = 1.0 - (ranks[~labels] - metrics.midranks(scores[~labels])) / positives
    value = float(influence[labels].mean())
    influence -= value
    influence[labels] /= positives
    influence[~labels] /= negatives
    return Measured(value, _summed(influence, data.accounts))


def average_precision(data: LabelledRows, seed: int = SEED, rounds: int = ROUNDS) -> Measured:
    """Average precision (`metrics.average_precision`) and its variance over bootstrap samples of accounts."""
    value = metrics.average_precision(data.labels, data.margins)
    if value != value:
        return Measured(value, float("nan"))
    order = np.argsort(-data.margins, kind="stable")
    last = np.append(np.flatnonzero(np.diff(data.margins[order])), len(order) - 1)
    _, account = np.unique(data.accounts[order], return_inverse=True)
    labels = data.labels[order].astype(np.float64)
    rng = np.random.Generator(np.random.PCG64(seed))
    count = int(account.max()) + 1
    samples = []
    for _ in range(rounds):
        weights = np.bincount(rng.integers(0, count, count), minlength=count)[account].astype(np.float64)
        samples.append(weighted_average_precision(labels, weights, last))
    return Measured(value, float(np.nanvar(samples, ddof=1)) if rounds > 1 else float("nan"))


def weighted_average_precision(labels: Floats, weights: Floats, last: NDArray[np.int64]) -> float:
    """Average precision of rows in descending order of score, weighted; last: the index of each distinct score's last
    row. NaN without frauds.
    """
    hits, seen = np.cumsum(labels * weights)[last], np.cumsum(weights)[last]
    if not hits[-1]:
        return float("nan")
    precision = np.divide(hits, seen, out=np.zeros(len(last)), where=seen > 0)
    return float(np.sum(np.diff(hits, prepend=0.0) * precision) / hits[-1])


def log_observed_to_expected(data: LabelledRows) -> Measured:
    """Calibration in the large: ln(frauds / Σ probability), with linearised variance; NaN without frauds."""
    observed = float(data.labels.sum())
    probability = expit(data.margins)
    expected = float(probability.sum())
    if not observed or not expected:
        return Measured(float("nan"), float("nan"))
    influence = data.labels / observed - probability / expected
    return Measured(float(np.log(observed / expected)), _summed(influence, data.accounts))


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


def _summed(influence: Floats, accounts: NDArray[np.uint64]) -> float:
    """Variance of an estimate from its influence values, summed by account first (Obuchowski 1997)."""
    _, number = np.unique(accounts, return_inverse=True)
    sums = np.bincount(number, weights=influence)
    return float((sums**2).sum() * len(sums) / max(len(sums) - 1, 1))


def fraud_accounts(data: LabelledRows) -> int:
    """The number of accounts with a fraud: the independent observations behind recall."""
    return len(np.unique(data.accounts[data.labels]))


def measure(data: LabelledRows, config: DriftConfig) -> dict[str, Measured]:
    """The three metrics that are compared. The bootstrap is skipped if there are too few accounts with fraud."""
    enough = fraud_accounts(data) >= config.fraud_accounts_min
    return {
        AUC: auc_roc(data),
        AVERAGE_PRECISION: average_precision(data, rounds=ROUNDS if enough else 0),
        CALIBRATION: log_observed_to_expected(data),
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
    current: LabelledRows,
    before: dict[str, Measured],
    now: dict[str, Measured],
    config: DriftConfig,
) -> list[FeatureDrift]:
    """Verdicts on the three metrics (`measure` of each window), named "performance:…"."""
    victims = min(fraud_accounts(data) for data in (reference, current))
    few = victims < config.fraud_accounts_min
    found = []
    for name in (AUC, AVERAGE_PRECISION, CALIBRATION):
        a, b = before[name], now[name]
        change = a.value - b.value
        spread = a.variance + b.variance
        if few or not spread > 0:
            state: State = "too_few_rows" if few or change != change else "tested"
            found.append(FeatureDrift(feature=PERFORMANCE + name, kind="performance", state=state))
            continue
        z = change / float(np.sqrt(spread))
        two_sided = name == CALIBRATION
        found.append(
            FeatureDrift(
                feature=PERFORMANCE + name,
                kind="performance",
                state="tested",
                effects={name: abs(change) if two_sided else max(change, 0.0)},
                test={AUC: "delong", AVERAGE_PRECISION: "bootstrap", CALIBRATION: "observed_to_expected"}[name],
                p_value=float((2 if two_sided else 1) * stdtr(victims - 1, -abs(z) if two_sided else -z)),
            )
        )
    return judged(found, config)
