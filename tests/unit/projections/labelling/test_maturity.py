"""Delays of verdicts: the reverse-time hazard against a loop, against truth, and at its edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.times import DAY_MS
from projections.labelling.maturity import distribution, maturity
from tests.builders.events import fuzz


def by_hand(delay: list[int], limit: list[int]) -> list[float]:
    """The product over u > d of 1 − n_u / N_u, counted one verdict at a time."""
    horizon = max(limit)
    out = []
    for d in range(horizon + 1):
        share = 1.0
        for u in range(d + 1, horizon + 1):
            risk = sum(x <= u <= y for x, y in zip(delay, limit, strict=True))
            events = sum(x == u for x in delay)
            share *= 1 - events / risk if risk else 1.0
        out.append(share)
    return out


pairs = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=40)


@given(pairs)
@fuzz(max_examples=150)
def test_the_estimate_is_the_product_of_reverse_hazards(drawn: Any) -> None:
    """The vectorised estimate equals the definition, is a distribution, and ends at 1."""
    delay, limit = [d for d, _ in drawn], [d + more for d, more in drawn]
    share, variance = distribution(np.array(delay), np.array(limit))
    assert share.tolist() == pytest.approx(by_hand(delay, limit))
    assert (np.diff(share) >= -1e-12).all() and share[-1] == 1.0
    assert (variance >= 0).all() and not np.isnan(variance).any()


def test_without_truncation_it_is_the_empirical_distribution() -> None:
    """If every payment was observed for long, the share known by an age is the plain share."""
    delay = np.array([0, 1, 1, 3, 7, 7, 7, 20])
    share, _ = distribution(delay, np.full(8, 60))
    assert share.tolist() == pytest.approx([(delay <= d).mean() for d in range(61)])


def test_recent_payments_do_not_make_delays_look_short() -> None:
    """Reports of a 90-day window with exponential delays: the corrected curve finds the truth, the plain one does
    not.
    """
    rng = np.random.default_rng(4)
    age = rng.uniform(0, 90, 40_000)
    delay = rng.exponential(20.0, 40_000)
    come = delay <= age
    found = maturity((delay[come] * DAY_MS).astype(int).tolist(), (age[come] * DAY_MS).astype(int).tolist())
    assert found is not None and found.horizon_days == 89
    for known in found.curve:
        truth = (1 - np.exp(-(known.days + 1) / 20)) / (1 - np.exp(-90 / 20))
        assert known.share == pytest.approx(truth, abs=0.02)
        assert known.low <= known.share <= known.high
    naive = float((delay[come] < 15).mean())
    truth = (1 - np.exp(-15 / 20)) / (1 - np.exp(-90 / 20))
    assert naive - truth > 0.08
    assert found.days_to["0.5"] == pytest.approx(13, abs=1) and found.days_to["0.95"] > 45


def test_none_and_one_are_answered() -> None:
    """No fraud has no curve; a single one, even one that precedes its payment, has a flat one."""
    assert maturity([], []) is None
    found = maturity([-5], [3 * DAY_MS])
    assert found is not None and [known.share for known in found.curve] == [1.0] * 4
