"""The validation gate: may this candidate proceed to shadow or a test? Pure: margins in, a verdict out.

Both models score the same held-out rows: later than everything the candidate has seen, and old enough for their labels
to be mature (`unseen`). All checks are made and every failure is reported, so that a rejection names everything that is
wrong. Figures and intervals are those of `learners.training.paired`.

1. sufficient data        rows, frauds and accounts
2. a working model        finite margins, not nearly constant
3. ranking                average precision and ROC AUC not worse than the champion's; the interval of the difference of
                          average precision not far below 0
4. proper scores          log loss and Brier score not worse
5. calibration            observed/expected frauds not further from 1, debiased calibration error not larger, both
                          relative to the base rate
6. level                  level shift, alerts and distribution of the scores (population stability index) about those of
                          the champion, few decisions changed; fraudulent value detected not less
7. latency                of the candidate's scorer, µs per row; measured by the caller, because the gate has no clock

"Not worse" has two parts: the change must exceed its limit, and its interval must exclude "no change". Where frauds are
rare an equal model, trained with another seed, often seems worse by chance; and a limit alone would either refuse it or
bind on nothing. Ten checks are ten chances to seem worse, so the intervals hold all at once, at `confidence`.

A level that changes needs a reason. With rare frauds no label tells which of two levels is right, and both models may
rank alike: a champion shifted by 0.7 log-odds has its average precision, its AUC and nearly its Brier score, while its
alerts double. The level is therefore compared directly, which takes no labels. A candidate beyond the limits of level
shift, alerts, scores or changed decisions is still accepted if the labels show that it is right: its log loss is lower
(the whole interval), and its observed/expected frauds are near 1 (within `observed_expected_max`, or the interval
contains 1), on at least `level_accounts_min` accounts with fraud: with fewer, one attack decides. A shift in the right
direction that only makes a wrong level less wrong is not enough.

A poisoned candidate (flipped labels) fails checks 3 to 6. If 1 or 2 fails, the other checks would be noise and are
skipped. Cost: `rounds` × O(rows): benchmarks/incremental.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from learners.metrics import Interval, Labels
from learners.training.base import Float64
from learners.training.paired import Comparison, PairedScores, compare, interval_of
from learners.training.resampling import Ranked, resamples

PSI_BINS = 10
COUNTS = ("rows_min", "frauds_min", "accounts_min", "distinct_min", "level_accounts_min", "rounds")
"""The settings that are whole numbers."""


@dataclass(frozen=True, slots=True)
class GateSettings:
    """Every threshold. rows_min, frauds_min, accounts_min, distinct_min (distinct scores): counts. confidence: of the
    intervals; rounds: of the bootstrap. gain_min (below 0: an allowed loss; from 0 on: a required gain), loss_max,
    auc_loss_max: differences. log_loss_rise_max, brier_rise_max: relative. observed_expected_max: factor by which
    observed/expected frauds may be further from 1 than the champion's; ece_rise_max: rise of the debiased calibration
    error, as a share of the base rate. level_shift_max: log-odds, up or down; level_accounts_min: accounts with fraud
    that it takes to show that another level is right; alert_ratio_max: a factor, up or down.
    decisions_changed_max: per alert of the champion. value_loss_max: share of the fraudulent amount. latency_us_max: µs
    per row. psi_max: far above the usual 0.25, because a better model reorders the many harmless rows among themselves
    (docs/incremental.md).
    """

    rows_min: int = 2000
    frauds_min: int = 30
    accounts_min: int = 50
    distinct_min: int = 20
    confidence: float = 0.95
    rounds: int = 1000
    gain_min: float = -0.03
    loss_max: float = 0.15
    auc_loss_max: float = 0.02
    log_loss_rise_max: float = 0.15
    brier_rise_max: float = 0.15
    observed_expected_max: float = 1.2
    ece_rise_max: float = 0.75
    level_shift_max: float = 0.5
    level_accounts_min: int = 50
    alert_ratio_max: float = 1.25
    value_loss_max: float = 0.1
    decisions_changed_max: float = 1.0
    latency_us_max: float = 20.0
    psi_max: float = 2.0

    def __post_init__(self) -> None:
        """Raise BadInput for a threshold out of range."""
        if min(getattr(self, name) for name in COUNTS) < 1:
            raise BadInput(f"gate: {', '.join(COUNTS[:-1])} and {COUNTS[-1]} must be at least 1")
        if not 0.5 <= self.confidence < 1.0:
            raise BadInput("gate: confidence must be in [0.5, 1)")
        limits = (self.loss_max, self.auc_loss_max, self.log_loss_rise_max, self.brier_rise_max, self.ece_rise_max)
        others = (
            self.level_shift_max,
            self.value_loss_max,
            self.latency_us_max,
            self.psi_max,
            self.decisions_changed_max,
        )
        if not all(0.0 <= limit < float("inf") for limit in (*limits, *others)):
            raise BadInput("gate: limits must be finite and not negative")
        factors = (self.observed_expected_max, self.alert_ratio_max)
        if not all(1.0 < factor < float("inf") for factor in factors):
            raise BadInput("gate: observed_expected_max and alert_ratio_max must be above 1")
        if not -1.0 <= self.gain_min <= 1.0:
            raise BadInput("gate: gain_min must be in [-1, 1]")


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
    paired.check()
    figures: dict[str, float] = {
        "rows": float(len(paired.labels)),
        "frauds": float(paired.labels.sum()),
        "accounts": float(len(np.unique(paired.accounts))),
        "accounts_with_fraud": float(len(np.unique(paired.accounts[paired.labels]))),
    }
    reasons = [*_too_little(figures, settings), *_broken(paired, settings)]
    if not reasons:
        found = compare(paired, settings.rounds, settings.confidence, seed)
        shift = stability_index(paired.champion, paired.candidate)
        figures |= _named(found) | {"latency_us": paired.latency_us, "score_psi": shift}
        for check in (_ranking, _scores, _calibration):
            reasons += check(found, settings)
        can_show = figures["accounts_with_fraud"] >= settings.level_accounts_min
        reasons += [*_level(found, shift, can_show, settings), *_latency(paired.latency_us, settings)]
    finite = {name: value for name, value in figures.items() if np.isfinite(value)}
    return GateResult(not reasons, tuple(reasons), finite)


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


def _named(found: Comparison) -> dict[str, float]:
    """The figures by name; an interval's ends as `{name}_low` and `{name}_high`."""
    named: dict[str, float] = {}
    for name, value in found._asdict().items():
        if isinstance(value, Interval):
            named |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
        else:
            named[name] = value
    return named


