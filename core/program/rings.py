"""The state of a program's aggregates in the pipeline: read before each payment, updated after it, for all partitions
of a batch at once. Pure, but for the states that it updates.

    events of all partitions, in order ─► one fold (read, update, read, …)                   usually
                                       ─► waves: read, decide, update                          if a condition reads
                                                                                              the own decisions
Wave k holds the k-th payment of each account in the batch, so that a payment sees what was decided on all earlier
ones of its account, wherever batches end. Verdicts belong to the wave of the payment that they precede.

A state may hold the aggregates of several programs: of the one that decides, and of one that is prepared to take over.
All are updated; only the deciding one's are read.

Cost: about 15 µs a batch, and what core.program.folding costs; nothing for a program without aggregates of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from core import canonical
from core.errors import Corrupt
from core.events import FeedbackReceived, Outcome
from core.features import kernel
from core.features.remembered import DUPLICATE
from core.hashing import HashKey, hash_strings
from core.policy import DECISIONS, SEVERITIES
from core.program.batch import Batch
from core.program.checked import OwnField
from core.program.folding import read, update
from core.program.layout import Layout
from core.program.leaves import Step, Words
from core.program.loops import fold_all
from core.program.typed import Column, Expression, Hit
from core.work import Fold, Rows, Work


@dataclass(frozen=True, eq=False, slots=True)
class RingStep:
    """A layout with the code of its inputs, bound to a log's key. fields: the own fields that the code reads. digest:
    SHA-256 of the layout and of these fields: states under equal digests are interchangeable.
    """

    layout: Layout
    payment: Step
    verdict: Step
    fields: Mapping[str, OwnField]
    key: HashKey
    reads_outcomes: bool
    digest: str


def digest_of(layout: Layout, fields: Mapping[str, OwnField], engine: int) -> str:
    """The digest of a RingStep."""
    words = [f"engine {engine}", layout.digest, *(f"{name} {fields[name]!r}" for name in sorted(fields))]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


class Deciding(Protocol):
    """`core.program.deciding.Program`, as far as it is needed here. rings: None if it has no aggregates of its own.
    codes: of the hits.
    """

    @property
    def rings(self) -> RingStep | None: ...
    @property
    def codes(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class _Order:
    """A fold's events as core.program.folding takes them: payment i as i, verdict k as −1 − k. ends: int64, where each
    work's end. slots int32, times int64: of all payments of the batch. Verdicts likewise.
    """

    events: NDArray[np.int64]
    ends: NDArray[np.int64]
    slots: NDArray[np.int32]
    times: NDArray[np.int64]
    verdict_slots: NDArray[np.int32]
    verdict_times: NDArray[np.int64]
    verdicts: list[FeedbackReceived]


def waves(
    program: Deciding, batch: Batch, folded: Fold, rows: Rows
) -> Iterator[tuple[NDArray[np.int64], Words | None]]:
    """The fold's payments that are no duplicates, in waves, with their aggregates: words (A, len(wave)). Each wave must
    be decided into `rows` before the next is asked for.

    Raises Corrupt if a state lacks the program's aggregates.
    """
    kept = _kept(batch, folded)
    mine = program.rings
    held = _held(folded.works)
    if mine is not None and any(mine.digest not in work.state.rings for work in folded.works):
        raise Corrupt("the state of an account does not hold the aggregates of the program that decides: load it again")
    if not held:
        yield kept, None
        return
    order = _order(batch, folded, kept)
    if mine is None:
        yield kept, None
    elif not mine.reads_outcomes:
        aggregates = _fold(mine, batch, folded, order, {})
        yield kept, Words(aggregates.words[:, kept], aggregates.valid[:, kept])
    else:
        yield from _in_waves(mine, program.codes, batch, folded, order, rows)
    for step in held:
        if mine is None or step.digest != mine.digest:
            given = _decided(step, rows, program.codes) if step.reads_outcomes else {}
            _fold(step, batch, folded, order, given)


def apply(batch: Batch, folded: Fold, outcomes: Sequence[Outcome]) -> None:
    """Update all aggregates that the states hold. outcomes: of all payments of the batch, or none, if no condition
    reads them. Raises Corrupt if one does and there are none.
    """
    held = _held(folded.works)
    if not held:
        return
    order = _order(batch, folded, _kept(batch, folded))
    for step in held:
        given: dict[Expression, Words] = {}
        if step.reads_outcomes:
            if len(outcomes) != len(batch.transactions):
                raise Corrupt("the aggregates of a program read what was decided, which is not given")
            given = _logged(step, outcomes)
        _fold(step, batch, folded, order, given)


def _held(works: Iterable[Work]) -> list[RingStep]:
    """All steps whose aggregates some state holds, by digest."""
    found = {digest: step for work in works for digest, step in work.state.ring_steps.items()}
    return [found[digest] for digest in sorted(found)]


def _kept(batch: Batch, folded: Fold) -> NDArray[np.int64]:
    is_kept = batch.seen[folded.start : folded.stop] != DUPLICATE
    if is_kept.all():
        return batch.all_rows[folded.start : folded.stop]
    return folded.start + np.flatnonzero(is_kept)


def _order(batch: Batch, folded: Fold, kept: NDArray[np.int64]) -> _Order:
    events = folded.events
    n = len(batch.transactions)
    is_payment = events["kind"] == kernel.TRANSACTION
    at = np.flatnonzero(is_payment)
    payments = folded.start + events["row"][at].astype(np.int64)
    slots, times = np.zeros(n, dtype=np.int32), np.zeros(n, dtype=np.int64)
    slots[payments], times[payments] = events["slot"][at], events["received"][at]
    numbers = np.full(len(events), np.iinfo(np.int64).min, dtype=np.int64)
    numbers[at] = payments
    if len(kept) < folded.stop - folded.start:
        numbers[at[batch.seen[payments] == DUPLICATE]] = np.iinfo(np.int64).min
    places = np.array([place for place, _ in folded.verdicts], dtype=np.int64)
    numbers[places] = -1 - np.arange(len(places))
    counted = numbers != np.iinfo(np.int64).min
    before = np.concatenate([[0], np.cumsum(counted)])
    verdicts = [verdict for _, verdict in folded.verdicts]
    return _Order(
        numbers[counted],
        before[np.array(folded.ends, dtype=np.int64)],
        slots,
        times,
        events["slot"][places].astype(np.int32),
        came_at(verdicts),
        verdicts,
    )


def came_at(verdicts: Sequence[FeedbackReceived]) -> NDArray[np.int64]:
    """When verdicts came: epoch ms, int64 (v,)."""
    came = [min(v.occurred_at, v.recorded_at) if v.recorded_at else v.occurred_at for v in verdicts]
    return np.array(came, dtype=np.int64)


def _addresses(step: RingStep, works: Sequence[Work]) -> NDArray[np.int64]:
    states = [work.state.rings.get(step.digest) for work in works]
    return np.array(
        [(0, 0) if state is None else (state.records.ctypes.data, len(state.records)) for state in states],
        dtype=np.int64,
    ).reshape(-1, 2)


def _fold(step: RingStep, batch: Batch, folded: Fold, order: _Order, given: Mapping[Expression, Words]) -> Words:
    """Read and update all; the aggregates of all payments of the batch: words (A, n)."""
    n = len(batch.transactions)
    inputs = step.payment.run(batch.under(step.fields), batch.all_rows, None, given)
    said = verdict_inputs(step.verdict, step.key, order.verdicts)
    out = np.zeros((len(step.layout.aggregates), n), dtype=np.uint64)
    valid = np.zeros((len(step.layout.aggregates), n), dtype=np.uint8)
    fold_all(
        _addresses(step, folded.works),
        step.layout.words,
        order.ends,
        step.layout.table,
        order.events,
        order.slots,
        order.times,
        inputs.words.view(np.uint64),
        inputs.valid,
        order.verdict_slots,
        order.verdict_times,
        said.words.view(np.uint64),
        said.valid,
        out,
        valid,
    )
    return Words(out.view(np.float64), valid)


def _in_waves(
    step: RingStep, codes: tuple[str, ...], batch: Batch, folded: Fold, order: _Order, rows: Rows
) -> Iterator[tuple[NDArray[np.int64], Words]]:
    """See `waves`. The events of a wave are those of all works, and a record belongs to one work only."""
    of_works = [order.events[a:b] for a, b in zip([0, *order.ends[:-1].tolist()], order.ends.tolist(), strict=True)]
    planned = _planned(of_works, order)
    n, count = len(batch.transactions), len(step.layout.aggregates)
    out, valid = np.zeros((count, n), dtype=np.uint64), np.zeros((count, n), dtype=np.uint8)
    under = batch.under(step.fields)
    said = verdict_inputs(step.verdict, step.key, order.verdicts)
    # What reading needs never depends on a decision, so it may be evaluated for all rows before any is decided.
    own = step.payment.run(under, batch.all_rows, None, _decided(step, rows, codes))
    for wave in planned:
        for work, mine in zip(folded.works, wave, strict=True):
            records = work.state.rings[step.digest].records
            table = step.layout.table
            if len(mine.verdicts):
                update(
                    table, records, mine.verdicts, order.verdict_slots, order.verdict_times,
                    said.words.view(np.uint64), said.valid, True,
                )  # fmt: skip
            if len(mine.payments):
                read(
                    table, records, mine.payments, order.slots, order.times,
                    own.words.view(np.uint64), own.valid, out, valid,
                )  # fmt: skip
        together = np.concatenate([mine.payments for mine in wave])
        if not len(together):
            continue
        together.sort()
        yield together, Words(out.view(np.float64)[:, together], valid[:, together])
        inputs = step.payment.run(under, batch.all_rows, None, _decided(step, rows, codes))
        for work, mine in zip(folded.works, wave, strict=True):
            if len(mine.payments):
                update(
                    step.layout.table, work.state.rings[step.digest].records, mine.payments, order.slots, order.times,
                    inputs.words.view(np.uint64), inputs.valid, False,
                )  # fmt: skip


class _Wave(NamedTuple):
    """One work's part of a wave: int64, payments by row, and the verdicts before them."""

    payments: NDArray[np.int64]
    verdicts: NDArray[np.int64]


