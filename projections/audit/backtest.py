"""What a program would have decided on logged payments, against what was decided. Reads only.

Three ways, with the same result wherever several are possible:

    stored    its rules, `[decision]` and severity read only what the logged scores store: columns are judged, without a
              fold (`projections.audit.stored`)
    computed  it has features that were not stored: these are folded from columns of the partition's payments, from its
              beginning, and the rest is as above (`projections.audit.column_fold`)
    fold      what columns don't tell: the partition is folded through the live path, and decided again in range
              (`pipeline.decide`)

Parameters, lists, rates and switched-off rules are those in force at each decision; margins are the logged ones, or in
a fold those of the model in force. Aggregates of a program's own decisions are as logged in the first way, and follow
the changed decisions from the range's beginning on in the others. Labels: `projections.labelling`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from itertools import chain, islice

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core import pipeline, policy
from core.codec import decode_account_event
from core.context import Context, with_changes
from core.control_stream import ControlEntry, fold
from core.errors import NotDecidable, SentinelError, Unavailable
from core.events import START
from core.features.state import AccountState
from core.identity import required
from core.log.base import EventLog, Head
from core.log.paging import entries
from core.program.codes import ENGINE
from core.program.compiling import Code
from core.program.deciding import Program
from core.program.leaves import KINDS
from core.program.library import kernel
from core.program.loading import load
from core.program.plan import Plan, plan
from core.program.typed import Listed
from core.replay import Timeline, chunks, other_engine, segments
from core.work import Work
from projections.audit.batch_judged import judged_batch
from projections.audit.column_fold import ColumnFold, Outcomes
from projections.audit.row_labels import RowLabels
from projections.audit.sampling import chosen_rows, sums_of
from projections.audit.situations import Situation, Situations
from projections.audit.stored import Judge, Reads, conflict_codes, has_rollouts, not_stored, stored_places
from projections.audit.stored_batch import NotStored, StoredBatch, coded, decisions_of, mapped
from projections.audit.stored_tables import THREADS, Part, Rows, in_order, in_positions, parts, rows_in_range
from projections.audit.tally import Judged, Tally
from projections.audit.whatif import Scope
from projections.labelling.view import LabelView

_ROW_COLUMNS = (
    "generation",
    "offset",
    "amount",
    "rate",
    "occurred_at",
    "control_position",
    "engine",
    "program",
    "decision",
    "severity",
    "rules",
    "shadow_rules",
    "width",
)


class Backtest:
    """A program to judge over a log. Raises NotStored, when made, if it reads what no score stores."""

    def __init__(
        self,
        log: EventLog,
        control: Sequence[ControlEntry],
        candidate: Plan,
        labels: LabelView,
        threads: int = THREADS,
        sample: float | None = None,
    ) -> None:
        """control: the control stream (`core.control_stream.history`). threads: for reading. sample: only a share of
        the accounts, whose sums are kept (`projections.audit.sampling`). Raises BadInput if the log has no identity.
        """
        state = fold(control)
        self._log = log
        self._identity = required(state.identity)
        self._plan = candidate
        self._labels = labels
        self._threads = threads
        self._row_labels = RowLabels(labels, self._identity.key)
        self._reads = Reads.of(candidate)
        self._has_rollouts = has_rollouts(candidate)
        self._sample = sample
        self._learned = {"account_id": None} if self._has_rollouts or sample is not None else {}
        self._lock = threading.Lock()
        self.program = candidate.program
        codes = (candidate.rule_code, candidate.decision_code, candidate.severity_code, candidate.event_code)
        self._situations = Situations(control, frozenset(chain.from_iterable(map(_lists_of, codes))))
        self._logged = {digest[:16]: digest for digest in state.programs_decided}
        self._plans: dict[str, Plan] = {}
        self._programs: dict[int, Program] = {}
        self._judges: dict[tuple[int, str], Judge] = {}
        self._usual = Program(candidate, self._identity.key, {})
        self.codes = self._usual.codes

    def check(self, programs: Sequence[str]) -> None:
        """Raise NotStored unless the scores of all these programs (SHA-256) store what the candidate reads."""
        for digest in programs:
            stored_places(self._plan, self._reads, self._plan_of(digest[:16]))

    def run(self, partition: int, until: Head, scope: Scope, progress: Callable[[int], None] = lambda n: None) -> Tally:
        """Judge a partition's decisions in range by their stored columns. Raises NotStored."""
        tally = Tally(self.codes)
        after = scope.after
        end = until.transactions if scope.last is None else min(scope.last, until.transactions)
        calls = (partial(self._part, partition, part, scope) for part in parts(self._log, partition, after, end, scope))
        for found, count in in_order(calls, self._threads):
            tally = tally + found
            progress(count)
        return tally

    def run_columns(
        self, partition: int, until: Head, scope: Scope, progress: Callable[[int], None] = lambda n: None
    ) -> Tally:
        """Judge a partition's decisions in range; features that some program's scores don't store are computed from
        columns, from the partition's beginning on. Raises NotByColumns for what only `run_fold` can do.
        """
        tally = Tally(self.codes)
        feedback = entries(self._log, partition, "feedback", START, until.feedback)
        said = ((each.id, decode_account_event(each.payload)) for each in feedback)
        evicts_from = self._identity.accounts_max - self._log.length(partition, "feedback")
        fold = ColumnFold(self._usual, self.missing, said, evicts_from)
        end = until.transactions if scope.last is None else min(scope.last, until.transactions)
        columns = list(dict.fromkeys([*_ROW_COLUMNS, *fold.columns]))
        everything = parts(self._log, partition, START, end, Scope())
        for rows in in_order((partial(Rows.of, part, columns, self._learned) for part in everything), self._threads):
            tally = tally + self._folded(partition, self._sampled(rows), fold, scope)
            progress(len(rows))
        return tally

    def _folded(self, partition: int, rows: Rows, fold: ColumnFold, scope: Scope) -> Tally:
        """The tally of the next part."""
        wanted = in_positions(rows, scope)
        kept, unreadable = rows_in_range(rows, scope)
        if wanted is not None:
            kept = wanted if kept is None else np.intersect1d(kept, wanted, assume_unique=True)
        features, outcomes = fold.part(rows, list(self._in_force(rows))), Outcomes(rows)
        is_new = True
        while is_new:
            features(outcomes)
            tally, is_new = Tally(self.codes), False
            tally.unreadable = unreadable
            readable = rows if kept is None else rows.only(kept)
            for situation, logged, chosen in self._groups(self._decidable(readable, tally), tally):
                judged = self._judge(partition, situation, logged, chosen, self.missing)
                self._add(tally, chosen, judged)
                if fold.reads_outcomes:
                    is_new |= self._replaced(outcomes, judged, chosen, fold.hits)
        return tally

    def _replaced(self, outcomes: Outcomes, judged: Judged, chosen: Rows, codes: Sequence[str]) -> bool:
        """Let later payments see what was decided now; whether that differs from what they have seen."""
        at = np.arange(len(chosen)) if chosen.at is None else chosen.at

        def hits(code: str) -> NDArray[np.uint8]:
            if code not in self.codes:
                return np.zeros(len(at), dtype=np.uint8)
            found: NDArray[np.uint8] = judged.live[judged.pattern, self.codes.index(code)]
            return found

        return outcomes.replace(at, judged.now, judged.severity_now, hits, codes)

    def _in_force(self, rows: Rows) -> Iterator[tuple[Situation, int, int]]:
        """What was in force, in order: from which row to which."""
        positions = rows.column("control_position").fill_null(0).to_numpy()
        begins = np.flatnonzero(np.concatenate([[True], positions[1:] != positions[:-1]])).tolist() if len(rows) else []
        last: tuple[Situation, int, int] | None = None
        for begin, end in zip(begins, [*begins[1:], len(rows)], strict=True):
            with self._lock:
                found = self._situations.at(int(positions[begin]))
            if last is not None and last[0].number != found.number:
                yield last
            last = (found, begin if last is None or last[0].number != found.number else last[1], end)
        if last is not None:
            yield last

    @cached_property
    def missing(self) -> list[int]:
        """The features that the candidate reads and the scores of some program don't store."""
        found: dict[int, None] = {}
        for short in self._logged:
            try:
                logged = self._plan_of(short)
            except Unavailable:
                raise
            except SentinelError:
                continue  # passed over where one of its scores is met
            found.update(dict.fromkeys(not_stored(self._plan, self._reads, logged)))
        return sorted(found)

    def _part(self, partition: int, part: Part, scope: Scope) -> tuple[Tally, int]:
        """The tally of a part of the log, and its rows. Runs in several threads."""
        tally = Tally(self.codes)
        whole = Rows.of(part, _ROW_COLUMNS, self._learned)
        for situation, logged, chosen in self._in_range(self._sampled(whole), scope, tally):
            self._add(tally, chosen, self._judge(partition, situation, logged, chosen))
        return tally, len(whole)

    def variants(
        self,
        partition: int,
        part: Part,
        scope: Scope,
        changed: Sequence[Callable[[Situation], Situation]],
        tally: Tally,
    ) -> Iterator[list[Judged]]:
        """The decisions that this very program made in a part of the log, judged under each of the changed situations:
        as many Judged at a time as there are changes, which must be the same for all parts. tally: counts what can't be
        judged. Raises NotStored.
        """
        rows = Rows.of(part, _ROW_COLUMNS, self._learned)
        for situation, logged, chosen in self._in_range(rows, scope, tally):
            if logged.program.digest == self.program.digest:
                yield [
                    self._judge(partition, situation, logged, chosen, under=self._varied(situation, k, changed))
                    for k in range(len(changed))
                ]

    @staticmethod
    def _varied(situation: Situation, k: int, changed: Sequence[Callable[[Situation], Situation]]) -> Situation:
        """The situation with the k-th change, under a number that no other one has."""
        return changed[k](situation)._replace(number=-1 - (situation.number * len(changed) + k))

    def _sampled(self, rows: Rows) -> Rows:
        """The rows of the accounts that are taken, as if there were no others."""
        if self._sample is None:
            return rows
        found = rows.only(chosen_rows(rows, self._sample, self._identity.key))
        found.at = None
        return found

    def _add(self, tally: Tally, rows: Rows, judged: Judged) -> None:
        tally.add(judged)
        if self._sample is not None:
            tally.accounts.append(sums_of(rows, judged, self._identity.key))

    def run_fold(
        self,
        partition: int,
        until: Head,
        scope: Scope,
        timeline: Timeline,
        progress: Callable[[int], None] = lambda n: None,
    ) -> Tally:
        """Decide a partition's transactions in range again by the live path; those that can't be made again here are
        counted. Raises Incomplete if the log lacks the partition's first batches.
        """
        tally = Tally(self.codes)
        rings = self._usual.rings
        state = AccountState(self._identity).hold([] if rings is None else [rings])
        known: tuple[Context, Context] | None = None
        for chunk in chunks(self._log, partition, Head(), until):
            if scope.last is not None and chunk.scores and chunk.scores[0].id > scope.last:
                break
            scores = iter(chunk.keys)
            for context, runs, logged in segments(chunk, timeline):
                keys = list(islice(scores, len(logged)))
                transactions = [t for r in runs for t in r.transactions]
                wanted = [i for i, t in enumerate(transactions) if scope.holds(logged[i].id, t.occurred_at)]
                work = Work(partition, state, runs)
                if not wanted or isinstance(context, NotDecidable):
                    pipeline.apply(work)
                    tally.pass_over(str(context) if wanted else "", len(wanted))
                    continue
                if known is None or known[0] is not context:
                    known = context, with_changes(context, program=self._of(context))
                decided = pipeline.decide(known[1], [work])[0]
                kept = set(decided.kept)
                mine = [i for i in wanted if i in kept]
                tally.add(judged_batch(partition, decided, keys, mine, self._labels, self._identity.key))
            progress(len(chunk.scores))
        return tally

    def _of(self, context: Context) -> Program:
        """The candidate with the parameters that are in force in a context."""
        state = self._situations.at(context.position)
        return self._program(state)

    def _plan_of(self, short: str) -> Plan:
        if short not in self._plans:
            digest = self._logged.get(short)
            if digest is None:
                raise NotStored(f"program {short} decided, but the control stream neither deploys nor tries it")
            self._plans[short] = plan(load(digest, self._log.get_blob).checked, kernel())
        return self._plans[short]

    def _decidable(self, rows: Rows, tally: Tally) -> Rows:
        """Without the rows whose columns mean what another engine meant by them."""
        engines = rows.column("engine").to_numpy()
        same = engines == ENGINE
        if same.all():
            return rows
        for engine in np.unique(engines[~same]).tolist():
            tally.pass_over(str(other_engine(engine)), int(np.count_nonzero(engines == engine)))
        return rows.only(np.flatnonzero(same))

    def _in_range(self, rows: Rows, scope: Scope, tally: Tally) -> Iterator[tuple[Situation, Plan, Rows]]:
        """`_groups` of the rows in scope by their time that can be judged; counts the others."""
        kept, tally.unreadable = rows_in_range(rows, scope)
        readable = rows if kept is None else rows.only(kept)
        return self._groups(self._decidable(readable, tally), tally)

    def _groups(self, rows: Rows, tally: Tally) -> Iterator[tuple[Situation, Plan, Rows]]:
        """The rows by what was in force and which program decided. A program that is not to be had decides none."""
        if not len(rows):
            return
        positions = rows.column("control_position").to_numpy()
        begins = np.flatnonzero(np.concatenate([[True], positions[1:] != positions[:-1]]))
        with self._lock:
            found = [self._situations.at(int(c)) for c in positions[begins].tolist()]
        situations = {each.number: each for each in found}
        codes, names = coded(rows.column("program"))
        is_one = len(situations) == len(names) == 1
        keys = codes
        if not is_one:
            keys = (
                np.repeat([each.number for each in found], np.diff(np.append(begins, len(rows)))) * len(names) + codes
            )
        for key in [found[0].number] if is_one else np.unique(keys).tolist():
            chosen = rows if is_one else rows.only(np.flatnonzero(keys == key))
            short = names[key % len(names)]
            try:
                with self._lock:
                    logged = self._plan_of(short)
            except (NotStored, Unavailable):
                raise
            except SentinelError as error:
                tally.pass_over(f"program {short} is not to be had: {error}", len(chosen))
                continue
            yield situations[key // len(names)], logged, chosen

    def _program(self, situation: Situation) -> Program:
        if situation.number not in self._programs:
            self._programs[situation.number] = Program(
                self._plan, self._identity.key, situation.parameters, situation.disabled
            )
        return self._programs[situation.number]

    def _judge_of(self, situation: Situation, logged: Plan, places: dict[int, int], under: Situation) -> Judge:
        key = (under.number, logged.program.digest)
        if key not in self._judges:
            other = Program(logged, self._identity.key, situation.parameters, situation.disabled)
            self._judges[key] = Judge(self._program(under), places, other)
        return self._judges[key]

    def _judge(
        self,
        partition: int,
        situation: Situation,
        logged: Plan,
        rows: Rows,
        computed: Sequence[int] = (),
        under: Situation | None = None,
    ) -> Judged:
        """What the candidate decides on rows that `logged` decided in a situation. under: another for the candidate,
        with the same lists and rates.
        """
        with self._lock:
            places = stored_places(self._plan, self._reads, logged, computed)
            judge = self._judge_of(situation, logged, places, under or situation)
        batch = StoredBatch(
            rows,
            places,
            situation.lists,
            situation.rates,
            self._identity.key,
            self._plan.program.fields,
            conflict_codes(logged),
            self._has_rollouts,
        )
        was = decisions_of(rows.column("decision"))
        severity_was = mapped(rows.column("severity"), policy.SEVERITIES, np.int8)
        made = judge.decide(batch, was, severity_was)
        times = rows.column("occurred_at").cast(pa.int64()).to_numpy()
        rule_codes, rule_names = batch.codes("rules")
        return Judged(
            partition,
            rows.column("generation").to_numpy(),
            rows.column("offset").to_numpy(),
            times,
            batch.amounts,
            self._row_labels.of(rows, times),
            was,
            made.decisions,
            severity_was,
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
