"""The synthetic stream's world: countries, merchants, accounts, and the clock that says when things happen.

Everything here is a pure function of the configuration's seed and sizes. All draws are uniform doubles; normal and
log-normal values come from tables rounded to six decimals, and array code does one IEEE operation at a time. A seed
therefore gives the same bytes on every machine, whatever its maths library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from core.times import DAY_MS, HOUR_MS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CHANNELS = ("card_present", "online", "atm", "transfer")
CARD_PRESENT, ONLINE, ATM, TRANSFER = range(4)


class Category(NamedTuple):
    """A merchant category: share of legitimate transactions, median amount, log-deviation, share bought online."""

    name: str
    share: float
    median: float
    sigma: float
    online: float


CATEGORIES = (
    Category("grocery", 0.23, 28.0, 0.60, 0.06),
    Category("restaurant", 0.14, 22.0, 0.60, 0.10),
    Category("fuel", 0.08, 48.0, 0.35, 0.0),
    Category("transit", 0.10, 3.2, 0.50, 0.30),
    Category("pharmacy", 0.05, 16.0, 0.60, 0.10),
    Category("clothing", 0.06, 55.0, 0.70, 0.50),
    Category("electronics", 0.03, 150.0, 0.90, 0.65),
    Category("marketplace", 0.11, 34.0, 0.90, 1.0),
    Category("gaming", 0.04, 12.0, 0.80, 1.0),
    Category("streaming", 0.03, 11.0, 0.30, 1.0),
    Category("travel", 0.02, 240.0, 0.80, 0.85),
    Category("cash", 0.05, 80.0, 0.60, 0.0),
    Category("transfer", 0.06, 110.0, 1.00, 1.0),
)
CATEGORY = {c.name: i for i, c in enumerate(CATEGORIES)}

# ISO 3166-1 alpha-2, currency, share of accounts at home there, share of cross-border online sales, of trips, of fraud.
_COUNTRIES = (
    ("DE", "EUR", 0.22, 0.12, 0.12, 0.04),
    ("FR", "EUR", 0.19, 0.06, 0.16, 0.06),
    ("GB", "GBP", 0.20, 0.16, 0.10, 0.08),
    ("ES", "EUR", 0.13, 0.03, 0.17, 0.05),
    ("IT", "EUR", 0.13, 0.03, 0.14, 0.05),
    ("NL", "EUR", 0.09, 0.08, 0.05, 0.05),
    ("IE", "EUR", 0.04, 0.14, 0.03, 0.05),
    ("US", "USD", 0.0, 0.22, 0.08, 0.20),
    ("CN", "CNY", 0.0, 0.13, 0.01, 0.06),
    ("TR", "TRY", 0.0, 0.01, 0.07, 0.08),
    ("TH", "THB", 0.0, 0.0, 0.04, 0.07),
    ("BR", "BRL", 0.0, 0.0, 0.01, 0.09),
    ("RO", "RON", 0.0, 0.01, 0.01, 0.07),
    ("NG", "NGN", 0.0, 0.01, 0.01, 0.05),
)
COUNTRIES = tuple(row[0] for row in _COUNTRIES)
CURRENCIES = tuple(row[1] for row in _COUNTRIES)
HOME_SHARE, ONLINE_SHARE, TRIP_SHARE, FRAUD_SHARE = (
    np.array([row[k] for row in _COUNTRIES], dtype=np.float64) for k in (2, 3, 4, 5)
)

MERCHANTS_MIN = len(COUNTRIES) * len(CATEGORIES)

# Weights by hour of the UTC day of office workers, early risers, evening people and night workers; and their shares.
CHRONOTYPES = np.array(
    [
        [1, 1, 1, 1, 1, 3, 8, 18, 22, 20, 22, 30, 42, 34, 26, 26, 32, 46, 50, 42, 30, 20, 10, 4],
        [1, 1, 1, 2, 8, 22, 36, 42, 44, 42, 38, 36, 34, 28, 24, 24, 26, 26, 20, 12, 6, 3, 2, 1],
        [6, 3, 1, 1, 1, 1, 2, 5, 10, 14, 18, 22, 28, 28, 26, 26, 30, 38, 46, 52, 52, 46, 34, 16],
        [30, 26, 22, 20, 18, 20, 22, 16, 8, 4, 3, 4, 6, 8, 12, 16, 18, 20, 22, 24, 28, 32, 34, 34],
    ],
    dtype=np.float64,
)
CHRONOTYPE_SHARE = np.array([0.52, 0.2, 0.22, 0.06])
_PROFILES = CHRONOTYPES / CHRONOTYPES.sum(axis=1, keepdims=True)
LEGITIMATE_HOURS: Floats = (CHRONOTYPE_SHARE[:, None] * _PROFILES).sum(axis=0)
# Row h: cumulative share of each chronotype among the transactions of hour h.
CHRONOTYPE_BY_HOUR: Floats = np.cumsum((CHRONOTYPE_SHARE[:, None] * _PROFILES / LEGITIMATE_HOURS).T, axis=1)
LEGITIMATE_WEEKDAYS = np.array([0.94, 0.94, 0.96, 1.0, 1.12, 1.14, 0.90])
SALARY_DAYS = (25, 28)
SALARY_FACTOR = 1.2

_QUANTILES = 4096
NORMAL: Floats = np.round(ndtri((np.arange(_QUANTILES) + 0.5) / _QUANTILES), 6)


def normal(u: Floats) -> Floats:
    """Standard normal values from uniform draws: 4,096 equally likely quantiles, so within ±3.7."""
    return NORMAL[(u * _QUANTILES).astype(np.int64)]


def lognormal(u: Floats, sigma: float) -> Floats:
    """Log-normal values with median 1 and log-deviation `sigma` from uniform draws."""
    exact: Floats = np.exp(np.multiply(NORMAL, sigma, dtype=np.float64)).astype(np.float64)
    table = np.round(exact, 6)
    return table[(u * _QUANTILES).astype(np.int64)]


def pick(u: Floats, shares: Floats) -> Ints:
    """Indices drawn with probabilities proportional to `shares` (k,), from uniform draws (n,) → int64 (n,)."""
    cumulative = np.cumsum(shares)
    index: Ints = np.minimum(np.searchsorted(cumulative, u * cumulative[-1], side="right"), len(shares) - 1)
    return index.astype(np.int64)


def hashed(*parts: Ints | int) -> Floats:
    """Uniform values in [0, 1) that depend only on the given integers (SplitMix64, Steele et al. 2014), float64 (n,).

    It gives an account a habit (a favourite shop, a trip in some week) without storing it.
    """
    state: NDArray[np.uint64] = np.full(1, 0x9E3779B97F4A7C15, dtype=np.uint64)
    for part in parts:
        number = np.atleast_1d(part).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state = number + (state ^ (state >> np.uint64(29)))
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return np.multiply((state >> np.uint64(11)).astype(np.float64), 2.0**-53)


def hour_of(times: Ints) -> Ints:
    """Hour of the UTC day of epoch milliseconds."""
    return np.remainder(np.floor_divide(times, HOUR_MS), 24)


def day_of_month(times: Ints) -> Ints:
    """Day of the month, 1…31, UTC, of epoch milliseconds."""
    days = (times // DAY_MS).astype("datetime64[D]")
    day: Ints = (days - days.astype("datetime64[M]")).astype(np.int64) + 1
    return day


class Clock:
    """Maps a share of the activity in [start, end) to a time: hours with more weight have more activity."""

    def __init__(self, start: int, end: int, hours: Floats, weekdays: Floats, salary: bool = False) -> None:
        """start, end: epoch ms. hours (24,), weekdays (7,) from Monday: weights. salary: busier at the month's end."""
        self.start = start
        self.end = end
        first = start // HOUR_MS * HOUR_MS
        edges = np.arange(first, end + HOUR_MS, HOUR_MS, dtype=np.int64)
        edges = np.concatenate([[start], edges[(edges > start) & (edges < end)], [end]]).astype(np.int64)
        begin = edges[:-1]
        # 1970-01-01 was a Thursday.
        weight = hours[hour_of(begin)] * weekdays[(begin // DAY_MS + 3) % 7] * ((edges[1:] - begin) / HOUR_MS)
        if salary:
            day = day_of_month(begin)
            weight = weight * np.where((day >= SALARY_DAYS[0]) & (day <= SALARY_DAYS[1]), SALARY_FACTOR, 1.0)
        self._edges = edges
        self._weights = weight
        self._cumulative = np.concatenate([[0.0], np.cumsum(weight)])

    def at(self, quantiles: Floats) -> Ints:
        """Times (epoch ms, int64) by which these shares (in [0, 1)) of the activity have occurred; monotone."""
        mass = quantiles * self._cumulative[-1]
        cell = np.clip(np.searchsorted(self._cumulative, mass, side="right") - 1, 0, len(self._weights) - 1)
        share = (mass - self._cumulative[cell]) / self._weights[cell]
        width = self._edges[cell + 1] - self._edges[cell]
        times: Ints = np.minimum(self._edges[cell] + (share * width).astype(np.int64), self._edges[cell + 1] - 1)
        return times


@dataclass(frozen=True)
class World:
    """Accounts (a,) and merchants (m,) as columns: accounts sorted by chronotype, merchants by country and category."""

    home: Ints
    scale: Floats
    online: Floats
    traveller: NDArray[np.bool_]
    devices_own: Ints
    cards_own: Ints
    activity: Floats  # cumulative, (a,)
    chronotype_edges: Floats  # activity at the chronotypes' bounds, (5,)
    merchant_country: Ints
    merchant_category: Ints
    group_start: Ints  # (countries × categories + 1,)
    devices: int
    seed: int

    @property
    def accounts(self) -> int:
        return len(self.home)

    def active_account(self, u: Floats, low: Floats | float = 0.0, high: Floats | float = 1.0) -> Ints:
        """Accounts drawn by activity; low and high bound the cumulative share of activity to draw from."""
        return np.minimum(np.searchsorted(self.activity, low + u * (high - low), side="right"), self.accounts - 1)

    def merchant(self, country: Ints, category: Ints, u: Floats) -> Ints:
        """Merchants of the groups; the first of each group is by far the most likely: rank = size · u³ (Zipf-like)."""
        group = country * len(CATEGORIES) + category
        start = self.group_start[group]
        size = self.group_start[group + 1] - start
        rank: Ints = np.minimum((size * (u * u * u)).astype(np.int64), size - 1)
        merchant: Ints = start + rank
        return merchant

    def own_device(self, account: Ints, slot: Ints, times: Ints) -> Ints:
        """The account's device number `slot` at that time; each is replaced about every 200 days."""
        age = (times + (hashed(account, slot, self.seed, 3) * (200 * DAY_MS)).astype(np.int64)) // (200 * DAY_MS)
        return (hashed(account, slot, age, self.seed) * self.devices).astype(np.int64)


def build(seed: int, accounts: int, merchants: int, devices: int) -> World:
    """The world of a seed. merchants ≥ MERCHANTS_MIN, so that every country has every category."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(0,))))
    u = rng.random((7, accounts))
    bounds = np.rint(np.cumsum(CHRONOTYPE_SHARE) * accounts).astype(np.int64)
    weight = lognormal(u[1], 0.8)
    activity = np.cumsum(weight)
    edges = np.concatenate([[0.0], activity[np.maximum(bounds, 1) - 1] / activity[-1]])
    country_share = 0.85 * HOME_SHARE + 0.15 / len(COUNTRIES)
    # Online categories need fewer, larger merchants; every group has at least one.
    category_share = np.array([c.share * (0.4 if c.online == 1.0 else 1.0) for c in CATEGORIES])
    share = np.cumsum(np.outer(country_share, category_share).ravel())
    exact = share / share[-1] * (merchants - MERCHANTS_MIN)
    group_start = np.concatenate([[0], np.rint(exact).astype(np.int64) + np.arange(1, MERCHANTS_MIN + 1)])
    group = np.repeat(np.arange(MERCHANTS_MIN), np.diff(group_start))
    return World(
        home=pick(u[0], HOME_SHARE),
        scale=lognormal(u[2], 0.45),
        online=0.5 + u[3],
        traveller=u[4] < 0.12,
        devices_own=1 + (u[5] * 3).astype(np.int64),
        cards_own=1 + (u[6] < 0.35).astype(np.int64),
        activity=activity / activity[-1],
        chronotype_edges=edges,
        merchant_country=group // len(CATEGORIES),
        merchant_category=group % len(CATEGORIES),
        group_start=group_start.astype(np.int64),
        devices=devices,
        seed=seed,
    )
