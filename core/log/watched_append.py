"""Appends to a single server by WATCH … MULTI … EXEC: no script and, in the steady state, no round trip for checks.

A lane is one connection. For an append it sends, as one message:

    MULTI  XADD … XADD  EXEC  WATCH <every stream of its partitions>  XREAD COUNT 1 STREAMS <them> <their last IDs>

EXEC does nothing if any watched stream was changed after WATCH. XREAD returns nothing if no stream has an entry that
the lane does not know. After both, the partitions are therefore *proven*: they are at the head that the lane knows, and
watched from then on. The next append to them needs no check. States of a partition in a lane:

    unknown ──(WATCH, then XINFO of its streams agrees with the expected head)──► proven
    proven  ──(EXEC ran, XREAD found nothing)──► proven at the new head
            ──(EXEC refused: a stream was changed; or XREAD found something; or the connection broke)──► unknown

An append to an unknown partition checks first, in one round trip, which is where conflicts are found. A request that
arrives late, after its connection was abandoned, is still guarded by what that connection watched. The check finds IDs
at which XADD would fail inside EXEC, because it includes the streams' last generated IDs.

This module must never send an append a second time unless EXEC said that nothing ran.

Cost: see docs/benchmarks.md; in a prototype the server needed 0.65 times the CPU of a script (ADR 13).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import hiredis
import redis
from redis.connection import ConnectionPool
from redis.exceptions import RedisError, ResponseError

from core.errors import ConcurrencyError, Corrupt, SentinelError, Unavailable
from core.events import START, Position
from core.log import seals
from core.log.base import STREAMS, Entry, Head
from core.log.redis_transport import Lost, Transport

ATTEMPTS_MAX = 8
"""How often at most an append is sent that EXEC refuses although the head is the expected one (after a trim, say)."""

_pack: Callable[[tuple[bytes, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]  # its stub is too narrow
_MULTI, _EXEC, _DISCARD = _pack((b"MULTI",)), _pack((b"EXEC",)), _pack((b"DISCARD",))
_ID_MAX = b"%d" % seals.ID_PART_MAX


class Append(NamedTuple):
    """A sealed batch. keys, ids and entries are in the order of STREAMS; ids are `seals.id_texts` of the entries."""

    partition: int
    expected: Head
    head: Head
    keys: tuple[bytes, ...]
    ids: tuple[Sequence[bytes], ...]
    entries: tuple[Sequence[Entry], ...]


Outcome = Head | SentinelError
"""The new head, or why the append is not in the log (Lost: it is unknown whether it is)."""


class WatchedAppends:
    """The lanes to one server. Thread-safe: an append takes a free lane, or a new one."""

    def __init__(self, transport: Transport, pool: ConnectionPool) -> None:
        self._transport = transport
        self._pool = pool
        self._lock = threading.Lock()
        self._idle: list[_Lane] = []

    def start(self, appends: Sequence[Append]) -> InFlight:
        """Send them. `outcomes` of the result must be called."""
        with self._lock:
            lane = self._idle.pop() if self._idle else _Lane(self._transport, self._pool)
        flight = InFlight(self, lane, appends)
        flight.send()
        return flight

    def give_back(self, lane: _Lane) -> None:
        """Return a lane that is free again."""
        with self._lock:
            self._idle.append(lane)


class InFlight:
    """Appends that a lane has sent."""

    def __init__(self, owner: WatchedAppends, lane: _Lane, appends: Sequence[Append]) -> None:
        self._owner = owner
        self._lane = lane
        self._appends = appends
        self._outcomes: dict[int, Outcome] = {}
        self._sent: list[int] = []

    def send(self) -> None:
        """Check the partitions that are unknown to the lane, and send the appends that pass."""
        waiting = [i for i in range(len(self._appends)) if i not in self._outcomes]
        try:
            refused = self._lane.prove([self._appends[i] for i in waiting])
            self._outcomes |= {waiting[place]: error for place, error in refused.items()}
            self._sent = [i for i in waiting if i not in self._outcomes]
            if self._sent:
                self._lane.send([self._appends[i] for i in self._sent])
        except SentinelError as error:
            self._outcomes |= dict.fromkeys(waiting, error)
            self._sent = []

    def outcomes(self) -> list[Outcome]:
        """Wait for the server's answer: one outcome per append."""
        try:
            for attempt in range(ATTEMPTS_MAX):
                if attempt:
                    self.send()
                if not self._sent or self._received():
                    break
            else:
                late = Unavailable("another client keeps changing the log's streams: try again")
                self._outcomes |= dict.fromkeys(self._sent, late)
            return [self._outcomes[i] for i in range(len(self._appends))]
        except BaseException:
            self._lane.drop()  # it is unknown how far it got
            raise
        finally:
            self._owner.give_back(self._lane)

    def _received(self) -> bool:
        """Receive the answer to what was sent. False if EXEC refused it."""
        try:
            found = self._lane.receive([self._appends[i] for i in self._sent])
        except SentinelError as error:
            self._outcomes |= dict.fromkeys(self._sent, error)
            return True
        if found is not None:
            self._outcomes |= dict(zip(self._sent, found, strict=True))
        return found is not None


