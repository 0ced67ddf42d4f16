"""What is wrong with the servers, the topics and the log, and how to mend it: for `sentinel doctor` and the API."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import ConfigResource, ResourceType

from console import wiring
from console.actor_findings import actor_findings
from console.anchoring.age import anchor_findings
from console.anchoring.settings import anchor_settings
from console.edge_report import bound_findings, identity_findings
from console.profiles import log_profile_findings, profile_findings
from console.respond_report import responder_findings
from console.server_findings import Finding, Status, log_server_findings
from core import control_stream
from core.context import NO_MODEL
from core.control import ControlState
from core.errors import Corrupt, SentinelError
from core.log import paging
from core.log.archive.store import open_store
from core.log.base import STREAMS, EventLog
from core.settings import Settings
from core.times import HOUR_MS
from ingest import backlog, bootstrap, evidence, kafka_client, losses
from ingest.ownership import sources_of
from ingest.vault import Vault, key_of, key_place, tokenises

BACKLOG_S = 3.0
"""How long to watch whether a backlog moves."""
TRIED_BYTES, TRIED_BYTES_MAX = 65_536, 16_777_216
"""What a directory must take to be writable: as much as its largest file, within these bounds."""


def findings(s: Settings) -> list[Finding]:
    """All checks, those that could not be made as findings of their own. Takes seconds. Reads only, except for a
    temporary file in the snapshot directory, and one in a local archive.
    """
    return [finding for check in CHECKS for finding in guarded(check, s)]


def guarded(check: Callable[[Settings], Iterator[Finding]], s: Settings) -> Iterator[Finding]:
    """A check's findings; if it can't be made, why."""
    try:
        yield from check(s)
    except SentinelError as error:
        yield Finding(check.__name__.strip("_"), "fail", str(error))


def _vault(s: Settings) -> Iterator[Finding]:
    """Whether this process can open the vault, and whether the vault's key is kept apart from it."""
    if not tokenises(s):
        return
    key = key_of(s)
    if not Path(s.vault).is_file():
        yield Finding(
            "vault",
            "ok",
            f"there is none yet at {s.vault}: the log's first worker makes it, with its key in {key_place(s)}",
        )
        return
    with closing(Vault(Path(s.vault), key)) as vault:
        status: Status = "ok" if key else "warn"
        remedy = "" if key else "sentinel vault new-key FILE, then sentinel vault rotate FILE (docs/privacy.md)"
        yield Finding(
            "vault",
            status,
            f"{s.vault} holds the keys of {vault.count:,} accounts; its own is in {key_place(s)}",
            remedy,
        )


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
        yield from actor_findings(log, state)
        yield from log_profile_findings(s, state)
        for check, ignored in bootstrap.ignored_settings(state, s).items():
            message, _, remedy = ignored.partition(". To change that, ")
            yield Finding(check, "warn", message, f"to change the log's value, {remedy}")
        yield from (Finding(*said) for said in identity_findings(s, log, state))
        yield from (Finding(*said) for said in bound_findings(s, state))
        now_ms = int(time.time() * 1000)
        for check, status, message, remedy in anchor_findings(anchor_settings(s.anchors), state, now_ms):
            yield Finding(check, "ok" if status == "ok" else "warn", message, remedy)
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
        _try_writing(directory)
        yield Finding("snapshots", "ok", f"{directory} is writable")
    except OSError as error:
        yield Finding(
            "snapshots",
            "warn",
            f"{directory} is not writable ({error.strerror}): every start folds the whole log",
            "free space there, or set SENTINEL_SNAPSHOT_DIRECTORY to a directory that all workers share",
        )


def _archive(s: Settings) -> Iterator[Finding]:
    """Of a local archive that has begun: an object store says by itself what it does not take."""
    store = open_store(s.archive) if s.archive else None
    if store is None or not store.local or not (directory := Path(str(store))).is_dir():
        return
    try:
        _try_writing(directory)
        yield Finding("archive", "ok", f"{directory} is writable")
    except PermissionError:
        return  # the archiver's user may write, and this one need not
    except OSError as error:
        yield Finding(
            "archive",
            "fail",
            f"{directory} takes no more ({error.strerror}): nothing is archived, so nothing can be trimmed from the log"
            " server's memory",
            "free space there; `sentinel archive` then goes on where it was",
        )


def _try_writing(directory: Path) -> None:
    """Write to a file that is gone afterwards: a disk that is full may still take a new and empty one. Raises
    OSError.
    """
    largest = max((entry.stat().st_size for entry in os.scandir(directory) if entry.is_file()), default=0)
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(bytes(min(max(largest, TRIED_BYTES), TRIED_BYTES_MAX)))
        file.flush()
        os.fsync(file.fileno())


CHECKS = (profile_findings, _vault, _kafka, log_server_findings, log_findings, _snapshots, _archive)
