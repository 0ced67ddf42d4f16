"""The states of the read models as of one cut of the log; every answer (`projections.views`) is computed from them.

An answer is a function of these states alone. It names the cut in `as_of`; asked again as of that cut, it is the same
forever. A state starts from the runner's checkpoint if there is one before the cut, and the rest is folded.

Questions about one account don't fold the others: its partition follows from its key, and only the account's own
entries in that partition are decoded. Reads only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from core.control_stream import identity_of
from core.events import Partitioner
from core.log.base import EventLog
from core.partitions import partitions_of
from core.tokens import home
from projections.engine.as_of import Cut, resolve
from projections.engine.base import CONTROL, DecidedTransaction, Fact, Place, Projection, S, fold
from projections.engine.checkpoints import CheckpointStore, current, restore
from projections.engine.columnar import fold_between
from projections.engine.feed import Bound, account_facts, bound_at


@dataclass(frozen=True)
class States:
    """States of `projections` as of `cut`, starting from checkpoints in `store` where possible."""

    log: EventLog
    partitions: Sequence[int]
    cut: Cut
    projections: Sequence[Projection[Any]]
    store: CheckpointStore | None

    @property
    def as_of(self) -> str:
        """The cut in the syntax of `--as-of`."""
        return str(self.cut)

    @property
    def moment(self) -> int:
        """The moment (epoch ms) at which clocks in an answer (a case's SLA, a label's maturity) are read."""
        assert self.cut.moment is not None  # open_states sets it
        return self.cut.moment

    def of(self, projection: Projection[S], source: int) -> S:
        """A projection's state of one source, in its current version."""
        chosen = self._current(projection)
        until = self.cut.place(source)
        place, state = restore(self.store, chosen, self.log, source, until)
        return fold_between(chosen, self.log, source, place, until, state)

    def of_control(self, projection: Projection[S]) -> S:
        """A projection's state of the control stream."""
        return self.of(projection, CONTROL)

    def by_partition(self, projection: Projection[S]) -> dict[int, S]:
        """A projection's state of every partition."""
        return {partition: self.of(projection, partition) for partition in self.partitions}

    def of_account(self, projection: Projection[S], account: str, partition: int) -> S:
        """A projection's state of a partition that is valid for this account only."""
        state: S = self.of_account_each([projection], account, partition)[0]
        return state

    def of_account_each(self, projections: Sequence[Projection[Any]], account: str, partition: int) -> list[Any]:
        """`of_account` for several projections, with one read of the account's facts."""
        until = self.cut.partitions[partition]
        started: list[tuple[Projection[Any], Place, Any]] = []
        for projection in map(self._current, projections):
            assert projection.is_by_account, projection.label
            started.append((projection, *restore(self.store, projection, self.log, partition, until.place)))
        after = {place: bound_at(self.log, partition, place) for _, place, _ in started}
        facts = list(account_facts(self.log, partition, account, after[min(after)], until))
        return [fold(p, (f for f in facts if not _is_before(f, after[place])), s) for p, place, s in started]

    def partitions_of_account(self, account: str) -> Sequence[int]:
        """The partition that the account's key maps to."""
        return [home(account, self._partitioner, len(self.partitions))]

    @cached_property
    def _partitioner(self) -> Partitioner:
        return identity_of(self.log).partitioner

    def _current(self, projection: Projection[S]) -> Projection[S]:
        return current(self.store, projection.name, self.projections)


def open_states(
    log: EventLog,
    projections: Iterable[Projection[Any]],
    store: CheckpointStore | None = None,
    *,
    now_ms: int,
    as_of: str | None = None,
) -> States:
    """The states as of `as_of` (`projections.engine.as_of`). None is everything in the log now, with clocks read at
    now_ms (epoch ms). Raises BadInput if `as_of` is invalid, or if no worker has ever run on this log.
    """
    partitions = partitions_of(log)
    cut = resolve(log, partitions, as_of)
    if cut.moment is None:
        cut = replace(cut, moment=now_ms)
    return States(log, partitions, cut, tuple(projections), store)


def _is_before(fact: Fact, bound: Bound) -> bool:
    """Whether a decision's or an account event's ID is before the bound."""
    return fact.id <= (bound.transactions if isinstance(fact.event, DecidedTransaction) else bound.feedback)
