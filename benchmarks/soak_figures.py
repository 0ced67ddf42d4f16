"""A soak's samples as slices of equal work, and whether each figure keeps growing.

A slice holds 1/SLICES of the transactions. A figure of memory or disk is its highest sample in the slice, because files
and heaps rise and fall with rewrites and checkpoints; a latency is the quantile of the slice's own transactions.

Over the second half of the slices, Theil and Sen's slope is taken, per million transactions, with its 95 % interval: a
single spike does not move it. A figure *grows* if the whole interval is above 0 and the half's growth along the slope
is more than GROWTH_MAX of the half's median (and more than `least`, below which nobody would look); else it is flat.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ingest.telemetry import Histogram

SLICES = 40
GROWTH_MAX = 0.05
CONFIDENCE = 0.95
MIB = float(1 << 20)


class Sample(msgspec.Struct, frozen=True):
    """What was seen at one moment. decided: transactions so far. memory, disk: bytes by name. counts: the workers'
    latencies so far, by bucket of `telemetry.Histogram`. worker_cpu_s: of all workers.
    """

    seconds: float
    decided: int
    memory: dict[str, int]
    disk: dict[str, int]
    counts: list[int]
    worker_cpu_s: float


class Slope(msgspec.Struct, frozen=True):
    """A figure over the second half. per_million, low, high: its slope per million transactions, with the interval's
    bounds; median: over the half; growth: along the slope, over the half, as a share of the median.
    """

    unit: str
    median: float
    per_million: float
    low: float
    high: float
    growth: float
    verdict: str


class Slices(msgspec.Struct, frozen=True):
    """The figures of every slice: decided float64 (n,), at the slice's end; series: float64 (n,) by name; units."""

    decided: NDArray[np.float64]
    series: dict[str, NDArray[np.float64]]
    units: dict[str, str]


def slices(samples: Sequence[Sample], total: int) -> Slices:
    """The samples in slices of total / SLICES transactions; a slice that no sample ends in is joined with the next."""
    ends: list[int] = []
    for place, sample in enumerate(samples):
        number = sample.decided * SLICES // total
        if number > 0 and number > samples[ends[-1] if ends else 0].decided * SLICES // total:
            ends.append(place)
    begins = [0, *ends[:-1]]
    columns: dict[str, list[float]] = {}
    units: dict[str, str] = {}

    def put(name: str, unit: str, value: float) -> None:
        columns.setdefault(name, []).append(value)
        units[name] = unit

    for first, last in zip(begins, ends, strict=True):
        before, after = samples[first], samples[last]
        inside = samples[first + 1 : last + 1]
        latency = Histogram()
        latency.add_counts(np.array(after.counts, np.int64) - np.array(before.counts, np.int64))
        done = after.decided - before.decided
        put("latency p50", "ms", latency.quantile(0.5))
        put("latency p99", "ms", latency.quantile(0.99))
        put("worker CPU per decision", "µs", 1e6 * (after.worker_cpu_s - before.worker_cpu_s) / done)
        put("throughput", "/s", done / (after.seconds - before.seconds))
        for name in sorted({name for sample in samples for name in sample.memory}):
            put(f"memory {name}", "MiB", max(s.memory.get(name, 0) for s in inside) / MIB)
        for name in sorted({name for sample in samples for name in sample.disk}):
            put(f"disk {name}", "MiB", max(s.disk.get(name, 0) for s in inside) / MIB)
    decided = np.array([samples[place].decided for place in ends], np.float64)
    return Slices(decided, {name: np.array(values) for name, values in columns.items()}, units)


LEAST = {"ms": 1.0, "µs": 1.0, "/s": 0.0, "MiB": 4.0}
"""Growth over the half that is too small to matter, by unit."""


def slopes(found: Slices) -> dict[str, Slope]:
    """The slope of each figure over the second half of the slices; empty with fewer than eight slices."""
    half = len(found.decided) // 2
    if half < 4:
        return {}
    millions = found.decided[half:] / 1e6
    out: dict[str, Slope] = {}
    for name, values in found.series.items():
        second, unit = values[half:], found.units[name]
        slope, _, low, high = (float(each) for each in stats.theilslopes(second, millions, CONFIDENCE))
        median = float(np.median(second))
        gained = slope * float(millions[-1] - millions[0])
        growth = gained / median if median else 0.0
        grows = low > 0 and growth > GROWTH_MAX and gained > LEAST[unit]
        falls = high < 0 and growth < -GROWTH_MAX
        verdict = "grows" if grows else "falls" if falls else "flat"
        out[name] = Slope(unit, median, slope, low, high, growth, verdict)
    return out


def table(found: dict[str, Slope]) -> str:
    """The slopes as lines of text."""
    head = f"{'second half':<34}{'median':>12}  {'per million (95 % interval)':<36}{'growth':>8}  verdict"
    lines = [head]
    for name, each in found.items():
        interval = f"{each.per_million:+,.3f} ({each.low:+,.3f} … {each.high:+,.3f})"
        label = f"{name}, {each.unit}"
        lines.append(f"{label:<34}{each.median:>12,.1f}  {interval:<36}{each.growth:>+8.1%}  {each.verdict}")
    return "\n".join(lines)
