"""The simulation at length: thousands of schedules, a kill at every call, and every mutation of the product found."""

from __future__ import annotations

import os

import pytest

from tests.simulation import learning, runs
from tests.simulation.faults import Fault
from tests.simulation.learning import Bench
from tests.simulation.mutations import MUTATIONS, found_after

SCHEDULES = int(os.environ.get("SENTINEL_SCHEDULES", "2000"))
FIRST = 300
"""Those before are run by `make test`."""
PART = 100
"""How many are one test, which no slow machine may take for one that hangs (`faulthandler_timeout`)."""
MUTATION_SCHEDULES = 600


@pytest.mark.parametrize("first", range(FIRST, FIRST + SCHEDULES, PART))
def test_thousands_of_schedules_lose_nothing_and_double_nothing(first: int) -> None:
    """Nothing is wrong with any of them; all failures are told, with their seeds."""
    seeds = range(first, min(first + PART, FIRST + SCHEDULES))
    failed = {seed: wrong[0] for seed in seeds if (wrong := runs.run(seed).wrong)}
    assert not failed


@pytest.mark.parametrize(("workers", "archives"), [(2, False), (1, True)])
def test_a_process_killed_at_any_call_harms_nothing(workers: int, archives: bool) -> None:
    """Two workers that share a group; a worker beside an archiver."""
    for outcome in runs.crashes(runs.small(workers=workers, archives=archives)):
        assert not outcome.wrong, f"{outcome.struck}: {outcome.wrong}"


def test_a_loop_killed_at_any_call_tells_the_same_story() -> None:
    """Every call of two trainings, tests and promotions."""
    bench = Bench(0, [], loops=1)
    story = bench.run()
    for at in range(bench.world.calls):
        for how in ("before", "after"):
            assert not learning.judged(Bench(0, [Fault(at, "kill", how)], loops=1), story), f"{how} call {at}"


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_simulation_finds_every_mutation(mutation: str) -> None:
    """Within so many schedules, of which the table in docs/reliability.md has the number."""
    number, wrong = found_after(mutation, MUTATION_SCHEDULES)
    assert number, f"{mutation}: not found"
    assert wrong
