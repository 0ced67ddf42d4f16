"""Notices, from within a worker, that nothing moves although nothing fails.

    owns nothing   The group gave this worker no partition for OWNS_NOTHING_S. With more workers than partitions that is
                   as it should be. If the broker says twice that partitions have no owner in a stable group, the worker
                   leaves the group and joins it, and again every REJOIN_S: a broker gives a static member that comes
                   back what it had before, even if that was nothing, and members that stay ask for nothing new.
    stalled        An owned partition is not at the end of its topics, and nothing of it was decided for STALLED_S.

Both are logged, again every REPEAT_S, and counted in gauges.

Cost: one look every LOOK_S; while it owns nothing, a question to the broker each time, every REJOIN_S if it is spare.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from core.events import Position
from core.settings import Settings
from ingest import telemetry
from ingest.backlog import Group, group_of
from ingest.partition import Owned

LOOK_S = 5.0
OWNS_NOTHING_S = 10.0
REJOIN_S = 30.0
STALLED_S = 60.0
REPEAT_S = 300.0


class Vigilance:
    """See the module's docstring. rejoin: leave the group and join it again. partitions: of the log."""

    def __init__(self, settings: Settings, rejoin: Callable[[], None]) -> None:
        self._settings = settings
        self._rejoin = rejoin
        self._looked = self._owned_at = time.monotonic()
        self._said: dict[int | None, float] = {}
        self._moved: dict[int, tuple[Position, Position, float]] = {}
        self._orphans: frozenset[int] = frozenset()
        self._ask_at = 0.0
        self.stalled: list[int] = []
        """The stalled partitions, as of the last look."""
        self.is_spare = False
        """Whether it owns nothing because other workers own all, as the broker said."""

    def look(self, owned: Mapping[int, Owned], parked: int, partitions: int) -> None:
        """Look if it is time. parked: how many partitions are parked here; partitions: how many the log has."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        if owned or parked:
            self._owned_at, self.is_spare, self._orphans = now, False, frozenset()
        elif now - self._owned_at > OWNS_NOTHING_S and now >= self._ask_at:
            self._owns_nothing(partitions, now)
        self.stalled = [partition for partition, each in owned.items() if self._is_stalled(each, now)]
        telemetry.STALLED.set(len(self.stalled))
        self._moved = {partition: known for partition, known in self._moved.items() if partition in owned}
        for partition in self.stalled:
            if self._may_say(partition, now):
                intake = owned[partition].intake
                telemetry.logger().error(
                    "ingest.partition_stalled",
                    partition=partition,
                    seconds=round(now - self._moved[partition][2]),
                    transactions_held=len(intake.transactions.records),
                    feedback_held=len(intake.feedback.records),
                    transactions_at_end=intake.transactions.at_end,
                    feedback_at_end=intake.feedback.at_end,
                )

    def _owns_nothing(self, partitions: int, now: float) -> None:
        group = group_of(self._settings)
        orphans = frozenset(range(partitions)) - group.assigned if group is not None else frozenset()
        is_stable = group is not None and group.state == "stable"
        is_wrong = is_stable and bool(orphans & self._orphans)
        self._orphans = orphans if is_stable and not is_wrong else frozenset()
        self.is_spare = group is not None and not orphans
        self._ask_at = now + (REJOIN_S if is_wrong or self.is_spare else LOOK_S)
        if is_wrong or self._may_say(None, now):
            telemetry.logger().warning(
                "ingest.owns_nothing",
                seconds=round(now - self._owned_at),
                group=str(group) if group is not None else "not described by the broker",
                why=_why(group, orphans, is_wrong),
                without_owner=sorted(orphans),
            )
        if is_wrong:
            self._rejoin()

    def _is_stalled(self, owned: Owned, now: float) -> bool:
        at = (owned.head.transactions, owned.head.feedback)
        known = self._moved.get(owned.partition)
        if known is None or known[:2] != at or owned.intake.drained:
            self._moved[owned.partition] = (*at, now)
            self._said.pop(owned.partition, None)
            return False
        return now - known[2] > STALLED_S

    def _may_say(self, what: int | None, now: float) -> bool:
        if now - self._said.get(what, -REPEAT_S) < REPEAT_S:
            return False
        self._said[what] = now
        return True


def _why(group: Group | None, orphans: frozenset[int], is_wrong: bool) -> str:
    if group is None:
        return "unknown"
    if is_wrong:
        return "partitions have no owner: joining again"
    if orphans:
        return "partitions have no owner" if group.state == "stable" else "the group shares out its partitions"
    return "other workers own all partitions"
