"""The event log on Redis Streams: one server (Redis 6.2+, Valkey) or a Redis Cluster.

Keys, with the prefix `ss`; braces are Redis Cluster's hash tag, so that a partition's streams share a node:

    ss:{p07}:transactions … ss:{p07}:seals    the streams of partition 7; an entry is one field, `e`, with the payload
    ss:{control}:control                      the control stream
    ss:blob:<SHA-256>                         a blob, a plain string

On a cluster an append is one call of a script (`core.log.scripted_append`), on a single server a watched transaction
(`core.log.watched_append`). Either way the server logs the writes between MULTI and EXEC, so a crash keeps all or none
of them.

This module must never send a write a second time before it has read back the outcome of the first.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import redis
from redis.cluster import RedisCluster

from core.errors import BadInput, ConcurrencyError, Corrupt, SentinelError, Unavailable
from core.events import START, Position
from core.log import seals
from core.log.base import STREAMS, Batch, Entry, Head, PendingAppend, Sealed, Signer, Stream, check_digest
from core.log.redis_transport import Lost, NotCompiled, NotPermitted, Request, Transport, open_client, request
from core.log.scripted_append import ALWAYS, APPEND, Call, Scripted, ScriptedAppends, with_script
from core.log.watched_append import Append, InFlight, WatchedAppends, conflict, proof

GET_AT_ONCE = 500
"""What is asked for in one pipeline."""

POLL_S = 0.002
"""Between looks at a cluster's streams for new entries."""
BLOB_BYTES_MAX = 256 * 1024 * 1024
"""Redis refuses strings of 512 MiB by closing the connection."""

# KEYS: streams, the seals last. ARGV: the ID of the seal up to which to trim; text that its payload must contain; for
# each stream the first ID to keep. One script, so neither a crash nor a concurrent reader sees half of a trim.
TRIM = """
local seal = redis.call('XRANGE', KEYS[#KEYS], ARGV[1], ARGV[1])[1]
if not seal then return 'GONE' end
if not string.find(seal[2][2], ARGV[2], 1, true) then return 'OTHER' end
local removed = 0
for k = 1, #KEYS do
  removed = removed + redis.call('XTRIM', KEYS[k], 'MINID', '=', ARGV[2 + k])
end
return removed
"""


class _Pending:
    """A started append."""

    def __init__(self, log: RedisLog, appends: Sequence[Append], sent: InFlight | Scripted) -> None:
        self._log = log
        self._appends = appends
        self._sent = sent

    def results(self) -> list[Head | Exception]:
        """See PendingAppend. If a reply was lost, the outcome is read back from the log."""
        results: list[Head | Exception] = []
        unreachable: Unavailable | None = None
        for append, outcome in zip(self._appends, self._sent.outcomes(), strict=True):
            if not isinstance(outcome, Lost):
                results.append(outcome)
                continue
            try:
                if unreachable is not None:
                    raise unreachable
                results.append(self._log.resolved(append))
            except Lost as error:
                unreachable = error
                results.append(error)
            except SentinelError as error:
                results.append(error)
        return results


