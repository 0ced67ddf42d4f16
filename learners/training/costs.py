"""What thresholds cost: reviews against missed fraud, by probability and by expected loss. Pure.

    cost of a threshold = review cost × payments reviewed + the amounts of the frauds that are not

Two families are compared, since a payment can be ranked by its probability p or by its expected loss, p × amount. If p
is calibrated, reviewing from p × amount = review cost on is the cheapest that can be (Elkan 2001, "The Foundations of
Cost-Sensitive Learning"): a payment is worth a review if what it may lose exceeds what the review costs.

The cheapest threshold of each family is chosen on the earlier half of the payments and measured on the later half, so
that neither is flattered by chance. Intervals come from a bootstrap over accounts.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from learners.metrics import Interval, Labels, Scores

By = Literal["probability", "expected_loss"]
FAMILIES: tuple[By, ...] = ("probability", "expected_loss")
ROUNDS = 1_000


class Payments(NamedTuple):
    """n labelled payments, in order of time. labels bool (n,); probabilities, amounts (base currency) float64 (n,);
    accounts int64 (n,), any numbers that distinguish accounts.
    """

    labels: Labels
    probabilities: Scores
    amounts: Scores
    accounts: NDArray[np.int64]

    def rows(self, chosen: slice) -> Payments:
        """The chosen payments."""
        return Payments(self.labels[chosen], self.probabilities[chosen], self.amounts[chosen], self.accounts[chosen])

    def scores(self, by: By) -> Scores:
        """What the family compares with its threshold, float64 (n,)."""
        return self.probabilities * self.amounts if by == "expected_loss" else self.probabilities


class CostCurve(NamedTuple):
    """By threshold, descending: (k,) each. reviews: payments at or above it; frauds: those among them; value: the
    frauds' amounts; cost: in the base currency.
    """

    by: By
    thresholds: NDArray[np.float64]
    reviews: NDArray[np.int64]
    frauds: NDArray[np.int64]
    value: NDArray[np.float64]
    cost: NDArray[np.float64]

    @property
    def cheapest(self) -> float:
        """The threshold with the smallest cost; infinity if it is cheaper to review nothing."""
        return float(self.thresholds[int(np.argmin(self.cost))])


class Cost(NamedTuple):
    """One threshold on given payments; see CostCurve."""

    by: By
    threshold: float
    reviews: int
    frauds: int
    value: float
    cost: float


class Comparison(NamedTuple):
    """The cheapest of each family, and the thresholds in force, on the later half. saving: the share of the first
    one's cost that the second saves, with its interval. payments, frauds: in the later half.
    """

    payments: int
    frauds: int
    probability: Cost
    expected_loss: Cost
    saving: Interval
    in_force: Cost
    curves: tuple[CostCurve, ...]


def curve(payments: Payments, by: By, review_cost: float) -> CostCurve:
    """The cost of every threshold of a family, from infinity, which reviews nothing, to the smallest score."""
    scores = payments.scores(by)
    order = np.argsort(-scores, kind="stable")
    ranked, labels = scores[order], payments.labels[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # equal scores share a threshold
    value = np.cumsum(np.where(labels, payments.amounts[order], 0.0))
    reviews = np.append(0, ends + 1)
    caught = np.append(0.0, value[ends])
    return CostCurve(
        by,
        np.append(np.inf, ranked[ends]),
        reviews,
        np.append(0, np.cumsum(labels)[ends]),
        caught,
        review_cost * reviews + (value[-1] - caught),
    )


def compare(
    payments: Payments, review_cost: float, in_force: tuple[By, float], seed: int = 0, rounds: int = ROUNDS
) -> Comparison:
    """Choose on the earlier half, measure on the later one. Raises BadInput without frauds in either half, or for a
    review cost that is not above 0.
    """
    if not 0.0 < review_cost < np.inf:
        raise BadInput(f"the cost of a review must be above 0, not {review_cost:g}")
    middle = len(payments.labels) // 2
    earlier, later = payments.rows(slice(0, middle)), payments.rows(slice(middle, None))
    if not (earlier.labels.any() and later.labels.any()):
        raise BadInput(
            f"{int(payments.labels.sum())} known frauds among {len(payments.labels)} payments: each half needs some"
        )
    chosen = {by: curve(earlier, by, review_cost).cheapest for by in FAMILIES}
    costs = {by: _costs(later, by, threshold, review_cost) for by, threshold in chosen.items()}
    return Comparison(
        len(later.labels),
        int(later.labels.sum()),
        cost_of(later, "probability", chosen["probability"], review_cost),
        cost_of(later, "expected_loss", chosen["expected_loss"], review_cost),
        _saving(later.accounts, costs["probability"], costs["expected_loss"], seed, rounds),
        cost_of(later, *in_force, review_cost),
        tuple(curve(later, by, review_cost) for by in FAMILIES),
    )


def cost_of(payments: Payments, by: By, threshold: float, review_cost: float) -> Cost:
    """One threshold on these payments."""
    alerted = payments.scores(by) >= threshold
    caught = alerted & payments.labels
    return Cost(
        by,
        threshold,
        int(alerted.sum()),
        int(caught.sum()),
        float(payments.amounts[caught].sum()),
        float(_costs(payments, by, threshold, review_cost).sum()),
    )


def _costs(payments: Payments, by: By, threshold: float, review_cost: float) -> NDArray[np.float64]:
    """What each payment costs, (n,)."""
    alerted = payments.scores(by) >= threshold
    missed = np.where(payments.labels, payments.amounts, 0.0)
    return np.where(alerted, review_cost, missed)


def _saving(
    accounts: NDArray[np.int64], before: NDArray[np.float64], after: NDArray[np.float64], seed: int, rounds: int
) -> Interval:
    """1 − Σ after / Σ before, with the 95 % percentile interval over resampled accounts."""
    _, group = np.unique(accounts, return_inverse=True)
    sums = np.stack([np.bincount(group, before), np.bincount(group, after)])
    random = np.random.Generator(np.random.PCG64(seed))
    count = sums.shape[1]
    drawn = [sums[:, random.integers(0, count, count)].sum(axis=1) for _ in range(rounds)]
    savings = [1.0 - after_sum / before_sum for before_sum, after_sum in drawn if before_sum > 0.0]
    low, high = np.percentile(savings, [2.5, 97.5]).tolist() if savings else (np.nan, np.nan)
    return Interval(1.0 - float(after.sum()) / float(before.sum()), low, high)
