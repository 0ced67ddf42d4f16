"""What a responder knows of its items beyond the log: when each is due, how often it was tried, what is held back.

Only memory: a successor finds the same items in the log, and begins their tries anew.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from responders.outbox import Item, Key


@dataclass(slots=True)
class Attempt:
    """An item that is being carried out. left: channels that have not taken it; refused: what others said.
    entry: its valid entry in the queue.
    """

    item: Item
    delay_ms: int
    seen_at: float
    left: set[str]
    tries: int = 0
    refused: list[str] = field(default_factory=list)
    error: str = ""
    entry: int = -1


@dataclass(slots=True)
class Agenda:
    """Attempts by key, in the order in which they are due. An attempt is queued at most once."""

    attempts: dict[Key, Attempt] = field(default_factory=dict)
    held: dict[str, set[Key]] = field(default_factory=dict)
    """By action, what waits for its switch."""
    _queue: list[tuple[int, int, Key]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def put(self, key: Key, due_ms: int) -> None:
        """Take the key's attempt up at `due_ms` (epoch ms), and not before."""
        attempt = self.attempts.get(key)
        if attempt is not None:
            attempt.entry = next(self._numbers)
            heapq.heappush(self._queue, (due_ms, attempt.entry, key))

    def due(self, now_ms: int) -> Iterator[tuple[Key, Attempt]]:
        """Take what is due out of the queue."""
        while self._queue and self._queue[0][0] <= now_ms:
            _, entry, key = heapq.heappop(self._queue)
            attempt = self.attempts.get(key)
            if attempt is not None and attempt.entry == entry:
                yield key, attempt

    def hold(self, key: Key) -> None:
        """Keep it until its action is switched on."""
        self.held.setdefault(key[1], set()).add(key)

    def release(self, is_on: Callable[[str], bool]) -> None:
        """What is held and may go on is due at once."""
        for action in [name for name in self.held if is_on(name)]:
            for key in sorted(self.held.pop(action)):
                self.put(key, 0)

    def drop(self, key: Key) -> None:
        """Forget an attempt."""
        self.attempts.pop(key, None)

    def drop_partition(self, partition: int) -> list[Key]:
        """Forget a partition's attempts; returns their keys."""
        keys = [key for key, attempt in self.attempts.items() if attempt.item.partition == partition]
        for key in keys:
            del self.attempts[key]
        return keys
