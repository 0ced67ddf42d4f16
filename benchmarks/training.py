"""How fast and in how much memory training sets are read, hot and archived, and how long training takes. One core.

    python -m benchmarks.training [synthetic | handbook PATH] [--limit N] [--rows N] [--trials N] [--json]

The stream is decided offline with reference tables, so entries are what a worker would log. `read_*` are decisions per
second, including both passes and verdicts; the archive is opened afresh, so every file's SHA-256 is checked. `peak_mb`
is the process's growth while it reads the archive, `features_mb` the matrix itself; the difference is the overhead of
reading. `train_*` is one training on the last `rows` decisions before the gap, with early stopping, calibration,
measures and bootstrap. `cpu` is this process's own time, for a shared machine.
"""

from __future__ import annotations

import gc
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from benchmarks.arguments import chosen_source, source_parser
from console import wiring
from core.context import Resolver
from core.log.archive import archiver
from core.log.archive.archive import open_archive
from core.log.archive.archived import ArchivedLog
from core.log.base import EventLog
from core.log.memory import MemoryLog
from core.times import DAY_MS
from ingest.offline import OfflineIngest
from learners.training import reading, training
from learners.training.dataset import TrainingSet, as_known
from learners.training.splits import Split
from sources.source import Source

EVER = 2**62
GAP_DAYS = 7


class Peak:
    """The process's largest resident memory while the block runs, above what it had before, MB."""

    def __enter__(self) -> Peak:
        gc.collect()
        self._before = self._largest = _resident()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self._largest = max(self._largest, _resident())

    @property
    def mb(self) -> float:
        """The growth at its largest, MB."""
        return (self._largest - self._before) / 2**20


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def decide(source: Source, partitions: int) -> MemoryLog:
    """The stream decided without a model: training reads only features and verdicts."""
    log = MemoryLog()
    offline = OfflineIngest(log, Resolver(log.get_blob, wiring.load_scorer), partitions=partitions)
    for chunk in source.records():
        offline.feed(chunk)
    offline.flush()
    return log


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """(result, wall seconds, CPU seconds of this process)."""
    gc.collect()
    started, used = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - started, time.process_time() - used


def run(source: Source, partitions: int, rows: int, trials: int) -> dict[str, float]:
    """All figures of one stream."""
    pa.set_cpu_count(1)
    hot: MemoryLog = decide(source, partitions)
    decisions = sum(hot.length(p, "scores") for p in range(partitions))
    from_hot, hot_s, hot_cpu = timed(lambda: reading.read(hot, range(partitions)))
    del from_hot
    with tempfile.TemporaryDirectory(prefix="sentinel-bench-") as folder:
        archive = open_archive(folder)
        for p in range(partitions):
            archiver.archive_partition(hot, archive, p, recorded_until=EVER)
            hot.trim(p, archive.end(p))
        log: EventLog = ArchivedLog(hot, open_archive(folder))
        with Peak() as peak:
            data, archived_s, archived_cpu = timed(lambda: reading.read(log, range(partitions)))
    assert isinstance(data, TrainingSet)
    until = int(data.times[-1])
    _, _, label_cpu = timed(lambda: as_known(data, until))
    figures = {
        "decisions": float(decisions),
        "verdicts": float(0 if data.verdicts is None else len(data.verdicts.said)),
        "read_hot_per_s": decisions / hot_s,
        "read_hot_per_cpu_s": decisions / hot_cpu,
        "read_archived_per_s": decisions / archived_s,
        "read_archived_per_cpu_s": decisions / archived_cpu,
        "read_archived_s": archived_s,
        "features_mb": data.features.nbytes / 2**20,
        "peak_mb": peak.mb,
        "label_cpu_s": label_cpu,
    }
    return figures | train(data, rows, trials)


def train(data: TrainingSet, rows: int, trials: int) -> dict[str, float]:
    """One training on `rows` decisions, tested on the last quarter of the time span, and another one with a search."""
    first, end = int(data.times[0]), int(data.times[-1]) + 1
    test_start = end - (end - first) // 4
    last = int(np.searchsorted(data.times, test_start - GAP_DAYS * DAY_MS))
    split = Split(int(data.times[max(last - rows, 0)]), test_start - GAP_DAYS * DAY_MS, test_start, end)
    trained, seconds, cpu = timed(lambda: training.train(data, split, seed=1))
    card = trained.card
    figures = {
        "train_rows": float(card["split"]["train_rows"]),
        "test_rows": float(card["split"]["test_rows"]),
        "trees": float(card["trees"]),
        "train_s": seconds,
        "train_cpu_s": cpu,
        "auc_roc": card["metrics"]["auc_roc"],
        "average_precision": card["metrics"]["average_precision"],
        "ece_before": card["calibration"]["before"]["ece"],
        "ece_after": card["calibration"]["after"]["ece"],
        "brier_before": card["calibration"]["before"]["brier"],
        "brier_after": card["calibration"]["after"]["brier"],
    }
    if trials:
        trained, _, searched = timed(lambda: training.train(data, split, seed=1, recipe=training.Recipe(trials=trials)))
        figures["search_cpu_s_a_trial"] = (searched - cpu) / trials
        figures["average_precision_searched"] = trained.card["metrics"]["average_precision"]
    return figures


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = source_parser(__doc__, 300_000, 2)
    parser.add_argument("--rows", type=int, default=100_000, help="decisions to train on, at most")
    parser.add_argument("--trials", type=int, default=0, help="trials of a search, timed separately")
    arguments = parser.parse_args()
    source = chosen_source(arguments, flush_feedback=True)
    figures = run(source, arguments.partitions, arguments.rows, arguments.trials)
    if arguments.json:
        print(msgspec.json.encode({name: round(value, 4) for name, value in figures.items()}).decode())
        return
    for name, value in figures.items():
        print(f"{name:<32}{value:>16,.4f}")


if __name__ == "__main__":
    main()
