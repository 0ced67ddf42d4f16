"""Drift detection: how fast it compares, how reliably and how soon it detects, and how often it raises false alarms.

    python -m benchmarks.drift --speed            100,000 predictions × all features against as many, one core
    python -m benchmarks.drift --seeds 100        100 streams with drift at a known time, and 100 without

Each stream is the synthetic source (weekly and daily rhythm, trips, bursts, labels), decided offline by the shipped
model, with every feature as a worker would log it. The monitor looks every `STEP_HOURS` of event time; counted are the
events that it appends to the control stream. A false alarm is a detection before the drift or in a stream without it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from console.wiring import load_scorer
from core.control import Resolver
from core.events import DriftDetected, ModelDeployed
from core.features import spec
from core.log.memory import MemoryLog
from core.times import DAY_MS, HOUR_MS
from ingest.offline import OfflineIngest
from learners.drift.compare import compare
from learners.drift.look import Looker
from learners.drift.monitor import DriftMonitor
from learners.drift.policy import DriftConfig
from learners.drift.rows import Rows
from learners.drift.windows import WindowReader
from models.shipped import BASELINE_DIRECTORY
from projections.labelling.reader import LabelReader
from sources.synthetic import START_MS, SyntheticConfig, SyntheticStream

PARTITIONS = 2
ACCOUNTS = 100
DAYS = 75
DRIFT_DAY = (
    60  # 39 until every table has settled, 14 for the reference, 7 for the window: the first look ends at the drift
)
STEP_HOURS = 24


class ReadOnce(WindowReader):
    """Reads the log once: a benchmark looks many times at a log that does not grow."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log, range(PARTITIONS))
        self._all: Rows = super().read(0, 2**60)

    def read(self, start: int, end: int) -> Rows:
        return self._all.between(start, end)

    def transactions(self, start: int, end: int) -> int:
        """The number of decisions in [start, end)."""
        return len(self._all.between(start, end))


def decided(seed: int, drift: str | None) -> MemoryLog:
    """A stream of `ACCOUNTS` accounts over `DAYS` days, decided by the shipped model; drift from `DRIFT_DAY` on."""
    log = MemoryLog()
    card = json.loads((BASELINE_DIRECTORY / "card.json").read_text())
    log.put_blob((BASELINE_DIRECTORY / "model.txt").read_bytes())
    deployed = ModelDeployed(
        occurred_at=0, actor="bench", name=card["name"], version=card["version"], digest=card["digest"]
    )
    resolver = Resolver(log.get_blob, load_scorer)
    offline = OfflineIngest(log, resolver, partitions=PARTITIONS, start=[deployed])
    changes: dict[str, Any] = {"drift_at": DRIFT_DAY / DAYS, "drift": drift} if drift else {}
    for chunk in SyntheticStream(SyntheticConfig(days=DAYS, accounts=ACCOUNTS, seed=seed, **changes)).records():
        offline.feed(chunk)
    offline.flush()
    return log


def run(seed: int, drift: str | None, config: DriftConfig) -> dict[str, Any]:
    """All looks at one stream: what was detected, when it was first detected, and how long after the drift."""
    log = decided(seed, drift)
    reader = ReadOnce(log)
    monitor = DriftMonitor(log, Looker(reader, LabelReader(log, range(PARTITIONS)), config), config)
    turn = START_MS + DRIFT_DAY * DAY_MS
    detected: list[DriftDetected] = []
    seconds = []
    for as_of in range(turn, START_MS + DAYS * DAY_MS + 1, config.step_ms):
        begin = time.perf_counter()
        detected += [event for event in monitor.step(as_of, now_ms=as_of)[1] if isinstance(event, DriftDetected)]
        seconds.append(time.perf_counter() - begin)
    looked = [event.occurred_at for event in detected]
    first = min((at for at in looked if at > turn), default=None)
    return {
        "seed": seed,
        "transactions": reader.transactions(0, 2**60),
        "detections": [f"{event.feature}:{event.statistic}:{event.severity}" for event in detected],
        "false_alarm": bool(detected) if drift is None else any(at <= turn for at in looked),
        "delay_hours": None if first is None else (first - turn) / HOUR_MS,
        "delay_transactions": None if first is None else reader.transactions(turn, first),
        "first": [event.feature for event in detected if event.occurred_at == first],
        "look_ms": 1e3 * float(np.median(seconds)),
    }


def speed(rows: int) -> dict[str, Any]:
    """`rows` predictions compared with as many: seconds of the best of five, all features and the score."""
    windows = [_realistic(rows, days, first, seed) for seed, (first, days) in enumerate(((0, 14), (14, 7)))]
    config = DriftConfig()
    compare(windows[0], windows[1], config, 60 * DAY_MS)
    timed = []
    for _ in range(5):
        begin = time.process_time()
        found = compare(windows[0], windows[1], config, 60 * DAY_MS)
        timed.append(time.process_time() - begin)
    tested = sum(each.state == "tested" for each in found)
    return {
        "rows": rows,
        "reference_rows": rows,
        "tested": tested,
        "cpu_s": min(timed),
        "cpu_s_median": sorted(timed)[2],
    }


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
        models=np.zeros(size, dtype=np.int64),
        digests=("m",),
    )


def summarised(runs: list[dict[str, Any]], drift: str | None) -> dict[str, Any]:
    """Counts over seeds."""
    delays = [run["delay_hours"] for run in runs if run["delay_hours"] is not None and drift]
    transactions = [run["delay_transactions"] for run in runs if run["delay_transactions"] is not None and drift]
    out: dict[str, Any] = {
        "drift": drift,
        "runs": len(runs),
        "false_alarm_runs": sum(run["false_alarm"] for run in runs),
        "looks_a_run": (DAYS - DRIFT_DAY) * 24 // STEP_HOURS + 1,
        "transactions_median": float(np.median([run["transactions"] for run in runs])),
        "look_ms_median": float(np.median([run["look_ms"] for run in runs])),
    }
    if drift:
        out["detected_runs"] = len(delays)
        for name, values in (("delay_hours", delays), ("delay_transactions", transactions)):
            if values:
                out |= {
                    f"{name}_{q}": float(np.percentile(values, p)) for q, p in (("p50", 50), ("p95", 95), ("max", 100))
                }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", action="store_true", help="the comparison's speed (also without --seeds)")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=0, help="number of streams with drift, and of as many without")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument(
        "--drift", default="all", help="amount, hours, mix, behaviour or all; none: only streams without drift"
    )
    parser.add_argument("--only-drift", action="store_true", help="skip the streams without drift")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures here")
    arguments = parser.parse_args()
    result: dict[str, Any] = {}
    if arguments.speed or not arguments.seeds:
        found = result["speed"] = speed(arguments.rows)
        print(
            f"{found['rows']:,} predictions against {found['reference_rows']:,}: {found['tested']} tests in "
            f"{found['cpu_s']:.3f} s of CPU, one core (median {found['cpu_s_median']:.3f})"
        )
    config = DriftConfig(step_ms=STEP_HOURS * HOUR_MS)
    kinds = [None] if arguments.drift == "none" else [None, arguments.drift][int(arguments.only_drift) :]
    for drift in kinds if arguments.seeds else []:
        runs = []
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            runs.append(run(seed, drift, config))
            print(f"  {drift or 'no drift':10} {json.dumps(runs[-1])[:300]}", flush=True)
        summary = summarised(runs, drift)
        result[drift or "without"] = {**summary, "seeds": runs}
        print(json.dumps(summary, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
