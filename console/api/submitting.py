"""Sends payments to Kafka and waits for their decisions; sends feedback and waits for its delivery.

The states of a payment (`Submitter.decide`):

    checked     by the worker's own edge (`core.validation`, `ingest.protecting`): a reject is told at once, and nothing
                is sent; card data is taken out
    sent        to the account's partition of `transactions`; Kafka's confirmation gives its position
    confirmed   Kafka has it: it will be decided once, whatever happens to this process or to the client
    decided     its decision is durable in the log: answered
    rejected    by the worker, for what only it knows; a repeated payment is answered with its first decision

Failures: Kafka confirms nothing in time, and it is unknown whether it has the payment: 503, and the same payment can be
sent again (the worker recognises it). The worker or the log takes too long: 202 with the place where the decision will
be. A client that disconnects changes nothing.

A repeated payment is found among the newest ANSWERED_MAX, then in the index, then in its partition (0.3 µs an entry).
Answers under an Idempotency-Key are kept for as many requests, in this process; after a restart, and at another server,
the transaction's ID is the key.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from console.api.desk import Desk
from console.api.metrics import Metrics
from console.api.problems import ProblemError, field_of
from console.api.tail import Decided, Outcome, Refused, Tail
from core.codec import encode
from core.errors import BadInput, Unavailable
from core.events import AccountEvent, ListKind, Position, Transaction
from core.hiding import masked
from core.identity import required
from core.settings import Settings
from core.tokens import home
from core.trace_context import TraceContext
from core.validation import decode_feedback, decode_transaction
from ingest import kafka_client
from ingest.intake import Message as Received
from ingest.protecting import Protection, hidden, words
from ingest.tracing import Headers, Tracing, around, headers_of
from projections.audit.redecide import DecisionPlace

ANSWERED_MAX = 50_000
DELIVERY_S = 5.0
POLL_S = 0.1
TOPIC = "transactions"
_FIELDS = {
    "negative_amount": "amount",
    "absurd_amount": "amount",
    "absurd_time": "occurred_at",
    "future_time": "occurred_at",
    "past_time": "occurred_at",
    "outside_history": "occurred_at",
    "too_many_attributes": "attributes",
    "empty_id": "transaction_id",
}
"""The field that a reason is about, where its words don't name it."""
K = TypeVar("K")
V = TypeVar("V")
E = TypeVar("E", Transaction, AccountEvent)


class _Account(msgspec.Struct):
    account_id: str


_account = msgspec.json.Decoder(_Account)


