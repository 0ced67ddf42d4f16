"""What a program would have decided on logged payments, against what was decided. Reads only.

Two ways, with the same result wherever both are possible:

    stored   its rules, `[decision]` and severity read only what the logged scores store: columns are judged, without a
             fold (`projections.audit.stored`)
    fold     it has features that were not stored: the partition is folded through the live path from its beginning, and
             decided again in range (`pipeline.decide`)

Parameters, lists, rates and switched-off rules are those in force at each decision; margins are the logged ones, or in
a fold those of the model in force. Aggregates of a program's own decisions are as logged in the first way, and follow
the changed decisions from the range's beginning on in the second. Labels: `projections.labelling`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core import pipeline, policy
from core.canonical import Members
from core.codec import ScoreKey
from core.context import Context, with_changes
from core.control import ControlState
from core.control_stream import ControlEntry, fold
from core.currency import Rates, base_amount
from core.errors import NotDecidable, SentinelError
from core.events import START, ListEffect, ListKind, Position
from core.hashing import hash_strings
from core.identity import required
from core.log.archive.archived import ArchivedLog
from core.log.archive.columns import decisions_table, feature_column
from core.log.archive.segment import with_columns
from core.log.base import EventLog, Head
from core.log.paging import decision_pages
from core.policy import Thresholds
from core.program.compiling import Code
from core.program.deciding import Program
from core.program.leaves import KINDS
from core.program.library import kernel
from core.program.loading import load
from core.program.plan import Plan, plan
from core.program.typed import Listed
from core.replay import Timeline, chunks, segments, states_at
from core.work import Decided, Work
from projections.audit.stored import (
    Judge,
    Reads,
    columns_read,
    conflict_codes,
    stored_places,
)
from projections.audit.stored_batch import NotStored, StoredBatch, coded
from projections.audit.tally import Judged, Tally
from projections.audit.whatif import Scope
from projections.labelling.view import UNJUDGED, LabelView

_ROW_COLUMNS = (
    "generation",
    "offset",
    "amount",
    "rate",
    "occurred_at",
    "control_position",
    "program",
    "probability",
    "decision",
    "severity",
    "rules",
    "shadow_rules",
    "width",
)


THREADS = 2
_BITS = 22


class Situation(NamedTuple):
    """What is in force at some control position besides program and model."""

    number: int
    thresholds: Thresholds
    parameters: dict[str, float]
    disabled: tuple[str, ...]
    lists: dict[tuple[ListKind, ListEffect], Members]
    rates: Rates


class Situations:
    """Situations by control position; equal ones are one."""

    def __init__(self, entries: Sequence[ControlEntry], lists: frozenset[tuple[str, str]]) -> None:
        """lists: kinds and effects of the lists that are read."""
        self._state_at = states_at(entries)
        self._wanted = lists
        self._known: dict[int, Situation] = {}
        self._last: Situation | None = None

    def at(self, position: int) -> Situation:
        """Raises Corrupt if the control stream ends before it."""
        if position not in self._known:
            self._known[position] = self._of(self._state_at(position))
        return self._known[position]

    def _of(self, state: ControlState) -> Situation:
        last = self._last
        wanted = {key: members for key, members in state.lists.items() if members and key in self._wanted}
        found = Situation(
            0 if last is None else last.number + 1,
            Thresholds(state.review, state.decline, state.review_loss, state.decline_loss),
            dict(state.parameters),
            state.disabled,
            {},
            state.rates,
        )
        if last is not None and (last[1:4], last.rates, last.lists) == (found[1:4], found.rates, wanted):
            return last
        found.lists.update({key: Members.of(key[0], members) for key, members in wanted.items()})
        self._last = found
        return found


@dataclass(frozen=True)
class Times:
    """The times of labelled payments, as a filter: which rows may have a label. bits: bool (2 ** BITS,)."""

    bits: NDArray[np.bool_]

    @classmethod
    def of(cls, labels: LabelView) -> Times | None:
        """None if nothing is labelled."""
        found = [each.judged.payment_at for each in labels.transactions if each.consensus is not None]
        if not found:
            return None
        if 0 in found:  # a payment of unknown time
            return cls(np.ones(1 << _BITS, dtype=np.bool_))
        bits = np.zeros(1 << _BITS, dtype=np.bool_)
        bits[_slots(np.array(found, dtype=np.int64))] = True
        return cls(bits)

    def may_hold(self, times: NDArray[np.int64]) -> NDArray[np.bool_]:
        """times: event times, epoch ms (n,)."""
        found: NDArray[np.bool_] = self.bits[_slots(times)]
        return found


def _slots(times: NDArray[np.int64]) -> NDArray[np.uint64]:
    seconds = times // 1000  # the labels' read model remembers seconds
    return (seconds.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - _BITS)


class Backtest:
    """A program to judge over a log. Raises NotStored, when made, if it reads what no score stores."""

    def __init__(
        self,
        log: EventLog,
        entries: Sequence[ControlEntry],
        candidate: Plan,
        labels: LabelView,
        threads: int = THREADS,
    ) -> None:
        """entries: the control stream (`core.control_stream.history`). threads: for reading. Raises BadInput if the log
        has no identity.
        """
        state = fold(entries)
        self._log = log
        self._identity = required(state.identity)
        self._plan = candidate
        self._labels = labels
        self._threads = threads
        self._times = Times.of(labels)
        self._reads = Reads.of(candidate)
        self.program = candidate.program
        codes = (candidate.rule_code, candidate.decision_code, candidate.severity_code)
        self._situations = Situations(entries, frozenset(chain.from_iterable(map(_lists_of, codes))))
        deployed = dict.fromkeys(("", *state.governance.programs.deployed))
        self._logged = {digest[:16]: digest for digest in map(self._digest, deployed)}
        self._plans: dict[str, Plan] = {}
        self._programs: dict[int, Program] = {}
        self._judges: dict[tuple[int, str], Judge] = {}
        self._usual = Program(candidate, self._identity.key, {})
        self._codes = self._usual.codes

    def _digest(self, digest: str) -> str:
        return digest or self._identity.program

    def check(self, programs: Sequence[str]) -> None:
        """Raise NotStored unless the scores of all these programs (SHA-256) store what the candidate reads."""
        for digest in programs:
            stored_places(self._plan, self._reads, self._plan_of(digest[:16]))

    def run(self, partition: int, until: Head, scope: Scope, progress: Callable[[int], None] = lambda n: None) -> Tally:
        """Judge a partition's decisions in range by their stored columns. Raises NotStored."""
        tally = Tally(self._codes)
        own = columns_read(self._plan, self._reads)
        places = self._all_places()
        features = sorted({place for found in places.values() for place in found.values()})
        labelled = ("account_id", "transaction_id") if self._times is not None else ()
        columns = list(dict.fromkeys([*_ROW_COLUMNS, *labelled, *own, *map(feature_column, features)]))
        after = START if scope.first is None else Position(scope.first.generation, max(scope.first.offset - 1, 0))
        end = until.transactions if scope.last is None else min(scope.last, until.transactions)
        for table in tables(self._log, partition, columns, after, end, self._threads):
            wanted = _in_range(table, scope)
            readable = _readable(wanted)
            tally.unreadable += len(wanted) - len(readable)
            for part in self._groups(readable):
                tally.add(self._judge(partition, *part))
            progress(len(table))
        return tally

    def _labels_of(self, table: pa.Table, batch: StoredBatch) -> NDArray[np.int8]:
        """The rows' labels. Only rows at the time of a labelled payment are looked up."""
        out = np.full(len(table), UNJUDGED, dtype=np.int8)
        if self._times is None:
            return out
        at = np.flatnonzero(self._times.may_hold(table["occurred_at"].cast(pa.int64()).to_numpy()))
        if len(at):
            key = self._identity.key
            codes, names = batch.codes("account_id")
            accounts = codes[at]
            used = np.unique(accounts)
            owners = hash_strings([names[code] for code in used.tolist()], key)[np.searchsorted(used, accounts)]
            ids = table["transaction_id"].take(pa.array(at)).to_pylist()
            out[at] = self._labels.of_rows(owners, hash_strings(ids, key))
        return out

    def run_fold(
        self,
        partition: int,
        until: Head,
        scope: Scope,
        timeline: Timeline,
        progress: Callable[[int], None] = lambda n: None,
    ) -> Tally:
        """Decide a partition's transactions in range again by the live path. Raises NotDecidable for a decision that
        this release can't make again, Incomplete if the log lacks the partition's first batches.
        """
        tally = Tally(self._codes)
        state = timeline.new_state()
        rings = self._usual.rings
        if rings is not None:
            state.hold([rings])
        known: tuple[Context, Context] | None = None
        for chunk in chunks(self._log, partition, Head(), until):
            if scope.last is not None and chunk.scores and chunk.scores[0].id > scope.last:
                break
            scores = iter(chunk.keys)
            for context, runs, logged in segments(chunk, timeline):
                if isinstance(context, NotDecidable):
                    raise context
                keys = list(islice(scores, len(logged)))
                transactions = [t for r in runs for t in r.transactions]
                wanted = [i for i, t in enumerate(transactions) if scope.holds(logged[i].id, t.occurred_at)]
                work = Work(partition, state, runs)
                if not wanted:
                    pipeline.apply(work)
                    continue
                if known is None or known[0] is not context:
                    known = context, with_changes(context, thresholds=context.thresholds, program=self._of(context))
                decided = pipeline.decide(known[1], [work])[0]
                kept = set(decided.kept)
                tally.add(self._decided(partition, decided, keys, [i for i in wanted if i in kept]))
            progress(len(chunk.scores))
        return tally

    def _of(self, context: Context) -> Program:
        """The candidate with the parameters that are in force in a context."""
        state = self._situations.at(context.position)
        return self._program(state)

    def _decided(self, partition: int, decided: Decided, keys: Sequence[ScoreKey], wanted: Sequence[int]) -> Judged:
        rows, at = decided.rows, np.array(wanted, dtype=np.int64) + decided.start
        transactions = [rows.transactions[i] for i in at.tolist()]
        mine = [keys[i] for i in wanted]
        key = self._identity.key
        joined = [",".join(each.rules) for each in mine]
        names = list(dict.fromkeys(joined))
        numbers = {name: k for k, name in enumerate(names)}
        grades: dict[str, int] = {name: k for k, name in enumerate(policy.SEVERITIES)}
        positions = np.array([rows.positions[i] for i in at.tolist()], dtype=np.uint64).reshape(-1, 2)
        return Judged(
            partition,
            positions[:, 0],
            positions[:, 1],
            np.array([t.occurred_at for t in transactions], dtype=np.int64),
            np.array([base_amount(t) for t in transactions], dtype=np.float64),
            self._labels.of_rows(
                hash_strings([t.account_id for t in transactions], key),
                hash_strings([t.transaction_id for t in transactions], key),
            ),
            np.array([policy.DECISIONS.index(each.decision) for each in mine], dtype=np.uint8),
            rows.decisions[at],
            np.array([grades.get(each.severity or "none", -1) for each in mine], dtype=np.int8),
            rows.severities[at],
            *_patterns(rows.hits[at], rows.shadow_hits[at]),
            np.array([numbers[name] for name in joined], dtype=np.int64),
            names,
        )

    def _all_places(self) -> dict[str, dict[int, int]]:
        found: dict[str, dict[int, int]] = {}
        for short in self._logged:
            try:
                found[short] = stored_places(self._plan, self._reads, self._plan_of(short))
            except SentinelError:
                continue  # refused where one of its scores is met
        return found

    def _plan_of(self, short: str) -> Plan:
        if short not in self._plans:
            digest = self._logged.get(short)
            if digest is None:
                raise NotStored(f"program {short} decided, but the control stream does not deploy it")
            self._plans[short] = plan(load(digest, self._log.get_blob).checked, kernel())
        return self._plans[short]

    def _groups(self, table: pa.Table) -> Iterator[tuple[Situation, Plan, pa.Table]]:
        """The rows by what was in force and which program decided."""
        if not len(table):
            return
        distinct, inverse = _distinct(table["control_position"].to_numpy())
        situations = {s.number: s for s in (self._situations.at(int(c)) for c in distinct.tolist())}
        numbers = np.array([self._situations.at(int(c)).number for c in distinct.tolist()], dtype=np.int64)[inverse]
        codes, names = coded(table["program"])
        keys = numbers * len(names) + codes
        found, _ = _distinct(keys)
        for key in found.tolist():
            part = table if len(found) == 1 else table.filter(pa.array(keys == key))
            yield situations[key // len(names)], self._plan_of(names[key % len(names)]), part

    def _program(self, situation: Situation) -> Program:
        if situation.number not in self._programs:
            values = {**situation.parameters, **policy.threshold_parameters(situation.thresholds)}
            self._programs[situation.number] = Program(self._plan, self._identity.key, values, situation.disabled)
        return self._programs[situation.number]

    def _judge_of(self, situation: Situation, logged: Plan, places: dict[int, int]) -> Judge:
        key = (situation.number, logged.program.digest)
        if key not in self._judges:
            values = {**situation.parameters, **policy.threshold_parameters(situation.thresholds)}
            other = Program(logged, self._identity.key, values, situation.disabled)
            self._judges[key] = Judge(self._program(situation), places, other)
        return self._judges[key]

    def _judge(self, partition: int, situation: Situation, logged: Plan, table: pa.Table) -> Judged:
        places = stored_places(self._plan, self._reads, logged)
        key = self._identity.key
        batch = StoredBatch(
            table, places, situation.lists, situation.rates, key, self._plan.program.fields, conflict_codes(logged)
        )
        made = self._judge_of(situation, logged, places).decide(batch, table["probability"].to_numpy())
        rule_codes, rule_names = batch.codes("rules")
        return Judged(
            partition,
            table["generation"].to_numpy(),
            table["offset"].to_numpy(),
            table["occurred_at"].cast(pa.int64()).to_numpy(),
            table["amount"].to_numpy() * table["rate"].to_numpy(),
            self._labels_of(table, batch),
            _index(batch.codes("decision"), policy.DECISIONS).astype(np.uint8),
            made.decisions,
            _index(batch.codes("severity"), policy.SEVERITIES).astype(np.int8),
            made.severities,
            made.pattern,
            made.live,
            made.shadow,
            rule_codes,
            rule_names,
        )


def _lists_of(code: Code) -> Iterator[tuple[str, str]]:
    """The lists that a code reads: kind and effect."""
    for leaf in code.leaves:
        if isinstance(leaf, Listed):
            yield KINDS[leaf.value.name], leaf.effect


def _distinct(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct values, ascending, and each value's place among them: nearly always there is one."""
    if (values == values[0]).all():
        return values[:1], np.zeros(len(values), dtype=np.int64)
    distinct, inverse = np.unique(values, return_inverse=True)
    return distinct, inverse


def _patterns(
    live: NDArray[np.uint8], shadow: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.uint8]]:
    """Combinations of hits: index (n,), and live and shadow (K, R)."""
    found, inverse = np.unique(np.concatenate([live, shadow], axis=1), axis=0, return_inverse=True)
    return inverse.ravel().astype(np.int64), found[:, : live.shape[1]], found[:, live.shape[1] :]


def _index(coded: tuple[NDArray[np.int64], Sequence[Any]], names: Sequence[str]) -> NDArray[np.int64]:
    """Codes into other names; −1 for what is none of them."""
    codes, values = coded
    return np.array([names.index(value) if value in names else -1 for value in values], dtype=np.int64)[codes]


def _in_range(table: pa.Table, scope: Scope) -> pa.Table:
    if scope.start_ms is None and scope.end_ms is None:
        return table
    times = table["occurred_at"].cast(pa.int64()).fill_null(0).to_numpy()
    wanted = np.ones(len(table), dtype=np.bool_)
    if scope.start_ms is not None:
        wanted &= times >= scope.start_ms
    if scope.end_ms is not None:
        wanted &= times < scope.end_ms
    return table if wanted.all() else table.filter(pa.array(wanted))


def _readable(table: pa.Table) -> pa.Table:
    """Without the rows that the archive holds only as they were logged, because they can't be decoded."""
    nulls = [name for name in ("width", "decision", "occurred_at") if table[name].null_count]
    for name in nulls:
        table = table.filter(table[name].is_valid())
    return table


def tables(
    log: EventLog, partition: int, columns: Sequence[str], after: Position, until: Position, threads: int
) -> Iterator[pa.Table]:
    """The decisions with after < ID ≤ until as columns, from archive and hot log. Segments are read ahead in threads:
    decoding holds no lock.
    """
    seam = START
    if isinstance(log, ArchivedLog):
        seam = log.archive.end(partition).transactions
        parts = log.archive.column_parts(partition, columns, after, min(seam, until))
        with ThreadPoolExecutor(threads) as pool:
            waiting = deque(pool.submit(part) for part in islice(parts, threads + 1))
            while waiting:
                found = waiting.popleft().result()
                waiting.extend(pool.submit(part) for part in islice(parts, 1))
                yield found
    if seam >= until:
        return
    for transactions, scores in decision_pages(log, partition, max(after, seam), until):
        yield with_columns(decisions_table(transactions, scores), columns)
