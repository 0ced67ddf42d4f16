"""How honest accounts spend: legitimate transactions, row by row, and legitimate bursts.

This module defines what "normal" looks like, including what makes it hard to tell from fraud: trips abroad, large
purchases, new phones, shared addresses and bursts of small payments. It knows nothing about scenarios or Kafka.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from core.times import DAY_MS, WEEK_MS
from sources.world import (
    ATM,
    CARD_PRESENT,
    CATEGORIES,
    CATEGORY,
    CHRONOTYPE_BY_HOUR,
    ONLINE,
    ONLINE_SHARE,
    SALARY_DAYS,
    TRANSFER,
    TRIP_SHARE,
    Clock,
    Floats,
    Ints,
    World,
    day_of_month,
    hashed,
    hour_of,
    lognormal,
    pick,
)

CENTS_MIN = 50
IP_POOL = 65_536
IP_MOBILE = 4_096  # the first addresses of the pool: shared by phones of many accounts
IP_HOSTING = 512  # the addresses after the pool: hosting providers and anonymisers

_CATEGORY_SHARE = np.array([c.share for c in CATEGORIES])
_ONLINE = np.array([c.online for c in CATEGORIES])
_AMOUNT = np.stack([c.median * lognormal((np.arange(4096) + 0.5) / 4096, c.sigma) for c in CATEGORIES])


@dataclass
class Rows:
    """Transactions as index columns, int64 (n,) each. −1 in device and ip: none. verdict_ms: ms after the transaction.

    scenario 0 is legitimate; others are indices into sources.scenarios.SCENARIOS. source: index into its SOURCES.
    """

    time: Ints
    account: Ints
    merchant: Ints
    channel: Ints
    cents: Ints
    device: Ints
    ip: Ints
    card: Ints
    scenario: Ints
    source: Ints
    verdict_ms: Ints

    def __len__(self) -> int:
        return len(self.time)

    def take(self, index: Ints | slice) -> Rows:
        """These rows, in this order."""
        return Rows(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def concatenated(parts: list[Rows]) -> Rows:
    """All rows of the parts, in order."""
    return Rows(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Rows)})


def by_time(rows: Rows) -> Rows:
    """The same rows in order of time; equal times keep their order."""
    return rows.take(np.argsort(rows.time, kind="stable"))


def to_cents(amounts: Floats) -> Ints:
    """Amounts in major units as whole cents, at least CENTS_MIN."""
    return np.maximum(np.rint(amounts * 100.0).astype(np.int64), CENTS_MIN)


def typical_amount(world: World, account: Ints, category: Ints, u: Floats) -> Floats:
    """What this account usually pays in this category (log-normal), major units."""
    scale = np.where(category == CATEGORY["transit"], 1.0, world.scale[account])
    return _AMOUNT[category, (u * 4096).astype(np.int64)] * scale


def own_card(world: World, account: Ints, u: Floats) -> Ints:
    """The card used: accounts that have a second one use it for a sixth of their payments."""
    second = (u < 1 / 6) & (world.cards_own[account] == 2)
    card: Ints = account * 2 + second.astype(np.int64)
    return card


def own_ip(world: World, account: Ints, times: Ints, u: Floats, v: Floats) -> Ints:
    """Mostly the home address (renewed every 60 days) or a shared mobile one, rarely any other or a hosting one."""
    home = (hashed(account, times // (60 * DAY_MS), world.seed, 5) * IP_POOL).astype(np.int64)
    mobile = (v * IP_MOBILE).astype(np.int64)
    elsewhere = (v * IP_POOL).astype(np.int64)
    hosting = IP_POOL + (v * IP_HOSTING).astype(np.int64)
    address: Ints = np.select([u < 0.68, u < 0.93, u < 0.98], [home, mobile, elsewhere], hosting)
    return address


def own_device(world: World, account: Ints, times: Ints, u: Floats) -> Ints:
    """Mostly the account's first device, else one of its others."""
    slot = np.where(u < 0.75, 0, (u * 64).astype(np.int64) % world.devices_own[account])
    return world.own_device(account, slot, times)


def trip(world: World, account: Ints, times: Ints) -> Ints:
    """The country (index) that the account is visiting, −1 at home. Trips last a week; some accounts travel often."""
    week = times // WEEK_MS
    away = hashed(account, week, world.seed, 7) < np.where(world.traveller[account], 0.15, 0.006)
    destination = pick(hashed(account, week, world.seed, 8), TRIP_SHARE)
    return np.where(away & (destination != world.home[account]), destination, -1)


def usual_merchant(world: World, account: Ints, country: Ints, category: Ints, u: Floats, v: Floats) -> Ints:
    """One of the account's three favourites in that country and category, or, one time in six, any."""
    favourite = np.select([u < 0.5, u < 0.73, u < 0.84], [0, 1, 2], 3)
    habit = hashed(account, category, favourite, world.seed)
    return world.merchant(country, category, np.where(favourite < 3, habit, v))


