"""A lane: one channel's queue, its threads, and when it may try again.

    idle ──due──► running ──► delivered │ refused │ unavailable ──back-off──► due again

Each message has a back-off of its own, doubled at every failure. The channel has one too: after a failure only one
message at a time is tried, so that a receiver that is down is asked once per back-off, however many messages wait; a
message that fails alone does not hold up the others, whose turn comes first.

Not thread-safe except for the sending: one thread calls `put`, `pump` and `finished`.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import NamedTuple

from responders.channels.base import Channel, Message, Result
from responders.outbox import Key


class Sent(NamedTuple):
    """A message that was tried."""

    lane: str
    key: Key
    result: Result


class Backoff(NamedTuple):
    """How long to wait after the n-th failure in a row, s: first · 2ⁿ⁻¹ up to most, half of it random."""

    first: float
    most: float

    def after(self, failures: int, asked_s: float = 0.0) -> float:
        """asked_s: how long the receiver asked to wait."""
        full = min(self.first * 2.0 ** min(failures - 1, 40), self.most)
        return max(full * (0.5 + 0.5 * random.random()), asked_s)


@dataclass(slots=True)
class Lane:
    """See the module's head. done: where results go, with a wake-up of the caller."""

    name: str
    channel: Channel
    parallel: int
    backoff: Backoff
    done: SimpleQueue[Sent | None]
    running: set[Key] = field(default_factory=set)
    failures: int = 0
    closed_until: float = 0.0
    error: str = ""
    _queue: list[tuple[float, int, Key, Callable[[], Message]]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _pool: ThreadPoolExecutor | None = None

    def put(self, key: Key, make: Callable[[], Message], due: float) -> None:
        """Send `make()` from `due` (monotonic s) on."""
        heapq.heappush(self._queue, (due, next(self._numbers), key, make))

    def __len__(self) -> int:
        return len(self._queue)

    def pump(self, now: float, wanted: Callable[[Key], bool]) -> int:
        """Start what is due and still `wanted`; returns how many were started."""
        started = 0
        while self._queue and self._queue[0][0] <= now and self.closed_until <= now:
            if len(self.running) >= (1 if self.failures else self.parallel):
                break
            _, _, key, make = heapq.heappop(self._queue)
            if key in self.running or not wanted(key):
                continue
            self.running.add(key)
            started += 1
            self._threads().submit(self._send, key, make())
        return started

    def finished(self, sent: Sent, now: float) -> None:
        """Take a result: how soon the channel may be used again."""
        self.running.discard(sent.key)
        if sent.result.fate == "unavailable":
            self.failures += 1
            self.error = sent.result.error
            self.closed_until = now + self.backoff.after(self.failures, sent.result.wait_s)
        else:
            self.failures, self.closed_until, self.error = 0, 0.0, ""

    def close(self) -> None:
        """Send nothing more. What is being sent is not waited for."""
        self._queue.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.parallel, thread_name_prefix=f"respond-{self.name}")
        return self._pool

    def _send(self, key: Key, message: Message) -> None:
        try:
            result = self.channel.send(message)
        except Exception as error:  # noqa: BLE001 - a fault of a channel is that message's, not the responder's end
            result = Result("unavailable", type(error).__name__)
        self.done.put(Sent(self.name, key, result))
