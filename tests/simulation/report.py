"""The figures of docs/reliability.md: `python -m tests.simulation --record` measures them, and the page shows them.

They are kept in recorded.json, because measuring takes minutes; `make docs` renders what is recorded, and the tests in
tests/simulation and tests/integration/test_simulation.py fail if any of it stops being true. A measurement that was
broken off goes on where it was, if product and simulation are the same as then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from pathlib import Path

import msgspec

from tests.simulation import faults, learning, mutations, runs
from tests.simulation.faults import Fault
from tests.simulation.learning import Bench

ROOT = Path(__file__).parents[2]
RECORDED = Path(__file__).parent / "recorded.json"
MEASURED = ("core", "ingest", "responders", "learners", "models", "projections", "tests/simulation")
"""What the figures depend on."""
SCHEDULES = 2_000
LOOPS = 100
MUTATION_SCHEDULES = 600
_CHUNK = 50
_WORDS = {
    "lost": ("lost:", "not done:", "nobody was told:"),
    "twice": ("twice:", "decided twice:", "recorded", "out of nowhere:"),
    "different": ("different bits:", "not as undisturbed:", "published otherwise", "another story"),
}


class Row(msgspec.Struct):
    """What became of some schedules. other: wrong in another way."""

    times: int = 0
    calls: int = 0
    payments: int = 0
    lost: int = 0
    twice: int = 0
    different: int = 0
    other: int = 0

    def add(self, wrong: Sequence[str], calls: int = 0, payments: int = 0) -> None:
        """Count one schedule."""
        self.times, self.calls, self.payments = self.times + 1, self.calls + calls, self.payments + payments
        for name, beginnings in _WORDS.items():
            if any(each.startswith(beginnings) for each in wrong):
                setattr(self, name, getattr(self, name) + 1)
                return
        self.other += bool(wrong)

    def merge(self, more: Row) -> None:
        """Add another part's counts."""
        for name in Row.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(more, name))


class Record(msgspec.Struct):
    """All figures. sources: SHA-256 of what they depend on; schedules: those of the seeds from `first` on; struck:
    faults by kind, in the schedules; found: how many schedules it took to find a mutation.
    """

    sources: str
    first: int
    schedules: Row
    crashes: Row
    loops: Row
    loop_crashes: Row
    struck: dict[str, int]
    found: dict[str, int]


def measured(jobs: int) -> Record:
    """Run what is not recorded yet, on so many processes. What is known so far is kept after each part."""
    record, sources = recorded(), _sources()
    if record.sources != sources:
        record = Record(sources, 0, Row(), Row(), Row(), Row(), {}, {})
    struck = Counter(record.struck)
    with ProcessPoolExecutor(jobs) as pool:
        parts = [
            pool.submit(_schedules, first) for first in range(record.first + record.schedules.times, SCHEDULES, _CHUNK)
        ]
        loops = None if record.loops.times else pool.submit(_loops)
        small = () if record.crashes.times else ((1, False), (2, False), (1, True))
        crashes = [pool.submit(_crashes, *how) for how in small]
        missing = [name for name in mutations.MUTATIONS if name not in record.found]
        found = {name: pool.submit(mutations.found_after, name, MUTATION_SCHEDULES) for name in missing}
        for part in parts:
            row, kinds = part.result()
            record.schedules.merge(row)
            struck.update(kinds)
            record.struck = {kind: struck[kind] for kind in faults.KINDS}
            write(record)
        if loops is not None:
            record.loops, record.loop_crashes = loops.result()
            write(record)
        rows = [each.result() for each in crashes]
        for row in rows:
            record.crashes.merge(row)
        for name, each in found.items():
            record.found[name] = each.result()[0]
            write(record)
    record.found = {name: record.found[name] for name in mutations.MUTATIONS}
    write(record)
    return record


def _sources() -> str:
    paths = [path for room in MEASURED for path in sorted((ROOT / room).rglob("*.py"))]
    return sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def _schedules(first: int) -> tuple[Row, Counter[str]]:
    row, struck = Row(), Counter[str]()
    for seed in range(first, first + _CHUNK):
        outcome = runs.run(seed)
        row.add(outcome.wrong, outcome.calls, outcome.decisions)
        struck.update(fault.kind for fault in outcome.struck)
        if outcome.wrong:
            print(f"seed {seed}: {outcome.wrong[0]}", flush=True)
    print(f"seeds {first} to {first + _CHUNK - 1}: {row}", flush=True)
    return row, struck


def _crashes(workers: int, archives: bool) -> Row:
    row = Row()
    for outcome in runs.crashes(runs.small(workers=workers, archives=archives)):
        row.add(outcome.wrong, outcome.calls, outcome.decisions)
    return row


def _loops() -> tuple[Row, Row]:
    schedules, crashes = Row(), Row()
    undisturbed = Bench(0, [], loops=1)
    story = undisturbed.run()
    for seed in range(LOOPS):
        bench = Bench(seed, learning.drawn(seed))
        schedules.add(learning.judged(bench, story), bench.world.calls)
    for at in range(undisturbed.world.calls):
        for how in ("before", "after"):
            bench = Bench(0, [Fault(at, "kill", how)], loops=1)
            crashes.add(learning.judged(bench, story), bench.world.calls)
    return schedules, crashes


def write(record: Record) -> None:
    """Keep the figures."""
    RECORDED.write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")


def recorded() -> Record:
    """The figures as they were recorded last."""
    return msgspec.json.decode(RECORDED.read_bytes(), type=Record)


def markdown() -> str:
    """The table of schedules."""
    found = recorded()
    rows = ["| simulated | times | lost | twice | different bits | wrong otherwise |", "|---|---|---|---|---|---|"]
    words = {
        f"schedules of workers, archiver and responders, seeds {found.first} to"
        f" {found.first + found.schedules.times - 1:,}"
        f" ({found.schedules.payments:,} payments)": found.schedules,
        "a worker or the archiver killed, at every call of a small run, before and after": found.crashes,
        f"schedules of two adaptive loops on one control stream, seeds 0 to {found.loops.times - 1}": found.loops,
        "an adaptive loop killed, at every call, before and after": found.loop_crashes,
    }
    for what, row in words.items():
        rows.append(f"| {what} | {row.times:,} | {row.lost} | {row.twice} | {row.different} | {row.other} |")
    return "\n".join(rows) + "\n"


def faults_struck() -> str:
    """The table of faults in the schedules of the first row."""
    rows = ["| fault in the schedules of the first row | times |", "|---|---|"]
    rows += [f"| {faults.KINDS[kind]} | {count:,} |" for kind, count in recorded().struck.items()]
    return "\n".join(rows) + "\n"


def mutations_found() -> str:
    """The table of mutations."""
    rows = ["| fault put into the product | found after … schedules |", "|---|---|"]
    rows += [f"| {name} | {count or 'not found'} |" for name, count in recorded().found.items()]
    return "\n".join(rows) + "\n"
