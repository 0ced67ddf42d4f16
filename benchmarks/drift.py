"""Drift detection: how often it raises false alarms, how much of what changes it sees, how soon, and how fast it is.

    python -m benchmarks.drift --speed                             one look at 100,000 predictions, one core
    python -m benchmarks.drift --runs 100 --out drift.jsonl        every scenario at 100, 600 and 2,000 accounts
    python -m benchmarks.drift --table drift.jsonl                 the table of all runs in the file

A run is a stream of the synthetic source (weekly and monthly rhythm, trips, bursts, late labels), decided offline by
the shipped model, with every feature as a worker would log it, and one look of the monitor a day. Without drift it is
watched for eight weeks after the reference; with drift, which begins on day `TURN`, until something is told, for two
weeks at most. What counts is what a person would see: events in the control stream. Each run is written as one line,
and a run that the file already holds is not repeated, so the table can be filled bit by bit.

The opponents are told which figure to watch, and get the threshold at which 5 % of the runs without drift of the same
size would have raised an alarm: two-sided daily CUSUMs (Page 1954, allowance 0.5) on the mean of one figure,
standardised by the days of the reference. Beside the delays stands what no detector can beat (`drift_bounds`).
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from benchmarks.drift_bounds import bound
from benchmarks.drift_streams import (
    DAYS_AFTER,
    DAYS_CALM,
    FIRST,
    OF_FRAUD,
    OF_SOURCE,
    PARTITIONS,
    REFERENCE,
    SCENARIOS,
    TURN,
    ZERO_INFLATED,
    Kept,
    beginning,
    decided,
    first_label_hours,
    inflated,
)
from core.control import DEFAULT_REVIEW
from core.events import DriftDetected
from core.features import spec
from core.log.memory import MemoryLog
from core.times import DAY_MS
from ingest.offline import OfflineIngest
from learners.drift.compare import Baseline, compare
from learners.drift.figures import samples
from learners.drift.look import Looker
from learners.drift.monitor import DriftMonitor
from learners.drift.policy import DriftConfig
from learners.drift.rows import Rows
from learners.drift.windows import WindowReader
from projections.labelling.reader import LabelReader
from projections.labelling.view import FRAUD, UNJUDGED
from sources.synthetic import START_MS

SIZES = (100, 600, 2000)
FALSE_ALARMS = 0.05
Told = tuple[int, str, str, int]
"""(day, figure, severity, days of the window) of what was reported."""


class ReadOnce(WindowReader):
    """Reads a kept stream as if from the log. rows: may be exchanged for those of a stream that was equal so far."""

    def __init__(self, log: MemoryLog, rows: Rows) -> None:
        super().__init__(log, range(PARTITIONS))
        self.rows = rows

    def read(self, start: int, end: int, with_features: bool = True) -> Rows:
        rows = self.rows if with_features else replace(self.rows, columns=self.rows.columns[:0])
        return rows.between(start, end)

    def oldest(self) -> int:
        return START_MS

    def decided_since(self, control: int) -> int | None:
        return START_MS


class KeptLabels:
    """The labels of a kept stream as a LabelReader and LabelView give them: every report is right, and by one source.
    A row's number is its transaction.

    reports: of each row, epoch ms, 0 never.
    """

    def __init__(self, reports: NDArray[np.int64]) -> None:
        self.reports = reports

    def view(self, moment: int | None = None) -> KeptLabels:
        """Only reports given by `moment`, epoch ms."""
        return KeptLabels(np.where(self.reports <= (2**62 if moment is None else moment), self.reports, 0))

    def reported(self, accounts: NDArray[np.uint64], transactions: NDArray[np.uint64]) -> NDArray[np.int64]:
        return np.asarray(self.reports[transactions.astype(np.int64)])

    def of_rows(
        self, accounts: NDArray[np.uint64], transactions: NDArray[np.uint64], given_until: NDArray[np.int64]
    ) -> NDArray[np.int8]:
        at = self.reported(accounts, transactions)
        return np.where((at > 0) & (at <= given_until), FRAUD, UNJUDGED).astype(np.int8)


class Watch:
    """A monitor that looks at one stream, day by day."""

    def __init__(self, kept: Kept) -> None:
        self.log, deployed, resolver = beginning()
        OfflineIngest(self.log, resolver, partitions=PARTITIONS, start=[deployed])
        self.config = DriftConfig()
        self.reader, self.labels = ReadOnce(self.log, kept.rows), KeptLabels(kept.reported)
        self.looker = Looker(self.reader, cast(LabelReader, self.labels), self.config, for_display=False)

    def look(self, kept: Kept, days: range, log: MemoryLog, changes: bool = True) -> list[Told]:
        """Look at the end of each of these days, up to the first after `TURN` that tells something if the stream
        changes; returns what was reported. kept: the stream, equal to those before up to the first of these days. log:
        holds the control stream.
        """
        self.reader.rows, self.labels.reports = kept.rows, kept.reported
        monitor = DriftMonitor(log, self.looker, self.config)
        seen: list[Told] = []
        for day in days:
            as_of = START_MS + day * DAY_MS
            for event in monitor.step(as_of, now_ms=as_of)[1]:
                if isinstance(event, DriftDetected):
                    seen.append((day, event.feature, event.severity, (event.window_end - event.window_start) // DAY_MS))
            if changes and seen and seen[-1][0] > TURN:
                break
        return seen


def runs(accounts: int, seed: int, scenarios: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One run of each scenario: the events by day, and the CUSUMs' paths. What scenarios share is done once."""
    begin = time.process_time()
    calm = [name for name in ("none", "devices") if name in scenarios]
    changed = [name for name in OF_SOURCE if name in scenarios]
    if calm:
        _, kept = next(decided(accounts, seed, ["none"]))
        for name in calm:
            if name == "devices":
                kept = replace(kept, rows=inflated(kept.rows, seed))
            last = DAYS_CALM if name == "none" else TURN + DAYS_AFTER
            one = Watch(kept)
            seen = one.look(kept, range(FIRST, last + 1), one.log, changes=name != "none")
            yield _run(accounts, seed, name, kept, seen, last, begin)
            begin = time.process_time()
    watch: Watch | None = None
    before: list[Told] = []
    for name, kept in decided(accounts, seed, changed) if changed else ():
        if watch is None:
            watch = Watch(kept)
            before = watch.look(kept, range(FIRST, TURN + 1), watch.log)
        last = TURN + DAYS_AFTER
        seen = before + watch.look(kept, range(TURN + 1, last + 1), watch.log.clone())
        yield _run(accounts, seed, name, kept, seen, last, begin)
        begin = time.process_time()


