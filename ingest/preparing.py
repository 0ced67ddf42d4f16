"""Prepares owned partitions for a program that is to decide: folds its aggregates from the log beside the work.

    proposed ─► folding (in slices, between batches) ─► caught up ─► swapped in when the partition is settled
                                                                       └─► all owned: ProgramPrepared is appended
    deployed ─► a partition whose state is prepared is decided at once; another waits, and is folded without pause

A second state is folded from the log's beginning, kernel included, exactly as a replay would: so the state that takes
over is a replay's state. Live payments wait for one piece at a time: a chunk of decisions or, 0.1 s, a row group of the
archive. It costs the memory of one more partition, as one partition is prepared at a time, and about 5 µs per logged
transaction. A worker that is killed begins again; states in snapshots stay prepared. If the log can't be read, or the
control stream not written, what is folded is dropped and begun anew after REST_S: the work goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from core import pipeline
from core.context import Resolver
from core.control import ControlState
from core.control_stream import ControlStream, append
from core.errors import SentinelError
from core.events import Control, ProgramPrepared
from core.features.state import AccountState
from core.identity import required
from core.log.base import EventLog, Head
from core.program.rings import RingStep
from core.receipt import newest
from core.replay import chunks
from core.work import Work
from ingest import telemetry
from ingest.partition import Owned

SLICE_S = 0.02
"""How long a slice may take beside the work."""
CHUNK = 500
"""Decisions that are folded at once: a slice may take longer than SLICE_S by the time of one chunk, about 5 ms."""
NEAR = 64
"""Batches that are folded at once before a state takes over."""
REST_S = 5.0
"""After an error, how long until the next try."""
ACTOR = "sentinel ingest"


@dataclass(slots=True)
class _Folding:
    """A state that is folded for a partition, up to `at`, by one piece for each of `slices`, which never end."""

    owned: Owned
    state: AccountState
    at: Head
    slices: Iterator[None]
    began: float

    @property
    def is_caught_up(self) -> bool:
        """Until the next batch is in the log."""
        return self.at.sequence == self.owned.head.sequence


class Preparing:
    """See the module's docstring. partitions: those owned, by number."""

    def __init__(self, log: EventLog, partitions: Mapping[int, Owned]) -> None:
        self._log = log
        self._partitions = partitions
        self._steps: dict[str, RingStep] = {}
        self._kept: frozenset[str] = frozenset()
        self._proposed: dict[str, str] = {}
        self._folding: _Folding | None = None
        self._rests_until = 0.0

    def follow(self, state: ControlState, resolver: Resolver) -> None:
        """Prepare from now on for the programs that decide and for those that are proposed. What neither these nor the
        program before need is dropped.
        """
        self._steps = {step.digest: step for step in resolver.steps(state, "soon")}
        self._kept = frozenset(step.digest for step in resolver.steps(state, "kept"))
        for owned in self._partitions.values():
            owned.state.keep(self._kept)
        self._proposed = {}
        for digest in state.governance.programs.proposed:
            try:
                step = resolver.step_of(digest, required(state.identity))
            except SentinelError:
                continue  # it can't be loaded, so it is not prepared
            self._proposed[digest] = "" if step is None else step.digest

    def work(self, control: ControlStream, now_ms: Callable[[], int]) -> None:
        """Fold for a slice, let a state take over, and report. Costs nothing if there is nothing to prepare."""
        if not (self.is_busy or self._proposed) or time.monotonic() < self._rests_until:
            return
        try:
            self._take_over()
            self._advance()
            self._report(control, now_ms)
        except SentinelError as error:
            self._folding = None
            self._rests_until = time.monotonic() + REST_S
            telemetry.logger().warning("ingest.preparing_failed", error=str(error), retry_s=REST_S)

    def lacking(self, owned: Owned) -> bool:
        """Whether the partition's state lacks a wanted step."""
        return not self._steps.keys() <= owned.state.rings.keys()

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to fold."""
        return self._folding is not None or (bool(self._steps) and any(map(self.lacking, self._partitions.values())))

    def _advance(self) -> None:
        """Fold for a slice."""
        until = time.monotonic() + SLICE_S
        while time.monotonic() < until:
            folding = self._current()
            if folding is None or folding.is_caught_up:
                return
            next(folding.slices)

    @property
    def held_back(self) -> int:
        """The partition of which nothing should be taken for a moment, so that it settles; −1 for none."""
        folding = self._folding
        if folding is None or folding.owned.head.sequence - folding.at.sequence > NEAR:
            return -1
        return folding.owned.partition

    def _take_over(self) -> None:
        """Swap in the state that has caught up, or nearly so; nothing of its partition may be in flight."""
        folding = self._folding
        if folding is None or self.held_back < 0 or not folding.owned.settled:
            return
        while not folding.is_caught_up:
            next(folding.slices)
        folding.state.keep(self._kept)
        folding.owned.state = folding.state
        self._folding = None
        telemetry.logger().info(
            "ingest.program_prepared",
            partition=folding.owned.partition,
            sequence=folding.at.sequence,
            seconds=round(time.monotonic() - folding.began, 3),
        )

    def _report(self, control: ControlStream, now_ms: Callable[[], int]) -> None:
        """Say in the control stream which proposed programs all owned partitions are prepared for."""
        owned = self._partitions
        ready = [
            program
            for program, step in self._proposed.items()
            if not step or all(step in each.state.rings for each in owned.values())
        ]
        if owned and _reports(control.state, ready, owned, 0):
            append(self._log, lambda known: _reports(known.state, ready, owned, now_ms()), control)

    def _current(self) -> _Folding | None:
        folding = self._folding
        if (
            folding is not None
            and self._partitions.get(folding.owned.partition) is folding.owned
            and self._steps.keys() <= folding.state.rings.keys()
        ):
            return folding
        self._folding = None
        for owned in self._partitions.values():
            if self.lacking(owned):
                steps = {**owned.state.ring_steps, **self._steps}
                state = AccountState(owned.state.identity).hold(steps.values())
                folding = self._folding = _Folding(owned, state, Head(), iter(()), time.monotonic())
                folding.slices = self._slices(folding)
                return folding
        return None

    def _slices(self, folding: _Folding) -> Iterator[None]:
        """Fold up to the partition's head, again and again."""
        partition = folding.owned.partition
        while True:
            until = folding.owned.head
            for chunk in chunks(self._log, partition, folding.at, until, has_scores=False, size=CHUNK):
                pipeline.apply(Work(partition, folding.state, chunk.runs))
                folding.state.received_at = max(
                    folding.state.received_at, newest(t for run in chunk.runs for t in run.transactions)
                )
                yield
            folding.at = until
            yield


def _reports(state: ControlState, ready: Collection[str], owned: Collection[int], now: int) -> list[Control]:
    """What has to be said: programs that partitions are prepared for and that the stream does not say so of."""
    known = state.governance.programs
    found: list[Control] = []
    for program in ready:
        missing = sorted(set(owned) - known.prepared.get(program, {}).keys())
        if program in known.proposed and missing:
            found.append(ProgramPrepared(occurred_at=now, actor=ACTOR, digest=program, partitions=tuple(missing)))
    return found