def _planned(of_works: list[NDArray[np.int64]], order: _Order) -> list[list[_Wave]]:
    """The waves, each with one part for every work."""
    numbered: list[list[tuple[list[int], list[int]]]] = []
    for events in of_works:
        seen: dict[int, int] = {}
        mine: list[tuple[list[int], list[int]]] = []
        for number in events.tolist():
            is_payment = number >= 0
            row = number if is_payment else -1 - number
            slot = int(order.slots[row] if is_payment else order.verdict_slots[row])
            wave = seen.get(slot, 0)
            while len(mine) <= wave:
                mine.append(([], []))
            mine[wave][0 if is_payment else 1].append(row)
            if is_payment:
                seen[slot] = wave + 1
        numbered.append(mine)
    deepest = max(map(len, numbered), default=0)
    empty: tuple[list[int], list[int]] = ([], [])
    return [
        [
            _Wave(*(np.array(part, dtype=np.int64) for part in (mine[k] if k < len(mine) else empty)))
            for mine in numbered
        ]
        for k in range(deepest)
    ]


def verdict_inputs(step: Step, key: HashKey, verdicts: Sequence[FeedbackReceived]) -> Words:
    """The inputs of verdicts: words (inputs, v). A verdict has its word, and names a merchant and a device. key: the
    log's.
    """
    leaves = step.bound.code.leaves
    words = np.zeros((len(leaves), len(verdicts)), dtype=np.float64)
    valid = np.zeros((len(leaves), len(verdicts)), dtype=np.uint8)
    if verdicts:
        for k, leaf in enumerate(leaves):
            if isinstance(leaf, Column) and leaf.name in ("verdict", "merchant_id", "device_id", "account_id"):
                hashes = hash_strings(canonical.texts([getattr(v, leaf.name) for v in verdicts]), key)
                words[k], valid[k] = hashes.view(np.float64), hashes != 0
    return step.evaluate(Words(words, valid))


