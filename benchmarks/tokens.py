"""What a log with tokens and sealed attributes costs per transaction, in one run with the same log without.

    python -m benchmarks.tokens [--transactions 40000] [--rounds 7] [--accounts 2000] [--sealed 0]

CPU time of taking, deciding and sealing a synthetic stream in memory, without Kafka and a log server, in turn; minima
of the rounds. With tokens, every account is new to the vault in each round: one row and its share of an fsync.
`--sealed`: so many personal attributes in each payment, the same in all of an account's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from console import wiring
from core.identity import FIXED
from core.log.memory import MemoryLog
from ingest.offline import OfflineIngest
from ingest.protecting import Protection
from ingest.vault import Vault
from sources.record import Record
from sources.synthetic import SyntheticConfig, SyntheticStream


def stream(transactions: int, accounts: int, sealed: int) -> list[Record]:
    """The records; each payment has so many personal attributes."""
    config = SyntheticConfig(transactions=transactions, accounts=accounts, days=30.0, seed=5)
    source = SyntheticStream(config, labels="all")
    found = []
    for record in (record for chunk in source.records() for record in chunk):
        if record.topic == "transactions" and sealed:
            body = msgspec.json.decode(record.value, type=dict[str, Any])
            body["attributes"] = {f"p{n}": f"{record.key}.{n}@example.com" for n in range(sealed)}
            record = record._replace(value=msgspec.json.encode(body))  # noqa: PLW2901
        found.append(record)
    return found


def decide(records: list[Record], vault: Vault | None, sealed: int) -> tuple[float, float]:
    """Seconds of (CPU, wall time) of deciding them."""
    log = MemoryLog()
    identity = FIXED if vault is None else FIXED._replace(tokens=vault.key_id)
    protection = Protection(vault=vault, sealed=frozenset(f"p{n}" for n in range(sealed)))
    ingest = OfflineIngest(log, wiring.open_resolver(log), reference=False, identity=identity, protection=protection)
    cpu, wall = time.process_time(), time.perf_counter()
    ingest.feed(records)
    ingest.flush()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    """Print the costs and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transactions", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--accounts", type=int, default=2_000)
    parser.add_argument("--sealed", type=int, default=0)
    given = parser.parse_args()
    records = stream(given.transactions, given.accounts, given.sealed)
    best = {False: (9e9, 9e9), True: (9e9, 9e9)}
    with tempfile.TemporaryDirectory() as directory:
        for turn in range(given.rounds + 1):
            for has_tokens in (False, True):
                vault = Vault(Path(directory) / f"vault-{turn}") if has_tokens else None
                cost = decide(records, vault, given.sealed)
                if turn:
                    best[has_tokens] = min(best[has_tokens][0], cost[0]), min(best[has_tokens][1], cost[1])
    per = {key: tuple(seconds / given.transactions * 1e6 for seconds in both) for key, both in best.items()}
    print(f"µs of CPU per transaction: {per[False][0]:.2f} raw, {per[True][0]:.2f} with tokens", end="")
    print(f" (ratio {per[True][0] / per[False][0]:.3f}); wall time ratio {per[True][1] / per[False][1]:.3f}")


if __name__ == "__main__":
    main()
