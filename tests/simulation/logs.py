"""The log server behind a network: `Server` holds a MemoryLog, `Connection` is a process's way to it.

What the network may do to a request: lose it, lose the answer to it, or deliver it late, even after its sender is dead
and others have written. What the server may do: be away, load, be read-only or out of memory, come back without its
last second (and without the requests that were on their way to it: its connections are gone), or empty. A connection
does what `core.log.redis_streams` does: it reads once more after a lost answer, and resolves a lost append by reading
back.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from core.errors import ConcurrencyError, SentinelError, Unavailable
from core.events import START, Position
from core.log import seals
from core.log.base import Batch, Entry, Head, PendingAppend, Sealed, Stream
from core.log.memory import MemoryLog
from tests.simulation.world import EPOCH_S, World

T = TypeVar("T")
TIMEOUT_S = 0.5
"""How long a connection waits for an answer."""


class Lost(Unavailable):
    """No answer came: it is unknown whether the request was carried out."""


@dataclass(slots=True)
class Trouble:
    """What happens to the next request of a kind. how: lose_request, lose_answer, late."""

    how: str
    seconds: float = 0.0
    only: str = ""
    """The request's name; "" for any."""


@dataclass
class Server:
    """The log server. refuses: what it answers until `refuses_until` ("" if it does not answer at all)."""

    world: World
    log: MemoryLog = field(default_factory=MemoryLog)
    refuses: str = ""
    refuses_until: float = -1.0
    refuses_writes_only: bool = False
    troubles: deque[Trouble] = field(default_factory=deque)
    on_append: Callable[[int, Sealed], None] = lambda partition, sealed: None
    begun: int = 0
    """How many of the first writes are never lost with a tail: a log that loses all is an emptied one."""
    lost_tail: int = 0
    starts: int = 0
    """How often it came back: what was sent to it before does not arrive any more."""
    emptied: int = 0
    _done: list[tuple[float, Callable[[MemoryLog], object]]] = field(default_factory=list)
    backup: MemoryLog | None = None

    def check(self, *, is_write: bool) -> None:
        """Raise if the server does not serve the request."""
        if self.world.now < self.refuses_until and (is_write or not self.refuses_writes_only):
            raise (Unavailable if self.refuses else Lost)(f"event log server sim: {self.refuses or 'no answer'}")

    def write(self, act: Callable[[MemoryLog], T]) -> T:
        """Carry out a write, and remember it for the case that the server's last second is lost."""
        result = act(self.log)
        self._done.append((self.world.now, act))
        return result

    @property
    def writes(self) -> int:
        """How many writes the log holds."""
        return len(self._done)

    def lose_tail(self, seconds: float) -> int:
        """Come back without the writes of the last `seconds`: how many they are."""
        since = self.world.now - seconds
        kept = [(at, act) for number, (at, act) in enumerate(self._done) if at <= since or number < self.begun]
        lost = len(self._done) - len(kept)
        if lost:
            self.log, self._done = MemoryLog(), kept
            for _, act in kept:
                act(self.log)
            self.lost_tail += 1
        self.starts += 1
        return lost

    def empty(self) -> None:
        """Lose everything; `restore` brings it back."""
        if self.backup is None:
            self.backup, self._kept = self.log, self._done
            self.log, self._done = MemoryLog(), []
            self.begun, self.emptied = 0, self.emptied + 1

    def restore(self) -> None:
        """Bring the backup back, as of the moment at which the server was emptied."""
        if self.backup is not None:
            self.log, self._done, self.backup = self.backup, self._kept, None

    def trouble(self, name: str) -> Trouble | None:
        """What happens to this request, if anything."""
        for place, each in enumerate(self.troubles):
            if each.only in ("", name):
                del self.troubles[place]
                return each
        return None


