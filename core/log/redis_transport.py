"""Sends commands to a Redis or Valkey server or a Redis Cluster, and turns every failure into this project's errors.

Owns routing, pipelining and error translation. It must never send a command twice on its own, except one that the
server said it did not run (a cluster's redirection) and one that only reads: redis-py retries by default, and a write
whose reply is lost would run twice. It therefore drives redis-py's connections directly and avoids its retrying calls.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.connection import ConnectionPool
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    MaxConnectionsError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry

from core.errors import BadInput, Corrupt, SentinelError, Unavailable

REDIRECTS_MAX = 16
TRY_AGAIN_SECONDS = 0.05
_ASKING = hiredis.pack_command((b"ASKING",))


class Lost(Unavailable):
    """The connection broke or timed out: it is unknown whether the command ran."""


class NoScript(Unavailable):
    """The server does not have the script (it was restarted, or it is new): the command did not run."""


_NOT_COMPILED = ("unexpected symbol near '#'", "scripting engine", "flag in script shebang")
"""What servers say of a script's first line that they don't know."""


class NotCompiled(Unavailable):
    """The server's version does not know the script's language: the command did not run."""


class NotPermitted(Unavailable):
    """The user has no permission to run the command."""


class Request(NamedTuple):
    """A command as RESP bytes, and one of its keys, which determines the node in a cluster."""

    key: bytes
    packed: bytes


def request(key: bytes, *arguments: bytes | str | int) -> Request:
    """Pack a command. 0.1 µs per argument."""
    return Request(key, hiredis.pack_command(arguments))  # type: ignore[arg-type]  # its stub allows one argument only


class Transport:
    """A client's connections. Thread-safe, like the client's connection pools; never uses its retry settings."""

    def __init__(self, client: redis.Redis | RedisCluster) -> None:
        """Raises BadInput if the client decodes replies: the log's entries are bytes."""
        if client.get_connection_kwargs().get("decode_responses"):
            raise BadInput("the event log needs a Redis client with decode_responses=False")
        self._client = client
        self._cluster: Any = client if isinstance(client, RedisCluster) else None  # redis-py types half of it
        self._pool = None if isinstance(client, RedisCluster) else client.connection_pool

    def call(self, command: Request) -> Any:
        """Send one command and return its raw reply. Raises SentinelError (Lost, NoScript, Unavailable, …)."""
        reply = self.call_many([command])[0]
        if isinstance(reply, SentinelError):
            raise reply
        return reply

    def read(self, command: Request) -> Any:
        """`call` for a command that only reads: sent once more if the connection broke."""
        try:
            return self.call(command)
        except Lost:
            return self.call(command)

    def call_many(self, commands: Sequence[Request]) -> list[Any]:
        """Send commands in one pipeline per node, to all nodes before the first reply is awaited.

        Each result is a raw reply or the SentinelError of that command alone.
        """
        return self.start_many(commands).replies()

    def start_many(self, commands: Sequence[Request]) -> Started:
        """`call_many` in two halves: `replies` must be called later, and also reports what could not be sent."""
        return Started(self, commands)

    @property
    def pool(self) -> ConnectionPool | None:
        """The connections of a single server; None for a cluster, which has one pool per node."""
        return self._pool

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def address(self, key: bytes) -> str:
        """`host:port` of the server that holds the key, "?" where unknown."""
        try:
            arguments = self.route(key).connection_kwargs
        except RedisClusterException:
            arguments = {}
        return f"{arguments.get('host', '?')}:{arguments.get('port', '?')}"

    def route(self, key: bytes) -> ConnectionPool:
        if self._cluster is None:
            assert self._pool is not None
            return self._pool
        node = self._cluster.get_node_from_key(key)
        pool: ConnectionPool = self._cluster.get_redis_connection(node).connection_pool
        return pool

    def redirected(self, command: Request, reply: Any) -> Any:
        """Follow a cluster's redirections: a node that redirects has not run the command."""
        cluster = self._cluster
        for _ in range(REDIRECTS_MAX):
            prefix = []
            try:
                if isinstance(reply, MovedError):
                    cluster.nodes_manager.move_slot(reply)
                elif isinstance(reply, TryAgainError):
                    time.sleep(TRY_AGAIN_SECONDS)
                pool = self.route(command.key)
                if isinstance(reply, AskError) and not isinstance(reply, MovedError):
                    node = cluster.get_node(host=reply.host, port=reply.port)
                    if node is None:
                        return reply
                    pool = cluster.get_redis_connection(node).connection_pool
                    prefix = [_ASKING]
            except RedisClusterException as error:
                return error
            exchange = _Exchange(pool, [*prefix, command.packed])
            try:
                reply = exchange.replies()[-1]
            finally:
                exchange.close()
            if not isinstance(reply, AskError | TryAgainError):
                return reply
        return reply

    def refresh(self) -> None:
        """Reload the map of slots to nodes. If that fails the old map stays, and the next command says why."""
        try:
            self._cluster.nodes_manager.initialize()
        except (RedisError, RedisClusterException):
            return

    def translated(self, reply: Any, key: bytes) -> Any:
        """A redis-py error translated to ours; any other reply unchanged."""
        if isinstance(reply, RedisError | RedisClusterException):
            return translate(reply, self.address(key), in_cluster=self._cluster is not None)
        return reply


