"""The verdict on an experiment from its findings so far. Pure: criteria and findings in, a verdict out.

The first condition that holds gives the verdict:

    rollback   sample-ratio mismatch (SRM): the comparison is invalid
    rollback   an arm is worse on a guardrail metric by more than its margin; at any time, however few the accounts
    promote    an arm is better on the primary metric, with enough mature accounts in it and in control; in a test that
               is only a guardrail, not shown to be worse on the primary metric
    stop       every arm is shown to gain less than `worthwhile`, or the maximum duration is reached
    continue   otherwise

The error rate is at most `alpha` in each of two families, whatever the number of looks: promoting any arm that is not
better (Bonferroni over the treated arms), and rolling back any arm that is not worse on any guardrail (Bonferroni over
arms × guardrails). SRM has its own level. Displayed intervals hold simultaneously (Bonferroni over arms × metrics).
A test is only a guardrail (`Criteria.is_guardrail`) if the arm has already been shown to be better in another way, by
the paired test of its shadow (`learners.experiments.paired`): between accounts the same gain takes several times as
many. The error rate of the promotion is then that of the paired test. What the test adds is what a shadow can't show:
how accounts, analysts and the systems around respond when the arm decides.

"Better" and "worse" follow the direction of the metric (`METRICS`): a positive gain is always good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from core.errors import BadInput
from core.events import ExperimentStarted
from core.times import DAY_MS
from learners.experiments.design import Design
from learners.experiments.sequential import Effect, Interval
from learners.experiments.srm import Mismatch

Metric = Literal["fraud_caught", "missed_fraud", "false_positive", "value_lost"]

METRICS: dict[Metric, Literal[1, -1]] = {"fraud_caught": 1, "missed_fraud": -1, "false_positive": -1, "value_lost": -1}
"""+1: higher is better, −1: lower is better. Definitions are in `projections.views.experiments_answers`."""

Action = Literal["continue", "promote", "stop", "rollback"]


class Criteria(msgspec.Struct, frozen=True, kw_only=True):
    """When an experiment ends. Accounts are mature accounts per arm; rates are shares of accounts.

    guardrails: metric → how much worse it may get (0.002: two more accounts in a thousand). worthwhile: the gain on the
    primary metric below which an arm is not worth deploying; with 0, only an arm that is worse stops the experiment
    early.
    """

    primary: Metric
    guardrails: dict[Metric, float]
    alpha: float
    minimum_accounts: int
    maximum_ms: int
    """From its start; 0: no limit."""
    worthwhile: float
    is_guardrail: bool = False
    srm_alpha: float = 0.001


def criteria_of(design: ExperimentStarted | Design) -> Criteria:
    """The criteria of an experiment, or of a design. Raises BadInput for an unknown metric."""
    for name in (design.primary, *design.guardrails):
        if name not in METRICS:
            raise BadInput(f"unknown metric {name!r}; expected one of {', '.join(METRICS)}")
    metrics: dict[str, Metric] = {name: name for name in METRICS}
    return Criteria(
        primary=metrics[design.primary],
        guardrails={metrics[name]: design.guardrail_margin for name in design.guardrails},
        alpha=design.alpha,
        minimum_accounts=design.accounts_min,
        maximum_ms=design.duration_max_ms,
        worthwhile=design.worthwhile,
        is_guardrail=isinstance(design, ExperimentStarted) and design.is_guardrail,
    )


class Finding(msgspec.Struct, frozen=True):
    """One treated arm against control on one metric, signed so that a positive gain is good.

    log_e_better: log e-value for "better", now; log_e_worse: for "worse by more than the margin", the greatest so far,
    so that a breach is permanent. interval: of the gain. p_better, p_worse: anytime-valid p-values, 1 / e-value.
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
    """The action, its arm (the one promoted, or the first that breached a guardrail), and the reasons in words."""

    action: Action
    arm: str
    reasons: tuple[str, ...]


def new_effect(metric: Metric, criteria: Criteria) -> Effect:
    """The process of one arm and metric, in the metric's own units; the margin is on the unfavourable side."""
    margin = criteria.guardrails.get(metric, 0.0)
    return Effect(null_down=-margin) if METRICS[metric] > 0 else Effect(null_up=margin)


def finding(arm: str, metric: Metric, effect: Effect, alpha: float) -> Finding:
    """The finding from a process, signed so that a positive gain is good. alpha: level of the interval."""
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
    """The verdict (see the module's head). arms: names, control first; mature: mature accounts by arm; elapsed_ms:
    since the start.
    """
    treated = arms[1:]
    if mismatch.log_e_max >= -np.log(criteria.srm_alpha):
        counts = ", ".join(
            f"{a} {n:,} of {e:,.0f} expected"
            for a, n, e in zip(arms, mismatch.observed, mismatch.expected, strict=True)
        )
        return Verdict("rollback", "", (f"invalid: sample-ratio mismatch ({counts})",))
    watched = {**criteria.guardrails, **({criteria.primary: 0.0} if criteria.is_guardrail else {})}
    guarded = max(1, len(treated) * len(watched))
    breached = [f for f in findings if f.metric in watched and _reaches(f.log_e_worse, criteria, guarded)]
    if breached:
        return Verdict("rollback", breached[0].arm, tuple(_breach(f, watched[f.metric]) for f in breached))
    primary = [f for f in findings if f.metric == criteria.primary]
    fewest = min(mature.get(arms[0], 0), *(mature.get(arm, 0) for arm in treated))
    if criteria.is_guardrail and fewest >= criteria.minimum_accounts and primary:
        best = max(primary, key=lambda f: f.gain)
        shown = f"no guardrail breached with {fewest:,} mature accounts in the smallest arm"
        return Verdict("promote", best.arm, (shown, _gain(best, "not worse")))
    winners = [f for f in primary if _reaches(f.log_e_better, criteria, max(1, len(treated)))]
    ready = [f for f in winners if min(mature.get(arms[0], 0), mature.get(f.arm, 0)) >= criteria.minimum_accounts]
    if ready:
        best = max(ready, key=lambda f: f.gain)
        return Verdict("promote", best.arm, (_gain(best, "better"),))
    if (
        fewest >= criteria.minimum_accounts
        and primary
        and not criteria.is_guardrail
        and all(f.interval.high < criteria.worthwhile for f in primary)
    ):
        return Verdict("stop", "", tuple(_gain(f, f"gain below {criteria.worthwhile:g}") for f in primary))
    if criteria.maximum_ms and elapsed_ms >= criteria.maximum_ms:
        days = elapsed_ms / DAY_MS
        return Verdict("stop", "", (f"no arm has been shown to be better after {days:.1f} days",))
    waiting = [f"{_gain(f, 'better')}, waiting for {criteria.minimum_accounts:,} accounts per arm" for f in winners]
    so_far = f"no arm has been shown to be better or worse yet; {fewest:,} mature accounts in the smallest arm"
    return Verdict("continue", "", tuple(waiting or [so_far]))


def _reaches(log_e: float, criteria: Criteria, comparisons: int) -> bool:
    return log_e >= float(np.log(comparisons / criteria.alpha))


def _gain(f: Finding, what: str) -> str:
    return f"{f.arm}: {f.metric} {what}, gain {f.gain:+.5f} in [{f.interval.low:+.5f}, {f.interval.high:+.5f}]"


def _breach(f: Finding, margin: float) -> str:
    return f"{f.arm}: guardrail {f.metric} worse by more than {margin:g}: gain {f.gain:+.5f}, p {f.p_worse:.2g}"
