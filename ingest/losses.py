"""What Kafka lost before it was decided: proved by where Kafka's log begins, and accepted by a person.

A gap between offsets is no loss: transactions leave control records, and compaction removes offsets. A loss is what
lies between the offset at which the log continues and the first one that Kafka still holds.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from core import control_stream
from core.control import ControlState
from core.control_stream import ControlStream, Known
from core.errors import BadInput
from core.events import Control, MessagesSkipped
from core.log.base import EventLog
from core.settings import Settings
from ingest import telemetry, unreadable
from ingest.bootstrap import source_topics
from ingest.kafka_client import log_starts
from ingest.ownership import sources_of
from ingest.parking import ACTOR
from ingest.unreadable import CORRUPT, BadBatch

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
    """Record that the partition's lost messages are never decided, so that its worker goes on after them: those that
    Kafka deleted, or the corrupt batch at which the partition is parked.

    Returns them. Raises BadInput if nothing is lost, Unavailable if Kafka does not answer. now: epoch ms.
    """
    state = control_stream.current(log)
    lost = [loss for loss in losses(log, settings) if loss.partition == partition]
    code = "messages_expired"
    if not lost and state.parked.get(partition) == CORRUPT:
        code = CORRUPT
        lost = [_loss_of(settings, state, batch) for batch in _at_position(log, settings, state, partition)]
    if not lost:
        raise BadInput(f"partition {partition} has lost nothing: Kafka holds the offset at which the log continues")
    _record(log, lost, code, actor, reason, now)
    return lost


def skip(log: EventLog, settings: Settings, stream: ControlStream, batch: BadBatch) -> None:
    """Record that a batch which can't be read is never decided. stream: the one that the worker follows."""
    loss = _loss_of(settings, stream.state, batch)
    telemetry.SKIPPED.inc(loss.following - loss.first)
    telemetry.logger().error("ingest.messages_skipped", **loss._asdict(), reason=str(batch))
    _record(log, [loss], batch.code, ACTOR, str(batch)[:500], int(time.time() * 1000), stream)


def _at_position(log: EventLog, settings: Settings, state: ControlState, partition: int) -> list[BadBatch]:
    """The bad batches at which the partition's two topics continue."""
    offsets = sources_of(state, partition).offsets(log.head(partition))
    names = (settings.transactions_topic, settings.feedback_topic)
    asked = [BadBatch(CORRUPT, name, partition, offset, "") for name, offset in zip(names, offsets, strict=True)]
    return [found for batch in asked if (found := unreadable.next_bad(settings, batch)) is not None]


def _loss_of(settings: Settings, state: ControlState, batch: BadBatch) -> Loss:
    role = ROLES[batch.topic == settings.feedback_topic]
    end = unreadable.end_of(settings, batch)
    return Loss(role, state.generations[role].number, batch.partition, batch.first, end)


def _record(
    log: EventLog,
    lost: list[Loss],
    code: str,
    actor: str,
    reason: str,
    now: int,
    stream: ControlStream | None = None,
) -> None:
    def decide(known: Known) -> list[Control]:
        return [_skipped(loss, code, actor, reason, now) for loss in lost if not _is_accepted(loss, known.state)]

    control_stream.append(log, decide, stream)


def _skipped(loss: Loss, code: str, actor: str, reason: str, now: int) -> MessagesSkipped:
    return MessagesSkipped(
        occurred_at=now,
        actor=actor,
        reason=reason,
        topic="feedback" if loss.role == "feedback" else "transactions",
        generation=loss.generation,
        partition=loss.partition,
        first_offset=loss.first,
        next_offset=loss.following,
        code=code,
    )


def _is_accepted(loss: Loss, state: ControlState) -> bool:
    return state.skipped.get((loss.role, loss.partition), (0, 0)) >= (loss.generation, loss.following)
