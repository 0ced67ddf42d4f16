"""What is wrong with the log's server: persistence, eviction, memory, and the user's rights on it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import redis
from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError

from console import wiring
from console.tables import span_text
from core.log.redis_transport import open_client, translate
from core.settings import Settings

REDIS_MINIMUM = (6, 2)
MEMORY_SHARE_MAX, MEMORY_SHARE_UNLIMITED = 0.9, 0.6
"""Of the machine's memory: what maxmemory may be at most; what a server without it may use before that is said."""
CLOCK_S, CLOCK_FAIL_S = 2.0, 60.0
"""How far apart clocks may be; beyond the second, payments are soon rejected for their times (`core.receipt`)."""
VALKEY_TRUNCATES_WHOLE = (9, 1, 2)
"""Redis, and earlier Valkey versions, truncate an append-only file within a transaction (valkey-io/valkey#4342)."""

_STREAM: tuple[tuple[str | int | None, ...], ...] = (
    *(("EXISTS", None), ("XLEN", None), ("XRANGE", None, "-", "+"), ("XREVRANGE", None, "+", "-")),
    *(("XINFO STREAM", None), ("XREAD", "STREAMS", None, "0"), ("XADD", None, "NOMKSTREAM", "*", "e", "")),
    *(("EVAL", "return 1", 1, None), ("EVALSHA", "0" * 40, 1, None), ("WATCH", None)),
    *(("MULTI",), ("EXEC",), ("MULTI",), ("DISCARD",), ("TIME",)),
)
COMMANDS = {
    "partitions": ("{p00}:", _STREAM),
    "control stream": ("{control}:", _STREAM),
    "blobs": ("blob:", (("GET", None), ("SET", None, "", "XX"))),
}
"""The commands that a worker sends to a single server, by the keys that they are on: how those keys begin after the
log's prefix, and the commands; None is replaced by a key.
"""

Status = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """The outcome of one check; `remedy` is "" if no action is needed."""

    check: str
    status: Status
    message: str
    remedy: str = ""


def log_server_findings(s: Settings) -> Iterator[Finding]:
    """Each server's state, and whether it takes the log's commands from this user. Raises Unavailable."""
    with _nodes(s) as nodes:
        for node in nodes:
            name = f"log server {_address(node, s)}"
            yield from node_findings(node, name)
            yield from clock_findings(node, name)
            yield from _acceptance(node, name, s)


def node_findings(node: redis.Redis, name: str) -> Iterator[Finding]:
    """Checks of one log server, from its INFO and CONFIG."""
    try:
        info = node.info()
        settings = {key: str(value) for key, value in node.config_get("maxmemory*", "a*").items()}
    except NoPermissionError:
        yield Finding(
            name,
            "warn",
            "the user has no permission to run INFO and CONFIG GET: persistence and eviction are not checked",
            "run `sentinel doctor` once as a user who has it",
        )
        return
    version = _version(info)
    yield Finding(name, "ok", version)
    if tuple(int(part) for part in str(info["redis_version"]).split(".")[:2]) < REDIS_MINIMUM:
        yield Finding(name, "fail", f"{version} is too old", "upgrade to 6.2 or newer")
    if info.get("role") == "slave":
        yield Finding(
            name,
            "fail",
            "is a replica: it lags behind its primary, and workers can't append",
            f"point the settings at the primary, {info.get('master_host')}:{info.get('master_port')}",
        )
    if settings.get("maxmemory-policy") != "noeviction":
        yield Finding(
            name,
            "fail",
            f"maxmemory-policy is {settings.get('maxmemory-policy')}: the server may evict parts of the log",
            "run CONFIG SET maxmemory-policy noeviction, and set it in the configuration file",
        )
    if settings.get("appendonly") != "yes":
        yield Finding(
            name, "fail", "appendonly is off: a restart loses the log", "set appendonly yes and appendfsync always"
        )
    elif settings.get("appendfsync") != "always":
        yield Finding(
            name,
            "warn",
            f"appendfsync is {settings.get('appendfsync')}: after a crash, the last second is decided again",
            "set appendfsync always if published decisions must never change",
        )
    fixed = tuple(int(part) for part in str(info.get("valkey_version", "0")).split(".")) >= VALKEY_TRUNCATES_WHOLE
    if settings.get("aof-load-truncated") == "yes" and not fixed:
        yield Finding(
            name,
            "warn",
            "aof-load-truncated is yes: if a power failure truncates the file within an append, this version loads it,"
            " but loses all later appends at the next restart",
            "set aof-load-truncated no; if the server then refuses to start, run redis-check-aof --fix",
        )
    if str(info.get("aof_last_write_status", "ok")) != "ok":
        yield Finding(name, "fail", "its last write to disk failed", "free disk space")
    if str(info.get("aof_last_bgrewrite_status", "ok")) != "ok":
        remedy = "give its disk as much free space as the log takes, then run BGREWRITEAOF"
        yield Finding(name, "warn", "its last rewrite of the append-only file failed: the file only grows", remedy)
    yield from _memory(info, name)


