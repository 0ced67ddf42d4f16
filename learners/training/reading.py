"""Reads the log as a training set: columns from the archive, JSON from the hot log. Reads only.

Three passes write each feature vector once, directly to its place in order of event time, without a copy:

1. feedback       all verdicts, with the IDs of the payments that they are on
2. transactions   time, amount, account and ID of every row in the window, which give its place, and of those payments
3. scores         the feature vector as logged, written to that place; model and arm. From the window's first row on

All end at the partition's head as of the start. Decisions of another feature spec or engine are left out, and counted.

Memory: what the set takes (`learners.training.dataset`), twice while the columns of pass 2 are joined, however long the
log is. Time: pass 2 reads all payments of the log, about 2 µs each from the archive; pass 3 what the window spans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.codec import decode_account_event
from core.control_stream import identity_of
from core.errors import BadInput, Corrupt
from core.events import FeedbackReceived, Position
from core.features import spec
from core.hashing import HashKey, hash_strings
from core.log.base import EventLog
from core.log.paging import entries
from core.program.codes import ENGINE
from core.replay import Timeline
from core.scoring import Input
from core.times import DAY_MS, minute_text
from core.verdicts import verdict_record
from learners.training.columns import OwnColumns, Selection, read_columns
from learners.training.dataset import Clock, LabelledAsOf, Origin, TrainingSet, Verdicts, as_known
from learners.training.pages import Placed, ScorePage, TransactionPage, score_pages, transaction_pages
from projections.labelling.verdicts import payment_keys

BACKFILL_MS = DAY_MS
"""A log counts as loaded in bulk if the median delay from payment to log time is longer than this."""
ALWAYS = 2**62

ReportRows = Callable[[int], object]
"""Called with the number of rows read since the last call; each row is read twice."""


def read(
    log: EventLog,
    partitions: Iterable[int],
    known_until: int | None = None,
    *,
    maturity_ms: int = 0,
    clock: Clock | None = None,
    start: int = 0,
    end: int = ALWAYS,
    report: ReportRows | None = None,
    selection: Selection | None = None,
    timeline: Callable[[], Timeline] | None = None,
) -> TrainingSet:
    """Every decision on a payment with start ≤ event time < end (epoch ms), features as logged, labels as known at
    `known_until`.

    known_until: epoch ms; by default everything in the log is known. maturity_ms: the age from which a payment without
    a verdict is presumed legitimate; 0 leaves this to the gap of a split. clock: see learners.training.dataset; by
    default "event" if the log was loaded in bulk (see BACKFILL_MS), else "log". Rows in review or pending are
    included; `labelled` leaves them out. selection: the columns, by default the kernel's; timeline: for features that
    were not logged then (`learners.training.columns`). Raises BadInput if there is no decision, Corrupt if the log
    can't be read.
    """
    report = report or (lambda count: None)
    heads = {partition: log.head(partition) for partition in partitions}
    key = identity_of(log).key
    said = {partition: list(_feedback(log, partition, head.feedback)) for partition, head in heads.items()}
    span = _Span(start, end)
    parts = [
        _transactions(log, p, head.transactions, key, span, _keys_of(said[p], key), report) for p, head in heads.items()
    ]
    times = np.concatenate([part.times for part in parts]) if parts else np.empty(0, np.int64)
    window = np.flatnonzero((times >= start) & (times < end))
    if not len(window):
        raise BadInput(span.nothing())
    order = window[np.argsort(times[window], kind="stable")]
    place = np.full(len(times), -1, dtype=np.int64)
    place[order] = np.arange(len(order))
    scores = _Scores.empty(len(order))
    placed: dict[int, Placed] = {}
    begin = 0
    for part in parts:
        placed[part.partition] = part.placed(place[begin : begin + len(part.times)])
        _read_scores(log, part.partition, placed[part.partition], scores, report)
        begin += len(part.times)
    features, inputs = scores.features, None
    folded: Mapping[str, int] = {}
    if selection is not None and not selection.is_standard:
        own = read_columns(log, selection, heads, placed, len(order), timeline, report)
        features, inputs, folded = _joined(selection, scores.features, own)
    verdicts = _verdicts(said, parts, place, key, span)
    recorded = np.concatenate([part.recorded_at for part in parts])[order]
    data = TrainingSet(
        features=features,
        labels=np.zeros(len(order), dtype=np.bool_),
        times=times[order],
        amounts=np.concatenate([part.amounts for part in parts])[order],
        accounts=np.concatenate([part.accounts for part in parts])[order].view(np.int64),
        statuses=np.zeros(len(order), dtype=np.int8),
        origin=Origin(
            np.concatenate([np.full(len(p.times), p.partition, np.int32) for p in parts])[order],
            np.concatenate([part.generations for part in parts])[order],
            np.concatenate([part.offsets for part in parts])[order],
            recorded,
            scores.models,
            scores.arms,
            tuple(scores.model_codes),
            tuple(scores.arm_codes),
            np.concatenate([part.keys for part in parts])[order],
        ),
        verdicts=verdicts,
        inputs=inputs,
        folded=folded,
        left_out=int(np.count_nonzero(~scores.readable)),
    )
    if data.left_out:
        data = data.rows(scores.readable)
    if not len(data):
        raise BadInput(
            f"no decision in the window was made by this engine, {ENGINE}, under this feature spec, {spec.SPEC_VERSION}"
        )
    return _labelled(data, known_until, maturity_ms, clock)


def _labelled(data: TrainingSet, until: int | None, maturity_ms: int, clock: Clock | None) -> TrainingSet:
    assert data.origin is not None and data.verdicts is not None
    if clock is None:
        clock = "event" if float(np.median(data.origin.recorded_at - data.times)) > BACKFILL_MS else "log"
    if until is None:
        newest = data.origin.recorded_at if clock == "log" else data.times
        until = max(int(newest.max()), int(data.times.max()), int(data.verdicts.known_at(clock).max(initial=0)))
    return as_known(replace(data, known=LabelledAsOf(until, maturity_ms, clock)), until)


def _joined(
    selection: Selection, kernel: NDArray[np.float32], own: OwnColumns
) -> tuple[NDArray[np.float32], tuple[Input, ...], Mapping[str, int]]:
    """The selection's columns, what they are, and the rows that were folded. kernel: float32 (n, WIDTH)."""
    inputs = []
    for k, each in enumerate(selection.offers):
        if 0 <= each.column < spec.WIDTH:
            own.features[:, k] = kernel[:, each.column]
        inputs.append(Input(each.identity, each.name, each.kind, own.values.get(k, ())))
    return own.features, tuple(inputs), own.folded


