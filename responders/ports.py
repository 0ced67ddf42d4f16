"""What a responder needs from its surroundings: the way into the log, its partitions, the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from core.events import Position


class Outgoing(NamedTuple):
    """An account event on its way to Kafka."""

    partition: int
    account_id: str
    payload: bytes


class Outlet(Protocol):
    """The way into the log: Kafka's feedback topic."""

    def send(self, events: Sequence[Outgoing]) -> list[Position]:
        """Send in order and wait until Kafka has everything; returns the entries' positions in the log.

        Raises Unavailable if it is unknown whether everything arrived.
        """


class Owner(Protocol):
    """Which partitions this responder acts on."""

    def poll(self) -> Collection[int]:
        """Take part in the group, and return the partitions owned now. Before one is given up in order, the responder's
        `released` is called.
        """

    def fence(self, partitions: Collection[int]) -> Mapping[int, Position]:
        """For each partition, the feedback position that the log must reach before it is acted on: everything that was
        in Kafka when this was called. Raises Unavailable.
        """


class Clock(NamedTuple):
    """Wall clock (epoch ms) and a steady one (s)."""

    now_ms: Callable[[], int] = lambda: int(time.time() * 1000)
    steady: Callable[[], float] = time.monotonic
