"""The state of a program's aggregates in the pipeline: what updates it, for all partitions of a batch at once. Pure,
but for the states that it updates. `core.program.waves` says in which order payments are decided meanwhile.

A state may hold the aggregates of several programs: of those that decide, and of ones that are prepared to take over.

Cost: about 15 µs a batch, and what core.program.folding costs, for each of these programs that has aggregates of its
own; nothing without.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

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
from core.program.layout import Layout
from core.program.leaves import Step, Words
from core.program.loops import fold_all
from core.program.typed import Column, Expression, Hit
from core.work import Fold, Work


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


@dataclass(frozen=True, slots=True)
class Order:
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


def apply(batch: Batch, folded: Fold, outcomes: Sequence[Outcome]) -> None:
    """Update all aggregates that the states hold. outcomes: of all payments of the batch, or none, if no condition
    reads them. Raises Corrupt if one does and there are none.
    """
    held = held_steps(folded.works)
    if not held:
        return
    order = order_of(batch, folded, kept_rows(batch, folded))
    for step in held:
        given: dict[Expression, Words] = {}
        if step.reads_outcomes:
            if len(outcomes) != len(batch.transactions):
                raise Corrupt("the aggregates of a program read what was decided, which is not given")
            given = _logged(step, outcomes)
        fold_step(step, batch, folded, order, given)


def held_steps(works: Iterable[Work]) -> list[RingStep]:
    """All steps whose aggregates some state holds, by digest."""
    found = {digest: step for work in works for digest, step in work.state.ring_steps.items()}
    return [found[digest] for digest in sorted(found)]


def kept_rows(batch: Batch, folded: Fold) -> NDArray[np.int64]:
    seen = batch.seen[folded.start : folded.stop]
    if not np.count_nonzero(seen):  # usually
        return batch.all_rows[folded.start : folded.stop]
    return folded.start + np.flatnonzero(seen != DUPLICATE)


def order_of(batch: Batch, folded: Fold, kept: NDArray[np.int64]) -> Order:
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
    return Order(
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


def fold_step(step: RingStep, batch: Batch, folded: Fold, order: Order, given: Mapping[Expression, Words]) -> Words:
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
