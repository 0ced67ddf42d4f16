"""Whether a log without a single control event is really new: an emptied server (FLUSHALL, a lost volume, the wrong
address) looks the same, and a new log would decide and publish everything again that Kafka still holds, and nothing of
what it no longer holds.

Evidence of an earlier log under the same prefix, each found where it would outlive the log server:

    snapshots            this prefix's files in the snapshot directory
    the archive          segments in the manifests of its partitions
    committed offsets    the consumer group's on the source topic, unless they were committed for another prefix

A log without control events whose partitions hold seals is never begun, whatever anybody says: a worker that had not
noticed yet that the server was emptied has appended to it, under control events that are lost.

Any of the evidence above makes `ingest.bootstrap` refuse to begin a log, unless a person says that one is to begin
(`sentinel ingest --new-log REASON`); the reason and the evidence are recorded with the log's first events, and the
topics' generation is one above the newest that the evidence names, so that no position is used twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import KafkaException, TopicPartition

from core.log.archive.archived import ArchivedLog
from core.log.base import EventLog
from core.settings import Settings
from ingest import kafka_client
from ingest.kafka_client import Topic
from ingest.kafka_properties import logs_in
from ingest.patience import persist
from ingest.snapshots import SnapshotStore

TIMEOUT_S = 10.0
COMMITTED_BY = "stream-sentinel log "
"""How the metadata of committed offsets begins; the log's prefix follows."""


class Found(NamedTuple):
    """One piece of evidence. generation: of the transactions topic, as far as it is known."""

    what: str
    generation: int = 0


def headless(log: EventLog, partitions: int) -> str:
    """What the log's partitions hold although its control stream is empty, in words; "" if nothing.

    The caller must read the control stream again before it believes this: another worker may just have begun the log.
    """
    hot = log.hot if isinstance(log, ArchivedLog) else log
    heads = {partition: hot.head(partition) for partition in range(partitions)}
    held = [partition for partition, head in heads.items() if head.sequence]
    return f"partitions {', '.join(map(str, held))} hold decisions" if held else ""


def of_earlier_log(log: EventLog, settings: Settings, topic: Topic) -> list[Found]:
    """The evidence; [] if the log may begin. topic: the transactions. Raises Unavailable if Kafka does not answer."""
    return [
        *_snapshots(settings, topic.partitions),
        *_archived(log, topic.partitions),
        *_committed(settings, topic),
    ]


def _snapshots(settings: Settings, partitions: int) -> Iterator[Found]:
    directory = Path(settings.snapshot_directory)
    heads = SnapshotStore(directory, settings.log_prefix).heads(partitions)
    if heads:
        newest = max(head.transactions for head in heads.values())
        yield Found(
            f"{directory} holds snapshots of {len(heads)} partitions, the newest at position {newest}",
            newest.generation,
        )


def _archived(log: EventLog, partitions: int) -> Iterator[Found]:
    if not isinstance(log, ArchivedLog):
        return
    ends = [end for p in range(partitions) if (end := log.archive.end(p)).sequence]
    if ends:
        newest = max(end.transactions for end in ends)
        yield Found(
            f"the archive {log.archive.store} holds {len(ends)} partitions, up to position {newest}", newest.generation
        )


def _committed(settings: Settings, topic: Topic) -> Iterator[Found]:
    committed = persist(lambda: _read_committed(settings, topic), TIMEOUT_S)  # a coordinator that starts is not ready
    mine = [p for p in committed if p.offset > 0 and _may_be_of(p.metadata, settings.log_prefix)]
    if mine:
        yield Found(
            f"consumer group {settings.consumer_group} has committed offsets of {topic.name} in {len(mine)} partitions,"
            f" up to {max(p.offset for p in mine)}"
        )


def _read_committed(settings: Settings, topic: Topic) -> list[TopicPartition]:
    consumer = kafka_client.group_reader(settings)
    try:
        return consumer.committed([TopicPartition(topic.name, p) for p in range(topic.partitions)], TIMEOUT_S)
    except KafkaException as error:
        asked = f"; may the user read the group {settings.consumer_group}?" if logs_in(settings) else ""
        raise kafka_client.unreachable(settings, f"{error.args[0].str()}{asked}") from None
    finally:
        consumer.close()


def _may_be_of(metadata: str | None, prefix: str) -> bool:
    """Whether offsets were committed for this prefix, as far as their metadata says (a broker may not keep it)."""
    return not metadata or not metadata.startswith(COMMITTED_BY) or metadata == COMMITTED_BY + prefix
