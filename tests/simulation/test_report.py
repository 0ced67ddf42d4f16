"""What the page on reliability says of the simulation."""

from __future__ import annotations

from tests.simulation import report
from tests.simulation.faults import KINDS
from tests.simulation.mutations import MUTATIONS
from tests.simulation.report import Row


def test_each_kind_of_harm_is_counted_by_itself() -> None:
    """A schedule counts once: under a loss, if there is one."""
    row = Row()
    row.add([], 10, 3)
    row.add(["lost: partition 0, transactions 1-1"])
    row.add(["twice: partition 0, transactions 1-1", "lost: …"])
    row.add(["different bits: partition 0"])
    row.add(["stalled: …"])
    row.add(["decided twice: payment t1"])
    assert row == Row(times=6, calls=10, payments=3, lost=2, twice=1, different=1, other=1)
    whole = Row()
    whole.merge(row)
    whole.merge(row)
    assert (whole.times, whole.calls, whole.other) == (12, 20, 2)


def test_the_recorded_figures_are_of_this_simulation() -> None:
    """They cover every kind of fault and every mutation that there is, and as many schedules; nothing was wrong."""
    found = report.recorded()
    assert list(found.struck) == list(KINDS) and all(found.struck.values())
    assert found.found.keys() == MUTATIONS.keys() and all(found.found.values())
    assert (found.first, found.schedules.times, found.loops.times) == (0, report.SCHEDULES, report.LOOPS)
    for row in (found.schedules, found.crashes, found.loops, found.loop_crashes):
        assert row.times and not (row.lost or row.twice or row.different or row.other)
