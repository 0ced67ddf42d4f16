"""The ceiling of the Handbook's test week: a score from the generator's own rules, with labels 7 days late.

The rules behind the data's three kinds of fraud are published (Le Borgne et al., Fraud Detection Handbook, 2022,
section 3.2). So the best possible score of a payment is its probability of fraud, given everything before it and every
label that is at least 7 days old. `scores` computes this by Bayes' rule. It knows more than any model can:

1. A payment above 220 is fraud, with certainty.
2. Each day, 2 of 10,000 terminals are compromised for 28 days from midnight, and all their payments are fraud. `scores`
   takes the posterior over the first day of the newest compromise, given the terminal's known payments. It knows the
   prior, the duration, and the kind of each known fraud.
3. Each day, 3 of 5,000 customers are compromised for 14 days; a random third of their payments are multiplied by 5 and
   are fraud. `scores` takes the posterior over the first day, given the amounts and known labels of the customer's
   payments in the last 14 days. It knows the priors, the factor, and the customer's mean amount, estimated from all
   payments in the file that were not multiplied, including future ones (amounts are normal with a standard deviation of
   half the mean; negative draws are redrawn, uniformly up to twice the mean).

It does not know the generator's random seeds, nor any label before its time. It is the best ranking in expectation; on
the draw of a single week, a model may be a little luckier. The ceiling is low because nothing distinguishes a
compromised terminal in its first 7 days, nor before its first known payment.

Cost: about 0.3 ms per payment, plain numpy, one core.
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
"""How far back a terminal's payments are considered: more than twice the duration of a compromise."""

REDRAWN = float(ndtr(-2.0))
"""The share of negative draws from a normal distribution whose standard deviation is half its mean."""

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
    """The file's n payments in time order. times: float64 (n,), days since the epoch, UTC. customers, terminals: int64;
    amounts: float64; frauds: bool; scenarios: int8 (0: legitimate); all (n,).
    """

    times: NDArray[np.float64]
    customers: NDArray[np.int64]
    terminals: NDArray[np.int64]
    amounts: NDArray[np.float64]
    frauds: NDArray[np.bool_]
    scenarios: NDArray[np.int8]

    @property
    def days(self) -> NDArray[np.int64]:
        """The day of each payment, int64 (n,)."""
        return np.floor(self.times).astype(np.int64)

    @property
    def times_ms(self) -> NDArray[np.int64]:
        """Epoch ms, int64 (n,)."""
        return np.rint(self.times * DAY_MS).astype(np.int64)


def load(path: Path) -> Payments:
    """Read the Handbook's payments. Raises BadInput if the file or a column is missing."""
    try:
        frame = pl.read_parquet(path, columns=list(_COLUMNS.values())).sort("TX_DATETIME", maintain_order=True)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise BadInput(f"can't read the Handbook's payments from {path}: {str(error).splitlines()[0]}") from error
    return Payments(
        times=frame["TX_DATETIME"].dt.epoch("ms").to_numpy() / DAY_MS,
        customers=frame["CUSTOMER_ID"].cast(pl.Int64).to_numpy(),
        terminals=frame["TERMINAL_ID"].cast(pl.Int64).to_numpy(),
        amounts=frame["TX_AMOUNT"].to_numpy(),
        frauds=frame["TX_FRAUD"].to_numpy() == 1,
        scenarios=frame["TX_FRAUD_SCENARIO"].cast(pl.Int8).to_numpy(),
    )


def handbook_test_rows(payments: Payments, train_start: int, days: int = 7, delay: int = 7) -> NDArray[np.int64]:
    """Rows of the test, as selected by the Handbook's get_train_test_set: int64 (k,). train_start: epoch day.

    Customers with a fraud in the training period are excluded; from day d of the test on, so are those with a fraud on
    day d − 1 after the training period.
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
    """The probability of fraud of each of `rows` (k,), as described above: float64 (k,)."""
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
    """Random labels (k,): each payment is fraud with the probability given by its score.

    Labels are drawn independently, whereas the frauds of a compromised terminal are clustered, so the true spread is
    larger.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    return [rng.random(len(scores)) < scores for _ in range(draws)]


def _grouped(keys: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    return dict(zip(keys[order][starts].tolist(), np.split(order, starts[1:]), strict=True))


def _mean_amounts(payments: Payments) -> dict[int, float]:
    """Each customer's mean amount before redrawing, from payments that were not multiplied."""
    plain = payments.scenarios != 3
    customers, inverse = np.unique(payments.customers, return_inverse=True)
    sums = np.bincount(inverse, payments.amounts * plain)
    counts = np.bincount(inverse, plain)
    # E[amount] / mean: of the normal's positive part, 1 − Φ(−2) + φ(2) / 2, and of the redrawn, which average the mean.
    scale = 1.0 + float(np.exp(-2.0) / np.sqrt(2.0 * np.pi)) / 2.0
    return dict(zip(customers.tolist(), (sums / np.maximum(counts, 1) / scale).tolist(), strict=True))


def _terminal(payments: Payments, history: NDArray[np.int64], row: int) -> float:
    """The probability that the terminal is compromised now."""
    now = payments.times[row]
    today = int(now)
    history = history[: np.searchsorted(payments.times[history], now - DELAY_DAYS, "right")]
    days = payments.times[history].astype(np.int64)
    recent = days >= today - MEMORY_DAYS
    days, kinds = days[recent], payments.scenarios[history[recent]]
    bad, clean = days[kinds == 2], days[(kinds == 0) | (kinds == 1)]  # a multiplied payment carries no information
    starts = np.arange(today - MEMORY_DAYS - TERMINAL_DAYS + 1, today + 1)
    active = starts > today - TERMINAL_DAYS
    possible = ~_covered(starts, clean).any(axis=1)
    explains = possible & _covered(starts, bad).all(axis=1)
    never = 0.0 if len(bad) else 1.0 - len(starts) * TERMINAL_RATE
    total = explains.sum() * TERMINAL_RATE + never
    if total == 0.0:  # compromised twice within the memory: use the run of the newest fraud
        explains = possible & _covered(starts, bad[-1:]).all(axis=1)
        total = explains.sum() * TERMINAL_RATE
    return float((explains & active).sum() * TERMINAL_RATE / total) if total else 0.0


def _covered(starts: NDArray[np.int64], days: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a compromise that begins on each of `starts` (s,) covers each of `days` (d,): bool (s, d)."""
    since = days[None, :] - starts[:, None]
    return (since >= 0) & (since < TERMINAL_DAYS)


def _customer(payments: Payments, history: NDArray[np.int64], row: int, mean: float) -> float:
    """The probability that the payment was multiplied."""
    now = payments.times[row]
    today = int(now)
    times = payments.times[history]
    first = np.searchsorted(times, today - CUSTOMER_DAYS + 1, "left")
    history = history[first : np.searchsorted(times, now, "left")]
    amounts = payments.amounts[history]
    plain, multiplied = _density(amounts, mean), _density(amounts / FACTOR, mean) / FACTOR
    # Likelihood ratio of each earlier payment: customer compromised against not compromised.
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
    """Density of the generator's amounts ≥ 0: normal with deviation mean / 2, negative draws redrawn uniformly."""
    deviation = mean / 2.0
    normal = np.exp(-0.5 * ((amounts - mean) / deviation) ** 2) / (deviation * np.sqrt(2.0 * np.pi))
    redrawn = np.where(amounts <= 2.0 * mean, REDRAWN / (2.0 * mean), 0.0)
    density: NDArray[np.float64] = normal + redrawn
    return density
