"""`sentinel doctor`: checks that everything is reachable and configured so that no data can be lost. Each finding says
how to fix it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import redis
import typer
from confluent_kafka import KafkaException
from confluent_kafka.admin import ConfigResource, ResourceType
from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError

from console import wiring
from console.edge_report import bound_findings, identity_findings
from console.options import Config, Json, KafkaServers, LogPrefix, RedisHost, RedisPort
from console.respond_report import responder_findings
from core import control_stream
from core.context import NO_MODEL
from core.control import ControlState
from core.errors import Corrupt, SentinelError
from core.log import paging
from core.log.base import STREAMS, EventLog
from core.log.redis_transport import open_client, translate
from core.settings import Settings
from core.times import HOUR_MS
from ingest import backlog, bootstrap, evidence, kafka_client, losses
from ingest.ownership import sources_of

REDIS_MINIMUM = (6, 2)
VALKEY_TRUNCATES_WHOLE = (9, 1, 2)
"""Redis, and earlier Valkey versions, truncate an append-only file within a transaction (valkey-io/valkey#4342)."""

COMMANDS: tuple[tuple[str | int | None, ...], ...] = (
    *(("EXISTS", None), ("GET", None), ("XLEN", None), ("XRANGE", None, "-", "+"), ("XREVRANGE", None, "+", "-")),
    *(("XINFO STREAM", None), ("XREAD", "STREAMS", None, "0"), ("SET", None, "", "XX")),
    *(("XADD", None, "NOMKSTREAM", "*", "e", ""), ("EVAL", "return 1", 1, None), ("EVALSHA", "0" * 40, 1, None)),
    *(("WATCH", None), ("MULTI",), ("EXEC",), ("MULTI",), ("DISCARD",), ("TIME",)),
)
"""The commands that a worker sends to a single server; None is replaced by a key."""

BACKLOG_S = 3.0
"""How long to watch whether a backlog moves."""

Status = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """The outcome of one check; `remedy` is "" if no action is needed."""

    check: str
    status: Status
    message: str
    remedy: str = ""


def doctor(
    config: Config = None,
    kafka_servers: KafkaServers = None,
    redis_host: RedisHost = None,
    redis_port: RedisPort = None,
    log_prefix: LogPrefix = None,
    as_json: Json = False,
) -> None:
    """Check servers, topics, persistence, the log and the model. Exit code 1 if a check fails.

    Reads only, except for one temporary file in the snapshot directory.
    """
    s = wiring.settings(
        config, kafka_servers=kafka_servers, redis_host=redis_host, redis_port=redis_port, log_prefix=log_prefix
    )
    findings = [finding for check in CHECKS for finding in _guarded(check, s)]
    if as_json:
        print(msgspec.json.encode([f._asdict() for f in findings]).decode())
    else:
        for f in findings:
            mark = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}[f.status]
            print(f"{mark}  {f.check}: {f.message}")
            if f.remedy:
                print(f"      → {f.remedy}")
    failed = sum(f.status == "fail" for f in findings)
    if failed:
        if not as_json:
            print(f"{failed} problem{'s' if failed > 1 else ''} found", file=sys.stderr)
        raise typer.Exit(1)


def _guarded(check: Callable[[Settings], Iterator[Finding]], s: Settings) -> Iterator[Finding]:
    try:
        yield from check(s)
    except SentinelError as error:
        yield Finding(check.__name__.strip("_"), "fail", str(error))


def _kafka(s: Settings) -> Iterator[Finding]:
    names = {"transactions": s.transactions_topic, "feedback": s.feedback_topic}
    optional = {"decisions": s.decisions_topic, "dead letters": s.dead_letter_topic}
    found = kafka_client.describe(s, [name for name in [*names.values(), *optional.values()] if name])
    yield Finding("kafka", "ok", f"reachable at {s.kafka_servers}")
    for role, name in names.items():
        topic = found[name]
        if topic is None:
            yield Finding(
                f"topic {name}", "fail", f"missing ({role})", "create it, or start `sentinel ingest --create-topics`"
            )
        else:
            yield Finding(f"topic {name}", "ok", f"{topic.partitions} partitions")
            yield from _retention(s, name)
    for role, name in optional.items():
        if name and found[name] is None:
            yield Finding(f"topic {name}", "warn", f"missing ({role})", 'create it, or set it to "" to publish nothing')
    a, b = (found[name] for name in names.values())
    if a is not None and b is not None and a.partitions != b.partitions:
        yield Finding(
            "co-partitioning",
            "fail",
            f"{a.name} has {a.partitions} partitions, {b.name} has {b.partitions}",
            f"create both with the same number; producers must use the same partitioner ({s.partitioner}) and key"
            " (account_id)",
        )