class Connection:
    """EventLog over the network; one of a process."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._world = server.world
        self.signer = None

    def _read(self, name: str, act: Callable[[MemoryLog], T]) -> T:
        try:
            return self._ask(name, act, is_write=False)
        except Lost:
            return self._ask(name, act, is_write=False)

    def _ask(self, name: str, act: Callable[[MemoryLog], T], *, is_write: bool) -> T:
        server = self._server

        def carried_out() -> T:
            server.check(is_write=is_write)
            return server.write(act) if is_write else act(server.log)

        def effect() -> T:
            trouble = server.trouble(name)
            if trouble is None:
                return carried_out()
            self._world.note(f"    {trouble.how} {name}")
            if trouble.how == "lose_answer":
                _ignored(carried_out)
            elif trouble.how == "late" and is_write:
                starts = server.starts
                self._world.later(trouble.seconds, lambda: _ignored(carried_out) if server.starts == starts else None)
            raise Lost(f"event log server sim: timed out ({name})")

        return self._world.call(f"log {name}", effect)

    def head(self, partition: int) -> Head:
        return self._read("head", lambda log: log.head(partition))

    def append(self, partition: int, batch: Batch, expected: Head) -> Head:
        result = self.append_many([(partition, batch, expected)])[0]
        if isinstance(result, Exception):
            raise result
        return result

    def append_many(self, batches: Sequence[tuple[int, Batch, Head]]) -> list[Head | Exception]:
        return self.start_append([(p, seals.sealed(batch, head)) for p, batch, head in batches]).results()

    def start_append(self, appends: Sequence[tuple[int, Sealed]]) -> PendingAppend:
        return self._world.call("log send append", lambda: _Sent(self, self._server, appends))

    def read(
        self, partition: int, stream: Stream, after: Position = START, count: int = 1000, until: Position | None = None
    ) -> list[Entry]:
        return self._read(f"read {stream}", lambda log: log.read(partition, stream, after, count, until))

    def follow(
        self, after: Mapping[tuple[int, Stream], Position], wait_ms: int, count: int = 1000
    ) -> dict[tuple[int, Stream], list[Entry]]:
        return self._read("follow", lambda log: log.follow(after, 0, count))

    def begin(self, partition: int, stream: Stream) -> Position:
        return self._read("begin", lambda log: log.begin(partition, stream))

    def get(self, partition: int, stream: Stream, entry_id: Position) -> bytes | None:
        return self._read("get", lambda log: log.get(partition, stream, entry_id))

    def get_many(self, partition: int, stream: Stream, entry_ids: Sequence[Position]) -> list[bytes | None]:
        return self._read("get_many", lambda log: log.get_many(partition, stream, entry_ids))

    def length(self, partition: int, stream: Stream) -> int:
        return self._read("length", lambda log: log.length(partition, stream))

    def trim(self, partition: int, up_to: Head) -> int:
        return self._ask("trim", lambda log: log.trim(partition, up_to), is_write=True)

    def continue_after(self, partition: int, seal: Entry) -> None:
        self._ask("continue_after", lambda log: log.continue_after(partition, seal), is_write=True)

    def control_head(self) -> int:
        return self._read("control_head", lambda log: log.control_head())

    def append_control(self, payloads: Sequence[bytes], expected: int) -> int:
        """As RedisLog does: after a lost answer it is read back whether the events are there."""
        try:
            return self._ask("append_control", lambda log: log.append_control(payloads, expected), is_write=True)
        except Lost:
            stored = [payload for _, payload in self.read_control(expected, len(payloads))]
            if payloads and stored == list(payloads):
                return expected + len(payloads)
            raise

    def read_control(self, after: int = 0, count: int = 1000) -> list[tuple[int, bytes]]:
        return self._read("read_control", lambda log: log.read_control(after, count))

    def put_blob(self, content: bytes) -> str:
        return self._ask("put_blob", lambda log: log.put_blob(content), is_write=True)

    def get_blob(self, digest: str) -> bytes:
        return self._read("get_blob", lambda log: log.get_blob(digest))

    def held_blobs(self, digests: Sequence[str]) -> list[str]:
        return self._read("held_blobs", lambda log: log.held_blobs(digests))

    def remove_blob(self, digest: str) -> None:
        self._ask("remove_blob", lambda log: log.remove_blob(digest), is_write=True)

    def server_time(self) -> int | None:
        return self._read("server_time", lambda log: int((EPOCH_S + self._world.now) * 1000))

    def close(self) -> None:
        """Nothing to release."""


class _Sent:
    """An append that is on its way. It arrives whatever becomes of its sender."""

    def __init__(self, connection: Connection, server: Server, appends: Sequence[tuple[int, Sealed]]) -> None:
        self._connection, self._server, self._world = connection, server, server.world
        self._appends = appends
        self._answer: list[Head | Exception] | None = None
        trouble = server.trouble("append")
        how = trouble.how if trouble is not None else ""
        if trouble is not None:
            self._world.note(f"    {how} append")
        self._is_answered, self._starts = how == "", server.starts
        if how != "lose_request":
            delay = trouble.seconds if trouble is not None and how == "late" else 0.0
            self._world.later(delay + self._world.random.random() * 0.002, self._arrive)

    def _arrive(self) -> None:
        if self._server.starts != self._starts:
            return
        outcomes = [self._carry_out(partition, sealed) for partition, sealed in self._appends]
        if any(isinstance(each, Lost) for each in outcomes):
            return
        self._world.note(f"    arrived: {[str(o.sequence) if isinstance(o, Head) else repr(o) for o in outcomes]}")
        if self._is_answered:
            self._answer = outcomes

    def _carry_out(self, partition: int, sealed: Sealed) -> Head | Exception:
        server = self._server
        try:
            server.check(is_write=True)
            (head,) = server.write(lambda log: log.start_append([(partition, sealed)]).results())
        except SentinelError as error:
            return error
        if isinstance(head, Head):
            server.on_append(partition, sealed)
        else:
            server._done.pop()
        return head

    def results(self) -> list[Head | Exception]:
        """Wait for the answer; resolve what is unknown, as `core.log.redis_streams` does."""
        self._world.call("log await append", lambda: None)
        self._world.wait(TIMEOUT_S, lambda: self._answer is not None)
        if self._answer is not None:
            return self._answer
        results: list[Head | Exception] = []
        unreachable: Lost | None = None
        for partition, sealed in self._appends:
            try:
                if unreachable is not None:
                    raise unreachable
                results.append(self._resolved(partition, sealed))
            except Lost as error:
                unreachable = error
                results.append(error)
            except SentinelError as error:
                results.append(error)
        return results

    def _resolved(self, partition: int, sealed: Sealed) -> Head:
        found = self._seal_after(partition, sealed.expected)
        if found is None:
            sent = self._world.call(
                "log send append", lambda: _Sent(self._connection, self._server, [(partition, sealed)])
            )
            outcome = sent.first_answer()
            if isinstance(outcome, Head):
                return outcome
            found = self._seal_after(partition, sealed.expected)
            if found is None:
                raise outcome
        if found.digest != sealed.head.digest:
            raise ConcurrencyError(
                f"partition {partition} is at seal {found.sequence}, not at {sealed.expected.sequence}"
            )
        return found

    def first_answer(self) -> Head | Exception:
        """The answer to an append of one batch, or Lost."""
        self._world.call("log await append", lambda: None)
        self._world.wait(TIMEOUT_S, lambda: self._answer is not None)
        return self._answer[0] if self._answer is not None else Lost("event log server sim: timed out (append)")

    def _seal_after(self, partition: int, expected: Head) -> Head | None:
        following = self._connection.read(partition, "seals", Position(expected.sequence, 1), count=1)
        return seals.head_from_entry(following[0]) if following else None


def _ignored(act: Callable[[], Any]) -> None:
    with suppress(SentinelError):
        act()


def some_trouble(chance: random.Random) -> Trouble:
    """A random one, mostly of an append."""
    how = chance.choice(("lose_request", "lose_answer", "late"))
    only = chance.choice(("append", "append", "append", "append_control", ""))
    return Trouble(how, chance.choice((0.05, 0.3, 0.8, 2.5)), only)
