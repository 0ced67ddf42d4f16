"""Profiles a labelled source: how much of it is fraud, when, at what amounts, and which fields it fills.

`analyze` folds the source's tables once, keeping counts and the amounts (8 bytes per row); the result is plain data.
`table` renders it for a terminal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table

from core.errors import BadInput
from core.text import visible
from core.times import DAY_MS, HOUR_MS, date_text, minute_text
from sources.source import OPTIONAL_TEXT, Source

AMOUNT_EDGES = (5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 5_000.0)
AMOUNT_BANDS = ("below 5", *(f"{a:,.0f} to {b:,.0f}" for a, b in pairwise(AMOUNT_EDGES)), "5,000 and more")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


class Slice(msgspec.Struct, frozen=True):
    """One row of a breakdown: its transactions and the frauds among them."""

    name: str
    transactions: int
    frauds: int

    @property
    def fraud_rate(self) -> float:
        """Frauds / transactions, 0 for an empty slice."""
        return self.frauds / self.transactions if self.transactions else 0.0


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The profile of a source. Times are epoch ms UTC; amounts are in the source's currency, mixed if it has several.

    scenarios: the frauds by scenario, "" where the source names none. missing: share of transactions without the field.
    Quantiles are keyed by the text of QUANTILES ("0.5"): of transactions per account, and of amounts by class.
    """

    source: str
    transactions: int
    frauds: int
    unlabelled: int
    accounts: int
    first: int
    last: int
    amount_total: float
    amount_fraud: float
    hours: tuple[Slice, ...]
    weekdays: tuple[Slice, ...]
    days: tuple[Slice, ...]
    amounts: tuple[Slice, ...]
    scenarios: tuple[Slice, ...]
    missing: dict[str, float]
    per_account: dict[str, float]
    amount_legitimate: dict[str, float]
    amount_frauds: dict[str, float]

    @property
    def fraud_rate(self) -> float:
        """Frauds / transactions."""
        return self.frauds / self.transactions