class Started:
    """Commands in flight, one pipeline per node; see Transport.call_many."""

    def __init__(self, transport: Transport, commands: Sequence[Request]) -> None:
        self._transport = transport
        self._commands = commands
        self._results: list[Any] = [None] * len(commands)
        self._exchanges: list[tuple[_Exchange, list[int]]] = []
        groups: dict[int, tuple[ConnectionPool, list[int]]] = {}
        for index, command in enumerate(commands):
            try:
                pool = transport.route(command.key)
            except RedisClusterException as error:
                self._results[index] = error
            else:
                groups.setdefault(id(pool), (pool, []))[1].append(index)
        for pool, indexes in groups.values():
            self._exchanges.append((_Exchange(pool, [commands[i].packed for i in indexes]), indexes))

    def replies(self) -> list[Any]:
        """Wait for every reply, following redirections. Each result is a raw reply or a SentinelError."""
        try:
            for exchange, indexes in self._exchanges:
                for index, reply in zip(indexes, exchange.replies(), strict=True):
                    self._results[index] = reply
        finally:
            for exchange, _ in self._exchanges:
                exchange.close()
        if self._transport.pool is None:
            for index, reply in enumerate(self._results):
                if isinstance(reply, AskError | TryAgainError):
                    self._results[index] = self._transport.redirected(self._commands[index], reply)
            if any(isinstance(reply, _STALE_MAP) for reply in self._results):
                self._transport.refresh()
        return [self._transport.translated(r, self._commands[i].key) for i, r in enumerate(self._results)]


class _Exchange:
    """One pipeline on one connection: sent on construction, read once, then closed."""

    def __init__(self, pool: ConnectionPool, packed: Sequence[bytes]) -> None:
        self._pool = pool
        self._count = len(packed)
        self._unread = len(packed)
        self._connection: Any = None
        self._failure: RedisError | None = None
        try:
            self._connection = pool.get_connection()
            self._connection.send_packed_command([b"".join(packed)])
        except RedisError as error:
            self._failure = error
        except BaseException:
            self.close()
            raise

    def replies(self) -> list[Any]:
        """A raw reply or a RedisError for each command; once the connection breaks, that error for all the others."""
        results: list[Any] = []
        while self._failure is None and len(results) < self._count:
            try:
                results.append(self._connection.read_response())
            except ResponseError as error:
                results.append(error)
            except RedisError as error:
                self._failure = error
                break
            self._unread -= 1
        results.extend([self._failure] * (self._count - len(results)))
        return results

    def close(self) -> None:
        """Release the connection. One with unread replies is disconnected first, or they would answer later calls."""
        if self._connection is not None:
            if self._unread:
                self._connection.disconnect()
            self._pool.release(self._connection)
            self._connection = None


_STALE_MAP = (redis.ConnectionError, redis.TimeoutError, ReadOnlyError, ClusterDownError, RedisClusterException)

_NOT_PERMITTED = ("NOPERM", "user executing the script can't", "ACL failure in script")

