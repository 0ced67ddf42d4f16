"""Counts what a backtest finds: decisions before and after by day and label, hits by rule, the most telling changes.

Bounded memory: rows are counted in chunks and not kept. Tallies of partitions are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.policy import DECISIONS
from core.times import DAY_MS
from projections.labelling.view import FRAUD, LEGITIMATE

LABELS = 4
"""Codes of `projections.labelling.view`."""
TOP = 10
_KINDS = len(DECISIONS)


class Judged(NamedTuple):
    """n decisions of one partition, before and after.

    generations, offsets: uint64 (n,), the positions; times: epoch ms; amounts: in the base currency; labels: int8,
    codes of `projections.labelling.view`; was, now: uint8 into policy.DECISIONS; severity_was, severity_now: int8 into
    policy.SEVERITIES or −1; live, shadow: uint8 (n, R), hits after. rules_was: the codes that hit before, as an index
    (n,) into distinct ones joined by ",".
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
    live: NDArray[np.uint8]
    shadow: NDArray[np.uint8]
    rules_was: NDArray[np.int64]
    rule_names: Sequence[str]


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
    stricter, milder: the most telling changes. regraded: decisions whose severity alone changes.
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

    def __post_init__(self) -> None:
        count = len(self.codes)
        if not len(self.alone):
            self.alone = np.zeros(count, dtype=np.int64)
            self.overlap = np.zeros((count, count), dtype=np.int64)

    def add(self, rows: Judged) -> None:
        """Count some decisions."""
        if not len(rows.times):
            return
        day = rows.times // DAY_MS
        first = int(day.min())
        span = int(day.max()) - first + 1
        place = (day - first) * (_KINDS * _KINDS * LABELS)
        place += (rows.was.astype(np.int64) * _KINDS + rows.now) * LABELS + rows.labels
        self._take(self.days, first, span, (_KINDS, _KINDS, LABELS), place, rows.amounts)
        self._count_rules(rows, day, first, span)
        self._count_before(rows)
        self.regraded += int(((rows.was == rows.now) & (rows.severity_was != rows.severity_now)).sum())
        self.stricter = _most(self.stricter, self._changes(rows, np.flatnonzero(rows.now > rows.was)))
        self.milder = _most(self.milder, self._changes(rows, np.flatnonzero(rows.now < rows.was)))

    @staticmethod
    def _take(
        into: dict[int, NDArray[np.float64]],
        first: int,
        span: int,
        shape: tuple[int, ...],
        place: NDArray[np.int64],
        amounts: NDArray[np.float64],
    ) -> None:
        size = int(np.prod(shape))
        counts = np.bincount(place, minlength=span * size).reshape(span, *shape)
        sums = np.bincount(place, amounts, minlength=span * size).reshape(span, *shape)
        for k in range(span):
            if counts[k].any():
                found = np.stack([counts[k].astype(np.float64), sums[k]])
                into[first + k] = into[first + k] + found if first + k in into else found

    def _count_rules(self, rows: Judged, day: NDArray[np.int64], first: int, span: int) -> None:
        count = len(self.codes)
        for hits, into in ((rows.live, self.hits), (rows.shadow, self.quiet)):
            at, rule = np.nonzero(hits)
            place = ((day[at] - first) * count + rule) * LABELS + rows.labels[at]
            self._take(into, first, span, (count, LABELS), place, rows.amounts[at])
        some = rows.live[rows.live.any(axis=1)].astype(np.float64)
        self.alone += some[some.sum(axis=1) == 1.0].sum(axis=0).astype(np.int64)
        self.overlap += (some.T @ some).astype(np.int64)

    def _count_before(self, rows: Judged) -> None:
        names = rows.rule_names
        counts = np.bincount(rows.rules_was * LABELS + rows.labels, minlength=len(names) * LABELS).reshape(-1, LABELS)
        for name, found in zip(names, counts, strict=True):
            for code in name.split(",") if name else ():
                self.before[code] = self.before[code] + found if code in self.before else found.copy()

    def _changes(self, rows: Judged, at: NDArray[np.int64]) -> list[Change]:
        labels, amounts = rows.labels[at], rows.amounts[at]
        weights = np.where(labels == FRAUD, 2, np.where(labels == LEGITIMATE, 1, 0))
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
                ",".join(code for code, hit in zip(self.codes, rows.live[i], strict=True) if hit),
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
        )


def _sum(one: dict, other: dict) -> dict:  # type: ignore[type-arg]
    return {
        key: one[key] + other[key] if key in one and key in other else one.get(key, other.get(key))
        for key in {**one, **other}
    }


def _most(one: Sequence[Change], other: Sequence[Change]) -> list[Change]:
    return sorted([*one, *other], reverse=True)[:TOP]
