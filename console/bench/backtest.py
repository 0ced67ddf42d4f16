"""`sentinel bench backtest`: one changed rule, and a program with new features, over millions of archived decisions.

The archive is made once, cheaply: a part is decided by the shipped model through the live path, and its columns are
repeated with later IDs and times; after ten files, these are listed again. Only this partition's segments exist; their
rows name no hash, because a backtest reads columns and checks pages.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from console import wiring
from core.context import Resolver
from core.control_stream import history
from core.events import ModelDeployed, Position
from core.log.archive import manifest, segment
from core.log.archive.archive import Archive, open_archive
from core.log.archive.archived import ArchivedLog
from core.log.archive.columns import decisions_table
from core.log.archive.manifest import DECISIONS, File, Row
from core.log.base import STREAMS, Head
from core.log.memory import MemoryLog
from core.program import loading
from core.program.library import kernel
from core.program.plan import plan
from core.times import DAY_MS
from ingest.offline import OfflineIngest
from models.shipped import shipped_baseline
from projections.audit.backtest import Backtest
from projections.audit.tally import Tally
from projections.audit.whatif import Scope
from projections.labelling.reader import LabelReader
from projections.labelling.view import LabelView
from sources.catalogue import open_source
from sources.synthetic import SyntheticConfig

PART, DAYS = 100_000, 3
FILES = 10
"""Files that are written; the archive lists them again and again."""
RUNS = 5
RULE = b"""
[program]
name = "changed"
version = "1.0.0"
uses = ["standard@1"]

[parameters]
velocity_10m = 4
"""


NEW_DECISIONS = 2_000_000
"""Decisions over which the program with new features is judged."""
NEW = (
    RULE
    + b"""
[features]
declines_10m = "count(account, '10m', decision == 'decline')"
electronics_30d = "sum(account, '30d', amount, merchant_category == 'electronics')"

[[rules]]
code = "DECLINES_THEN_ELECTRONICS"
when = "declines_10m > 3 && merchant_category == 'electronics' && amount > 500 && device_is_new"
effect = "review"

