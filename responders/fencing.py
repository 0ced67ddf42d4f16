"""From owned to acted on: a partition is fenced until the log holds what its former owner sent to Kafka.

    owned ──► unfenced ──(Kafka's end is asked)──► fenced ──(the log reaches it)──► open
                 ▲                                                                   │ it is unknown whether
                 └───────────────────────────────────────────────────────────────────┘ outcomes arrived

Without it, a responder that takes over would repeat what the dead one had just reported.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import structlog

from core.errors import Unavailable
from core.events import Position
from responders.ports import Owner

RETRY_S = 1.0


@dataclass(slots=True)
class Fences:
    """The partitions that are owned and not open."""

    owner: Owner
    fenced: dict[int, Position] = field(default_factory=dict)
    unfenced: set[int] = field(default_factory=set)
    _retry_at: float = 0.0

    @property
    def partitions(self) -> set[int]:
        return {*self.fenced, *self.unfenced}

    def add(self, partitions: Collection[int]) -> None:
        """Fence these partitions, at once."""
        self.unfenced |= set(partitions)
        self._retry_at = 0.0

    def drop(self, partition: int) -> None:
        self.fenced.pop(partition, None)
        self.unfenced.discard(partition)

    def ask(self, now: float) -> None:
        """Ask Kafka where the unfenced partitions end; an outage is told, and asked again later. now: monotonic s."""
        if not self.unfenced or now < self._retry_at:
            return
        self._retry_at = now + RETRY_S
        try:
            found = self.owner.fence(self.unfenced)
        except Unavailable as error:
            structlog.get_logger().warning("respond.fence_failed", error=str(error))
            return
        self.fenced |= found
        self.unfenced -= set(found)

    def opened(self, is_reached: Callable[[int, Position], bool]) -> list[int]:
        """The partitions whose fence is reached; they are no longer held here."""
        reached = [partition for partition, position in self.fenced.items() if is_reached(partition, position)]
        for partition in reached:
            del self.fenced[partition]
        return reached
