"""Loads partitions for the worker: at an assignment, again after a conflict, after a wait, under a new generation.

Servers that can't be reached are waited for, up to `unavailable_timeout_s`; then Unavailable is raised, and the worker
ends. Any other error concerns the one partition, which is parked (`ingest.parking`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from core.control import ControlState
from core.control_stream import ControlStream
from core.errors import Unavailable
from core.log.base import EventLog
from core.settings import Settings
from ingest import bootstrap, telemetry
from ingest.ownership import Ownership
from ingest.parking import Parking
from ingest.partition import Owned
from ingest.patience import persist
from ingest.publisher import Publisher

T = TypeVar("T")


class Loader:
    """See the module's docstring. is_stopping: whether the worker was asked to stop, so that nothing is waited for."""

    def __init__(
        self,
        settings: Settings,
        log: EventLog,
        ownership: Ownership,
        parking: Parking,
        publisher: Publisher,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._log = log
        self._ownership = ownership
        self._parking = parking
        self._publisher = publisher
        self._is_stopping = is_stopping

    def control(self) -> ControlStream:
        """The control stream at its end, after appending what is missing there. Waits also for a topic that is missing:
        one that is made again may come a moment after the other.
        """

        def ensured() -> ControlStream:
            try:
                return bootstrap.ensure(self._log, self._settings)
            except bootstrap.MissingTopic as error:
                raise Unavailable(str(error)) from None

        return self._persist(ensured)

    def take(self, numbers: Iterable[int], control: ControlState) -> list[Owned]:
        """Own these partitions, loaded; what their previous owner may not have published is published again."""
        wanted = list(numbers)
        taken = self._persist(lambda: self._ownership.take(wanted, control, self._parking.park))
        return [owned for owned in taken if self._attempt(owned.partition, lambda o=owned: self._republish(o))]  # type: ignore[misc]

    def arrive(self, numbers: list[int], control: ControlState) -> None:
        """As `take`, of partitions that were just assigned; those that their previous owner parked are on trial."""
        started = time.monotonic()
        taken = self.take(numbers, control)
        self._parking.inherited([owned.partition for owned in taken])
        telemetry.logger().info(
            "ingest.loaded",
            partitions=numbers,
            parked=sorted(self._parking.parked),
            seconds=round(time.monotonic() - started, 3),
        )

    def reload(self, owned: Owned, control: ControlState) -> Owned | None:
        """The partition's state from the log, in place of this one; None if the partition was parked."""

        def reloaded() -> Owned:
            return self._republish(self._ownership.reload(owned, control))

        return self._attempt(owned.partition, reloaded)

    def again(self, partition: int, control: ControlState) -> Owned | None:
        """Load a parked partition once, and put it on trial; None if it was parked again."""
        try:
            fresh = self._republish(self._ownership.take([partition], control)[0])
        except Exception as error:  # noqa: BLE001 - a bulkhead
            self._ownership.drop(partition)
            self._parking.park(partition, error)
            return None
        self._parking.try_out(partition)
        return fresh

    def _republish(self, owned: Owned) -> Owned:
        self._publisher.republish(self._log, owned)
        return owned

    def _attempt(self, partition: int, action: Callable[[], Owned]) -> Owned | None:
        try:
            return self._persist(action)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - a bulkhead
            self._ownership.drop(partition)
            self._parking.park(partition, error)
            return None

    def _persist(self, action: Callable[[], T]) -> T:
        return persist(action, self._settings.unavailable_timeout_s, self._is_stopping)
