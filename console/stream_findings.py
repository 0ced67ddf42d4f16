"""What is wrong between Kafka and the log: topics, partitions that don't fit, and messages that nobody decides."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing

from confluent_kafka import KafkaException
from confluent_kafka.admin import ConfigResource, ResourceType

from console import wiring
from console.server_findings import Finding
from core import control_stream
from core.control import ControlState
from core.log.base import EventLog
from core.settings import Settings
from core.times import HOUR_MS
from ingest import backlog, evidence, kafka_client, losses
from ingest.backlog import Group
from ingest.kafka_client import Topic
from ingest.ownership import sources_of
from ingest.partition import OFFSET_BEGINNING

BACKLOG_S = 3.0
"""How long to watch whether a backlog moves, or a partition gets an owner."""
NAMED_MAX = 10
"""Partitions that a message names."""


def kafka_findings(s: Settings) -> Iterator[Finding]:
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


def stream_findings(s: Settings) -> Iterator[Finding]:
    """Whether the topics are the log's, and whether all that they hold is decided."""
    with closing(wiring.open_log(s)) as log:
        state = control_stream.current(log)
        if not state.generations:
            yield from _not_begun(s, log)
            return
        topics = kafka_client.describe(s, [s.transactions_topic, s.feedback_topic])
        if None in topics.values():
            return  # the check of Kafka says so
        yield from _topics(s, state, topics)
        yield from _parked(s, log, state)
        yield from _backlog(s, log, state)


def _topics(s: Settings, state: ControlState, topics: Mapping[str, Topic | None]) -> Iterator[Finding]:
    for role, name in (("transactions", s.transactions_topic), ("feedback", s.feedback_topic)):
        known, topic = state.generations.get(role), topics[name]
        if known is None or topic is None:
            continue
        if known.partitions != topic.partitions:
            yield Finding(
                f"topic {name}",
                "fail",
                f"has {topic.partitions} partitions, the log has {known.partitions}",
                "a log's number of partitions is fixed, so nothing is decided: move to new topics and a new log"
                " (docs/partitions.md)",
            )
        elif known.topic_id != topic.topic_id:
            yield Finding(
                f"topic {name}",
                "warn",
                "was recreated: a running worker begins a new generation within seconds, else the next start does",
                "nothing to do if a worker runs; otherwise start one",
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


Positions = dict[str, dict[int, int]]
"""By topic, the offset at which the log continues in each partition."""


def _not_begun(s: Settings, log: EventLog) -> Iterator[Finding]:
    """Messages that wait for a log's first worker."""
    topics = kafka_client.describe(s, [s.transactions_topic, s.feedback_topic])
    found = [topic for topic in topics.values() if topic is not None]
    payments = topics[s.transactions_topic]
    if payments is not None and evidence.of_earlier_log(log, s, payments):
        return  # a log is lost, and no worker may begin: the check of the log says so
    waiting = _waiting(s, {each.name: dict.fromkeys(range(each.partitions), OFFSET_BEGINNING) for each in found})
    if waiting:
        said = f"messages wait in {_named(p for _, p in waiting)}, and no worker has begun this log"
        yield Finding("backlog", "fail", said, "start `sentinel ingest`")


def _backlog(s: Settings, log: EventLog, state: ControlState) -> Iterator[Finding]:
    """Whether messages wait in partitions that do not move, and whether every partition has an owner. What looks wrong
    is looked at twice: a group that shares out its partitions anew is neither.
    """
    before, group = _positions(s, log, state), backlog.group_of(s)
    waiting = _waiting(s, before)
    if waiting or _unowned(group, state):
        time.sleep(BACKLOG_S)
        after, group = _positions(s, log, state), backlog.group_of(s)
        waiting = {(topic, p) for topic, p in waiting if after[topic][p] == before[topic][p]}
    if waiting:
        yield Finding(
            "backlog",
            "fail",
            f"messages wait in {_named(p for _, p in waiting)}, and none was decided in {BACKLOG_S:.0f} s"
            f" ({group or 'the broker does not describe the group'})",
            "start `sentinel ingest`"
            if group is not None and group.is_idle
            else "see ingest.owns_nothing, ingest.partition_stalled and ingest.partition_parked in the workers' logs",
        )
    if unowned := _unowned(group, state):
        assert group is not None
        yield Finding(
            "workers",
            "fail",
            f"{group.members} are in the group {s.consumer_group}, and nobody owns {_named(unowned)}",
            "one that owns nothing joins again within a minute (ingest.owns_nothing in its log); else restart them:"
            " static members when session_timeout_ms have passed",
        )
    elif group is not None and group.is_idle and not waiting:
        said = f"none is running in the group {s.consumer_group}: what is sent now waits"
        yield Finding("workers", "warn", said, "start `sentinel ingest`")


def _positions(s: Settings, log: EventLog, state: ControlState) -> Positions:
    found: Positions = {s.transactions_topic: {}, s.feedback_topic: {}}
    for p in range(state.generations["transactions"].partitions):
        transactions, feedback = sources_of(state, p).offsets(log.head(p))
        found[s.transactions_topic][p], found[s.feedback_topic][p] = transactions, feedback
    return found


def _waiting(s: Settings, positions: Positions) -> set[tuple[str, int]]:
    return {(topic, p) for topic, offsets in positions.items() for p in backlog.waiting(s, topic, offsets)}


def _unowned(group: Group | None, state: ControlState) -> set[int]:
    """Partitions without an owner, although workers are there; nothing if the broker does not name them."""
    if group is None or not group.members:
        return set()
    return set(range(state.generations["transactions"].partitions)) - group.assigned


def _named(partitions: Iterable[int]) -> str:
    found = sorted(set(partitions))
    more = ", …" if len(found) > NAMED_MAX else ""
    return f"{len(found)} partitions ({', '.join(map(str, found[:NAMED_MAX]))}{more})"
