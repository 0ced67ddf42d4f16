"""An index of the log's decisions in memory, for searches: 103 bytes a decision, 206 MB for two million; while it
grows, up to twice that.

One row per decision and partition, appended in log order and never changed, so "as of" is a prefix: the rows up to a
position. Strings are kept as 64-bit hashes (of this process); a hit is confirmed by the log's entry when it is read.
Search: a mask over each partition's columns, newest first, a page at a time; two million rows take about 50 ms.

Built from the log at start (3 µs a decision) and followed from there. Holds nothing that the log does not.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_args

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from core.codec import decoded
from core.events import START, Decision, Position, Severity
from core.log.base import Entry, EventLog
from core.log.paging import decision_pages
from core.receipt import receive_time
from projections.tables.query import Query

DECISIONS: tuple[Decision, ...] = get_args(Decision)
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
KINDS = ("merchant", "device", "card")
"""What accounts can share, by the names of the index's columns."""
RULES_MAX = 64
"""Codes that have a bit of their own; further ones share the last, and are confirmed from the entry."""
_FIRST_ROWS = 1024


Heard = Callable[[int, Iterable[tuple[Entry, Entry, str, Severity | None]]], None]
"""Told of a partition's decisions, in order: transactions with their scores, accounts, and severities of alerts."""


class _Transaction(msgspec.Struct):
    transaction_id: str
    account_id: str
    amount: float
    occurred_at: int
    recorded_at: int
    merchant_id: str = ""
    device_id: str = ""
    card_id: str = ""
    rate: float = 1.0
    received_at: int = 0


class _Score(msgspec.Struct):
    decision: Decision
    probability: float
    model: str = ""
    degraded: str | None = None
    rules: tuple[str, ...] = ()
    severity: Severity | None = None


_transaction = msgspec.json.Decoder(_Transaction)
_score = msgspec.json.Decoder(_Score)


class Hit(NamedTuple):
    """A decision's place, in the order of answers: newest first, then by partition and position, descending."""

    at: int
    partition: int
    position: Position


AGE_MS_MAX = 2**31 - 1
"""A payment's age when its decision was recorded, in ms; -1 if its source's clock was ahead."""
_COLUMNS: dict[str, type] = {
    "generation": np.int32,
    "offset": np.int64,
    "at": np.int64,
    "recorded": np.int64,
    "age": np.int32,
    "amount": np.float64,
    "probability": np.float32,
    "account": np.int64,
    "transaction": np.int64,
    "merchant": np.int64,
    "device": np.int64,
    "card": np.int64,
    "rules": np.uint64,
    "decision": np.int8,
    "severity": np.int8,
    "model": np.int32,
    "degraded": np.int32,
    "age_bits": np.int8,
}
"""model, degraded: numbers of names (`DecisionIndex.names`). age_bits: of the age in ms, which `age` cuts off."""


@dataclass
class _Rows:
    """One partition's columns; the first `count` rows are valid."""

    count: int = 0
    last: Position = START
    columns: dict[str, NDArray[Any]] = field(
        default_factory=lambda: {name: np.zeros(_FIRST_ROWS, kind) for name, kind in _COLUMNS.items()}
    )

    def add(self, rows: Mapping[str, list[Any]], last: Position) -> None:
        size = len(rows["at"])
        capacity = len(self.columns["at"])
        if self.count + size > capacity:
            wanted = max(capacity * 2, self.count + size)
            self.columns = {
                n: np.concatenate([c, np.zeros(wanted - capacity, c.dtype)]) for n, c in self.columns.items()
            }
        for name, values in rows.items():
            self.columns[name][self.count : self.count + size] = values
        self.count += size
        self.last = last

    def until(self, position: Position | None) -> NDArray[np.bool_]:
        """Which rows are up to a position; None for all."""
        if position is None or position >= self.last:
            return np.ones(self.count, np.bool_)
        generations, offsets = self.columns["generation"][: self.count], self.columns["offset"][: self.count]
        is_earlier = generations < position.generation
        up_to: NDArray[np.bool_] = is_earlier | ((generations == position.generation) & (offsets <= position.offset))
        return up_to


