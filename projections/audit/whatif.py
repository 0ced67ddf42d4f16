"""What-if analysis: the live path over a range of the log with another model, thresholds or rules.

Works on one partition at a time, into arrays; nothing is written. Every transaction of the partition is folded, so that
features are what they were (I4); those in the range are decided again under their own context at `c` with the changes
applied. Only aggregates of a program that count its own decisions or hits follow the changed ones, from the range's
beginning on. Feedback is taken as it was: verdicts that another decision would have prevented or caused are not
simulated.
Labels are as known now (`projections.labelling`); a transaction without one, or in review, counts as legitimate.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from core import pipeline, policy
from core.codec import decode_score
from core.context import MODEL_UNAVAILABLE, NO_MODEL, Context
from core.control import ControlState
from core.currency import base_amount
from core.errors import BadInput, NotDecidable, SentinelError
from core.events import START, Decision, Position
from core.features.columns import TransactionLike
from core.identity import required
from core.log.base import Entry, EventLog, Head
from core.program.deciding import Program
from core.program.library import kernel
from core.program.loading import load
from core.program.plan import plan
from core.refolding import Refolding
from core.replay import Timeline, chunks, segments
from core.scoring import Scorer
from core.work import Work
from projections.labelling.consensus import Label

_MODEL_REASONS = (NO_MODEL, MODEL_UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes to the context in force. None and empty change nothing.

    model: the scorer that decides instead, also where no model did. rule_set: parameters and disabled codes that
    replace those in force; `parameters` and `disabled` are then applied on top.
    """

    model: Scorer | None = None
    review: float | None = None
    decline: float | None = None
    review_loss: float | None = None
    decline_loss: float | None = None
    rule_set: tuple[dict[str, float], tuple[str, ...]] | None = None
    parameters: dict[str, float] = field(default_factory=dict)
    disabled: tuple[str, ...] = ()

    def thresholds(self, now: policy.Thresholds) -> policy.Thresholds:
        """Those in force with the changes. A probability that is given replaces an expected loss that is not."""
        review_loss = self.review_loss if self.review_loss is not None else now.review_loss * (self.review is None)
        decline_loss = self.decline_loss if self.decline_loss is not None else now.decline_loss * (self.decline is None)
        return policy.Thresholds(
            now.review if self.review is None else self.review,
            now.decline if self.decline is None else self.decline,
            review_loss,
            decline_loss,
        )

    def of(self, context: Context) -> Context:
        """The context with the changes applied. Raises BadInput for values that could not be in force."""
        thresholds = self.thresholds(context.thresholds)
        policy.check_thresholds(*thresholds)
        values = policy.threshold_parameters(thresholds)
        made = {program: self._program(program, values) for program in context.programs}
        arms = tuple(self._under(arm, thresholds, made[arm.program]) for arm in context.arms)
        return replace(self._under(context, thresholds, made[context.program]), arms=arms)

    def _under(self, context: Context, thresholds: policy.Thresholds, program: Program) -> Context:
        """One context, without its arms: an experiment's accounts keep their arm's program."""
        context = replace(context, thresholds=thresholds, program=program)
        if self.model is None:
            return context
        reasons = [r for r in (context.degraded or "").split("+") if r and r not in _MODEL_REASONS]
        return replace(
            context,
            scorer=self.model,
            model=self.model.version,
            digest=self.model.digest[:16],
            degraded="+".join(reasons) or None,
        )

    def check(self, program: Program) -> None:
        """Raise BadInput for a parameter or a rule that the program does not have, and for a threshold among the
        parameters.
        """
        parameters, disabled = self.rule_set or ({}, ())
        parameters, disabled = {**parameters, **self.parameters}, (*disabled, *self.disabled)
        for name in policy.threshold_parameters(policy.Thresholds(0.0, 0.0)):
            if name in parameters:
                raise BadInput(f"{name} is a threshold, which --review, --decline and their losses change")
        try:
            program.check(parameters, disabled)
        except BadInput as error:
            raise BadInput(f"program {program.plan.program.label}: {error}") from None

    def _program(self, program: Program, thresholds: Mapping[str, float]) -> Program:
        self.check(program)
        return program.under(*self.rules(program.parameters, program.disabled, thresholds))

    def rules(
        self, parameters: Mapping[str, float], disabled: Sequence[str], thresholds: Mapping[str, float]
    ) -> tuple[dict[str, float], tuple[str, ...]]:
        """The parameters that are set, the thresholds among them, and the rules that are off: those in force, with the
        changes applied.
        """
        if self.rule_set is not None:
            parameters, disabled = self.rule_set
        return {**parameters, **self.parameters, **thresholds}, tuple(dict.fromkeys((*disabled, *self.disabled)))


