"""Rules: what is suspicious whatever the model says, as one table of reason codes and one numba loop over it.

A rule reads only the logged feature vector, list hits, currencies and what the account has sent before, so a replay
gives the same hits. Effects: `flag` only explains, `review` and `decline` set the mildest decision possible, `allow`
overrides everything except blocks and conflicting IDs. Parameters are changed by a RulesChanged control event; codes
never change their meaning. docs/rules.md is generated from this module and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from core.errors import BadInput

Effect = Literal["flag", "review", "decline", "allow"]


class Term(NamedTuple):
    """One comparison of a feature with a parameter's value, or with a number. False if the feature is NaN."""

    feature: str
    comparison: Literal[">=", "<=", ">"]
    bound: str | float


class Rule(NamedTuple):
    """A rule hits when every term of `when` is true; if there are no terms, only `core.pipeline` sets its bit
    (lists, currencies, conflicts of IDs).

    `code` is stable, and its place in the table is its bit: new rules go last. `parameters`: the default of each
    parameter that the terms name. `features` are shown as reasons when the rule hits.
    """

    code: str
    effect: Effect
    meaning: str
    when: tuple[Term, ...] = ()
    parameters: Mapping[str, float] = MappingProxyType({})
    features: tuple[str, ...] = ()


RULES: tuple[Rule, ...] = (
    Rule(
        "ACCOUNT_BLOCKED",
        "decline",
        "the account is blocked",
        when=(Term("account_blocked", ">", 0.0),),
        features=("account_blocked",),
    ),
    Rule("LIST_BLOCK", "decline", "account, card, merchant, device, IP or country is on a block list"),
    Rule("LIST_WATCH", "review", "account, card, merchant, device, IP or country is on a watch list"),
    Rule("LIST_ALLOW", "allow", "account, card, merchant, device, IP or country is on an allow list"),
    Rule(
        "AMOUNT_HIGH",
        "flag",
        "amount at or above `amount_high`",
        when=(Term("amount", ">=", "amount_high"),),
        parameters={"amount_high": 1000.0},
        features=("amount",),
    ),
    Rule(
        "AMOUNT_VS_AVERAGE",
        "flag",
        "amount at or above `ratio_high` times the account's 30-day average, and at or above `ratio_amount_min`",
        when=(Term("amount_to_mean_30d", ">=", "ratio_high"), Term("amount", ">=", "ratio_amount_min")),
        parameters={"ratio_high": 5.0, "ratio_amount_min": 50.0},
        features=("amount_to_mean_30d",),
    ),
    Rule(
        "VELOCITY_10M",
        "review",
        "at least `velocity_10m` transactions in 10 minutes before",
        when=(Term("count_10m", ">=", "velocity_10m"),),
        parameters={"velocity_10m": 8.0},
        features=("count_10m",),
    ),
    Rule(
        "VELOCITY_24H",
        "flag",
        "at least `velocity_24h` transactions in 24 hours before",
        when=(Term("count_24h", ">=", "velocity_24h"),),
        parameters={"velocity_24h": 25.0},
        features=("count_24h",),
    ),
    Rule(
        "CARD_TESTING",
        "review",
        "at least `testing_count` transactions in 10 minutes, averaging at most `testing_amount`",
        when=(Term("count_10m", ">=", "testing_count"), Term("mean_10m", "<=", "testing_amount")),
        parameters={"testing_count": 5.0, "testing_amount": 5.0},
        features=("count_10m", "merchants_10m"),
    ),
    Rule(
        "UNUSUAL_HOUR",
        "flag",
        "at most `hour_share_max` of the account's transactions are at this hour, of at least `hour_history`",
        when=(Term("hour_share", "<=", "hour_share_max"), Term("transactions_total", ">=", "hour_history")),
        parameters={"hour_share_max": 0.02, "hour_history": 50.0},
        features=("hour_share",),
    ),
    Rule(
        "IMPOSSIBLE_TRAVEL",
        "review",
        "in person, at least `travel_km` from the last one and at least as fast as `travel_kmh`",
        when=(Term("km_from_last", ">=", "travel_km"), Term("speed_kmh", ">=", "travel_kmh")),
        parameters={"travel_km": 1000.0, "travel_kmh": 1000.0},
        features=("speed_kmh", "km_from_last"),
    ),
    Rule(
        "NEW_MERCHANT",
        "flag",
        "merchant new to the account and amount at or above `new_merchant_ratio` times its average",
        when=(Term("merchant_is_new", ">", 0.0), Term("amount_to_mean_30d", ">=", "new_merchant_ratio")),
        parameters={"new_merchant_ratio": 4.0},
        features=("merchant_is_new", "amount_to_mean_30d"),
    ),
    Rule(
        "NEW_DEVICE_AND_COUNTRY",
        "flag",
        "device and country both new to the account",
        when=(Term("device_is_new", ">", 0.0), Term("country_is_new", ">", 0.0)),
        features=("device_is_new", "country_is_new"),
    ),
    Rule(
        "RECENT_FRAUD",
        "flag",
        "a fraud verdict on the account within `recent_fraud_days`",
        when=(Term("days_since_fraud", "<=", "recent_fraud_days"),),
        parameters={"recent_fraud_days": 7.0},
        features=("days_since_fraud", "fraud_verdicts"),
    ),
    Rule(
        "MERCHANT_RISK",
        "flag",
        "merchant's 7-day fraud share at or above `merchant_risk` with at least `merchant_count` transactions",
        when=(Term("merchant_risk_7d", ">=", "merchant_risk"), Term("merchant_count_7d", ">=", "merchant_count")),
        parameters={"merchant_risk": 0.25, "merchant_count": 5.0},
        features=("merchant_risk_7d", "merchant_reports_7d"),
    ),
    Rule(
        "UNKNOWN_CURRENCY",
        "review",
        "the currency is neither the base currency nor has a rate, so limits on amounts mean nothing",
    ),
    Rule(
        "CLOCK_SKEW",
        "flag",
        "received `source_delay` seconds or more after its own time, so its hour and travel are the source's word",
        when=(Term("source_delay_s", ">=", "source_delay"),),
        parameters={"source_delay": 3600.0},
        features=("source_delay_s",),
    ),
    Rule("ID_CONFLICT", "review", "the account has sent this transaction ID before, with other content"),
)
CODES: tuple[str, ...] = tuple(r.code for r in RULES)
MODEL_CODE = "MODEL_SCORE"
"""Reason code of an alert that the model's probability would raise by itself."""

