"""What Kafka lost before it was decided: proved by where Kafka's log begins, and accepted by a person.

A gap between offsets is no loss: transactions leave control records, and compaction removes offsets. A loss is what
lies between the offset at which the log continues and the first one that Kafka still holds.
"""

from __future__ import annotations

from typing import NamedTuple

from core import control_stream
from core.control import ControlState
from core.control_stream import Known
from core.errors import BadInput
from core.events import Control, MessagesSkipped
from core.log.base import EventLog
from core.settings import Settings
from ingest.bootstrap import source_topics
from ingest.kafka_client import log_starts
from ingest.ownership import sources_of

ROLES = ("transactions", "feedback")


class Loss(NamedTuple):
    """The messages with first ≤ offset < following of a source topic's partition, which Kafka no longer holds."""

    role: str
    generation: int
    partition: int
    first: int
    following: int


def losses(log: EventLog, settings: Settings) -> list[Loss]:
    """The losses of all partitions that nobody has accepted yet. Raises BadInput or Unavailable."""
    state = control_stream.current(log)
    topics = source_topics(settings)
    found: list[Loss] = []
    for index, role in enumerate(ROLES):
        known = state.generations.get(role)
        if known is None or known.topic_id != topics[role].topic_id:
            continue
        for partition, start in enumerate(log_starts(settings, topics[role])[: known.partitions]):
            offset = sources_of(state, partition).offsets(log.head(partition))[index]
            if 0 <= offset < start:
                found.append(Loss(role, known.number, partition, offset, start))
    return found


def accept(log: EventLog, settings: Settings, partition: int, actor: str, reason: str, now: int) -> list[Loss]:
    """Record that the partition's lost messages are never decided, so that its worker goes on after them.

    Returns them. Raises BadInput if nothing is lost. now: epoch ms.
    """
    lost = [loss for loss in losses(log, settings) if loss.partition == partition]
    if not lost:
        raise BadInput(f"partition {partition} has lost nothing: Kafka holds the offset at which the log continues")

    def decide(known: Known) -> list[Control]:
        return [_skipped(loss, actor, reason, now) for loss in lost if not _is_accepted(loss, known.state)]

    control_stream.append(log, decide)
    return lost


def _skipped(loss: Loss, actor: str, reason: str, now: int) -> MessagesSkipped:
    return MessagesSkipped(
        occurred_at=now,
        actor=actor,
        reason=reason,
        topic="feedback" if loss.role == "feedback" else "transactions",
        generation=loss.generation,
        partition=loss.partition,
        first_offset=loss.first,
        next_offset=loss.following,
        code="messages_expired",
    )


def _is_accepted(loss: Loss, state: ControlState) -> bool:
    return state.skipped.get((loss.role, loss.partition), (0, 0)) >= (loss.generation, loss.following)
