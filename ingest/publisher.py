"""Publishes to Kafka: decisions after their append, dead letters before it. At least once, each with its ID.

A decision carries the trace of its payment, if the worker traces (`ingest.batch_spans`); one that is published again by
the partition's next owner does not, since the log holds no trace.

A decision is published only once it is durable in the log. How far publishing is confirmed is recorded in the next seal
(`published`); the next owner of the partition publishes again everything after it. Consumers of `decisions` drop
repeats by `partition` and `position`: the same position is always the same decision, because it is read from the log.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage

from core.codec import decode_score, decode_transaction
from core.errors import Unavailable
from core.events import Decision, Position, Severity, TransactionScored
from core.log.base import EventLog
from core.log.paging import decision_pages
from core.settings import Settings
from core.trace_context import HEADER
from ingest import kafka_client, telemetry
from ingest.batch_spans import Untraced
from ingest.partition import Owned, Pending
from ingest.tracing import Headers

DEAD_LETTER_FLUSH_S = 10.0
REPUBLISH_S = 5.0
"""How long to wait before sending decisions again that Kafka refused."""

_encode = msgspec.json.Encoder().encode


class DecisionMessage(msgspec.Struct, frozen=True, gc=False):
    """A decision as it is published. partition and position: of the payment in the log, by which repeats are told;
    reason_codes: of the rules that hit. severity: null without an alert; degraded: what was missing, null if
    nothing was.
    """

    partition: int
    position: str
    transaction_id: str
    account_id: str
    decision: Decision
    severity: Severity | None
    probability: float
    reason_codes: tuple[str, ...]
    model: str
    degraded: str | None


class DeadLetterHeaders(msgspec.Struct, frozen=True):
    """The headers of a dead letter. reason: a code of docs/bad-input.md; topic: of the two, `transactions` or
    `feedback`; partition, position: where the message was; traceparent: if it came with a trace and the worker traces.
    """

    reason: str
    detail: str
    topic: str
    partition: str
    position: str
    traceparent: str = ""


@dataclass(slots=True)
class _Sent:
    """Decisions of one partition, up to `end`, in flight to Kafka."""

    end: Position
    outstanding: int = 0
    failed: bool = False
    error: str = ""

    def delivered(self, error: KafkaError | None, message: KafkaMessage | None = None) -> None:
        """A delivery report."""
        self.outstanding -= 1
        if error is not None:
            self.failed, self.error = True, error.str()


class Publisher:
    """Owns the worker's producer; does nothing if there is no topic to write to."""

    def __init__(self, settings: Settings, spans: Untraced | None = None) -> None:
        """spans: what says which trace a decision belongs to."""
        self._spans = spans or Untraced()
        self._decisions = settings.decisions_topic
        self._dead_letters = settings.dead_letter_topic
        self._producer: Producer | None = (
            kafka_client.producer(settings) if self._decisions or self._dead_letters else None
        )
        self._sent: dict[int, deque[_Sent]] = {}
        self._republish_at: dict[int, float] = {}
        self._logger = telemetry.logger()

    def publish(self, owned: Owned, pending: Pending) -> None:
        """Queue the acknowledged decisions of a batch."""
        if not self._decisions or self._producer is None:
            owned.published = owned.head.transactions
            return
        assert pending.decided is not None
        sent = self._begin(owned)
        decided = pending.decided
        for row, scored in zip(decided.kept, decided.scored, strict=True):
            t = pending.transactions[row]
            headers = self._spans.headers(owned, pending, row)
            self._send(sent, owned.partition, pending.positions[row], t.transaction_id, t.account_id, scored, headers)

    def republish(self, log: EventLog, owned: Owned) -> None:
        """Publish again what the log holds after the last confirmed position, for a partition just taken over."""
        if not self._decisions:
            return
        self._sent.pop(owned.partition, None)
        self._republish_at.pop(owned.partition, None)
        sent = self._begin(owned)
        for entries, scores in decision_pages(log, owned.partition, owned.published, owned.head.transactions):
            for entry, score in zip(entries, scores, strict=True):
                t = decode_transaction(entry.payload)
                self._send(sent, owned.partition, score.id, t.transaction_id, t.account_id, decode_score(score.payload))

    def dead_letters(self, pendings: Iterable[Pending]) -> None:
        """Copy rejected messages to the dead-letter topic and wait for the acknowledgements.

        The log keeps them in any case, so a copy that can't be written (no such topic, too large) is logged but not
        fatal.
        """
        if not self._dead_letters or self._producer is None:
            return
        sent = 0
        errors: list[str] = []

        def failures(error: KafkaError | None, message: KafkaMessage | None = None) -> None:
            if error is not None:
                errors.append(error.str())

        for pending in pendings:
            for rejected in pending.rejects:
                headers: Headers = [
                    ("reason", rejected.reason.encode()),
                    ("detail", rejected.detail[:500].encode(errors="replace")),
                    ("topic", rejected.topic.encode()),
                    ("partition", b"%d" % pending.partition.partition),
                    ("position", str(rejected.position).encode()),
                ]
                message = rejected.message
                if message.trace is not None:
                    headers.append((HEADER, message.trace.header))
                error = self._produce(self._dead_letters, message.key, message.value, headers, failures)
                if error is not None:
                    failures(error)
                sent += 1
        if not sent:
            return
        unconfirmed = self._producer.flush(DEAD_LETTER_FLUSH_S)
        if errors or unconfirmed:
            reason = errors[0] if errors else f"{unconfirmed} messages not confirmed in {DEAD_LETTER_FLUSH_S:.0f} s"
            self._logger.error(
                "ingest.dead_letters_failed", topic=self._dead_letters, rejects=sent, failed=len(errors), error=reason
            )

    def poll(self, log: EventLog, owned: Iterable[Owned]) -> None:
        """Serve delivery reports, and record how far each partition's decisions are delivered without a gap.

        If one could not be delivered, all after the last confirmed one are sent again `REPUBLISH_S` later.
        """
        if not self._decisions or self._producer is None:
            return
        self._producer.poll(0)
        now = time.monotonic()
        for partition in owned:
            sent = self._sent.get(partition.partition)
            while sent and not sent[0].outstanding and not sent[0].failed:
                partition.published = sent.popleft().end
            if not sent or not sent[0].failed:
                continue
            due = self._republish_at.get(partition.partition)
            if due is None:
                self._republish_at[partition.partition] = now + REPUBLISH_S
                self._logger.error("ingest.publish_failed", partition=partition.partition, error=sent[0].error)
            elif now > due:
                self.republish(log, partition)

    def close(self) -> None:
        """Wait until queued messages are delivered, and spans exported."""
        self._spans.close()
        if self._producer is not None and self._producer.flush(DEAD_LETTER_FLUSH_S):
            self._logger.error("ingest.publish_unconfirmed", outstanding=len(self._producer))

    def _begin(self, owned: Owned) -> _Sent:
        sent = _Sent(owned.head.transactions)
        self._sent.setdefault(owned.partition, deque()).append(sent)
        return sent

    def _send(
        self,
        sent: _Sent,
        partition: int,
        position: Position,
        transaction_id: str,
        account_id: str,
        score: TransactionScored,
        headers: Headers | None = None,
    ) -> None:
        value = DecisionMessage(
            partition,
            str(position),
            transaction_id,
            account_id,
            score.decision,
            score.severity,
            score.probability,
            score.rules,
            score.model,
            score.degraded,
        )
        sent.outstanding += 1
        error = self._produce(self._decisions, account_id.encode(), _encode(value), headers, sent.delivered)
        if error is not None:
            sent.delivered(error)

    def _produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        delivered: Callable[[KafkaError | None, KafkaMessage], None],
    ) -> KafkaError | None:
        """Queue a message. Returns the error if it can't be sent at all. Raises Unavailable if the producer is no
        longer usable.
        """
        assert self._producer is not None
        while True:
            try:
                self._producer.produce(topic, value, key, headers=headers, on_delivery=delivered)
                return None
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as failure:
                error: KafkaError = failure.args[0]
                if error.fatal() or error.code() == KafkaError._FATAL:
                    reason = f"Kafka permanently refuses this worker's producer ({error.str()})"
                    raise Unavailable(f"{reason}: restart the worker") from None
                return error
