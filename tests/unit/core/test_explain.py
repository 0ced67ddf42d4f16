"""Alerts in words: factors, reasons and details; no float32 row whatever makes them fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from core import explain, rules
from core.codec import decode_alert, encode
from core.events import AlertRaised, Position, RulesChanged, ThresholdsChanged
from core.features import spec
from tests.builders.decisions import context, decide_in
from tests.builders.events import T0, fuzz, transaction
from tests.builders.models import TinyScorer

UNDER = context(ThresholdsChanged(occurred_at=T0, actor="x", review=0.5, decline=0.9))
BIT = {code: 1 << k for k, code in enumerate(rules.CODES)}


def row(**values: float) -> Any:
    out = np.full(spec.WIDTH, np.nan, dtype=np.float32)
    for name, value in values.items():
        out[spec.index(name)] = value
    return out


def alert(features: Any, hits: int = 0, probability: float = 0.0, severity: int = 0, under: Any = UNDER) -> AlertRaised:
    return explain.alert(
        under, 3, explain.Judged(Position(1, 9), transaction(), features, hits, probability, 1, severity)
    )


def test_an_alert_shows_what_the_issue_asks_for() -> None:
    """The alert's JSON has id, time, account, score, factors, codes, severity, actions and the transaction."""
    burst = [transaction(i, occurred_at=T0 + i) for i in range(60)]
    decided = decide_in([*burst, transaction(99, amount=5000.0, occurred_at=T0 + 99, merchant_id="m9")], [], UNDER)[0][
        0
    ]
    shown = msgspec.json.decode(decided.alerts[-1].payload)
    assert shown["alert_id"] == "00:1-61" and shown["timestamp"] == T0 + 99 and shown["account_id"] == "a1"
    assert shown["severity"] == "critical" and "block_account" in shown["recommended_actions"]
    assert shown["reason_codes"][0] == "MODEL_SCORE" and {"AMOUNT_HIGH", "VELOCITY_10M"} <= set(shown["reason_codes"])
    assert shown["risk_factors"]["is_high_amount"] is True and shown["risk_factors"]["is_unusual_hour"] is False
    assert shown["risk_factors"]["amount_vs_avg_ratio"] == 250.0
    assert shown["risk_factors"]["velocity_score"] == 30.0  # 60 in 24 h, against 60 / 30 = 2 a day
    assert shown["risk_factors"]["merchant_risk_7d"] is None and shown["risk_factors"]["is_new_merchant"] is True
    assert shown["transaction"] == {
        "transaction_id": "t99", "amount": 5000.0, "occurred_at": T0 + 99, "currency": "EUR", "merchant_id": "m9",
        "merchant_category": "5411", "country": "DE", "channel": "card_present", "device_id": "d1",
    }  # fmt: skip
    assert shown["fraud_score"] == decided.probabilities[-1]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("amount", 1234567.891, "amount 1,234,567.88"),
        ("merchant_is_new", 1.0, "merchant new to this account"),
        ("merchant_is_new", 0.0, "not: merchant new to this account"),
        ("merchant_is_new", np.nan, "1 if not among the account's last 16 merchants: unknown"),
        ("merchant_risk_7d", 0.333, "33% of this merchant's recent transactions were fraud (7 days)"),
        ("speed_kmh", np.inf, "inf km/h since the last in-person transaction"),
        ("mean_7d", 1.0, ""),
    ],
)
def test_phrases(name: str, value: float, words: str) -> None:
    """A feature's words carry its value; a missing value is said to be unknown; no words for some features."""
    assert explain.phrase(name, float(np.float32(value))) == words


def test_rules_speak_first_and_five_reasons_at_most() -> None:
    """A list's meaning comes first, then the hit rules' features, then the model's; never more than five, never
    twice.
    """
    features = row(
        amount=5000,
        amount_to_mean_30d=9,
        count_10m=9,
        merchants_10m=3,
        mean_10m=2,
        merchant_is_new=1,
        account_blocked=1,
    )
    every = sum(BIT.values())
    words = explain.reasons(UNDER, features, every, 0.99)
    assert words[0].endswith("on a block list") and len(words) == explain.REASONS_MAX == len(set(words))
    assert explain.reasons(UNDER, features, 0, 0.1) == ()
    assert explain.reasons(UNDER, features, BIT["AMOUNT_HIGH"], 0.1) == ("amount 5,000.00",)


def test_the_model_speaks_only_above_the_review_threshold() -> None:
    """MODEL_SCORE and the model's reasons (largest share first, positive only) appear from the review threshold on."""
    features = row(amount=500, amount_to_mean_30d=10, hour_share=0.5, count_10m=1)
    assert alert(features, probability=0.49).reason_codes == ()
    spoken = alert(features, probability=0.5)
    assert spoken.reason_codes == ("MODEL_SCORE",)
    assert [w.split()[0] for w in spoken.reasons] == ["10.0", "amount", "1"]
    silent = alert(features, probability=0.5, under=replace(UNDER, scorer=None))
    assert (silent.reason_codes, silent.reasons) == ((), ())


class Strange(TinyScorer):
    """Shares that are NaN, infinite, or missing."""

    def __init__(self, shares: Any) -> None:
        super().__init__()
        self.shares = shares

    def contributions(self, row: Any) -> Any:
        if self.shares is None:
            raise ValueError("no shares")
        return 0.0, np.full(spec.WIDTH, self.shares)


@pytest.mark.parametrize("shares", [None, np.nan, np.inf, -np.inf])
def test_a_model_that_can_not_explain_still_alerts(shares: Any) -> None:
    """An explanation that raises or is not a number leaves the alert without the model's reasons (I9)."""
    raised = alert(row(amount=1), probability=0.9, under=replace(UNDER, scorer=Strange(shares)))
    assert raised.reason_codes == ("MODEL_SCORE",)
    assert (raised.reasons == ()) == (shares is None or not shares > 0)


def test_unusual_hour_and_high_amount_follow_the_parameters() -> None:
    """The factors agree with the rules' parameters in force."""
    under = context(
        RulesChanged(
            occurred_at=T0, actor="x", parameters={"amount_high": 10.0, "hour_share": 0.5, "hour_history": 2.0}
        )
    )
    factors = explain.risk_factors(
        row(amount=10, hour_share=0.5, transactions_total=2, count_30d=1, count_24h=1), under
    )
    assert factors["is_high_amount"] is True and factors["is_unusual_hour"] is True
    factors = explain.risk_factors(
        row(amount=9.99, hour_share=0.51, transactions_total=2, count_30d=1, count_24h=1), under
    )
    assert factors["is_high_amount"] is False and factors["is_unusual_hour"] is False


@fuzz(max_examples=200)
@given(
    hnp.arrays(np.float32, spec.WIDTH, elements=st.floats(width=32, allow_nan=True, allow_infinity=True)),
    st.integers(0, 2 ** len(rules.CODES) - 1), st.floats(0, 1), st.integers(0, 3),
)  # fmt: skip
def test_any_row_gives_an_alert_that_encodes(features: Any, hits: int, probability: float, severity: int) -> None:
    """NaN, infinities and extremes anywhere in the row give an alert that encodes and decodes to itself."""
    raised = alert(features, hits, probability, severity)
    assert encode(decode_alert(encode(raised))) == encode(raised)
    assert b"NaN" not in encode(raised) and b"Infinity" not in encode(raised)
