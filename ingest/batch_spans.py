"""A worker's spans: for each payment whose message says that its trace is sampled, one span from the fetch to the
acknowledgement, and below it one for each stage of its batch.

    decided by the worker          consumer   its ID follows from the payment's place in the log (`core.trace_context`)
    ├─ decode                      internal   strict decoding, screening for card data, admission
    ├─ decide                      internal   features, score, rules, sealing: a pure function, with no clock in it
    ├─ append                      internal   until the log server's answer is taken
    └─ send <decisions topic>      producer   queueing, if decisions are published

They are made once the batch is acknowledged, from times taken at the stages' ends: no span is open while a payment is
decided. What is not sampled costs the reading of its header. At most PER_BATCH_MAX payments of a batch get spans, so
whoever sets the flag on every message can't slow a worker down; the others' decisions carry the same header as theirs
would. No attribute names a person, an account or a payment's ID: a place in the log says which payment it is to whoever
may read the log.

Cost: off, a few calls without content per batch; on, see docs/tracing.md.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from core.events import Position, TransactionScored
from core.settings import Settings
from core.trace_context import decided_span, place_key
from ingest.partition import Owned, Pending
from ingest.tracing import KAFKA, Attributes, Headers, Tracing, headers_of

PER_BATCH_MAX = 16
Times = tuple[int, int]


class Untraced:
    """The spans of a worker that does not trace: nothing happens."""

    def begin(self) -> None:
        """A batch is taken."""

    def decoded(self) -> None:
        """It is decoded and admitted."""

    def decided(self) -> None:
        """It is decided and sealed."""

    def sent(self) -> None:
        """It is on its way to the log."""

    def headers(self, owned: Owned, pending: Pending, row: int) -> Headers | None:
        """What the decision on transaction `row` carries."""
        return None

    def acknowledged(self, pendings: Sequence[Pending], publish_ns: int) -> None:
        """It is in the log, and its decisions are queued for Kafka since `publish_ns` (0: they are not published)."""

    def close(self) -> None:
        """Export what is left."""


class BatchSpans(Untraced):
    """See the module's head. One batch is decided while the one before it is appended, so the times of a batch travel
    from `decided` to `sent` to `acknowledged`, which the worker calls in this order.
    """

    def __init__(self, tracing: Tracing, settings: Settings) -> None:
        self._tracing = tracing
        self._topic = settings.transactions_topic
        self._decisions = settings.decisions_topic
        self._group = settings.consumer_group
        self._decode: Times = (0, 0)
        self._decide: Times = (0, 0)
        self._sent: tuple[Times, Times, int] = ((0, 0), (0, 0), 0)
        self._began = 0

    def begin(self) -> None:
        self._began = time.time_ns()

    def decoded(self) -> None:
        self._decode = self._began, time.time_ns()

    def decided(self) -> None:
        self._decide = self._decode[1], time.time_ns()

    def sent(self) -> None:
        self._sent = self._decode, self._decide, time.time_ns()

    def headers(self, owned: Owned, pending: Pending, row: int) -> Headers | None:
        trace = pending.messages[row].trace
        if trace is None:
            return None
        place = _place(owned, pending.positions[row])
        return headers_of(trace._replace(span_id=decided_span(place)) if trace.sampled else trace)

    def acknowledged(self, pendings: Sequence[Pending], publish_ns: int) -> None:
        decode, decide, sent_ns = self._sent
        now = time.time_ns()
        append = sent_ns, publish_ns or now
        left = PER_BATCH_MAX
        for pending in pendings:
            assert pending.decided is not None
            owned = pending.partition
            for row, scored in zip(pending.decided.kept, pending.decided.scored, strict=True):
                message, position = pending.messages[row], pending.positions[row]
                if message.trace is None or not message.trace.sampled:
                    continue
                if not left:
                    return
                left -= 1
                span = self._tracing.record(
                    f"process {self._topic}",
                    "consumer",
                    message.trace,
                    (int(message.fetched_at * 1e6), now),
                    {**self._where(owned, message.offset, position), **_outcome(scored)},
                    span_id=decided_span(_place(owned, position)),
                )
                for name, times in (("decode", decode), ("decide", decide), ("append", append)):
                    self._tracing.record(name, "internal", span, times)
                if publish_ns:
                    self._tracing.record(f"send {self._decisions}", "producer", span, (publish_ns, now), KAFKA)

    def close(self) -> None:
        self._tracing.close()

    def _where(self, owned: Owned, offset: int, position: Position) -> Attributes:
        return {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": self._topic,
            "messaging.destination.partition.id": str(owned.partition),
            "messaging.consumer.group.name": self._group,
            "messaging.kafka.offset": offset,
            "sentinel.position": str(position),
        }


def _outcome(scored: TransactionScored) -> Attributes:
    return {
        "sentinel.decision": scored.decision,
        "sentinel.severity": scored.severity or "none",
        "sentinel.degraded": scored.degraded or "no",
        "sentinel.model": scored.model,
        "sentinel.program": scored.program,
    }


def _place(owned: Owned, position: Position) -> str:
    return place_key(owned.state.identity.log_id, owned.partition, str(position))


def batch_spans(settings: Settings) -> Untraced:
    """The spans of a worker with these settings. Raises BadInput."""
    tracing = Tracing.of(settings, "sentinel-ingest", follows=True)
    return Untraced() if tracing is None else BatchSpans(tracing, settings)
