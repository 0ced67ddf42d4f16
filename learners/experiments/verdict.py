"""What to do with an experiment, from what its accounts showed so far. Pure: settings and findings in, a verdict out.

In this order; the first that holds is the verdict:

    rollback   accounts do not fall into the arms as they should (SRM): the comparison is invalid
    rollback   an arm makes a guardrail metric worse, beyond its margin; at any time, however few the accounts
    promote    an arm is better on the primary metric; enough mature accounts in it and in control
    stop       every arm is shown to gain less than what is worth it (`worthwhile`), or the time is over
    continue   otherwise

Errors are held at `alpha` for each of two families, whatever the number of looks: promoting some arm that is not better
(Bonferroni over the treated arms), and rolling back some arm that is not worse on any guardrail (Bonferroni over arms ×
guardrails). SRM has its own level. Intervals shown hold all at once (Bonferroni over arms × metrics). "Better" and
"worse" are in the metric's own direction (`METRICS`): a positive gain is always good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from core.times import DAY_MS
from learners.experiments.sequential import Effect, Interval
from learners.experiments.srm import Mismatch

Metric = Literal["fraud_caught", "missed_fraud", "false_positive", "value_lost"]

METRICS: dict[Metric, Literal[1, -1]] = {"fraud_caught": 1, "missed_fraud": -1, "false_positive": -1, "value_lost": -1}
"""+1: more is better, −1: less is better. What each measures: `projections.views.experiments_answers`."""

Action = Literal["continue", "promote", "stop", "rollback"]


class Criteria(msgspec.Struct, frozen=True, kw_only=True):
    """When an experiment ends. Accounts are mature ones, of each arm; rates are of accounts.

    guardrails: metric → how much worse it may get (0.002: two more accounts in a thousand). worthwhile: the gain on the
    primary metric below which an arm is of no use; 0 stops early only for an arm that is worse.
    """

    primary: Metric
    guardrails: dict[Metric, float]
    alpha: float
    minimum_accounts: int
    maximum_ms: int
    """From its start; 0: no limit."""
    worthwhile: float
    srm_alpha: float = 0.001


class Finding(msgspec.Struct, frozen=True):
    """One treated arm against control on one metric, signed so that a positive gain is good.

    log_e_better: of "it is better" now; log_e_worse: of "it is worse by more than the margin", the greatest so far (a
    breach stays one). interval: of the gain. p_better, p_worse: 1 / these e-values; safe at any look.
    """

    arm: str
    metric: Metric
    gain: float
    interval: Interval
    log_e_better: float
    log_e_worse: float
    p_better: float
    p_worse: float


class Verdict(msgspec.Struct, frozen=True):
    """What to do, with which arm (promoted; or rolled back: the first that breached), and why, in words."""

    action: Action
    arm: str
    reasons: tuple[str, ...]


def new_effect(metric: Metric, criteria: Criteria) -> Effect:
    """The process of one arm and metric. It runs on the metric as it is; the margin lies on the bad side."""
    margin = criteria.guardrails.get(metric, 0.0)
    return Effect(null_down=-margin) if METRICS[metric] > 0 else Effect(null_up=margin)


def finding(arm: str, metric: Metric, effect: Effect, alpha: float) -> Finding:
    """The process turned so that more is better; alpha is the interval's own level."""
    interval = effect.interval(alpha)
    if METRICS[metric] > 0:
        gain, better, worse = effect.estimate, effect.log_e_up, effect.down_max
    else:
        interval = Interval(-interval.high, -interval.low)
        gain, better, worse = -effect.estimate, effect.log_e_down, effect.up_max
    p_better, p_worse = (min(1.0, float(np.exp(-log_e))) for log_e in (better, worse))
    return Finding(arm, metric, gain, interval, better, worse, p_better, p_worse)


def verdict(
    criteria: Criteria,
    arms: Sequence[str],
    mature: Mapping[str, int],
    findings: Sequence[Finding],
    mismatch: Mismatch,
    elapsed_ms: int,
) -> Verdict:
    """See the module's head. arms: names, control first; mature: mature accounts by arm; elapsed_ms: since it began."""
    treated = arms[1:]
    if mismatch.log_e_max >= -np.log(criteria.srm_alpha):
        counts = ", ".join(
            f"{a} {n:,} of {e:,.0f} expected"
            for a, n, e in zip(arms, mismatch.observed, mismatch.expected, strict=True)
        )
        return Verdict("rollback", "", (f"invalid: accounts do not fall into the arms as allocated ({counts})",))
    guarded = max(1, len(treated) * len(criteria.guardrails))
    breached = [f for f in findings if f.metric in criteria.guardrails and _reaches(f.log_e_worse, criteria, guarded)]
    if breached:
        return Verdict("rollback", breached[0].arm, tuple(_breach(f, criteria) for f in breached))
    primary = [f for f in findings if f.metric == criteria.primary]
    fewest = min(mature.get(arms[0], 0), *(mature.get(arm, 0) for arm in treated))
    winners = [f for f in primary if _reaches(f.log_e_better, criteria, max(1, len(treated)))]
    ready = [f for f in winners if min(mature.get(arms[0], 0), mature.get(f.arm, 0)) >= criteria.minimum_accounts]
    if ready:
        best = max(ready, key=lambda f: f.gain)
        return Verdict("promote", best.arm, (_gain(best, "better"),))
    if fewest >= criteria.minimum_accounts and primary and all(f.interval.high < criteria.worthwhile for f in primary):
        return Verdict("stop", "", tuple(_gain(f, f"gain below {criteria.worthwhile:g}") for f in primary))
    if criteria.maximum_ms and elapsed_ms >= criteria.maximum_ms:
        days = elapsed_ms / DAY_MS
        return Verdict("stop", "", (f"no arm is shown to be better after {days:.1f} days",))
    waiting = [f"{_gain(f, 'better')}, waiting for {criteria.minimum_accounts:,} accounts an arm" for f in winners]
    so_far = f"no arm is shown to be better or worse yet; {fewest:,} mature accounts in the smallest arm"
    return Verdict("continue", "", tuple(waiting or [so_far]))


def _reaches(log_e: float, criteria: Criteria, comparisons: int) -> bool:
    return log_e >= float(np.log(comparisons / criteria.alpha))


def _gain(f: Finding, what: str) -> str:
    return f"{f.arm}: {f.metric} {what}, gain {f.gain:+.5f} in [{f.interval.low:+.5f}, {f.interval.high:+.5f}]"


def _breach(f: Finding, criteria: Criteria) -> str:
    return (
        f"{f.arm}: guardrail {f.metric} worse by more than {criteria.guardrails[f.metric]:g}: "
        f"gain {f.gain:+.5f}, p {f.p_worse:.2g}"
    )
