"""The trace of an alert, for responders: found where it came in, in the header of the payment's Kafka message.

A responder reads only the log, and the log holds no trace. But a payment's position in the log is its place in Kafka,
so its header is one read away, as long as Kafka keeps the message: alerts are acted on within seconds. The span of the
decision follows from the position (`core.trace_context`), so an action is the child of the decision that asked for it.

Where the header can't be had, the action is carried out without a trace: the message has expired; the topic was made
again; Kafka does not answer in READ_S, after which nobody asks for PAUSE_S; the responder's user may not read the
topic (docs/tracing.md). Only messages to channels are traced. No action waits longer than READ_S for its trace.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition

from core.errors import BadInput
from core.events import Position
from core.settings import Settings
from core.trace_context import TraceContext, decided_span, of_headers
from ingest import kafka_client, telemetry
from ingest.tracing import Tracing
from responders.channels.base import Channel, Message, Result

READ_S = 1.0
PAUSE_S = 30.0
KEPT_MAX = 2_000
"""Headers kept, since an action may be tried again, and an alert may have several."""


class Origins:
    """Reads the trace contexts of payments. generation: that of the transactions topic, asked at every read. Used by
    several threads; one reads at a time.
    """

    def __init__(self, settings: Settings, generation: Callable[[], int]) -> None:
        self._settings = settings
        self._topic = settings.transactions_topic
        self._generation = generation
        self._lock = threading.Lock()
        self._consumer: Consumer | None = None
        self._kept: OrderedDict[tuple[int, Position], TraceContext | None] = OrderedDict()
        self._paused_until = 0.0

    def of(self, partition: int, position: Position) -> TraceContext | None:
        """The context that came with a payment; None if there is none, or if it can't be had now."""
        if not self._lock.acquire(timeout=READ_S):
            return None
        try:
            key = partition, position
            if key not in self._kept:
                if position.generation != self._generation() or time.monotonic() < self._paused_until:
                    return None
                self._kept[key] = self._read(partition, position.offset - 1)
                if len(self._kept) > KEPT_MAX:
                    self._kept.popitem(last=False)
            return self._kept[key]
        except (KafkaException, BadInput, TimeoutError) as error:
            self._paused_until = time.monotonic() + PAUSE_S
            telemetry.logger().warning("tracing.origin_unknown", topic=self._topic, error=str(error), pause_s=PAUSE_S)
            return None
        finally:
            self._lock.release()

    def _read(self, partition: int, offset: int) -> TraceContext | None:
        if self._consumer is None:
            self._consumer = kafka_client.message_reader(self._settings)
        self._consumer.assign([TopicPartition(self._topic, partition, offset)])
        deadline = time.monotonic() + READ_S
        while (left := deadline - time.monotonic()) > 0:
            message = self._consumer.poll(left)
            if message is None or message.partition() != partition:
                continue
            if (error := message.error()) is not None:
                raise KafkaException(error)
            return of_headers(message.headers()) if message.offset() == offset else None
        raise TimeoutError(f"no answer in {READ_S:g} s")

    def close(self) -> None:
        """Give up the connections."""
        with self._lock:
            if self._consumer is not None:
                self._consumer.close()
                self._consumer = None


class TracedChannel:
    """A channel whose messages say which trace they belong to, with a span around each that is sampled."""

    def __init__(self, name: str, channel: Channel, tracing: Tracing, origins: Origins) -> None:
        self._name = name
        self._channel = channel
        self._tracing = tracing
        self._origins = origins

    def send(self, message: Message) -> Result:
        """See `responders.channels.base`."""
        place = message.key.rpartition(":")[0]
        _, partition, position = place.split(":")
        origin = self._origins.of(int(partition), Position.parse(position))
        if origin is None:
            return self._channel.send(message)
        if not origin.sampled:
            return self._channel.send(message._replace(trace=origin.header))
        about = {"sentinel.channel": self._name, "sentinel.position": position}
        span = self._tracing.begin(message.kind, "client", origin._replace(span_id=decided_span(place)), about)
        result = self._channel.send(message._replace(trace=span.context.header))
        span.end({"sentinel.outcome": result.fate}, error="" if result.fate == "delivered" else result.fate)
        return result


class Traces:
    """The traces of a responder: its channels, wrapped, and what must be closed with it."""

    def __init__(self, settings: Settings, generation: Callable[[], int]) -> None:
        """Raises BadInput if the setting `tracing` is on and can't be used."""
        self._tracing = Tracing.of(settings, "sentinel-respond", follows=True)
        self._origins = Origins(settings, generation)

    def around(self, channels: Mapping[str, Channel]) -> dict[str, Channel]:
        """The channels, traced if the process traces."""
        if self._tracing is None:
            return dict(channels)
        return {name: TracedChannel(name, each, self._tracing, self._origins) for name, each in channels.items()}

    def close(self) -> None:
        """Export what is left."""
        self._origins.close()
        if self._tracing is not None:
            self._tracing.close()
