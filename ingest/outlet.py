"""Sends account events to the feedback topic one batch at a time, and tells where in the log they will be.

For whoever must know that its events arrived, and find them again: responders, and acts on cases. `ingest.producer` is
for streams. Every message has its partition given, so it lies beside its account's payments whatever the partitioner of
the client is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaError, KafkaException, Message

from core.card_numbers import is_suspicious
from core.codec import decode_account_event, encode
from core.errors import BadInput, Unavailable
from core.events import Position
from core.hiding import without_notes
from core.settings import Settings
from ingest import kafka_client
from ingest.attesting import Attest
from responders.ports import Outgoing

TIMEOUT_S = 10.0
_GONE = (KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART)


class KafkaOutlet:
    """See the module's head. generation: that of the feedback topic, asked at every call. attest: what signs events, if
    anything does (`ingest.attesting`).
    """

    def __init__(self, settings: Settings, generation: Callable[[], int], attest: Attest | None = None) -> None:
        self._attest = attest
        self._topic = settings.feedback_topic
        self._servers = settings.kafka_servers
        self._generation = generation
        self._producer = kafka_client.feedback_producer(settings, TIMEOUT_S)

    def send(self, events: Sequence[Outgoing]) -> list[Position]:
        """Send in order and wait until Kafka has everything; returns the entries' positions in the log.

        Raises Unavailable if it is unknown whether everything arrived, BadInput if an event can't be sent.
        """
        offsets: list[int | None] = [None] * len(events)
        errors: list[str] = []

        def delivered(number: int) -> Callable[[KafkaError | None, Message], None]:
            def told(error: KafkaError | None, message: Message) -> None:
                if error is not None:
                    errors.append(error.str())
                else:
                    offsets[number] = message.offset()

            return told

        for number, event in enumerate(events):
            self._produce(event, delivered(number))
        deadline = time.monotonic() + TIMEOUT_S + 2.0
        while len(self._producer) and time.monotonic() < deadline:
            self._producer.poll(0.05)
        if errors or None in offsets:
            why = errors[0] if errors else "no acknowledgement in time"
            raise Unavailable(f"Kafka at {self._servers} did not confirm every event on {self._topic}: {why}")
        generation = self._generation()
        return [Position(generation, offset + 1) for offset in offsets if offset is not None]

    def _produce(self, event: Outgoing, told: Callable[[KafkaError | None, Message], None]) -> None:
        payload = event.payload
        if is_suspicious(payload):  # what people write is masked before Kafka has it; the worker does the rest
            payload = encode(without_notes(decode_account_event(payload)))
        if self._attest is not None:
            payload = encode(self._attest(decode_account_event(payload)))
        while True:
            try:
                self._producer.produce(
                    self._topic, payload, event.account_id.encode(), partition=event.partition, on_delivery=told
                )
                return
            except BufferError:
                self._producer.poll(0.05)
            except KafkaException as error:
                if error.args[0].code() in _GONE:
                    raise Unavailable(
                        f"topic {self._topic} at {self._servers} is missing, or lacks a partition"
                    ) from None
                raise BadInput(f"an event can't be sent to {self._topic}: {error.args[0].str()}") from None