# --- pass 2: transactions ---------------------------------------------------------------------------------------


class _Span:
    """The window of event time, epoch ms, and what the payments that were read say of the log's. It is asked for them
    once all are read.
    """

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end
        self._first, self._last = ALWAYS, -ALWAYS
        self._steps: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    def add(self, page: TransactionPage) -> NDArray[np.bool_]:
        """Take a page into account; which of its rows are in the window, bool (k,)."""
        self._first, self._last = min(self._first, int(page.times.min())), max(self._last, int(page.times.max()))
        new = np.flatnonzero(np.diff(page.recorded_at, prepend=page.recorded_at[0] - 1))
        self._steps.append((page.recorded_at[new], np.maximum.reduceat((page.times // DAY_MS + 1) * DAY_MS, new)))
        return (page.times >= self.start) & (page.times < self.end)

    def newest(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(Log time, end of day), both epoch ms, ascending: when the log first held a payment of a day newer than
        before, and when that day ends.
        """
        recorded = np.concatenate([step[0] for step in self._steps])
        order = np.argsort(recorded, kind="stable")
        ends = np.maximum.accumulate(np.concatenate([step[1] for step in self._steps])[order])
        first = np.flatnonzero(np.diff(ends, prepend=-1) > 0)
        return recorded[order][first], ends[first]

    def nothing(self) -> str:
        """Why there is nothing to train on, with the window and the log's own range."""
        if not self._steps:
            return "the log holds no transactions to train on"
        asked = (self.start, self.end)
        window = " … ".join("" if not 0 < moment < ALWAYS else minute_text(moment) for moment in asked).strip()
        covered = f"{minute_text(self._first)} … {minute_text(self._last)}"
        return f"no transactions in the window {window} (event time, UTC); the log covers {covered}"


@dataclass(frozen=True, slots=True)
class _Transactions:
    """A partition's transactions that are in the window or have a verdict, in log order. ordinals: the number of each
    among the partition's `count` transactions, from 0.
    """

    partition: int
    count: int
    ordinals: NDArray[np.int64]
    generations: NDArray[np.uint64]
    offsets: NDArray[np.uint64]
    times: NDArray[np.int64]
    recorded_at: NDArray[np.int64]
    amounts: NDArray[np.float64]
    accounts: NDArray[np.uint64]
    keys: NDArray[np.uint64]

    def placed(self, places: NDArray[np.int64]) -> Placed:
        """Those that are rows. places: int64 (k,), −1 for the others."""
        rows = np.flatnonzero(places >= 0)
        return Placed(self.ordinals[rows], places[rows], self.generations[rows], self.offsets[rows], self.count)


def _transactions(
    log: EventLog,
    partition: int,
    until: Position,
    key: HashKey,
    span: _Span,
    judged: NDArray[np.uint64],
    report: ReportRows,
) -> _Transactions:
    """judged: the keys of payments with a verdict, ascending."""
    count = 0
    types = (np.int64, np.uint64, np.uint64, np.int64, np.int64, np.float64, np.uint64, np.uint64)
    kept: list[list[NDArray[Any]]] = [[np.empty(0, dtype)] for dtype in types]
    for page in transaction_pages(log, partition, until, key):
        rows = np.flatnonzero(span.add(page) | _among(page.keys, judged))
        for out, column in zip(kept, (np.arange(count, count + len(page.times)), *page), strict=True):
            out.append(column[rows])
        count += len(page.times)
        report(len(page.times))
    return _Transactions(partition, count, *(np.concatenate(column) for column in kept))


def _among(keys: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which keys (k,) are among those wanted (m,), ascending."""
    if not len(wanted):
        return np.zeros(len(keys), dtype=np.bool_)
    found: NDArray[np.bool_] = wanted[np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)] == keys
    return found


# --- pass 3: scores ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Scores:
    """The set's rows in order of event time, filled page by page. readable: bool (n,), decided by this engine
    under this feature spec.
    """

    features: NDArray[np.float32]
    models: NDArray[np.int16]
    arms: NDArray[np.int16]
    readable: NDArray[np.bool_]
    model_codes: dict[str, int] = field(default_factory=dict)
    arm_codes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def empty(cls, rows: int) -> _Scores:
        return cls(
            np.empty((rows, spec.WIDTH), dtype=np.float32),
            np.zeros(rows, dtype=np.int16),
            np.zeros(rows, dtype=np.int16),
            np.zeros(rows, dtype=np.bool_),
        )

    def put(self, places: NDArray[np.int64], page: ScorePage) -> None:
        """Write a page's scores to `places`, int64 (k,), −1 for a row outside the window."""
        inside = places >= 0
        kept = inside & page.readable
        self.features[places[kept]] = page.features[kept]
        self.readable[places[kept]] = True
        for codes, names, known, out in (
            (page.models, page.model_names, self.model_codes, self.models),
            (page.arms, page.arm_names, self.arm_codes, self.arms),
        ):
            translated = np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int16)
            out[places[inside]] = translated[codes[inside]]


def _read_scores(log: EventLog, partition: int, placed: Placed, scores: _Scores, report: ReportRows) -> None:
    begin = placed.begin
    report(begin)
    for page in score_pages(log, partition, placed.after, placed.until):
        if not placed.lies_at(begin, page.generations, page.offsets):
            raise Corrupt(f"partition {partition}: transactions and scores do not match")
        scores.put(placed.of(begin, len(page.offsets)), page)
        report(len(page.offsets))
        begin += len(page.offsets)
    if len(placed.ordinals) and begin != placed.ordinals[-1] + 1:
        raise Corrupt(f"partition {partition}: {placed.ordinals[-1] + 1 - begin} transactions have no score")
    report(placed.count - begin)


# --- verdicts ---------------------------------------------------------------------------------------------------


def _keys_of(said: Sequence[FeedbackReceived], key: HashKey) -> NDArray[np.uint64]:
    """The keys of the payments that verdicts are on, ascending."""
    return np.unique(_keys(said, key))


def _keys(said: Sequence[FeedbackReceived], key: HashKey) -> NDArray[np.uint64]:
    return payment_keys(
        hash_strings([event.account_id for event in said], key),
        hash_strings([event.transaction_id for event in said], key),
    )


def _verdicts(
    said: Mapping[int, list[FeedbackReceived]],
    parts: Sequence[_Transactions],
    place: NDArray[np.int64],
    key: HashKey,
    span: _Span,
) -> Verdicts:
    """All verdicts, each with its payment and rows. A verdict on an unknown transaction, or on another account's, has
    neither.
    """
    events: list[FeedbackReceived] = []
    partitions: list[NDArray[np.int32]] = []
    payments: list[NDArray[np.int64]] = []
    recorded: list[NDArray[np.int64]] = []
    rows: list[NDArray[np.int64]] = []
    links: list[NDArray[np.int64]] = []
    begin = 0
    for part in parts:
        found = said[part.partition]
        wanted = _keys(found, key)
        order = np.argsort(part.keys, kind="stable")
        ordered = part.keys[order]
        low, high = np.searchsorted(ordered, wanted, "left"), np.searchsorted(ordered, wanted, "right")
        counts = high - low
        matches = np.repeat(np.arange(len(found)), counts)
        within = np.arange(len(matches)) - np.repeat(np.cumsum(counts) - counts, counts)
        on = order[low[matches] + within]
        inside = place[begin + on] >= 0
        rows.append(place[begin + on][inside])
        links.append(len(events) + matches[inside])
        first = order[np.minimum(low, max(len(order) - 1, 0))] if len(order) else np.zeros(len(found), np.int64)
        for out, values in ((payments, part.times), (recorded, part.recorded_at)):
            out.append(np.where(counts > 0, values[first], 0) if len(order) else np.zeros(len(found), np.int64))
        partitions.append(np.full(len(found), part.partition, dtype=np.int32))
        events += found
        begin += len(part.times)
    steps, days = span.newest()
    return Verdicts(
        said=[verdict_record(event, event.recorded_at) for event in events],
        recorded_at=np.array([event.recorded_at for event in events], dtype=np.int64),
        occurred_at=np.array([event.occurred_at for event in events], dtype=np.int64),
        partitions=np.concatenate(partitions),
        accounts=[event.account_id for event in events],
        transactions=[event.transaction_id for event in events],
        payments=np.concatenate(payments),
        payments_recorded_at=np.concatenate(recorded),
        rows=np.concatenate(rows),
        events=np.concatenate(links),
        newest_recorded_at=steps,
        newest=days,
    )


def _feedback(log: EventLog, partition: int, until: Position) -> Iterator[FeedbackReceived]:
    for entry in entries(log, partition, "feedback", until=until):
        event = decode_account_event(entry.payload)
        if isinstance(event, FeedbackReceived):
            yield event
