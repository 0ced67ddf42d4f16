"""The delay that no detector of drift can beat, for each change that `benchmarks.drift` simulates.

    python -m benchmarks.drift_bounds              the table for 100, 600 and 2,000 accounts
    python -m benchmarks.drift_bounds --oracle 20  and what such a detector of amounts tells in 20 streams of each size

A detector whose mean time to a false alarm is γ needs at least about ln γ nats of information after the change (Lorden
1971; Page's CUSUM of log-likelihood ratios attains it: Moustakides 1986). The mean information of a day is the number
of independent observations times the Kullback–Leibler divergence of their distributions after and before the change.
Here the detector is granted more than any log holds: both distributions exactly, which of the changes it is, the whole
error budget (γ = horizon / α), each fraud's kind, what its account and its category usually cost, and which frauds are
one episode. In one column it is told a fraud as it happens, in the other when it is reported.

    behaviour  amounts of honest payments, each beside its account and category (log-normal)
    devices    whether an account-day has the value
    amount     amounts of frauds, by kind and category
    hours      the hour of each independent draw: the start of an episode, or each payment at a copied terminal
    mix        the number of episodes of each kind (Poisson)

"all" is the sum. A look a day rounds up to whole days.

The oracle is Page's CUSUM of the log-likelihood ratios of reported frauds' amounts, one look a day, whose threshold is
the one that 5 % of the streams without drift exceed in eight weeks. It is told the shift, each fraud's kind, and what
its account and category usually cost, and watches nothing else.
"""

from __future__ import annotations

import argparse
import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.drift_streams import DAYS_AFTER, DAYS_CALM, FIRST, TURN, source
from core.times import DAY_MS
from learners.drift.policy import DriftConfig
from sources.behaviour import Rows, concatenated
from sources.scenarios import (
    DEFAULT_MIX,
    DRIFTED_MIX,
    EVENING_HOURS,
    MORNING_HOURS,
    NIGHT_HOURS,
    SCENARIOS,
    Era,
    plan,
)
from sources.synthetic import DRIFTED_AMOUNT, DRIFTED_SPENDING, PER_ACCOUNT_DAY, START_MS, SyntheticConfig
from sources.world import CATEGORIES, Clock, World, build

FRAUDS = 200_000
EPISODE_ROWS = {"stolen_card": 6.0, "account_takeover": 6.5, "card_testing": 10.5}
"""Mean payments of an episode; each payment of other kinds is drawn by itself."""
DAY_SHARE = {"account_takeover": 0.25}
"""The share of a kind's hours that the change moves; 1 for others."""
DEVICES = (0.006, 0.08)
DAYS_MAX = 400
EDGES = np.linspace(-8.0, 10.0, 181)
"""Of ln(amount / what the account usually pays)."""
Floats = NDArray[np.float64]


def divergence(after: Floats, before: Floats) -> float:
    """Kullback–Leibler divergence of two histograms, nats; each bin's count + 0.5."""
    p, q = (after + 0.5) / (after + 0.5).sum(), (before + 0.5) / (before + 0.5).sum()
    return float((p * np.log(p / q)).sum())


def needed(config: DriftConfig) -> float:
    """Nats until an alarm whose mean time to a false alarm is the horizon over α, days."""
    return float(np.log(config.horizon_ms / DAY_MS / config.alpha))


@cache
def _frauds() -> tuple[World, dict[str, Rows], dict[str, Rows]]:
    """(world, frauds by kind, the same with smaller amounts)."""
    world = build(1, 2_000, 2_000, 6_000)
    found = []
    for seed, factor in enumerate((1.0, DRIFTED_AMOUNT)):
        days = [Clock(START_MS, START_MS + 2_000 * DAY_MS, hours, np.ones(7)) for hours in (MORNING_HOURS, NIGHT_HOURS)]
        delay_ms = round(SyntheticConfig().label_delay_days * DAY_MS)
        era = Era(day=days[0], night=days[1], mix=DEFAULT_MIX, amount_factor=factor, delay_ms=delay_ms, seed=7)
        rows = plan(world, era, FRAUDS, np.random.Generator(np.random.PCG64(seed)))
        found.append(dict(zip(DEFAULT_MIX, rows, strict=True)))
    return world, found[0], found[1]


