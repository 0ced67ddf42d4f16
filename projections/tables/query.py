"""The conditions of a search for decisions, for the API, the command line and notebooks alike. Pure."""

from __future__ import annotations

import msgspec

from core.errors import BadInput
from core.events import Decision, Severity


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A search. Times in epoch ms of receipt, start ≤ t < end; amounts in the base currency, low ≤ amount ≤ high."""

    account: str | None = None
    transaction_id: str | None = None
    decision: Decision | None = None
    rule: str | None = None
    severity: Severity | None = None
    merchant: str | None = None
    device: str | None = None
    card: str | None = None
    alerts: bool = False
    start: int | None = None
    end: int | None = None
    low: float | None = None
    high: float | None = None


IDENTIFIERS = {
    "account": "account_id",
    "transaction_id": "transaction_id",
    "merchant": "merchant_id",
    "device": "device_id",
    "card": "card_id",
}
"""The conditions that name somebody or something, with the field of a decision that each compares."""


def check_query(query: Query) -> None:
    """Raise BadInput if no decision could ever match."""
    if query.start is not None and query.end is not None and query.start >= query.end:
        raise BadInput("start must be before end")
    if query.low is not None and query.high is not None and query.low > query.high:
        raise BadInput("amount_min must not be above amount_max")
