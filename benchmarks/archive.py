"""How large a transaction is in the hot log and in the archive, and how fast the archive is written and read.

    python -m benchmarks.archive [synthetic | handbook PATH] [--limit N] [--partitions N] [--json]

The stream is decided offline with the shipped model, so entries are what a worker would log. Sizes count everything:
`archive_*` divide the archive's files by its transactions; the share of columns comes from the Parquet footers.
`hot_bytes` is the growth of Valkey's used_memory (without its replication and client buffers). Rates are of one process
on one core, by wall time unless they say cpu; reading includes checking every file's SHA-256.

`profile_fold_*` is the product's projection `profiles`, folded by its runner from scratch over the complete archive.
`decisions` counts a transaction with its score and alert once; `events` counts every entry that the fold applies
(transaction, score, alert, feedback). The result is compared byte for byte with a fold fact by fact.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import redis

from benchmarks.arguments import chosen_source, source_parser
from console import wiring
from console.gc_tuning import tune_for_reading
from console.stack import Valkey
from core.context import Resolver
from core.events import ModelDeployed
from core.identity import FIXED
from core.log.archive import archiver, verifying
from core.log.archive.archive import Archive, open_archive
from core.log.archive.archived import ArchivedLog
from core.log.archive.manifest import DECISIONS, EVENTS
from core.log.base import STREAMS, EventLog, Stream
from core.log.memory import MemoryLog
from core.log.paging import PAGE, pages
from core.log.redis_streams import RedisLog
from core.replay import rebuild
from ingest.offline import OfflineIngest
from models.shipped import shipped_baseline
from projections.engine.base import NOWHERE, fold
from projections.engine.feed import facts_between
from projections.engine.runner import Runner
from projections.views.profiles.projection import PROFILES
from sources.source import Source

EVER = 2**62
ROUNDS = 3


def decide(source: Source, log: EventLog, partitions: int) -> None:
    """Send the stream through the worker's own path into `log`."""
    content, card = shipped_baseline()
    log.put_blob(content)
    deployed = ModelDeployed(
        occurred_at=0, actor="bench", name=card["name"], version=card["version"], digest=card["digest"]
    )
    offline = OfflineIngest(log, Resolver(log.get_blob, wiring.load_scorer), partitions=partitions, start=[deployed])
    for chunk in source.records():
        offline.feed(chunk)
    offline.flush()


def hot_bytes(log: MemoryLog, partitions: int, directory: Path) -> float:
    """Valkey's memory per transaction, including all streams, the control stream, keys and blobs."""
    with Valkey(directory, appendfsync="no") as server:
        client = redis.Redis(server.host, server.port)
        before = _dataset(client)
        target = RedisLog(client, "bench")
        target.append_control([payload for _, payload in log.read_control(count=10**6)], 0)
        for digest in log._blobs:
            target.put_blob(log.get_blob(digest))
        for p in range(partitions):
            for stream in STREAMS:
                key = target.key(p, stream)
                for page in pages(log, p, stream):
                    pipe = client.pipeline(transaction=False)
                    for entry in page:
                        pipe.xadd(key, {"e": entry.payload}, id=str(entry.id))
                    pipe.execute()
        grown = _dataset(client) - before
        target.close()
    return grown / sum(log.length(p, "transactions") for p in range(partitions))


def _dataset(client: Any) -> int:
    info = client.info("memory")
    return int(info["used_memory"] - info.get("mem_clients_normal", 0) - info.get("mem_aof_buffer", 0))


def sizes(archive: Archive, directory: Path, partitions: int) -> dict[str, float]:
    """Bytes per transaction: by content, and in total with alerts, seals, footers and manifest."""
    transactions = columns = features = events = 0
    for p in range(partitions):
        for row in archive.rows(p):
            transactions += row.count("transactions")
            for file in row.files:
                if file.name.endswith(EVENTS):
                    events += file.bytes
                if not file.name.endswith(DECISIONS):
                    continue
                metadata = pq.read_metadata(directory / file.name)
                vector = sum(
                    metadata.row_group(g).column(i).total_compressed_size
                    for g in range(metadata.num_row_groups)
                    for i in range(metadata.num_columns)
                    if metadata.row_group(g).column(i).path_in_schema.startswith("feature_")
                )
                features += vector
                columns += file.bytes - vector
    total = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    return {
        "archive_bytes_without_features": columns / transactions,
        "archive_bytes_with_features": (columns + features) / transactions,
        "archive_bytes_other_streams": events / transactions,
        "archive_bytes_everything": total / transactions,
    }


