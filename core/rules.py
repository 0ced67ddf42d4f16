"""Rules: what is suspicious whatever the model says, as one table of reason codes and one numba loop.

A rule reads the logged feature vector (and list hits) and nothing else, so a replay gives the same hits. Its effect:
`flag` only explains, `review` and `decline` set the least severe decision, `allow` switches everything off but blocks.
Parameters change by a RulesChanged control event; codes never change their meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInput
from core.features import spec
from core.jit import njit

Effect = Literal["flag", "review", "decline", "allow"]


class Rule(NamedTuple):
    """`code` is stable; `features` are shown as reasons when the rule hits."""

    code: str
    effect: Effect
    meaning: str
    features: tuple[str, ...] = ()


RULES: tuple[Rule, ...] = (
    Rule("ACCOUNT_BLOCKED", "decline", "the account is blocked", ("account_blocked",)),
    Rule("LIST_BLOCK", "decline", "account, card, merchant, device, IP or country is on a block list"),
    Rule("LIST_WATCH", "review", "account, card, merchant, device, IP or country is on a watch list"),
    Rule("LIST_ALLOW", "allow", "account, card, merchant, device, IP or country is on an allow list"),
    Rule("AMOUNT_HIGH", "flag", "amount at or above `amount_high`", ("amount",)),
    Rule(
        "AMOUNT_VS_AVERAGE",
        "flag",
        "amount at or above `ratio_high` times the account's 30-day average, and at or above `ratio_amount_min`",
        ("amount_to_mean_30d",),
    ),
    Rule("VELOCITY_10M", "review", "at least `velocity_10m` transactions in 10 minutes before", ("count_10m",)),
    Rule("VELOCITY_24H", "flag", "at least `velocity_24h` transactions in 24 hours before", ("count_24h",)),
    Rule(
        "CARD_TESTING",
        "review",
        "at least `testing_count` transactions in 10 minutes, averaging at most `testing_amount`",
        ("count_10m", "merchants_10m"),
    ),
    Rule(
        "UNUSUAL_HOUR",
        "flag",
        "at most `hour_share` of the account's transactions are at this hour, of at least `hour_history`",
        ("hour_share",),
    ),
    Rule(
        "IMPOSSIBLE_TRAVEL",
        "review",
        "in person, at least `travel_km` from the last one and at least as fast as `travel_kmh`",
        ("speed_kmh", "km_from_last"),
    ),
    Rule(
        "NEW_MERCHANT",
        "flag",
        "merchant new to the account and amount at or above `new_merchant_ratio` times its average",
        ("merchant_is_new", "amount_to_mean_30d"),
    ),
    Rule(
        "NEW_DEVICE_AND_COUNTRY",
        "flag",
        "device and country both new to the account",
        ("device_is_new", "country_is_new"),
    ),
    Rule(
        "RECENT_FRAUD",
        "flag",
        "a fraud verdict on the account within `recent_fraud_days`",
        ("days_since_fraud", "fraud_verdicts"),
    ),
    Rule(
        "MERCHANT_RISK",
        "flag",
        "merchant's 7-day fraud share at or above `merchant_risk` with at least `merchant_count` transactions",
        ("merchant_risk_7d", "merchant_reports_7d"),
    ),
)
CODES: tuple[str, ...] = tuple(r.code for r in RULES)
MODEL_CODE = "MODEL_SCORE"
"""Reason code of an alert that the model's probability alone would raise."""

PARAMETERS: dict[str, float] = {
    "amount_high": 1000.0,
    "ratio_high": 5.0,
    "ratio_amount_min": 50.0,
    "velocity_10m": 8.0,
    "velocity_24h": 25.0,
    "testing_count": 5.0,
    "testing_amount": 5.0,
    "hour_share": 0.02,
    "hour_history": 50.0,
    "travel_km": 1000.0,
    "travel_kmh": 1000.0,
    "new_merchant_ratio": 4.0,
    "recent_fraud_days": 7.0,
    "merchant_risk": 0.25,
    "merchant_count": 5.0,
}
"""Default parameters. Amounts in currency units, travel in km and km/h, shares in [0, 1], counts before this
transaction.
"""

_PARAMETER = {name: i for i, name in enumerate(PARAMETERS)}
LIST_BLOCK_BIT, LIST_WATCH_BIT, LIST_ALLOW_BIT = (
    1 << CODES.index(c) for c in ("LIST_BLOCK", "LIST_WATCH", "LIST_ALLOW")
)

