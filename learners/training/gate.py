"""The validation gate: may this candidate proceed to shadow or a test? Pure: margins in, a verdict out.

Both models score the same held-out rows: later than everything the candidate has seen, and old enough for their labels
to be mature (`unseen`). All checks are made and every failure is reported, so that a rejection names everything that is
wrong:

1. sufficient data        rows, frauds and accounts
2. a working model        finite margins, not nearly constant
3. average precision      at least `gain_min` above the champion's, and the confidence interval of the difference
                          (paired bootstrap over accounts: Efron, Tibshirani 1993) above −`loss_max`
4. AUC, calibration       ROC AUC, expected calibration error and Brier score not much worse than the champion's
5. latency                of the candidate's scorer, µs per row; measured by the caller, because the gate has no clock
6. stability              population stability index of the scores, share of decisions that change

A poisoned candidate (flipped labels) fails checks 3 and 4. If 1 or 2 fails, the other checks would be noise and are
skipped. Cost: `rounds` × O(rows): 5 to 8 CPU seconds for 500 rounds of 50,000 rows (benchmarks/incremental.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from core.numeric import sigmoid
from learners import metrics
from learners.drift.statistics import psi, quantile_edges
from learners.metrics import Labels
from learners.training.base import Float64

PSI_BINS = 10


@dataclass(frozen=True, slots=True)
class GateSettings:
    """Every threshold. rows_min, frauds_min, accounts_min, distinct_min (distinct scores): counts. confidence: of the
    interval; rounds: of the bootstrap. gain_min, loss_max, auc_loss_max, ece_rise_max: differences of the metrics;
    gain_min is negative so that an update that changes little does not fail by chance. brier_rise_max: relative.
    latency_us_max: µs per row. psi_max: far above the usual 0.25, because a better model reorders the many harmless
    rows among themselves (docs/incremental.md); what matters is what crosses a threshold.
    decisions_changed_max: share of rows.
    """

    rows_min: int = 2000
    frauds_min: int = 30
    accounts_min: int = 50
    distinct_min: int = 20
    confidence: float = 0.95
    rounds: int = 500
    gain_min: float = -0.005
    loss_max: float = 0.05
    auc_loss_max: float = 0.01
    ece_rise_max: float = 0.01
    brier_rise_max: float = 0.05
    latency_us_max: float = 20.0
    psi_max: float = 2.0
    decisions_changed_max: float = 0.05

    def __post_init__(self) -> None:
        """Raise BadInput for a threshold out of range."""
        if min(self.rows_min, self.frauds_min, self.accounts_min, self.distinct_min, self.rounds) < 1:
            raise BadInput("gate: rows_min, frauds_min, accounts_min, distinct_min and rounds must be at least 1")
        if not 0.5 <= self.confidence < 1.0:
            raise BadInput("gate: confidence must be in [0.5, 1)")
        limits = (self.loss_max, self.auc_loss_max, self.ece_rise_max, self.brier_rise_max, self.latency_us_max)
        if not all(0.0 <= limit < float("inf") for limit in (*limits, self.psi_max, self.decisions_changed_max)):
            raise BadInput("gate: limits must be finite and not negative")
        if not -1.0 <= self.gain_min <= 1.0:
            raise BadInput("gate: gain_min must be in [-1, 1]")


@dataclass(frozen=True, slots=True)
class PairedScores:
    """The gate's input: margins (log-odds) of both models on the same n held-out rows, float64 (n,); labels bool (n,);
    accounts int64 (n,), any numbers that distinguish accounts; review, decline: the thresholds in force, probabilities;
    latency_us: measured latency of the candidate's scorer, µs per row.
    """

    champion: Float64
    candidate: Float64
    labels: Labels
    accounts: NDArray[np.int64]
    review: float
    decline: float
    latency_us: float


@dataclass(frozen=True, slots=True)
class GateResult:
    """The verdict. reasons: of a rejection, in words, () if accepted; metrics: all that could be computed, finite, as
    stored in ModelRegistered.
    """

    accepted: bool
    reasons: tuple[str, ...]
    metrics: dict[str, float]

    @property
    def reason(self) -> str:
        """All reasons in one line, as stored in RetrainingRejected; "" if accepted."""
        return "; ".join(self.reasons)


def unseen(times: NDArray[np.int64], seen_until: int, known_until: int, maturity_ms: int) -> Labels:
    """The rows that can be used for evaluation: bool (n,). times: event times, epoch ms. seen_until: the latest
    transaction or verdict that the candidate has seen. known_until: the time up to which verdicts were read. A row
    qualifies if it happened after `seen_until` and its label is mature at `known_until`.
    """
    return np.asarray((times > seen_until) & (times <= known_until - maturity_ms), dtype=np.bool_)


def judge(paired: PairedScores, settings: GateSettings, seed: int) -> GateResult:
    """The verdict. The same scores, settings and seed give the same verdict, bit for bit.

    Raises BadInput if the arrays do not match or the champion's margins are not finite.
    """
    _check(paired)
    figures: dict[str, float] = {
        "rows": float(len(paired.labels)),
        "frauds": float(paired.labels.sum()),
        "accounts": float(len(np.unique(paired.accounts))),
    }
    reasons = [*_too_little(figures, settings), *_broken(paired, settings)]
    if not reasons:
        for check in (_ranking, _calibration, _latency, _stability):
            reasons += check(paired, settings, figures, seed)
    finite = {name: value for name, value in figures.items() if np.isfinite(value)}
    return GateResult(not reasons, tuple(reasons), finite)


def _check(e: PairedScores) -> None:
    if not len(e.champion) == len(e.candidate) == len(e.labels) == len(e.accounts):
        raise BadInput("gate: margins, labels and accounts differ in length")
    if e.labels.dtype != np.bool_ or e.champion.dtype != np.float64 or e.candidate.dtype != np.float64:
        raise BadInput("gate: margins must be float64 and labels bool")
    if not np.isfinite(e.champion).all():
        raise BadInput("gate: cannot compare with the champion, because its margins are not finite")
    if not 0.0 < e.review <= e.decline <= 1.0:
        raise BadInput("gate: thresholds must be 0 < review <= decline <= 1")


def _too_little(figures: dict[str, float], s: GateSettings) -> list[str]:
    wanted = {"rows": s.rows_min, "frauds": s.frauds_min, "accounts": s.accounts_min}
    found = [
        f"too few held-out {name}: {figures[name]:.0f}, at least {least} needed"
        for name, least in wanted.items()
        if figures[name] < least
    ]
    if figures["rows"] and figures["frauds"] == figures["rows"]:
        found.append("all held-out rows are fraud")
    return found


def _broken(e: PairedScores, s: GateSettings) -> list[str]:
    wrong = int(np.count_nonzero(~np.isfinite(e.candidate)))
    if wrong:
        return [f"the candidate is broken: {wrong} of {len(e.candidate)} margins are not finite"]
    distinct = len(np.unique(e.candidate))
    if distinct < min(s.distinct_min, len(np.unique(e.champion))):
        return [f"the candidate is degenerate: {distinct} distinct scores on {len(e.candidate)} rows"]
    return []


def _ranking(e: PairedScores, s: GateSettings, figures: dict[str, float], seed: int) -> list[str]:
    reasons = []
    interval = average_precision_gain(e.labels, e.champion, e.candidate, e.accounts, s.rounds, s.confidence, seed)
    figures["champion_average_precision"] = metrics.average_precision(e.labels, e.champion)
    figures["average_precision"] = metrics.average_precision(e.labels, e.candidate)
    figures["average_precision_gain"] = interval.value
    figures["average_precision_gain_low"] = interval.low
    figures["average_precision_gain_high"] = interval.high
    shown = f"{interval.value:+.4f} ({s.confidence:.0%} interval {interval.low:+.4f} to {interval.high:+.4f})"
    if not interval.value >= s.gain_min:
        reasons.append(f"average precision changes by {shown}, at least {s.gain_min:+.4f} needed")
    if not interval.low >= -s.loss_max:
        reasons.append(f"average precision may fall too far: {shown}, a loss of at most {s.loss_max:.4f} is allowed")
    before, after = metrics.roc_auc(e.labels, e.champion), metrics.roc_auc(e.labels, e.candidate)
    figures["champion_auc_roc"], figures["auc_roc"] = before, after
    if not after >= before - s.auc_loss_max:
        reasons.append(f"AUC falls from {before:.4f} to {after:.4f}, more than the {s.auc_loss_max:.4f} allowed")
    return reasons


def _calibration(e: PairedScores, s: GateSettings, figures: dict[str, float], seed: int) -> list[str]:
    reasons = []
    before, after = sigmoid(e.champion, 1.0), sigmoid(e.candidate, 1.0)
    champion_ece, ece = metrics.ece(e.labels, before), metrics.ece(e.labels, after)
    champion_brier, brier = metrics.brier(e.labels, before), metrics.brier(e.labels, after)
    figures |= {"champion_ece": champion_ece, "ece": ece, "champion_brier": champion_brier, "brier": brier}
    if not ece <= champion_ece + s.ece_rise_max:
        reasons.append(
            f"calibration error rises from {champion_ece:.4f} to {ece:.4f}, more than the {s.ece_rise_max:.4f} allowed"
        )
    if not brier <= champion_brier * (1.0 + s.brier_rise_max):
        reasons.append(
            f"Brier score rises from {champion_brier:.5f} to {brier:.5f}, more than the {s.brier_rise_max:.0%} allowed"
        )
    return reasons


def _latency(e: PairedScores, s: GateSettings, figures: dict[str, float], seed: int) -> list[str]:
    figures["latency_us"] = e.latency_us
    if e.latency_us <= s.latency_us_max:
        return []
    return [f"scoring takes {e.latency_us:.1f} µs per row, at most {s.latency_us_max:.1f} allowed"]


def _stability(e: PairedScores, s: GateSettings, figures: dict[str, float], seed: int) -> list[str]:
    reasons = []
    shift = stability_index(e.champion, e.candidate)
    thresholds = [e.review, e.decline]
    before, after = (np.digitize(sigmoid(m, 1.0), thresholds) for m in (e.champion, e.candidate))
    changed = float(np.mean(before != after))
    figures |= {
        "score_psi": shift,
        "decisions_changed": changed,
        "champion_alert_rate": float(np.mean(before > 0)),
        "alert_rate": float(np.mean(after > 0)),
    }
    if not shift <= s.psi_max:
        reasons.append(f"scores shift: PSI {shift:.3f}, at most {s.psi_max:.3f} allowed")
    if not changed <= s.decisions_changed_max:
        reasons.append(f"{changed:.2%} of decisions change, at most {s.decisions_changed_max:.2%} allowed")
    return reasons


def stability_index(reference: Float64, current: Float64, bins: int = PSI_BINS) -> float:
    """Population stability index of two samples of scores (n,) and (m,), in bins of the reference's quantiles: finite,
    at least 0, and robust to ties and empty bins (`learners.drift.statistics`).
    """
    a, b = np.sort(reference.astype(np.float32)), current.astype(np.float32)
    edges = quantile_edges(a, bins)
    counts = [np.bincount(np.searchsorted(edges, x, side="left"), minlength=len(edges) + 1) for x in (a, b)]
    return psi(counts[0], counts[1])


def average_precision_gain(
    labels: Labels,
    champion: Float64,
    candidate: Float64,
    accounts: NDArray[np.int64],
    rounds: int,
    confidence: float,
    seed: int,
) -> metrics.Interval:
    """Candidate's minus champion's average precision, with a percentile interval from a paired bootstrap over accounts.

    Accounts are drawn with replacement, the same ones for both models, with all their rows, because an account's
    transactions are not independent. An account drawn k times has weight k, so rows are sorted only once. Rounds
    without frauds are left out.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    names, member = np.unique(accounts, return_inverse=True)
    sides = [_Ranked.of(labels, scores, member) for scores in (candidate, champion)]
    gains = np.full(rounds, np.nan)
    for i in range(rounds):
        drawn = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names)).astype(np.float64)
        gains[i] = sides[0].average_precision(drawn) - sides[1].average_precision(drawn)
    once = np.ones(len(names))
    value = sides[0].average_precision(once) - sides[1].average_precision(once)
    known = gains[~np.isnan(gains)]
    if not len(known):
        return metrics.Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(known, [0.5 - confidence / 2.0, 0.5 + confidence / 2.0])
    return metrics.Interval(value, float(low), float(high))


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Rows in descending order of score: fraud or not, account; index of the last row of each distinct score."""

    frauds: Float64
    member: NDArray[np.intp]
    last: NDArray[np.intp]

    @classmethod
    def of(cls, labels: Labels, scores: Float64, member: NDArray[np.intp]) -> _Ranked:
        order = np.argsort(-scores, kind="stable")
        last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
        return cls(labels[order].astype(np.float64), member[order], last)

    def average_precision(self, weights: Float64) -> float:
        """`metrics.average_precision` with each row weighted by its account's weight; NaN without frauds."""
        rows = weights[self.member]
        hits = np.cumsum(rows * self.frauds)[self.last]
        if hits[-1] <= 0.0:
            return float("nan")
        taken = np.cumsum(rows)[self.last]
        precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0.0)
        return float(np.diff(hits, prepend=0.0) @ precision / hits[-1])
