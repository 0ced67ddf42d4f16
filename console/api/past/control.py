"""The control stream's events that a read model takes, in memory: its state as of any position of the stream.

Events that no read model takes (`SealsRecorded`, every hour) are not kept; of all others there are as many as people,
the loop and the tables made, about 1 kB each. A state is folded from the rung before it: a state that was kept every
STEP of a read model's own events, twice as far apart once there are RUNGS_MAX.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from core.control_stream import ControlEntry
from projections.engine.base import Fact, Projection, S, control_fact, fold

STEP = 64
RUNGS_MAX = 64
KEPT_MAX = 64


class _Followed:
    """One read model: the numbers of the facts that it takes, and its rungs (number of facts folded, encoded state)."""

    def __init__(self, projection: Projection[Any]) -> None:
        self.projection = projection
        self.positions = array("q")
        self.facts: list[Fact] = []
        self.step = STEP
        self.rungs: list[tuple[int, bytes]] = []
        self._state = projection.initial()

    def add(self, fact: Fact) -> None:
        self.facts.append(fact)
        self.projection.apply(self._state, fact)
        self.positions.append(fact.id.generation)
        if len(self.facts) % self.step == 0:
            self.rungs.append((len(self.facts), self.projection.encode(self._state)))
            if len(self.rungs) > RUNGS_MAX:
                self.step *= 2
                self.rungs = [rung for rung in self.rungs if rung[0] % self.step == 0]

    def state(self, count: int) -> Any:
        """The state after the first `count` facts."""
        at = bisect_right(self.rungs, count, key=lambda rung: rung[0]) - 1
        done, state = 0, self.projection.initial()
        if at >= 0:
            done, state = self.rungs[at][0], self.projection.decode(self.rungs[at][1])
        return fold(self.projection, self.facts[done:count], state)


class ControlPast:
    """See the module's docstring. One thread follows; readers hold the same lock."""

    def __init__(self, projections: Iterable[Projection[Any]]) -> None:
        self._followed = {p.label: _Followed(p) for p in projections if p.reads_control}
        self._times = array("q")
        self._kept: OrderedDict[tuple[str, int], Any] = OrderedDict()

    def __len__(self) -> int:
        """The position up to which the stream is held."""
        return len(self._times)

    def add(self, entries: Sequence[ControlEntry]) -> None:
        """The next events of the stream."""
        for entry in entries:
            fact = control_fact(entry)
            self._times.append(fact.recorded_at)
            for each in self._followed.values():
                if each.projection.refusal if fact.refused else type(fact.event) in each.projection.handlers:
                    each.add(fact)

    def until(self, floor: int, moment: int) -> int:
        """Where the stream ends at a moment (`projections.engine.as_of`): before the first event after the moment, but
        not before the floor.
        """
        for position in range(floor, len(self._times)):
            if self._times[position] > moment:
                return position
        return max(floor, len(self._times))

    def state(self, projection: Projection[S], position: int) -> S:
        """The read model's state as of a position that is held. It is shared: not to be changed."""
        each = self._followed[projection.label]
        count = bisect_right(each.positions, position)
        key = (projection.label, count)
        state = self._kept.get(key)
        if state is None:
            state = self._kept[key] = each.state(count)
            while len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        found: S = state
        return found