def _memory(info: Mapping[str, Any], name: str) -> Iterator[Finding]:
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    machine = int(info.get("total_system_memory", 0))
    if machine and (limit > MEMORY_SHARE_MAX * machine or (not limit and used > MEMORY_SHARE_UNLIMITED * machine)):
        what = (
            f"maxmemory is {limit / machine:.0%}"
            if limit
            else f"there is no maxmemory, and it uses {used / machine:.0%}"
        )
        yield Finding(
            name,
            "warn",
            f"{what} of the machine's memory: when that is full, the system kills it instead of refusing a batch",
            "set maxmemory to at most 80% of the machine's memory, and run `sentinel archive --trim`",
        )
    if limit and used > 0.8 * limit:
        yield Finding(
            name,
            "fail" if used >= limit else "warn",
            f"{used / limit:.0%} of maxmemory is used" + (": it refuses every batch" if used >= limit else ""),
            "run `sentinel archive --trim`, which works on a full server too, or raise maxmemory",
        )


def clock_findings(node: redis.Redis, name: str) -> Iterator[Finding]:
    """Whether its clock and this machine's agree."""
    begin = time.time()
    try:
        seconds, microseconds = node.time()
    except NoPermissionError:
        return
    took = time.time() - begin
    apart = seconds + microseconds / 1e6 - (begin + took / 2)
    if abs(apart) > CLOCK_S + took / 2:
        side = "ahead of" if apart > 0 else "behind"
        yield Finding(
            name,
            "fail" if abs(apart) > CLOCK_FAIL_S else "warn",
            f"its clock is {span_text(abs(apart) * 1000)} {side} this machine's: a wrong clock rejects payments as of"
            " the future or the past, and dates seals wrongly",
            "run chrony or another NTP client on both, and find out which is wrong",
        )


def _acceptance(node: redis.Redis, name: str, s: Settings) -> Iterator[Finding]:
    """Whether the server accepts every command of the log from this user: on the streams of a partition, the control
    stream and the blobs. On a missing key, none of these commands has an effect.
    """
    missing: dict[str, list[str]] = {}
    refusals: dict[str, None] = {}
    with node.client() as connection:
        for what, (tag, commands) in COMMANDS.items():
            key = f"{s.log_prefix}:{tag}no-such-key"
            for command, *arguments in commands:
                try:
                    connection.execute_command(command, *(key if each is None else each for each in arguments))
                except NoPermissionError:
                    missing.setdefault(what, []).append(str(command))
                except redis.ResponseError as error:
                    text = str(translate(error, name))
                    if isinstance(error, ReadOnlyError | OutOfMemoryError) or "MISCONF" in text:
                        refusals[text.partition(": ")[2]] = None
    for text in refusals:
        yield Finding(name, "fail", f"refuses to write: {text}", "no worker can append until it accepts writes again")
    for what, refused in missing.items():
        yield Finding(
            "log server permissions",
            "fail",
            f"the user has no permission to run {', '.join(dict.fromkeys(refused))} on keys of the {what}"
            f" (prefix {s.log_prefix}:)",
            "a worker needs them: use the role `worker`, or `admin` for this check (docs/security.md)",
        )


class ServerFacts(NamedTuple):
    """A log server as it describes itself. version: "" if the user may not ask; memory_max_bytes: 0 for no limit."""

    address: str
    version: str
    memory_bytes: int
    memory_max_bytes: int
    clients: int
    uptime_s: int


def log_servers(s: Settings) -> list[ServerFacts]:
    """The primaries of the log. Raises Unavailable."""
    with _nodes(s) as nodes:
        return [_facts(node, s) for node in nodes]


def _facts(node: redis.Redis, s: Settings) -> ServerFacts:
    address = _address(node, s)
    try:
        info = node.info()
    except NoPermissionError:
        return ServerFacts(address, "", 0, 0, 0, 0)
    return ServerFacts(
        address,
        _version(info),
        int(info.get("used_memory", 0)),
        int(info.get("maxmemory", 0)),
        int(info.get("connected_clients", 0)),
        int(info.get("uptime_in_seconds", 0)),
    )


def _version(info: Mapping[str, Any]) -> str:
    version = str(info.get("valkey_version") or info["redis_version"])
    return f"{'Valkey' if 'valkey_version' in info else 'Redis'} {version}"


def _address(node: redis.Redis, s: Settings) -> str:
    where = node.get_connection_kwargs()
    return f"{where.get('host', s.redis_host)}:{where.get('port', s.redis_port)}"


@contextmanager
def _nodes(s: Settings) -> Iterator[list[redis.Redis]]:
    """Clients of the log's servers; their errors are translated."""
    client = open_client(**wiring.server(s))
    try:
        if s.redis_cluster:
            yield [node.redis_connection for node in client.get_primaries()]  # type: ignore[union-attr]
        else:
            yield [client]  # type: ignore[list-item]
    except redis.RedisError as error:
        raise translate(error, f"{s.redis_host}:{s.redis_port}") from None
    finally:
        client.close()
