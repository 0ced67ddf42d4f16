"""What can be known of the Handbook's test week at all: a score from the generator's own rules, labels 7 days late.

The data's three frauds (Le Borgne et al., Fraud Detection Handbook, 2022, section 3.2) are known as rules, so the best
possible score of a payment is the probability that it is fraud given everything that has happened before it and every
label that is at least 7 days old. `scores` computes that, by Bayes' rule, and is told more than any model:

1. A payment above 220 is fraud: certain.
2. Each day 2 of 10,000 terminals are compromised for 28 days from midnight, and all their payments are fraud. The
   posterior over the first day of the newest compromise, given the terminal's known payments. It is told the prior,
   the length, and of each known fraud which of the three kinds it was.
3. Each day 3 of 5,000 customers are compromised for 14 days; a third of their payments, drawn at random, are multiplied
   by 5 and are fraud. The posterior over the first day, given the amounts of the customer's payments of the last 14
   days and what is known of them. It is told the priors, the factor, and the customer's mean amount, estimated from all
   payments of the file that were not multiplied, the future ones too (amounts are normal with a deviation of half the
   mean; negative draws are drawn again, uniformly up to twice the mean).

It is not told the generator's random seeds, nor a label before its time. It ranks by what is likely, so on one week's
draw a model may be a little luckier. What keeps the ceiling low: in its first 7 days, and until its first known
payment, nothing at all distinguishes a compromised terminal.

Cost: some 0.3 ms a payment, plain numpy, one core.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtr

from core.errors import BadInput
from core.times import DAY_MS

DELAY_DAYS = 7.0
LARGE_AMOUNT = 220.0
TERMINAL_DAYS, TERMINAL_RATE = 28, 2 / 10_000
CUSTOMER_DAYS, CUSTOMER_RATE = 14, 3 / 5_000
FACTOR, SHARE = 5.0, 1 / 3
MEMORY_DAYS = 62
"""How far back a terminal's payments are looked at: twice a compromise, and more than its last label."""

REDRAWN = float(ndtr(-2.0))
"""Of normal amounts whose deviation is half their mean, the share that is negative."""

_COLUMNS = {
    "times": "TX_DATETIME",
    "customers": "CUSTOMER_ID",
    "terminals": "TERMINAL_ID",
    "amounts": "TX_AMOUNT",
    "frauds": "TX_FRAUD",
    "scenarios": "TX_FRAUD_SCENARIO",
}


@dataclass(frozen=True, slots=True)
class Payments:
    """The file's n payments in order of time. times float64 (n,) in days since the epoch, UTC; customers and terminals
    int64, amounts float64, frauds bool, scenarios int8 (0 = legitimate), all (n,).
    """

    times: NDArray[np.float64]
    customers: NDArray[np.int64]
    terminals: NDArray[np.int64]
    amounts: NDArray[np.float64]
    frauds: NDArray[np.bool_]
    scenarios: NDArray[np.int8]

    @property
    def days(self) -> NDArray[np.int64]:
        """The day of each, int64 (n,)."""
        return np.floor(self.times).astype(np.int64)

    @property
    def times_ms(self) -> NDArray[np.int64]:
        """Epoch ms, int64 (n,)."""
        return np.rint(self.times * DAY_MS).astype(np.int64)


def load(path: Path) -> Payments:
    """Read the Handbook's payments. Raises BadInput if the file is not there or lacks a column."""
    try:
        frame = pl.read_parquet(path, columns=list(_COLUMNS.values())).sort("TX_DATETIME", maintain_order=True)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise BadInput(f"{path} does not read as the Handbook's payments: {str(error).splitlines()[0]}") from error
    return Payments(
        times=frame["TX_DATETIME"].dt.epoch("ms").to_numpy() / DAY_MS,
        customers=frame["CUSTOMER_ID"].cast(pl.Int64).to_numpy(),
        terminals=frame["TERMINAL_ID"].cast(pl.Int64).to_numpy(),
        amounts=frame["TX_AMOUNT"].to_numpy(),
        frauds=frame["TX_FRAUD"].to_numpy() == 1,
        scenarios=frame["TX_FRAUD_SCENARIO"].cast(pl.Int8).to_numpy(),
    )


def handbook_test_rows(payments: Payments, train_start: int, days: int = 7, delay: int = 7) -> NDArray[np.int64]:
    """Rows of the test, as the Handbook's get_train_test_set: (k,). `train_start` is the epoch day of the training.

    Customers with a fraud in the training are out, and from day d of the test on those with one on the day d − 1 after
    the training.
    """
    of_day, customers, frauds = payments.days, payments.customers, payments.frauds
    inside = (of_day >= train_start) & (of_day < train_start + days)
    known = np.unique(customers[inside & frauds])
    rows = []
    for day in range(days):
        known = np.union1d(known, customers[(of_day == train_start + days + day - 1) & frauds])
        today = np.flatnonzero(of_day == train_start + days + delay + day)
        rows.append(today[~np.isin(customers[today], known)])
    return np.concatenate(rows)


