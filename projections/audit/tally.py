"""Counts what a backtest finds: decisions before and after by day and label, hits by rule, the most telling changes.

Bounded memory: rows are counted in chunks and not kept. Tallies of partitions are added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.jit import njit_unlocked
from core.policy import DECISIONS
from core.times import DAY_MS
from projections.labelling.view import FRAUD, LEGITIMATE

LABELS = 4
"""Codes of `projections.labelling.view`."""
TOP = 10
DAYS_MAX = 400
"""Days that are counted at once."""
_KINDS = len(DECISIONS)


class Judged(NamedTuple):
    """n decisions of one partition, before and after.

    generations, offsets: uint64 (n,), the positions; times: epoch ms; amounts: in the base currency; labels: int8,
    codes of `projections.labelling.view`; was, now: uint8 into policy.DECISIONS; severity_was, severity_now: int8 into
    policy.SEVERITIES or −1. pattern: (n,), which combination of hits each has afterwards; live, shadow: uint8 (K, R),
    the combinations. rules_was: the codes that hit before, as an index (n,) into distinct ones joined by ",".
    """

    partition: int
    generations: NDArray[np.uint64]
    offsets: NDArray[np.uint64]
    times: NDArray[np.int64]
    amounts: NDArray[np.float64]
    labels: NDArray[np.int8]
    was: NDArray[np.uint8]
    now: NDArray[np.uint8]
    severity_was: NDArray[np.int8]
    severity_now: NDArray[np.int8]
    pattern: NDArray[np.int64]
    live: NDArray[np.uint8]
    shadow: NDArray[np.uint8]
    rules_was: NDArray[np.int64]
    rule_names: Sequence[str]


class Sums(NamedTuple):
    """Sums of accounts: owners uint64 (n,), the accounts' hashes; sums float64 (n, measures), see
    `projections.audit.sampling`.
    """

    owners: NDArray[np.uint64]
    sums: NDArray[np.float64]


class Change(NamedTuple):
    """A decision that changes. Ordered by how telling it is: labelled ones first, then by amount."""

    weight: int
    amount: float
    partition: int
    generation: int
    offset: int
    time: int
    label: int
    was: int
    now: int
    rules_was: str
    rules_now: str


@dataclass
class Tally:
    """codes: the rules' codes. days: by day (of event time, since 1970) counts and amounts, float64 (2, 3, 3, 4) by
    decision before, after, and label. hits, quiet: by day, counts and amounts of live and shadow hits, (2, R, 4) by
    rule and label. before: hits before by code and label. alone: hits of a rule where no other hit; overlap: (R, R).
    stricter, milder: the most telling changes. regraded: decisions whose severity alone changes. unreadable: those that
    don't decode; undecidable: those that can't be made again here, by reason. accounts: sums by
    account, where a sample was asked for.
    """

    codes: tuple[str, ...]
    days: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    hits: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    quiet: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    before: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    alone: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    overlap: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    stricter: list[Change] = field(default_factory=list)
    milder: list[Change] = field(default_factory=list)
    regraded: int = 0
    unreadable: int = 0
    undecidable: dict[str, int] = field(default_factory=dict)
    accounts: list[Sums] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = len(self.codes)
        if not len(self.alone):
            self.alone = np.zeros(count, dtype=np.int64)
            self.overlap = np.zeros((count, count), dtype=np.int64)

    def add(self, rows: Judged) -> None:
        """Count some decisions."""
        if not len(rows.times):
            return
        first, last = int(rows.times.min()) // DAY_MS, int(rows.times.max()) // DAY_MS
        if last - first >= DAYS_MAX:
            day = rows.times // DAY_MS
            for each in np.unique(day).tolist():
                self._count(rows, each, 1, day == each)
        else:
            self._count(rows, first, last - first + 1, None)
        self._count_before(rows)
        self.regraded += int(np.count_nonzero((rows.was == rows.now) & (rows.severity_was != rows.severity_now)))
        self.stricter = _most(self.stricter, self._changes(rows, np.flatnonzero(rows.now > rows.was)))
        self.milder = _most(self.milder, self._changes(rows, np.flatnonzero(rows.now < rows.was)))

    def pass_over(self, why: str, count: int) -> None:
        """Count decisions that can't be made again here."""
        if count:
            self.undecidable[why] = self.undecidable.get(why, 0) + count

    def _count(self, rows: Judged, first: int, span: int, only: NDArray[np.bool_] | None) -> None:
        """Count the rows of some days, all of them or those that `only` says."""
        of = (rows.times, rows.amounts, rows.labels, rows.was, rows.now, rows.pattern)
        times, amounts, labels, was, now, pattern = of if only is None else [column[only] for column in of]
        cells = np.zeros((span, len(rows.live), _KINDS * _KINDS, LABELS, 2))
        count_cells(times, first * DAY_MS, amounts, labels, was, now, pattern, cells)
        cells = np.moveaxis(cells, -1, 0)
        used = np.flatnonzero(cells[0].sum(axis=(0, 2, 3)))
        live, quiet = rows.live[used].astype(np.float64), rows.shadow[used].astype(np.float64)
        by_pattern = cells[:, :, used].sum(axis=3)  # (2, days, patterns, labels)
        for k in range(span):
            if not cells[0, k].any():
                continue
            _add(self.days, first + k, cells[:, k].sum(axis=1).reshape(2, _KINDS, _KINDS, LABELS))
            for hits, into in ((live, self.hits), (quiet, self.quiet)):
                found = hits.T @ by_pattern[:, k]
                if found[0].any():
                    _add(into, first + k, found)
        counts = by_pattern[0].sum(axis=(0, 2))
        self.alone += (
            (live[live.sum(axis=1) == 1.0] * counts[live.sum(axis=1) == 1.0, None]).sum(axis=0).astype(np.int64)
        )
        self.overlap += (live.T @ (live * counts[:, None])).astype(np.int64)

    def _count_before(self, rows: Judged) -> None:
        names = rows.rule_names
        counts = np.zeros((len(names), LABELS), dtype=np.int64)
        count_pairs(rows.rules_was, rows.labels, counts)
        for name, found in zip(names, counts, strict=True):
            for code in name.split(",") if name and found.any() else ():
                self.before[code] = self.before[code] + found if code in self.before else found.copy()

    def _changes(self, rows: Judged, at: NDArray[np.int64]) -> list[Change]:
        labels, amounts = rows.labels[at], rows.amounts[at]
        weights = np.where(labels == FRAUD, 2, np.where(labels == LEGITIMATE, 1, 0))
        if not len(at):
            return []
        best = at[np.lexsort((amounts, weights))[::-1][:TOP]]
        return [
            Change(
                2 if rows.labels[i] == FRAUD else int(rows.labels[i] == LEGITIMATE),
                float(rows.amounts[i]),
                rows.partition,
                int(rows.generations[i]),
                int(rows.offsets[i]),
                int(rows.times[i]),
                int(rows.labels[i]),
                int(rows.was[i]),
                int(rows.now[i]),
                rows.rule_names[int(rows.rules_was[i])],
                ",".join(code for code, hit in zip(self.codes, rows.live[rows.pattern[i]], strict=True) if hit),
            )
            for i in best.tolist()
        ]

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.codes,
            _sum(self.days, other.days),
            _sum(self.hits, other.hits),
            _sum(self.quiet, other.quiet),
            _sum(self.before, other.before),
            self.alone + other.alone,
            self.overlap + other.overlap,
            _most(self.stricter, other.stricter),
            _most(self.milder, other.milder),
            self.regraded + other.regraded,
            self.unreadable + other.unreadable,
            dict(Counter(self.undecidable) + Counter(other.undecidable)),
            self.accounts + other.accounts,
        )