def _retention(s: Settings, name: str) -> Iterator[Finding]:
    resource = ConfigResource(ResourceType.TOPIC, name)
    try:
        client = kafka_client.admin(s)  # must outlive its futures
        futures = client.describe_configs([resource], request_timeout=kafka_client.ADMIN_TIMEOUT_S)
        values = futures[resource].result(kafka_client.ADMIN_TIMEOUT_S)
    except (KafkaException, TimeoutError) as error:
        yield Finding(f"topic {name}", "warn", f"can't read its configuration ({error})")
        return
    policy = values["cleanup.policy"].value if "cleanup.policy" in values else "delete"
    if "compact" in str(policy):
        yield Finding(
            f"topic {name}",
            "fail",
            "is compacted: messages can be removed before they are decided",
            "set cleanup.policy=delete",
        )
    kind = values["message.timestamp.type"].value if "message.timestamp.type" in values else ""
    if kind == "LogAppendTime":
        yield Finding(f"topic {name}", "ok", "messages are received when the broker appended them (LogAppendTime)")
    elif kind:
        yield Finding(
            f"topic {name}",
            "warn",
            f"has message.timestamp.type={kind}: messages are received when a worker takes them, so a backlog looks"
            " like a burst",
            "set message.timestamp.type=LogAppendTime (docs/history.md)",
        )
    hours = int(values["retention.ms"].value) / HOUR_MS if "retention.ms" in values else -1
    if 0 <= hours < 24:
        yield Finding(
            f"topic {name}",
            "warn",
            f"retains messages for {hours:.0f} h: they are lost if no worker runs for longer than that",
            "set retention.ms to at least a few days",
        )


def log_server_findings(s: Settings) -> Iterator[Finding]:
    address = f"{s.redis_host}:{s.redis_port}"
    client = open_client(**wiring.server(s))
    try:
        nodes: list[redis.Redis] = (
            [node.redis_connection for node in client.get_primaries()] if s.redis_cluster else [client]  # type: ignore[union-attr,list-item]
        )
        for node in nodes:
            where = node.get_connection_kwargs()
            name = f"log server {where.get('host', s.redis_host)}:{where.get('port', s.redis_port)}"
            yield from node_findings(node, name)
            yield from _acceptance(node, name, s)
    except redis.RedisError as error:
        raise translate(error, address) from None
    finally:
        client.close()


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
    version = str(info.get("valkey_version") or info["redis_version"])
    yield Finding(name, "ok", f"{'Valkey' if 'valkey_version' in info else 'Redis'} {version}")
    if tuple(int(part) for part in str(info["redis_version"]).split(".")[:2]) < REDIS_MINIMUM:
        yield Finding(name, "fail", f"version {version} is too old", "upgrade to 6.2 or newer")
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
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if limit and used > 0.8 * limit:
        yield Finding(
            name,
            "fail" if used >= limit else "warn",
            f"{used / limit:.0%} of maxmemory is used" + (": it refuses every batch" if used >= limit else ""),
            "run `sentinel archive --trim`, which works on a full server too, or raise maxmemory",
        )


def _acceptance(node: redis.Redis, name: str, s: Settings) -> Iterator[Finding]:
    """Whether the server accepts every command of the log from this user: on the streams of a partition, the control
    stream and the blobs. On a missing key, none of these commands has an effect.
    """
    tags = {"partitions": "{p00}:", "control stream": "{control}:", "blobs": "blob:"}
    missing: dict[str, list[str]] = {}
    refusals: dict[str, None] = {}
    with node.client() as connection:
        for what, tag in tags.items():
            key = f"{s.log_prefix}:{tag}no-such-key"
            for command, *arguments in COMMANDS:
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
    for what, commands in missing.items():
        yield Finding(
            "log server permissions",
            "fail",
            f"the user has no permission to run {', '.join(dict.fromkeys(commands))} on keys of the {what}"
            f" (prefix {s.log_prefix}:)",
            "grant the permissions that docs/settings.md lists",
        )


def log_findings(s: Settings) -> Iterator[Finding]:
    """What the log says of itself, and whether it fits the settings and the topics."""
    with closing(wiring.open_log(s)) as log:
        state = control_stream.current(log)
        if not state.generations:
            yield _empty(s, log)
            return
        yield Finding(
            "log",
            "ok",
            f"control position {state.position}, champion {state.champion.label if state.champion else 'none'}",
        )
        yield from degraded_findings(log, state)
        for check, ignored in bootstrap.ignored_settings(state, s).items():
            message, _, remedy = ignored.partition(". To change that, ")
            yield Finding(check, "warn", message, f"to change the log's value, {remedy}")
        yield from (Finding(*said) for said in identity_findings(s, log, state))
        yield from (Finding(*said) for said in bound_findings(s, state))
        opened = state.histories[-1] if state.histories else None
        if opened is not None and opened.ends is None:
            yield Finding(
                "history",
                "warn",
                f"history mode is on ({opened}): live messages are rejected",
                "if nothing is being loaded, run sentinel history stop",
            )
        yield from _positions(s, log)
        yield from (Finding(*said) for said in responder_findings(s, log))


