"""How large a transaction is in the hot log and in the archive, and how fast the archive is written and read.

    python -m benchmarks.archive [synthetic | handbook PATH] [--limit N] [--partitions N] [--json]

The stream is decided offline with the shipped model, so entries are what a worker would log. Sizes count everything:
`archive_*` divide the archive's files by its transactions; the share of columns comes from the Parquet footers.
`hot_bytes` is the growth of Valkey's used_memory (without its replication and client buffers). Rates are of one process
on one core; reading includes checking every file's SHA-256.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import redis
from numpy.typing import NDArray

from console import wiring
from console.stack import Valkey
from core.control import Resolver
from core.events import START, ModelDeployed
from core.log.archive import archiver, verifying
from core.log.archive.archive import Archive, open_archive
from core.log.archive.archived import ArchivedLog
from core.log.archive.segment import DECISIONS, EVENTS
from core.log.base import STREAMS, EventLog
from core.log.memory import MemoryLog
from core.log.redis_streams import RedisLog
from core.replay import rebuild
from ingest.offline import OfflineIngest
from ingest.producers.registry import open_source
from ingest.producers.source import Source
from ingest.producers.synthetic import SyntheticConfig
from models.store import shipped_baseline

PAGE = 2000
EVER = 2**62


class Profiles:
    """The account profiles that the fold keeps: count, sum and maximum of amounts, declines, last seen (epoch ms)."""

    def __init__(self) -> None:
        self.slots: dict[str, int] = {}
        self.count = np.zeros(0, np.int64)
        self.total = np.zeros(0, np.float64)
        self.largest = np.zeros(0, np.float64)
        self.declined = np.zeros(0, np.int64)
        self.last = np.zeros(0, np.int64)

    def apply(self, table: pa.Table) -> None:
        """Fold decisions in order: columns account_id, amount, occurred_at, decision."""
        accounts = table["account_id"].combine_chunks().dictionary_encode()
        slots = [self.slots.setdefault(name, len(self.slots)) for name in accounts.dictionary.to_pylist()]
        self._grow(len(self.slots))
        rows = np.asarray(slots, np.int64)[accounts.indices.to_numpy()]
        amounts = table["amount"].to_numpy()
        size = len(self.slots)
        self.count += np.bincount(rows, minlength=size)
        self.total += np.bincount(rows, amounts, minlength=size)
        np.maximum.at(self.largest, rows, amounts)
        np.maximum.at(self.last, rows, table["occurred_at"].cast(pa.int64()).to_numpy())
        declined = pc.equal(table["decision"], "decline").to_numpy()
        self.declined += np.bincount(rows[declined], minlength=size)

    def _grow(self, size: int) -> None:
        def grown(values: NDArray[Any]) -> NDArray[Any]:
            return np.concatenate([values, np.zeros(size - len(values), values.dtype)])

        self.count, self.total, self.largest = grown(self.count), grown(self.total), grown(self.largest)
        self.declined, self.last = grown(self.declined), grown(self.last)


def decide(source: Source, log: EventLog, partitions: int) -> None:
    """The stream through the worker's own path into `log`."""
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
    """Valkey's memory a transaction, all streams, the control stream, keys and blobs counted."""
    with Valkey(directory, appendfsync="no") as server:
        client = redis.Redis(server.host, server.port)
        before = _dataset(client)
        target = RedisLog(client, "bench")
        target.append_control([payload for _, payload in log.read_control(count=10**6)], 0)
        for digest in log._blobs:
            target.put_blob(log.get_blob(digest))
        for p in range(partitions):
            for stream in STREAMS:
                key, after = target.key(p, stream), START
                while page := log.read(p, stream, after, PAGE):
                    pipe = client.pipeline(transaction=False)
                    for entry in page:
                        pipe.xadd(key, {"e": entry.payload}, id=str(entry.id))
                    pipe.execute()
                    after = page[-1].id
        grown = _dataset(client) - before
        target.close()
    return grown / sum(log.length(p, "transactions") for p in range(partitions))


def _dataset(client: Any) -> int:
    info = client.info("memory")
    return int(info["used_memory"] - info.get("mem_clients_normal", 0) - info.get("mem_aof_buffer", 0))


def sizes(archive: Archive, directory: Path, partitions: int) -> dict[str, float]:
    """Bytes a transaction: by what they hold, and altogether with alerts, seals, footers and manifest."""
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
                    if metadata.row_group(g).column(i).path_in_schema == "features"
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
    """Events a second of the trimmed log: entries read, profiles folded from columns, state rebuilt, all verified."""
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

    started = time.perf_counter()
    profiles = Profiles()
    fresh = ArchivedLog(hot, open_archive(str(directory)))
    for p in range(partitions):
        for table in fresh.tables(p, ["account_id", "amount", "occurred_at", "decision"]):
            profiles.apply(table)
    profiles_per_s = transactions / (time.perf_counter() - started)
    if int(profiles.count.sum()) != transactions:
        raise SystemExit(f"the fold counted {int(profiles.count.sum())} of {transactions} transactions")

    started = time.perf_counter()
    for p in range(partitions):
        rebuild(log, p, log.head(p))
    rebuilt_per_s = transactions / (time.perf_counter() - started)

    started = time.perf_counter()
    checked = [verifying.check_partition(hot, open_archive(str(directory)), p) for p in range(partitions)]
    verified_per_s = sum(c.entries for c in checked) / (time.perf_counter() - started)
    if any(c.fault for c in checked):
        raise SystemExit("\n".join(c.fault for c in checked if c.fault))
    return {
        "read_entries_per_s": entries_per_s,
        "profile_fold_events_per_s": profiles_per_s,
        "state_rebuild_transactions_per_s": rebuilt_per_s,
        "verify_entries_per_s": verified_per_s,
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
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", nargs="?", default="synthetic")
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--limit", type=int, default=200_000, help="transactions")
    parser.add_argument("--partitions", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.source == "synthetic":
        source = open_source("synthetic", synthetic=SyntheticConfig(transactions=arguments.limit))
    else:
        source = open_source(arguments.source, arguments.path, limit=arguments.limit)
    figures = run(source, arguments.partitions)
    if arguments.json:
        print(msgspec.json.encode({name: round(value, 2) for name, value in figures.items()}).decode())
        return
    for name, value in figures.items():
        print(f"{name:<36}{value:>16,.1f}", file=sys.stdout)


if __name__ == "__main__":
    main()
