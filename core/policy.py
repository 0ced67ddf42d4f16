"""Policy: probability and rule hits give the decision, severity and recommended actions. Pure; vectorised.

decision   decline if a decline rule hits or probability ≥ decline; else review if a review rule hits or
           probability ≥ review; else approve. An allow-list hit approves, unless a decline rule hits.
alert      for every decision but approve.
severity   critical: declined, and probability ≥ 0.95, or amount ≥ `amount_high`, or the account is blocked
           high:     declined otherwise
           medium:   reviewed, and probability ≥ the middle of review and decline, or two or more review rules
           low:      reviewed otherwise
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core import rules
from core.errors import BadInput
from core.events import Decision, Severity
from core.jit import njit

DECISIONS: tuple[Decision, ...] = ("approve", "review", "decline")
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high", "critical")
CRITICAL_PROBABILITY = 0.95

ACTIONS: dict[Severity, tuple[str, ...]] = {
    "low": ("queue_for_review",),
    "medium": ("queue_for_review", "request_step_up_authentication"),
    "high": ("decline_transaction", "queue_for_review", "notify_customer"),
    "critical": ("decline_transaction", "block_account", "queue_for_review", "notify_customer", "notify_fraud_team"),
}
"""Recommended actions by severity; responders carry them out."""

_REVIEW = np.uint32(rules.effect_mask("review"))
_DECLINE = np.uint32(rules.effect_mask("decline"))
_ALLOW = np.uint32(rules.effect_mask("allow"))
_BLOCKED = np.uint32(1 << rules.CODES.index("ACCOUNT_BLOCKED"))


def check_thresholds(review: float, decline: float) -> None:
    """Raise BadInput unless 0 < review ≤ decline ≤ 1."""
    if not 0.0 < review <= decline <= 1.0:
        raise BadInput(f"thresholds must satisfy 0 < review <= decline <= 1, got review={review}, decline={decline}")


@njit
def decide(
    probabilities: NDArray[np.float64],
    hits: NDArray[np.uint32],
    amounts: NDArray[np.float32],
    review: float,
    decline: float,
    amount_high: float,
) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """(index into DECISIONS, index into SEVERITIES or −1) of n transactions. A NaN probability is below every
    threshold.

    `amounts` is the feature vector's column, so severity and the AMOUNT_HIGH rule agree.
    """
    n = hits.shape[0]
    decisions = np.zeros(n, dtype=np.uint8)
    severities = np.full(n, -1, dtype=np.int8)
    middle = (review + decline) / 2
    for i in range(n):
        p, h = probabilities[i], hits[i]
        allowed = (h & _ALLOW) != 0
        if (h & _DECLINE) != 0 or (p >= decline and not allowed):
            grave = p >= CRITICAL_PROBABILITY or amounts[i] >= amount_high or (h & _BLOCKED) != 0
            decisions[i] = 2
            severities[i] = 3 if grave else 2
        elif ((h & _REVIEW) != 0 or p >= review) and not allowed:
            reviews = h & _REVIEW
            several = (reviews & (reviews - np.uint32(1))) != 0
            decisions[i] = 1
            severities[i] = 1 if p >= middle or several else 0
    return decisions, severities
