"""Rules and policy as shipped: every rule on either side of its boundary and with NaN; the policy's truth table."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import policy
from core.canonical import Members
from core.codec import decode_alert, decode_score
from core.errors import BadInput
from core.events import ListChanged, ListEffect, ListKind, RulesChanged
from core.features import spec
from core.program.loading import default
from core.work import Decided
from tests.builders.decisions import context, decide_in
from tests.builders.events import T0, fuzz, transaction
from tests.builders.standard import batch, hits_of, standard

RULES = default().checked.rules
CODES = tuple(rule.code for rule in RULES)
P = default().checked.parameters
PARAMETERS = sorted(P.keys() - policy.threshold_parameters(policy.Thresholds(0.4, 0.8)).keys())
UP = np.float32(np.inf)

CASES: dict[str, tuple[dict[str, float], tuple[str, ...], tuple[str, ...]]] = {
    # code: (values that just hit, columns that stop it when a hair lower, columns that stop it when a hair higher)
    "ACCOUNT_BLOCKED": ({"account_blocked": 1.0}, (), ()),
    "AMOUNT_HIGH": ({"amount": P["amount_high"]}, ("amount",), ()),
    "AMOUNT_VS_AVERAGE": (
        {"amount_to_mean_30d": P["ratio_high"], "amount": P["ratio_amount_min"]}, ("amount_to_mean_30d", "amount"), (),
    ),
    "VELOCITY_10M": ({"count_10m": P["velocity_10m"]}, ("count_10m",), ()),
    "VELOCITY_24H": ({"count_24h": P["velocity_24h"]}, ("count_24h",), ()),
    "CARD_TESTING": ({"count_10m": P["testing_count"], "mean_10m": P["testing_amount"]}, ("count_10m",), ("mean_10m",)),
    "UNUSUAL_HOUR": (
        {"hour_share": P["hour_share_max"], "transactions_total": P["hour_history"]},
        ("transactions_total",), ("hour_share",),
    ),
    "IMPOSSIBLE_TRAVEL": (
        {"km_from_last": P["travel_km"], "speed_kmh": P["travel_kmh"]}, ("km_from_last", "speed_kmh"), (),
    ),
    "NEW_MERCHANT": (
        {"merchant_is_new": 1.0, "amount_to_mean_30d": P["new_merchant_ratio"]}, ("amount_to_mean_30d",), (),
    ),
    "NEW_DEVICE_AND_COUNTRY": ({"device_is_new": 1.0, "country_is_new": 1.0}, (), ()),
    "RECENT_FRAUD": ({"days_since_fraud": P["recent_fraud_days"]}, (), ("days_since_fraud",)),
    "MERCHANT_RISK": (
        {"merchant_risk_7d": P["merchant_risk"], "merchant_count_7d": P["merchant_count"]},
        ("merchant_risk_7d", "merchant_count_7d"), (),
    ),
    "CLOCK_SKEW": ({"source_delay_s": P["source_delay"]}, ("source_delay_s",), ()),
}  # fmt: skip
WITHOUT_FEATURES = ("LIST_BLOCK", "LIST_WATCH", "LIST_ALLOW", "UNKNOWN_CURRENCY", "ID_CONFLICT")
"""Rules that read fields, lists and what is known of the ID alone."""
EVERY_LIST: dict[tuple[ListKind, ListEffect], Members] = {
    ("account", effect): Members.of("account", {"a1": None}) for effect in ("block", "watch", "allow")
}


def hits(
    values: dict[str, float],
    parameters: dict[str, float] | None = None,
    disabled: tuple[str, ...] = (),
    *,
    marked: bool = False,
    conflict: bool = False,
) -> tuple[str, ...]:
    """Codes that hit a payment whose features are NaN but for `values`. marked: its account is on every list, and its
    currency is unknown. conflict: its ID is known with other content.
    """
    row = np.full((1, spec.WIDTH), np.nan, dtype=np.float32)
    for name, value in values.items():
        row[0, spec.index(name)] = value
    item = transaction(amount=values.get("amount", np.nan), currency="BTC" if marked else "EUR")
    program = standard(parameters, disabled)
    payments = batch([item], row, [conflict], EVERY_LIST if marked else {})
    found = program.hits(payments, payments.all_rows)
    assert not found.shadow.any()
    (codes,) = program.names(found.live)
    effects = [next(rule.effect for rule in RULES if rule.code == code) for code in codes]
    assert found.counts.tolist() == [[effects.count(effect) for effect in policy.EFFECTS]]
    return codes


def test_every_rule_has_a_case() -> None:
    """The table above covers every rule but those without features, which have their own tests."""
    assert {*CASES, *WITHOUT_FEATURES} == set(CODES) and len(set(CODES)) == len(CODES)


@pytest.mark.parametrize("code", CASES)
def test_rule_hits_on_its_boundary(code: str) -> None:
    """Values on the boundary hit the rule, under its own code."""
    assert code in hits(CASES[code][0])


@pytest.mark.parametrize(
    ("code", "column", "towards"),
    [(c, col, -UP) for c in CASES for col in CASES[c][1]] + [(c, col, UP) for c in CASES for col in CASES[c][2]],
)
def test_rule_misses_beside_its_boundary(code: str, column: str, towards: np.float32) -> None:
    """One value a float32 step beyond the boundary, and the rule is silent."""
    values = CASES[code][0]
    start = np.float32(values[column])
    assert code not in hits(values | {column: float(np.nextafter(start, towards))})


@pytest.mark.parametrize(("code", "column"), [(c, col) for c in CASES for col in CASES[c][0]])
def test_rule_is_silent_on_nan_and_zero_flags(code: str, column: str) -> None:
    """A missing value never hits, and a 0/1 feature that is 0 does not either."""
    values = CASES[code][0]
    assert code not in hits(values | {column: np.nan})
    if spec.FEATURES[spec.index(column)].unit == "0/1":
        assert code not in hits(values | {column: 0.0})


def test_a_row_of_nan_hits_nothing() -> None:
    """All missing, nothing hit."""
    assert hits({}) == ()


@pytest.mark.parametrize("code", CODES)
def test_a_disabled_rule_is_silent(code: str) -> None:
    """A disabled code disappears, list hits included, and only that one. An ID with other content is never allowed."""
    everything: dict[str, float] = {}
    for values, _, _ in CASES.values():
        everything |= {k: max(v, everything.get(k, v)) for k, v in values.items()}
    everything["mean_10m"] = 0.0
    for conflict, never in ((False, "ID_CONFLICT"), (True, "LIST_ALLOW")):
        possible = tuple(c for c in CODES if c != never)
        assert hits(everything, marked=True, conflict=conflict) == possible
        rest = hits(everything, disabled=(code,), marked=True, conflict=conflict)
        assert rest == tuple(c for c in possible if c != code)


@pytest.mark.parametrize("name", PARAMETERS)
def test_each_parameter_moves_a_rule(name: str) -> None:
    """Every parameter changes the outcome of at least one rule at its boundary."""
    values = [case[0] for case in CASES.values()]
    assert any(hits(each) != hits(each, {name: P[name] * by}) for each in values for by in (0.5, 2.0))


@pytest.mark.parametrize("amount", [0.1, 0.7, 99.99, 1234.56, 999999.99])
def test_an_amount_on_the_threshold_is_high_everywhere(amount: float) -> None:
    """Whatever the threshold's decimals: the rule and the severity agree that the amount is at or above it."""
    changed = RulesChanged(occurred_at=T0, actor="x", parameters={"amount_high": amount})
    listed = ListChanged(occurred_at=T0, actor="x", kind="account", effect="block", add=("a1",))
    decided = decide_in([transaction(amount=amount)], [], context(changed, listed, scorer=False))[0][0]
    alert = decode_alert(decided.alerts[0].payload)
    assert alert.severity == "critical" and "AMOUNT_HIGH" in alert.reason_codes
    assert alert.values["amount"] == float(np.float32(amount))


