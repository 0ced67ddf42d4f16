"""A synthetic dataset in the full layout of IEEE-CIS: its 394 and 41 columns in two files, with signal in own columns.

Not the data of IEEE-CIS, nor like it in any distribution: it only has the names, types, gaps and width of the published
files, so that all of the way from such a file to a decision can be tried and measured without them. Fraud depends on

    latent factors     20 numbers a payment, of which four tell of fraud; every V is one or two of them with noise
    categories         e-mail domain, kind of card, M4; a rare domain and an unknown one are as bad
    history            a card whose fraud began is used faster, for larger amounts (features see that without columns)

Seeded: the same rows and seed give the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

DAYS = 90
ROWS_A_CARD = 12
DAY_S = 86_400
FACTORS = 20
EMAILS = (
    "gmail.com",
    "yahoo.com",
    "hotmail.com",
    "anonymous.com",
    "aol.com",
    "icloud.com",
    "mail.com",
    "protonmail.com",
)
_EMAIL_SHARE = np.array([0.42, 0.2, 0.12, 0.08, 0.07, 0.05, 0.04, 0.02])
_EMAIL_RISK = np.array([0.0, -0.2, 0.3, 1.0, -0.6, -0.3, 1.4, 2.4])
PRODUCTS = ("W", "C", "R", "H", "S")
TRANSACTION, IDENTITY = "train_transaction.csv", "train_identity.csv"

Floats = NDArray[np.float64]
Columns = dict[str, NDArray[np.generic] | pl.Series]


@dataclass(frozen=True, slots=True)
class _Payments:
    """n payments: card, seconds, fraud, factors (n, FACTORS), and the number of the e-mail domain."""

    card: NDArray[np.int64]
    seconds: NDArray[np.int64]
    fraud: NDArray[np.bool_]
    factors: Floats
    email: NDArray[np.int64]
    amount: Floats


def write(folder: Path, rows: int, seed: int) -> None:
    """Write `rows` payments in order of time to both files in a folder, which is made."""
    random = np.random.Generator(np.random.PCG64(seed))
    made = _payments(random, rows)
    folder.mkdir(parents=True, exist_ok=True)
    _transactions(random, made).write_csv(folder / TRANSACTION)
    _identity(random, made).write_csv(folder / IDENTITY)


def _payments(random: np.random.Generator, rows: int) -> _Payments:
    cards = max(rows // ROWS_A_CARD, 10)
    card = random.integers(0, cards, rows)
    seconds = np.sort(random.integers(DAY_S, DAYS * DAY_S, rows))
    factors = random.normal(size=(rows, FACTORS))
    of_card = random.choice(len(EMAILS), size=cards, p=_EMAIL_SHARE)
    email = np.where(random.random(rows) < 0.9, of_card[card], random.choice(len(EMAILS), size=rows, p=_EMAIL_SHARE))
    stolen = np.where(random.random(cards) < 0.06, random.uniform(0.1, 1.2, cards) * DAYS * DAY_S, np.inf)
    since = seconds - stolen[card]
    is_stolen = (since >= 0) & (since < 3 * DAY_S)
    amount = np.exp(random.normal(3.6, 0.9, rows) + 0.7 * is_stolen)
    score = (
        -5.6
        + 2.2 * is_stolen
        + 1.1 * factors[:, 0]
        + 0.8 * np.abs(factors[:, 1])
        + 0.9 * (factors[:, 2] > 1.2)
        + 0.6 * factors[:, 3] * (factors[:, 0] > 0.0)
        + _EMAIL_RISK[email]
        + 0.3 * (np.log(amount) - 3.6)
    )
    fraud = random.random(rows) < 1.0 / (1.0 + np.exp(-score))
    return _Payments(card, seconds, fraud, factors, email, amount)


def _gaps(random: np.random.Generator, values: Floats | NDArray[np.generic], share: float) -> pl.Series:
    """The values with a share of them missing."""
    there = random.random(len(values)) >= share
    return pl.select(pl.when(pl.Series(there)).then(pl.Series(values))).to_series()


def _chosen(random: np.random.Generator, choices: tuple[str, ...], rows: int, share: float) -> pl.Series:
    return _gaps(random, np.array(choices)[random.integers(0, len(choices), rows)], share)


def _transactions(random: np.random.Generator, made: _Payments) -> pl.DataFrame:
    rows = len(made.card)
    per_card = np.random.Generator(np.random.PCG64(int(random.integers(2**32))))
    cards = int(made.card.max()) + 1
    first_day = per_card.integers(-300, 0, cards)
    credit = per_card.random(cards) < 0.3
    columns: Columns = {
        "TransactionID": np.arange(rows) + 2_987_000,
        "isFraud": made.fraud.astype(np.int64),
        "TransactionDT": made.seconds,
        "TransactionAmt": np.round(made.amount, 2),
        "ProductCD": np.array(PRODUCTS)[random.choice(5, rows, p=[0.6, 0.2, 0.1, 0.06, 0.04])],
        "card1": made.card + 1_000,
        "card2": _gaps(random, 100 + made.card * 7 % 500, 0.02),
        "card3": _gaps(random, np.where(made.card % 9, 150, 185), 0.01),
        "card4": _gaps(random, np.array(["visa", "mastercard", "american express", "discover"])[made.card % 4], 0.01),
        "card5": _gaps(random, 100 + made.card * 13 % 137, 0.01),
        "card6": _gaps(random, np.where(credit[made.card], "credit", "debit"), 0.01),
        "addr1": _gaps(random, 100 + made.card * 31 % 330, 0.05),
        "addr2": _gaps(random, np.where(made.card % 50, 87, 60), 0.05),
        "dist1": _gaps(random, np.floor(np.exp(random.normal(3, 1.5, rows) + 0.3 * made.factors[:, 3])), 0.6),
        "dist2": _gaps(random, np.floor(np.exp(random.normal(4, 1.5, rows))), 0.94),
        "P_emaildomain": _gaps(random, np.array(EMAILS)[made.email], 0.12),
        "R_emaildomain": _gaps(random, np.array(EMAILS)[random.choice(len(EMAILS), rows, p=_EMAIL_SHARE)], 0.75),
    }
    for k in range(1, 15):
        columns[f"C{k}"] = random.poisson(np.exp(0.3 * made.factors[:, k % FACTORS]))
    days = made.seconds // DAY_S
    columns["D1"] = (days - first_day[made.card]).astype(np.float64)
    for k in range(2, 16):
        columns[f"D{k}"] = _gaps(random, np.floor(np.abs(random.normal(60, 80, rows))), 0.3 + 0.04 * k)
    for k in range(1, 10):
        columns[f"M{k}"] = _chosen(random, ("M0", "M1", "M2") if k == 4 else ("T", "F"), rows, 0.3 + 0.03 * k)
    block_there = random.random((rows, 12)) >= np.linspace(0.0, 0.75, 12)
    for k in range(1, 340):
        factor, other = k % FACTORS, int(random.integers(FACTORS))
        values = made.factors[:, factor] + 0.5 * made.factors[:, other] + random.normal(0, 1.5 + k % 3, rows)
        values = np.floor(np.maximum(values * 2, 0)) if k % 2 else np.round(values, 4)
        there = pl.Series(block_there[:, k * 12 // 340])
        columns[f"V{k}"] = pl.select(pl.when(there).then(pl.Series(values))).to_series()
    return pl.DataFrame(columns)


def _identity(random: np.random.Generator, made: _Payments) -> pl.DataFrame:
    chosen = np.flatnonzero(random.random(len(made.card)) < 0.25)
    rows = len(chosen)
    columns: Columns = {"TransactionID": chosen + 2_987_000}
    for k in range(1, 39):
        if k in (12, 15, 16, 23, 27, 28, 29, 30, 31, 33, 34, 35, 36, 37, 38):
            values = ("Found", "NotFound", "New") if k != 31 else ("chrome 63.0", "safari", "ie 11", "firefox", "edge")
            columns[f"id_{k:02}"] = _chosen(random, values, rows, 0.1 + 0.01 * k)
        else:
            columns[f"id_{k:02}"] = _gaps(random, np.floor(random.normal(50, 40, rows)), 0.02 * k)
    columns["DeviceType"] = _chosen(random, ("desktop", "mobile"), rows, 0.02)
    columns["DeviceInfo"] = pl.Series([f"device-{card * 3 % 997}" for card in made.card[chosen].tolist()])
    return pl.DataFrame(columns)
