"""Fraud: five scenarios, each a plan of transactions with signals of its own, and when and by whom it is reported.

A plan is drawn at once for an entire era (a span of time with one fraud behaviour). sources.synthetic merges its rows
into the honest stream. Delays scale with the label delay, the mean time until a chargeback arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from core.times import DAY_MS, HOUR_MS, MINUTE_MS
from sources.behaviour import (
    IP_HOSTING,
    IP_POOL,
    Rows,
    episodes,
    own_card,
    own_device,
    own_ip,
    spread,
    to_cents,
    typical_amount,
    usual_merchant,
)
from sources.world import (
    ATM,
    CARD_PRESENT,
    CATEGORY,
    FRAUD_SHARE,
    ONLINE,
    TRANSFER,
    Clock,
    Floats,
    Ints,
    World,
    pick,
)

SCENARIOS = (
    "",
    "stolen_card",
    "account_takeover",
    "card_testing",
    "compromised_terminal",
    "friendly_fraud",
)
DEFAULT_MIX = {
    "stolen_card": 0.30,
    "account_takeover": 0.20,
    "card_testing": 0.25,
    "compromised_terminal": 0.18,
    "friendly_fraud": 0.07,
}
DRIFTED_MIX = {
    "stolen_card": 0.15,
    "account_takeover": 0.40,
    "card_testing": 0.10,
    "compromised_terminal": 0.15,
    "friendly_fraud": 0.20,
}
SOURCES = ("analyst", "customer", "chargeback", "early_fraud_warning")
_ANALYST, CUSTOMER, CHARGEBACK, WARNING = range(4)
LONGEST_DELAY = 4.0
"""The latest verdict on a fraud, in label delays."""

# Weights by hour of the UTC day. Fraud peaks at 8 in the morning; a takeover happens while its victim sleeps.
MORNING_HOURS = np.array(
    [7, 6, 6, 6, 7, 9, 14, 26, 40, 24, 15, 12, 11, 10, 10, 10, 11, 12, 12, 12, 11, 10, 9, 8], dtype=np.float64
)
NIGHT_HOURS = np.array(
    [22, 26, 28, 26, 20, 12, 8, 8, 14, 8, 5, 4, 4, 4, 4, 4, 4, 5, 6, 7, 8, 10, 13, 17], dtype=np.float64
)
EVENING_HOURS = np.roll(MORNING_HOURS, 13)  # drift moves the morning peak to 21 h


@dataclass(frozen=True)
class Era:
    """A span with one fraud behaviour. amount_factor scales what fraudsters take; delay_ms is the label delay."""

    day: Clock
    night: Clock
    mix: dict[str, float]
    amount_factor: float
    delay_ms: int
    seed: int


def plan(world: World, era: Era, total: int, rng: np.random.Generator) -> list[Rows]:
    """`total` fraudulent rows, divided by the era's mix (largest remainders), one Rows per scenario, not sorted."""
    names = list(_PLANS)
    exact = np.cumsum([era.mix.get(name, 0.0) for name in names])
    bounds = np.rint(exact / exact[-1] * total).astype(np.int64)
    quotas = np.diff(np.concatenate([[0], bounds])).tolist()
    return [_PLANS[name](world, era, quota, rng) for name, quota in zip(names, quotas, strict=True) if quota]


def _delay(era: Era, low: float, high: float, u: Floats) -> Ints:
    return (era.delay_ms * (low + (high - low) * u)).astype(np.int64)


def _rows(
    scenario: str,
    *,
    time: Ints,
    account: Ints,
    merchant: Ints,
    channel: Ints,
    amount: Floats,
    device: Ints,
    ip: Ints,
    card: Ints,
    source: Ints | int,
    verdict_ms: Ints,
) -> Rows:
    size = len(time)
    in_person = (channel == CARD_PRESENT) | (channel == ATM)
    amount = np.where(channel == ATM, np.maximum(np.rint(amount / 10.0), 1.0) * 10.0, amount)
    return Rows(
        time=time,
        account=account,
        merchant=merchant,
        channel=channel.astype(np.int64),
        cents=to_cents(amount),
        device=np.where(in_person, -1, device),
        ip=np.where(in_person, -1, ip),
        card=np.where(channel == TRANSFER, -1, card),
        scenario=np.full(size, SCENARIOS.index(scenario), dtype=np.int64),
        source=np.broadcast_to(np.asarray(source, dtype=np.int64), (size,)),
        verdict_ms=np.maximum(verdict_ms, MINUTE_MS),
    )