class RedisLog:
    """EventLog on a redis-py client, single server or cluster; its retry settings are not used. Thread-safe.

    Close the log, not the client.
    """

    def __init__(self, client: redis.Redis | RedisCluster, prefix: str = "ss") -> None:
        """Raises BadInput if the client decodes replies, or if the prefix has characters with a meaning in keys."""
        if not prefix or any(character in "{}*?[]\\ " for character in prefix):
            raise BadInput(f"the log prefix {prefix!r} must not be empty or contain braces, wildcards or spaces")
        self.signer: Signer | None = None
        self._transport = Transport(client)
        pool = self._transport.pool
        self._appends = ScriptedAppends(self._transport) if pool is None else WatchedAppends(self._transport, pool)
        self._prefix = prefix
        self._keys: dict[int, tuple[bytes, ...]] = {}
        self._control = f"{prefix}:{{control}}:control".encode()

    def key(self, partition: int, stream: Stream) -> bytes:
        """The Redis key of a partition's stream."""
        return f"{self._prefix}:{{p{partition:02d}}}:{stream}".encode()

    def head(self, partition: int) -> Head:
        """See EventLog. Also raises Corrupt if all seals were trimmed away: the last one must always be kept."""
        key = self.key(partition, "seals")
        for _ in range(2):
            newest = self._newest(key)
            if newest is not None:
                return seals.head_from_entry(newest)
            if self._last_id(key) == START:
                return Head()
            # The first seal may have been appended between the two reads; the second round finds it.
        raise Corrupt(f"partition {partition} has lost its head: its stream of seals was emptied")

    def append(self, partition: int, batch: Batch, expected: Head) -> Head:
        result = self.append_many([(partition, batch, expected)])[0]
        if isinstance(result, Exception):
            raise result
        return result

    def append_many(self, batches: Sequence[tuple[int, Batch, Head]]) -> list[Head | Exception]:
        """See EventLog. Every batch is checked and sealed before the first is sent."""
        results: list[Head | Exception] = [Head()] * len(batches)
        good: dict[int, tuple[int, Sealed]] = {}
        for index, (partition, batch, expected) in enumerate(batches):
            try:
                good[index] = (partition, seals.sealed(batch, expected))
            except BadInput as error:
                results[index] = error
        for index, outcome in zip(good, self.start_append(list(good.values())).results(), strict=True):
            results[index] = outcome
        return results

    def start_append(self, appends: Sequence[tuple[int, Sealed]]) -> PendingAppend:
        ready = [self._ready(partition, sealed) for partition, sealed in appends]
        return _Pending(self, ready, self._appends.start(ready))

    def read(
        self, partition: int, stream: Stream, after: Position = START, count: int = 1000, until: Position | None = None
    ) -> list[Entry]:
        """See EventLog. Raises Corrupt if an entry does not have the log's format."""
        return self._range(self.key(partition, stream), after, count, until)

    def follow(
        self, after: Mapping[tuple[int, Stream], Position], wait_ms: int, count: int = 1000
    ) -> dict[tuple[int, Stream], list[Entry]]:
        """See EventLog. One blocking XREAD on a single server; on a cluster, which can't wait for keys of several
        nodes at once, one XREAD a partition every POLL_S.
        """
        if not after:
            return {}
        if self._transport.pool is not None:
            return self._xread(after, count, wait_ms)
        deadline = time.monotonic() + wait_ms / 1000
        parts = [{key: after[key] for key in after if key[0] == p} for p in {partition for partition, _ in after}]
        while True:
            found: dict[tuple[int, Stream], list[Entry]] = {}
            for part in parts:
                found |= self._xread(part, count, 0)
            if found or time.monotonic() >= deadline:
                return found
            time.sleep(POLL_S)

    def _xread(
        self, after: Mapping[tuple[int, Stream], Position], count: int, wait_ms: int
    ) -> dict[tuple[int, Stream], list[Entry]]:
        keys = {self.key(*key): key for key in after}
        block: tuple[bytes | int, ...] = (b"BLOCK", wait_ms) if wait_ms > 0 else ()
        last = [str(position) for position in after.values()]
        command = request(next(iter(keys)), b"XREAD", b"COUNT", count, *block, b"STREAMS", *keys, *last)
        reply = self._transport.read(command) or []
        pages = reply.items() if isinstance(reply, dict) else reply  # a map in RESP3
        return {keys[name]: _entries(page) for name, page in pages}

    def begin(self, partition: int, stream: Stream) -> Position:
        return seals.beginning(self.read, partition, stream)

    def get(self, partition: int, stream: Stream, entry_id: Position) -> bytes | None:
        key = self.key(partition, stream)
        found = _entries(self._transport.read(request(key, b"XRANGE", key, str(entry_id), str(entry_id))))
        return found[0].payload if found else None

    def get_many(self, partition: int, stream: Stream, entry_ids: Sequence[Position]) -> list[bytes | None]:
        key = self.key(partition, stream)
        commands = [request(key, b"XRANGE", key, name, name) for name in map(str, entry_ids)]
        found = map(_entries, self._read_many(commands))
        return [entries[0].payload if entries else None for entries in found]

    def length(self, partition: int, stream: Stream) -> int:
        key = self.key(partition, stream)
        return int(self._transport.read(request(key, b"XLEN", key)))

    def trim(self, partition: int, up_to: Head) -> int:
        """See EventLog. Safe to send again: the second time there is nothing left to remove."""
        if up_to.sequence == 0:
            return 0
        keys = [self.key(partition, stream) for stream in STREAMS]
        keep = [_after(last) for last in seals.covered(up_to).values()]
        seal = f"{up_to.sequence}-1"
        reply = self._transport.read(request(keys[0], b"EVAL", TRIM, len(keys), *keys, seal, proof(up_to), *keep))
        if isinstance(reply, int):
            return reply
        first = self.read(partition, "seals", count=1)
        if reply == b"GONE" and first and first[0].id.generation > up_to.sequence:
            return 0
        raise ConcurrencyError(f"partition {partition}: seal {up_to.sequence} is not the expected one")

    def continue_after(self, partition: int, seal: Entry) -> None:
        """See EventLog. Safe to send again: the second time the seal is there."""
        call = Call((1, self.key(partition, "seals"), "0-0", b"", 1, str(seal.id), seal.payload))
        reply = self._transport.read(call.with_source)
        if reply != b"OK" and self.head(partition) != seals.head_from_entry(seal):
            raise ConcurrencyError(f"partition {partition} is not empty: it is at seal {self.head(partition).sequence}")

    def control_head(self) -> int:
        return self._last_id(self._control).generation

    def append_control(self, payloads: Sequence[bytes], expected: int) -> int:
        """See EventLog. A lost reply is resolved by comparing the events at the new positions with `payloads`."""
        arguments: list[bytes | str | int] = [_control_id(expected), b"", len(payloads)]
        for sequence, payload in enumerate(payloads, expected + 1):
            arguments += (_control_id(sequence), payload)
        call = Call((1, self._control, *arguments), ALWAYS + APPEND)
        reply = with_script(self._transport, [call], self._transport.call_many([call.by_digest]))[0]
        if isinstance(reply, NotCompiled):
            call = Call(call.arguments)
            reply = with_script(self._transport, [call], self._transport.call_many([call.by_digest]))[0]
        if isinstance(reply, Lost):
            if self._control_holds(payloads, expected):
                return expected + len(payloads)
            reply = self._transport.call_many([call.with_source])[0]
            if reply != b"OK" and self._control_holds(payloads, expected):
                return expected + len(payloads)
        if isinstance(reply, SentinelError):
            raise reply
        if reply != b"OK":
            raise ConcurrencyError(f"the control stream is at {self.control_head()}, not at {expected}")
        return expected + len(payloads)

    def read_control(self, after: int = 0, count: int = 1000) -> list[tuple[int, bytes]]:
        entries = self._range(self._control, Position(after, seals.ID_PART_MAX) if after else START, count, None)
        return [(entry_id.generation, payload) for entry_id, payload in entries]

    def put_blob(self, content: bytes) -> str:
        """See EventLog. Raises BadInput above `BLOB_BYTES_MAX`. Safe to send again: it is the same blob."""
        if len(content) > BLOB_BYTES_MAX:
            raise BadInput(f"a blob of {len(content):,} bytes is larger than {BLOB_BYTES_MAX:,}")
        digest = hashlib.sha256(content).hexdigest()
        key = self._blob_key(digest)
        self._transport.read(request(key, b"SET", key, content, b"NX"))
        return digest

    def get_blob(self, digest: str) -> bytes:
        key = self._blob_key(digest)
        content: bytes | None = self._transport.read(request(key, b"GET", key))
        if content is None:
            raise BadInput(f"the log holds no blob {digest}")
        if hashlib.sha256(content).hexdigest() != digest:
            raise Corrupt(
                f"the blob {digest} is not what was stored: its SHA-256 is {hashlib.sha256(content).hexdigest()}"
            )
        return content

    def held_blobs(self, digests: Sequence[str]) -> list[str]:
        commands = [request(key, b"EXISTS", key) for key in map(self._blob_key, digests)]
        return [digest for digest, held in zip(digests, self._read_many(commands), strict=True) if held]

    def remove_blob(self, digest: str) -> None:
        """See EventLog. Safe to send again: the second time there is nothing left to remove."""
        key = self._blob_key(digest)
        self._transport.read(request(key, b"UNLINK", key))

    def server_time(self) -> int | None:
        """See EventLog. On a cluster, the clock of the node that holds the control stream."""
        try:
            seconds, microseconds = self._transport.read(request(self._control, b"TIME"))
        except NotPermitted:
            return None
        return int(seconds) * 1000 + int(microseconds) // 1000

    def close(self) -> None:
        self._transport.close()

    def _read_many(self, commands: Sequence[Request]) -> Iterator[Any]:
        """The replies to commands that only read, GET_AT_ONCE in a pipeline; lost ones are asked for once more."""
        for begin in range(0, len(commands), GET_AT_ONCE):
            asked = commands[begin : begin + GET_AT_ONCE]
            for command, reply in zip(asked, self._transport.call_many(asked), strict=True):
                if isinstance(reply, SentinelError) and not isinstance(reply, Lost):
                    raise reply
                yield self._transport.read(command) if isinstance(reply, Lost) else reply

    def _blob_key(self, digest: str) -> bytes:
        return f"{self._prefix}:blob:{check_digest(digest)}".encode()

    def _ready(self, partition: int, sealed: Sealed) -> Append:
        batch, head = sealed.batch, sealed.head
        return Append(
            partition,
            sealed.expected,
            head,
            self._keys_of(partition),
            (*sealed.ids, (b"%d-1" % head.sequence,)),
            (
                batch.transactions,
                batch.scores,
                batch.alerts,
                batch.feedback,
                batch.rejects,
                (Entry(Position(head.sequence, 1), sealed.payload),),
            ),
        )

    def _keys_of(self, partition: int) -> tuple[bytes, ...]:
        if partition not in self._keys:
            self._keys[partition] = tuple(self.key(partition, stream) for stream in STREAMS)
        return self._keys[partition]

    def resolved(self, append: Append) -> Head:
        """The outcome of an append whose reply was lost. Sends it once more if it was not written.

        The seal after `expected` decides, even if others have followed. The first request may still arrive after the
        second; then whichever is later finds the other's seal and writes nothing.
        """
        found = self._seal_after(append)
        if found is None:
            outcome = self._appends.start([append]).outcomes()[0]
            if isinstance(outcome, Head):
                return outcome
            found = self._seal_after(append)
            if found is None:
                raise outcome
        if found.digest != append.head.digest:
            raise conflict(append.partition, append.expected, found.sequence)
        return found

    def _seal_after(self, append: Append) -> Head | None:
        following = self.read(append.partition, "seals", Position(append.expected.sequence, 1), count=1)
        return seals.head_from_entry(following[0]) if following else None

    def _control_holds(self, payloads: Sequence[bytes], after: int) -> bool:
        stored = [payload for _, payload in self.read_control(after, len(payloads))]
        return bool(payloads) and stored == list(payloads)

    def _newest(self, key: bytes) -> Entry | None:
        found = _entries(self._transport.read(request(key, b"XREVRANGE", key, b"+", b"-", b"COUNT", b"1")))
        return found[0] if found else None

    def _last_id(self, key: bytes) -> Position:
        """The last generated ID, also of a stream that was trimmed to empty; `START` if the stream never existed."""
        newest = self._newest(key)
        if newest is not None:
            return newest.id
        if not self._transport.read(request(key, b"EXISTS", key)):
            return START
        info = self._transport.read(request(key, b"XINFO", b"STREAM", key))
        return Position.parse(dict(zip(info[::2], info[1::2], strict=True))[b"last-generated-id"])

    def _range(self, key: bytes, after: Position, count: int, until: Position | None) -> list[Entry]:
        if count <= 0 or (until is not None and until <= after):
            return []
        end = "+" if until is None else str(until)
        return _entries(self._transport.read(request(key, b"XRANGE", key, f"({after}", end, b"COUNT", count)))