def proof(head: Head) -> bytes:
    """What the last seal must contain to be this head: after a lost tail, the sequence may belong to another batch."""
    return b'"digest":"%b"' % head.digest.encode() if head.sequence else b""


def added(key: bytes, ids: Sequence[bytes], entries: Sequence[Entry]) -> list[bytes]:
    """`XADD key ID e payload` for every entry, in Redis's protocol: what hiredis packs, in half its time."""
    head = b"*5\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n$" % (len(key), key)
    return [
        b"%b%d\r\n%b\r\n$1\r\ne\r\n$%d\r\n%b\r\n" % (head, len(i), i, len(payload), payload)
        for i, (_, payload) in zip(ids, entries, strict=True)
    ]


def conflict(partition: int, expected: Head, found: int) -> ConcurrencyError:
    """The error if the partition's last seal is `found`, or a different one with the expected sequence."""
    if found == expected.sequence:
        return ConcurrencyError(f"partition {partition}: seal {found} is not the expected one")
    return ConcurrencyError(f"partition {partition} is at seal {found}, not at {expected.sequence}")


def not_covered(partition: int, key: bytes, top: Position | str) -> ConcurrencyError:
    """The error if a stream is ahead of the seals."""
    return ConcurrencyError(f"partition {partition}: {key.decode()} already holds {top}, which no seal covers")


