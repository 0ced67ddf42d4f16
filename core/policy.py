"""Policy: what rules and a program's `[decision]` ask for gives the decision. Pure.

decision   decline if a decline rule hits or the program asks for it; else review if a review rule hits or the program
           asks for it; else approve. An allow rule approves, unless a decline rule hits
alert      for every decision but approve
severity   by the program's conditions (`core.program.deciding`), and from it the actions that the program recommends
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from core.events import Decision, Severity
from core.jit import njit

DECISIONS: tuple[Decision, ...] = ("approve", "review", "decline")
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high", "critical")
EFFECTS = ("flag", "review", "decline", "allow")
"""What a rule can ask for; `decide` counts the hits of each."""


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


def threshold_parameters(thresholds: Thresholds) -> dict[str, float]:
    """The thresholds as parameters of a program: `standard@1` asks for decisions by them."""
    names = ("review_probability", "decline_probability", "review_loss", "decline_loss")
    return dict(zip(names, thresholds, strict=True))


@njit
def decided(declines: bool, reviews: bool, counts: NDArray[np.int64]) -> int:
    """The place among DECISIONS of one decision. counts: int64 (4,)."""
    allowed = counts[3] > 0
    if counts[2] > 0 or (declines and not allowed):
        return 2
    return 1 if (counts[1] > 0 or reviews) and not allowed else 0


@njit
def decide(declines: NDArray[np.bool_], reviews: NDArray[np.bool_], counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Decisions on n transactions: uint8 (n,) into DECISIONS.

    declines, reviews: whether the program asks for it, bool (n,). counts: rules that hit by effect (EFFECTS), int64
    (n, 4).
    """
    n = counts.shape[0]
    decisions = np.zeros(n, dtype=np.uint8)
    for i in range(n):
        decisions[i] = decided(declines[i], reviews[i], counts[i])
    return decisions