class DecisionIndex:
    """See the module's docstring. Not thread-safe: one writer, and readers that hold the desk's lock."""

    def __init__(self, partitions: Iterable[int]) -> None:
        self._rows = {partition: _Rows() for partition in partitions}
        self._rules: dict[str, int] = {}
        self._names: dict[str, int] = {"": 0}

    @property
    def names(self) -> list[str]:
        """What the numbers in the columns `model` and `degraded` stand for; "" is 0."""
        return [*self._names]

    def __len__(self) -> int:
        return sum(rows.count for rows in self._rows.values())

    @property
    def bits(self) -> Mapping[str, int]:
        """The bit of each rule's code in the column `rules`; the last one may be of several."""
        return dict(self._rules)

    def last(self, partition: int) -> Position:
        """Up to where the partition is indexed."""
        return self._rows[partition].last

    def follow(
        self, log: EventLog, until: Mapping[int, Position], rows_max: int = 20_000, hear: Heard | None = None
    ) -> int:
        """Index up to about rows_max decisions of each partition, up to the positions; returns how many. hear: told of
        each.
        """
        done = 0
        for partition, rows in self._rows.items():
            start = done
            for transactions, scores in decision_pages(log, partition, rows.last, until.get(partition, START)):
                accounts, severities = self._add(rows, transactions, scores)
                if hear is not None:
                    hear(partition, zip(transactions, scores, accounts, severities, strict=True))
                done += len(scores)
                if done - start >= rows_max:
                    break
            else:
                rows.last = max(rows.last, until.get(partition, START))  # what follows the last decision was rejected
        return done

    def _add(
        self, rows: _Rows, transactions: list[Entry], scores: list[Entry]
    ) -> tuple[list[str], list[Severity | None]]:
        """Returns the decisions' accounts and severities."""
        read = [decoded(_transaction, entry.payload) for entry in transactions]
        decided = [decoded(_score, entry.payload) for entry in scores]
        rows.add(
            {
                "generation": [entry.id.generation for entry in scores],
                "offset": [entry.id.offset for entry in scores],
                "at": [receive_time(t) for t in read],
                "recorded": [t.recorded_at for t in read],
                "age": [min(max(t.recorded_at - t.occurred_at, -1), AGE_MS_MAX) for t in read],
                "amount": [t.amount * t.rate for t in read],
                "probability": [s.probability for s in decided],
                "account": [hash(t.account_id) for t in read],
                "transaction": [hash(t.transaction_id) for t in read],
                "merchant": [hash(t.merchant_id) for t in read],
                "device": [hash(t.device_id) for t in read],
                "card": [hash(t.card_id) for t in read],
                "rules": [self._bits(s.rules) for s in decided],
                "decision": [DECISIONS.index(s.decision) for s in decided],
                "severity": [0 if s.severity is None else SEVERITIES.index(s.severity) + 1 for s in decided],
                "model": [self._number(s.model) for s in decided],
                "degraded": [self._number(s.degraded or "") for s in decided],
                "age_bits": [max(t.recorded_at - t.occurred_at, 0).bit_length() for t in read],
            },
            scores[-1].id,
        )
        return [t.account_id for t in read], [s.severity for s in decided]

    def _number(self, name: str) -> int:
        return self._names.setdefault(name, len(self._names))

    def _bits(self, codes: tuple[str, ...]) -> int:
        found = 0
        for code in codes:
            bit = self._rules.setdefault(code, min(len(self._rules), RULES_MAX - 1))
            found |= 1 << bit
        return found

    def search(
        self,
        query: Query,
        count: int,
        *,
        before: Hit | None = None,
        until: Mapping[int, Position] | None = None,
        partitions: Iterable[int] | None = None,
    ) -> list[Hit]:
        """Up to `count` decisions, newest first, that come after `before` in this order. until: the cut; without it,
        all that is indexed. partitions: only these.
        """
        chosen = self._rows if partitions is None else {p: self._rows[p] for p in partitions}
        found = [self._of_partition(p, rows, query, count, before, until) for p, rows in chosen.items()]
        return heapq.nlargest(count, (hit for each in found for hit in each))

    def places(self, partition: int, account: str, until: Position) -> list[Position]:
        """Where the account's decisions up to a position are, in order; others of the same hash may be among them."""
        rows = self._rows[partition]
        c = {name: rows.columns[name][: rows.count] for name in ("account", "generation", "offset")}
        found = np.flatnonzero((c["account"] == hash(account)) & rows.until(until))
        places = zip(c["generation"][found].tolist(), c["offset"][found].tolist(), strict=True)
        return [Position(generation, offset) for generation, offset in places]

    def accounts(self, partition: int) -> tuple[int, int]:
        """How many decisions the partition has here, and of how many accounts."""
        rows = self._rows[partition]
        return rows.count, pl.Series(rows.columns["account"][: rows.count]).n_unique()

    def columns(self, until: Mapping[int, Position] | None = None) -> dict[int, dict[str, NDArray[Any]]]:
        """The columns of a cut's partitions, up to it: (n,), in log order. Not to be changed or kept after the lock."""
        found = {}
        for partition in self._rows if until is None else until:
            rows = self._rows[partition]
            mask = rows.until(None if until is None else until[partition])
            count = int(np.count_nonzero(mask))  # the cut is a prefix
            found[partition] = {name: column[:count] for name, column in rows.columns.items()}
        return found

    def _of_partition(
        self,
        partition: int,
        rows: _Rows,
        query: Query,
        count: int,
        before: Hit | None,
        until: Mapping[int, Position] | None,
    ) -> list[Hit]:
        c = {name: column[: rows.count] for name, column in rows.columns.items()}
        mask = self.mask(c, query) & rows.until(None if until is None else until[partition])
        if before is not None:
            mask &= c["at"] <= before.at
        return self._newest(partition, c, np.flatnonzero(mask), count, before)

    def mask(self, c: Mapping[str, NDArray[Any]], query: Query) -> NDArray[np.bool_]:
        """Which rows of a partition's columns match, but for hashes that are equal by chance: bool (n,)."""
        mask = np.ones(len(c["at"]), np.bool_)
        for name in ("account", "merchant", "device", "card"):
            wanted = getattr(query, name)
            if wanted is not None:
                mask &= c[name] == hash(wanted)
        if query.transaction_id is not None:
            mask &= c["transaction"] == hash(query.transaction_id)
        if query.severity is not None:
            mask &= c["severity"] == SEVERITIES.index(query.severity) + 1
        if query.decision is not None:
            mask &= c["decision"] == DECISIONS.index(query.decision)
        if query.alerts:
            mask &= c["severity"] > 0
        if query.rule is not None:
            bit = self._rules.get(query.rule)
            mask &= np.bool_(False) if bit is None else (c["rules"] >> np.uint64(bit)) & np.uint64(1) == 1
        for limit, is_low, name in (
            (query.start, True, "at"),
            (None if query.end is None else query.end - 1, False, "at"),
            (query.low, True, "amount"),
            (query.high, False, "amount"),
        ):
            if limit is not None:
                mask &= c[name] >= limit if is_low else c[name] <= limit
        return mask

    @staticmethod
    def _newest(
        partition: int, c: Mapping[str, NDArray[Any]], places: NDArray[np.intp], count: int, before: Hit | None
    ) -> list[Hit]:
        """The newest hits among these rows; those that tie with `before` are told apart by partition and position."""
        times = c["at"][places]
        spare = count if before is None else count + int(np.count_nonzero(times == before.at))
        if len(places) > spare:
            edge = np.partition(times, len(times) - spare)[len(times) - spare]
            places = places[times >= edge]
        hits = [Hit(int(c["at"][i]), partition, Position(int(c["generation"][i]), int(c["offset"][i]))) for i in places]
        if before is not None:
            hits = [hit for hit in hits if hit < before]
        return heapq.nlargest(count, hits)


def told_apart(bits: Mapping[str, int]) -> tuple[dict[int, str], list[str]]:
    """The code of each bit that only one has (`DecisionIndex.bits`), and, ascending, the codes that share one."""
    codes: dict[int, list[str]] = {}
    for code, bit in bits.items():
        codes.setdefault(bit, []).append(code)
    alone = {bit: sharing[0] for bit, sharing in codes.items() if len(sharing) == 1}
    return alone, sorted(code for sharing in codes.values() if len(sharing) > 1 for code in sharing)
