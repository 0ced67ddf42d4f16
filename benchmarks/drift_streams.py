"""Streams for the benchmark of drift: simulated and decided by the shipped model, as columns.

A run of the benchmark looks at its stream once a day, and deciding a stream through JSON and the log would cost several
times as much as all looks at it. So days are decided whole, in columns (`Deciding`; a test compares it with the offline
worker). Streams with drift are equal until
`TURN`: that part is decided once, and what follows from a copy of the process. The zero-inflated feature is drawn into
the stream without drift (`inflated`). A kept stream begins with the first day of the reference.

Every stream is one world of its own (shops, terminals, mules, holidays), because what accounts have in common is what
raises false alarms: groups of accounts cut out of a bigger world would lack it.

Cost per transaction: 5 µs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from console.wiring import load_scorer
from core.canonical import texts
from core.context import Resolver
from core.events import FeedbackReceived, ModelDeployed, Transaction
from core.features import kernel, reference, spec
from core.features.columns import IN_PERSON_CHANNELS, columns, feedback_row
from core.features.reference import Kind
from core.features.state import AccountState
from core.geography import CENTRES
from core.hashing import hash_strings
from core.identity import FIXED
from core.log.memory import MemoryLog
from core.scoring import Scorer
from core.times import DAY_MS, HOUR_MS
from learners.drift.rows import Rows, joined
from models.shipped import BASELINE_DIRECTORY
from projections.reference.reports import Reports
from projections.reference.tables import ReferenceBuilder
from sources.behaviour import Rows as SourceRows
from sources.behaviour import concatenated
from sources.synthetic import START_MS, SyntheticConfig, SyntheticStream

Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]

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
OF_FRAUD = ("amount", "hours", "mix", "all")
"""Those in which fraud changes, of which labels tell."""
ZERO_INFLATED = "device_accounts_30d"


@dataclass(frozen=True, slots=True)
class Kept:
    """A stream from `REFERENCE` on: its decisions, and of each the kind of fraud (a code, 0 none) and the time at which
    fraud is reported (epoch ms, 0 never).
    """

    rows: Rows
    kinds: NDArray[np.int64]
    reported: NDArray[np.int64]


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


@cache
def _shipped() -> tuple[str, Scorer]:
    """The shipped model's digest, and the model, which is loaded once."""
    log, deployed, _ = beginning()
    return deployed.digest, load_scorer(log.get_blob(deployed.digest), deployed.version, deployed.digest)


class Stream(NamedTuple):
    """A source's payments as indices (n,), and its reports of fraud (m,), both in order of time.

    numbers: of the reported payments in the stream; reported_at: epoch ms. truth: of each payment the kind of fraud and
    the time of the report (0: none), int64 (2, n).
    """

    rows: SourceRows
    numbers: Ints
    reported_at: Ints
    truth: Ints


def simulated(of: SyntheticStream) -> Stream:
    """The stream of a source, with the reports that come before its last payment: what `of.records()` yields."""
    rows = concatenated(list(of.rows()))
    at = np.where(rows.scenario > 0, rows.time + rows.verdict_ms, 0)
    at = np.where(at <= rows.time[-1], at, 0)
    numbers = np.flatnonzero(at)
    numbers = numbers[np.lexsort((numbers, at[numbers]))]
    return Stream(rows, numbers, at[numbers], np.stack([rows.scenario, at]))


class _Hashes:
    """The hashes of all names of a source, by index, as the pipeline's own columns have them."""

    def __init__(self, of: SyntheticStream) -> None:
        names, world = of.names, of.world
        merchants = [
            Transaction(
                transaction_id="t",
                account_id="a",
                amount=1.0,
                occurred_at=0,
                merchant_id=m,
                merchant_category=c,
                country=place,
            )
            for m, c, place in zip(
                names["merchant"].to_list(),
                names["category"].gather(pl.Series(world.merchant_category)).to_list(),
                names["country"].gather(pl.Series(world.merchant_country)).to_list(),
                strict=True,
            )
        ]
        cols = columns(merchants, FIXED.key)
        self.merchants, self.categories, self.countries = cols.merchants, cols.categories, cols.countries
        self.places = cols.places
        self.in_person = np.array([channel in IN_PERSON_CHANNELS for channel in names["channel"].to_list()])
        self.accounts = hash_strings(names["account"].to_list(), FIXED.key)
        self.devices = hash_strings(texts(names["device"].to_list()), FIXED.key)


