"""Follows the log's newest entries: hands each outcome to the request that waits for it, and to listeners.

One thread waits in `EventLog.follow` for the transactions, scores, alerts and rejects of all partitions; a batch's
entries come together, because they are appended together. Outcomes are delivered on the event loop, which alone touches
what is below. A payment's position is known when Kafka confirms it, and its outcome may come before: the newest
RECENT_MAX outcomes are remembered.

States: following | waiting for the log server (`trouble` says why; nothing is missed, since each stream's last ID is
kept). Entries that are trimmed before they are read are missed; they are archived before, and a client that reads by
position finds them.

Cost: one call for each append of the worker, 10 µs a stream in the server, 2 µs an entry here. Nothing is decoded but
rejects.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from core.codec import decode_reject
from core.errors import Corrupt, Unavailable
from core.events import Position
from core.log.base import Entry, EventLog, Stream

WAIT_MS = 500
RETRY_S = 0.2
RECENT_MAX = 20_000
FOLLOWED: tuple[Stream, ...] = ("transactions", "scores", "alerts", "rejects")


class Decided(NamedTuple):
    """A decision as logged."""

    partition: int
    position: Position
    transaction: bytes
    score: bytes
    alert: bytes | None


class Refused(NamedTuple):
    """A message of the transactions topic that became a reject."""

    partition: int
    position: Position
    reason: str
    detail: str


Outcome = Decided | Refused
Key = tuple[int, Position]


class Tail:
    """See the module's docstring. Made and used on one event loop."""

    def __init__(self, log: EventLog, partitions: Sequence[int]) -> None:
        self.trouble = ""
        self._log = log
        self._partitions = list(partitions)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tail", daemon=True)
        self._after: dict[tuple[int, Stream], Position] = {}
        self._waiting: dict[Key, list[asyncio.Future[Outcome]]] = {}
        self._recent: OrderedDict[Key, Outcome] = OrderedDict()
        self.listeners: list[Callable[[list[Outcome]], None]] = []
        self._logger = structlog.get_logger()

    def prepare(self) -> None:
        """Note the log's end, from which `start` follows. Raises Unavailable."""
        for p in self._partitions:
            head = self._log.head(p)
            last = Position(head.sequence + 1, 0)
            self._after |= {(p, stream): last if stream == "rejects" else head.transactions for stream in FOLLOWED}

    def start(self) -> None:
        """Begin to follow; call it on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    @property
    def vector(self) -> dict[int, Position]:
        """The last decision of each partition before the tail begins; after `prepare`."""
        return {p: self._after[p, "scores"] for p in self._partitions}

    def stop(self) -> None:
        """Stop following; takes up to WAIT_MS."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(10.0)

    def outcome(self, partition: int, position: Position) -> asyncio.Future[Outcome]:
        """The outcome of the message at a position, once it is in the log. Give it up with `forget`."""
        future: asyncio.Future[Outcome] = self._loop.create_future()
        known = self._recent.get((partition, position))
        if known is not None:
            future.set_result(known)
        else:
            self._waiting.setdefault((partition, position), []).append(future)
        return future

    def forget(self, partition: int, position: Position, future: asyncio.Future[Outcome]) -> None:
        """Nobody waits for this future any more."""
        waiting = self._waiting.get((partition, position), [])
        if future in waiting:
            waiting.remove(future)
        if not waiting:
            self._waiting.pop((partition, position), None)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                found = self._log.follow(self._after, WAIT_MS)
                outcomes = self._taken(found)
                if self.trouble:
                    self._logger.info("api.tail_continues")
                self.trouble = ""
            except (Unavailable, Corrupt) as error:
                if not self.trouble:
                    self._logger.error("api.tail_failed", error=str(error))
                self.trouble = str(error)
                self._stopping.wait(RETRY_S)
                continue
            if outcomes:
                try:
                    self._loop.call_soon_threadsafe(self._deliver, outcomes)
                except RuntimeError:  # the loop has ended
                    return

    def _taken(self, found: dict[tuple[int, Stream], list[Entry]]) -> list[Outcome]:
        """The outcomes among new entries. A page may end within a batch: a transaction without its score waits."""
        outcomes: list[Outcome] = []
        for p in self._partitions:
            scores = found.get((p, "scores"), [])
            if scores:
                last = scores[-1].id
                transactions = dict(found.get((p, "transactions"), []))
                alerts = {id: payload for id, payload in found.get((p, "alerts"), []) if id <= last}
                for id, payload in scores:
                    transaction = transactions.get(id)
                    if transaction is None:
                        transaction = self._log.get(p, "transactions", id) or b""
                    outcomes.append(Decided(p, id, transaction, payload, alerts.get(id)))
                for stream in ("transactions", "scores", "alerts"):
                    self._after[p, stream] = last
            rejects = found.get((p, "rejects"), [])
            outcomes += [each for _, payload in rejects if (each := self._refused(p, payload)) is not None]
            if rejects:
                self._after[p, "rejects"] = rejects[-1].id
        return outcomes

    def _refused(self, partition: int, payload: bytes) -> Refused | None:
        """A payment's reject; None for feedback's, and for one that is damaged: it must not hold up the others."""
        try:
            reject = decode_reject(payload)
        except Corrupt as error:
            self._logger.error("api.reject_unreadable", partition=partition, error=str(error))
            return None
        if reject.topic != "transactions":
            return None
        return Refused(partition, Position.parse(reject.position), reject.reason, reject.detail)

    def _deliver(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            key = (outcome.partition, outcome.position)
            self._recent[key] = outcome
            for future in self._waiting.pop(key, ()):
                if not future.done():
                    future.set_result(outcome)
        while len(self._recent) > RECENT_MAX:
            self._recent.popitem(last=False)
        for listener in self.listeners:
            listener(outcomes)
