"""Features that no score stores, computed from a log's columns: what the live path computes, without its other work.

    columns of all payments, in log order ─► inputs of aggregates ─► read and update per account ─► features, float32

Only the features asked for are folded, whatever else the program has: a feature's value does not depend on what else is
asked for (`core.program.layout`). State: one record per account of a partition, and nothing else. Where an aggregate
reads the program's own decisions, a part is folded and judged again until they are those that it was folded with: the
k-th payment of an account is right after k rounds, so that it ends, nearly always after two or three. Cost: about 1 µs
a payment for two aggregates and their rules, most of it reading.

What this can't do is decided by the live path (`NotByColumns`): parameters in features, partitions from which accounts
may have been evicted, and payments that don't decode.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core.events import AccountEvent, FeedbackReceived, Position
from core.features import spec
from core.policy import SEVERITIES
from core.program.compiling import compile_expressions, structure
from core.program.deciding import Program
from core.program.folding import fold
from core.program.leaves import Step, Words, leaves_of
from core.program.loops import store
from core.program.plan import fields_of, layout_of, parts, reads_outcome
from core.program.rings import came_at, outcome_columns, verdict_inputs
from core.program.state import ProgramState
from core.program.typed import Column, Expression, Hit
from projections.audit.situations import Situation
from projections.audit.stored import columns_of_field
from projections.audit.stored_batch import NotStored, StoredBatch, coded, column_of, decisions_of, mapped
from projections.audit.stored_tables import Rows

_ALWAYS = ("account_id", "received_at", "decision", "severity", "rules", "control_position")


class NotByColumns(NotStored):
    """What the columns of a log don't tell: the live path does."""


class Outcomes:
    """What was decided on n payments: decisions uint8 (n,), severities int8 (n,) or −1, and hits by code, as logged
    until they are replaced.
    """

    def __init__(self, rows: Rows) -> None:
        self.decisions = decisions_of(rows.column("decision"))
        self.severities = mapped(rows.column("severity"), SEVERITIES, np.int8)
        self._codes, self._values = coded(rows.column("rules"))
        self._changed: dict[str, NDArray[np.uint8]] = {}

    def hits(self, code: str) -> NDArray[np.uint8]:
        """Where a rule had effect: uint8 (n,)."""
        if code not in self._changed:
            hit = np.array([code in value.split(",") for value in self._values], dtype=np.uint8)
            self._changed[code] = hit[self._codes]
        return self._changed[code]

    def replace(
        self,
        at: NDArray[np.int64],
        decisions: NDArray[np.uint8],
        severities: NDArray[np.int8],
        hits: Callable[[str], NDArray[np.uint8]],
        codes: Sequence[str],
    ) -> bool:
        """Take other decisions at some rows; whether anything differs. codes: of the rules that somebody asks for."""
        same = np.array_equal(self.decisions[at], decisions) and np.array_equal(self.severities[at], severities)
        self.decisions[at], self.severities[at] = decisions, severities
        for code in codes:
            held, now = self.hits(code), hits(code)
            same = same and np.array_equal(held[at], now)
            held[at] = now
        return not same


class _Events(NamedTuple):
    """Events as `core.program.folding.fold` takes them: rows int64 (n + v,), payment i as i and verdict k as −1 − k;
    slots int32 (v,), times int64 (v,) and inputs (inputs, v) of the verdicts.
    """

    rows: NDArray[np.int64]
    slots: NDArray[np.int32]
    times: NDArray[np.int64]
    inputs: Words


