"""Alerts in words: what the rules saw, what moved the model, and what is said if it can't be asked."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from console.wiring import load_scorer
from core import alerts, control_stream
from core.codec import decode_alert, decode_score
from core.errors import Corrupt, SentinelError
from core.events import AlertRaised, Position, RulesChanged, ThresholdsChanged, TransactionScored
from core.features import packing, spec
from core.log.memory import MemoryLog
from core.program.codes import ENGINE
from core.program.shipped import DEFAULT_PROGRAM
from core.scoring import Scorer
from projections.audit import reasons, redecide
from projections.audit.reasons import AlertReader, Reasons
from projections.audit.redecide import DecisionPlace
from projections.audit.story import tell
from projections.audit.wording import Wording
from tests.builders.baseline_log import PARTITIONS, decided, timeline
from tests.builders.decisions import context
from tests.builders.events import T0, fuzz, transaction
from tests.builders.logs import entries
from tests.builders.models import TinyScorer

UNDER = context(ThresholdsChanged(occurred_at=T0, actor="x", review=0.5, decline=0.9))
CODES = UNDER.program.codes


def row(**values: float) -> Any:
    out = np.full(spec.WIDTH, np.nan, dtype=np.float32)
    for name, value in values.items():
        out[spec.index(name)] = value
    return out


def raised(
    features: Any, codes: Collection[str] = (), probability: float = 0.0, severity: int = 0, under: Any = UNDER
) -> AlertRaised:
    hits = np.array([code in codes for code in under.program.codes], dtype=np.uint8)
    (named,) = under.program.names(hits[None, :])
    asked = probability >= under.thresholds.review
    judged = alerts.Judged(
        Position(1, 9), transaction(), features, hits, named, asked, probability, decision=1, severity=severity
    )
    return alerts.alert(under, 3, judged)


def scored(features: Any, probability: float = 0.0) -> TransactionScored:
    return TransactionScored(
        feedback_position="0-0",
        control_position=1,
        model="tiny-1.0.0",
        digest="",
        spec=spec.SPEC_VERSION,
        engine=ENGINE,
        program=DEFAULT_PROGRAM[:16],
        margin=0.0,
        probability=probability,
        decision="review",
        features=packing.pack(features[None, :])[0],
    )


def explained(
    features: Any,
    codes: Collection[str] = (),
    probability: float = 0.0,
    scorer: Scorer | None = UNDER.scorer,
    under: Any = UNDER,
) -> Reasons:
    """An alert's reasons, as they are after its score and alert were logged."""
    by = reasons.Deciding(Wording.of(under.program.plan), under.program.parameters, scorer, "gone")
    return reasons.explain(raised(features, codes, probability, under=under), scored(features, probability), None, by)


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
    assert reasons.phrase(name, float(np.float32(value))) == words


def test_rules_speak_first_and_five_reasons_at_most() -> None:
    """The rules' words in the program's order, then the model's features; never more than five, never twice."""
    features = row(
        amount=5000,
        amount_to_mean_30d=9,
        count_10m=9,
        merchants_10m=3,
        mean_10m=2,
        merchant_is_new=1,
        account_blocked=1,
    )
    words = explained(features, CODES, 0.99).words
    assert words[0] == "the account is blocked" and words[1].endswith("on a block list")
    assert len(words) == reasons.REASONS_MAX == len(set(words))
    assert explained(features, (), 0.1) == Reasons((), explained(features).risk_factors)
    assert explained(features, ("AMOUNT_HIGH",), 0.1).words == (HIGH,)


