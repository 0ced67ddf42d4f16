"""The alert event: codes, values and details, and no words; no float32 row whatever makes it fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from core import alerts
from core.codec import decode_alert, encode
from core.events import AlertRaised, ListChanged, Position, ThresholdsChanged
from core.features import spec
from core.scoring import Float32, Float64
from tests.builders.decisions import context, decide_in
from tests.builders.events import T0, fuzz, transaction
from tests.builders.models import TinyScorer

UNDER = context(ThresholdsChanged(occurred_at=T0, actor="x", review=0.5, decline=0.9))
CODES = UNDER.program.codes
READ = {
    "account_blocked", "amount", "amount_to_mean_30d", "count_10m", "count_24h", "mean_10m", "merchants_10m",
    "hour_share", "transactions_total", "km_from_last", "speed_kmh", "merchant_is_new", "device_is_new",
    "country_is_new", "days_since_fraud", "fraud_verdicts", "merchant_risk_7d", "merchant_count_7d",
    "merchant_reports_7d", "source_delay_s",
}  # fmt: skip
"""What the shipped rules compare, or their words show."""


def row(**values: float) -> Any:
    out = np.full(spec.WIDTH, np.nan, dtype=np.float32)
    for name, value in values.items():
        out[spec.index(name)] = value
    return out


def alert(
    features: Any,
    hits: tuple[str, ...] = (),
    asked: bool = False,
    probability: float = 0.0,
    severity: int = 0,
    under: Any = UNDER,
) -> AlertRaised:
    """The alert of a review. hits: the codes of the rules that hit."""
    hit = np.array([code in hits for code in CODES], dtype=np.uint8)
    judged = alerts.Judged(
        Position(1, 9), transaction(), features, hit, under.program.names(hit[None])[0], asked, probability, 1, severity
    )
    return alerts.alert(under, 3, judged)


def test_an_alert_holds_what_identifies_it_and_what_its_rules_read() -> None:
    """The alert's JSON has id, time, account, score, codes with values, severity, actions and the transaction."""
    burst = [transaction(i, occurred_at=T0 + i) for i in range(60)]
    last = transaction(99, amount=5000.0, occurred_at=T0 + 99, merchant_id="m9")
    decided = decide_in([*burst, last], [], UNDER)[0][0]
    shown = msgspec.json.decode(decided.alerts[-1].payload)
    assert shown["alert_id"] == "00:1-61" and shown["timestamp"] == T0 + 99 and shown["account_id"] == "a1"
    assert shown["severity"] == "critical" and "block_account" in shown["recommended_actions"]
    assert shown["reason_codes"][0] == "MODEL_SCORE" and {"AMOUNT_HIGH", "VELOCITY_10M"} <= set(shown["reason_codes"])
    assert (shown["values"]["amount"], shown["values"]["amount_to_mean_30d"]) == (5000.0, 250.0)
    assert (shown["values"]["count_10m"], shown["values"]["merchant_is_new"]) == (60.0, 1.0)
    assert shown["transaction"] == {
        "transaction_id": "t99", "amount": 5000.0, "occurred_at": T0 + 99, "currency": "EUR", "merchant_id": "m9",
        "merchant_category": "5411", "country": "DE", "channel": "card_present", "device_id": "d1",
    }  # fmt: skip
    assert shown["fraud_score"] == decided.probabilities[-1]


def test_values_are_those_of_the_hit_rules_only() -> None:
    """Every feature that a hit rule compares or shows, exactly as in the row; null if it is not a number."""
    features = row(amount=1234.56, count_10m=9, mean_10m=2.5)
    assert alert(features).values == {}
    assert alert(features, ("AMOUNT_HIGH",)).values == {"amount": float(np.float32(1234.56))}
    testing = alert(features, ("LIST_WATCH", "CARD_TESTING"))
    assert testing.values == {"count_10m": 9.0, "mean_10m": 2.5, "merchants_10m": None}
    assert alert(row(speed_kmh=np.inf, km_from_last=5.0), ("IMPOSSIBLE_TRAVEL",)).values["speed_kmh"] is None
    every = alert(np.arange(spec.WIDTH, dtype=np.float32), CODES)
    assert every.values == {name: float(spec.index(name)) for name in READ}


class Constant(TinyScorer):
    """A model that gives every payment the same probability."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.margin = np.log(probability / (1.0 - probability))

    def margins(self, features: Float32) -> Float64:
        return np.full(len(features), self.margin)


def test_the_model_is_named_only_where_it_asks() -> None:
    """MODEL_SCORE stands first from the review threshold on, or the expected loss, and never without a model."""
    watched = ListChanged(occurred_at=T0, actor="x", kind="account", effect="watch", add=("a1",))

    def codes(probability: float, review_loss: float = 0.0, amount: float = 500.0) -> tuple[str, ...]:
        changed = ThresholdsChanged(occurred_at=T0, actor="x", review=0.5, decline=0.9, review_loss=review_loss)
        under = replace(context(changed, watched), scorer=Constant(probability))
        decided = decide_in([transaction(amount=amount)], [], under)[0][0]
        return decode_alert(decided.alerts[0].payload).reason_codes

    assert codes(0.49) == ("LIST_WATCH",)
    assert codes(0.5) == ("MODEL_SCORE", "LIST_WATCH")
    assert codes(0.5, amount=1000.0) == ("MODEL_SCORE", "LIST_WATCH", "AMOUNT_HIGH")
    assert codes(0.21, review_loss=100.0) == ("MODEL_SCORE", "LIST_WATCH")
    assert codes(0.19, review_loss=100.0) == ("LIST_WATCH",)
    features = row(amount=500)
    assert alert(features, asked=True).reason_codes == ("MODEL_SCORE",)
    assert alert(features, asked=True, under=replace(UNDER, scorer=None)).reason_codes == ()


class Mute(TinyScorer):
    """A model whose explanations must not be asked for."""

    def contributions(self, row: Any) -> Any:
        raise AssertionError("explained in the decision path")


def test_deciding_asks_no_model_to_explain(monkeypatch: pytest.MonkeyPatch) -> None:
    """An alert of the model is raised without its shares (ADR 23)."""
    under = replace(UNDER, scorer=Mute())
    decided = decide_in([transaction(i, occurred_at=T0 + i, amount=900.0) for i in range(5)], [], under)[0][0]
    assert [decode_alert(e.payload).reason_codes[0] for e in decided.alerts] == ["MODEL_SCORE"] * len(decided.alerts)
    assert decided.alerts


@fuzz(max_examples=200)
@given(
    hnp.arrays(np.float32, spec.WIDTH, elements=st.floats(width=32, allow_nan=True, allow_infinity=True)),
    st.sets(st.sampled_from(CODES)), st.booleans(), st.floats(0, 1), st.integers(0, 3),
)  # fmt: skip
def test_any_row_gives_an_alert_that_encodes(
    features: Any, hits: set[str], asked: bool, probability: float, severity: int
) -> None:
    """NaN, infinities and extremes anywhere in the row give an alert that encodes and decodes to itself."""
    raised = alert(features, tuple(hits), asked, probability, severity)
    assert decode_alert(encode(raised)) == raised
    assert b"NaN" not in encode(raised) and b"Infinity" not in encode(raised)
