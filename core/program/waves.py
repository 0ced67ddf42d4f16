"""The payments of a batch in the order in which programs decide them, with their aggregates. Pure, but for the states
that it updates.

    events of all partitions, in order ─► one fold (read, update, read, …)                   usually
                                       ─► waves: read, decide, update                          if a condition reads
                                                                                              the own decisions
Wave k holds the k-th payment of each account in the batch, so that a payment sees what was decided on all earlier
ones of its account, wherever batches end. Verdicts belong to the wave of the payment that they precede.

While an experiment runs, several programs decide, each for its arms' accounts (`core.routing`). The aggregates of each
are read for its own payments and updated with all, whichever program decided them: so each is what a fold gives under
any program, and what a condition says of decisions and hits is about those that were made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from core.errors import Corrupt
from core.program.batch import Batch
from core.program.folding import read, update
from core.program.leaves import Words
from core.program.rings import (
    Order,
    RingStep,
    fold_step,
    held_steps,
    kept_rows,
    order_of,
    outcome_columns,
    verdict_inputs,
)
from core.program.typed import Expression
from core.work import Fold, Rows, Work


class Deciding(Protocol):
    """`core.program.deciding.Program`, as far as it is needed here. rings: None if it has no aggregates of its own.
    codes: of the hits.
    """

    @property
    def rings(self) -> RingStep | None: ...
    @property
    def codes(self) -> tuple[str, ...]: ...


class Wave(NamedTuple):
    """Payments of one program, by its place among those that decide: int64 (k,), with their aggregates: words (A, k),
    None if the program has none.
    """

    place: int
    rows: NDArray[np.int64]
    aggregates: Words | None


def waves(
    programs: Sequence[Deciding], which: NDArray[np.int8] | None, batch: Batch, folded: Fold, rows: Rows
) -> Iterator[Wave]:
    """The fold's payments that are no duplicates, in waves. Each must be decided into `rows` before the next is asked
    for. which: int8 (n,), the place of each payment's program; None if there is one program.

    Raises Corrupt if a state lacks a program's aggregates.
    """
    kept = kept_rows(batch, folded)
    decided = Deciders(programs, which, rows)
    if not any([each.rings for each in programs]) and not any([work.state.rings for work in folded.works]):
        yield from decided.split(kept, {})  # usually: no program has aggregates of its own
        return
    mine = {each.rings.digest: each.rings for each in programs if each.rings is not None}
    held = held_steps(folded.works)
    if any(not mine.keys() <= work.state.rings.keys() for work in folded.works):
        raise Corrupt("the state of an account does not hold the aggregates of a program that decides: load it again")
    order = order_of(batch, folded, kept)
    known = {
        digest: fold_step(step, batch, folded, order, {}) for digest, step in mine.items() if not step.reads_outcomes
    }
    awaited = [step for step in mine.values() if step.reads_outcomes]
    if awaited:
        yield from _in_waves(awaited, known, batch, folded, order, decided)
    else:
        yield from decided.split(kept, known)
    for step in held:
        if step.digest not in mine:
            fold_step(step, batch, folded, order, decided.outcomes(step) if step.reads_outcomes else {})


@dataclass(frozen=True, slots=True)
class Deciders:
    """Which program decides which payment of a batch, and what was decided (`waves`)."""

    programs: Sequence[Deciding]
    which: NDArray[np.int8] | None
    rows: Rows

    def split(self, rows: NDArray[np.int64], known: Mapping[str, Words]) -> Iterator[Wave]:
        """Payments by program, with their aggregates. known: of all payments of the batch, by their step's digest."""
        for place, program in enumerate(self.programs):
            mine = rows if self.which is None else rows[self.which[rows] == place]
            if len(mine) or self.which is None:
                found = known[program.rings.digest] if program.rings is not None else None
                yield Wave(place, mine, found and Words(found.words[:, mine], found.valid[:, mine]))

    def outcomes(self, step: RingStep) -> dict[Expression, Words]:
        """What was decided so far as columns; of rows that are not decided yet, whatever `rows` holds."""
        return outcome_columns(step.payment, step.key, self.rows.decisions, self.rows.severities, self._hits)

    def _hits(self, code: str) -> NDArray[np.uint8]:
        """(n,): where a rule of this code hit, in whichever program decided."""
        found = np.zeros(len(self.rows.decisions), dtype=np.uint8)
        for place, program in enumerate(self.programs):
            if code in program.codes:
                at = slice(None) if self.which is None else self.which == place
                found[at] = self.rows.hits[at, program.codes.index(code)]
        return found


