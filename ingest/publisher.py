"""What leaves the worker for Kafka: decisions after their append, dead letters before theirs. At least once, each with
its ID.

A decision is published only once it is durable in the log. How far publishing is confirmed travels with the next seal
(`published`); whoever takes the partition over publishes again what lies after it. A consumer of `decisions` drops
repeats by `partition` and `position`: the same position is always the same decision, because it is read from the log.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage

from core.codec import decode_score, decode_transaction
from core.errors import Unavailable
from core.events import Position, TransactionScored
from core.log.base import EventLog
from core.settings import Settings
from ingest import kafka_client, telemetry
from ingest.partition import Owned, Pending

DEAD_LETTER_FLUSH_S = 10.0
REPUBLISH_S = 5.0
"""How long to wait before decisions that Kafka refused are sent again."""
PAGE = 1000

_encode = msgspec.json.Encoder().encode


class Publisher:
    """Owns the worker's producer; without a topic to write to it does nothing."""

    def __init__(self, settings: Settings) -> None:
        self._decisions = settings.decisions_topic
        self._dead_letters = settings.dead_letter_topic
        self._producer: Producer | None = (
            kafka_client.producer(settings) if self._decisions or self._dead_letters else None
        )
        self._failed: Counter[str] = Counter()  # topic → messages not delivered, and not yet reported
        self._error = ""
        self._republish_at: float | None = None
        self._logger = telemetry.logger()

    def publish(self, owned: Owned, pending: Pending) -> None:
        """Queue the acknowledged decisions of a batch."""
        if not self._decisions or self._producer is None:
            owned.published = owned.head.transactions
            return
        assert pending.decided is not None
        for row, score in zip(pending.decided.kept, pending.decided.scores, strict=True):
            transaction = pending.transactions[row]
            self._send(
                owned.partition,
                score.id,
                transaction.transaction_id,
                transaction.account_id,
                decode_score(score.payload),
            )

    def republish(self, log: EventLog, owned: Owned) -> None:
        """Publish again what the log holds after the last confirmed position; for a partition just taken over."""
        at = owned.published
        if not self._decisions:
            return
        while entries := log.read(owned.partition, "transactions", at, PAGE, owned.head.transactions):
            scores = log.read(owned.partition, "scores", at, PAGE, entries[-1].id)
            for entry, score in zip(entries, scores, strict=True):
                t = decode_transaction(entry.payload)
                self._send(owned.partition, score.id, t.transaction_id, t.account_id, decode_score(score.payload))
            at = entries[-1].id

    def dead_letters(self, pendings: Iterable[Pending]) -> None:
        """Copy rejected messages to the dead-letter topic and wait until they are there.

        They are kept in the log in any case; a copy that can't be written (no such topic, too large) is logged, not fatal.
        """
        if not self._dead_letters or self._producer is None:
            return
        sent = 0
        for pending in pendings:
            for rejected in pending.rejects:
                headers: list[tuple[str, str | bytes | None]] = [
                    ("reason", rejected.reason.encode()),
                    ("detail", rejected.detail[:500].encode(errors="replace")),
                    ("topic", rejected.topic.encode()),
                    ("partition", b"%d" % pending.partition.partition),
                    ("position", str(rejected.position).encode()),
                ]
                sent += self._produce(self._dead_letters, rejected.message.key, rejected.message.value, headers)
        if sent and self._producer.flush(DEAD_LETTER_FLUSH_S):
            self._logger.error("ingest.dead_letters_unconfirmed", topic=self._dead_letters)
        self._report(self._dead_letters)

    def poll(self, log: EventLog, owned: Iterable[Owned]) -> None:
        """Serve delivery reports. When nothing is outstanding, everything acknowledged counts as published; if decisions
        were refused, all since the last confirmed one are sent again, `REPUBLISH_S` later.
        """
        if not self._decisions or self._producer is None:
            return
        self._producer.poll(0)
        if self._failed[self._decisions]:
            self._report(self._decisions)
            self._republish_at = time.monotonic() + REPUBLISH_S
        if len(self._producer):
            return
        if self._republish_at is None:
            for partition in owned:
                partition.published = partition.head.transactions
        elif time.monotonic() > self._republish_at:
            self._republish_at = None
            for partition in owned:
                self.republish(log, partition)

    def close(self) -> None:
        """Wait for what is queued."""
        if self._producer is not None and self._producer.flush(DEAD_LETTER_FLUSH_S):
            self._logger.error("ingest.publish_unconfirmed", outstanding=len(self._producer))

    def _send(
        self, partition: int, position: Position, transaction_id: str, account_id: str, score: TransactionScored
    ) -> None:
        value = {
            "partition": partition,
            "position": str(position),
            "transaction_id": transaction_id,
            "account_id": account_id,
            "decision": score.decision,
            "severity": score.severity,
            "probability": score.probability,
            "reason_codes": score.rules,
            "model": score.model,
            "degraded": score.degraded,
        }
        self._produce(self._decisions, account_id.encode(), _encode(value), None)

    def _produce(
        self, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, str | bytes | None]] | None
    ) -> bool:
        """Queue a message; False if it can't be sent at all. Raises Unavailable if the producer is of no more use."""
        assert self._producer is not None
        while True:
            try:
                self._producer.produce(topic, value, key, headers=headers, on_delivery=self._delivered)
                return True
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as failure:
                error: KafkaError = failure.args[0]
                if error.fatal() or error.code() == KafkaError._FATAL:
                    raise Unavailable(
                        f"Kafka refuses this producer for good: {error.str()}; start the worker again"
                    ) from None
                self._undelivered(topic, error)
                return False

    def _delivered(self, error: KafkaError | None, message: KafkaMessage) -> None:
        if error is not None:
            self._undelivered(message.topic() or "", error)

    def _undelivered(self, topic: str, error: KafkaError) -> None:
        self._failed[topic] += 1
        self._error = error.str()

    def _report(self, topic: str) -> None:
        count = self._failed.pop(topic, 0)
        if count:
            self._logger.error("ingest.publish_failed", topic=topic, messages=count, error=self._error)
