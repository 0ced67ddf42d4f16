"""Everything at once for millions of transactions: does anything grow, and is every count exact?

    python -m benchmarks.soak --transactions N --directory DIR [--rate 4200] [--minutes M] [--json]

Real processes: two workers, the read models (`project --follow`), the merchants' and devices' tables (`reference
--follow`), the adaptive loop with drift and training (`learn --follow --clock log`), and an archiver that trims,
started again and again as from cron; on Valkey with fsync always, and on Apache Kafka that deletes by size
(tests/integration has its jars through Maven; the local broker never forgets a message).

Compressed time: a synthetic bank's history of three payments per account and day: 20 million transactions of 20,000
accounts are 11 months. Windows, expiries and trainings follow these months. They are sent at `--rate` a second, an open
loop, so latency is comparable as long as the machine can hold that rate; if it can't, the producer waits while LEAD
transactions are undecided, and latency is LEAD by throughput. It also waits while the log server holds HOT_BYTES_MAX:
then the archiver or a projection is behind. What is measured is growth, not the highest rate.

Samples are written to DIR/samples.jsonl as they are taken; `benchmarks.soak_figures` says how they are judged. In the
end all is archived, and every count must agree: transactions produced, decided by workers, in the read models, and
archived with a score each, with as many distinct IDs. The whole log is verified, and `--replay` of its partitions are
decided again. Exits 1 if a count is wrong, a decision differs, or a figure that should be flat grows. The archive keeps
everything, so it grows by design; its bytes per transaction are a figure of their own.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from benchmarks.running import answer_of, print_figures, wait_for
from benchmarks.soak_figures import slices, slopes, table
from benchmarks.soak_house import PARTITIONS, STALLED_S, WORKERS, House, Watch, size_of
from console import wiring
from core import control_stream
from core.events import START
from core.log.archive.archive import open_archive
from core.settings import Settings
from core.times import DAY_MS
from ingest.history import loading
from ingest.producer import publish
from sources.catalogue import open_source
from sources.record import Record
from sources.synthetic import PER_ACCOUNT_DAY, SyntheticConfig

LEAD = 60_000
"""Transactions that may be undecided: well below what Kafka keeps."""
HOT_BYTES_MAX = 2 << 30
BY_DESIGN = ("disk archive", "throughput", "memory benchmark")
"""Figures that may grow: see the module's docstring; the benchmark holds its own samples."""


def _held_back(
    chunks: Iterable[list[Record]], house: House, watch: Watch, sent: dict[str, int], until: float
) -> Iterator[list[Record]]:
    """The same chunks, as fast as they are decided, until a moment. sent: counts by topic, kept here."""
    for chunk in chunks:
        waited = time.monotonic()
        if waited > until:
            return
        while sent["transactions"] - house.decided > LEAD or house.hot_bytes > HOT_BYTES_MAX:
            watch.check()
            if time.monotonic() - waited > STALLED_S:
                raise SystemExit(f"nothing moved for {STALLED_S:.0f} s at {house.decided:,} decided")
            time.sleep(0.02)
        watch.check()
        yield chunk
        for record in chunk:
            sent[record.topic] += 1