def programs(log: EventLog, state: ControlState) -> Iterator[Program]:
    """The program in force at the state's position, then the others that ever decided, with their defaults; without
    those that can't be loaded. Raises BadInput if the log has no identity.
    """
    identity = required(state.identity)
    for digest in dict.fromkeys((state.program_in_force, *state.programs_decided)):
        try:
            yield Program(plan(load(digest, log.get_blob).checked, kernel()), identity.key, {})
        except SentinelError:
            continue


@dataclass(frozen=True, slots=True)
class Scope:
    """The decisions in range: event times [start_ms, end_ms) and positions [first, last]; None is unbounded."""

    start_ms: int | None = None
    end_ms: int | None = None
    first: Position | None = None
    last: Position | None = None

    @property
    def after(self) -> Position:
        """The position after which the range begins."""
        return START if self.first is None else Position(self.first.generation, max(self.first.offset - 1, 0))

    def holds(self, position: Position, occurred_at: int) -> bool:
        return (
            (self.start_ms is None or occurred_at >= self.start_ms)
            and (self.end_ms is None or occurred_at < self.end_ms)
            and (self.first is None or position >= self.first)
            and (self.last is None or position <= self.last)
        )


class Changed(msgspec.Struct, frozen=True, order=True):
    """A decision that would have been different. Ordered by amount."""

    amount: float
    partition: int
    position: str
    transaction_id: str
    account_id: str
    occurred_at: int
    fraud: bool
    was: Decision
    now: Decision
    probability_was: float
    probability_now: float
    rules_was: tuple[str, ...]
    rules_now: tuple[str, ...]


@dataclass(slots=True)
class Outcome:
    """A partition's decisions in range, as arrays of equal length, and the `top` changed ones by amount.

    times: epoch ms; was, now: indices into policy.DECISIONS; labelled: whether it has a label by now.
    undecidable: those in range that can't be made again here, by reason; they are in none of the arrays.
    """

    times: NDArray[np.int64]
    amounts: NDArray[np.float64]
    fraud: NDArray[np.bool_]
    labelled: NDArray[np.bool_]
    was: NDArray[np.uint8]
    now: NDArray[np.uint8]
    changed: list[Changed]
    undecidable: dict[str, int] = field(default_factory=dict)

    @classmethod
    def joined(cls, parts: Sequence[Outcome], top: int) -> Outcome:
        """The outcomes of several partitions as one. Raises BadInput if there are no decisions in range, NotDecidable
        if none of them can be made again here.
        """
        undecidable = sum((Counter(part.undecidable) for part in parts), Counter[str]())
        if not sum(len(part.times) for part in parts):
            if undecidable:
                raise NotDecidable(f"no decision in this range can be made again here: {next(iter(undecidable))}")
            raise BadInput("the log holds no decisions in this range")
        return cls(
            times=np.concatenate([p.times for p in parts]),
            amounts=np.concatenate([p.amounts for p in parts]),
            fraud=np.concatenate([p.fraud for p in parts]),
            labelled=np.concatenate([p.labelled for p in parts]),
            was=np.concatenate([p.was for p in parts]),
            now=np.concatenate([p.now for p in parts]),
            changed=heapq.nlargest(top, [c for p in parts for c in p.changed]),
            undecidable=undecidable,
        )