def _run(
    accounts: int,
    seed: int,
    scenario: str,
    kept: Kept,
    seen: list[Told],
    last: int,
    begin: float,
) -> dict[str, Any]:
    rows = kept.rows.between(0, START_MS + last * DAY_MS)
    return {
        "accounts": accounts,
        "seed": seed,
        "scenario": scenario,
        "rows": len(rows),
        "seen": seen,
        "first_label_h": first_label_hours(kept),
        "cusum": cusums(rows, kept.reported[: len(rows)], last),
        "cpu_s": round(time.process_time() - begin, 2),
    }


# --- opponents ------------------------------------------------------------------------------------------------------


def cusums(rows: Rows, reported: NDArray[np.int64], last: int) -> dict[str, list[float]]:
    """The two-sided CUSUM of each watched figure, by day from `FIRST` on; frauds are placed by their report."""
    frauds = np.flatnonzero((reported > 0) & (reported - rows.times <= 7 * DAY_MS))
    amount = np.log1p(rows.columns[spec.index("amount")].astype(np.float64))
    hour = 2 * np.pi * (rows.columns[spec.index("hour_of_day")].astype(np.float64) - 8) / 24
    inflated_share = (rows.columns[spec.index(ZERO_INFLATED)] > 0).astype(np.float64)
    alerts = np.flatnonzero(rows.margins >= np.log(DEFAULT_REVIEW / (1 - DEFAULT_REVIEW)))
    figures = {
        "amount": (amount, rows.times),
        "devices": (inflated_share, rows.times),
        "fraud amount": (amount[frauds], reported[frauds]),
        "fraud hour": (np.cos(hour[frauds]), reported[frauds]),
        "fraud score": (rows.margins[frauds], reported[frauds]),
        "alert amount": (amount[alerts], rows.times[alerts]),
        "alert hour": (np.cos(hour[alerts]), rows.times[alerts]),
    }
    return {name: _cusum(values, times, last) for name, (values, times) in figures.items()}