@njit_unlocked
def count_cells(
    times: NDArray[np.int64],
    begin: int,
    amounts: NDArray[np.float64],
    labels: NDArray[np.int8],
    was: NDArray[np.uint8],
    now: NDArray[np.uint8],
    pattern: NDArray[np.int64],
    cells: NDArray[np.float64],
) -> None:
    """Count rows and their amounts into cells: float64 (days, K, 9, 4, 2), from the day that begins at `begin` on."""
    for i in range(times.shape[0]):
        day = (times[i] - begin) // 86_400_000
        kind = np.int64(was[i]) * 3 + np.int64(now[i])
        cells[day, pattern[i], kind, labels[i], 0] += 1.0
        cells[day, pattern[i], kind, labels[i], 1] += amounts[i]


@njit_unlocked
def count_pairs(rows: NDArray[np.int64], columns: NDArray[np.int8], counts: NDArray[np.int64]) -> None:
    for i in range(rows.shape[0]):
        counts[rows[i], columns[i]] += 1


def _add(into: dict[int, NDArray[np.float64]], key: int, found: NDArray[np.float64]) -> None:
    into[key] = into[key] + found if key in into else found


def _sum(one: dict, other: dict) -> dict:  # type: ignore[type-arg]
    return {
        key: one[key] + other[key] if key in one and key in other else one.get(key, other.get(key))
        for key in {**one, **other}
    }


def _most(one: Sequence[Change], other: Sequence[Change]) -> list[Change]:
    return sorted([*one, *other], reverse=True)[:TOP]
