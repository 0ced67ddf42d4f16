"""Erases accounts from a log with tokens: how long it takes, and what is left.

    python -m benchmarks.erasure [--transactions 2000000] [--accounts 1000] [--directory DIR]

The log is the synthetic stream, decided in memory with the vault in DIR; each payment has a sealed e-mail address. It
is archived in DIR, so many accounts are erased by their raw IDs, every decision is made again without the vault, and
every byte of the log and of all files in DIR is searched for the raw IDs and addresses. Memory: about 2.5 kB per
transaction.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from console import wiring
from console.erasing import erase, search
from core import control_stream, verification
from core.identity import FIXED
from core.log.archive.archive import open_archive
from core.log.archive.archiver import archive_partition
from core.log.memory import MemoryLog
from core.replay import Timeline
from ingest.offline import OfflineIngest
from ingest.protecting import Protection
from ingest.vault import Vault
from learners.governance.control_events import Act
from sources.record import Record
from sources.synthetic import SyntheticConfig, SyntheticStream

PARTITIONS = 4


def built(transactions: int, accounts: int, vault: Vault) -> tuple[MemoryLog, list[str]]:
    """(the log, raw account IDs in the order in which they first paid)."""
    log = MemoryLog()
    ingest = OfflineIngest(
        log,
        wiring.open_resolver(log),
        partitions=PARTITIONS,
        reference=False,
        identity=FIXED._replace(tokens=vault.key_id),
        protection=Protection(vault=vault, sealed=frozenset(("email",))),
    )
    config = SyntheticConfig(transactions=transactions, accounts=max(10 * accounts, 1_000), days=60.0, seed=5)
    names: dict[str, None] = {}
    for chunk in SyntheticStream(config, labels="all").records():
        renamed = []
        for record in chunk:
            body = msgspec.json.decode(record.value, type=dict[str, Any])
            account = body["account_id"] = f"person-{record.key}"
            if record.topic == "transactions":
                names[account] = None
                body["attributes"] = {"email": f"{account}@example.com"}
            renamed.append(Record(record.topic, account, record.timestamp, msgspec.json.encode(body)))
        ingest.feed(renamed)
    ingest.flush()
    return log, list(names)


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transactions", type=int, default=2_000_000)
    parser.add_argument("--accounts", type=int, default=1_000)
    parser.add_argument("--directory", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = given.directory or Path(temporary)
        vault = Vault(directory / "vault" / "keys")
        began = time.monotonic()
        log, names = built(given.transactions, given.accounts, vault)
        took = time.monotonic() - began
        print(f"{given.transactions:,} transactions of {len(names):,} accounts decided in {took:.0f} s")
        archive = open_archive(str(directory / "archive"))
        with archive.store.locked():
            for partition in range(PARTITIONS):
                archive_partition(log, archive, partition, recorded_until=2**53)
        erased = names[: given.accounts]
        identity = control_stream.identity_of(log)
        act = Act("benchmark", "benchmark", 1)
        done = erase(log, vault, identity, erased, act, {"files": directory})
        print(f"{done.keys_destroyed:,} keys destroyed in {done.seconds['keys']:.3f} s,", end=" ")
        print(f"recorded in {done.seconds['record']:.3f} s")
        searched = ", ".join(f"{place} {size:,}" for place, size in done.searched_bytes.items())
        print(f"searched for them in {done.seconds['search']:.1f} s (bytes: {searched});", end=" ")
        print(f"found: {done.still_found or 'none'}")
        vault.close()
        for path in (directory / "vault").iterdir():
            path.unlink()
        began = time.monotonic()
        timeline = Timeline(control_stream.history(log), wiring.open_resolver(log))
        found = [verification.verify(log, p, log.head(p), timeline) for p in range(PARTITIONS)]
        identical = sum(each.identical for each in found)
        print(f"identical on replay without the vault: {identical:,} of {sum(f.decisions for f in found):,}", end="")
        print(f" ({time.monotonic() - began:.0f} s)")
        everybody = [*names, *(f"{name}@example.com" for name in names)]
        searched_bytes, still = search(log, everybody, {"files": directory})
        total = sum(searched_bytes.values())
        print(f"raw IDs and addresses of all {len(names):,} accounts in {total:,} bytes: {still or 'none'}")


if __name__ == "__main__":
    main()