[[rules]]
code = "MUCH_ELECTRONICS"
when = "electronics_30d > 2000 && merchant_category == 'electronics'"
effect = "review"
"""
)
"""Aggregates of its own decisions and of fields, which no score stores."""


class NewFeatures(msgspec.Struct, frozen=True):
    """A program with new features, which are computed from columns: one backtest, without labels."""

    decisions: int
    seconds: float
    cpu_s: float
    decisions_per_s: float
    alerts_before: int
    alerts_after: int


class Result(msgspec.Struct, frozen=True):
    """seconds: the median of RUNS backtests without labels; cpu_s: the CPU time of all their threads. seconds_labelled:
    with labels, for which account and transaction of every row are read too. bytes_per_decision: of the archive.
    """

    decisions: int
    seconds: float
    cpu_s: float
    seconds_labelled: float
    decisions_per_s: float
    alerts_before: int
    alerts_after: int
    labelled: int
    bytes_per_decision: float
    built_s: float
    threads: int
    new_features: NewFeatures


def run(decisions: int, threads: int, report: Callable[[str], None]) -> Result:
    """Build the archive in a temporary directory and measure."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="sentinel-backtest-") as directory:
        report(f"deciding {PART:,} payments")
        hot = _decided()
        report(f"writing an archive of {decisions:,} decisions")
        archive, size = _repeated(hot, Path(directory), max(decisions // PART, 1))
        built = time.perf_counter() - began
        log = ArchivedLog(hot, archive)
        labels = LabelReader(hot, [0]).view()
        report(f"judging, {RUNS} times with and without labels")
        bare, cpu, tally = _timed(log, LabelView([], labels.learning, labels.key), threads)
        labelled, _, judged = _timed(log, labels, threads)
        report("judging a program with new features")
        new = _new_features(log, LabelView([], labels.learning, labels.key), threads)
    total = np.sum([day[0] for day in tally.days.values()], axis=0)
    count = int(total.sum())
    known = sum(int(day[0, :, :, 1:3].sum()) for day in judged.days.values())
    return Result(
        decisions=count,
        seconds=bare,
        cpu_s=cpu,
        seconds_labelled=labelled,
        decisions_per_s=count / bare,
        alerts_before=int(total[1:].sum()),
        alerts_after=int(total[:, 1:].sum()),
        labelled=known,
        bytes_per_decision=size / count,
        built_s=built,
        threads=threads,
        new_features=new,
    )


def _decided() -> MemoryLog:
    log = MemoryLog()
    content, card = shipped_baseline()
    log.put_blob(content)
    model = ModelDeployed(
        occurred_at=0, actor="bench", name=card["name"], version=card["version"], digest=card["digest"]
    )
    ingest = OfflineIngest(log, Resolver(log.get_blob, wiring.load_scorer), partitions=1, start=[model])
    config = SyntheticConfig(transactions=PART, days=float(DAYS), accounts=5_000, fraud_rate=0.005, seed=7)
    for chunk in open_source("synthetic", labels="all", flush_feedback=True, synthetic=config).records():
        ingest.feed(chunk)
    ingest.flush()
    return log


def _repeated(hot: MemoryLog, directory: Path, copies: int) -> tuple[Archive, int]:
    """An archive that repeats the log's decisions, and its bytes."""
    table = decisions_table(hot.read(0, "transactions", count=PART), hot.read(0, "scores", count=PART))
    rows: list[Row] = []
    size = 0
    end = hot.head(0)
    for copy in range(copies):
        name = manifest.file_name(0, copy % FILES + 1, copy % FILES + 1, DECISIONS)
        path = directory / name
        if copy >= FILES:
            size += path.stat().st_size
            rows.append(_row(copy, end, name, path))
            continue
        part = _later(table, copy)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(segment.decisions_file(part))
        size += path.stat().st_size
        rows.append(_row(copy, end, name, path))
    archive = open_archive(str(directory))
    archive.hold(0, rows)
    return archive, size


def _row(copy: int, end: Head, name: str, path: Path) -> Row:
    return Row(
        partition=0,
        first_sequence=copy + 1,
        last_sequence=copy + 1,
        transactions=str(_end(end, copy)),
        feedback=str(end.feedback),
        control=end.control,
        published=str(end.published),
        seal_digest=end.digest,
        first_recorded_at=copy,
        last_recorded_at=copy,
        counts={stream: PART if stream in ("transactions", "scores") else 0 for stream in STREAMS},
        files=(File(name=name, sha256="", bytes=path.stat().st_size),),
        previous="",
    )


def _end(end: Head, copy: int) -> Position:
    return Position(end.transactions.generation, end.transactions.offset + copy * 2 * PART)


def _later(table: pa.Table, copy: int) -> pa.Table:
    """The decisions again, with later IDs and times."""
    for name in ("occurred_at", "received_at", "recorded_at"):
        shifted = table[name].cast(pa.int64()).to_numpy() + copy * DAYS * DAY_MS
        table = table.set_column(table.column_names.index(name), name, pa.array(shifted).cast(table[name].type))
    offsets = table["offset"].to_numpy() + np.uint64(copy * 2 * PART)
    return table.set_column(table.column_names.index("offset"), "offset", pa.array(offsets))


def _new_features(log: ArchivedLog, labels: LabelView, threads: int) -> NewFeatures:
    program = plan(loading.check(NEW).checked, kernel())
    entries, until = history(log), log.archive.end(0)
    rows = log.archive.rows(0)
    short, last = (Scope(last=rows[min(n // PART, len(rows)) - 1].end.transactions) for n in (PART, NEW_DECISIONS))
    Backtest(log, entries, program, labels, threads).run_columns(0, until, short)  # compiles
    began, used = time.perf_counter(), time.process_time()
    tally = Backtest(log, entries, program, labels, threads).run_columns(0, until, last)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    total = np.sum([day[0] for day in tally.days.values()], axis=0)
    count = int(total.sum())
    return NewFeatures(
        decisions=count,
        seconds=seconds,
        cpu_s=cpu,
        decisions_per_s=count / seconds,
        alerts_before=int(total[1:].sum()),
        alerts_after=int(total[:, 1:].sum()),
    )


def _timed(log: ArchivedLog, labels: LabelView, threads: int) -> tuple[float, float, Tally]:
    """The median wall and CPU time of RUNS backtests, after one that is not counted."""
    program = plan(loading.check(RULE).checked, kernel())
    entries = history(log)
    until = log.archive.end(0)
    times: list[float] = []
    cpu: list[float] = []
    found: Any = None
    for _ in range(RUNS + 1):
        began, used = time.perf_counter(), time.process_time()
        found = Backtest(log, entries, program, labels, threads).run(0, until, Scope())
        times.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    return median(times[1:]), median(cpu[1:]), found