PARAMETERS: dict[str, float] = {name: value for rule in RULES for name, value in rule.parameters.items()}
"""Default parameters. Amounts in the base currency, travel in km and km/h, shares in [0, 1], counts before this
transaction.
"""


def check(parameters: Mapping[str, float], disabled: tuple[str, ...] = ()) -> None:
    """Raise BadInput for an unknown name, an unknown code, or NaN."""
    for name, value in parameters.items():
        if name not in PARAMETERS:
            raise BadInput(f"unknown rule parameter {name!r}; known: {', '.join(PARAMETERS)}")
        if value != value:
            raise BadInput(f"rule parameter {name} is not a number")
    for code in disabled:
        if code not in CODES:
            raise BadInput(f"unknown rule {code!r}; known: {', '.join(CODES)}")


def markdown() -> str:
    """The page docs/rules.md."""
    rows = ["# Rules", "", (__doc__ or "").split("\n\n", 2)[1].strip(), ""]
    rows += ["| bit | code | effect | hits on |", "|---|---|---|---|"]
    rows += [f"| {k} | `{rule.code}` | {rule.effect} | {rule.meaning} |" for k, rule in enumerate(RULES)]
    rows += ["", "| parameter | default | of |", "|---|---|---|"]
    rows += [f"| `{name}` | {value:g} | `{rule.code}` |" for rule in RULES for name, value in rule.parameters.items()]
    return "\n".join(rows) + "\n"
