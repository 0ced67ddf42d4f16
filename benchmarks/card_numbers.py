"""How often IDs that are no card numbers are taken for some, and what the search costs per transaction.

    python -m benchmarks.card_numbers [--ids 200000] [--transactions 40000] [--rounds 7]

The cost is the CPU time of deciding a synthetic stream in memory, without Kafka and a log server, with the search and
without it, in turn in one run: minima of the rounds.
"""

from __future__ import annotations

import argparse
import random
import time
import uuid
from collections.abc import Callable

from console import wiring
from core.card_numbers import NONE, find, is_suspicious
from core.log.memory import MemoryLog
from ingest import partition
from ingest.offline import OfflineIngest
from sources.record import Record
from sources.synthetic import SyntheticConfig, SyntheticStream

NOW_MS = 1_790_000_000_000


def identifiers(dice: random.Random) -> dict[str, Callable[[int], str]]:
    """Kinds of identifiers and numbers; each makes its n-th."""
    return {
        "random, 16 digits": lambda n: f"{dice.randrange(10**15, 10**16)}",
        "random, 13 digits": lambda n: f"{dice.randrange(10**12, 10**13)}",
        "random, 15 digits": lambda n: f"{dice.randrange(10**14, 10**15)}",
        "random, 19 digits": lambda n: f"{dice.randrange(10**18, 10**19)}",
        "sequence, 16 digits from 1000000000000000": lambda n: f"{10**15 + n}",
        "date and sequence, 20261126 00000001": lambda n: f"20261126{n:08d}",
        "epoch ms": lambda n: f"{NOW_MS + dice.randrange(10**11)}",
        "epoch µs": lambda n: f"{NOW_MS * 1_000 + dice.randrange(10**14)}",
        "epoch ns": lambda n: f"{NOW_MS * 1_000_000 + dice.randrange(10**17)}",
        "UUID": lambda n: str(uuid.UUID(int=dice.getrandbits(128), version=4)),
        "SHA-256, hexadecimal": lambda n: f"{dice.getrandbits(256):064x}",
        "number in [0, 1), 16 to 18 digits": lambda n: repr(dice.random()),
        "phone number, +49 and 11 digits": lambda n: f"+49{dice.randrange(10**10, 10**11)}",
        "EAN-13 of Germany": lambda n: f"4{dice.randrange(0, 41):02d}{dice.randrange(10**10):010d}",
    }


def rates(count: int) -> dict[str, float]:
    """The share of each kind that is taken for a card number."""
    made = identifiers(random.Random(1))
    return {kind: sum(find(make(n).encode())[0] != NONE for n in range(count)) / count for kind, make in made.items()}


def _decide(records: list[Record]) -> float:
    """CPU seconds of deciding them."""
    log = MemoryLog()
    ingest = OfflineIngest(log, wiring.open_resolver(log), reference=False)
    began = time.process_time()
    ingest.feed(records)
    ingest.flush()
    return time.process_time() - began


def costs(transactions: int, rounds: int) -> tuple[float, float]:
    """CPU microseconds per transaction (without the search, with it)."""
    stream = SyntheticStream(SyntheticConfig(transactions=transactions, days=30.0, seed=5), labels="all")
    records = [record for chunk in stream.records() for record in chunk]
    best = {False: float("inf"), True: float("inf")}
    names = vars(partition)
    is_clean = names["is_clean"]
    is_suspicious(b"{}")
    for _ in range(rounds + 1):
        for searched in (False, True):
            names["is_clean"] = is_clean if searched else lambda *_: True
            best[searched] = min(best[searched], _decide(records))
    names["is_clean"] = is_clean
    return best[False] / transactions * 1e6, best[True] / transactions * 1e6


def main() -> None:
    """Print the rates and the cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", type=int, default=200_000)
    parser.add_argument("--transactions", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    for kind, rate in rates(given.ids).items():
        print(f"{kind:45} {rate:9.4%}")
    without, with_search = costs(given.transactions, given.rounds)
    print(f"deciding, µs of CPU per transaction: {without:.2f} without the search, {with_search:.2f} with it", end="")
    print(f" (ratio {with_search / without:.3f})")


if __name__ == "__main__":
    main()