def legitimate(world: World, clock: Clock, rng: np.random.Generator, first: int, size: int, total: int) -> Rows:
    """Rows first…first+size−1 of `total` legitimate ones, in order of time (row i is at activity (i + u) / total)."""
    u = rng.random((17, size))
    times = clock.at((first + np.arange(size) + u[0]) / total)
    types = CHRONOTYPE_BY_HOUR[hour_of(times)]
    chronotype = np.minimum((u[1][:, None] >= types).sum(axis=1), types.shape[1] - 1)
    edges = world.chronotype_edges
    account = world.active_account(u[2], edges[chronotype], edges[chronotype + 1])
    category = pick(u[3], _CATEGORY_SHARE)
    channel = np.where(u[4] < _ONLINE[category] * world.online[account], ONLINE, CARD_PRESENT)
    channel = np.where((_ONLINE[category] == 1.0) & (channel == CARD_PRESENT), ONLINE, channel)
    channel = np.where(category == CATEGORY["cash"], ATM, channel)
    channel = np.where(category == CATEGORY["transfer"], TRANSFER, channel)
    home = world.home[account]
    visiting = trip(world, account, times)
    in_person = (channel == CARD_PRESENT) | (channel == ATM)
    remote = np.where(u[5] < np.where(channel == ONLINE, 0.22, 0.04), pick(u[6], ONLINE_SHARE), home)
    country = np.where(in_person, np.where((visiting >= 0) & (u[5] < 0.93), visiting, home), remote)
    merchant = usual_merchant(world, account, country, category, u[7], u[8])
    amount = typical_amount(world, account, category, u[9])
    amount = np.where(u[10] < 0.012, amount * (3.0 + 12.0 * u[11]), amount)  # a large purchase, quite legitimate
    amount = np.where(in_person & (visiting >= 0), amount * 1.4, amount)
    day = day_of_month(times)
    amount = np.where((day >= SALARY_DAYS[0]) & (day <= SALARY_DAYS[1]), amount * 1.1, amount)
    amount = np.where(channel == ATM, np.maximum(np.rint(amount / 10.0), 1.0) * 10.0, amount)
    none = np.full(size, -1, dtype=np.int64)
    zero = np.zeros(size, dtype=np.int64)
    return Rows(
        time=times,
        account=account,
        merchant=merchant,
        channel=channel.astype(np.int64),
        cents=to_cents(amount),
        device=np.where(in_person, none, own_device(world, account, times, u[12])),
        ip=np.where(in_person, none, own_ip(world, account, times, u[13], u[14])),
        card=np.where(channel == TRANSFER, none, own_card(world, account, u[15])),
        scenario=zero,
        source=zero,
        verdict_ms=zero,
    )


def bursts(world: World, clock: Clock, rng: np.random.Generator, total: int) -> Rows:
    """Legitimate bursts, `total` rows: micro-payments at one shop within minutes, or a tour of many shops."""
    sizes, episode = episodes(rng, total, 3, 9)
    count = len(sizes)
    e = rng.random((8, count))
    u = rng.random((7, total))
    account = world.active_account(e[0])[episode]
    micro = (e[1] < 0.55)[episode]
    kinds = np.array([CATEGORY[c] for c in ("gaming", "marketplace", "transit")])
    tour = np.array([CATEGORY[c] for c in ("clothing", "marketplace", "restaurant", "electronics", "grocery")])
    category = np.where(micro, kinds[(e[2] * 3).astype(np.int64)][episode], tour[(u[0] * 5).astype(np.int64)])
    channel = np.where((_ONLINE[category] == 1.0) | (~micro & (e[3] < 0.4)[episode]), ONLINE, CARD_PRESENT)
    span_ms = np.where(micro, 60_000 + 1_500_000 * e[4][episode], 1_800_000 + 10_000_000 * e[4][episode])
    times = spread(clock, clock.at(e[5]), episode, np.cumsum(sizes), u[1], span_ms)
    shop = np.where(micro, e[6][episode], u[2])
    favourite = np.where(micro, e[7][episode], u[3])
    merchant = usual_merchant(world, account, world.home[account], category, favourite, shop)
    amount = np.where(micro, 0.5 + 6.0 * u[4] * u[4], typical_amount(world, account, category, u[4]))
    online = channel == ONLINE
    none = np.full(total, -1, dtype=np.int64)
    zero = np.zeros(total, dtype=np.int64)
    return Rows(
        time=times,
        account=account,
        merchant=merchant,
        channel=channel.astype(np.int64),
        cents=to_cents(amount),
        device=np.where(online, own_device(world, account, times, e[2][episode]), none),
        ip=np.where(online, own_ip(world, account, times, e[3][episode], e[7][episode]), none),
        card=own_card(world, account, e[1][episode]),
        scenario=zero,
        source=zero,
        verdict_ms=zero,
    )


def episodes(rng: np.random.Generator, total: int, low: int, high: int) -> tuple[Ints, Ints]:
    """Episode sizes, uniform in low…high, that add up to `total` (the last is cut), and each row's episode (total,)."""
    sizes = low + (rng.random(total // low + 1) * (high - low + 1)).astype(np.int64)
    count = int(np.searchsorted(np.cumsum(sizes), total)) + 1 if total else 0
    sizes = sizes[:count]
    if count:
        sizes[-1] -= int(sizes.sum()) - total
    return sizes, np.repeat(np.arange(count), sizes)


def spread(clock: Clock, start: Ints, episode: Ints, ends: Ints, u: Floats, span_ms: Floats | Ints) -> Ints:
    """Times of episodes' rows: within `span_ms` (per row) of their start, ascending in each, within the clock's range.

    ends: the cumulative sizes. An episode that would pass the clock's end is compressed to fit.
    """
    room = clock.end - 1 - start[episode]
    offsets = (u * np.minimum(span_ms, room)).astype(np.int64)
    order = np.lexsort((offsets, episode))  # rows are already grouped by episode
    offsets = offsets[order]
    first = np.repeat(np.concatenate([[0], ends[:-1]]), np.diff(np.concatenate([[0], ends]))) if len(ends) else ends
    offsets = np.where(np.arange(len(offsets)) == first, 0, offsets)
    return start[episode] + offsets
