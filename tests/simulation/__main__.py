"""Runs simulations: `python -m tests.simulation --seeds 500`, or one seed with its trace: `--seed 17 --trace`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.simulation import faults as planning
from tests.simulation import report, runs


def main() -> int:
    """Run what the arguments ask for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--first", type=int, default=0, help="the first of the seeds")
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--trace", action="store_true", help="print every call")
    parser.add_argument("--keep", help="only these of the seed's faults: 0,2")
    parser.add_argument("--shorten", action="store_true", help="leave out faults that a failure does not need")
    parser.add_argument("--record", action="store_true", help="measure the figures of docs/reliability.md")
    parser.add_argument("--jobs", type=int, default=2, help="with --record: processes")
    given = parser.parse_args()
    if given.record:
        report.measured(given.jobs)
        print(report.markdown())
        return 0
    if given.seed is not None:
        return _one(given)
    began, failed = time.monotonic(), []
    struck: Counter[str] = Counter()
    happened: Counter[str] = Counter()
    calls = 0
    for seed in range(given.first, given.first + given.seeds):
        outcome = runs.run(seed)
        struck.update(fault.kind for fault in outcome.struck)
        happened.update(outcome.happened)
        calls += outcome.calls
        if outcome.wrong:
            failed.append(seed)
            print(f"seed {seed}: {outcome.wrong[0][:700]}")
            print(f"    {', '.join(map(str, outcome.struck))}")
    seconds = time.monotonic() - began
    print(f"{given.seeds} schedules in {seconds:.1f} s ({1000 * seconds / given.seeds:.0f} ms each), {calls} calls")
    print("struck:", dict(struck.most_common()))
    print("happened:", dict(happened.most_common()))
    print(f"{len(failed)} failed: {failed}")
    return 1 if failed else 0


def _one(given: argparse.Namespace) -> int:
    faults = planning.drawn(given.seed, runs.CALLS)
    if given.keep is not None:
        faults = [faults[int(place)] for place in given.keep.split(",") if place]
    if given.shorten:
        faults = runs.shortened(given.seed, faults)
    outcome = runs.run(given.seed, faults, tracing=given.trace)
    print("\n".join(outcome.trace))
    print(f"seed {given.seed}: {len(outcome.wrong)} wrong; {outcome.calls} calls, {outcome.seconds:.1f} simulated s")
    print("faults:", ", ".join(f"{n}: {fault}" for n, fault in enumerate(faults)))
    print("struck:", ", ".join(map(str, outcome.struck)))
    print("happened:", dict(outcome.happened))
    print("\n".join(outcome.wrong))
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
