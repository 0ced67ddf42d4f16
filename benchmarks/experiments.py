"""A/B tests by simulation: false alarms under continuous peeking, coverage, power; and what an assignment costs. Then
paired tests of a shadow: false promotions, and the accounts that they and A/B tests need.

    python -m benchmarks.experiments [--runs 1000] [--accounts 10000] [--power-runs 200] [--json PATH]
    python -m benchmarks.experiments --assignments-only | --paired-only

Every run is looked at after every account. "naive" is the z-test of two means at the same one-sided level, looked at
equally often from the 100th account on: the problem that an always-valid method solves. Takes minutes at the default
size.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from core.assignment import WHOLE, Allocation
from core.identity import FIXED
from learners.experiments import srm
from learners.experiments.paired import log_wealth
from learners.experiments.sequential import Trajectory, contributions, trajectory

ALPHA = 0.05
_FIRST_LOOK = 100
Floats = NDArray[np.float64]


class Setting(NamedTuple):
    """The control's rate and what treatment adds; the share of accounts treated, by account number.

    patience: runs end after this many times the accounts that a single-look test at 50:50 needs.
    """

    name: str
    rate: float
    lift: float
    share: Callable[[int], Floats]
    patience: int = 4


def constant(share: float) -> Callable[[int], Floats]:
    return lambda accounts: np.full(accounts, share)


def ramp(accounts: int) -> Floats:
    """1 % of the first tenth, 10 % up to two fifths, half of the rest."""
    at = np.arange(accounts) / accounts
    return np.where(at < 0.1, 0.01, np.where(at < 0.4, 0.1, 0.5))


NULLS = (
    Setting("rate 0.5 %, 50:50", 0.005, 0.0, constant(0.5)),
    Setting("rate 5 %, 50:50", 0.05, 0.0, constant(0.5)),
    Setting("rate 30 %, 50:50", 0.3, 0.0, constant(0.5)),
    Setting("rate 0.5 %, 10:90", 0.005, 0.0, constant(0.1)),
    Setting("rate 5 %, 1:99", 0.05, 0.0, constant(0.01)),
    Setting("rate 5 %, ramp 1-10-50 %", 0.05, 0.0, ramp),
)
EFFECTS = (
    Setting("0.5 % → 1 %", 0.005, 0.005, constant(0.5)),
    Setting("0.5 % → 0.75 %", 0.005, 0.0025, constant(0.5)),
    Setting("5 % → 6 %", 0.05, 0.01, constant(0.5)),
    Setting("5 % → 7.5 %", 0.05, 0.025, constant(0.5)),
    Setting("5 % → 7.5 %, 10:90", 0.05, 0.025, constant(0.1), 16),
    Setting("5 % → 7.5 %, ramp", 0.05, 0.025, ramp, 16),
    Setting("30 % → 33 %", 0.3, 0.03, constant(0.5)),
)


def simulate(setting: Setting, accounts: int, seed: int) -> tuple[Trajectory, NDArray[np.int64], Floats]:
    """One experiment: the evidence after each account, the arms, and the shares treated."""
    rng = np.random.default_rng(seed)
    share = setting.share(accounts)
    arm = (rng.random(accounts) < share).astype(np.int64)
    outcome = (rng.random(accounts) < setting.rate + setting.lift * arm).astype(np.float64)
    return trajectory(*contributions(arm, share, 1.0 - share, outcome)), arm, share


def naive_alarm(path: Trajectory) -> bool:
    """Whether the z-test raises an alarm at any look."""
    n = np.arange(1.0, len(path.total) + 1.0)
    spread = np.sqrt(np.maximum(path.squares - path.total**2 / n, 1e-12))
    return bool((path.total / spread > norm.isf(ALPHA))[_FIRST_LOOK:].any())


def null_row(setting: Setting, runs: int, accounts: int) -> dict[str, Any]:
    """Shares of runs with a false alarm at any look."""
    level = np.log(1.0 / ALPHA)
    alarms = missed = naive = mismatches = 0
    for seed in range(runs):
        path, arm, share = simulate(setting, accounts, seed)
        alarms += bool((path.log_e_up >= level).any())
        missed += bool(path.excludes(0.0, ALPHA).any())
        naive += naive_alarm(path)
        evidence = srm.trajectory(arm, np.stack([1.0 - share, share], axis=1))
        mismatches += bool((evidence >= level).any())
    return {
        "setting": setting.name,
        "runs": runs,
        "accounts": accounts,
        "false_alarms": alarms / runs,
        "interval_misses": missed / runs,
        "srm_false_alarms": mismatches / runs,
        "naive_false_alarms": naive / runs,
    }


def fixed_size(setting: Setting) -> int:
    """Accounts that a single-look z-test at 50:50 needs for 80 % power at the same level."""
    a, b = setting.rate, setting.rate + setting.lift
    per_arm = (norm.isf(ALPHA) + norm.isf(0.2)) ** 2 * (a * (1 - a) + b * (1 - b)) / setting.lift**2
    return int(np.ceil(2 * per_arm))


def power_row(setting: Setting, runs: int) -> dict[str, Any]:
    """Accounts until promotion (median and 80 % of runs), and coverage of the true effect over all looks."""
    limit = setting.patience * fixed_size(setting)
    needed, missed = [], 0
    for seed in range(runs):
        path, _, _ = simulate(setting, limit, 1_000_000 + seed)
        hits = np.flatnonzero(path.log_e_up >= np.log(1.0 / ALPHA))
        needed.append(int(hits[0]) + 1 if len(hits) else limit + 1)
        missed += bool(path.excludes(setting.lift, ALPHA).any())
    median, most = (int(q) for q in np.quantile(needed, [0.5, 0.8], method="higher"))
    return {
        "setting": setting.name,
        "runs": runs,
        "limit": limit,
        "found": float(np.mean(np.array(needed) <= limit)),
        "accounts_median": median if median <= limit else None,
        "accounts_80": most if most <= limit else None,
        "fixed_size_50_50": fixed_size(setting),
        "interval_misses": missed / runs,
    }


class Pairs(NamedTuple):
    """A shadow beside the model that decides. attacked: share of accounts attacked in their window; missed: of these,
    how many the champion misses; found: of those it misses, how many the shadow finds; lost: of those it finds, how
    many the shadow misses. is_small: what only the shadow finds is so small that both lose the same value on average.
    """

    name: str
    attacked: float
    missed: float
    found: float
    lost: float
    is_small: bool = False


def equal(name: str, attacked: float, missed: float, found: float) -> Pairs:
    """A shadow that misses as much as the champion, in part of other accounts."""
    return Pairs(name, attacked, missed, found, missed * found / (1.0 - missed))


HALVED = Pairs("missed fraud halved", 0.01, 0.4, 0.575, 0.05)
BETTER = (
    HALVED,
    Pairs("halved, 0.3 % attacked", 0.003, 0.4, 0.575, 0.05),
    Pairs("a quarter less", 0.01, 0.4, 0.325, 0.05),
)
EQUAL = (
    equal("equal, 1 % attacked", 0.01, 0.4, 0.3),
    equal("equal, 30 % attacked", 0.3, 0.5, 0.3),
    Pairs("finds more, but small ones", 0.1, 0.4, 0.575, 0.05, is_small=True),
)
PAIR_SIZES = (100, 600, 2_000, 20_000)
_CAP = 1_000.0


class PairedAccounts(NamedTuple):
    """n accounts in order of maturity: what each loses under either model, as a share of the cap, float64 (n,)."""

    champion: Floats
    shadow: Floats

    @property
    def value(self) -> Floats:
        """Differences in favour of the shadow."""
        return self.champion - self.shadow


def pairs(setting: Pairs, accounts: int, seed: int) -> PairedAccounts:
    """Accounts drawn from the setting; losses are log-normal with median 80, capped at 1,000."""
    rng = np.random.default_rng(seed)
    attacked = rng.random(accounts) < setting.attacked
    loss = np.minimum(rng.lognormal(np.log(80.0), 1.2, accounts), _CAP) / _CAP
    missed = attacked & (rng.random(accounts) < setting.missed)
    draw = rng.random(accounts)
    by_shadow = attacked & np.where(missed, draw >= setting.found, draw < setting.lost)
    if setting.is_small:
        only = (1.0 - setting.missed) * setting.lost / (setting.missed * setting.found)
        loss = np.where(missed & ~by_shadow, loss * only, loss)
    return PairedAccounts(np.where(missed, loss, 0.0), np.where(by_shadow, loss, 0.0))


def found_by_pairs(drawn: PairedAccounts) -> int | None:
    """After how many accounts the paired test shows that the shadow is better; None if it never does."""
    moving = np.flatnonzero(drawn.value)
    hits = np.flatnonzero(log_wealth(drawn.value) >= np.log(1.0 / ALPHA))
    return int(moving[hits[0]]) + 1 if len(hits) else None


def found_by_arms(drawn: PairedAccounts, seed: int) -> int | None:
    """The same by an A/B test at 50:50: each account shows the loss under its own arm's model."""
    arm = (np.random.default_rng(10**6 + seed).random(len(drawn.value)) < 0.5).astype(np.int64)
    kept = 1.0 - np.where(arm == 1, drawn.shadow, drawn.champion)
    half = np.full(len(arm), 0.5)
    hits = np.flatnonzero(trajectory(*contributions(arm, half, half, kept)).log_e_up >= np.log(1.0 / ALPHA))
    return int(hits[0]) + 1 if len(hits) else None