def rates(hot: MemoryLog, directory: Path, partitions: int, transactions: int) -> dict[str, float]:
    """Events per second on the trimmed log: reading entries, folding profiles, rebuilding state, verifying all."""
    log = ArchivedLog(hot, open_archive(str(directory)))
    started = time.perf_counter()
    entries = 0
    for p in range(partitions):
        for stream in STREAMS:
            page = log.archive.read(p, stream, count=PAGE)
            while page:
                entries += len(page)
                page = log.archive.read(p, stream, page[-1].id, PAGE)
    entries_per_s = entries / (time.perf_counter() - started)

    folded = profile_fold(hot, directory, partitions)

    started = time.perf_counter()
    for p in range(partitions):
        rebuild(log, p, log.head(p), FIXED)
    rebuilt_per_s = transactions / (time.perf_counter() - started)

    started = time.perf_counter()
    checked = [verifying.check_partition(hot, open_archive(str(directory)), p) for p in range(partitions)]
    verified_per_s = sum(c.entries for c in checked) / (time.perf_counter() - started)
    if any(c.fault for c in checked):
        raise SystemExit("\n".join(c.fault for c in checked if c.fault))
    return {
        "read_entries_per_s": entries_per_s,
        **folded,
        "state_rebuild_transactions_per_s": rebuilt_per_s,
        "verify_entries_per_s": verified_per_s,
    }


def profile_fold(hot: MemoryLog, directory: Path, partitions: int) -> dict[str, float]:
    """Time the runner of the product's `profiles` catching up over the archive from scratch; best of ROUNDS.

    An event is an entry that the fold applies: transaction, score, alert, feedback. Kernels are compiled beforehand.
    Exits unless the state equals that of a fold fact by fact, and includes every decision.
    """
    tune_for_reading()  # as `sentinel project` does
    best, cpu = 0.0, 0.0
    for _ in range(ROUNDS + 1):
        log = ArchivedLog(hot, open_archive(str(directory)))
        started, used = time.perf_counter(), time.process_time()
        runner = Runner(log, range(partitions), [PROFILES])
        runner.catch_up()
        seconds, used = time.perf_counter() - started, time.process_time() - used
        decisions = sum(
            a.transactions for p in range(partitions) for a in runner.view(PROFILES, p).state.accounts.values()
        )
        best, cpu = max(best, decisions / seconds), max(cpu, decisions / used)
    streams: tuple[Stream, ...] = ("transactions", "scores", "alerts", "feedback")
    held = {stream: sum(log.archive.count(p, stream) for p in range(partitions)) for stream in streams}
    started = time.perf_counter()
    for p in range(partitions):
        view = runner.view(PROFILES, p)
        by_facts = fold(PROFILES, facts_between(log, p, NOWHERE, view.place))
        if PROFILES.encode(by_facts) != PROFILES.encode(view.state) or view.place.sequence != log.head(p).sequence:
            raise SystemExit(f"partition {p}: the fold by columns differs from the fold fact by fact")
    by_facts_per_s = decisions / (time.perf_counter() - started)
    if decisions != held["transactions"]:
        raise SystemExit(f"the fold counted {decisions} of {held['transactions']} transactions")
    return {
        "profile_fold_decisions_per_s": best,
        "profile_fold_decisions_per_cpu_s": cpu,
        "profile_fold_events_per_s": best * sum(held.values()) / decisions,
        "profile_fold_by_facts_decisions_per_s": by_facts_per_s,
    }


def run(source: Source, partitions: int) -> dict[str, float]:
    """All figures of one stream."""
    pa.set_cpu_count(1)
    log = MemoryLog()
    decide(source, log, partitions)
    transactions = sum(log.length(p, "transactions") for p in range(partitions))
    with tempfile.TemporaryDirectory(prefix="sentinel-bench-") as folder:
        directory = Path(folder) / "archive"
        archive = open_archive(str(directory))
        started = time.perf_counter()
        for p in range(partitions):
            archiver.archive_partition(log, archive, p, recorded_until=EVER)
        written = transactions / (time.perf_counter() - started)
        figures = {
            "transactions": float(transactions),
            "hot_bytes": hot_bytes(log, partitions, Path(folder) / "valkey"),
        }
        figures |= sizes(archive, directory, partitions)
        figures["archive_transactions_per_s"] = written
        for p in range(partitions):
            log.trim(p, archive.end(p))
        return figures | rates(log, directory, partitions, transactions)


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = source_parser(__doc__, 200_000, 2)
    arguments = parser.parse_args()
    source = chosen_source(arguments)
    figures = run(source, arguments.partitions)
    if arguments.json:
        print(msgspec.json.encode({name: round(value, 2) for name, value in figures.items()}).decode())
        return
    for name, value in figures.items():
        print(f"{name:<36}{value:>16,.1f}", file=sys.stdout)


if __name__ == "__main__":
    main()
