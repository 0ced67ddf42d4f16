"""What-if of one payment: its decision made again with other values or settings, from the account's state before it.

The live path decides (I4), under the context of the payment's seal with the changes applied; each question starts from
the same state, so none sees another. Reads only; has no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from core import pipeline
from core.codec import decode_score
from core.context import Context, deciding
from core.errors import BadInput, NotDecidable
from core.events import Decision, Severity, TransactionScored
from core.features.state import AccountState
from core.log.base import EventLog
from core.replay import Timeline
from core.work import Run, Work
from projections.audit.redecide import Found, Recomputed, Whereabouts, account_events, recompute
from projections.audit.whatif import Changes

ACCOUNTS_MAX = 1_000
"""A partition that has evicted accounts is folded with all of them: copying that state is too much."""


@dataclass(frozen=True, slots=True)
class Question:
    """Other settings, and other values of the payment's fields."""

    changes: Changes = field(default_factory=Changes)
    payment: dict[str, Any] = field(default_factory=dict)


class Answer(msgspec.Struct, frozen=True):
    """A decision. rules, shadow_rules: codes of the rules that hit, with and without effect."""

    decision: Decision
    severity: Severity | None
    probability: float
    margin: float
    rules: tuple[str, ...]
    shadow_rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """now: the decision made again as it was, and compared. made: an answer to each question. names, features: the
    program's features, and their values at now and at each question, float32 (1 + questions, W).
    """

    now: Recomputed
    made: list[Answer]
    names: list[str]
    features: NDArray[np.float32]


def answer_of(score: TransactionScored) -> Answer:
    """A logged decision as an answer."""
    return Answer(score.decision, score.severity, score.probability, score.margin, score.rules, score.shadow_rules)


def ask(
    log: EventLog, found: Found, timeline: Timeline, questions: Sequence[Question], known: Whereabouts | None = None
) -> Answered:
    """Answers to questions about one decision. known: saves reading the whole partition. Raises NotDecidable if it
    can't be made again here, BadInput for changes that its context does not have, or if its partition holds too many
    accounts.
    """
    partition, position = found.place
    made: list[Answer] = []
    rows: list[NDArray[np.float32]] = []

    def consider(context: Context, work: Work) -> None:
        if len(work.state) > ACCOUNTS_MAX:
            raise BadInput(f"partition {partition} has evicted accounts: one payment's what-if would copy all of them")
        content, steps = work.state.to_bytes(), list(work.state.ring_steps.values())
        for question in questions:
            (run,) = work.runs
            changed = replace(run.transactions[0], **question.payment)  # type: ignore[type-var]
            state = AccountState.from_bytes(content, work.state.identity, steps)
            again = Work(partition, state, [Run(run.feedback_position, run.feedback, run.positions, [changed])])
            decided = pipeline.decide(question.changes.of(context), [again])[0]
            if decided.duplicates:
                raise BadInput("with these values it is the same as an earlier payment of the account: a duplicate")
            made.append(answer_of(decode_score(decided.scores[0].payload)))
            rows.append(decided.features[0])

    accounts = [found.account_id]
    events = account_events(log, partition, accounts)
    now = next(recompute(log, partition, [position], accounts, timeline, events, before=consider, known=known))
    if isinstance(now.context, NotDecidable):
        raise now.context
    assert now.features is not None
    plan = deciding(now.context, now.decision.score.arm).program.plan
    names = list(plan.names[: plan.stored])
    width = min(len(names), *(len(row) for row in (now.features, *rows)))
    return Answered(now, made, names[:width], np.stack([row[:width] for row in (now.features, *rows)]))