def _ranking(f: Comparison, s: GateSettings) -> list[str]:
    reasons, gain = [], f.average_precision_gain
    if gain.value < s.gain_min and (s.gain_min >= 0.0 or gain.high < 0.0):
        reasons.append(f"average precision changes by {_shown(gain, s)}, at least {s.gain_min:+.4f} needed")
    if not f.average_precision_gain_alone_low >= -s.loss_max:
        reasons.append(
            f"average precision may fall too far: it changes by {gain.value:+.4f}, by {s.confidence:.0%} confidence not"
            f" below {f.average_precision_gain_alone_low:+.4f}; a loss of at most {s.loss_max:.4f} is allowed"
        )
    if _is_below(f.auc_gain, -s.auc_loss_max):
        reasons.append(
            f"AUC falls from {f.champion_auc_roc:.4f} to {f.auc_roc:.4f}, more than the {s.auc_loss_max:.4f} allowed"
        )
    return reasons


def _scores(f: Comparison, s: GateSettings) -> list[str]:
    reasons = []
    if _is_below(f.log_loss_gain, -s.log_loss_rise_max):
        rise = Interval(-f.log_loss_gain.value, -f.log_loss_gain.high, -f.log_loss_gain.low)
        reasons.append(f"log loss rises by {_percent(rise, s)}, more than the {s.log_loss_rise_max:.0%} allowed")
    if _is_above(f.brier_rise, s.brier_rise_max):
        reasons.append(
            f"Brier score rises from {f.champion_brier:.5f} to {f.brier:.5f}, more than the {s.brier_rise_max:.0%}"
            " allowed"
        )
    return reasons


def _calibration(f: Comparison, s: GateSettings) -> list[str]:
    reasons, after = [], f.observed_expected
    before = _factor(f.champion_observed_expected.value)
    if _factor(after.value) > before * s.observed_expected_max and not _contains_one(after):
        reasons.append(
            f"frauds observed are {_times(after, s)} those expected, the champion's"
            f" {f.champion_observed_expected.value:.2f}: further from 1 by more than the factor"
            f" {s.observed_expected_max:g} allowed"
        )
    if f.calibration_error > f.champion_calibration_error + s.ece_rise_max and f.calibration_rise.low > 0.0:
        reasons.append(
            f"calibration error rises from {f.champion_calibration_error:.0%} to {f.calibration_error:.0%} of the base"
            f" rate, by more than the {s.ece_rise_max:.0%} allowed"
        )
    return reasons