class _Lane:
    """One connection, and the heads that are proven on it."""

    def __init__(self, transport: Transport, pool: ConnectionPool) -> None:
        self._transport = transport
        self._pool = pool
        self._connection: Any = None
        self._socket: object = None
        self._proven: dict[int, Head] = {}
        self._keys: dict[int, tuple[bytes, ...]] = {}
        self._watch = b""
        self._last: dict[int, tuple[bytes, ...]] = {}
        self._replies_due = 0

    def __del__(self) -> None:
        """Release the connection of an append whose outcomes nobody asked for, or the pool would run out of them."""
        self.drop()

    def prove(self, appends: Sequence[Append]) -> dict[int, SentinelError]:
        """Check the partitions that are not proven at their expected head. Returns the errors by index in `appends`.

        Several appends to one partition may follow one another. One that does not follow those before it is refused.
        """
        self._connect()
        first: dict[int, Append] = {}
        for each in appends:
            first.setdefault(each.partition, each)
        standing = self._standing([each for p, each in first.items() if self._proven.get(p) != each.expected])
        heads: dict[int, Head] = {}
        refused: dict[int, SentinelError] = {}
        for i, each in enumerate(appends):
            try:
                before = heads.get(each.partition)
                if before is None and each.partition in standing:
                    self._judge(each, standing[each.partition])
                    self._know(each.partition, each.expected, each.keys)
                elif before not in (None, each.expected):
                    raise conflict(each.partition, each.expected, before.sequence)
            except SentinelError as error:
                refused[i] = error
            else:
                heads[each.partition] = each.head
        return refused

    def _standing(self, unknown: Sequence[Append]) -> dict[int, list[Any]]:
        """Watch the partitions' streams and query their state. Returns the replies to WATCH and XINFO by partition."""
        if not unknown:
            return {}
        for each in unknown:
            self._proven.pop(each.partition, None)
        # DISCARD drops all watches. If MULTI is not permitted, every XADD after it would run on its own.
        commands = [] if self._proven else [_MULTI, _DISCARD]
        begin = len(commands)
        for each in unknown:
            commands.append(_pack((b"WATCH", *each.keys)))
            commands += [_pack((b"XINFO", b"STREAM", key)) for key in each.keys]
        replies = self._exchange(commands)
        for reply in replies[:begin]:
            if isinstance(reply, Exception):
                self.drop()
                raise self._transport.translated(reply, unknown[0].keys[0])
        size = 1 + len(STREAMS)
        return {each.partition: replies[begin + n * size :][:size] for n, each in enumerate(unknown)}

    def send(self, appends: Sequence[Append]) -> None:
        """Send one message: the appends as one transaction, then the commands that prove the partitions again."""
        parts = [_MULTI]
        for each in appends:
            for key, ids, entries in zip(each.keys, each.ids, each.entries, strict=True):
                if ids:
                    parts += added(key, ids, entries)
        self._replies_due = len(parts) + 3
        for each in appends:
            self._know(each.partition, each.head, each.keys)
        partitions = list(self._proven)
        keys = [key for partition in partitions for key in self._keys[partition]]
        last = [text for partition in partitions for text in self._last[partition]]
        parts += [_EXEC, self._watch or _pack((b"WATCH", *keys))]
        self._watch = parts[-1]
        parts.append(_pack((b"XREAD", b"COUNT", b"1", b"STREAMS", *keys, *last)))
        self._write(parts, appends[0].keys[0])

    def receive(self, appends: Sequence[Append]) -> list[Outcome] | None:
        """The outcomes of what was sent last; None if EXEC refused it, in which case nothing ran."""
        key = appends[0].keys[0]
        replies = self._read(self._replies_due, key)
        begun, ran, watched, newer = replies[0], replies[-3], replies[-2], replies[-1]
        if newer or isinstance(watched, Exception):
            self._forget()
        if ran is None:
            self._forget()
            return None
        if isinstance(begun, Exception):
            # Outside a transaction, each XADD may or may not have run on its own.
            self.drop()
            return [Lost(str(self._transport.translated(begun, key)))] * len(appends)
        if isinstance(ran, Exception):
            # Nothing ran. The error of a command that was refused while queueing is more specific than EXEC's.
            self.drop()
            error = next((reply for reply in replies[1:-3] if isinstance(reply, Exception)), ran)
            return [self._transport.translated(error, key)] * len(appends)
        return self._judge_run(appends, ran)

    def _judge_run(self, appends: Sequence[Append], ran: list[Any]) -> list[Outcome]:
        """The outcomes once EXEC ran. Only what the check can't see fails inside it: an ID generated and deleted."""
        if not any(isinstance(reply, Exception) for reply in ran):
            return [each.head for each in appends]
        self._forget()
        outcomes: list[Outcome] = []
        at = 0
        for each in appends:
            size = sum(len(ids) for ids in each.ids)
            failed = next((reply for reply in ran[at : at + size] if isinstance(reply, Exception)), None)
            at += size
            if failed is None:
                outcomes.append(each.head)
            else:
                outcomes.append(Corrupt(f"partition {each.partition}: an append was written only in part: {failed}"))
        return outcomes

    def _judge(self, each: Append, standing: Sequence[Any]) -> None:
        """Raise unless the streams' state matches the expected head. standing: the replies to WATCH and XINFO."""
        watched, *infos = standing
        if isinstance(watched, Exception):
            raise self._transport.translated(watched, each.keys[0])
        lasts = [self._last_of(info, key) for info, key in zip(infos, each.keys, strict=True)]
        top, newest = lasts[-1]
        sequence = each.expected.sequence
        if top != (Position(sequence, 1) if sequence else START):
            raise conflict(each.partition, each.expected, top.generation)
        if sequence and (newest is None or proof(each.expected) not in newest):
            raise conflict(each.partition, each.expected, sequence)
        for stream, last in seals.covered(each.expected).items():
            place = STREAMS.index(stream)
            if stream != "seals" and lasts[place][0] > last:
                raise not_covered(each.partition, each.keys[place], lasts[place][0])

    def _last_of(self, info: Any, key: bytes) -> tuple[Position, bytes | None]:
        """A stream's last generated ID, and its last entry's payload."""
        if isinstance(info, ResponseError) and "no such key" in str(info):
            return START, None
        if isinstance(info, Exception):
            raise self._transport.translated(info, key)
        fields = dict(zip(info[::2], info[1::2], strict=True))
        entry = fields[b"last-entry"]
        return Position.parse(fields[b"last-generated-id"]), entry[1][1] if entry else None

    def _know(self, partition: int, head: Head, keys: tuple[bytes, ...]) -> None:
        if partition not in self._proven:
            self._watch = b""
        self._proven[partition] = head
        self._keys[partition] = keys
        transactions, feedback = b"%d-%d" % head.transactions, b"%d-%d" % head.feedback
        rejects, seal = b"%d-%b" % (head.sequence, _ID_MAX), b"%d-1" % head.sequence
        self._last[partition] = (transactions, transactions, transactions, feedback, rejects, seal)

    def _forget(self) -> None:
        self._proven.clear()
        self._watch = b""

    def _connect(self) -> None:
        """Have a live connection: the last one, or a new one if it was closed."""
        try:
            if self._connection is not None:
                try:
                    if self._is_same and not self._connection.can_read(0):
                        return
                except (RedisError, OSError):
                    pass
                self.drop()
            self._forget()
            self._connection = self._pool.get_connection()
            self._socket = _socket(self._connection)
        except RedisError as error:
            raise self._broken(error, b"") from None

    @property
    def _is_same(self) -> bool:
        """Whether the connection has been neither closed nor reopened."""
        return _socket(self._connection) is self._socket

    def _exchange(self, commands: Sequence[bytes]) -> list[Any]:
        self._write(commands, b"")
        return self._read(len(commands), b"")

    def _write(self, commands: Sequence[bytes], key: bytes) -> None:
        """Send on this very connection: redis-py would open another one, which watches nothing."""
        try:
            if not self._is_same:
                raise redis.ConnectionError("the connection was closed by this process")
            self._connection.send_packed_command([b"".join(commands)], check_health=False)
        except RedisError as error:
            raise self._broken(error, key) from None

    def _read(self, count: int, key: bytes) -> list[Any]:
        """Read `count` replies, errors as exceptions. Raises Lost if the connection breaks before the last."""
        replies: list[Any] = []
        reader = getattr(getattr(self._connection, "_parser", None), "_reader", None)
        try:
            while len(replies) < count:
                try:
                    replies.append(self._connection.read_response())
                except ResponseError as error:
                    replies.append(error)
                # redis-py takes 3 µs per reply, hiredis 0.1: replies that have arrived are read without redis-py.
                while isinstance(reader, hiredis.Reader) and len(replies) < count and reader.has_data():
                    reply = reader.gets()
                    if type(reply) is object:  # redis-py's marker for an incomplete reply
                        break
                    replies.append(reply)
        except RedisError as error:
            raise self._broken(error, key) from None
        except BaseException:
            self.drop()
            raise
        return replies

    def _broken(self, error: RedisError, key: bytes) -> SentinelError:
        self.drop()
        translated = self._transport.translated(error, key)
        assert isinstance(translated, SentinelError)
        return translated

    def drop(self) -> None:
        self._forget()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.disconnect()
            self._pool.release(connection)


def _socket(connection: Any) -> object:
    """An object that changes when redis-py reconnects."""
    return getattr(connection, "_sock", None)
