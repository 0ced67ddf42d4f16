"""The design of an experiment: metrics, error rates and duration. One set of defaults for the commands and the loop.
Pure.

    primary            value_lost, the cost of fraud. Not fraud_caught: alerts are investigated and therefore labelled
                       more often, so an arm with more alerts has more known fraud and looks better for that alone
    guardrails         missed_fraud and false_positive: a smaller loss must not come from more customers who each lose
                       a little, or more customers who are stopped
    guardrail_margin   5 accounts in 1,000: with no margin, an arm that trades a few more alerts for a smaller loss is
                       eventually rolled back, however good the trade
    accounts_min       1,000 mature accounts per arm: evidence of a plausible gain takes more anyway, and the first few
                       hundred accounts are the most active ones
    duration_max_ms    60 days: the fraud that a candidate was trained on has changed by then
"""

from __future__ import annotations

import msgspec

from core.times import DAY_MS


class Design(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of ExperimentStarted with the same names (`core.events`). Times in ms, margins and gains as shares of
    accounts.
    """

    window_ms: int = 7 * DAY_MS
    maturity_ms: int = 7 * DAY_MS
    alpha: float = 0.05
    primary: str = "value_lost"
    guardrails: tuple[str, ...] = ("missed_fraud", "false_positive")
    guardrail_margin: float = 0.005
    worthwhile: float = 0.0
    accounts_min: int = 1_000
    duration_max_ms: int = 60 * DAY_MS


USUAL = Design()


def usual_guardrails(primary: str) -> tuple[str, ...]:
    """The guardrails of a test that names none: the default ones, except the primary metric."""
    return tuple(metric for metric in USUAL.guardrails if metric != primary)