def _decided(step: RingStep, rows: Rows, codes: tuple[str, ...]) -> dict[Expression, Words]:
    """What was decided so far as columns; of rows that are not decided yet, whatever `rows` holds."""
    places = {code: k for k, code in enumerate(codes)}
    n = len(rows.decisions)
    none = np.zeros(n, dtype=np.uint8)
    return outcome_columns(
        step.payment,
        step.key,
        rows.decisions,
        rows.severities,
        lambda code: rows.hits[:, places[code]] if code in places else none,
    )


def _logged(step: RingStep, outcomes: Sequence[Outcome]) -> dict[Expression, Words]:
    """What the log says was decided, as columns."""
    decisions = np.array([DECISIONS.index(each.decision) for each in outcomes], dtype=np.uint8)
    severities = np.array(
        [-1 if each.severity is None else SEVERITIES.index(each.severity) for each in outcomes],
        dtype=np.int8,
    )
    return outcome_columns(
        step.payment,
        step.key,
        decisions,
        severities,
        lambda code: np.array([code in each.hits for each in outcomes], dtype=np.uint8),
    )


def outcome_columns(
    step: Step,
    key: HashKey,
    decisions: NDArray[np.uint8],
    severities: NDArray[np.int8],
    hits: Callable[[str], NDArray[np.uint8]],
) -> dict[Expression, Words]:
    """The columns of outcomes that a step's code reads. decisions: uint8 (n,) into policy.DECISIONS; severities: int8
    (n,) into policy.SEVERITIES or −1; hits: uint8 (n,), where a rule had effect, by its code. key: the log's.
    """
    every = np.ones(len(decisions), dtype=np.uint8)
    alerted = severities >= 0
    found: dict[Expression, Words] = {}
    for leaf in step.bound.code.leaves:
        match leaf:
            case Column(_, "outcome", "decision"):
                words = hash_strings(list(DECISIONS), key)[decisions]
                found[leaf] = Words(words.view(np.float64), every)
            case Column(_, "outcome", "severity"):
                words = hash_strings(list(SEVERITIES), key)[np.maximum(severities, 0)]
                found[leaf] = Words(words.view(np.float64), alerted.astype(np.uint8))
            case Column(_, "outcome", "alerted"):
                found[leaf] = Words(alerted.astype(np.float64), every)
            case Hit(code):
                found[leaf] = Words(hits(code).astype(np.float64), every)
            case _:
                pass
    return found
