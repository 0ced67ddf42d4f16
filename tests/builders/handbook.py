"""A small world by the Handbook's rules (section 3.2), seeded, for the tests of its protocol and ceiling."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

START = datetime(2018, 4, 1, tzinfo=UTC)


def payments(
    *, days: int, customers: int = 120, terminals: int = 90, per_day: int = 200, seed: int = 1, many: int = 1
) -> pl.DataFrame:
    """The file's columns. Every third day a terminal is compromised for 28 days, every day `many` customers for 14."""
    rng = random.Random(seed)
    means = [rng.uniform(5, 100) for _ in range(customers)]
    rows: list[dict[str, Any]] = []
    for day in range(days):
        for _ in range(per_day):
            customer = rng.randrange(customers)
            amount = rng.gauss(means[customer], means[customer] / 2)
            if amount < 0:
                amount = rng.uniform(0, 2 * means[customer])
            rows.append(
                {
                    "at": day * 86_400 + rng.randrange(86_400),
                    "CUSTOMER_ID": customer,
                    "TERMINAL_ID": rng.randrange(terminals),
                    "TX_AMOUNT": round(amount, 2),
                    "TX_FRAUD": 0,
                    "TX_FRAUD_SCENARIO": 0,
                }
            )
    rows.sort(key=lambda row: row["at"])
    for row in rows:
        if row["TX_AMOUNT"] > 220:
            row.update(TX_FRAUD=1, TX_FRAUD_SCENARIO=1)
    for day in range(0, days, 3):
        _mark(rows, "TERMINAL_ID", rng.randrange(terminals), day, 28, 2)
    for day in range(days):
        for _ in range(many):
            hit = _of(rows, "CUSTOMER_ID", rng.randrange(customers), day, 14)
            for row in rng.sample(hit, len(hit) // 3):
                row.update(TX_AMOUNT=round(row["TX_AMOUNT"] * 5, 2), TX_FRAUD=1, TX_FRAUD_SCENARIO=3)
    for number, row in enumerate(rows):
        row.update(TRANSACTION_ID=number, TX_DATETIME=(START + timedelta(seconds=row.pop("at"))).replace(tzinfo=None))
    return pl.DataFrame(rows)


def _of(rows: list[dict[str, Any]], column: str, key: int, day: int, length: int) -> list[dict[str, Any]]:
    return [r for r in rows if r[column] == key and day * 86_400 <= r["at"] < (day + length) * 86_400]


def _mark(rows: list[dict[str, Any]], column: str, key: int, day: int, length: int, scenario: int) -> None:
    for row in _of(rows, column, key, day, length):
        row.update(TX_FRAUD=1, TX_FRAUD_SCENARIO=scenario)


def written(frame: pl.DataFrame, path: Path) -> Path:
    """The frame as a Parquet file."""
    frame.write_parquet(path)
    return path