# Errors raised inside a script reach the client with or without a prefix, depending on the server's version, so these
# words are searched for in the whole text. The first match wins.
_REMEDIES: tuple[tuple[str, str], ...] = (
    ("OOM", "out of memory, and it must not evict: `sentinel archive --trim` frees memory, or raise maxmemory"),
    ("READONLY", "a read-only replica: point the settings at the primary"),
    ("MISCONF", "it cannot write to its disk: free space there, then try again"),
    ("NOREPLICAS", "too few replicas are connected (min-replicas-to-write)"),
    ("LOADING", "it is still loading its data: try again shortly"),
    ("BUSY", "a script keeps it busy: try again shortly"),
    ("TRYAGAIN", "the cluster is moving these keys between nodes: try again when it has"),
    ("CLUSTERDOWN", "the cluster does not serve all slots: check CLUSTER INFO"),
    ("MASTERDOWN", "a replica without its primary: try again after the failover"),
    *((words, "the user may not do this: log in as one whose role may (docs/security.md)") for words in _NOT_PERMITTED),
)


def translate(error: RedisError | RedisClusterException, address: str, *, in_cluster: bool = False) -> SentinelError:
    """A redis-py error translated to ours: one line that names the server and, if known, the remedy."""
    where = f"event log server {address}"
    text = " ".join(str(error).split())
    if isinstance(error, NoScriptError):
        return NoScript(f"{where}: the script is not loaded")
    if any(words in text for words in _NOT_COMPILED):
        return NotCompiled(f"{where}: can't compile a script ({text})")
    if isinstance(error, AuthenticationError):
        return Unavailable(f"{where}: refused the user name or password ({text})")
    if isinstance(error, MovedError) and not in_cluster:
        return BadInput(f"{where}: is a node of a Redis Cluster: turn the cluster setting on")
    if isinstance(error, MaxConnectionsError):
        return Unavailable(f"{where}: too many connections from this process")
    if isinstance(error, BusyLoadingError):
        text = f"LOADING {text}"
    elif isinstance(error, InvalidResponse):
        return Lost(
            f"{where}: its answer can't be read ({text}): something on the way changes bytes, or is no log server"
        )
    elif isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return Lost(f"{where}: {text or type(error).__name__}")
    kinds: dict[type, str] = {
        TryAgainError: "TRYAGAIN",
        OutOfMemoryError: "OOM",
        ReadOnlyError: "READONLY",
        NoPermissionError: "NOPERM",
    }
    text = f"{kinds.get(type(error), '')} {text}".strip()
    for word, remedy in _REMEDIES:
        if word in text:
            kind = NotPermitted if word in _NOT_PERMITTED else Unavailable
            return kind(f"{where}: {remedy} ({text})")
    if "WRONGTYPE" in text:
        return Corrupt(f"{where}: a key of the log holds a type that the log does not write ({text})")
    return Unavailable(f"{where}: refused a command ({text})")


def open_client(
    host: str,
    port: int,
    *,
    cluster: bool = False,
    username: str | None = None,
    password: str | None = None,
    tls: bool = False,
    ca_file: str | None = None,
    certificate_file: str | None = None,
    key_file: str | None = None,
    timeout_s: float = 5.0,
    connect_timeout_s: float = 2.0,
) -> redis.Redis | RedisCluster:
    """A redis-py client that never retries. A cluster is contacted now, a single server at the first command.

    Raises Unavailable if the cluster can't be reached, BadInput if the server is not part of a cluster.
    """
    options: dict[str, Any] = {
        "username": username or None,
        "password": password or None,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": connect_timeout_s,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "decode_responses": False,
    }
    if tls:
        options |= {
            "ssl": True,
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_min_version": ssl.TLSVersion.TLSv1_2,
            "ssl_ca_certs": ca_file or None,
            "ssl_certfile": certificate_file or None,
            "ssl_keyfile": key_file or None,
        }
    if not cluster:
        return redis.Redis(host=host, port=port, retry_on_error=[], **options)
    try:
        return RedisCluster(host=host, port=port, **options)
    except RedisClusterException as error:
        text = " ".join(str(error).split())
        if "Cluster mode is not enabled" in text:
            raise BadInput(
                f"event log server {host}:{port}: is not a Redis Cluster: turn the cluster setting off"
            ) from None
        raise Unavailable(f"event log cluster at {host}:{port}: {text}") from None
    except RedisError as error:
        raise translate(error, f"{host}:{port}", in_cluster=True) from None
