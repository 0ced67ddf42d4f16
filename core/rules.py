"""Rules: what is suspicious whatever the model says, as one table of reason codes and one numba loop over it.

A rule reads only the logged feature vector, list hits, currencies and what the account has sent before, so a replay
gives the same hits. Effects: `flag` only explains, `review` and `decline` set the mildest decision possible, `allow`
overrides everything except blocks and conflicting IDs. Parameters are changed by a RulesChanged control event; codes
never change their meaning. docs/rules.md is generated from this module and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from core.features import spec
from core.jit import njit

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

_PARAMETER = {name: i for i, name in enumerate(PARAMETERS)}
LIST_BLOCK_BIT, LIST_WATCH_BIT, LIST_ALLOW_BIT, UNKNOWN_CURRENCY_BIT, ID_CONFLICT_BIT = (
    1 << CODES.index(c) for c in ("LIST_BLOCK", "LIST_WATCH", "LIST_ALLOW", "UNKNOWN_CURRENCY", "ID_CONFLICT")
)

# The table as arrays. The terms of rule k are _FIRST[k] … _FIRST[k + 1] − 1; _BOUND: the parameter's place, or −1.
_TERMS = [term for rule in RULES for term in rule.when]
_FIRST = np.cumsum([0, *(len(rule.when) for rule in RULES)], dtype=np.int64)
_COLUMN = np.array([spec.index(term.feature) for term in _TERMS], dtype=np.int64)
_COMPARISON = np.array([(">=", "<=", ">").index(term.comparison) for term in _TERMS], dtype=np.int64)
_BOUND = np.array([_PARAMETER[t.bound] if isinstance(t.bound, str) else -1 for t in _TERMS], dtype=np.int64)
_NUMBER = np.array([0.0 if isinstance(t.bound, str) else t.bound for t in _TERMS], dtype=np.float64)
_RULE_COUNT = len(RULES)


def parameter_vector(changes: Mapping[str, float]) -> NDArray[np.float64]:
    """The parameters in the kernel's order, defaults overridden by `changes`. Raises BadInput for an unknown name or
    NaN.

    Rounded to float32 like the features, so an amount of 99.99 is "at or above 99.99".
    """
    out = np.array(list(PARAMETERS.values()), dtype=np.float64)
    for name, value in changes.items():
        if name not in _PARAMETER:
            raise BadInput(f"unknown rule parameter {name!r}; known: {', '.join(PARAMETERS)}")
        if value != value:
            raise BadInput(f"rule parameter {name} is not a number")
        out[_PARAMETER[name]] = value
    with np.errstate(over="ignore"):
        return out.astype(np.float32).astype(np.float64)


def enabled_mask(disabled: tuple[str, ...]) -> int:
    """Bits of the enabled rules. Raises BadInput for an unknown code."""
    mask = (1 << len(CODES)) - 1
    for code in disabled:
        if code not in CODES:
            raise BadInput(f"unknown rule {code!r}; known: {', '.join(CODES)}")
        mask &= ~(1 << CODES.index(code))
    return mask


@njit
def _holds(value: float, comparison: int, bound: float) -> bool:
    if comparison == 0:
        return value >= bound
    if comparison == 1:
        return value <= bound
    return value > bound


@njit
def evaluate(features: NDArray[np.float32], p: NDArray[np.float64], enabled: int, hits: NDArray[np.uint32]) -> None:
    """OR every rule's bit into `hits` (n,), whose list bits are already set. Comparisons with NaN are false.

    features float32 (n, WIDTH), p by `parameter_vector`; bit k is RULES[k].
    """
    bounds = _NUMBER.copy()
    for t in range(bounds.shape[0]):
        if _BOUND[t] >= 0:
            bounds[t] = p[_BOUND[t]]
    for i in range(features.shape[0]):
        x = features[i]
        h = 0
        for k in range(_RULE_COUNT):
            hit = _FIRST[k] < _FIRST[k + 1]
            for t in range(_FIRST[k], _FIRST[k + 1]):
                if not _holds(x[_COLUMN[t]], _COMPARISON[t], bounds[t]):
                    hit = False
                    break
            if hit:
                h |= 1 << k
        hits[i] = (np.uint32(h) | hits[i]) & np.uint32(enabled)


def effect_mask(effect: Effect) -> int:
    """Bits of all rules with this effect."""
    return sum(1 << k for k, rule in enumerate(RULES) if rule.effect == effect)


@lru_cache(maxsize=4096)
def codes_of(bits: int) -> tuple[str, ...]:
    """Reason codes of a hit word, in the table's order."""
    return tuple(code for k, code in enumerate(CODES) if bits >> k & 1)


def markdown() -> str:
    """The page docs/rules.md."""
    rows = ["# Rules", "", (__doc__ or "").split("\n\n", 2)[1].strip(), ""]
    rows += ["| bit | code | effect | hits on |", "|---|---|---|---|"]
    rows += [f"| {k} | `{rule.code}` | {rule.effect} | {rule.meaning} |" for k, rule in enumerate(RULES)]
    rows += ["", "| parameter | default | of |", "|---|---|---|"]
    rows += [f"| `{name}` | {value:g} | `{rule.code}` |" for rule in RULES for name, value in rule.parameters.items()]
    return "\n".join(rows) + "\n"
