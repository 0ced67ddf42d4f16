"""A scope with one name of every kind, for tests of the language."""

from __future__ import annotations

from dataclasses import replace

from core.program.scope import Place, Scope

SCOPE = Scope(
    fields={"mail": ("string", "raw"), "km": ("number", ""), "is_guest": ("bool", ""), "sent_at": ("time", "")},
    features={"mean_30d": "number", "device_is_new": "bool"},
    parameters=frozenset({"amount_high"}),
    entities={"account_merchant": ("account_id", "merchant_id"), "device": ("device_id",)},
    codes=frozenset({"AMOUNT_HIGH", "VELOCITY"}),
)


def scope(place: Place) -> Scope:
    """SCOPE at a place."""
    return replace(SCOPE, place=place)
