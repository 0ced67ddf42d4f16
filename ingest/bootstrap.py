"""Appends what the control stream needs before the first decision: source generations, a model, thresholds.

Runs at every start. It appends only what is missing, conditionally, so any number of workers may start at once.
"""

from __future__ import annotations

import time

from core.control import ControlState, Generation
from core.control_stream import ControlStream, append
from core.errors import BadInput
from core.events import Control, ModelDeployed, ModelRegistered, SourceGenerationStarted, ThresholdsChanged
from core.log.base import EventLog
from core.settings import Settings
from ingest.kafka_client import Topic, describe
from models.shipped import shipped_baseline

ACTOR = "sentinel ingest"


def ensure(log: EventLog, settings: Settings) -> ControlStream:
    """Append what is missing. Returns the control stream, followed to its end.

    Raises BadInput if the topics are missing or not co-partitioned, or if their partition count is not the log's.
    """
    topics = source_topics(settings)
    stream = ControlStream()
    append(log, lambda known: _missing(log, known.state, topics, settings), stream)
    return stream


def ignored_threshold(state: ControlState, settings: Settings) -> str:
    """What to say if the setting `fraud_threshold` has no effect because the log's threshold is another; else ""."""
    if state.position == 0 or state.decline == settings.fraud_threshold or not settings.is_given("fraud_threshold"):
        return ""
    return (
        f"FRAUD_THRESHOLD (fraud_threshold) is {settings.fraud_threshold:g}, but has no effect: it only sets the first"
        f" threshold of a new log, and this log declines from {state.decline:g} on. To change that, run"
        f" `sentinel threshold set --decline {settings.fraud_threshold:g} --reason …`"
    )


def source_topics(settings: Settings) -> dict[str, Topic]:
    """`transactions` and `feedback` as the broker describes them. Raises BadInput if they can't be used."""
    names = {"transactions": settings.transactions_topic, "feedback": settings.feedback_topic}
    found = describe(settings, list(names.values()))
    topics: dict[str, Topic] = {}
    for role, name in names.items():
        topic = found[name]
        if topic is None:
            raise BadInput(f"Kafka has no topic {name!r}; create it, or start with --create-topics")
        topics[role] = topic
    a, b = topics["transactions"], topics["feedback"]
    if a.partitions != b.partitions:
        raise BadInput(
            f"topics must have the same number of partitions: {a.name} has {a.partitions}, {b.name} has {b.partitions}"
        )
    return topics


def _missing(log: EventLog, state: ControlState, topics: dict[str, Topic], settings: Settings) -> list[Control]:
    now = int(time.time() * 1000)
    events: list[Control] = []
    for role in ("transactions", "feedback"):
        topic = topics[role]
        known = state.generations.get(role)
        if known is not None and known.partitions != topic.partitions:
            raise BadInput(
                f"the log was created with {known.partitions} partitions, but topic {topic.name} has"
                f" {topic.partitions}: accounts would change partition. Use another log prefix (SENTINEL_LOG_PREFIX)"
            )
        if known is None or _recreated(known, topic):
            events.append(
                SourceGenerationStarted(
                    occurred_at=now,
                    actor=ACTOR,
                    reason="first start" if known is None else "the topic was recreated",
                    topic=role,
                    topic_name=topic.name,
                    generation=1 if known is None else known.number + 1,
                    topic_id=topic.topic_id,
                    partitions=topic.partitions,
                )
            )
    if state.position == 0:
        events += _first_start(log, settings, now)
    return events


def _recreated(known: Generation, topic: Topic) -> bool:
    return (known.topic_id, known.topic_name) != (topic.topic_id, topic.name)


def _first_start(log: EventLog, settings: Settings, now: int) -> list[Control]:
    content, card = shipped_baseline()
    digest = log.put_blob(content)
    name, version = str(card["name"]), str(card["version"])
    threshold = settings.fraud_threshold
    return [
        ModelRegistered(
            occurred_at=now,
            actor=ACTOR,
            reason="shipped baseline",
            name=name,
            version=version,
            digest=digest,
            spec=int(card["spec"]),
        ),
        ModelDeployed(occurred_at=now, actor=ACTOR, reason="first start", name=name, version=version, digest=digest),
        ThresholdsChanged(
            occurred_at=now, actor=ACTOR, reason="first start: fraud_threshold", review=threshold / 2, decline=threshold
        ),
    ]