def paired_figures(runs: int, power_runs: int) -> dict[str, Any]:
    """False promotions of paired tests by size, and accounts needed for a gain; printed as they come."""
    nulls: list[dict[str, Any]] = []
    print(f"paired tests, level {ALPHA}, looked at after every account, {runs} runs: shadows without a gain promoted")
    print(f"{'':<28}" + "".join(f"{f'{size:,} accounts':>18}" for size in PAIR_SIZES))
    for setting in EQUAL:
        row: dict[str, Any] = {"setting": setting.name} | {
            str(size): sum(found_by_pairs(pairs(setting, size, seed)) is not None for seed in range(runs)) / runs
            for size in PAIR_SIZES
        }
        nulls.append(row)
        print(f"{setting.name:<28}" + "".join(f"{row[str(size)]:>18.1%}" for size in PAIR_SIZES), flush=True)
    print(f"\naccounts until a better shadow is promoted, {power_runs} runs; an A/B test has both arms together")
    print(f"{'':<28}{'pairs, median':>15}{'80 % by':>10}{'A/B, median':>14}{'80 % by':>10}")
    powers = []
    for setting in BETTER:
        limit = 300_000
        row = {"setting": setting.name, "runs": power_runs, "limit": limit}
        found: dict[str, list[int]] = {"pairs": [], "arms": []}
        for seed in range(power_runs):
            drawn = pairs(setting, limit, seed)
            found["pairs"].append(found_by_pairs(drawn) or limit + 1)
            found["arms"].append(found_by_arms(drawn, seed) or limit + 1)
        for name, counts in found.items():
            median, most = (int(q) for q in np.quantile(counts, [0.5, 0.8], method="higher"))
            row |= {f"{name}_median": median, f"{name}_80": most}
        powers.append(row)
        cells = [f"{row[k]:,}" if row[k] <= limit else f"> {limit:,}" for k in _PAIR_COLUMNS]
        print("{:<28}{:>15}{:>10}{:>14}{:>10}".format(setting.name, *cells), flush=True)
    return {"nulls": nulls, "powers": powers}