def _amount_nats(kind: str) -> float:
    """Nats of one fraud's amount, given its account's usual amounts and its category."""
    world, before, after = _frauds()

    def histograms(rows: Rows) -> tuple[Floats, Floats]:
        category = world.merchant_category[rows.merchant]
        relative = np.log(rows.cents / 100.0) - np.log(world.scale[rows.account])
        counts = np.stack([np.histogram(relative[category == c], EDGES)[0] for c in range(len(CATEGORIES))])
        return counts.astype(np.float64), counts.sum(axis=1) / counts.sum()

    (old, _), (new, share) = histograms(before[kind]), histograms(after[kind])
    return float(sum(share[c] * divergence(new[c], old[c]) for c in range(len(CATEGORIES)) if share[c] > 0))


def _hour_nats(kind: str) -> float:
    share = DAY_SHARE.get(kind, 1.0)
    night, old, new = (hours / hours.sum() for hours in (NIGHT_HOURS, MORNING_HOURS, EVENING_HOURS))
    before, after = ((1 - share) * night + share * each for each in (old, new))
    return float((after * np.log(after / before)).sum())


@cache
def daily(scenario: str) -> dict[str, float]:
    """Nats a day and account by kind of fraud ("": of other payments)."""
    of_frauds = PER_ACCOUNT_DAY * SyntheticConfig().fraud_rate
    whole, drifted = sum(DEFAULT_MIX.values()), sum(DRIFTED_MIX.values())
    out: dict[str, float] = {}
    if scenario in ("behaviour", "all"):
        moved = math.log(DRIFTED_SPENDING[0] / DRIFTED_SPENDING[1])
        of_one = sum(c.share * moved**2 / (2.0 * c.sigma**2) for c in CATEGORIES) / sum(c.share for c in CATEGORIES)
        out[""] = (PER_ACCOUNT_DAY - of_frauds) * of_one
    if scenario == "devices":
        p, q = np.array([1 - DEVICES[1], DEVICES[1]]), np.array([1 - DEVICES[0], DEVICES[0]])
        out[""] = (1.0 - math.exp(-PER_ACCOUNT_DAY)) * float((p * np.log(p / q)).sum())
    for kind, share in DEFAULT_MIX.items():
        rows, rows_now = of_frauds * share / whole, of_frauds * DRIFTED_MIX[kind] / drifted
        size = EPISODE_ROWS.get(kind, 1.0)
        if scenario in ("amount", "all"):
            out[kind] = out.get(kind, 0.0) + rows * _amount_nats(kind)
        if scenario in ("hours", "all"):
            out[kind] = out.get(kind, 0.0) + rows / size * _hour_nats(kind)
        if scenario in ("mix", "all"):
            old, new = rows / size, rows_now / size
            out[kind] = out.get(kind, 0.0) + new * math.log(new / old) - new + old
    return out


def bound(accounts: int, scenario: str, as_reported: bool, config: DriftConfig | None = None) -> float:
    """The least mean delay in hours, not rounded to looks; infinite if `DAYS_MAX` are not enough. as_reported: frauds
    are known when they are reported, rather than at once.
    """
    hours = np.arange(1, DAYS_MAX * 24 + 1)
    gathered = np.zeros(len(hours))
    for kind, nats in daily(scenario).items():
        known = np.ones(len(hours))
        if as_reported and kind:
            delays = np.sort(_frauds()[1][kind].verdict_ms) / (DAY_MS / 24)
            known = np.searchsorted(delays, hours - 0.5) / len(delays)
        gathered += accounts * nats / 24.0 * np.cumsum(known)
    enough = np.flatnonzero(gathered >= needed(config or DriftConfig()))
    return float(hours[enough[0]]) if len(enough) else float("inf")