class Kept(Generic[K, V]):
    """A bounded map; the oldest is forgotten first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        return self._held.get(key)

    def put(self, key: K, value: V) -> None:
        self._held[key] = value
        while len(self._held) > self._size:
            self._held.popitem(last=False)

    def drop(self, key: K) -> None:
        self._held.pop(key, None)

    def clear(self) -> None:
        self._held.clear()


@dataclass(frozen=True, slots=True)
class Awaited:
    """A confirmed payment whose decision is not there yet. place: where it will be."""

    transaction_id: str
    account_id: str
    place: DecisionPlace


class Submitter:
    """See the module's docstring. Used on one event loop; a thread of its own serves Kafka's confirmations."""

    def __init__(self, desk: Desk, tail: Tail, metrics: Metrics) -> None:
        """Raises BadInput for a Kafka setting that is not valid. Contacts nobody."""
        self._desk = desk
        self._tail = tail
        self._metrics = metrics
        self._settings = desk.settings
        self._protection = Protection.of(desk.settings)
        self._tracing = Tracing.of(desk.settings, "sentinel-serve")
        self._producer = _producer(desk.settings)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="producer", daemon=True)
        self.answered: Kept[tuple[str, str], DecisionPlace] = Kept(ANSWERED_MAX)

    def start(self) -> None:
        """Begin to serve confirmations."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """Wait a while for what is in flight."""
        if self._thread.is_alive():
            self._producer.flush(DELIVERY_S)
            self._stopping.set()
            self._thread.join(5.0)
        if self._tracing is not None:
            self._tracing.close()

    async def decide(self, value: bytes, wait_s: float, trace: TraceContext | None = None) -> Decided | Awaited:
        """The payment's decision; Awaited if it takes longer than wait_s. trace: of the request. Raises ProblemError
        (422), Unavailable.
        """
        with around(self._tracing, "decide", "server", trace) as context:
            return await self._decide(value, wait_s, context)

    async def _decide(self, value: bytes, wait_s: float, trace: TraceContext | None) -> Decided | Awaited:
        transaction, value = self._checked(value)
        key = (transaction.account_id, transaction.transaction_id)
        known = self.answered.get(key)
        began = time.perf_counter()
        partition, position = await self._sent(transaction, value, trace)
        confirmed = time.perf_counter()
        self._metrics.confirmed.observe(confirmed - began)
        future = self._tail.outcome(partition, position)
        try:
            outcome = await asyncio.wait_for(future, wait_s)
        except TimeoutError:
            return Awaited(transaction.transaction_id, transaction.account_id, DecisionPlace(partition, position))
        finally:
            self._tail.forget(partition, position, future)
        self._metrics.decided.observe(time.perf_counter() - confirmed)
        return await self._answer(transaction, outcome, known)

    async def send(self, value: bytes, trace: TraceContext | None = None) -> Awaited:
        """Send a payment without waiting for its decision, but for Kafka's confirmation. trace: of the request."""
        transaction, value = self._checked(value)
        partition, position = await self._sent(transaction, value, trace)
        return Awaited(transaction.transaction_id, transaction.account_id, DecisionPlace(partition, position))

    async def send_feedback(self, account: str, value: bytes) -> str:
        """Send an event of the feedback topic, which the caller has checked, and wait for Kafka's confirmation. Returns
        the account as the log knows it.
        """
        event, value = self._protected(decode_feedback(value, account.encode()), value)
        account = event.account_id
        try:
            told = self._desk.attest(event)
        except BadInput as error:
            raise ProblemError(403, str(error), reason=error.reason) from None
        value = value if told is event else encode(told)
        await self._produced(self._settings.feedback_topic, self._partition(account), account.encode(), value)
        return account

    def listed(self, kind: ListKind, values: Iterable[str]) -> list[str]:
        """Values of a list as the log holds them. Raises BadInput."""
        return self._protection.listed(required(self._desk.control.identity), kind, values)

    def _checked(self, value: bytes) -> tuple[Transaction, bytes]:
        """The payment and its message, without card data. Raises ProblemError (422) with the worker's reason code."""
        try:
            account = _account.decode(value).account_id.encode()
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            account = b""  # the full check below says what is wrong
        is_live = all(history.ends is not None for history in self._desk.control.histories)
        now_ms = int(time.time() * 1000) if is_live else 0
        try:
            transaction = decode_transaction(value, account, now_ms)
        except BadInput as error:
            raise rejected(error.reason, str(error)) from None
        return self._protected(transaction, value)

    def _protected(self, event: E, value: bytes) -> tuple[E, bytes]:
        """The event and its message without card data. Raises ProblemError (422) if the settings refuse such data."""
        identity = required(self._desk.control.identity)
        hiding = self._protection.hiding(identity)
        found = hidden(Received(0, 0, None, value), event, hiding)
        if found is None and identity.tokens:
            event = hiding.event(event)[0]
            return event, encode(event)
        if found is None:
            return event, value
        if self._protection.refuses:
            raise rejected("card_number", words(found.kinds))
        return cast(E, found.event), found.message.value or b""

    async def _sent(self, transaction: Transaction, value: bytes, trace: TraceContext | None) -> tuple[int, Position]:
        partition = self._partition(transaction.account_id)
        topic = self._settings.transactions_topic
        with around(self._tracing, f"send {topic}", "producer", trace) as context:
            key = transaction.account_id.encode()
            offset = await self._produced(topic, partition, key, value, headers_of(context))
        return partition, Position(self._desk.control.generations[TOPIC].number, offset + 1)

    def _partition(self, account: str) -> int:
        identity = required(self._desk.control.identity)
        return home(account, identity.partitioner, identity.partitions)

    async def _produced(
        self, topic: str, partition: int, key: bytes, value: bytes, headers: Headers | None = None
    ) -> int:
        """The offset that Kafka gave the message. Raises Unavailable if it confirms none."""
        confirmed: asyncio.Future[int] = self._loop.create_future()
        self._produce(topic, partition, key, value, headers, confirmed)
        try:
            return await asyncio.wait_for(confirmed, DELIVERY_S + 1.0)
        except TimeoutError:
            raise Unavailable("Kafka did not confirm the message in time: send the same again") from None

    def _produce(
        self,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes,
        headers: Headers | None,
        confirmed: asyncio.Future[int],
    ) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:  # in the producer's thread
            call: Callable[[], None]
            if error is not None:
                said = f"Kafka at {self._settings.kafka_servers} did not take the message ({error.str()})"
                call = lambda: _fail(confirmed, Unavailable(f"{said}: send the same again"))  # noqa: E731
            else:
                offset = message.offset() or 0
                call = lambda: _finish(confirmed, offset)  # noqa: E731
            try:
                self._loop.call_soon_threadsafe(call)
            except RuntimeError:  # the loop has ended, and nobody waits any more
                return

        try:
            self._producer.produce(topic, value, key, partition=partition, headers=headers, on_delivery=delivered)
        except BufferError:
            raise Unavailable("too many messages wait for Kafka: send the same again") from None
        except KafkaException as error:
            raise Unavailable(f"the message can't be sent ({error.args[0].str()})") from None

    def _serve(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(POLL_S)

    async def _answer(self, transaction: Transaction, outcome: Outcome, known: DecisionPlace | None) -> Decided:
        key = (transaction.account_id, transaction.transaction_id)
        if isinstance(outcome, Decided):
            self.answered.put(key, DecisionPlace(outcome.partition, outcome.position))
            return outcome
        if outcome.reason == "duplicate_transaction":
            place = known or self.answered.get(key)
            first = await self._desk.run(self._desk.first_decision, outcome.partition, *key, place)
            if first is not None:
                self.answered.put(key, DecisionPlace(first.partition, first.position))
                return first
        raise rejected(outcome.reason, outcome.detail)


def rejected(reason: str, detail: str) -> ProblemError:
    """The problem of a payment that can't be accepted."""
    detail = masked(detail)
    status = 409 if reason == "duplicate_transaction" else 413 if reason == "too_large" else 422
    first, _, rest = detail.partition(" ")
    named = first if rest.startswith(("holds", "has", "must")) and first.isidentifier() else ""
    return ProblemError(
        status,
        detail,
        reason=reason,
        field=field_of(detail) or _FIELDS.get(reason, "") or named,
        remedy="docs/bad-input.md lists the reasons",
    )


@dataclass
class Idempotency(Generic[V]):
    """Answers by Idempotency-Key and user: a repeated request gets the first one's answer, also while that is made."""

    answers: Kept[tuple[str, str], tuple[bytes, asyncio.Future[V]]]

    async def once(self, key: tuple[str, str], body: bytes, make: Callable[[], asyncio.Future[V]]) -> V:
        """What `make` returns, called once for each key. Raises ProblemError (422) if the key had another body."""
        digest = hashlib.blake2b(body, digest_size=16).digest()
        known = self.answers.get(key)
        if known is not None and known[0] != digest:
            raise ProblemError(
                422,
                f"the Idempotency-Key {key[1]!r} was used for another body",
                reason="idempotency_key_reused",
                remedy="use a new key for each payment",
            )
        if known is None:
            known = (digest, make())
            self.answers.put(key, known)
        try:
            answer = await asyncio.shield(known[1])
            if isinstance(answer, Awaited):  # no answer yet: asked again, the payment's ID finds it
                self.answers.drop(key)
            return answer
        except Exception:  # of whatever kind, and raised again: an error is no answer, and the request may be repeated
            self.answers.drop(key)
            raise


def _finish(future: asyncio.Future[int], offset: int) -> None:
    if not future.done():
        future.set_result(offset)


def _fail(future: asyncio.Future[int], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _producer(settings: Settings) -> Producer:
    """Idempotent, all acknowledgements, and no delay: each request waits for its own message."""
    return kafka_client.made(
        Producer,
        {
            **kafka_client.common(settings),
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 0,
            "socket.nagle.disable": True,
            "delivery.timeout.ms": int(DELIVERY_S * 1000),
            "queue.buffering.max.messages": 20_000,
            "queue.buffering.max.kbytes": 65_536,
            "topic.metadata.propagation.max.ms": 1_000,
        },
    )


__all__ = ["Awaited", "Decided", "Idempotency", "Kept", "Refused", "Submitter", "rejected"]
