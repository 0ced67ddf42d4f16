"""Streams for the benchmark of drift: simulated once, decided once by the shipped model, and kept on disk as columns.

A run of the benchmark looks at its stream once a day, and tuning looks at the same streams again, but deciding a stream
costs as much as all looks at it. So each stream becomes one file of columns (`Kept`), from the first day of
the reference on. Streams with drift are equal until `TURN`: that part is decided once, and what follows from a copy of
the worker's state. The zero-inflated feature is drawn into the stream without drift (`inflated`).

Every stream is one world of its own (shops, terminals, mules, holidays), because what accounts have in common is what
raises false alarms: groups of accounts cut out of a bigger world would lack it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from console.wiring import load_scorer
from core.context import Resolver
from core.events import ModelDeployed
from core.features import spec
from core.hashing import hash_strings
from core.identity import FIXED
from core.log.memory import MemoryLog
from core.times import DAY_MS
from ingest.offline import OfflineIngest
from learners.drift.rows import Rows
from learners.drift.windows import WindowReader
from models.shipped import BASELINE_DIRECTORY
from sources.record import Record
from sources.scenarios import SCENARIOS as KINDS
from sources.synthetic import START_MS, SyntheticConfig, SyntheticStream

PARTITIONS = 1
REFERENCE = 38
"""The first day of the reference: every feature that is compared has settled."""
FIRST = REFERENCE + 14 + 1
TURN = 60
"""The day on which drift begins: the reference of reported frauds is over, too."""
DAYS_CALM = FIRST - 1 + 56
DAYS_AFTER = 14
SCENARIOS = {
    "none": "nothing changes; eight weeks",
    "behaviour": "honest payments × 1.35",
    "devices": "a zero-inflated feature: 0.6 % → 8 % non-zero",
    "amount": "fraud takes 45 % of what it took",
    "hours": "fraud peaks at 21:00 instead of 8:00",
    "mix": "takeovers × 2, friendly fraud × 3",
    "all": "amount, hours, mix and behaviour at once",
}
OF_SOURCE = ("behaviour", "amount", "hours", "mix", "all")
"""The scenarios that the source simulates."""
ZERO_INFLATED = "device_accounts_30d"


@dataclass(frozen=True, slots=True)
class Kept:
    """A stream from `REFERENCE` on: its decisions, and of each the kind of fraud (a code, 0 none) and the time at which
    fraud is reported (epoch ms, 0 never).
    """

    rows: Rows
    kinds: NDArray[np.int64]
    reported: NDArray[np.int64]


def stream(accounts: int, seed: int, scenario: str, folder: Path) -> Kept:
    """The stream, from its file in `folder`; all streams of the seed that the scenario's is decided with are kept."""
    held = "none" if scenario == "devices" else scenario
    path = _path(folder, accounts, seed, held)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        scenarios = ("none",) if held == "none" else OF_SOURCE
        _simulate(accounts, seed, scenarios, folder)
    kept = _read(path)
    return replace(kept, rows=inflated(kept.rows, seed)) if scenario == "devices" else kept


def beginning() -> tuple[MemoryLog, ModelDeployed, Resolver]:
    """A log that holds the shipped model, the event that deploys it, and a resolver that loads it."""
    log = MemoryLog()
    card = json.loads((BASELINE_DIRECTORY / "card.json").read_text())
    log.put_blob((BASELINE_DIRECTORY / "model.txt").read_bytes())
    deployed = ModelDeployed(
        occurred_at=0, actor="bench", name=card["name"], version=card["version"], digest=card["digest"]
    )
    return log, deployed, Resolver(log.get_blob, load_scorer)


def source(accounts: int, seed: int, scenario: str) -> SyntheticStream:
    """The simulated source of a scenario."""
    if scenario == "none":
        return SyntheticStream(SyntheticConfig(days=DAYS_CALM, accounts=accounts, seed=seed))
    days = TURN + DAYS_AFTER
    changes: dict[str, Any] = {"drift_at": TURN / days, "drift": scenario}
    return SyntheticStream(SyntheticConfig(days=days, accounts=accounts, seed=seed, **changes))