def test_unknown_names_are_refused() -> None:
    """Unknown parameters and codes, and NaN, are the caller's fault."""
    program = standard()
    with pytest.raises(BadInput, match="speed"):
        program.check({"speed": 1.0}, ())
    with pytest.raises(BadInput, match="amount_high"):
        program.check({"amount_high": float("nan")}, ())
    with pytest.raises(BadInput, match="NOPE"):
        program.check({}, ("NOPE",))
    program.check({"amount_high": 5.0}, ("AMOUNT_HIGH",))


@pytest.mark.parametrize(
    ("effect", "code", "decision"), [("block", "LIST_BLOCK", 2), ("watch", "LIST_WATCH", 1), ("allow", "LIST_ALLOW", 0)]
)
@pytest.mark.parametrize(
    ("kind", "value"),
    [("account", "a1"), ("card", "c1"), ("merchant", "m1"), ("device", "d1"), ("ip", "10.0.0.1"), ("country", "DE")],
)
def test_list_hits(kind: Any, value: str, effect: Any, code: str, decision: int) -> None:
    """Each kind of list in each effect hits its own value in any spelling, and leaves other values alone."""
    item = transaction(card_id="c1", ip="10.0.0.1")
    for member, found in ((value, True), (value + "x", False), (f" {value.swapcase()} ", True)):
        changed = ListChanged(occurred_at=T0, actor="x", kind=kind, effect=effect, add=(member, "other"))
        decided: Decided = decide_in([item], [], context(changed, scorer=False))[0][0]
        assert (code.encode() in decided.scores[0].payload) == found
        assert decided.decisions.tolist() == [decision if found else 0]
        assert len(decided.alerts) == (found and decision > 0)