@cache
def _ratios() -> dict[int, Floats]:
    """ln(density after / before) of a fraud's relative amount, by kind (its code): (categories, bins)."""
    world, *both = _frauds()
    found = {}
    for kind in DEFAULT_MIX:
        densities = []
        for rows in (frauds[kind] for frauds in both):
            category, relative = world.merchant_category[rows.merchant], _relative(rows, world)
            each = [np.histogram(relative[category == c], EDGES)[0] + 0.5 for c in range(len(CATEGORIES))]
            densities.append(np.stack([counts / counts.sum() for counts in each]))
        found[SCENARIOS.index(kind)] = np.log(densities[1] / densities[0])
    return found


def _relative(rows: Rows, world: World) -> Floats:
    return np.asarray(np.log(rows.cents / 100.0) - np.log(world.scale[rows.account]))


def oracle_path(accounts: int, seed: int, scenario: str, last: int) -> Floats:
    """The oracle's CUSUM at the end of each day from `FIRST` to `last`."""
    of = source(accounts, seed, scenario)
    rows = concatenated(list(of.rows()))
    rows = rows.take(np.flatnonzero(rows.scenario > 0))
    bins = np.clip(np.searchsorted(EDGES, _relative(rows, of.world), side="right") - 1, 0, len(EDGES) - 2)
    category, ratios = of.world.merchant_category[rows.merchant], _ratios()
    known = [ratios[kind][c, b] for kind, c, b in zip(rows.scenario.tolist(), category, bins, strict=True)]
    day = (rows.time + rows.verdict_ms - START_MS) // DAY_MS
    sums = np.bincount(np.clip(day, 0, last), known, minlength=last + 1)
    path = [0.0]
    for each in sums[FIRST - 1 : last]:
        path.append(max(0.0, path[-1] + float(each)))
    return np.array(path[1:])


def oracle(accounts: int, seeds: range) -> Floats:
    """Hours until the oracle tells changed amounts, by stream; infinite if it does not within two weeks."""
    calm = [oracle_path(accounts, seed, "none", DAYS_CALM).max() for seed in seeds]
    limit = np.quantile(calm, 1.0 - DriftConfig().alpha, method="higher")
    delays = []
    for seed in seeds:
        path = oracle_path(accounts, seed, "amount", TURN + DAYS_AFTER)[TURN + 1 - FIRST :]
        above = np.flatnonzero(path > limit)
        delays.append(24.0 * (above[0] + 1) if len(above) else np.inf)
    return np.array(delays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, nargs="+", default=(100, 600, 2000), help="sizes of the streams")
    parser.add_argument("--oracle", type=int, default=0, help="number of streams for the oracle, from --first-seed on")
    parser.add_argument("--first-seed", type=int, default=31_001)
    arguments = parser.parse_args()
    print(f"{needed(DriftConfig()):.2f} nats are needed.\n")
    print("| accounts | scenario | nats a day | bound, h: told at once | told when reported |\n|---|---|---|---|---|")
    for accounts in arguments.accounts:
        for scenario in ("behaviour", "devices", "amount", "hours", "mix", "all"):
            at_once, reported = (bound(accounts, scenario, late) for late in (False, True))
            nats = accounts * sum(daily(scenario).values())
            print(f"| {accounts:,} | {scenario} | {nats:.2g} | {at_once:.0f} | {reported:.0f} |")
    for accounts in arguments.accounts if arguments.oracle else ():
        delays = oracle(accounts, range(arguments.first_seed, arguments.first_seed + arguments.oracle))
        print(
            f"oracle of amounts, {accounts:,} accounts: {np.mean(delays <= 72):.0%} told within 72 h, "
            f"{np.mean(np.isfinite(delays)):.0%} within 14 days; median {np.median(delays):.0f} h, "
            f"90 % {np.quantile(delays, 0.9, method='higher'):.0f} h"
        )


if __name__ == "__main__":
    main()