class Deciding:
    """Decides streams as `OfflineIngest` does, in columns: the product's account state, kernel, reference tables and
    model, without messages, entries or rules, on which no kept column depends.

    Before `REFERENCE` no model decides: no row of that time is kept, and a score changes no state.
    """

    def __init__(self, of: SyntheticStream) -> None:
        """of: any of the streams to decide, which have all names in common."""
        digest, self._scorer = _shipped()
        self._digest = digest[:16]  # as scores name it
        self._source, self._hashes = of, _Hashes(of)
        self._accounts, self._merchants, self._devices, self._sources = (
            of.names[pool].to_list() for pool in ("account", "merchant", "device", "source")
        )
        self._reports = Reports()
        self._builder = ReferenceBuilder(FIXED.key, self._reports)
        self._state = AccountState(FIXED._replace(partitioner="crc32", partitions=1))
        self._slots = np.array(self._state.slots(self._accounts), dtype=np.int32)

    def decide(self, of: Stream, first: int, end: int) -> Rows:
        """Decide the days `first` … `end` − 1 of the stream; returns the rows from `REFERENCE` on."""
        start, stop = np.searchsorted(of.rows.time, [START_MS + day * DAY_MS for day in (max(first, REFERENCE), end)])
        columns, margins = np.empty((spec.WIDTH, stop - start), dtype=np.float32), np.empty(stop - start)
        for day in range(first, end):
            moments = START_MS + day * DAY_MS, START_MS + (day + 1) * DAY_MS
            paid, said = (slice(*np.searchsorted(times, moments)) for times in (of.rows.time, of.reported_at))
            reports = [self._report(of.rows, number, at) for number, at in _pairs(of, said)]
            features = self._day(of.rows.take(paid), paid.start, reports, moments[0])
            if day >= REFERENCE:
                here = slice(paid.start - start, paid.stop - start)
                columns[:, here], margins[here] = features.T, self._scorer.margins(features)
            # Only payments that are reported, now or later, can change a report; the last says what day it is.
            known = [*np.flatnonzero(of.truth[1, paid]).tolist(), paid.stop - paid.start - 1]
            self._reports.add_payments(0, [self._payment(of.rows, paid.start + i) for i in known])
            for report in reports:
                self._builder.add_verdict(0, report, report.recorded_at)
        if self._builder.over_rate:
            raise AssertionError("a source's reports exceeded the rate, which `OfflineIngest` would quarantine")
        return self._rows(of.rows.take(slice(start, stop)), columns, margins)

    def _day(self, rows: SourceRows, number: int, reports: list[FeedbackReceived], moment: int) -> NDArray[np.float32]:
        """The features of a day's payments (n, WIDTH), which are counted for the tables. number: of the first in the
        stream.
        """
        n, hashes = len(rows), self._hashes
        merchants, devices = hashes.merchants[rows.merchant], hashes.devices[rows.device + 1]
        accounts = hashes.accounts[rows.account]
        events = np.zeros(n + len(reports), dtype=kernel.EVENT)
        is_payment = np.ones(len(events), dtype=np.bool_)
        at = np.array([report.occurred_at for report in reports], dtype=np.int64)
        is_payment[np.searchsorted(rows.time, at) + np.arange(len(reports))] = False
        ids = (np.arange(number, number + n, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        for name, values in (
            ("slot", self._slots[rows.account]),
            ("row", np.arange(n)),
            ("time", rows.time),
            ("received", rows.time),
            ("amount", rows.cents / 100.0),
            ("content", ids),
            ("owner", accounts),
            ("id", ids),
            ("merchant", merchants),
            ("category", hashes.categories[rows.merchant]),
            ("country", hashes.countries[rows.merchant]),
            ("device", devices),
            ("place", np.where(hashes.in_person[rows.channel], hashes.places[rows.merchant], -1)),
        ):
            events[name][is_payment] = values
        for place, report in zip(np.flatnonzero(~is_payment).tolist(), reports, strict=True):
            row = feedback_row(self._state.verdicts, report)
            slot = self._state.index[report.account_id]
            for name, value in (("slot", slot), ("kind", row.kind), ("time", row.time), ("frauds", row.frauds)):
                events[name][place] = value
        features, seen = np.empty((n, spec.WIDTH), dtype=np.float32), np.zeros(n, dtype=np.uint8)
        self._state.remembered.reserve(n)
        addresses = np.array([self._state.addresses], dtype=np.int64)
        kernel.process_all(addresses, np.array([len(events)]), events, CENTRES, features, seen)
        of_kinds: dict[Kind, Hashes] = {"merchant": merchants, "device": devices}
        for kind, named in of_kinds.items():
            is_first = moment == START_MS
            reference.join(None if is_first else self._builder.table(kind, moment), kind, named, features)
        if n:
            self._builder.count(rows.time // DAY_MS, of_kinds, accounts)
        return features

    def _rows(self, rows: SourceRows, columns: NDArray[np.float32], margins: NDArray[np.float64]) -> Rows:
        hashes, n = self._hashes, len(rows)
        return Rows(
            columns,
            margins,
            rows.time,
            hashes.accounts[rows.account],
            np.zeros(n, dtype=np.uint64),
            hashes.merchants[rows.merchant],
            hashes.categories[rows.merchant],
            np.zeros(n, dtype=np.int64),
            (self._digest,),
        )

    def _payment(self, rows: SourceRows, number: int) -> Transaction:
        return Transaction(
            transaction_id=self._source.transaction_id(number),
            account_id=self._accounts[rows.account[number]],
            amount=float(rows.cents[number]) / 100.0,
            occurred_at=int(rows.time[number]),
        )

    def _report(self, rows: SourceRows, number: int, at: int) -> FeedbackReceived:
        return FeedbackReceived(
            account_id=self._accounts[rows.account[number]],
            transaction_id=self._source.transaction_id(number),
            occurred_at=at,
            source=self._sources[rows.source[number]],
            verdict="fraud",
            amount=float(rows.cents[number]) / 100.0,
            merchant_id=self._merchants[rows.merchant[number]],
            device_id=self._devices[rows.device[number] + 1],
            transaction_occurred_at=int(rows.time[number]),
            recorded_at=at,
        )


def _pairs(of: Stream, part: slice) -> Iterable[tuple[int, int]]:
    return zip(of.numbers[part].tolist(), of.reported_at[part].tolist(), strict=True)


def decided(accounts: int, seed: int, scenarios: Sequence[str]) -> Iterator[tuple[str, Kept]]:
    """The streams of these scenarios, decided: of "none" alone, or of any others, which are equal until `TURN`.

    A worker's state cannot be copied, so the process is: a child for each scenario goes on from the turn.
    """
    sources = {name: source(accounts, seed, name) for name in scenarios}
    streams = {name: simulated(of) for name, of in sources.items()}
    first = next(iter(streams.values()))
    deciding = Deciding(next(iter(sources.values())))
    if "none" in scenarios:
        yield "none", _kept(first, deciding.decide(first, 0, DAYS_CALM))
        return
    turn = int(np.searchsorted(first.rows.time, START_MS + TURN * DAY_MS))
    for name, of in streams.items():
        if any(not np.array_equal(a[:turn], b[:turn]) for a, b in zip(_arrays(of), _arrays(first), strict=True)):
            raise AssertionError(f"{name} differs from the others before the turn")
    before = deciding.decide(first, 0, TURN)
    for name, of in streams.items():
        yield name, _kept(of, joined([before, _in_a_child(deciding, of)]))


def _arrays(of: Stream) -> list[Ints]:
    return [getattr(of.rows, each.name) for each in fields(of.rows)]


def _in_a_child(deciding: Deciding, of: Stream) -> Rows:
    """What is decided after the turn, by a copy of this process."""
    ours, theirs = get_context("fork").Pipe(duplex=False)
    child = get_context("fork").Process(target=lambda: theirs.send(deciding.decide(of, TURN, TURN + DAYS_AFTER)))
    child.start()
    theirs.close()
    try:
        rows: Rows = ours.recv()
    except EOFError:
        raise RuntimeError("deciding a stream failed") from None
    finally:
        child.join()
    return rows


def _kept(of: Stream, rows: Rows) -> Kept:
    """With the truth. A row's own number is its transaction, by which its label is found at once."""
    first = len(of.rows) - len(rows)
    return Kept(replace(rows, transactions=np.arange(len(rows), dtype=np.uint64)), *of.truth[:, first:])


def first_label_hours(kept: Kept) -> float | None:
    """Hours from `TURN` until the first report of a fraud that was paid after it; None if there is none."""
    turn = START_MS + TURN * DAY_MS
    reported = kept.reported[(kept.rows.times >= turn) & (kept.reported > 0)]
    return float(reported.min() - turn) / HOUR_MS if len(reported) else None


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