def test_a_list_does_not_allow_an_id_that_came_with_other_content() -> None:
    """A payment of an allowed account is allowed, and reviewed if it has the ID of another one."""
    changed = ListChanged(occurred_at=T0, actor="x", kind="account", effect="allow", add=("a1",))
    items = [transaction(), transaction(amount=21.0)]
    decided = decide_in(items, [], context(changed, scorer=False))[0][0]
    scores = [decode_score(entry.payload) for entry in decided.scores]
    assert [(s.rules, s.decision) for s in scores] == [(("LIST_ALLOW",), "approve"), (("ID_CONFLICT",), "review")]


def test_removed_list_members_are_forgotten() -> None:
    """Remove takes a member off; adding and removing in one event removes."""

    def changed(**kw: tuple[str, ...]) -> ListChanged:
        return ListChanged(occurred_at=T0, actor="x", kind="merchant", effect="block", **kw)

    for events in ([changed(add=("m1",)), changed(remove=("m1", "never"))], [changed(add=("m1",), remove=("m1",))]):
        assert decide_in([transaction()], [], context(*events, scorer=False))[0][0].decisions.tolist() == [0]


def test_rules_change_replaces_the_earlier_one() -> None:
    """A RulesChanged event states the whole: parameters and switches of an earlier one are gone."""
    one = RulesChanged(occurred_at=T0, actor="x", parameters={"amount_high": 1.0}, disabled=("VELOCITY_10M",))
    two = RulesChanged(occurred_at=T0, actor="x", parameters={"travel_km": 5.0})
    under = context(one, two, scorer=False).program
    assert under.parameters == {**P, "travel_km": 5.0} and under.disabled == ()
    before = context(one, scorer=False).program
    assert before.parameters["amount_high"] == 1.0 and before.disabled == ("VELOCITY_10M",)


# --- policy --------------------------------------------------------------------------------------------------------

Judged = tuple[float, frozenset[str], float]
"""Probability, codes that hit, amount."""


def decided_on(
    rows: Sequence[Judged], thresholds: policy.Thresholds, amount_high: float = 1000.0
) -> list[tuple[str, str | None]]:
    """Decision and severity of each row by the shipped program."""
    program = standard({**policy.threshold_parameters(thresholds), "amount_high": amount_high})
    features = np.full((len(rows), spec.WIDTH), np.nan, dtype=np.float32)
    payments = batch([transaction(amount=amount) for _, _, amount in rows], features)
    probabilities, found = np.array([row[0] for row in rows]), hits_of(program, [row[1] for row in rows])
    asked = program.asked(payments, payments.all_rows, probabilities, found)
    decisions = policy.decide(asked.decline, asked.review, found.counts)
    severities = program.severities(payments, payments.all_rows, probabilities, found, decisions)
    return [
        (policy.DECISIONS[d], policy.SEVERITIES[s] if s >= 0 else None)
        for d, s in zip(decisions.tolist(), severities.tolist(), strict=True)
    ]