WORDS = {
    "ACCOUNT_BLOCKED": "the account is blocked",
    "LIST_BLOCK": "account, card, merchant, device, IP or country is on a block list",
    "LIST_WATCH": "account, card, merchant, device, IP or country is on a watch list",
    "LIST_ALLOW": "account, card, merchant, device, IP or country is on an allow list",
    "AMOUNT_HIGH": "amount 5,000.00, at or above 1,000.00",
    "AMOUNT_VS_AVERAGE": "9.3 times this account's 30-day average",
    "VELOCITY_10M": "9 payments in the 10 minutes before this one",
    "VELOCITY_24H": "31 payments in the 24 hours before this one",
    "CARD_TESTING": "9 payments in 10 minutes, 2.50 on average (merchants: about 3)",
    "UNUSUAL_HOUR": "1.2% of this account's payments are at this time of day",
    "IMPOSSIBLE_TRAVEL": "1,234 km from the last payment in person, at 5,678 km/h",
    "NEW_MERCHANT": "new merchant, and 9.3 times this account's 30-day average",
    "NEW_DEVICE_AND_COUNTRY": "device and country are both new to this account",
    "RECENT_FRAUD": "fraud verdicts on this account: 2, the latest 0.5 days ago",
    "MERCHANT_RISK": "33% of this merchant's payments in 7 days were fraud (reports: 4)",
    "UNKNOWN_CURRENCY": "the currency is neither the base currency nor has a rate, so limits on amounts mean nothing",
    "CLOCK_SKEW": "received 4,000 s after its own time",
    "ID_CONFLICT": "the account has sent this transaction ID before, with other content",
}
HIGH = WORDS["AMOUNT_HIGH"]


def seen() -> Any:
    """A row that gives every shipped rule its values."""
    return row(
        amount=5000, amount_to_mean_30d=9.3, count_10m=9, mean_10m=2.5, merchants_10m=3, count_24h=31, hour_share=0.012,
        km_from_last=1234, speed_kmh=5678, merchant_is_new=1, device_is_new=1, country_is_new=1, days_since_fraud=0.5,
        fraud_verdicts=2, merchant_risk_7d=0.333, merchant_reports_7d=4, source_delay_s=4000, account_blocked=1,
    )  # fmt: skip


@pytest.mark.parametrize("code", CODES)
def test_every_shipped_rule_speaks_in_its_words(code: str) -> None:
    """With its values, from the score's vector and from the alert alone, which lacks parameters; what is missing or
    infinite is unknown.
    """
    assert explained(seen(), (code,)).words == (WORDS[code],)
    assert reasons.in_short(raised(seen(), (code,))) == WORDS[code].replace("above 1,000.00", "above amount_high")
    (rule,) = (rule for rule in UNDER.program.rules if rule.code == code)
    for values in (row(), np.full(spec.WIDTH, np.inf, dtype=np.float32)):
        (said,) = explained(values, (code,)).words
        assert ("unknown" in said) == ("{" in rule.words)
        assert "nan" not in said and "inf" not in said and "{" not in said


def test_the_model_does_not_repeat_what_a_rule_told() -> None:
    """A feature that moved the model is left out if a hit rule's words told its value, or that it is new."""
    features = row(amount=5000, amount_to_mean_30d=10, hour_share=0.5, count_10m=1)
    assert explained(features, ("AMOUNT_HIGH",), 0.9).words == (
        HIGH,
        "10.0 times this account's 30-day average",
        "1 transactions of this account in the last 10m before this one",
    )
    assert [words.split()[0] for words in explained(features, (), 0.9).words] == ["amount", "10.0", "1"]
    wording = Wording.of(UNDER.program.plan)
    assert wording.speaks_of("NEW_MERCHANT") == {"merchant_is_new", "amount_to_mean_30d"}
    assert wording.speaks_of("MERCHANT_RISK") == {"merchant_risk_7d", "merchant_reports_7d"}
    assert wording.speaks_of("NOBODY_KNOWS") == frozenset()