def _in_waves(
    steps: Sequence[RingStep],
    known: Mapping[str, Words],
    batch: Batch,
    folded: Fold,
    order: Order,
    decided: Deciders,
) -> Iterator[Wave]:
    """See `waves`. steps: those that read outcomes; known: the aggregates of the others. The events of a wave are those
    of all works, and a record belongs to one work only.
    """
    of_works = [order.events[a:b] for a, b in zip([0, *order.ends[:-1].tolist()], order.ends.tolist(), strict=True)]
    folds = [_WaveFold.of(step, batch, order, decided) for step in steps]
    for wave in _planned(of_works, order):
        for fold in folds:
            fold.read(folded.works, wave)
        together = np.concatenate([mine.payments for mine in wave])
        if not len(together):
            continue
        together.sort()
        yield from decided.split(together, {**known, **{fold.step.digest: fold.found for fold in folds}})
        for fold in folds:
            fold.update(folded.works, wave)


@dataclass(frozen=True, slots=True)
class _WaveFold:
    """The aggregates of one step that are read and updated wave by wave. own: the inputs of reading, which never depend
    on a decision, so that they are evaluated for all payments before any is decided. found: of all payments so far.
    """

    step: RingStep
    batch: Batch
    order: Order
    decided: Deciders
    own: Words
    verdicts: Words
    found: Words

    @classmethod
    def of(cls, step: RingStep, batch: Batch, order: Order, decided: Deciders) -> _WaveFold:
        under, shape = batch.under(step.fields), (len(step.layout.aggregates), len(batch.transactions))
        own = step.payment.run(under, batch.all_rows, None, decided.outcomes(step))
        found = Words(np.zeros(shape), np.zeros(shape, dtype=np.uint8))
        return cls(step, under, order, decided, own, verdict_inputs(step.verdict, step.key, order.verdicts), found)

    def read(self, works: Sequence[Work], wave: Sequence[_Wave]) -> None:
        """Take in the wave's verdicts, then read what its payments find."""
        order, table = self.order, self.step.layout.table
        for work, mine in zip(works, wave, strict=True):
            records = work.state.rings[self.step.digest].records
            if len(mine.verdicts):
                update(
                    table, records, mine.verdicts, order.verdict_slots, order.verdict_times,
                    self.verdicts.words.view(np.uint64), self.verdicts.valid, True,
                )  # fmt: skip
            if len(mine.payments):
                read(
                    table, records, mine.payments, order.slots, order.times,
                    self.own.words.view(np.uint64), self.own.valid, self.found.words.view(np.uint64), self.found.valid,
                )  # fmt: skip

    def update(self, works: Sequence[Work], wave: Sequence[_Wave]) -> None:
        """Take in the wave's payments, which are decided now."""
        inputs = self.step.payment.run(self.batch, self.batch.all_rows, None, self.decided.outcomes(self.step))
        for work, mine in zip(works, wave, strict=True):
            if len(mine.payments):
                update(
                    self.step.layout.table, work.state.rings[self.step.digest].records, mine.payments,
                    self.order.slots, self.order.times, inputs.words.view(np.uint64), inputs.valid, False,
                )  # fmt: skip


class _Wave(NamedTuple):
    """One work's part of a wave: int64, payments by row, and the verdicts before them."""

    payments: NDArray[np.int64]
    verdicts: NDArray[np.int64]


def _planned(of_works: list[NDArray[np.int64]], order: Order) -> list[list[_Wave]]:
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
