"""What-if by stored columns: thresholds, parameters and switched-off rules, without a fold. Reads only.

The same answer as `projections.audit.whatif` where both are possible, at many times the speed: features and margins are
the logged ones. Another model takes the fold. So does a program whose aggregates count its own decisions: they follow
the changed ones only in a fold.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from core import policy
from core.codec import decode_score, decode_transaction
from core.control_stream import ControlEntry, fold
from core.errors import Corrupt, SentinelError, Unavailable
from core.events import Position
from core.identity import required
from core.log.base import EventLog
from core.program.deciding import Program
from core.program.library import kernel
from core.program.loading import load
from core.program.plan import Plan, plan, reads_outcome
from projections.audit.backtest import Backtest
from projections.audit.situations import Situation
from projections.audit.stored_batch import NotStored
from projections.audit.stored_tables import THREADS, Part, in_order, parts
from projections.audit.tally import Judged, Tally
from projections.audit.whatif import Changed, Changes, Outcome, Scope
from projections.labelling.view import FRAUD, LEGITIMATE, LabelView

_NAMES = tuple(policy.threshold_parameters(policy.Thresholds(0.0, 0.0)))
CURVE = (0.01, 0.02, 0.05, *(round(0.1 + 0.05 * step, 2) for step in range(17)), 0.95, 0.98, 0.99)
"""Thresholds for review at which a curve is judged."""


class Point(msgspec.Struct, frozen=True):
    """Decisions under another threshold for review, all else as in the what-if; a lower one for declines is raised to
    it. Shares in [0, 1], None if the denominator is 0. value_detection_rate: of the amount of all frauds.
    """

    review: float
    alerts: int
    alert_rate: float
    precision: float | None
    recall: float | None
    value_detection_rate: float | None


class _Row(NamedTuple):
    """A changed decision, ordered by its amount."""

    amount: float
    partition: int
    generation: int
    offset: int
    fraud: bool
    now: int
    rules_now: tuple[str, ...]


class _Found(NamedTuple):
    """What a part of the log gave: columns as in Outcome, changed decisions, and for each point of the curve the number
    of alerts, of frauds among them, and their amount: float64 (points, 3).
    """

    columns: list[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int8], NDArray[np.uint8], NDArray[np.uint8]]]
    changed: list[_Row]
    curve: NDArray[np.float64]
    tally: Tally


class WhatIf:
    """Changes to judge over a log. Raises NotStored for changes that take the fold, BadInput for ones that no program
    has, when made.
    """

    def __init__(
        self,
        log: EventLog,
        control: Sequence[ControlEntry],
        changes: Changes,
        labels: LabelView,
        *,
        curve: Sequence[float] = (),
        top: int = 50,
    ) -> None:
        """control: the control stream from its beginning. curve: thresholds for review to judge besides. top: how many
        changed decisions to tell of.
        """
        if changes.model is not None:
            raise NotStored("another model has other margins than the logged ones")
        self._log, self._changes, self._labels, self._top = log, changes, labels, top
        self._control = control
        self._state = fold(control)
        self._curve = tuple(curve)

    def run(self, partitions: Mapping[int, Position], scope: Scope) -> tuple[Outcome, list[Point]]:
        """The outcome of the decisions in range, each partition up to a position, and the curve. Raises NotStored;
        BadInput if there are none in range, or the program that made them lacks a parameter or rule of the changes.
        """
        found: list[_Found] = []
        for k, made in enumerate(self._programs()):
            trial = Backtest(self._log, self._control, made, self._labels)
            usual = Program(made, required(self._state.identity).key, {})
            for partition, until in partitions.items():
                end = until if scope.last is None else min(scope.last, until)
                within = Scope(scope.start_ms, scope.end_ms, scope.first, end)
                calls = (
                    partial(self._judged, trial, usual, partition, part, within)
                    for part in parts(self._log, partition, scope.after, end, within)
                )
                for each in in_order(calls, THREADS):
                    if k:  # every program meets them again
                        each.tally.undecidable, each.tally.unreadable = {}, 0
                    found.append(each)
        outcome = self._outcome(found)
        return outcome, self._points(outcome, found)

    def _programs(self) -> Iterator[Plan]:
        """Those that ever decided; without those that can't be had, whose decisions are passed over."""
        for digest in self._state.programs_decided:
            try:
                made = plan(load(digest, self._log.get_blob).checked, kernel())
            except Unavailable:
                raise
            except SentinelError:
                continue
            if any(map(reads_outcome, made.layout.inputs)):
                raise NotStored(f"aggregates of program {made.program.label} follow its own decisions")
            yield made

    def _judged(self, trial: Backtest, usual: Program, partition: int, part: Part, scope: Scope) -> _Found:
        tally = Tally(trial.codes)
        changed = [partial(self._changed, None), *(partial(self._changed, review) for review in self._curve)]
        found = _Found([], [], np.zeros((len(self._curve), 3)), tally)
        for first, *others in trial.variants(partition, part, scope, changed, tally):
            self._changes.check(usual)
            found.columns.append((first.times, first.amounts, first.labels, first.was, first.now))
            found.changed.extend(self._rows(trial.codes, first))
            for k, judged in enumerate(others):
                alerts = judged.now > 0
                caught = alerts & (judged.labels == FRAUD)
                found.curve[k] += (alerts.sum(), caught.sum(), judged.amounts[caught].sum())
        return found._replace(changed=heapq.nlargest(self._top, found.changed))

    def _changed(self, review: float | None, situation: Situation) -> Situation:
        """The situation with the changes applied, and with another threshold for review, if one is given."""
        now = self._changes.thresholds(policy.Thresholds(*(situation.parameters[name] for name in _NAMES)))
        if review is not None:
            now = policy.Thresholds(review, max(review, now.decline), 0.0, now.decline_loss)
        policy.check_thresholds(*now)
        parameters, disabled = self._changes.rules(
            situation.parameters, situation.disabled, policy.threshold_parameters(now)
        )
        return situation._replace(parameters=parameters, disabled=disabled)

    def _rows(self, codes: Sequence[str], judged: Judged) -> Iterator[_Row]:
        """The largest changed decisions."""
        at = np.flatnonzero(judged.was != judged.now)
        if len(at) > self._top:
            edge = np.partition(judged.amounts[at], len(at) - self._top)[len(at) - self._top] if self._top else np.inf
            at = at[judged.amounts[at] >= edge]
        for i in at.tolist():
            hits = judged.live[judged.pattern[i]]
            yield _Row(
                float(judged.amounts[i]),
                judged.partition,
                int(judged.generations[i]),
                int(judged.offsets[i]),
                bool(judged.labels[i] == FRAUD),
                int(judged.now[i]),
                tuple(code for code, hit in zip(codes, hits, strict=True) if hit),
            )

    def _outcome(self, found: Sequence[_Found]) -> Outcome:
        parts_ = [
            Outcome(times, amounts, labels == FRAUD, (labels == FRAUD) | (labels == LEGITIMATE), was, now, [])
            for each in found
            for times, amounts, labels, was, now in each.columns
        ]
        undecidable: Counter[str] = Counter()
        for each in found:
            undecidable.update(each.tally.undecidable)
            undecidable["it does not decode"] += each.tally.unreadable
        no, none = np.zeros(0, dtype=np.uint8), np.zeros(0, dtype=np.bool_)
        passed = dict(+undecidable)
        parts_.append(Outcome(no.astype(np.int64), no.astype(np.float64), none, none, no, no, [], passed))
        outcome = Outcome.joined(parts_, 0)
        largest = heapq.nlargest(self._top, (row for each in found for row in each.changed))
        outcome.changed = [self._told(row) for row in largest]
        return outcome

    def _told(self, row: _Row) -> Changed:
        position = Position(row.generation, row.offset)
        t = self._log.get(row.partition, "transactions", position)
        s = self._log.get(row.partition, "scores", position)
        if t is None or s is None:
            raise Corrupt(f"partition {row.partition}: {position} is gone while it was read")
        transaction, score = decode_transaction(t), decode_score(s)
        return Changed(
            amount=row.amount,
            partition=row.partition,
            position=str(position),
            transaction_id=transaction.transaction_id,
            account_id=transaction.account_id,
            occurred_at=transaction.occurred_at,
            fraud=row.fraud,
            was=score.decision,
            now=policy.DECISIONS[row.now],
            probability_was=score.probability,
            probability_now=score.probability,
            rules_was=score.rules,
            rules_now=row.rules_now,
        )

    def _points(self, outcome: Outcome, found: Sequence[_Found]) -> list[Point]:
        sums: NDArray[np.float64] = sum((each.curve for each in found), np.zeros((len(self._curve), 3)))
        frauds, value = int(outcome.fraud.sum()), float(outcome.amounts[outcome.fraud].sum())
        return [
            Point(
                review,
                int(alerts),
                float(alerts) / len(outcome.times),
                float(caught / alerts) if alerts else None,
                float(caught) / frauds if frauds else None,
                float(amount) / value if value else None,
            )
            for review, (alerts, caught, amount) in zip(self._curve, sums.tolist(), strict=True)
        ]
