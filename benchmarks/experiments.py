"""A/B tests by simulation: false alarms under continuous peeking, coverage, power; and what an assignment costs.

    python -m benchmarks.experiments [--runs 1000] [--accounts 10000] [--power-runs 200] [--json PATH]
    python -m benchmarks.experiments --assignments-only

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
from learners.experiments import srm
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


ASSIGNED = 1_000_000
_DIGEST_ONLY = "--assignment-digest"


def assigned(batch: int) -> tuple[str, float, list[int]]:
    """(SHA-256 of a million accounts' arms, seconds taken, accounts by arm with those outside last), in batches."""
    allocation = Allocation("spring", "spring", 9_000, (5_000, 8_000, WHOLE))
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
    parser.add_argument(_DIGEST_ONLY, action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.assignment_digest:
        print(assigned(7_919)[0])
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
    print(f"\n{time.perf_counter() - begin:.0f} s")
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"assignments": cost, "alpha": ALPHA, "nulls": nulls, "powers": powers}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