def scores(payments: Payments, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """The probability of fraud of each of `rows` (k,) as described above: float64 (k,)."""
    terminals, customers = _grouped(payments.terminals), _grouped(payments.customers)
    means = _mean_amounts(payments)
    legitimate = np.ones(len(rows))
    for place, row in enumerate(rows.tolist()):
        amount = float(payments.amounts[row])
        if amount > LARGE_AMOUNT:
            legitimate[place] = 0.0
            continue
        compromised = _terminal(payments, terminals[int(payments.terminals[row])], row)
        customer = int(payments.customers[row])
        multiplied = _customer(payments, customers[customer], row, means[customer])
        legitimate[place] = (1.0 - compromised) * (1.0 - multiplied)
    return 1.0 - legitimate


def drawn(scores: NDArray[np.float64], draws: int, seed: int) -> list[NDArray[np.bool_]]:
    """Labels (k,) as they might have turned out, if each payment is fraud with the probability of its score.

    They are drawn one by one, while a compromised terminal's come together: the spread is rather larger in truth.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    return [rng.random(len(scores)) < scores for _ in range(draws)]


def _grouped(keys: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    return dict(zip(keys[order][starts].tolist(), np.split(order, starts[1:]), strict=True))


def _mean_amounts(payments: Payments) -> dict[int, float]:
    """Each customer's mean before redrawing, from what was not multiplied."""
    plain = payments.scenarios != 3
    customers, inverse = np.unique(payments.customers, return_inverse=True)
    sums = np.bincount(inverse, payments.amounts * plain)
    counts = np.bincount(inverse, plain)
    # E[amount] / mean: of the normal's positive part, 1 − Φ(−2) + φ(2) / 2, and of the redrawn, which average the mean.
    scale = 1.0 + float(np.exp(-2.0) / np.sqrt(2.0 * np.pi)) / 2.0
    return dict(zip(customers.tolist(), (sums / np.maximum(counts, 1) / scale).tolist(), strict=True))


def _terminal(payments: Payments, history: NDArray[np.int64], row: int) -> float:
    """P(the terminal is compromised now)."""
    now = payments.times[row]
    today = int(now)
    history = history[: np.searchsorted(payments.times[history], now - DELAY_DAYS, "right")]
    days = payments.times[history].astype(np.int64)
    recent = days >= today - MEMORY_DAYS
    days, kinds = days[recent], payments.scenarios[history[recent]]
    bad, clean = days[kinds == 2], days[(kinds == 0) | (kinds == 1)]  # a multiplied payment says nothing
    starts = np.arange(today - MEMORY_DAYS - TERMINAL_DAYS + 1, today + 1)
    active = starts > today - TERMINAL_DAYS
    possible = ~_covered(starts, clean).any(axis=1)
    explains = possible & _covered(starts, bad).all(axis=1)
    never = 0.0 if len(bad) else 1.0 - len(starts) * TERMINAL_RATE
    total = explains.sum() * TERMINAL_RATE + never
    if total == 0.0:  # compromised twice within the memory: the run of the newest fraud
        explains = possible & _covered(starts, bad[-1:]).all(axis=1)
        total = explains.sum() * TERMINAL_RATE
    return float((explains & active).sum() * TERMINAL_RATE / total) if total else 0.0


def _covered(starts: NDArray[np.int64], days: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a compromise from each of `starts` (s,) on covers each of `days` (d,): (s, d)."""
    since = days[None, :] - starts[:, None]
    return (since >= 0) & (since < TERMINAL_DAYS)


def _customer(payments: Payments, history: NDArray[np.int64], row: int, mean: float) -> float:
    """P(the payment was multiplied)."""
    now = payments.times[row]
    today = int(now)
    times = payments.times[history]
    first = np.searchsorted(times, today - CUSTOMER_DAYS + 1, "left")
    history = history[first : np.searchsorted(times, now, "left")]
    amounts = payments.amounts[history]
    plain, multiplied = _density(amounts, mean), _density(amounts / FACTOR, mean) / FACTOR
    # Likelihood of each earlier payment if the customer was compromised, over that if not.
    ratio = (1.0 - SHARE) + SHARE * multiplied / np.maximum(plain, 1e-300)
    known = payments.times[history] <= now - DELAY_DAYS
    certain = np.where(payments.scenarios[history] == 3, 1e9, 1.0 - SHARE)
    ratio = np.minimum(np.where(known, certain, ratio), 1e12)
    starts = np.arange(today - CUSTOMER_DAYS + 1, today + 1)
    days = payments.times[history].astype(np.int64)
    evidence = np.where(days[None, :] >= starts[:, None], ratio[None, :], 1.0).prod(axis=1)
    odds = CUSTOMER_RATE * float(evidence.sum()) / (1.0 - CUSTOMER_DAYS * CUSTOMER_RATE)
    this = np.array([payments.amounts[row]])
    fraud = odds * SHARE * float(_density(this / FACTOR, mean)[0]) / FACTOR
    other = (odds * (1.0 - SHARE) + 1.0) * float(_density(this, mean)[0])
    return fraud / (fraud + other) if fraud + other > 0.0 else 1.0


def _density(amounts: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """Of the generator's amounts ≥ 0: normal with deviation mean / 2, what was negative redrawn uniformly."""
    deviation = mean / 2.0
    normal = np.exp(-0.5 * ((amounts - mean) / deviation) ** 2) / (deviation * np.sqrt(2.0 * np.pi))
    redrawn = np.where(amounts <= 2.0 * mean, REDRAWN / (2.0 * mean), 0.0)
    density: NDArray[np.float64] = normal + redrawn
    return density
