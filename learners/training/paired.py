"""Two models on the same labelled rows: every figure with a bootstrap interval over accounts. Pure.

    ranking            difference of average precision and of the AUC
    log_loss_gain      champion's minus candidate's log loss, as a share of the champion's: a proper score, so only a
                       model that is closer to the truth gains
    brier_rise         relative rise of the Brier score
    observed_expected  frauds over the sum of the probabilities, of each model: 1 if it is calibrated in the large
    expected_ratio     candidate's sum of probabilities over the champion's
    level_shift        the shift of the champion's log-odds that gives the candidate's sum of probabilities. Both are
                       free of the labels' noise, so they show a shifted level even where frauds are too few to tell
                       which level is right. How far a shift moves the sum depends on how well a model separates
    alert_ratio        candidate's alerts over the champion's; half an alert is added to both
    value_gain         difference of the share of the fraudulent amount that is alerted
    changed            decisions that differ, per alert of the champion (half an alert added)
    calibration_error  root mean square of (observed − predicted) over bins with equal numbers of rows, debiased, as a
                       share of the base rate

The plug-in estimate of a calibration error is too large: a bin's observed share differs from its true one by chance.
Kumar, Liang, Ma 2019 ("Verified uncertainty calibration") subtract the variance of each bin's share,

    error² = Σ_b n_b/n · (d_b² − V_b)          d_b: observed minus predicted share of bin b

Their V_b = s(1−s)/(n_b − 1) holds for independent rows. An account's rows are not, so V_b here is the variance over
accounts (linearised ratio; Binder 1983), which equals theirs, up to the rows' own spread of probabilities, if each
account has one row. In a bootstrap round, d_b² is too large by V_b once more, so 2 V_b is subtracted there.

Both models are measured under the same draws of accounts, so what they have in common cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, get_type_hints

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from core.numeric import sigmoid
from core.policy import EFFECTS, Thresholds, check_thresholds, decide
from learners.metrics import Interval, Labels, equal_bins
from learners.training.resampling import Ranked, level_shift, log_losses, resamples, sums_of

Floats = NDArray[np.float64]

_SUMS = (
    "frauds",
    "champion_expected",
    "expected",
    "champion_alerts",
    "alerts",
    "champion_log_loss",
    "log_loss",
    "champion_brier",
    "brier",
    "champion_value",
    "value",
    "value_all",
    "changed",
    "rows",
)
"""Columns of sums by account; then, for each model and bin, residuals and rows."""


@dataclass(frozen=True, slots=True)
class PairedScores:
    """Margins (log-odds) of both models on the same n held-out rows, float64 (n,); labels bool (n,); accounts int64
    (n,), any numbers that distinguish accounts; amounts float64 (n,), base currency; thresholds: those in force;
    latency_us: measured latency of the candidate's scorer, µs per row.
    """

    champion: Floats
    candidate: Floats
    labels: Labels
    accounts: NDArray[np.int64]
    amounts: Floats
    thresholds: Thresholds
    latency_us: float

    def check(self) -> None:
        """Raise BadInput if the arrays do not match, or the champion's margins or the amounts are not finite."""
        lengths = {len(each) for each in (self.champion, self.candidate, self.labels, self.accounts, self.amounts)}
        if len(lengths) != 1:
            raise BadInput("gate: margins, labels, accounts and amounts differ in length")
        if self.labels.dtype != np.bool_ or not self.champion.dtype == self.candidate.dtype == np.float64:
            raise BadInput("gate: margins must be float64 and labels bool")
        if not np.isfinite(self.champion).all():
            raise BadInput("gate: cannot compare with the champion, because its margins are not finite")
        if not np.isfinite(self.amounts).all():
            raise BadInput("gate: amounts must be finite")
        check_thresholds(*self.thresholds)


