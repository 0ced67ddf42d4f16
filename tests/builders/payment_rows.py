"""A small dataset as text: its mapping, its header, and rows."""

from __future__ import annotations

MAPPING = """
[columns]
transaction_id = "id"
account_id = "acct"
amount = "amt"
merchant_id = "shop"

[time]
column = "when"
format = "iso"

[label]
column = "fraud"
fraud = ["1"]
legitimate = ["0"]
"""
HEADER = "id,acct,amt,when,shop,fraud"


def row(number: int, account: str = "a1", amount: str = "10", shop: str = "m1", name: str | None = None) -> str:
    """One row under `HEADER`."""
    return f"{name or f't{number}'},{account},{amount},2026-03-01T10:{number:02d}:00Z,{shop},0"
