"""Policy: probability and rule hits give the decision, severity and recommended actions. Pure; vectorised.

decision   decline if a decline rule hits or the model asks for it; else review if a review rule hits or the model asks
           for it; else approve. An allow-list hit approves, unless a decline rule or ID_CONFLICT hits: the list
           trusts the payment that was sent first.
model      asks for a decision from a probability on or, where a loss is set for the decision, from an expected loss on:
           probability × amount in the base currency
alert      for every decision but approve.
severity   critical: declined, and probability ≥ 0.95, or amount ≥ `amount_high`, or the account is blocked
           high:     declined otherwise
           medium:   reviewed, and two or more review rules, or the model's value ≥ the middle of review and decline:
                     of their losses if both have one, else of their probabilities
           low:      reviewed otherwise
"""

from __future__ import annotations

from typing import NamedTuple

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
_CONFLICT = np.uint32(rules.ID_CONFLICT_BIT)
_BLOCKED = np.uint32(1 << rules.CODES.index("ACCOUNT_BLOCKED"))


class Thresholds(NamedTuple):
    """From where on the model asks for a decision: probabilities; and expected losses (probability × amount, base
    currency), which take the probability's place if they are above 0.
    """

    review: float
    decline: float
    review_loss: float = 0.0
    decline_loss: float = 0.0


def check_thresholds(review: float, decline: float, review_loss: float = 0.0, decline_loss: float = 0.0) -> None:
    """Raise BadInput unless 0 < review ≤ decline ≤ 1, and losses are 0 or, if both are given, in that order."""
    if not 0.0 < review <= decline <= 1.0:
        raise BadInput(f"thresholds must satisfy 0 < review <= decline <= 1, got review={review}, decline={decline}")
    if not (0.0 <= review_loss < np.inf and 0.0 <= decline_loss < np.inf):
        raise BadInput(f"expected losses must be 0 or more, got review={review_loss}, decline={decline_loss}")
    if decline_loss and review_loss > decline_loss:
        raise BadInput(
            "the expected loss of a review must not exceed that of a decline,"
            f" got review={review_loss}, decline={decline_loss}"
        )


def threshold_words(thresholds: Thresholds) -> str:
    """The thresholds in words: `"review 0.4, decline from an expected loss of 60"`."""
    review, decline, review_loss, decline_loss = thresholds
    parts = (("review", review, review_loss), ("decline", decline, decline_loss))
    return ", ".join(f"{n} from an expected loss of {loss:g}" if loss else f"{n} {p:g}" for n, p, loss in parts)


def asks(probability: float, amount: float, threshold: float, loss: float) -> bool:
    """Whether the model asks for the decision that has this threshold and loss. Never for a NaN probability."""
    return bool(probability * amount >= loss) if loss > 0.0 else bool(probability >= threshold)


_asks = njit(asks)


@njit
def decide(
    probabilities: NDArray[np.float64],
    hits: NDArray[np.uint32],
    amounts: NDArray[np.float32],
    thresholds: Thresholds,
    amount_high: float,
) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """(index into DECISIONS, index into SEVERITIES or −1) of n transactions. A NaN probability is below every
    threshold.

    `amounts` is the feature vector's column, so severity and the AMOUNT_HIGH rule agree.
    """
    n = hits.shape[0]
    decisions = np.zeros(n, dtype=np.uint8)
    severities = np.full(n, -1, dtype=np.int8)
    review, decline, review_loss, decline_loss = thresholds
    middle = (review + decline) / 2
    middle_loss = (review_loss + decline_loss) / 2 if review_loss > 0.0 and decline_loss > 0.0 else 0.0
    for i in range(n):
        p, h, amount = probabilities[i], hits[i], float(amounts[i])
        allowed = (h & _ALLOW) != 0 and (h & _CONFLICT) == 0
        if (h & _DECLINE) != 0 or (_asks(p, amount, decline, decline_loss) and not allowed):
            grave = p >= CRITICAL_PROBABILITY or amounts[i] >= amount_high or (h & _BLOCKED) != 0
            decisions[i] = 2
            severities[i] = 3 if grave else 2
        elif ((h & _REVIEW) != 0 or _asks(p, amount, review, review_loss)) and not allowed:
            reviews = h & _REVIEW
            several = (reviews & (reviews - np.uint32(1))) != 0
            decisions[i] = 1
            severities[i] = 1 if _asks(p, amount, middle, middle_loss) or several else 0
    return decisions, severities