_PAIR_COLUMNS = ("pairs_median", "pairs_80", "arms_median", "arms_80")

ASSIGNED = 1_000_000
_DIGEST_ONLY = "--assignment-digest"


def assigned(batch: int) -> tuple[str, float, list[int]]:
    """(SHA-256 of a million accounts' arms, seconds taken, accounts by arm with those outside last), in batches."""
    allocation = Allocation("spring", FIXED.key.derived("spring"), 9_000, (5_000, 8_000, WHOLE))
    accounts = [f"account-{number}" for number in range(ASSIGNED)]
    allocation.arms_of(accounts[:10])
    digest, counts, seconds = hashlib.sha256(), np.zeros(4, dtype=np.int64), 0.0
    for begin in range(0, ASSIGNED, batch):
        some = accounts[begin : begin + batch]
        start = time.perf_counter()
        arms = allocation.arms_of(some)
        seconds += time.perf_counter() - start
        digest.update(arms.tobytes())
        counts += np.bincount(arms, minlength=4) if arms.min() >= 0 else np.bincount(arms % 4, minlength=4)
    return digest.hexdigest(), seconds, counts.tolist()


def assignments() -> dict[str, Any]:
    """Rate in the worker's batches; a second process, in other batches, must give every account the same arm.

    Raises SystemExit if it does not.
    """
    digest, seconds, counts = assigned(500)
    again = subprocess.run(
        [sys.executable, "-m", "benchmarks.experiments", _DIGEST_ONLY], capture_output=True, text=True, check=True
    ).stdout.strip()
    if again != digest:
        raise SystemExit("a restarted process assigns accounts to different arms")
    return {
        "accounts": ASSIGNED,
        "per_s": ASSIGNED / seconds,
        "us_per_account": seconds / ASSIGNED * 1e6,
        "digest": digest,
        "accounts_by_arm": counts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="runs of each setting without an effect")
    parser.add_argument("--accounts", type=int, default=10_000, help="accounts of each of them")
    parser.add_argument("--power-runs", type=int, default=200, help="runs of each setting with an effect")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures here")
    parser.add_argument("--assignments-only", action="store_true", help="measure only the cost of assignments")
    parser.add_argument("--paired-only", action="store_true", help="simulate only the paired tests")
    parser.add_argument(_DIGEST_ONLY, action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.assignment_digest:
        print(assigned(7_919)[0])
        return
    if arguments.paired_only:
        found = paired_figures(arguments.runs, arguments.power_runs)
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=2) + "\n")
        return
    cost = assignments()
    print(
        f"{cost['accounts']:,} assignments in batches of 500, {cost['us_per_account']:.2f} µs each; arms (outside last)"
    )
    print(f"{cost['accounts_by_arm']}; a restarted process gives the same arms, SHA-256 {cost['digest'][:16]}\n")
    if arguments.assignments_only:
        return
    begin = time.perf_counter()
    nulls, powers = [], []
    print(
        f"no effect, level {ALPHA}, looked at after every one of {arguments.accounts:,} accounts, {arguments.runs} runs"
    )
    print(f"{'':<28}{'false alarms':>14}{'interval misses':>17}{'SRM alarms':>12}{'naive z-test':>14}")
    for setting in NULLS:
        row = null_row(setting, arguments.runs, arguments.accounts)
        nulls.append(row)
        figures = (row["false_alarms"], row["interval_misses"], row["srm_false_alarms"], row["naive_false_alarms"])
        print("{:<28}{:>14.1%}{:>17.1%}{:>12.1%}{:>14.1%}".format(setting.name, *figures), flush=True)
    print(f"\nwith an effect, {arguments.power_runs} runs; accounts of both arms together until it is found")
    print(f"{'':<28}{'found':>7}{'median':>10}{'80 % by':>10}{'one look, 50:50':>17}{'interval misses':>17}")
    for setting in EFFECTS:
        row = power_row(setting, arguments.power_runs)
        powers.append(row)
        median, most = (f"{row[k]:,}" if row[k] else "—" for k in ("accounts_median", "accounts_80"))
        misses = row["interval_misses"]
        print(
            f"{setting.name:<28}{row['found']:>7.0%}{median:>10}{most:>10}{row['fixed_size_50_50']:>17,}{misses:>17.1%}",
            flush=True,
        )
    print()
    by_pairs = paired_figures(arguments.runs, arguments.power_runs)
    print(f"\n{time.perf_counter() - begin:.0f} s")
    if arguments.json:
        arguments.json.write_text(
            json.dumps(
                {"assignments": cost, "alpha": ALPHA, "nulls": nulls, "powers": powers, "paired": by_pairs}, indent=2
            )
            + "\n"
        )


if __name__ == "__main__":
    main()
