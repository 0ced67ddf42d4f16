"""A partition's state while its log is decided again: it holds the aggregates of the programs that decide next.

The state of every program that was ever deployed would take the memory of all of them at once. So a state holds those
of the next STEPS_HELD that are needed. Where a decision needs another, the partition is folded again from its beginning
up to there, with the next ones; what is no longer needed is dropped. Deciding a log by n programs with aggregates of
their own thus reads it at most 1 + n / STEPS_HELD times, and its memory is that of one state with STEPS_HELD programs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from core import pipeline
from core.context import Context
from core.events import Position
from core.features.state import AccountState
from core.replay import Chunk, Timeline, part
from core.work import Run, Work


class Refolding:
    """See the module's docstring. The caller folds into `state` all that it reads, in order."""

    def __init__(
        self, partition: int, timeline: Timeline, until: int, again: Callable[[], Iterator[Chunk]], after: int = 0
    ) -> None:
        """after, until: the first and last control position under which decisions are made again. again: the
        partition's chunks from its beginning.
        """
        self._partition, self._timeline, self._until, self._again = partition, timeline, until, again
        self.state = timeline.new_state(after, until)
        self.folds = 0
        """How often the partition was folded again."""

    def under(self, context: Context, first: Position, *, has_feedback: bool = False) -> AccountState:
        """The state, for a decision in this context that begins at the transaction `first`, which is not folded yet.
        has_feedback: whether the feedback right before it is.
        """
        wanted = {step.digest for under in (context, *context.arms) if (step := under.program.rings) is not None}
        if not wanted <= self.state.rings.keys():
            received_at = self.state.received_at
            self.state = self._timeline.new_state(context.position, self._until)  # frees the former one's memory
            for runs in _before(self._again(), first, has_feedback):
                pipeline.apply(Work(self._partition, self.state, runs))
            self.state.received_at = received_at
            self.folds += 1
        return self.state


def _before(chunks: Iterable[Chunk], first: Position, has_feedback: bool) -> Iterator[list[Run]]:
    """What was decided before a transaction, and the feedback before that, in order. has_feedback: also the feedback
    right before it.
    """
    for chunk in chunks:
        runs: list[Run] = []
        for run in chunk.runs:
            if first in run.positions:
                stop = run.positions.index(first)
                if stop or has_feedback:
                    runs.append(part(run, 0, stop))
                yield runs
                return
            runs.append(run)
        yield runs