def _simulate(accounts: int, seed: int, scenarios: tuple[str, ...], folder: Path) -> None:
    """Decide and keep the streams of these scenarios, which are equal until `TURN`.

    A worker's state cannot be copied, so the process is: a child for each scenario goes on from the turn.
    """
    turn = START_MS + TURN * DAY_MS
    log, deployed, resolver = beginning()
    offline = OfflineIngest(log, resolver, partitions=PARTITIONS, start=[deployed])
    before: list[Record] = []
    rest: dict[str, list[Record]] = {}
    truths = {}
    for name in scenarios:
        of = source(accounts, seed, name)
        records = [record for chunk in of.records() for record in chunk]
        split = next((i for i, record in enumerate(records) if record.timestamp >= turn), len(records))
        if before and records[:split] != before:
            raise AssertionError(f"{name} differs from {scenarios[0]} before the turn")
        before, rest[name], truths[name] = records[:split], records[split:], _truth(of)
    offline.feed(before)
    offline.flush()

    def finish(name: str) -> None:
        offline.feed(rest[name])
        offline.flush()
        _write(_path(folder, accounts, seed, name), _kept(log, truths[name]))

    for name in scenarios:
        child = get_context("fork").Process(target=finish, args=(name,))
        child.start()
        child.join()
        if child.exitcode:
            raise RuntimeError(f"deciding the stream {name} of seed {seed} failed")


def _truth(of: SyntheticStream) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Of every payment its ID's hash, uint64 (n,), ascending; kind of fraud and time of the report: int64 (2, n)."""
    truth = pl.concat(list(of.tables()))
    hashes = hash_strings(truth["transaction_id"].to_list(), FIXED.key)
    names = np.array(KINDS)
    kinds = np.argmax(truth["scenario"].to_numpy().astype(str)[:, None] == names, axis=1)
    at = np.where(truth["is_fraud"].to_numpy(), truth["verdict_at"].to_numpy(), 0)
    columns = np.stack([kinds, np.where(at <= of.last, at, 0)]).astype(np.int64)
    order = np.argsort(hashes)
    return hashes[order], columns[:, order]


def _kept(log: MemoryLog, truth: tuple[NDArray[np.uint64], NDArray[np.int64]]) -> Kept:
    rows = WindowReader(log, range(PARTITIONS)).read(START_MS + REFERENCE * DAY_MS, 2**60)
    hashes, columns = truth
    return Kept(rows, *columns[:, np.searchsorted(hashes, rows.transactions)])


def inflated(rows: Rows, seed: int) -> Rows:
    """The same rows with a feature that is 0 except on 0.6 % of account-days, from `TURN` on 8 %."""
    rng = np.random.Generator(np.random.PCG64(seed))
    key = rows.accounts ^ (rows.times // DAY_MS).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    _, group = np.unique(key, return_inverse=True)
    drawn = rng.random(int(group.max()) + 1)[group]
    share = np.where(rows.times < START_MS + TURN * DAY_MS, 0.006, 0.08)
    columns = rows.columns.copy()
    columns[spec.index(ZERO_INFLATED)] = np.where(drawn < share, 1.0 + np.floor(3 * rng.random(len(rows))), 0.0)
    return replace(rows, columns=columns)


def _path(folder: Path, accounts: int, seed: int, scenario: str) -> Path:
    return folder / f"{accounts}-{seed}-{scenario}.npz"


def _write(path: Path, kept: Kept) -> None:
    rows = kept.rows
    part = path.with_suffix(".part.npz")
    np.savez(
        part,
        columns=rows.columns,
        margins=rows.margins,
        times=rows.times,
        accounts=rows.accounts,
        transactions=rows.transactions,
        shops=rows.shops,
        categories=rows.categories,
        models=rows.models,
        digests=np.array(rows.digests),
        kinds=kept.kinds,
        reported=kept.reported,
    )
    part.replace(path)


def _read(path: Path) -> Kept:
    with np.load(path) as held:
        rows = Rows(
            held["columns"],
            held["margins"],
            held["times"],
            held["accounts"],
            held["transactions"],
            held["shops"],
            held["categories"],
            held["models"],
            tuple(held["digests"].tolist()),
        )
        return Kept(rows, held["kinds"], held["reported"])