def test_the_models_reasons_are_its_largest_shares_towards_fraud() -> None:
    """Largest first, positive ones only, and only if the model would have had the payment reviewed."""
    features = row(amount=500, amount_to_mean_30d=10, hour_share=0.5, count_10m=1)
    assert [w.split()[0] for w in explained(features, probability=0.5).words] == ["10.0", "amount", "1"]
    assert explained(features, probability=0.49).words == ()


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
def test_a_model_that_can_not_explain_leaves_the_rules_reasons(shares: Any) -> None:
    """An explanation that raises is named; one that is not a number gives no reason of the model."""
    found = explained(row(amount=5000), ("AMOUNT_HIGH",), 0.9, Strange(shares))
    assert found.words[0] == HIGH
    assert (len(found.words) == 1) == (shares is None or not shares > 0)
    wanted = "the model tiny-1.0.0 can't explain itself (ValueError: no shares)" if shares is None else ""
    assert found.missing == wanted


def test_a_missing_model_is_said_only_where_its_reasons_are() -> None:
    """Without the model, an alert of the model says why its reasons are missing; one of rules alone lacks nothing."""
    assert explained(row(amount=5000), ("AMOUNT_HIGH",), 0.9, None).missing == "gone"
    assert explained(row(amount=5000), ("AMOUNT_HIGH",), 0.1, None).missing == ""


def test_unusual_hour_and_high_amount_follow_the_parameters() -> None:
    """The factors agree with the rules' parameters in force."""
    under = context(
        RulesChanged(
            occurred_at=T0, actor="x", parameters={"amount_high": 10.0, "hour_share_max": 0.5, "hour_history": 2.0}
        )
    )
    high = row(amount=10, hour_share=0.5, transactions_total=2, count_30d=1, count_24h=1)
    factors = explained(high, under=under).risk_factors
    assert factors["is_high_amount"] is True and factors["is_unusual_hour"] is True
    low = row(amount=9.99, hour_share=0.51, transactions_total=2, count_30d=1, count_24h=1)
    factors = explained(low, under=under).risk_factors
    assert factors["is_high_amount"] is False and factors["is_unusual_hour"] is False


def test_factors_are_rounded_and_unknown_ones_are_null() -> None:
    """Ratios to four decimals; what is not a finite number is null."""
    features = row(amount_to_mean_30d=250.00001, count_24h=60, count_30d=60, merchant_is_new=1, speed_kmh=np.inf)
    factors = explained(features).risk_factors
    assert factors["amount_vs_avg_ratio"] == 250.0
    assert factors["velocity_score"] == 30.0  # 60 in 24 h, against 60 / 30 = 2 a day
    assert factors["merchant_risk_7d"] is None and factors["speed_kmh"] is None and factors["is_new_merchant"] is True


def test_in_short_the_gravest_rule_speaks() -> None:
    """Decline before review before flag, the table's order among equals; the model only if no rule hit."""
    features = row(amount=5000, count_10m=9, account_blocked=1)
    blocked = raised(features, ("AMOUNT_HIGH", "VELOCITY_10M", "ACCOUNT_BLOCKED"), 0.9)
    assert reasons.in_short(blocked) == "the account is blocked"
    review = raised(features, ("AMOUNT_HIGH", "VELOCITY_10M"))
    assert reasons.in_short(review) == WORDS["VELOCITY_10M"]
    assert reasons.codes_and_values(review) == "AMOUNT_HIGH (amount 5,000), VELOCITY_10M (count_10m 9)"
    assert reasons.in_short(raised(features, ("LIST_WATCH",))).endswith("on a watch list")
    assert reasons.in_short(raised(features, probability=0.9)) == "the model gives a probability of 0.900"
    assert reasons.in_short(raised(features)) == ""
    unknown = raised(row(), ("RECENT_FRAUD",))
    assert reasons.in_short(unknown) == "fraud verdicts on this account: unknown, the latest unknown days ago"
    assert reasons.codes_and_values(unknown) == "RECENT_FRAUD (days_since_fraud unknown)"
    newer = msgspec.structs.replace(unknown, reason_codes=("NEWER",))
    everything = "days_since_fraud unknown, fraud_verdicts unknown"
    assert reasons.codes_and_values(newer) == f"NEWER ({everything})"
    assert reasons.in_short(newer) == f"rule NEWER ({everything})"
    flagged = msgspec.structs.replace(unknown, reason_codes=("RECENT_FRAUD", "NEWER"))
    assert reasons.in_short(flagged) == f"rule NEWER ({everything})"
    both = msgspec.structs.replace(unknown, reason_codes=("MODEL_SCORE", "RECENT_FRAUD", "NEWER", "OTHER"))
    wanted = f"MODEL_SCORE, RECENT_FRAUD (days_since_fraud unknown), NEWER, OTHER ({everything})"
    assert reasons.codes_and_values(both) == wanted
    graver = msgspec.structs.replace(blocked, reason_codes=("ACCOUNT_BLOCKED", "NEWER"))
    assert reasons.in_short(graver) == "the account is blocked"