class _Rows:
    """An outcome while it is being collected."""

    def __init__(self, partition: int, labels: Mapping[tuple[str, str], Label], top: int) -> None:
        self._partition, self._labels, self._top = partition, labels, top
        self._columns: list[tuple[int, float, bool, bool, int, int]] = []
        self._changed: list[Changed] = []
        self._undecidable: Counter[str] = Counter()

    def pass_over(self, why: str, count: int) -> None:
        self._undecidable[why] += count

    def add(self, t: TransactionLike, logged: Entry, now: Entry) -> None:
        was, will = decode_score(logged.payload), decode_score(now.payload)
        label = self._labels.get((t.account_id, t.transaction_id))
        before, after = policy.DECISIONS.index(was.decision), policy.DECISIONS.index(will.decision)
        self._columns.append(
            (t.occurred_at, base_amount(t), label == "fraud", label in ("fraud", "legitimate"), before, after)
        )
        if before == after:
            return
        changed = Changed(
            amount=base_amount(t),
            partition=self._partition,
            position=str(logged.id),
            transaction_id=t.transaction_id,
            account_id=t.account_id,
            occurred_at=t.occurred_at,
            fraud=label == "fraud",
            was=was.decision,
            now=will.decision,
            probability_was=was.probability,
            probability_now=will.probability,
            rules_was=was.rules,
            rules_now=will.rules,
        )
        if len(self._changed) < self._top:
            heapq.heappush(self._changed, changed)
        elif self._top:
            heapq.heappushpop(self._changed, changed)

    def outcome(self) -> Outcome:
        columns = list(zip(*self._columns, strict=True)) or [()] * 6
        return Outcome(
            times=np.array(columns[0], dtype=np.int64),
            amounts=np.array(columns[1], dtype=np.float64),
            fraud=np.array(columns[2], dtype=np.bool_),
            labelled=np.array(columns[3], dtype=np.bool_),
            was=np.array(columns[4], dtype=np.uint8),
            now=np.array(columns[5], dtype=np.uint8),
            changed=self._changed,
            undecidable=self._undecidable,
        )


def run(
    log: EventLog,
    partition: int,
    until: Head,
    timeline: Timeline,
    changes: Changes,
    scope: Scope,
    labels: Mapping[tuple[str, str], Label],
    *,
    top: int = 50,
    progress: Callable[[int], None] = lambda n: None,
) -> Outcome:
    """Decide the partition's transactions in range again under the changes. Reads only.

    labels: by account and transaction (`LabelView.of_partition`). progress: called with the number of decisions read in
    each chunk. Raises BadInput if the changes are invalid, Incomplete if the log lacks the partition's first batches.
    """
    refolding = Refolding(
        partition, timeline, until.control, lambda: chunks(log, partition, Head(), until, has_scores=False)
    )
    rows = _Rows(partition, labels, top)
    known: tuple[Context, Context] | None = None
    for chunk in chunks(log, partition, Head(), until):
        if scope.last is not None and chunk.scores and chunk.scores[0].id > scope.last:
            break
        for context, runs, logged in segments(chunk, timeline):
            transactions = [t for r in runs for t in r.transactions]
            wanted = [i for i, t in enumerate(transactions) if scope.holds(logged[i].id, t.occurred_at)]
            if isinstance(context, NotDecidable) and wanted:
                rows.pass_over(str(context), len(wanted))
            if isinstance(context, NotDecidable) or not wanted:
                pipeline.apply(Work(partition, refolding.state, runs))
                continue
            if known is None or known[0] is not context:
                known = context, changes.of(context)
            state = refolding.under(context, logged[0].id)
            decided = pipeline.decide(known[1], [Work(partition, state, runs)])[0]
            now = dict(zip(decided.kept, decided.scores, strict=True))
            for i in wanted:
                if i in now:
                    rows.add(transactions[i], logged[i], now[i])
        progress(len(chunk.scores))
    return rows.outcome()
