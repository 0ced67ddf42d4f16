"""What an experiment between programs costs in the decision path: CPU time of a transaction in `core.pipeline.decide`.

    python -m benchmarks.arms [--rounds 5] [--transactions 20000] [--batch 1000]

The same synthetic payments are decided in batches over twelve partitions: by the default program; in an experiment of
one model against itself under it; in an experiment of the default program against one with 20 aggregates and five rules
more; in one whose conditions read own decisions, so that batches are decided in waves; and by that program alone. Each
setting is measured in turn, and its best round counts, because the machine may be shared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from console.wiring import load_scorer
from core import pipeline
from core.context import Resolver
from core.events import Arm, Control, ExperimentStarted, ModelDeployed, ProgramDeployed, ProgramRegistered
from core.log.memory import MemoryLog
from core.program import document, library
from core.program.loading import Loaded, check
from ingest.offline import OfflineIngest
from models.shipped import shipped_baseline
from sources.catalogue import open_source
from sources.synthetic import SyntheticConfig

HEAD = '[program]\nname = "{name}"\nversion = "1.0.0"\nuses = ["standard@1"]\n[features]\n'
WINDOWS = ("10m", "1h", "24h", "7d", "30d")
FUNCTIONS = ("count(account, '{w}')", "sum(account, '{w}', amount)", "max(account, '{w}', amount)",
             "mean(account, '{w}', amount, amount > 50)")  # fmt: skip


def program(name: str, *, own_decisions: bool) -> Loaded:
    """A program of 20 aggregates and five rules. own_decisions: whether a condition reads what was decided."""
    text = HEAD.format(name=name)
    for number, function in enumerate(FUNCTIONS):
        for window in WINDOWS:
            text += f'f{number}_{window} = "{function.format(w=window)}"\n'
    if own_decisions:
        text += "reviewed = \"count(account, '7d', decision == 'review')\"\n"
    for number, window in enumerate(WINDOWS):
        text += f'[[rules]]\ncode = "R{number}"\nwhen = "f0_{window} > 50 && f1_{window} > 9000"\neffect = "review"\n'
    return check(text.encode())


class _Clock:
    def __init__(self) -> None:
        self.seconds, self.rows = 0.0, 0


@contextmanager
def _timed(clock: _Clock) -> Iterator[None]:
    decide = pipeline.decide

    def timed(context: Any, works: Any) -> Any:
        began = time.thread_time()
        found = decide(context, works)
        clock.seconds += time.thread_time() - began
        clock.rows += sum(len(run.positions) for work in works for run in work.runs)
        return found

    vars(pipeline)["decide"] = timed
    try:
        yield
    finally:
        vars(pipeline)["decide"] = decide


def run(records: list[Any], batch: int, programs: list[Loaded], events: list[Control]) -> float:
    """µs of CPU a transaction, in one round."""
    log, clock = MemoryLog(), _Clock()
    content, _ = shipped_baseline()
    digest = log.put_blob(content)
    start: list[Control] = [
        ModelDeployed(occurred_at=1, actor="bench", name="baseline", version="1.0.0", digest=digest)
    ]
    for each in programs:
        for used in each.program.uses.values():
            log.put_blob(library.content(used))
        log.put_blob(document.canonical(each.program))
        start.append(
            ProgramRegistered(
                occurred_at=1, actor="bench", name=each.program.name, version=each.program.version, digest=each.digest
            )
        )
    ingest = OfflineIngest(
        log, Resolver(log.get_blob, load_scorer), partitions=12, reference=False, start=[*start, *events]
    )
    for begin in range(0, len(records), batch):
        ingest.feed(records[begin : begin + batch])
        if begin == batch:
            clock.seconds, clock.rows = 0.0, 0  # the first batches load machine code
        with _timed(clock):
            ingest.flush()
    return clock.seconds / clock.rows * 1e6


def experiment(digest: str, program_digest: str = "") -> ExperimentStarted:
    """Half of the accounts in each arm."""
    arms = (
        Arm("control", "baseline", "1.0.0", digest, 5000),
        Arm("new", "baseline", "1.0.0", digest, 5000, program_digest),
    )
    return ExperimentStarted(occurred_at=1, actor="bench", experiment_id="e", arms=arms, salt="s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--transactions", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=1_000)
    given = parser.parse_args()
    config = SyntheticConfig(transactions=given.transactions, days=20.0, accounts=2_000, fraud_rate=0.01, seed=3)
    source = open_source("synthetic", labels="all", flush_feedback=True, synthetic=config)
    records = [record for chunk in source.records() for record in chunk]
    plain, waves = program("plain", own_decisions=False), program("waves", own_decisions=True)
    model = MemoryLog().put_blob(shipped_baseline()[0])
    alone = [ProgramDeployed(occurred_at=1, actor="bench", digest=plain.digest)]
    in_waves = [ProgramDeployed(occurred_at=1, actor="bench", digest=waves.digest)]
    settings: dict[str, list[Control]] = {
        "the default program": [],
        "an experiment of two models under it": [experiment(model)],
        "an experiment: default against 20 aggregates": [experiment(model, plain.digest)],
        "20 aggregates, deployed": [*alone],
        "an experiment: default against 21, one of own decisions": [experiment(model, waves.digest)],
        "21 aggregates, one of own decisions, deployed": [*in_waves],
    }
    best: dict[str, float] = dict.fromkeys(settings, float("inf"))
    for _ in range(given.rounds):
        for name, events in settings.items():
            best[name] = min(best[name], run(records, given.batch, [plain, waves], events))
    print(
        f"{given.transactions:,} transactions of 2,000 accounts in batches of {given.batch:,}, best of {given.rounds}"
    )
    for name, value in best.items():
        print(f"{name:<58}{value:6.2f} µs of CPU a transaction")


if __name__ == "__main__":
    main()
