"""The standard fields that an expression can read: the values of the payment itself. Own fields come from `[fields]`.

A string field that the source left out is missing; numbers and times are always there.
"""

from __future__ import annotations

from typing import NamedTuple

from core.canonical import Form
from core.program.typed import Type


class StandardField(NamedTuple):
    """A value of the payment. form: the canonical form of a string."""

    type: Type
    meaning: str
    form: Form = ""


STANDARD: dict[str, StandardField] = {
    "transaction_id": StandardField("string", "the source's ID of the payment", "raw"),
    "account_id": StandardField("string", "the account", "text"),
    "amount": StandardField("number", "the amount in the base currency"),
    "amount_sent": StandardField("number", "the amount as the source sent it, in `currency`"),
    "currency": StandardField("string", "ISO 4217 code", "country"),
    "currency_known": StandardField(
        "bool", "whether the currency is the base currency or has a rate; not in aggregates"
    ),
    "merchant_id": StandardField("string", "the merchant", "text"),
    "merchant_category": StandardField("string", "the merchant's category", "text"),
    "country": StandardField("string", "ISO 3166-1 alpha-2 code", "country"),
    "channel": StandardField("string", "how it was paid", "text"),
    "device_id": StandardField("string", "the device", "text"),
    "ip": StandardField("string", "the IP address", "ip"),
    "card_id": StandardField("string", "the card", "card"),
    "occurred_at": StandardField("time", "the source's time of the payment"),
    "received_at": StandardField("time", "the receive time"),
    "hour": StandardField("number", "hour of `occurred_at`, UTC, 0 … 23"),
    "weekday": StandardField("number", "day of `occurred_at`, UTC, 0 = Monday … 6"),
    "id_conflict": StandardField("bool", "whether the account has sent this transaction ID before, with other content"),
}

OUTCOMES: dict[str, Type] = {
    "probability": "number",
    "decision": "string",
    "severity": "string",
    "alerted": "bool",
    "reviews": "number",
    "verdict": "string",
}
"""What was decided. `probability`, and `reviews` (how many rules that hit ask for a review), only in `[decision]`; the
others only in conditions of aggregates, about earlier payments (`verdict`: of verdicts on the account, alone in its
condition); `decision` also for severity.
"""
OUTCOME_VALUES: dict[str, tuple[str, ...]] = {
    "decision": ("approve", "review", "decline"),
    "severity": ("low", "medium", "high", "critical"),
    "verdict": ("fraud", "legitimate", "unsure"),
}