@fuzz(max_examples=200)
@given(
    hnp.arrays(np.float32, spec.WIDTH, elements=st.floats(width=32, allow_nan=True, allow_infinity=True)),
    st.sets(st.sampled_from(CODES)), st.floats(0, 1),
)  # fmt: skip
def test_any_row_can_be_explained(features: Any, codes: set[str], probability: float) -> None:
    """NaN, infinities and extremes anywhere in the row give reasons that JSON can hold."""
    found = explained(features, codes, probability)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Reasons) == found
    reasons.in_short(raised(features, codes, probability))
    reasons.codes_and_values(raised(features, codes, probability))


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    return decided()


def _places(log: MemoryLog) -> list[DecisionPlace]:
    return [DecisionPlace(p, e.id) for p in range(PARTITIONS) for e in entries(log, p, "alerts")]


def test_a_reader_says_what_the_story_says(log: MemoryLog) -> None:
    """From score, alert and blobs alone: the reasons that the audit finds by deciding again, under any thresholds."""
    reader, control, when = AlertReader(log, load_scorer), control_stream.history(log), timeline(log)
    places = _places(log)[::25]
    for place in [*places, places[0]]:
        found = redecide.at_place(log, place)
        assert found is not None
        said = reader.reasons(*place)
        assert said is not None and said.words and said.risk_factors and not said.missing
        assert said == tell(log, found, control, when).reasons
    assert reader.reasons(places[0].partition, Position(1, 10**9)) is None


def test_a_model_is_loaded_once(log: MemoryLog) -> None:
    """However many alerts are read."""
    loaded: list[str] = []

    def load(content: bytes, version: str, digest: str) -> Scorer:
        loaded.append(digest)
        return load_scorer(content, version, digest)

    reader = AlertReader(log, load)
    for place in _places(log):
        assert reader.reasons(*place) is not None
    assert len(loaded) == len(set(loaded)) >= 1


def test_a_model_that_can_not_be_loaded_is_said_in_words(log: MemoryLog) -> None:
    """The alert can be read: rules and factors as before, and why the model's reasons are missing."""

    def fail(content: bytes, version: str, digest: str) -> Scorer:
        raise Corrupt("its SHA-256 differs")

    assert issubclass(Corrupt, SentinelError)
    whole, without = AlertReader(log, load_scorer), AlertReader(log, fail)
    of_the_model = 0
    for place in _places(log):
        told, poorer = whole.reasons(*place), without.reasons(*place)
        assert told is not None and poorer is not None
        assert poorer.risk_factors == told.risk_factors and set(poorer.words) <= set(told.words)
        alert = decode_alert(log.get(place.partition, "alerts", place.position) or b"")
        if alerts.MODEL_CODE in alert.reason_codes:
            score = decode_score(log.get(place.partition, "scores", place.position) or b"")
            assert poorer.missing == f"the model {score.model} can't be loaded: its SHA-256 differs"
            of_the_model += 1
    assert of_the_model
