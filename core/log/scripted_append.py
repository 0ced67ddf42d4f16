"""Appends by script, one call per partition: for a Redis Cluster, where no transaction spans two slots.

The script checks everything before its first write: Redis does not roll back a script that fails midway. Whatever can
still make a write fail (memory, disk, a replica) fails the first one. The control stream uses the same script.

Cost: the server reads the state of every stream it writes to (XINFO) before the first XADD of an append.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import SentinelError
from core.log.redis_transport import NoScript, Request, Transport, request
from core.log.watched_append import Append, Outcome, conflict, not_covered, proof

# KEYS: streams; the last one holds the head. ARGV: the head's expected ID ("0-0": empty); text that the head's payload
# must contain; for each stream, the number of entries to add; then (ID, payload) of every entry, stream by stream. IDs
# are compared as text, by length first: Lua's numbers are exact only to 2^53.
APPEND = """
local function last(key)
  if redis.call('EXISTS', key) == 0 then return '0-0', '' end
  local info, id, payload = redis.call('XINFO', 'STREAM', key), '', ''
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then id = info[i + 1]
    elseif info[i] == 'last-entry' and info[i + 1] then payload = info[i + 1][2][2] end
  end
  return id, payload
end
local function less(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end
local function below(a, b)
  local a1, a2 = string.match(a, '(%d+)-(%d+)')
  local b1, b2 = string.match(b, '(%d+)-(%d+)')
  if a1 ~= b1 then return less(a1, b1) end
  return less(a2, b2)
end
local head, payload = last(KEYS[#KEYS])
if head ~= ARGV[1] or not string.find(payload, ARGV[2], 1, true) then return 'HEAD ' .. head end
local first = 3 + #KEYS
for k = 1, #KEYS do
  local count = tonumber(ARGV[2 + k])
  if count > 0 then
    local top = last(KEYS[k])
    if not below(top, ARGV[first]) then return 'TOP ' .. top .. ' ' .. KEYS[k] end
    first = first + 2 * count
  end
end
local at = 3 + #KEYS
for k = 1, #KEYS do
  for _ = 1, tonumber(ARGV[2 + k]) do
    redis.call('XADD', KEYS[k], ARGV[at], 'e', ARGV[at + 1])
    at = at + 2
  end
end
return 'OK'
"""
ALWAYS = "#!lua flags=allow-oom\n"
"""Before a script, lets it write although the server is out of memory (Redis 7.0, all of Valkey).

Only the control stream is appended to so: a full server must still record what frees its memory (archiving and
trimming) and what people decide meanwhile. Its events are few and small.
"""


def _digest(source: str) -> bytes:
    return hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest().encode()


DIGESTS = {source: _digest(source) for source in (APPEND, ALWAYS + APPEND)}


@dataclass(frozen=True, slots=True)
class Call:
    """An append as the script's arguments, number of keys first; and the script's source."""

    arguments: tuple[bytes | str | int, ...]
    source: str = APPEND

    @classmethod
    def of(cls, append: Append) -> Call:
        """A sealed batch."""
        sequence = append.expected.sequence
        arguments: list[bytes | str | int] = [f"{sequence}-{min(sequence, 1)}", proof(append.expected)]
        arguments += map(len, append.ids)
        for ids, entries in zip(append.ids, append.entries, strict=True):
            for each, (_, payload) in zip(ids, entries, strict=True):
                arguments += (each, payload)
        return cls((len(append.keys), *append.keys, *arguments))

    @property
    def by_digest(self) -> Request:
        """The call for a server that already has the script."""
        return request(self._key, b"EVALSHA", DIGESTS[self.source], *self.arguments)

    @property
    def with_source(self) -> Request:
        """The same call including the script's source, for any server."""
        return request(self._key, b"EVAL", self.source, *self.arguments)

    @property
    def _key(self) -> bytes:
        key = self.arguments[1]
        assert isinstance(key, bytes)
        return key


class ScriptedAppends:
    """Appends by script, one call per partition: for a cluster, where no transaction spans two slots."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def start(self, appends: Sequence[Append]) -> Scripted:
        """Send them. `outcomes` of the result must be called."""
        return Scripted(self._transport, appends)


class Scripted:
    """Script calls in flight."""

    def __init__(self, transport: Transport, appends: Sequence[Append]) -> None:
        self._transport = transport
        self._appends = appends
        self._calls = [Call.of(append) for append in appends]
        self._started = transport.start_many([call.by_digest for call in self._calls])

    def outcomes(self) -> list[Outcome]:
        """Wait for the servers' answers: one outcome per append."""
        replies = with_script(self._transport, self._calls, self._started.replies())
        return [_judged(append, reply) for append, reply in zip(self._appends, replies, strict=True)]


def with_script(transport: Transport, calls: Sequence[Call], replies: list[Any]) -> list[Any]:
    """Repeat the calls whose server does not have the script, with its source: nothing ran the first time."""
    unknown = [index for index, reply in enumerate(replies) if isinstance(reply, NoScript)]
    for index, reply in zip(unknown, transport.call_many([calls[i].with_source for i in unknown]), strict=True):
        replies[index] = reply
    return replies


def _judged(append: Append, reply: Any) -> Outcome:
    """The new head if the script's reply says so, else the error."""
    if isinstance(reply, SentinelError):
        return reply
    if reply == b"OK":
        return append.head
    kind, _, rest = bytes(reply).decode().partition(" ")
    if kind == "HEAD":
        return conflict(append.partition, append.expected, int(rest.partition("-")[0]))
    top, _, key = rest.partition(" ")
    return not_covered(append.partition, key.encode(), top)
