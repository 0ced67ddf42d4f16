"""Appends what the control stream needs before the first decision: the log's identity, source
generations, a model, thresholds.

Runs at every start. It appends only what is missing, conditionally, so any number of workers may start at once.
"""

from __future__ import annotations

import secrets
import time
from functools import partial
from typing import NamedTuple

from core.control import ControlState, Generation
from core.control_stream import Blobs, ControlStream, append
from core.currency import code
from core.errors import BadInput
from core.events import (
    Control,
    LogCreated,
    ModelDeployed,
    ModelRegistered,
    PartitionResumed,
    RatesChanged,
    SourceGenerationStarted,
    ThresholdsChanged,
)
from core.hashing import KEY_DIGITS
from core.identity import LogIdentity, required
from core.log.base import EventLog
from core.program.library import default_blobs
from core.program.shipped import DEFAULT_PROGRAM
from core.settings import Settings, environment_name
from core.signing import intended
from ingest import evidence, telemetry
from ingest.kafka_client import Topic, describe, log_starts
from ingest.patience import persist
from ingest.vault import open_vault
from models.shipped import shipped_baseline

ACTOR = "sentinel ingest"
STARTS_S = 15.0
"""How long to wait until each partition of a topic has a leader: one that was just made has none yet."""


class MissingTopic(BadInput):
    """A source topic does not exist. While a worker runs, it may be made again."""


def ensure(log: EventLog, settings: Settings, new_log: str = "") -> ControlStream:
    """Append what is missing. Returns the control stream, followed to its end.

    new_log: why a log is to begin although there is evidence of an earlier one (`ingest.evidence`); "" for no reason.
    Raises BadInput if the topics are missing or not co-partitioned, if their partition count is not the log's, or if
    the log is empty and must not be, or if identity is required and the worker has no key for it.
    """
    topics = source_topics(settings)
    stream = ControlStream()
    stream.advance(log)
    _check_key(log, stream.state)
    found = _evidence(log, settings, topics["transactions"], stream)
    if found and not new_log:
        raise BadInput(
            f"the log {settings.log_prefix!r} at {settings.redis_host}:{settings.redis_port} is empty, but there was"
            f" one before: {'; '.join(each.what for each in found)}. Was the server emptied, or is this another one?"
            " Restore its backup, or correct the address or the prefix. To begin a new log nevertheless, which decides"
            " again all that Kafka still holds: `sentinel ingest --new-log REASON`"
        )
    blobs, beginning = Blobs(log), _Beginning.of(found, new_log)
    append(log, lambda known: _missing(blobs, known.state, topics, settings, beginning), stream, blobs)
    if new_log:
        why = "take --new-log out of the start command: if the log were lost again, it would begin another one unasked"
        telemetry.logger().warning("ingest.new_log_allowed", message=why)
    return stream


def _evidence(log: EventLog, settings: Settings, topic: Topic, stream: ControlStream) -> list[evidence.Found]:
    """The evidence of a log before this one, if this one has not begun. Raises BadInput if it can't begin at all."""
    if stream.state.generations:
        return []
    headless = evidence.headless(log, topic.partitions)
    found = evidence.of_earlier_log(log, settings, topic)
    if headless or found:
        stream.advance(log)  # another worker may have begun it meanwhile: then this is evidence of that one
        if stream.state.generations:
            return []
    if headless:
        raise BadInput(
            f"the log {settings.log_prefix!r} at {settings.redis_host}:{settings.redis_port} has no control stream, but"
            f" {headless}: the server was emptied while a worker ran. Restore its backup, or use another log prefix"
            " (SENTINEL_LOG_PREFIX) for a new log"
        )
    return found


def _check_key(log: EventLog, state: ControlState) -> None:
    """Raise BadInput if identity is required and this worker has no key that lets it report: what it can't load, what
    it skips and which seals it reached would have no effect.
    """
    report = PartitionResumed(occurred_at=0, actor=ACTOR, partition=0)
    try:
        state.governance.roster.check(intended([report], log.signer)[0], state.governance.four_eyes)
    except BadInput as error:
        raise BadInput(
            f"this worker can't report to the log: {error}. Make a key (sentinel identity new), have it added with the"
            " role worker, and set identity_key (SENTINEL_IDENTITY_KEY)"
        ) from None


class _Beginning(NamedTuple):
    """How a log's first generation begins: its number, and why."""

    generation: int
    reason: str

    @classmethod
    def of(cls, found: list[evidence.Found], new_log: str) -> _Beginning:
        if not found:
            return cls(1, "first start")
        number = max(each.generation for each in found) + 1
        return cls(max(number, 2), f"new log: {new_log} ({'; '.join(each.what for each in found)})"[:1000])


def ignored_settings(state: ControlState, settings: Settings) -> dict[str, str]:
    """What to say of settings without effect since the log has begun, by their subject, each with the command to run
    instead.
    """
    said = {"thresholds": ignored_threshold(state, settings), "currency": ignored_currency(state, settings)}
    return {about: words for about, words in said.items() if words}


def ignored_threshold(state: ControlState, settings: Settings) -> str:
    """What to say if the setting `fraud_threshold` has no effect because the log's threshold is another; else ""."""
    if not state.generations or state.decline == settings.fraud_threshold or not settings.is_given("fraud_threshold"):
        return ""
    return (
        f"FRAUD_THRESHOLD (fraud_threshold) is {settings.fraud_threshold:g}, but has no effect: it only sets the first"
        f" threshold of a new log, and this log declines from {state.decline:g} on. To change that, run"
        f" `sentinel threshold set --decline {settings.fraud_threshold:g} --reason …`"
    )


