"""The synthetic source: a seeded stream of honest spending with planned fraud in it (docs/synthetic.md).

`SyntheticConfig` is the only input: equal configurations give equal bytes on every run, machine and chunk size. No
clock is read. Rows are generated in blocks of fixed size, each from its own generator, and merged with the plan by
time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import polars as pl

from core.errors import BadInput
from core.times import DAY_MS
from sources.behaviour import (
    IP_HOSTING,
    IP_MOBILE,
    IP_POOL,
    Rows,
    bursts,
    by_time,
    concatenated,
    legitimate,
)
from sources.scenarios import (
    DEFAULT_MIX,
    DRIFTED_MIX,
    EVENING_HOURS,
    LONGEST_DELAY,
    MORNING_HOURS,
    NIGHT_HOURS,
    SCENARIOS,
    SOURCES,
    Era,
    plan,
)
from sources.source import Source, VerdictsFor
from sources.world import (
    CATEGORIES,
    CHANNELS,
    COUNTRIES,
    CURRENCIES,
    LEGITIMATE_HOURS,
    LEGITIMATE_WEEKDAYS,
    MERCHANTS_MIN,
    Clock,
    Ints,
    World,
    build,
)

Drift = Literal["amount", "hours", "mix", "behaviour", "all"]

START_MS = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp()) * 1000  # a Monday
PER_ACCOUNT_DAY = 3.0
BURST_SHARE = 0.03
BLOCK_ROWS = 16_384
DRIFTED_AMOUNT = 0.45
DRIFTED_SPENDING = (27, 20)  # spending after "behaviour" drift, as a fraction: 1.35 times that before
_EVEN_WEEKDAYS = np.ones(7)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticConfig:
    """What to generate. Give at most two of `transactions`, `days` and `rate`; the third follows from them.

    transactions: how many. days: length in event time. rate: transactions per second of event time; by default 3 per
    account and day. start: event time of the beginning, epoch ms. devices: phones and computers of honest accounts, by
    default 3 per account. fraud_rate: share of fraudulent transactions, 0…0.5, exact to the row. mix: shares of the
    scenarios among them. drift_at: when behaviour changes, as a share of the time (0…1, exclusive), None = never.
    label_delay_days: mean time until a chargeback arrives; other reports come sooner. world: the seed of accounts,
    merchants and devices, by default `seed`; streams with the same one continue each other. Raises BadInput.
    """

    transactions: int | None = None
    days: float | None = None
    rate: float | None = None
    start: int = START_MS
    accounts: int = 2_000
    merchants: int = 2_000
    devices: int | None = None
    fraud_rate: float = 0.01
    mix: Mapping[str, float] | None = None
    drift_at: float | None = None
    drift: Drift = "all"
    label_delay_days: float = 7.0
    seed: int = 7
    world: int | None = None

    def __post_init__(self) -> None:
        bounds: tuple[tuple[str, float | None, float, float], ...] = (
            ("transactions", self.transactions, 1, 999_999_999),
            ("days", self.days, 1 / 24, 3_660),
            ("rate", self.rate, 1e-6, 1e6),
            ("start", self.start, 946_684_800_000, 3_786_912_000_000),
            ("accounts", self.accounts, 10, 999_999),
            ("merchants", self.merchants, MERCHANTS_MIN, 99_999),
            ("devices", self.devices, 10, 9_000_000),
            ("fraud_rate", self.fraud_rate, 0.0, 0.5),
            ("label_delay_days", self.label_delay_days, 0.001, 365),
            ("seed", self.seed, 0, 2**63 - 1),
            ("world", self.world, 0, 2**63 - 1),
        )
        for name, value, low, high in bounds:
            if value is not None and not low <= value <= high:
                raise BadInput(f"{name} must be between {low:,.10g} and {high:,.10g}, not {value!r}")
        if None not in (self.transactions, self.days, self.rate):
            raise BadInput("give at most two of transactions, days and rate: the third follows from them")
        if self.drift_at is not None and not 0 < self.drift_at < 1:
            raise BadInput(f"drift_at must be a share of the time, above 0 and below 1, not {self.drift_at!r}")
        if self.drift not in get_args(Drift):
            raise BadInput(f"drift must be one of {', '.join(get_args(Drift))}, not {self.drift!r}")
        if self.mix is not None:
            unknown = sorted(set(self.mix) - set(DEFAULT_MIX))
            if unknown:
                raise BadInput(f"unknown scenarios in the mix: {', '.join(unknown)}; known: {', '.join(DEFAULT_MIX)}")
            if any(not 0 <= share < 1e6 for share in self.mix.values()) or sum(self.mix.values()) <= 0:
                raise BadInput("the mix needs shares of 0 or more, and at least one above 0")
        if self.span_ms < 60_000 or self.span_ms > 3_660 * DAY_MS or not 1 <= self.total <= 999_999_999:
            raise BadInput(
                f"{self.total:,} transactions at {self.rate_per_s:g} per second of event time last "
                f"{self.span_ms / DAY_MS:g} days; the stream must last between a minute and 3,660 days"
            )

    @property
    def rate_per_s(self) -> float:
        """Transactions per second of event time, as given or by default."""
        return self.rate if self.rate is not None else self.accounts * PER_ACCOUNT_DAY / 86_400

    @property
    def total(self) -> int:
        """Transactions in the stream."""
        if self.transactions is not None:
            return self.transactions
        return round((self.days if self.days is not None else 30.0) * 86_400 * self.rate_per_s)

    @property
    def span_ms(self) -> int:
        """Length of the stream in event time, ms."""
        if self.days is not None:
            return round(self.days * DAY_MS)
        return round(self.total / self.rate_per_s * 1000)


class SyntheticStream(Source):
    """The stream of a configuration. `records`, `truth` and `tables` may be called any number of times."""

    name = "synthetic"

    def __init__(
        self, config: SyntheticConfig | None = None, *, labels: VerdictsFor = "fraud", flush_feedback: bool = False
    ) -> None:
        super().__init__(labels=labels, flush_feedback=flush_feedback)
        self.config = config if config is not None else SyntheticConfig()
        self.total: int = self.config.total
        self._end = self.config.start + self.config.span_ms

    @property
    def last(self) -> int:
        """See Source."""
        longest = round(self.config.label_delay_days * DAY_MS * LONGEST_DELAY) if self.flush_feedback else 0
        return self._end + longest

    def tables(self) -> Iterator[pl.DataFrame]:
        """See Source. Each table has about a block of rows."""
        sent = 0
        for rows in self.rows():
            yield self._table(rows, sent)
            sent += len(rows)

    def rows(self) -> Iterator[Rows]:
        """The transactions of `tables` as indices into the pools of `names`, without any text."""
        config = self.config
        planned = self._planned
        rows_total = config.total - len(planned)
        clock = Clock(config.start, self._end, LEGITIMATE_HOURS, LEGITIMATE_WEEKDAYS, salary=True)
        used = 0
        for block, first in enumerate(range(0, rows_total, BLOCK_ROWS)):
            size = min(BLOCK_ROWS, rows_total - first)
            rng = _generator(config.seed, 1, block)
            honest = legitimate(self.world, clock, rng, first, size, rows_total)
            is_last = first + size == rows_total
            until = len(planned) if is_last else int(np.searchsorted(planned.time, honest.time[-1], side="right"))
            rows = by_time(concatenated([honest, planned.take(slice(used, until))]))
            yield self._drifted(rows)
            used = until

    @cached_property
    def world(self) -> World:
        """Accounts, merchants and devices."""
        config = self.config
        devices = config.devices if config.devices is not None else 3 * config.accounts
        return build(self._world_seed, config.accounts, config.merchants, devices)

    @property
    def _world_seed(self) -> int:
        return self.config.seed if self.config.world is None else self.config.world

    @cached_property
    def _planned(self) -> Rows:
        """Everything that occurs in episodes: frauds and honest bursts, by time."""
        config = self.config
        frauds = min(round(config.total * config.fraud_rate), config.total - 1)
        quick = int(BURST_SHARE * (config.total - frauds))
        clock = Clock(config.start, self._end, LEGITIMATE_HOURS, LEGITIMATE_WEEKDAYS, salary=True)
        parts = [bursts(self.world, clock, _generator(config.seed, 2), quick)]
        before = round(frauds * config.drift_at) if config.drift_at is not None else frauds
        for number, (era, count) in enumerate(zip(self._eras(), (before, frauds - before), strict=False)):
            parts += plan(self.world, era, count, _generator(config.seed, 3, number)) if count else []
        return by_time(concatenated(parts))

    def _eras(self) -> list[Era]:
        config = self.config
        mix = dict(config.mix) if config.mix is not None else DEFAULT_MIX
        turn = self._turn if self._turn is not None else self._end
        delay_ms = round(config.label_delay_days * DAY_MS)
        eras = [self._era(config.start, turn, MORNING_HOURS, mix, 1.0, delay_ms, 0)]
        if turn < self._end:
            changes = {config.drift} if config.drift != "all" else set(get_args(Drift))
            hours = EVENING_HOURS if "hours" in changes else MORNING_HOURS
            factor = DRIFTED_AMOUNT if "amount" in changes else 1.0
            eras.append(
                self._era(turn, self._end, hours, DRIFTED_MIX if "mix" in changes else mix, factor, delay_ms, 1)
            )
        return eras

    def _era(
        self, start: int, end: int, hours: np.ndarray, mix: dict[str, float], factor: float, delay_ms: int, number: int
    ) -> Era:
        return Era(
            day=Clock(start, end, hours, _EVEN_WEEKDAYS),
            night=Clock(start, end, NIGHT_HOURS, _EVEN_WEEKDAYS),
            mix=mix,
            amount_factor=factor,
            delay_ms=delay_ms,
            seed=(self.config.seed + number) % 1000,
        )

    @property
    def _turn(self) -> int | None:
        if self.config.drift_at is None:
            return None
        return self.config.start + max(int(self.config.span_ms * self.config.drift_at), 1)

    def _drifted(self, rows: Rows) -> Rows:
        if self._turn is not None and self.config.drift in ("behaviour", "all"):
            more = (rows.time >= self._turn) & (rows.scenario == 0)
            rows.cents = np.where(more, rows.cents * DRIFTED_SPENDING[0] // DRIFTED_SPENDING[1], rows.cents)
        return rows

    @cached_property
    def names(self) -> dict[str, pl.Series]:
        """Identifiers by number; in pools of optional fields, "" comes first."""
        world = self.world
        thieves = max(world.accounts // 4, 8)
        return {
            "account": pl.Series([f"a{i:06d}" for i in range(world.accounts)]),
            "merchant": pl.Series([f"m{i:05d}" for i in range(len(world.merchant_country))]),
            "device": pl.Series(["", *(f"d{i:07d}" for i in _shuffled(world.devices + thieves, self._world_seed))]),
            "ip": pl.Series(["", *(_address(i) for i in range(IP_POOL + IP_HOSTING))]),
            "card": pl.Series(["", *(f"c{i // 2:06d}{i % 2 + 1}" for i in range(2 * world.accounts))]),
            "category": pl.Series([c.name for c in CATEGORIES]),
            "country": pl.Series(COUNTRIES),
            "currency": pl.Series(CURRENCIES),
            "channel": pl.Series(CHANNELS),
            "scenario": pl.Series(SCENARIOS),
            "source": pl.Series(SOURCES),
        }

    def transaction_id(self, number: int) -> str:
        """The ID of a transaction by its number in the stream, from 0."""
        # The seed is part of the ID: two streams in one topic must not look like repeats of each other.
        return f"t{self.config.seed}-{number:09d}"

    def _table(self, rows: Rows, first: int) -> pl.DataFrame:
        world = self.world

        def named(pool: str, index: Ints) -> pl.Series:
            return self.names[pool].gather(pl.Series(index))

        fraud = rows.scenario > 0
        delay_ms = round(self.config.label_delay_days * DAY_MS)
        return pl.DataFrame(
            {
                "transaction_id": [self.transaction_id(i) for i in range(first, first + len(rows))],
                "account_id": named("account", rows.account),
                "amount": rows.cents / 100.0,
                "occurred_at": rows.time,
                "currency": named("currency", world.home[rows.account]),
                "merchant_id": named("merchant", rows.merchant),
                "merchant_category": named("category", world.merchant_category[rows.merchant]),
                "country": named("country", world.merchant_country[rows.merchant]),
                "channel": named("channel", rows.channel),
                "device_id": named("device", rows.device + 1),
                "ip": named("ip", rows.ip + 1),
                "card_id": named("card", rows.card + 1),
                "is_fraud": fraud,
                "scenario": named("scenario", rows.scenario),
                "verdict_at": rows.time + np.where(fraud, rows.verdict_ms, delay_ms),
                "verdict_source": named("source", rows.source),
            }
        )


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def _shuffled(count: int, seed: int) -> list[int]:
    """0…count−1 in an order that does not tell honest devices from others."""
    order: list[int] = np.argsort(_generator(seed, 4).random(count), kind="stable").tolist()
    return order


def _address(number: int) -> str:
    """An address from unassigned ranges: 100.64/10 mobile, 10/8 at home, 198.18/15 hosting."""
    if number < IP_MOBILE:
        return f"100.{64 + number // 1024 % 64}.{number // 32 % 32 * 8}.{number % 32 * 8 + 5}"
    if number < IP_POOL:
        return f"10.{number * 7 % 256}.{number // 256}.{number % 256}"
    return f"198.{18 + number % 2}.{number // 2 % 256}.{number * 37 % 254 + 1}"