def _expected(
    probability: float, hit: frozenset[str], amount: float, review: float, decline: float
) -> tuple[str, str | None]:
    """The policy in words (core/policy.py's head, and standard.toml), one transaction at a time."""
    effects = [r.effect for r in RULES if r.code in hit]
    if "decline" in effects or (probability >= decline and "allow" not in effects):
        grave = probability >= 0.95 or amount >= 1000.0 or "ACCOUNT_BLOCKED" in hit
        return "decline", "critical" if grave else "high"
    if "allow" in effects:
        return "approve", None
    if "review" in effects or probability >= review:
        return "review", "medium" if probability >= (review + decline) / 2 or effects.count("review") >= 2 else "low"
    return "approve", None


@pytest.mark.parametrize(("review", "decline"), [(0.5, 0.9), (0.2, 0.2), (0.7, 1.0)])
def test_policy_truth_table(review: float, decline: float) -> None:
    """Every combination of probability, kind of rule hit and amount gives the decision and severity that the words
    say.
    """
    middle = (review + decline) / 2
    probabilities = [
        np.nan,
        0.0,
        review - 1e-12,
        review,
        middle - 1e-12,
        middle,
        decline - 1e-12,
        decline,
        0.95 - 1e-12,
        0.95,
        1.0,
    ]
    sets = [
        frozenset(c)
        for n in range(4)
        for c in itertools.combinations(
            (
                "ACCOUNT_BLOCKED",
                "LIST_BLOCK",
                "LIST_WATCH",
                "LIST_ALLOW",
                "AMOUNT_HIGH",
                "VELOCITY_10M",
                "RECENT_FRAUD",
            ),
            n,
        )
    ]
    rows = list(itertools.product(probabilities, sets, (999.99, 1000.0)))
    for row, got in zip(rows, decided_on(rows, policy.Thresholds(review, decline)), strict=True):
        assert got == _expected(*row, review, decline), row


@given(
    st.floats(0.0, 1.0),
    st.floats(0.0, 10_000.0, width=32),
    st.sampled_from([0.0, 12.5, 80.0]),
    st.sampled_from([0.0, 80.0, 400.0]),
)
@fuzz(max_examples=500)
def test_an_expected_loss_takes_the_place_of_its_probability(
    probability: float, amount: float, review_loss: float, decline_loss: float
) -> None:
    """Each decision is by probability × amount where it has a loss, else by probability; so is the severity."""
    thresholds = policy.Thresholds(0.3, 0.7, review_loss, decline_loss)
    loss = probability * amount
    (got,) = decided_on([(probability, frozenset(), amount)], thresholds, amount_high=1e9)
    wanted: tuple[str, str | None]
    if loss >= decline_loss if decline_loss else probability >= 0.7:
        wanted = ("decline", "critical" if probability >= 0.95 else "high")
    elif loss >= review_loss if review_loss else probability >= 0.3:
        both = review_loss and decline_loss
        is_medium = loss >= (review_loss + decline_loss) / 2 if both else probability >= 0.5
        wanted = ("review", "medium" if is_medium else "low")
    else:
        wanted = ("approve", None)
    assert got == wanted


def test_an_unknown_probability_asks_for_nothing() -> None:
    """NaN is below every threshold and every loss."""
    for losses in ((0.0, 0.0), (1.0, 2.0)):
        thresholds = policy.Thresholds(0.1, 0.2, *losses)
        assert decided_on([(np.nan, frozenset(), 1.0)], thresholds, 1.0) == [("approve", None)]


@pytest.mark.parametrize("losses", [(-1.0, 0.0), (0.0, -1.0), (2.0, 1.0), (float("nan"), 0.0), (0.0, float("inf"))])
def test_expected_losses_are_checked(losses: tuple[float, float]) -> None:
    """They are amounts of money, and a decline's is not below a review's."""
    with pytest.raises(BadInput):
        policy.check_thresholds(0.4, 0.8, *losses)
    policy.check_thresholds(0.4, 0.8, 15.0, 0.0)


@given(st.floats(allow_nan=True), st.floats(allow_nan=True))
@fuzz(max_examples=200)
def test_thresholds_are_checked(review: float, decline: float) -> None:
    """Only 0 < review ≤ decline ≤ 1 passes; NaN never does."""
    if 0 < review <= decline <= 1:
        policy.check_thresholds(review, decline)
    else:
        with pytest.raises(BadInput):
            policy.check_thresholds(review, decline)