def ignored_currency(state: ControlState, settings: Settings) -> str:
    """What to say if the setting `base_currency` has no effect because the log's base is another; else ""."""
    if not state.generations or not settings.base_currency or code(settings.base_currency) == state.rates.base:
        return ""
    base = state.rates.base or "no base currency"
    return (
        f"SENTINEL_BASE_CURRENCY (base_currency) is {settings.base_currency}, but has no effect: it only sets the first"
        f" base currency of a new log, and this log has {base}. To change that, run"
        f" `sentinel rates set FILE --base {settings.base_currency} --reason …`"
    )


def source_topics(settings: Settings) -> dict[str, Topic]:
    """`transactions` and `feedback` as the broker describes them. Raises BadInput if they can't be used."""
    names = {"transactions": settings.transactions_topic, "feedback": settings.feedback_topic}
    found = describe(settings, list(names.values()))
    topics: dict[str, Topic] = {}
    for role, name in names.items():
        topic = found[name]
        if topic is None:
            raise MissingTopic(f"Kafka has no topic {name!r}; create it, or start with --create-topics")
        topics[role] = topic
    a, b = topics["transactions"], topics["feedback"]
    if a.partitions != b.partitions:
        raise BadInput(
            f"topics must have the same number of partitions: {a.name} has {a.partitions}, {b.name} has {b.partitions}"
        )
    return topics


def _missing(
    blobs: Blobs, state: ControlState, topics: dict[str, Topic], settings: Settings, beginning: _Beginning
) -> list[Control]:
    now = int(time.time() * 1000)
    events: list[Control] = []
    for role in ("transactions", "feedback"):
        topic = topics[role]
        known = state.generations.get(role)
        if known is not None and known.partitions != topic.partitions:
            raise BadInput(
                f"the log was created with {known.partitions} partitions, but topic {topic.name} has"
                f" {topic.partitions}: accounts would change partition, and begin there without their past. Nothing is"
                " decided until it is moved to new topics and a new log (docs/partitions.md)"
            )
        if known is not None and _recreated(known, topic):
            topic = source_topics(settings)[role]  # as it is now: what was described may be older than what is known
        if known is None or _recreated(known, topic):
            events.append(
                SourceGenerationStarted(
                    occurred_at=now,
                    actor=ACTOR,
                    reason=beginning.reason if known is None else "the topic was recreated",
                    topic=role,
                    topic_name=topic.name,
                    generation=beginning.generation if known is None else known.number + 1,
                    topic_id=topic.topic_id,
                    partitions=topic.partitions,
                    starts=persist(partial(log_starts, settings, topic), STARTS_S),
                )
            )
    if state.identity is None and not state.generations:
        for blob in default_blobs():
            blobs.put(blob)
        events.insert(0, _created(settings, topics["transactions"].partitions, now))
    else:
        _check_identity(required(state.identity), settings)
    if not state.generations:
        events += _first_start(blobs, settings, now)
    return events


def _created(settings: Settings, partitions: int, now: int) -> LogCreated:
    return LogCreated(
        occurred_at=now,
        actor=ACTOR,
        reason="first start",
        log_id=secrets.token_hex(16),
        hash_key=secrets.token_hex(KEY_DIGITS // 2),
        partitioner=settings.partitioner,
        partitions=partitions,
        accounts_max=settings.accounts_max,
        program=DEFAULT_PROGRAM,
        tokens=_vault_key(settings),
    )


def _vault_key(settings: Settings) -> str:
    vault = open_vault(settings)
    return "" if vault is None else vault.key_id


def _check_identity(identity: LogIdentity, settings: Settings) -> None:
    """Raise BadInput if a setting differs from what the log was created with."""
    for name in ("partitioner", "accounts_max"):
        chosen, wanted = getattr(identity, name), getattr(settings, name)
        if chosen != wanted and (name == "partitioner" or settings.is_given(name)):
            variable = environment_name(name)
            raise BadInput(
                f"the log was created with {name} = {chosen!r}, but the setting is {wanted!r}: set {variable}={chosen},"
                " or use another log prefix (SENTINEL_LOG_PREFIX) for a new log"
            )
    check_tokens(identity, settings)


def check_tokens(identity: LogIdentity, settings: Settings) -> None:
    """Raise BadInput if the log was created with another vault than the settings', or with or without one."""
    key_id = _vault_key(settings)
    if identity.tokens == key_id:
        return
    if not identity.tokens:
        raise BadInput(
            "the log was created without tokens, but the settings ask for them (tokenise): set SENTINEL_TOKENISE=false,"
            " or use another log prefix (SENTINEL_LOG_PREFIX) for a new log"
        )
    if not key_id:
        raise BadInput("the log holds tokens: set SENTINEL_TOKENISE=true and name its vault (SENTINEL_VAULT)")
    raise BadInput(
        f"the log's tokens were made with the vault of key {identity.tokens}, but {settings.vault} has key {key_id}:"
        " name its vault (SENTINEL_VAULT, SENTINEL_VAULT_KEY)"
    )


def _recreated(known: Generation, topic: Topic) -> bool:
    return (known.topic_id, known.topic_name) != (topic.topic_id, topic.name)


def _first_start(blobs: Blobs, settings: Settings, now: int) -> list[Control]:
    content, card = shipped_baseline()
    digest = blobs.put(content)
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
        *(
            [RatesChanged(occurred_at=now, actor=ACTOR, reason="first start: base_currency", base=base)]
            if (base := code(settings.base_currency))
            else []
        ),
    ]