def degraded_findings(log: EventLog, state: ControlState) -> Iterator[Finding]:
    """What decisions lack: here, and as the workers reported."""
    absent = wiring.open_resolver(log).unavailable(state)
    if state.champion is None:
        yield Finding(
            "log",
            "fail",
            f"decisions would be degraded: {NO_MODEL}",
            "promote a model; to let rules alone decide, run `sentinel model register --rules-only` and promote that",
        )
    for why in absent.values():
        yield Finding("log", "fail", f"decisions would be degraded: {why}", "deploy a model that can be loaded")
    for partition, artifacts in sorted(state.missing.items()):
        named = ", ".join(digest[:16] for digest in artifacts)
        yield Finding(
            f"partition {partition}",
            "fail",
            f"is decided without {named}, which its worker could not load",
            "its log says why; it ends when the artifact loads, there or in another worker that owns the partition",
        )


def _empty(s: Settings, log: EventLog) -> Finding:
    found = evidence.of_earlier_log(log, s, bootstrap.source_topics(s)["transactions"])
    if not found:
        return Finding("log", "ok", f"empty (prefix {s.log_prefix!r}); the first `sentinel ingest` sets it up")
    return Finding(
        "log",
        "fail",
        f"empty (prefix {s.log_prefix!r}), but there was one before: {'; '.join(each.what for each in found)}",
        "restore the log server's backup, or correct its address or the prefix; see docs/failures.md",
    )


def _parked(s: Settings, log: EventLog, state: ControlState) -> Iterator[Finding]:
    for partition, code in sorted(state.parked.items()):
        yield Finding(
            f"partition {partition}",
            "fail",
            f"is parked ({code}): its messages are not decided",
            "see `sentinel partition show` and docs/failures.md",
        )
    for loss in losses.losses(log, s):
        yield Finding(
            f"partition {loss.partition}",
            "fail",
            f"Kafka deleted the {loss.role} messages {loss.first} … {loss.following - 1} before they were decided",
            "raise the topic's retention; `sentinel partition accept-loss` continues without them",
        )


def _backlog(s: Settings, log: EventLog, state: ControlState) -> Iterator[Finding]:
    """Whether messages wait in partitions that do not move."""

    def positions(partitions: Iterable[int]) -> dict[int, int]:
        return {p: sources_of(state, p).offsets(log.head(p))[0] for p in partitions}

    before = positions(range(state.generations["transactions"].partitions))
    waiting = backlog.waiting(s, before)
    if not waiting:
        return
    time.sleep(BACKLOG_S)
    stuck = sorted(p for p, offset in positions(waiting).items() if offset == before[p])
    if not stuck:
        return
    group = backlog.group_of(s)
    is_idle = group is not None and group.members == 0
    yield Finding(
        "backlog",
        "fail",
        f"messages wait in {len(stuck)} partitions ({', '.join(map(str, stuck[:10]))}), and none was decided in"
        f" {BACKLOG_S:.0f} s ({group or 'the broker does not describe the group'})",
        "start `sentinel ingest`"
        if is_idle
        else "look for ingest.owns_nothing, ingest.partition_stalled and ingest.partition_parked in the workers' logs",
    )


def _positions(s: Settings, log: EventLog) -> Iterator[Finding]:
    state = control_stream.current(log)
    topics = kafka_client.describe(s, [s.transactions_topic, s.feedback_topic])
    for role, name in (("transactions", s.transactions_topic), ("feedback", s.feedback_topic)):
        known, topic = state.generations.get(role), topics[name]
        if known is None or topic is None:
            continue
        if known.partitions != topic.partitions:
            yield Finding(
                f"topic {name}",
                "fail",
                f"has {topic.partitions} partitions, the log has {known.partitions}",
                "a log's partition count is fixed; use a new log prefix",
            )
        elif known.topic_id != topic.topic_id:
            yield Finding(
                f"topic {name}",
                "warn",
                "was recreated: a running worker begins a new generation within seconds, else the next start does",
            )
    yield from _parked(s, log, state)
    yield from _backlog(s, log, state)
    yield from _whole(log, state.generations["transactions"].partitions)
    decided = sum(log.length(p, "transactions") for p in range(state.generations["transactions"].partitions))
    yield Finding("log", "ok", f"{decided:,} transactions in the log")


def _whole(log: EventLog, partitions: int) -> Iterator[Finding]:
    """Whether every partition can be read from its first entry, hot log and archive together."""
    for partition in range(partitions):
        try:
            for stream in STREAMS:
                paging.read(log, partition, stream, count=1)
        except Corrupt as error:
            yield Finding("log", "fail", str(error), "no worker can own this partition until its entries are back")


def _snapshots(s: Settings) -> Iterator[Finding]:
    directory = Path(s.snapshot_directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            yield Finding("snapshots", "ok", f"{directory} is writable")
    except OSError as error:
        yield Finding(
            "snapshots",
            "warn",
            f"{directory} is not writable ({error.strerror}): every start folds the whole log",
            "set SENTINEL_SNAPSHOT_DIRECTORY to a directory that all workers share",
        )


CHECKS = (_kafka, log_server_findings, log_findings, _snapshots)