def _foreign_device(world: World, u: Floats) -> Ints:
    """A device that no honest account owns, numbered after theirs. There are few, so several accounts see the same."""
    return world.devices + (u * max(world.accounts // 4, 8)).astype(np.int64)


def _hosting_or(own: Ints, hosted: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], u: Floats) -> Ints:
    return np.where(hosted, IP_POOL + (u * IP_HOSTING).astype(np.int64), own)


def stolen_card(world: World, era: Era, total: int, rng: np.random.Generator) -> Rows:
    """A card spent by a thief for up to 18 hours: larger amounts, new merchants, two thirds of them abroad."""
    sizes, episode = episodes(rng, total, 3, 9)
    e = rng.random((7, len(sizes)))
    u = rng.random((9, total))
    account = world.active_account(e[0])[episode]
    thief = np.where(e[1] < 0.65, pick(e[2], FRAUD_SHARE), world.home[world.active_account(e[0])])[episode]
    kinds = np.array([CATEGORY[c] for c in ("electronics", "clothing", "marketplace", "travel", "fuel", "grocery")])
    category = kinds[pick(u[0], np.array([0.25, 0.2, 0.25, 0.08, 0.12, 0.1]))]
    cash = u[1] < 0.06
    category = np.where(cash, CATEGORY["cash"], category)
    online = (u[1] > 0.5) & (category != CATEGORY["fuel"]) & ~cash | (category == CATEGORY["marketplace"])
    channel = np.where(cash, ATM, np.where(online, ONLINE, CARD_PRESENT))
    time = spread(era.day, era.day.at(e[3]), episode, np.cumsum(sizes), u[2], (0.5 + 17.5 * e[4][episode]) * HOUR_MS)
    own = own_device(world, account, time, u[3])
    customer = (e[6] < 0.6)[episode]
    return _rows(
        "stolen_card",
        time=time,
        account=account,
        merchant=world.merchant(thief, category, u[4]),
        channel=channel,
        amount=typical_amount(world, account, category, u[5]) * (2.2 + 4.0 * u[6]) * era.amount_factor,
        device=np.where(u[3] < 0.9, _foreign_device(world, e[5])[episode], own),
        ip=_hosting_or((u[7] * IP_POOL).astype(np.int64), (e[5] < 0.4)[episode], u[7]),
        card=own_card(world, account, e[4][episode]),
        source=np.where(customer, CUSTOMER, CHARGEBACK),
        verdict_ms=np.where(customer, _delay(era, 0.05, 0.4, u[8]), _delay(era, 0.6, 1.4, u[8])),
    )


def account_takeover(world: World, era: Era, total: int, rng: np.random.Generator) -> Rows:
    """Somebody else logs in and drains the account within hours, mostly at night, from a new device, to a few mules."""
    sizes, episode = episodes(rng, total, 3, 10)
    e = rng.random((6, len(sizes)))
    u = rng.random((8, total))
    account = world.active_account(e[0])[episode]
    transfer = u[0] < 0.6
    shops = np.array([CATEGORY[c] for c in ("electronics", "marketplace", "gaming")])
    category = np.where(transfer, CATEGORY["transfer"], shops[(u[1] * 3).astype(np.int64)])
    start = np.where(e[1] < 0.75, era.night.at(e[2]), era.day.at(e[2]))
    time = spread(era.night, start, episode, np.cumsum(sizes), u[2], (0.5 + 7.5 * e[3][episode]) * HOUR_MS)
    # Mules: eight transfer merchants of the era's countries, reused, so their risk can be learned.
    mule = (e[4] * 8).astype(np.int64)[episode]
    mule_country = pick(((mule + 0.5) / 8.0 + era.seed * 0.37) % 1.0, FRAUD_SHARE)
    spot = np.where(transfer, ((mule * 0.618) + 0.1) % 1.0, u[3])
    country = np.where(transfer, mule_country, world.home[account])
    own = own_device(world, account, time, u[6])
    return _rows(
        "account_takeover",
        time=time,
        account=account,
        merchant=world.merchant(country, category, spot),
        channel=np.where(transfer, TRANSFER, ONLINE),
        amount=typical_amount(world, account, category, u[4]) * (1.2 + 2.8 * u[5]) * era.amount_factor,
        device=np.where((e[5] < 0.88)[episode], _foreign_device(world, e[5])[episode], own),
        ip=_hosting_or((e[4] * IP_POOL).astype(np.int64)[episode], (e[3] < 0.5)[episode], e[4][episode]),
        card=own_card(world, account, e[3][episode]),
        source=CUSTOMER,
        verdict_ms=_delay(era, 0.03, 0.35, u[7]),
    )


def card_testing(world: World, era: Era, total: int, rng: np.random.Generator) -> Rows:
    """Bursts of tiny amounts at one online shop within minutes, mostly followed by one large purchase."""
    sizes, episode = episodes(rng, total, 5, 16)
    e = rng.random((8, len(sizes)))
    u = rng.random((4, total))
    ends = np.cumsum(sizes)
    account = world.active_account(e[0])[episode]
    is_last = np.zeros(total, dtype=bool)
    is_last[ends - 1] = True
    big = is_last & (e[1] < 0.7)[episode]
    kinds = np.array([CATEGORY[c] for c in ("gaming", "streaming", "marketplace")])
    category = np.where(
        big,
        np.where(u[0] < 0.6, CATEGORY["electronics"], CATEGORY["marketplace"]),
        kinds[(e[2] * 3).astype(np.int64)][episode],
    )
    # Four shops of the era, with weak checks, see most of the tests.
    shop = np.where(big, u[1], (((e[3] * 4).astype(np.int64) * 0.23 + era.seed * 0.11) % 1.0)[episode])
    country = np.where(e[4] < 0.7, world.home[world.active_account(e[0])], pick(e[4], FRAUD_SHARE))[episode]
    time = spread(era.day, era.day.at(e[5]), episode, ends, u[2], 120_000 + 1_500_000 * e[6][episode])
    time = np.minimum(time + np.where(big, (e[7][episode] * 3_000_000).astype(np.int64), 0), era.day.end - 1)
    large = typical_amount(world, account, category, u[3]) * (1.5 + 2.0 * u[1])
    return _rows(
        "card_testing",
        time=time,
        account=account,
        merchant=world.merchant(country, category, shop),
        channel=np.full(total, ONLINE),
        amount=np.where(big, large, 0.5 + 4.5 * u[3] * u[3]) * era.amount_factor,
        device=np.where((e[6] < 0.85)[episode], _foreign_device(world, e[6])[episode], -1),
        ip=_hosting_or((e[7] * IP_POOL).astype(np.int64)[episode], (e[7] < 0.6)[episode], e[6][episode]),
        card=own_card(world, account, e[1][episode]),
        source=WARNING,
        verdict_ms=_delay(era, 0.1, 0.5, u[1]),
    )


def compromised_terminal(world: World, era: Era, total: int, rng: np.random.Generator) -> Rows:
    """A shop's terminal copies cards for days: many payments there by accounts of its country are fraud."""
    sizes, episode = episodes(rng, total, 15, 45)
    e = rng.random((5, len(sizes)))
    u = rng.random((7, total))
    kinds = np.array([CATEGORY[c] for c in ("fuel", "restaurant", "clothing", "grocery")])
    category = kinds[(e[0] * 4).astype(np.int64)]
    account = world.active_account(u[0])
    country = world.home[world.active_account(e[1])]
    # Less popular shops, so that their fraud is not lost among honest sales.
    merchant = world.merchant(country, category, 0.4 + 0.6 * e[2])[episode]
    local = world.home[account] == country[episode]
    neighbour = world.active_account(u[6])
    account = np.where(local, account, np.where(world.home[neighbour] == country[episode], neighbour, account))
    length_ms = era.day.end - era.day.start
    span_ms = np.minimum((5 + 16 * e[3]) * DAY_MS, length_ms)
    begin = era.day.start + (e[4] * (length_ms - span_ms)).astype(np.int64)
    quantile = era.day.at(u[1])  # only the time of day is used
    day = ((u[2] * span_ms[episode]).astype(np.int64) + begin[episode]) // DAY_MS
    # Times before the era's first or after its last hour wrap around to the other end.
    time = era.day.start + (day * DAY_MS + quantile % DAY_MS - era.day.start) % length_ms
    amount = typical_amount(world, account, category[episode], u[3]) * (1.0 + 1.6 * u[4]) * era.amount_factor
    none = np.full(total, -1, dtype=np.int64)
    return _rows(
        "compromised_terminal",
        time=time,
        account=account,
        merchant=merchant,
        channel=np.full(total, CARD_PRESENT),
        amount=amount,
        device=none,
        ip=none,
        card=own_card(world, account, u[4]),
        source=WARNING,
        verdict_ms=_delay(era, 0.1, 0.5, u[5]),
    )


def friendly_fraud(world: World, era: Era, total: int, rng: np.random.Generator) -> Rows:
    """The customer buys, then disputes: own device, usual shops, somewhat larger amounts. Mostly undetectable."""
    u = rng.random((10, total))
    account = world.active_account(u[0])
    kinds = np.array([CATEGORY[c] for c in ("electronics", "clothing", "marketplace", "gaming", "travel")])
    category = kinds[(u[1] * 5).astype(np.int64)]
    time = era.day.at(u[2])
    return _rows(
        "friendly_fraud",
        time=time,
        account=account,
        merchant=usual_merchant(world, account, world.home[account], category, u[3], u[4]),
        channel=np.full(total, ONLINE),
        amount=typical_amount(world, account, category, u[5]) * 1.8 * era.amount_factor,
        device=own_device(world, account, time, u[6]),
        ip=own_ip(world, account, time, u[7], u[8]),
        card=own_card(world, account, u[9]),
        source=CHARGEBACK,
        verdict_ms=_delay(era, 1.0, LONGEST_DELAY, u[9]),
    )


_PLANS: dict[str, Callable[[World, Era, int, np.random.Generator], Rows]] = {
    "stolen_card": stolen_card,
    "account_takeover": account_takeover,
    "card_testing": card_testing,
    "compromised_terminal": compromised_terminal,
    "friendly_fraud": friendly_fraud,
}
