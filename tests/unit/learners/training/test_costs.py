"""The cost of thresholds against a count by hand, and when an expected loss is cheaper."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInput
from learners.training.costs import FAMILIES, By, Payments, compare, cost_of, curve
from tests.builders.events import fuzz


def payments(seed: int, n: int = 4_000, spread: float = 1.5, accounts: int = 400) -> Payments:
    """Payments whose probabilities are true, with log-normal amounts of this spread that are independent of them."""
    random = np.random.Generator(np.random.PCG64(seed))
    probabilities = random.beta(0.3, 8.0, n)
    amounts = np.round(random.lognormal(3.5, spread, n), 2)
    labels = random.random(n) < probabilities
    return Payments(labels, probabilities, amounts, random.integers(0, accounts, n))


@given(st.integers(0, 10_000), st.sampled_from(FAMILIES), st.floats(0.5, 200.0))
@fuzz(max_examples=60)
def test_every_point_of_a_curve_is_what_its_threshold_costs(seed: int, by: By, review_cost: float) -> None:
    """Counted payment by payment, with equal scores among them; the cheapest is the smallest of all."""
    rows = payments(seed, 60)
    rows = rows._replace(probabilities=np.round(rows.probabilities, 2), amounts=np.round(rows.amounts, -1))
    one = curve(rows, by, review_cost)
    assert one.thresholds[0] == np.inf and np.all(np.diff(one.thresholds) < 0)
    assert set(one.thresholds[1:]) == set(rows.scores(by))
    for i, threshold in enumerate(one.thresholds):
        reviewed = rows.scores(by) >= threshold
        missed = rows.amounts[~reviewed & rows.labels].sum()
        assert one.cost[i] == pytest.approx(review_cost * reviewed.sum() + missed)
        assert (one.reviews[i], one.frauds[i]) == (reviewed.sum(), (reviewed & rows.labels).sum())
        assert one.value[i] == pytest.approx(rows.amounts[reviewed & rows.labels].sum())
    assert cost_of(rows, by, one.cheapest, review_cost).cost == pytest.approx(one.cost.min())


def test_true_probabilities_make_the_review_cost_the_cheapest_loss() -> None:
    """With many payments, the cheapest expected loss is near the cost of a review, as the theory says."""
    found = [curve(payments(seed, 200_000), "expected_loss", 15.0).cheapest for seed in range(5)]
    assert np.median(found) == pytest.approx(15.0, rel=0.25)


def test_an_expected_loss_is_cheaper_where_amounts_differ() -> None:
    """The saving is found with its interval where amounts vary widely, and is none where they are all alike."""
    wide = compare(payments(1, 40_000), 15.0, ("probability", 0.4), rounds=200)
    assert wide.saving.low > 0.05 and wide.saving.low < wide.saving.value < wide.saving.high
    assert wide.expected_loss.cost < wide.probability.cost < wide.in_force.cost
    assert wide.saving.value == pytest.approx(1 - wide.expected_loss.cost / wide.probability.cost)
    alike = compare(payments(1, 40_000, spread=0.0), 15.0, ("probability", 0.4), rounds=200)
    assert alike.saving.low <= 0.0 <= alike.saving.high


def test_thresholds_are_chosen_on_the_earlier_half_only() -> None:
    """Whatever the later half holds, the thresholds stay; and only the later half is measured."""
    rows = payments(2, 8_000)
    found = compare(rows, 15.0, ("probability", 0.4), rounds=50)
    later = np.arange(8_000) >= 4_000
    other = rows._replace(amounts=np.where(later, 10.0 * rows.amounts, rows.amounts))
    changed = compare(other, 15.0, ("probability", 0.4), rounds=50)
    for by in FAMILIES:
        assert (
            getattr(found, by).threshold
            == getattr(changed, by).threshold
            == curve(rows.rows(slice(0, 4_000)), by, 15.0).cheapest
        )
    assert (found.payments, found.frauds) == (4_000, int(rows.labels[4_000:].sum()))


def test_what_can_not_be_compared_is_bad_input() -> None:
    """No frauds in a half, and a cost that is none."""
    rows = payments(3, 100)
    with pytest.raises(BadInput, match="frauds among"):
        compare(rows._replace(labels=np.arange(100) < 5), 15.0, ("probability", 0.4))
    for cost in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(BadInput, match="above 0"):
            compare(rows, cost, ("probability", 0.4))
