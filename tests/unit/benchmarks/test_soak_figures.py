"""A soak's verdict: what grows is said to grow, what rises and falls is flat, and a spike changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.soak_figures import Sample, slices, slopes
from ingest.telemetry import Histogram

TOTAL = 4_000_000
MIB = 1 << 20


def samples(memory: Callable[[float], float], latency: Callable[[float], int] = lambda _: 100) -> list[Sample]:
    """200 samples of one process: its memory (MiB) and the bucket of its latencies, by share of the work done."""
    counts = [0] * len(Histogram().counts())
    found = []
    for n in range(201):
        share = n / 200
        counts[latency(share)] += TOTAL // 200
        size = {"worker": int(memory(share) * MIB)}
        found.append(Sample(share * 400, int(share * TOTAL), size, {"aof": 5 * MIB}, list(counts), share * 80))
    return found


@pytest.mark.parametrize(
    ("memory", "verdict"),
    [
        (lambda share: 400 + 200 * share, "grows"),
        (lambda share: 400 - 200 * share, "falls"),
        (lambda share: 400 + 20 * (share * 50 % 1), "flat"),
        (lambda share: 400 + 1_000 * (0.7 < share < 0.72), "flat"),
        (lambda share: 200 + 200 * min(1.0, 3 * share), "flat"),
        (lambda share: 400 + 2 * share, "flat"),
    ],
)
def test_growth_over_the_second_half_is_what_counts(memory: Callable[[float], float], verdict: str) -> None:
    """A leak grows; a file that is rewritten, one spike, a process that fills up in the first half and less than 5 % do
    not. The slope is the growth per million transactions.
    """
    found = slopes(slices(samples(memory), TOTAL))
    assert found["memory worker"].verdict == verdict
    assert found["disk aof"].verdict == found["latency p50"].verdict == "flat"
    assert found["worker CPU per decision"].median == pytest.approx(20.0)
    if verdict == "grows":
        assert found["memory worker"].per_million == pytest.approx(50.0, rel=0.05)


def test_latency_is_each_slices_own() -> None:
    """A latency that creeps up is seen, though most transactions of the whole run were fast."""
    found = slopes(slices(samples(lambda _: 400, lambda share: 100 + int(200 * share)), TOTAL))
    assert found["latency p99"].verdict == "grows" and found["memory worker"].verdict == "flat"


def test_a_run_that_is_too_short_is_not_judged() -> None:
    """Fewer than eight slices give no slope."""
    assert slopes(slices(samples(lambda _: 400)[:40], TOTAL)) == {}
