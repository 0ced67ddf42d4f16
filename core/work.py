"""What the pipeline takes and gives: a partition's next events, a batch's columns, and the entries to append."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeVar

import msgspec
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
from core.policy import EFFECTS

_N = TypeVar("_N", bound=np.generic)


class Run(msgspec.Struct):
    """Feedback, then the transactions decided after it. `feedback_position` is f for all of them.

    outcomes: what was decided on each of the transactions, if that is known; else empty.
    """

    feedback_position: Position
    feedback: list[AccountEvent] = []
    positions: list[Position] = []
    transactions: list[TransactionLike] = []
    outcomes: list[Outcome] = []


class Work(msgspec.Struct):
    """One partition's next events to decide, in order."""

    partition: int
    state: AccountState
    runs: list[Run]

    @property
    def size(self) -> int:
        """The number of events."""
        return sum([len(run.feedback) + len(run.transactions) for run in self.runs])

    @property
    def payments(self) -> int:
        """The number of transactions."""
        runs = self.runs
        return len(runs[0].transactions) if len(runs) == 1 else sum([len(run.transactions) for run in runs])

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


_NONE: NDArray[Any] = np.zeros(0, dtype=np.uint8)


class Rows(msgspec.Struct):
    """n transactions of one or more partitions and their decisions: item i of every column belongs to transaction i.
    The decisions are `put`; those columns are empty until then, or until they are allocated for several `put`s.

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
    margins: NDArray[np.float64] = _NONE
    probabilities: NDArray[np.float64] = _NONE
    hits: NDArray[np.uint8] = _NONE
    shadow_hits: NDArray[np.uint8] = _NONE
    counts: NDArray[np.int64] = _NONE
    asked: NDArray[np.bool_] = _NONE
    decisions: NDArray[np.uint8] = _NONE
    severities: NDArray[np.int8] = _NONE
    shadow_decisions: NDArray[np.uint8] = _NONE

    def allocate(self, rules: int) -> None:
        """Columns for R rules, of rows that are not decided."""
        n = len(self.transactions)
        self.margins, self.probabilities = np.zeros(n), np.zeros(n)
        self.hits, self.shadow_hits = np.zeros((n, rules), dtype=np.uint8), np.zeros((n, rules), dtype=np.uint8)
        self.counts = np.zeros((n, len(EFFECTS)), dtype=np.int64)
        self.asked = np.zeros(n, dtype=np.bool_)
        self.decisions, self.severities = np.zeros(n, dtype=np.uint8), np.full(n, -1, dtype=np.int8)
        self.shadow_decisions = np.zeros(n, dtype=np.uint8)

    def put(
        self,
        at: NDArray[np.int64] | None,
        margins: NDArray[np.float64],
        probabilities: NDArray[np.float64],
        hits: NDArray[np.uint8],
        shadow_hits: NDArray[np.uint8],
        counts: NDArray[np.int64],
        asked: NDArray[np.bool_],
        decisions: NDArray[np.uint8],
        severities: NDArray[np.int8],
        shadow_decisions: NDArray[np.uint8] | None,
    ) -> None:
        """What was decided on some rows, or, if `at` is None, on all: then the arrays become the columns. They must not
        be changed afterwards. shadow_decisions: None without a shadow model.
        """
        n, count = len(self.transactions), hits.shape[1]
        if at is None and not len(self.decisions):
            self.margins, self.probabilities, self.counts, self.asked = margins, probabilities, counts, asked
            self.hits, self.shadow_hits, self.decisions, self.severities = hits, shadow_hits, decisions, severities
            self.shadow_decisions = np.zeros(n, dtype=np.uint8) if shadow_decisions is None else shadow_decisions
            return
        if len(self.decisions) != n:
            self.allocate(count)
        rows: NDArray[np.int64] | slice = slice(None) if at is None else at
        self.margins[rows], self.probabilities[rows] = margins, probabilities
        self.hits[rows, :count], self.shadow_hits[rows, :count], self.counts[rows] = hits, shadow_hits, counts
        self.asked[rows], self.decisions[rows], self.severities[rows] = asked, decisions, severities
        if shadow_decisions is not None:
            self.shadow_decisions[rows] = shadow_decisions


class Decided(msgspec.Struct, frozen=True):
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


class Fold(msgspec.Struct, frozen=True):
    """Works whose kernel features are computed: transactions `start` … `stop` of the batch.

    events: kernel.EVENT (m,), in order; ends: where each work's events end. verdicts: those among the events, by place.
    """

    works: Sequence[Work]
    start: int
    stop: int
    events: NDArray[np.void]
    ends: list[int]
    verdicts: list[tuple[int, FeedbackReceived]]
