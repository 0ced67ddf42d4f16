"""How an experiment is judged: what arms are compared on, how strictly and for how long. The one set of defaults, for
the commands and for the loop. Pure.

    primary            value_lost: what fraud costs. Not fraud_caught: alerts are looked at and so labelled more often,
                       so that an arm with more alerts has more of its fraud known and looks better for that alone
    guardrails         missed_fraud and false_positive: a smaller loss must not come from more customers robbed of
                       little, or more customers stopped
    guardrail_margin   5 accounts in 1,000: with none, an arm that pays for a smaller loss with a few more alerts is
                       rolled back sooner or later, however good the bargain
    accounts_min       1,000 mature accounts an arm: evidence of a plausible gain takes more anyway, and the first few
                       hundred accounts are the busiest ones
    duration_max_ms    60 days: a candidate that has not won by then was trained on a fraud that has moved on
"""

from __future__ import annotations

import msgspec

from core.times import DAY_MS


class Design(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of ExperimentStarted of these names (`core.events`). Times in ms, margins and gains as shares of
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
    """The guardrails of a test that names none: the usual ones, less what decides anyway."""
    return tuple(metric for metric in USUAL.guardrails if metric != primary)
