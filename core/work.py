"""What the pipeline takes and gives: a partition's next events, a batch's columns, and the entries to append."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from core.events import (
    AccountEvent,
    FeedbackReceived,
    Outcome,
    Position,
    TransactionScored,
)
from core.features.columns import TransactionLike
from core.features.state import AccountState
from core.log.base import Entry

_N = TypeVar("_N", bound=np.generic)


@dataclass(slots=True)
class Run:
    """Feedback, then the transactions decided after it. `feedback_position` is f for all of them.

    outcomes: what was decided on each of the transactions, if that is known; else empty.
    """

    feedback_position: Position
    feedback: list[AccountEvent] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    transactions: list[TransactionLike] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)


@dataclass(slots=True)
class Work:
    """One partition's next events to decide, in order."""

    partition: int
    state: AccountState
    runs: list[Run]

    @property
    def size(self) -> int:
        """The number of events."""
        return sum(len(run.feedback) + len(run.transactions) for run in self.runs)

    @property
    def accounts(self) -> list[str]:
        """The accounts of all events, in order."""
        return [event.account_id for run in self.runs for event in chain(run.feedback, run.transactions)]

    def part(self, start: int, stop: int) -> Work:
        """Only the events from `start` to `stop`, counted as in `accounts`."""
        runs = []
        for run in self.runs:
            said, paid = len(run.feedback), len(run.transactions)
            payments = slice(max(start - said, 0), max(stop - said, 0))
            runs.append(
                Run(
                    run.feedback_position,
                    run.feedback[max(start, 0) : max(stop, 0)],
                    run.positions[payments],
                    run.transactions[payments],
                    run.outcomes[payments],
                )
            )
            start, stop = start - said - paid, stop - said - paid
        return Work(self.partition, self.state, runs)


@dataclass(frozen=True, slots=True)
class Rows:
    """n transactions of one or more partitions and their decisions: item i of every column belongs to transaction i.

    features float32 (n, W), of a row's program, whose scores store the first `program.plan.stored`; duplicate bool
    (n,); margins and probabilities float64 (n,); hits and shadow_hits uint8 (n, R) by the rules of the row's program.
    What a row's program does not have has no meaning: W and R are those of the widest. counts int64 (n, 4), the hits
    by effect; asked bool (n,), whether the program's `[decision]` asks for more than to approve; decisions uint8
    (n,) into policy.DECISIONS; severities int8 (n,) into policy.SEVERITIES or −1; shadow_decisions uint8 (n,), what the
    program would decide at the shadow model's probability. For a duplicate only the first three
    columns are meaningful.
    """

    transactions: list[TransactionLike]
    positions: list[Position]
    duplicate: NDArray[np.bool_]
    features: NDArray[np.float32]
    margins: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    hits: NDArray[np.uint8]
    shadow_hits: NDArray[np.uint8]
    counts: NDArray[np.int64]
    asked: NDArray[np.bool_]
    decisions: NDArray[np.uint8]
    severities: NDArray[np.int8]
    shadow_decisions: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Decided:
    """The result for one Work: rows `start` … `stop` of the batch are its transactions, in order.

    kept: indices (from 0) of those that were scored; duplicates: of the others. scored and scores: one item for each of
    `kept`.
    """

    rows: Rows
    start: int
    stop: int
    kept: Sequence[int]
    duplicates: list[int]
    scored: list[TransactionScored]
    scores: list[Entry]
    alerts: list[Entry]

    @property
    def features(self) -> NDArray[np.float32]:
        """The features of the scored transactions: float32 (len(kept), WIDTH)."""
        return self._of(self.rows.features)

    @property
    def margins(self) -> NDArray[np.float64]:
        """The margins of the scored transactions: float64 (len(kept),), log-odds."""
        return self._of(self.rows.margins)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """The probabilities of the scored transactions: float64 (len(kept),)."""
        return self._of(self.rows.probabilities)

    @property
    def decisions(self) -> NDArray[np.uint8]:
        """The decisions on the scored transactions: uint8 (len(kept),) into policy.DECISIONS."""
        return self._of(self.rows.decisions)

    @property
    def severities(self) -> NDArray[np.int8]:
        """The severities of the scored transactions: int8 (len(kept),) into policy.SEVERITIES, −1 without an alert."""
        return self._of(self.rows.severities)

    def _of(self, column: NDArray[_N]) -> NDArray[_N]:
        mine = column[self.start : self.stop]
        return mine[~self.rows.duplicate[self.start : self.stop]] if self.duplicates else mine


@dataclass(frozen=True, slots=True)
class Fold:
    """Works whose kernel features are computed: transactions `start` … `stop` of the batch.

    events: kernel.EVENT (m,), in order; ends: where each work's events end. verdicts: those among the events, by place.
    """

    works: Sequence[Work]
    start: int
    stop: int
    events: NDArray[np.void]
    ends: list[int]
    verdicts: list[tuple[int, FeedbackReceived]]