class _Fold:
    """Counts over the tables seen so far."""

    def __init__(self) -> None:
        self.transactions = self.unlabelled = 0
        self.first, self.last = 2**63 - 1, -(2**63)
        self.hours = np.zeros((24, 2), dtype=np.int64)
        self.weekdays = np.zeros((7, 2), dtype=np.int64)
        self.bands = np.zeros((len(AMOUNT_BANDS), 2), dtype=np.int64)
        self.days: dict[int, list[int]] = {}
        self.scenarios: dict[str, int] = {}
        self.missing = dict.fromkeys(OPTIONAL_TEXT, 0)
        self.per_account: dict[str, int] = {}
        self.amounts: list[NDArray[np.float64]] = []
        self.frauds: list[NDArray[np.bool_]] = []

    def add(self, table: pl.DataFrame) -> None:
        times = table["occurred_at"].to_numpy()
        amounts = table["amount"].to_numpy()
        fraud = table["is_fraud"].fill_null(False).to_numpy()
        day = times // DAY_MS
        self.transactions += table.height
        self.unlabelled += table["is_fraud"].null_count()
        self.first, self.last = min(self.first, int(times[0])), max(self.last, int(times[-1]))
        for counts, index in (
            (self.hours, times // HOUR_MS % 24),
            (self.weekdays, (day + 3) % 7),  # 1970-01-01 was a Thursday
            (self.bands, np.searchsorted(AMOUNT_EDGES, amounts, side="right")),
        ):
            counts[:, 0] += np.bincount(index, minlength=len(counts))
            counts[:, 1] += np.bincount(index[fraud], minlength=len(counts))
        numbers, first, size = np.unique(day, return_index=True, return_counts=True)
        for number, count, frauds in zip(numbers, size, np.add.reduceat(fraud.astype(np.int64), first), strict=True):
            of_day = self.days.setdefault(int(number), [0, 0])
            of_day[0] += int(count)
            of_day[1] += int(frauds)
        for name, count in table.filter(pl.col("is_fraud"))["scenario"].value_counts().iter_rows():
            self.scenarios[name] = self.scenarios.get(name, 0) + count
        for name in OPTIONAL_TEXT:
            self.missing[name] += int((table[name] == "").sum()) if name in table.columns else table.height
        for name, count in table["account_id"].value_counts().iter_rows():
            self.per_account[name] = self.per_account.get(name, 0) + count
        self.amounts.append(amounts)
        self.frauds.append(fraud)


def analyze(source: Source, on_progress: Callable[[int], None] | None = None) -> Profile:
    """The source's profile; `on_progress` is called with the number of transactions read so far. Raises BadInput for an
    empty source.
    """
    fold = _Fold()
    for table in source.tables():
        if not table.is_empty():
            fold.add(table)
            if on_progress is not None:
                on_progress(fold.transactions)
    if not fold.transactions:
        raise BadInput(f"the source {source.name} contains no transactions")
    amounts, fraud = np.concatenate(fold.amounts), np.concatenate(fold.frauds)
    return Profile(
        source=source.name,
        transactions=fold.transactions,
        frauds=int(fraud.sum()),
        unlabelled=fold.unlabelled,
        accounts=len(fold.per_account),
        first=fold.first,
        last=fold.last,
        amount_total=round(math.fsum(amounts), 6),
        amount_fraud=round(math.fsum(amounts[fraud]), 6),
        hours=_slices([f"{hour:02d}" for hour in range(24)], fold.hours),
        weekdays=_slices(WEEKDAYS, fold.weekdays),
        days=tuple(Slice(date_text(day * DAY_MS), n, frauds) for day, (n, frauds) in sorted(fold.days.items())),
        amounts=_slices(AMOUNT_BANDS, fold.bands),
        scenarios=tuple(
            Slice(name, n, n) for name, n in sorted(fold.scenarios.items(), key=lambda item: (-item[1], item[0]))
        ),
        missing={name: count / fold.transactions for name, count in fold.missing.items()},
        per_account=_quantiles(np.array(list(fold.per_account.values()), dtype=np.float64)),
        amount_legitimate=_quantiles(amounts[~fraud]),
        amount_frauds=_quantiles(amounts[fraud]),
    )


def table(profile: Profile) -> Group:
    """The profile as rich tables for a terminal."""
    head = Table(title=f"{visible(profile.source)}: {profile.transactions:,} transactions", show_header=False)
    for name, value in (
        ("event time", f"{minute_text(profile.first)} … {minute_text(profile.last)}"),
        ("accounts", f"{profile.accounts:,}"),
        ("frauds", f"{profile.frauds:,} ({profile.fraud_rate:.2%} of transactions)"),
        ("fraud amount", f"{profile.amount_fraud:,.2f} of {profile.amount_total:,.2f}"),
        ("not labelled", f"{profile.unlabelled:,}"),
        ("a field is missing", ", ".join(f"{k} {v:.0%}" for k, v in profile.missing.items() if v) or "never"),
    ):
        head.add_row(name, value)
    quantiles = Table(title="quantiles")
    for column in ("", *QUANTILES):
        quantiles.add_column(str(column), justify="right" if column != "" else "left")
    for name, row in (
        ("transactions per account", profile.per_account),
        ("amount, legitimate", profile.amount_legitimate),
        ("amount, fraud", profile.amount_frauds),
    ):
        quantiles.add_row(name, *(f"{row[str(q)]:,.2f}" if row else "–" for q in QUANTILES))
    parts = (("amount", profile.amounts), ("hour (UTC)", profile.hours), ("weekday", profile.weekdays))
    return Group(head, quantiles, *(_breakdown(title, rows) for title, rows in parts), _scenario_table(profile))


def _breakdown(title: str, rows: tuple[Slice, ...]) -> Table:
    top = max((row.fraud_rate for row in rows), default=0.0)
    result = Table(title=f"by {title}")
    result.add_column(title)
    for column in ("transactions", "frauds", "fraud rate"):
        result.add_column(column, justify="right")
    result.add_column("")
    for row in rows:
        bar = "█" * round(20 * row.fraud_rate / top) if top else ""
        result.add_row(visible(row.name), f"{row.transactions:,}", f"{row.frauds:,}", f"{row.fraud_rate:.2%}", bar)
    return result


def _scenario_table(profile: Profile) -> Table:
    result = Table(title="frauds by scenario")
    result.add_column("scenario")
    result.add_column("frauds", justify="right")
    result.add_column("share", justify="right")
    for row in profile.scenarios:
        result.add_row(visible(row.name) or "(not named)", f"{row.frauds:,}", f"{row.frauds / profile.frauds:.1%}")
    return result


def _slices(names: Sequence[str], counts: NDArray[np.int64]) -> tuple[Slice, ...]:
    return tuple(Slice(name, int(n), int(frauds)) for name, (n, frauds) in zip(names, counts, strict=True))


def _quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    if not len(values):
        return {}
    return {str(q): round(float(v), 2) for q, v in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)}
