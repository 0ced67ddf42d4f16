"""What a worker does with a partition that can't go on as it is: pass a batch, park it, load and fetch it anew.

The worker calls these between batches, with nothing in flight for the partition.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from core.control_stream import ControlStream
from core.errors import SentinelError
from core.log.base import EventLog
from core.settings import Settings
from ingest import losses, telemetry
from ingest.fetching import Fetcher
from ingest.loading import Loader
from ingest.ownership import Ownership
from ingest.parking import Parking
from ingest.unreadable import BadBatch


class Recovery:
    """See the module's docstring. control: the stream that the worker follows. fetcher: set once there is one."""

    def __init__(
        self,
        settings: Settings,
        log: EventLog,
        ownership: Ownership,
        parking: Parking,
        loader: Loader,
        control: Callable[[], ControlStream],
    ) -> None:
        self._settings = settings
        self._log = log
        self._ownership = ownership
        self._parking = parking
        self._loader = loader
        self._control = control
        self.fetcher: Fetcher | None = None

    def pass_or_park(self, partition: int, error: Exception) -> None:
        """What was read of the partition is decided. Jump over a batch that can never be read; else park it. While what
        came before the batch waits for the other topic, the batch waits, too.
        """
        if isinstance(error, BadBatch) and error.is_passed:
            owned = self._ownership.partitions.get(partition)
            if owned is not None:
                side = owned.intake.side(is_feedback=error.topic == self._settings.feedback_topic)
                if side.records or side.halted:
                    self._parking.fail(partition, error)
                    return
            try:
                losses.skip(self._log, self._settings, self._control(), error)
            except SentinelError as failure:
                error = failure
            else:
                self._take_anew([partition])
                return
        self.park(partition, error)

    def park(self, partition: int, error: Exception) -> None:
        """Stop deciding the partition, sound the alarm, and try again later."""
        self._ownership.drop(partition)
        if self.fetcher is not None:
            self.fetcher.pause(partition)
        self._parking.park(partition, error)

    def try_again(self, partitions: Sequence[int]) -> None:
        """Load parked partitions and put them on trial; an error parks them again, for longer."""
        loaded = [self._loader.again(partition, self._control().state) for partition in partitions]
        fresh = [owned for owned in loaded if owned is not None]
        if fresh and self.fetcher is not None:
            self.fetcher.begin_again(fresh)

    @property
    def outdated(self) -> list[int]:
        """The owned partitions whose source topics have new generations."""
        numbers = tuple(self._control().state.generations[role].number for role in ("transactions", "feedback"))
        return [n for n, owned in self._ownership.partitions.items() if owned.generations != numbers]

    def renew(self, partitions: list[int]) -> None:
        """Load partitions again under the new generations, and fetch them from their beginning."""
        telemetry.logger().warning("ingest.new_generation", partitions=partitions)
        self._parking.forget(partitions)
        self._take_anew(partitions)

    def _take_anew(self, partitions: list[int]) -> None:
        for partition in partitions:
            self._ownership.drop(partition)
        taken = self._loader.take(partitions, self._control().state)
        assert self.fetcher is not None
        self.fetcher.begin_again(taken)