def decisions_of(probabilities: Floats, amounts: Floats, thresholds: Thresholds) -> NDArray[np.uint8]:
    """What a model alone asks for by the thresholds, without rules: indices into `core.policy.DECISIONS`, (n,).
    amounts: in the base currency.
    """
    losses = probabilities * amounts.astype(np.float32).astype(np.float64)
    review, decline, review_loss, decline_loss = thresholds
    reviews = losses >= review_loss if review_loss > 0.0 else probabilities >= review
    declines = losses >= decline_loss if decline_loss > 0.0 else probabilities >= decline
    made = decide(declines, reviews, np.zeros((len(probabilities), len(EFFECTS)), dtype=np.int64))
    return np.asarray(made, dtype=np.uint8)


class Comparison(NamedTuple):
    """See the module's head. Intervals are (value, low, high), all at once at the confidence asked for; NaN where a
    figure is undefined. average_precision_gain_alone_low: the low end of its gain's interval by itself.
    """

    champion_average_precision: float
    average_precision: float
    average_precision_gain: Interval
    average_precision_gain_alone_low: float
    champion_auc_roc: float
    auc_roc: float
    auc_gain: Interval
    log_loss_gain: Interval
    champion_brier: float
    brier: float
    brier_rise: Interval
    champion_observed_expected: Interval
    observed_expected: Interval
    expected_ratio: Interval
    level_shift: float
    champion_alert_rate: float
    alert_rate: float
    alert_ratio: Interval
    champion_value_detected: float
    value_detected: float
    value_gain: Interval
    changed: Interval
    champion_calibration_error: float
    calibration_error: float
    calibration_rise: Interval
    """Of the squared errors: candidate's minus champion's."""


def compare(paired: PairedScores, rounds: int, confidence: float, seed: int) -> Comparison:
    """The comparison of valid scores (`PairedScores.check`) with at least one row. The same input gives the same bits
    on every CPU. Cost: rounds × O(rows).

    confidence: that all intervals together hold what they estimate; each is wider by Bonferroni's inequality.
    """
    names, member = np.unique(paired.accounts, return_inverse=True)
    sums = _Sums(paired, member, len(names))
    sides = [Ranked(paired.labels, scores, member) for scores in (paired.champion, paired.candidate)]
    once = np.ones(len(names), dtype=np.int64)
    value = _figures(sums, sides, once, 1)
    drawn = np.array([_figures(sums, sides, weights, 2) for weights in resamples(len(names), rounds, seed)])
    value[Comparison._fields.index("level_shift")] = float(
        level_shift(paired.champion, float(np.cumsum(sigmoid(paired.candidate, 1.0))[-1]))
    )
    kinds = list(get_type_hints(Comparison).values())
    each = 1.0 - (1.0 - confidence) / kinds.count(Interval)
    found: list[Any] = [
        interval_of(value[i], drawn[:, i], each) if of is Interval else value[i] for i, of in enumerate(kinds)
    ]
    gain = Comparison._fields.index("average_precision_gain")
    floor = interval_of(value[gain], drawn[:, gain], confidence).low
    return Comparison(*found)._replace(average_precision_gain_alone_low=floor)


def interval_of(value: float, drawn: Floats, confidence: float) -> Interval:
    """The percentile interval of the drawn values that are not NaN; NaN if all are."""
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(known, [0.5 - confidence / 2.0, 0.5 + confidence / 2.0])
    return Interval(value, float(low), float(high))