def _cusum(values: NDArray[np.float64], times: NDArray[np.int64], last: int) -> list[float]:
    day = (times - START_MS) // DAY_MS
    count = np.bincount(np.clip(day, 0, last), minlength=last + 1)[:last]
    sums = np.bincount(np.clip(day, 0, last), values, minlength=last + 1)[:last]
    mean = np.divide(sums, count, out=np.full(last, np.nan), where=count > 0)
    reference = mean[REFERENCE : FIRST - 1]
    centre, spread = np.nanmean(reference), np.nanstd(reference, ddof=1)
    up = down = 0.0
    path = []
    for each in mean[FIRST - 1 :]:
        z = (each - centre) / spread if spread > 0 and each == each else 0.0
        up, down = max(0.0, up + z - 0.5), max(0.0, down - z - 0.5)
        path.append(round(max(up, down), 2))
    return path


# --- the table ------------------------------------------------------------------------------------------------------


def table(runs: Iterable[dict[str, Any]]) -> str:
    """The table of all runs, as Markdown."""
    of: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for each in runs:
        of[each["accounts"], each["scenario"]].append(each)
    lines = [
        "| accounts | scenario | runs | told in 72 h | in 14 d | median h | 90 % h | median h from the first label "
        "| bound h, told at once / when reported | told first by | best CUSUM |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for size in sorted({key[0] for key in of}):
        calm = of.get((size, "none"), [])
        limits = {
            name: _limit([max(each["cusum"][name]) for each in calm]) for name in (calm[0]["cusum"] if calm else ())
        }
        for scenario in SCENARIOS:
            some = of.get((size, scenario), [])
            if scenario == "none" and some:
                alarmed = sum(bool(each["seen"]) for each in some)
                lines.append(
                    f"| {size:,} | none | {len(some)} | | **{alarmed} alarmed** in {DAYS_CALM - FIRST + 1} looks, "
                    f"{_share(alarmed, len(some))} | | | | | {_first_told(some, 0)} | |"
                )
            elif some:
                lines.append(_line(size, scenario, some, limits))
    return "\n".join(lines)


def interval(hits: int, runs: int) -> tuple[float, float]:
    """The exact 95 % interval of a share (Clopper, Pearson 1934)."""
    low = float(betaincinv(hits, runs - hits + 1, 0.025)) if hits else 0.0
    return low, float(betaincinv(hits + 1, runs - hits, 0.975)) if hits < runs else 1.0


def _share(hits: int, runs: int) -> str:
    low, high = interval(hits, runs)
    return f"{hits / runs:.0%} ({low:.0%} to {high:.0%})"


def _first_told(runs: list[dict[str, Any]], after: int) -> str:
    """The figures that told first after this day, most frequent first."""
    first: dict[str, int] = defaultdict(int)
    for each in runs:
        told = [(day, name) for day, name, _, _ in each["seen"] if day > after]
        if told:
            first[min(told)[1]] += 1
    return ", ".join(f"{name} ({count})" for name, count in sorted(first.items(), key=lambda item: -item[1])[:3])


def _limit(greatest: list[float]) -> float:
    return float(np.quantile(greatest, 1 - FALSE_ALARMS, method="higher")) + 0.01


def _line(size: int, scenario: str, runs: list[dict[str, Any]], limits: dict[str, float]) -> str:
    delays, labelled = [], []
    for each in runs:
        after = [day for day, *_ in each["seen"] if day > TURN]
        delays.append(24.0 * (min(after) - TURN) if after else np.inf)
        labelled.append(delays[-1] - (each["first_label_h"] or 0.0))
    told = [int(np.sum(np.array(delays) <= hours)) for hours in (72, 24 * DAYS_AFTER)]
    since = _hours(np.median(labelled)) if scenario in OF_FRAUD else ""
    best = ("", 0.0, np.inf)
    for name, limit in limits.items():
        late = [_first_above(each["cusum"][name], limit) for each in runs]
        found = (name, float(np.mean(np.isfinite(late))), float(np.median(late)))
        if (-found[1], found[2]) < (-best[1], best[2]):
            best = found
    least = " / ".join(_hours(bound(size, scenario, late)) for late in (False, True))
    opponent = f"{best[0]}: {best[1]:.0%}, {_hours(best[2])}" if limits else ""
    return (
        f"| {size:,} | {scenario} | {len(runs)} | {' | '.join(_share(each, len(runs)) for each in told)} "
        f"| {_hours(np.median(delays))} | {_hours(np.quantile(delays, 0.9, method='higher'))} | {since} "
        f"| {least} | {_first_told(runs, TURN)} | {opponent} |"
    )


def _first_above(path: list[float], limit: float) -> float:
    """Hours after `TURN` at which a path, from `FIRST` on, is first above the limit."""
    above = [day for day, value in enumerate(path, FIRST) if day > TURN and value > limit]
    return 24.0 * (above[0] - TURN) if above else np.inf


def _hours(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else "–"


# --- speed ----------------------------------------------------------------------------------------------------------


def speed(rows: int) -> dict[str, Any]:
    """A look at `rows` predictions in seven days against as many in fourteen: seconds of CPU, the best of five."""
    before, now = (_realistic(rows, days, first, seed) for seed, (first, days) in enumerate(((0, 14), (14, 7))))
    config = DriftConfig()
    held, current = (samples(part, "m", 0.0, None, 0) for part in (before, now))
    begin = time.process_time()
    baseline = Baseline(held, dict.fromkeys(held, 0), config, 90 * DAY_MS, 0.0)
    found = compare(baseline, current, 21 * DAY_MS)
    prepared = time.process_time() - begin
    timed = []
    for _ in range(5):
        begin = time.process_time()
        compare(baseline, current, 21 * DAY_MS)
        timed.append(time.process_time() - begin)
    tested = sum(each.state == "tested" for each in found)
    return {"rows": rows, "tested": tested, "first_s": prepared, "cpu_s": min(timed)}


def _realistic(size: int, days: int, first: int, seed: int) -> Rows:
    """Decisions of size / 25 accounts with features of the spec's kinds: amounts, counts, flags, missing values."""
    rng = np.random.Generator(np.random.PCG64(seed))
    columns = np.empty((spec.WIDTH, size), dtype=np.float32)
    for place, feature in enumerate(spec.FEATURES):
        values = rng.lognormal(3.0, 1.0, size)
        if feature.unit == "0/1":
            values = (rng.random(size) < 0.1).astype(np.float64)
        elif feature.unit in ("count", "hour", "day"):
            values = rng.poisson(3.0, size).astype(np.float64)
        if feature.null != "never":
            values[rng.random(size) < 0.2] = np.nan
        columns[place] = values
    return Rows(
        columns=columns,
        margins=rng.normal(-4.0, 1.5, size),
        times=np.sort(first * DAY_MS + rng.integers(0, days * DAY_MS, size)),
        accounts=rng.integers(0, max(size // 25, 40), size).astype(np.uint64),
        transactions=np.arange(size, dtype=np.uint64),
        shops=rng.integers(0, 2000, size).astype(np.uint64),
        categories=rng.integers(0, 20, size).astype(np.uint64),
        models=np.zeros(size, dtype=np.int64),
        digests=("m",),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", action="store_true", help="the speed of a look")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=0, help="number of runs of each scenario and size")
    parser.add_argument("--first-seed", type=int, default=5001)
    parser.add_argument("--accounts", type=int, nargs="+", default=SIZES, help="sizes of the streams")
    parser.add_argument("--scenarios", nargs="+", default=list(SCENARIOS), choices=list(SCENARIOS))
    parser.add_argument("--out", type=Path, help="append each run here as one line of JSON, unless it is there already")
    parser.add_argument("--table", type=Path, help="print the table of the runs in this file")
    arguments = parser.parse_args()
    if arguments.speed:
        found = speed(arguments.rows)
        print(
            f"{found['rows']:,} predictions against as many: {found['tested']} figures in three windows in "
            f"{found['cpu_s']:.2f} s of CPU, one core; {found['first_s']:.2f} s with the reference's preparation"
        )
    gc.disable()  # millions of payments are held, and nothing here is cyclic
    done = [json.loads(line) for line in _lines(arguments.out)]
    known = {(each["accounts"], each["scenario"], each["seed"]) for each in done}
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.runs):
        for accounts in arguments.accounts:
            missing = [name for name in arguments.scenarios if (accounts, name, seed) not in known]
            for each in runs(accounts, seed, missing):
                done.append(each)
                print(json.dumps({key: value for key, value in each.items() if key != "cusum"})[:300], flush=True)
                if arguments.out:
                    with arguments.out.open("a") as file:
                        file.write(json.dumps(each) + "\n")
    if arguments.table:
        done = [json.loads(line) for line in _lines(arguments.table)]
    if done:
        print(table(done))


def _lines(path: Path | None) -> list[str]:
    return path.read_text().splitlines() if path is not None and path.exists() else []


if __name__ == "__main__":
    main()