def _level(f: Comparison, shift: float, can_show: bool, s: GateSettings) -> list[str]:
    """can_show: whether the labels suffice to show that another level is right."""
    reasons = []
    if not shift <= s.psi_max:
        reasons.append(f"scores shift: PSI {shift:.3f}, at most {s.psi_max:.3f} allowed")
    if abs(f.level_shift) > s.level_shift_max and not _contains_one(f.expected_ratio):
        reasons.append(
            f"the level shifts by {f.level_shift:+.2f} log-odds, at most {s.level_shift_max:g} allowed: expected frauds"
            f" change by the factor {_times(f.expected_ratio, s)}"
        )
    if _is_another_factor(f.alert_ratio, s.alert_ratio_max):
        reasons.append(
            f"alerts change by the factor {_times(f.alert_ratio, s)}, at most {s.alert_ratio_max:g} allowed, up or down"
        )
    if f.changed.value > s.decisions_changed_max and f.changed.low > s.decisions_changed_max / 2.0:
        reasons.append(
            f"{f.changed.value:.0%} as many decisions change as the champion raises alerts, at most"
            f" {s.decisions_changed_max:.0%} allowed"
        )
    is_near = _factor(f.observed_expected.value) <= s.observed_expected_max or _contains_one(f.observed_expected)
    if can_show and f.log_loss_gain.low > 0.0 and is_near:
        reasons = []  # the labels show that this level is right
    if _is_below(f.value_gain, -s.value_loss_max):
        reasons.append(
            f"fraudulent value detected falls from {f.champion_value_detected:.1%} to {f.value_detected:.1%}, more than"
            f" the {s.value_loss_max:.1%} allowed"
        )
    return reasons


def _latency(latency_us: float, s: GateSettings) -> list[str]:
    if latency_us <= s.latency_us_max:
        return []
    return [f"scoring takes {latency_us:.1f} µs per row, at most {s.latency_us_max:.1f} allowed"]


def _is_below(of: Interval, limit: float) -> bool:
    """Whether a change is worse than its limit, and not by chance."""
    return of.value < limit and of.high < 0.0


def _is_above(of: Interval, limit: float) -> bool:
    return of.value > limit and of.low > 0.0


def _is_another_factor(of: Interval, limit: float) -> bool:
    return _factor(of.value) > limit and not _contains_one(of)


def _contains_one(of: Interval) -> bool:
    return of.low <= 1.0 <= of.high


def _factor(ratio: float) -> float:
    """The ratio or its inverse, whichever is larger; infinite for 0, NaN for NaN."""
    return max(ratio, 1.0 / ratio) if ratio != 0.0 else float("inf")


def _shown(of: Interval, s: GateSettings) -> str:
    return f"{of.value:+.4f} ({s.confidence:.0%} interval {of.low:+.4f} to {of.high:+.4f})"


def _percent(of: Interval, s: GateSettings) -> str:
    return f"{of.value:.1%} ({s.confidence:.0%} interval {of.low:+.1%} to {of.high:+.1%})"


def _times(of: Interval, s: GateSettings) -> str:
    return f"{of.value:.2f} ({s.confidence:.0%} interval {of.low:.2f} to {of.high:.2f})"


def stability_index(reference: Float64, current: Float64, bins: int = PSI_BINS) -> float:
    """Population stability index of two samples of scores (n,) and (m,), in bins of the reference's quantiles: finite,
    at least 0, and robust to ties and empty bins (`learners.drift.statistics`).
    """
    from learners.drift.statistics import psi, quantile_edges  # imports scipy, which acts on models don't need

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
) -> Interval:
    """Candidate's minus champion's average precision, with a percentile interval from a paired bootstrap over accounts:
    the same accounts are drawn for both models, with all their rows. Rounds without frauds are left out.
    """
    names, member = np.unique(accounts, return_inverse=True)
    before, after = (Ranked(labels, scores, member) for scores in (champion, candidate))

    def gain(weights: NDArray[np.int64]) -> float:
        return after.measure(weights)[0] - before.measure(weights)[0]

    gains = np.array([gain(weights) for weights in resamples(len(names), rounds, seed)])
    return interval_of(gain(np.ones(len(names), dtype=np.int64)), gains, confidence)
