"""The paired test of a shadow against the model that decides: always-valid, one difference per account. Pure.

A shadow scores every transaction beside the champion, so each account shows what either model would have decided on the
same payments. An account contributes one difference per metric, at maturity (`projections.views.shadow_trial`):

    d = outcome under the champion − outcome under the shadow, signed so that d > 0 favours the shadow; in [−1, 1]

Only accounts on which the two decide differently have d ≠ 0. An A/B test compares different accounts instead, and must
see the difference through the spread between them; a pair does not have that spread.

    better = mean over θ of Π (1 + θ d)              an e-process for "the shadow is not better"
    worse  = mean over θ of Π (1 − θ (d + m) / (1 + m))   the same for "it is worse by at most the margin m"

with the stakes `STAKES`. The null hypothesis is that the average of the differences' conditional means E[d | past] has
never been above 0 (below −m); nothing is assumed about the distribution of accounts, nor that they are independent or
alike (Choe & Ramdas 2023, "Comparing sequential forecasters"; Henzi & Ziegel 2022, "Valid sequential inference on
probability forecast performance"; betting as in Waudby-Smith & Ramdas 2023). So P(better ever reaches 1/α) ≤ α however
often one looks, and whenever one stops. The argument is that of `learners.experiments.sequential` with weight 1; stakes
near 1 are allowed because d has no factor 1/p, and they pay: most differences are 0 and cost a gambler nothing.

The interval of the mean difference is that module's confidence sequence.
"""

from __future__ import annotations

import msgspec
import numpy as np

from learners.experiments.sequential import Floats, Interval, bounds
from learners.experiments.srm import Mismatch
from learners.experiments.verdict import METRICS, Criteria, Finding, Metric, Verdict, verdict
from projections.views.shadow_trial import Trial

STAKES: Floats = 0.95 * 2.0 ** -np.arange(8.0)
"""Stakes as shares of the wealth, 0.95 … 0.0074. With 1 % of accounts attacked, the best one would be above 1."""
CHAMPION, SHADOW = "champion", "shadow"
_PIECE = 50_000


class PairedReport(msgspec.Struct, frozen=True):
    """The paired test as of a cut. accounts: enrolled; mature: observed; changed: those on which the two decide
    differently. unresolved: transactions with conflicting verdicts, left out. verdict: "promote" means that the shadow
    is shown to be better, "rollback" that it breaches a guardrail.
    """

    accounts: int
    mature: int
    changed: int
    unresolved: int
    findings: list[Finding]
    verdict: Verdict


def log_wealth(steps: Floats) -> Floats:
    """Log of the mean over the stakes of Π (1 + θ step) after each step that is not 0: (n,) in [−1, 1] → (k ≤ n,).

    An e-process if no step's conditional mean exceeds 0. Raises ValueError for a step out of range.
    """
    if len(steps) and not np.abs(steps).max() <= 1.0:
        raise ValueError("steps must be in [-1, 1]")
    steps = steps[steps != 0.0]
    out = np.empty(len(steps))
    wealth = np.zeros(len(STAKES))
    for begin in range(0, len(steps), _PIECE):
        logs = np.log1p(np.outer(steps[begin : begin + _PIECE], STAKES))
        logs[0] += wealth
        running = np.cumsum(logs, axis=0)
        wealth = running[-1]
        top = running.max(axis=1)
        out[begin : begin + len(running)] = top + np.log(np.exp(running - top[:, None]).mean(axis=1))
    return out


def finding(metric: Metric, differences: Floats, margin: float, alpha: float) -> Finding:
    """The finding on one metric from the accounts' differences, float64 (n,), in order of maturity. margin: how much
    worse it may get; alpha: level of the interval. Both e-values are the greatest so far.
    """
    better = float(log_wealth(differences).max(initial=0.0))
    worse = float(log_wealth(-(differences + margin) / (1.0 + margin)).max(initial=0.0))
    count, total, squares = len(differences), float(differences.sum()), float(np.square(differences).sum())
    interval = Interval(-1.0, 1.0)
    if count:
        low, high = bounds(np.array([total]), np.array([squares]), np.array([float(count)]), alpha)
        interval = Interval(float(low[0]), min(float(high[0]), 1.0))
    gain = total / count if count else float("nan")
    return Finding(SHADOW, metric, gain, interval, better, worse, float(np.exp(-better)), float(np.exp(-worse)))


def report(trial: Trial, criteria: Criteria, elapsed_ms: int) -> PairedReport:
    """The test's state from its observations. elapsed_ms: since the shadow began.

    `criteria.minimum_accounts` counts mature accounts; each shows both models.
    """
    alpha = criteria.alpha / len(METRICS)
    findings = [
        finding(metric, trial.differences[metric], criteria.guardrails.get(metric, 0.0), alpha) for metric in METRICS
    ]
    mature = len(trial.mature_at)
    counts = dict.fromkeys((CHAMPION, SHADOW), mature)
    return PairedReport(
        trial.accounts,
        mature,
        trial.changed,
        trial.unresolved,
        findings,
        verdict(criteria, (CHAMPION, SHADOW), counts, findings, Mismatch(), elapsed_ms),
    )


def evidence(found: PairedReport) -> dict[str, float]:
    """The evidence, by name, as the start of a test or a deployment records it: `paired.mature` and `paired.changed`
    accounts, and for each metric `paired.{metric}.gain`, its interval `low` and `high`, `log_e_better`, `log_e_worse`.
    """
    values = {"paired.mature": float(found.mature), "paired.changed": float(found.changed)}
    for each in found.findings:
        name = f"paired.{each.metric}"
        values |= {f"{name}.gain": each.gain, f"{name}.low": each.interval.low, f"{name}.high": each.interval.high}
        values |= {f"{name}.log_e_better": each.log_e_better, f"{name}.log_e_worse": each.log_e_worse}
    return values