_f = spec.index
_AMOUNT, _RATIO, _COUNT_10M, _COUNT_24H, _MEAN_10M = (
    _f("amount"), _f("amount_to_mean_30d"), _f("count_10m"), _f("count_24h"), _f("mean_10m"),
)  # fmt: skip
_HOUR_SHARE, _TOTAL, _KM, _SPEED = _f("hour_share"), _f("transactions_total"), _f("km_from_last"), _f("speed_kmh")
_MERCHANT_NEW, _DEVICE_NEW, _COUNTRY_NEW = _f("merchant_is_new"), _f("device_is_new"), _f("country_is_new")
_SINCE_FRAUD, _BLOCKED = _f("days_since_fraud"), _f("account_blocked")
_MERCHANT_RISK, _MERCHANT_COUNT = _f("merchant_risk_7d"), _f("merchant_count_7d")

_P = _PARAMETER
_AMOUNT_HIGH, _RATIO_HIGH, _RATIO_MIN = _P["amount_high"], _P["ratio_high"], _P["ratio_amount_min"]
_V10, _V24, _TEST_N, _TEST_A = _P["velocity_10m"], _P["velocity_24h"], _P["testing_count"], _P["testing_amount"]
_HS, _HN, _TKM, _TKMH = _P["hour_share"], _P["hour_history"], _P["travel_km"], _P["travel_kmh"]
_NMR, _RFD, _MR, _MC = _P["new_merchant_ratio"], _P["recent_fraud_days"], _P["merchant_risk"], _P["merchant_count"]


def parameter_vector(changes: Mapping[str, float]) -> NDArray[np.float64]:
    """The parameters in the kernel's order, defaults overridden by `changes`. Raises BadInput for an unknown name or
    NaN.

    Rounded to float32 as the features are, so that "at or above 99.99" holds for an amount of 99.99.
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
    """Bits of the rules that are on. Raises BadInput for an unknown code."""
    mask = (1 << len(CODES)) - 1
    for code in disabled:
        if code not in CODES:
            raise BadInput(f"unknown rule {code!r}; known: {', '.join(CODES)}")
        mask &= ~(1 << CODES.index(code))
    return mask


@njit
def evaluate(features: NDArray[np.float32], p: NDArray[np.float64], enabled: int, hits: NDArray[np.uint32]) -> None:
    """OR every rule's bit into `hits` (n,), which comes with the list bits set. Comparisons with NaN are false.

    features float32 (n, WIDTH), p by `parameter_vector`; bit k is RULES[k].
    """
    for i in range(features.shape[0]):
        x = features[i]
        h = 0
        if x[_BLOCKED] > 0.0:
            h |= 1 << 0
        if x[_AMOUNT] >= p[_AMOUNT_HIGH]:
            h |= 1 << 4
        if x[_RATIO] >= p[_RATIO_HIGH] and x[_AMOUNT] >= p[_RATIO_MIN]:
            h |= 1 << 5
        if x[_COUNT_10M] >= p[_V10]:
            h |= 1 << 6
        if x[_COUNT_24H] >= p[_V24]:
            h |= 1 << 7
        if x[_COUNT_10M] >= p[_TEST_N] and x[_MEAN_10M] <= p[_TEST_A]:
            h |= 1 << 8
        if x[_HOUR_SHARE] <= p[_HS] and x[_TOTAL] >= p[_HN]:
            h |= 1 << 9
        if x[_KM] >= p[_TKM] and x[_SPEED] >= p[_TKMH]:
            h |= 1 << 10
        if x[_MERCHANT_NEW] > 0.0 and x[_RATIO] >= p[_NMR]:
            h |= 1 << 11
        if x[_DEVICE_NEW] > 0.0 and x[_COUNTRY_NEW] > 0.0:
            h |= 1 << 12
        if x[_SINCE_FRAUD] <= p[_RFD]:
            h |= 1 << 13
        if x[_MERCHANT_RISK] >= p[_MR] and x[_MERCHANT_COUNT] >= p[_MC]:
            h |= 1 << 14
        hits[i] = (np.uint32(h) | hits[i]) & np.uint32(enabled)


def effect_mask(effect: Effect) -> int:
    """Bits of all rules with this effect."""
    return sum(1 << k for k, rule in enumerate(RULES) if rule.effect == effect)


@lru_cache(maxsize=4096)
def codes_of(bits: int) -> tuple[str, ...]:
    """Reason codes of a hit word, in the table's order."""
    return tuple(code for k, code in enumerate(CODES) if bits >> k & 1)