def connect(
    host: str,
    port: int = 6379,
    *,
    cluster: bool = False,
    username: str | None = None,
    password: str | None = None,
    tls: bool = False,
    ca_file: str | None = None,
    certificate_file: str | None = None,
    key_file: str | None = None,
    prefix: str = "ss",
    timeout_s: float = 5.0,
    connect_timeout_s: float = 2.0,
) -> RedisLog:
    """The event log of a server. A cluster is contacted now, a single server at the first call.

    ca_file: PEM of the authorities to trust instead of the system's. certificate_file, key_file: this client's own, for
    servers that ask for one. timeout_s: for one reply.
    Raises Unavailable if the cluster can't be reached, BadInput if the server is not part of a cluster or the prefix is
    not valid.
    """
    client = open_client(
        host,
        port,
        cluster=cluster,
        username=username,
        password=password,
        tls=tls,
        ca_file=ca_file,
        certificate_file=certificate_file,
        key_file=key_file,
        timeout_s=timeout_s,
        connect_timeout_s=connect_timeout_s,
    )
    return RedisLog(client, prefix)


def _after(position: Position) -> str:
    """The smallest ID above `position`."""
    generation, offset = position
    return f"{generation + 1}-0" if offset == seals.ID_PART_MAX else f"{generation}-{offset + 1}"


def _control_id(sequence: int) -> str:
    return f"{sequence}-1" if sequence else "0-0"


_position = partial(tuple.__new__, Position)
_entry = partial(tuple.__new__, Entry)


def _entries(reply: Any) -> list[Entry]:
    """XRANGE's raw reply, `[[id, [field, value]], …]`, as entries. 0.5 µs per entry: C builds all the tuples."""
    payloads = []
    for raw, fields in reply:
        if len(fields) != 2 or fields[0] != b"e":
            raise Corrupt(f"log entry {raw.decode()} does not have the log's format: its fields are {fields[::2]}")
        payloads.append(fields[1])
    if not payloads:
        return []
    parts = list(map(int, b"-".join([raw for raw, _ in reply]).split(b"-")))
    return list(map(_entry, zip(map(_position, zip(parts[::2], parts[1::2], strict=True)), payloads, strict=True)))
