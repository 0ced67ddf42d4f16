"""Seeded schedules of workers and archiver among faults: nothing lost, nothing twice, the same bits.

A failure prints its seed: `python -m tests.simulation --seed N --trace`. SENTINEL_SCHEDULES sets how many are run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import faults, runs, seams
from tests.simulation.faults import KINDS, Fault
from tests.simulation.mutations import MUTATIONS, found_after

SCHEDULES = int(os.environ.get("SENTINEL_SCHEDULES", "300"))
RESPONDERS = (1268, 1270, 1542)
ROOT = Path(__file__).resolve().parents[2]
SOON = (
    "an append of unknown outcome counts as done",
    "decisions are published before they are appended",
    "offsets are committed before the append",
    "an empty log is taken for a new one",
    "a state ahead of the log is kept",
    "one topic is not waited for",
)
"""Mutations that a few schedules find; tests/integration looks for all."""


def said(outcome: runs.Outcome) -> str:
    struck = ", ".join(map(str, outcome.struck))
    again = f"python -m tests.simulation --seed {outcome.seed} --trace"
    return f"seed {outcome.seed}: {outcome.wrong}; struck: {struck}; {again}"


def test_whatever_strikes_everything_is_decided_once_and_to_the_same_bits() -> None:
    """Hundreds of schedules; each kind of fault strikes in some."""
    struck = set()
    for seed in range(SCHEDULES):
        outcome = runs.run(seed)
        assert not outcome.wrong, said(outcome)
        struck.update(fault.kind for fault in outcome.struck)
    if SCHEDULES >= 300:
        assert struck == set(KINDS)


def test_what_kafka_deleted_or_lost_holds_up_no_responder_and_takes_no_effect_away() -> None:
    """Schedules in which an outcome, a fence or an effect was waited for in vain, or counted without having been."""
    for seed in RESPONDERS:
        outcome = runs.run(seed)
        assert not outcome.wrong, said(outcome)
        assert {"expired", "produce"} & {fault.kind for fault in outcome.struck}


def test_a_worker_killed_at_any_call_leaves_the_log_of_an_undisturbed_run() -> None:
    """Every call of a small history once: before it has its effect, and after."""
    outcomes = list(runs.crashes(runs.small()))
    assert len(outcomes) > 100
    for outcome in outcomes:
        assert not outcome.wrong, said(outcome)


@pytest.mark.parametrize("mutation", SOON)
def test_the_simulation_finds_a_fault_of_the_product(mutation: str) -> None:
    """A line that is wrong on purpose is found within some schedules."""
    number, wrong = found_after(mutation, 60)
    assert number, f"{mutation}: not found in 60 schedules"
    assert wrong


def test_the_product_is_itself_again_after_a_mutation() -> None:
    """Else every test after it would be worthless."""
    found_after(next(iter(MUTATIONS)), 1)
    assert not runs.run(1).wrong


def test_a_seed_replays_exactly() -> None:
    """Calls, times and outcomes are the same twice, and in another process with other hashes of strings."""
    first, second = (runs.run(11, tracing=True).trace for _ in range(2))
    assert first == second
    assert len(first) > 100
    command = [sys.executable, "-m", "tests.simulation", "--seed", "11", "--trace"]
    environment = {**os.environ, "PYTHONHASHSEED": "5"}
    found = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[: len(first)] == [line for each in first for line in each.splitlines()]


def test_a_failing_schedule_is_shortened_to_the_faults_that_it_needs() -> None:
    """One that nothing survives is the only one left."""
    drawn = [Fault(20, "freeze", "", 0.2), Fault(60, "no such kind"), Fault(90, "kill", "before")]
    assert [fault.kind for fault in runs.shortened(3, drawn)] == ["no such kind"]


def test_faults_are_drawn_from_the_seed_alone() -> None:
    """The same seed gives the same faults, in the order in which they strike."""
    assert faults.drawn(5, 300) == faults.drawn(5, 300)
    assert faults.drawn(5, 300) != faults.drawn(6, 300)
    assert [fault.at for fault in faults.drawn(5, 300)] == sorted(fault.at for fault in faults.drawn(5, 300))


def test_no_module_reaches_a_real_clock_or_thread_past_the_simulation() -> None:
    """Whoever imports `sleep` by itself would wait for real."""
    assert seams.unwatched() == []