def run(count: int, directory: Path, accounts: int, replayed: int, seconds_max: float, rate: float) -> dict[str, Any]:
    """All figures. Leaves no process running; the files stay. replayed: of how many partitions all is decided again.
    seconds_max: nothing is sent after so long. rate: transactions a second.
    """
    directory.mkdir(parents=True)
    with ExitStack() as stack:
        house = House(directory, stack)
        house.start()
        began = time.monotonic()
        watch = Watch(house)
        sent = {"transactions": 0, "feedback": 0}
        span_ms = int(count / (accounts * PER_ACCOUNT_DAY) * DAY_MS)
        start = int(time.time() * 1000) - span_ms - 30 * DAY_MS
        config = SyntheticConfig(transactions=count, accounts=accounts, start=start)
        source = open_source("synthetic", flush_feedback=False, synthetic=config)
        with loading(
            lambda: wiring.open_log(house.settings),
            house.settings,
            source.records(),
            "soak",
            start + span_ms + 40 * DAY_MS,
        ) as records:
            until = time.monotonic() + seconds_max
            report = publish(_held_back(records, house, watch, sent, until), house.settings, rate=rate)
        produced = report.sent["transactions"]
        wait_for(lambda: _all_decided(house, watch, produced), "the last decisions", STALLED_S)
        seconds = time.monotonic() - began
        watch.stop()
        house.stop("loop", "reference", "projector")
        house.project_all()
        totals = answer_of(house.settings, "query", *house.projecting, "stats", "--json")["totals"]
        archived = house.archive_all()
        hot_after = house.hot_now()
        verified = answer_of(house.settings, "verify", "--json")
        only = [part for number in range(replayed) for part in ("--partition", str(number))]
        decided_again = answer_of(
            house.settings, "replay", "--verify", "--json", "--jobs", "1", "--max-late", "100", *only
        )
        house.stop(*(f"worker-{number}" for number in range(1, WORKERS + 1)))
        counted = _counted(house.settings)
        found = slices(house.samples, produced)
        judged = slopes(found)
        grew = [name for name, each in judged.items() if each.verdict == "grows" and not name.startswith(BY_DESIGN)]
        exact = (
            produced
            == sent["transactions"]
            == house.decided
            == totals["transactions"]
            == counted["transactions"]
            == counted["scores"]
            == counted["distinct_ids"]
        ) and report.sent["feedback"] == totals["feedback"] == counted["feedback"]
        return {
            "transactions": produced,
            "asked": count,
            "feedback": report.sent["feedback"],
            "seconds": seconds,
            "per_s": produced / seconds,
            "days_of_event_time": span_ms / DAY_MS * produced / count,
            "cpu_us_per_transaction": {name: 1e6 * s / produced for name, s in house.cpu_s.items()},
            "decided_by_workers": house.decided,
            "read_models": totals,
            "archived": counted,
            "archivings": house.archivings,
            "last_archiving": archived,
            "archive_bytes_per_transaction": size_of(directory / "archive") / produced,
            "hot_mib_after_archiving": hot_after / (1 << 20),
            "control_events": _control_events(house.settings),
            "exact": exact,
            "verify_ok": verified["ok"] or verified["faults"] == [],
            "decided_again": decided_again["decisions"],
            "identical": decided_again["identical"],
            "slices": len(found.decided),
            "by_slice": {name: [round(float(value), 2) for value in values] for name, values in found.series.items()},
            "slopes": judged,
            "grew": grew,
        }


def _all_decided(house: House, watch: Watch, produced: int) -> bool:
    watch.check()
    return house.decided >= produced


def _counted(settings: Settings) -> dict[str, int]:
    """Entries of the archive by stream, and distinct transaction IDs in it."""
    archive = open_archive(settings.archive, settings.archive_cold)
    found = {
        stream: sum(archive.count(p, stream) for p in range(PARTITIONS))
        for stream in ("transactions", "scores", "alerts", "feedback", "rejects", "seals")
    }
    found["distinct_ids"] = 0
    for p in range(PARTITIONS):
        hashes = [
            pl.Series(table.column("transaction_id").to_pylist(), dtype=pl.String).hash(1)
            for table in archive.tables(p, ["transaction_id"], START, archive.end(p).transactions)
        ]
        found["distinct_ids"] += pl.concat(hashes).n_unique() if hashes else 0
    return found


def _control_events(settings: Settings) -> dict[str, int]:
    """Events of the control stream by type."""
    with closing(wiring.open_log(settings)) as log:
        names = Counter(msgspec.json.decode(entry.payload, type=_Typed).type for entry in control_stream.history(log))
        return dict(sorted(names.items()))


class _Typed(msgspec.Struct):
    type: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transactions", type=int, default=20_000_000)
    parser.add_argument("--directory", type=Path, required=True, help="a new folder for servers, archive and samples")
    parser.add_argument("--rate", type=float, default=4_200.0, help="transactions per second")
    parser.add_argument("--minutes", type=float, default=1e6, help="send no more after so long, and check what was")
    parser.add_argument("--accounts", type=int, default=20_000)
    parser.add_argument("--replay", type=int, default=1, help=f"partitions, of {PARTITIONS}, that are decided again")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also in the background: sends no more, checks what was
    if arguments.directory.exists():
        parser.error(f"{arguments.directory} exists; name a new folder")
    found = run(
        arguments.transactions,
        arguments.directory,
        arguments.accounts,
        arguments.replay,
        60 * arguments.minutes,
        arguments.rate,
    )
    by_slice = found.pop("by_slice")
    judged = found.pop("slopes")
    (arguments.directory / "slices.json").write_bytes(msgspec.json.encode(by_slice))
    if arguments.json:
        print_figures({**found, "slopes": {n: msgspec.to_builtins(s) for n, s in judged.items()}}, as_json=True)
    else:
        print_figures(found, as_json=False)
        print(table(judged))
    bad = not found["exact"] or not found["verify_ok"] or found["identical"] != found["decided_again"] or found["grew"]
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
