"""The figures of restarts: when partitions stood still, one or all at once."""

from __future__ import annotations

import numpy as np

from benchmarks.rolling import Pauses, stopped_ms


def pauses(*parts: tuple[float, float]) -> Pauses:
    return Pauses(np.array([a for a, _ in parts]), np.array([n for _, n in parts]))


def test_short_gaps_are_no_stops() -> None:
    """A stop lasts longer than half a second; the longest pause counts in any case."""
    found = pauses((0.0, 400.0), (1_000.0, 900.0), (5_000.0, 20.0))
    assert found.stops() == [(1_000.0, 1_900.0)]
    assert found.longest() == 900.0
    assert pauses().longest() == 0.0


def test_only_what_overlaps_the_window_counts() -> None:
    """Also a pause that begins before it, or ends after it."""
    found = pauses((0.0, 100.0), (900.0, 300.0), (1_900.0, 400.0), (2_500.0, 100.0))
    assert found.between(1_000.0, 2_000.0).begins.tolist() == [900.0, 1_900.0]


def test_stops_of_some_and_of_all() -> None:
    """In total, and the longest stretch: at least one of three, and all three at once."""
    stops = [[(0.0, 10.0), (20.0, 40.0)], [(5.0, 12.0), (25.0, 30.0)], [(8.0, 9.0), (26.0, 34.0)]]
    assert stopped_ms(stops, 1) == (32.0, 20.0)
    assert stopped_ms(stops, 3) == (5.0, 4.0)
    assert stopped_ms([[(0.0, 5.0)], []], 2) == (0.0, 0.0)