class _Sums:
    """The rows' contributions to every figure that is a function of sums, summed by account."""

    def __init__(self, paired: PairedScores, member: NDArray[np.int64], accounts: int) -> None:
        labels, amounts = paired.labels.astype(np.float64), np.maximum(paired.amounts, 0.0)
        margins = (paired.champion, paired.candidate)
        p, q = (sigmoid(m, 1.0) for m in margins)
        decided = [decisions_of(x, amounts, paired.thresholds) for x in (p, q)]
        before, after = ((made > 0).astype(np.float64) for made in decided)
        losses = [log_losses(m, paired.labels) for m in margins]
        columns = [labels, p, q, before, after, *losses, (p - labels) ** 2, (q - labels) ** 2]
        columns += [labels * amounts * before, labels * amounts * after, labels * amounts]
        columns += [(decided[0] != decided[1]).astype(np.float64), np.ones(len(labels))]
        self.variances: list[Floats] = []
        for x in (p, q):
            bins = equal_bins(x)
            count = int(bins.max()) + 1
            cell = member * count + bins
            residuals, rows = (
                np.asarray(np.bincount(cell, weights, accounts * count), np.float64).reshape(accounts, count)
                for weights in (labels - x, np.ones(len(x)))
            )
            self.variances.append(_variances(residuals, rows))
            columns += [residuals, rows]
        self.by_account = np.column_stack([np.bincount(member, c, accounts) if c.ndim == 1 else c for c in columns])

    def totals(self, weights: NDArray[np.int64]) -> tuple[dict[str, float], list[tuple[Floats, Floats]]]:
        """(sums by name, (residuals, rows) by bin of each model) with each account weighted."""
        found = sums_of(self.by_account, weights)
        at, bins = len(_SUMS), []
        for variances in self.variances:
            count = len(variances)
            bins.append((found[at : at + count], found[at + count : at + 2 * count]))
            at += 2 * count
        return dict(zip(_SUMS, found[: len(_SUMS)].tolist(), strict=True)), bins


def _variances(residuals: Floats, rows: Floats) -> Floats:
    """The variance over accounts of each bin's mean residual: (accounts, bins) each → (bins,). Bins are not empty."""
    accounts = len(rows)
    count = np.cumsum(rows, axis=0)[-1]
    mean = np.cumsum(residuals, axis=0)[-1] / count
    spread = np.cumsum((residuals - rows * mean) ** 2, axis=0)[-1]
    return np.asarray(spread / count**2 * (accounts / max(accounts - 1, 1)))


def _squared_error(residuals: Floats, rows: Floats, variances: Floats, times: int) -> float:
    """Σ share of rows × (gap² − times × variance) over the bins that have rows."""
    total = error = 0.0
    for residual, count, variance in zip(residuals.tolist(), rows.tolist(), variances.tolist(), strict=True):
        if count > 0.0:
            total += count
            error += count * ((residual / count) ** 2 - times * variance)
    return error / total if total else float("nan")


def _figures(sums: _Sums, sides: list[Ranked], weights: NDArray[np.int64], times: int) -> list[float]:
    """The fields of Comparison as plain numbers, with each account weighted."""
    s, bins = sums.totals(weights)
    (ap_before, auc_before), (ap_after, auc_after) = (side.measure(weights) for side in sides)
    squares = [_squared_error(*of, variance, times) for of, variance in zip(bins, sums.variances, strict=True)]
    rate = _ratio(s["frauds"], s["rows"])
    relative = [_ratio(max(square, 0.0) ** 0.5, rate) for square in squares]
    return [
        ap_before,
        ap_after,
        ap_after - ap_before,
        float("nan"),  # a quantile, of all rounds
        auc_before,
        auc_after,
        auc_after - auc_before,
        _ratio(s["champion_log_loss"] - s["log_loss"], s["champion_log_loss"]),
        _ratio(s["champion_brier"], s["rows"]),
        _ratio(s["brier"], s["rows"]),
        _ratio(s["brier"] - s["champion_brier"], s["champion_brier"]),
        _ratio(s["frauds"], s["champion_expected"]),
        _ratio(s["frauds"], s["expected"]),
        _ratio(s["expected"], s["champion_expected"]),
        float("nan"),  # the level shift is computed once, not in every round
        _ratio(s["champion_alerts"], s["rows"]),
        _ratio(s["alerts"], s["rows"]),
        _ratio(s["alerts"] + 0.5, s["champion_alerts"] + 0.5),
        _ratio(s["champion_value"], s["value_all"]),
        _ratio(s["value"], s["value_all"]),
        _ratio(s["value"] - s["champion_value"], s["value_all"]),
        _ratio(s["changed"], s["champion_alerts"] + 0.5),
        *relative,
        squares[1] - squares[0],
    ]


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0.0 else float("nan")