class ColumnFold:
    """The state of one partition. Not thread-safe; parts must come in log order.

    columns: the archive's that must be there. reads_outcomes: whether an aggregate reads the program's own decisions.
    hits: the codes of rules that aggregates ask for.
    """

    def __init__(
        self, program: Program, missing: Sequence[int], said: Iterable[tuple[Position, AccountEvent]], accounts_max: int
    ) -> None:
        """missing: columns of the program's matrix. said: the partition's feedback, in order. accounts_max: from more
        accounts some may have been evicted. Raises NotByColumns.
        """
        plan = program.plan
        expressions = [plan.features[column - spec.WIDTH] for column in missing]
        self.layout = layout_of(plan.program, expressions)
        code = compile_expressions(expressions)
        inputs = compile_expressions(self.layout.inputs)
        verdicts = compile_expressions(self.layout.verdict_inputs)
        if code.parameters or inputs.parameters:
            raise NotByColumns("a feature reads a parameter")
        places = {name: place for place, name in enumerate(plan.names)}
        aggregates = {structure(each): k for k, each in enumerate(self.layout.aggregates)}
        self._inputs = Step(inputs.bind(program.key, {}), leaves_of(inputs, places, aggregates, program.key))
        self._features = Step(code.bind(program.key, {}), leaves_of(code, places, aggregates, program.key))
        self._verdict = Step(verdicts.bind(program.key, {}), leaves_of(verdicts, places, aggregates, program.key))
        self._program, self._missing = program, missing
        reads_verdicts = any(each.on_verdicts for each in self.layout.aggregates)
        feedback = [(at, event) for at, event in said if isinstance(event, FeedbackReceived)] if reads_verdicts else []
        self._verdicts, self._said_at = [event for _, event in feedback], [at for at, _ in feedback]
        self._said = 0
        """How many of them are folded."""
        self._places = {column: column for column in range(spec.WIDTH)}
        read = fields_of([*self.layout.inputs, *expressions])
        every = chain.from_iterable(map(parts, expressions))
        library = {each.name for each in every if isinstance(each, Column) and each.source == "library"}
        self.columns = list(
            dict.fromkeys(
                [
                    *_ALWAYS,
                    *chain.from_iterable(columns_of_field(plan, each.name) for each in read),
                    *(column_of(spec.index(name)) for name in sorted(library)),
                    *(("f_generation", "f_offset") if reads_verdicts else ()),
                ]
            )
        )
        self.reads_outcomes = any(map(reads_outcome, self.layout.inputs))
        self.hits = tuple(sorted({each.code for each in self._inputs.bound.code.leaves if isinstance(each, Hit)}))
        self._accounts_max = accounts_max
        self._slots: dict[str, int] = {}
        self._state = ProgramState(self.layout)

    def part(self, rows: Rows, situations: Sequence[tuple[Situation, int, int]]) -> Callable[[Outcomes], None]:
        """A function that folds the next payments under some outcomes and puts the features into `rows`, as columns
        `column_of(−1 − k)` for missing[k]; called again, it folds them again from the state before.

        situations: what was in force, first row and the one after the last. Raises NotByColumns.
        """
        codes, names = coded(rows.column("account_id"))
        known = len(self._slots)
        numbers = np.array([self._slots.setdefault(name, len(self._slots)) for name in names], dtype=np.int32)
        events = self._events(rows)
        if len(self._slots) > self._accounts_max:
            raise NotByColumns("the partition has evicted accounts")
        if rows.column("received_at").null_count or rows.column("decision").null_count:
            raise NotByColumns("payments or scores that don't decode")
        self._state.begin(np.arange(known, len(self._slots)))
        slots = numbers[codes]
        times = rows.column("received_at").cast(pa.int64()).to_numpy()
        touched = np.unique(np.concatenate([slots, events.slots])) if self.reads_outcomes else slots[:0]
        before = self._state.records[touched]
        batches = [
            (self._batch(rows if (a, b) == (0, len(rows)) else rows.only(np.arange(a, b)), situation), a, b)
            for situation, a, b in situations
        ]

        def folded(outcomes: Outcomes) -> None:
            self._state.records[touched] = before
            aggregates = self._aggregates(batches, slots, times, events, outcomes)
            for k, values in enumerate(self._computed(batches, aggregates, len(rows))):
                rows.hold(column_of(-1 - k), values)

        return folded

    def _events(self, rows: Rows) -> _Events:
        """The payments with the verdicts that came before them and are not folded yet."""
        payments = np.arange(len(rows))
        before = np.zeros(len(rows), dtype=np.int64)
        if self._verdicts:
            generations, offsets = (rows.column(name).fill_null(0).to_numpy() for name in ("f_generation", "f_offset"))
            is_new = (generations[1:] != generations[:-1]) | (offsets[1:] != offsets[:-1])
            begins = np.flatnonzero(np.concatenate([[True], is_new])) if len(rows) else payments
            ends = [
                bisect_right(self._said_at, Position(int(generations[row]), int(offsets[row])))
                for row in begins.tolist()
            ]
            before = np.repeat(ends, np.diff(np.append(begins, len(rows)))).astype(np.int64)
        first, last = self._said, int(before.max(initial=self._said))
        verdicts, self._said = self._verdicts[first:last], last
        places = np.searchsorted(before, np.arange(first, last), "right")
        accounts = [self._slots.setdefault(each.account_id, len(self._slots)) for each in verdicts]
        return _Events(
            np.insert(payments, places, -1 - np.arange(last - first)),
            np.array(accounts, dtype=np.int32),
            came_at(verdicts),
            verdict_inputs(self._verdict, self._program.key, verdicts),
        )

    def _batch(self, rows: Rows, situation: Situation) -> StoredBatch:
        fields = self._program.plan.program.fields
        return StoredBatch(rows, self._places, situation.lists, situation.rates, self._program.key, fields)

    def _aggregates(
        self,
        batches: Sequence[tuple[StoredBatch, int, int]],
        slots: NDArray[np.int32],
        times: NDArray[np.int64],
        events: _Events,
        outcomes: Outcomes,
    ) -> Words:
        n, count = len(slots), len(self.layout.aggregates)
        out, valid = np.zeros((count, n), dtype=np.uint64), np.zeros((count, n), dtype=np.uint8)
        if not count:
            return Words(out.view(np.float64), valid)
        given: Mapping[Expression, Words] = {}
        if self.reads_outcomes:
            given = outcome_columns(
                self._inputs, self._program.key, outcomes.decisions, outcomes.severities, outcomes.hits
            )
        words = np.empty((len(self.layout.inputs), n), dtype=np.float64)
        present = np.empty((len(self.layout.inputs), n), dtype=np.uint8)
        for batch, a, b in batches:
            mine = {leaf: Words(column.words[a:b], column.valid[a:b]) for leaf, column in given.items()}
            words[:, a:b], present[:, a:b] = self._inputs.run(batch, batch.all_rows, None, mine)
        fold(
            self.layout.table,
            self._state.records,
            events.rows,
            slots,
            times,
            words.view(np.uint64),
            present,
            events.slots,
            events.times,
            events.inputs.words.view(np.uint64),
            events.inputs.valid,
            out,
            valid,
        )
        return Words(out.view(np.float64), valid)

    def _computed(
        self, batches: Sequence[tuple[StoredBatch, int, int]], aggregates: Words, count: int
    ) -> Iterator[NDArray[np.float32]]:
        matrix = np.empty((count, len(self._missing)), dtype=np.float32)
        for batch, a, b in batches:
            mine = Words(np.ascontiguousarray(aggregates.words[:, a:b]), np.ascontiguousarray(aggregates.valid[:, a:b]))
            store(*self._features.run(batch, batch.all_rows, mine), batch.all_rows, 0, matrix[a:b])
        for k in range(len(self._missing)):
            yield np.ascontiguousarray(matrix[:, k])
