"""The producer and the admin client of the simulated broker, with the interface of confluent-kafka's, as far as the
product uses it. A producer's messages travel while its process does other things, and die with it if they have not
left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tests.simulation.consumers import Message, broker, failed
from tests.simulation.world import World


@dataclass(slots=True)
class _Outgoing:
    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    partition: int
    told: Callable[[KafkaError | None, Message], None] | None


class Producer:
    """As confluent_kafka.Producer."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._broker = broker()
        self._world: World = self._broker.world
        self._process = self._world.current
        self._timeout_s = float(properties.get("delivery.timeout.ms", 30_000)) / 1000
        self._waiting = 0
        self._reports: deque[Callable[[], None]] = deque()
        self._arrives_at = 0.0

    def produce(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int = -1,
        headers: Any = None,
        on_delivery: Callable[[KafkaError | None, Message], None] | None = None,
        **more: Any,
    ) -> None:
        message = _Outgoing(topic, key, value, tuple((n, v or b"") for n, v in headers or ()), partition, on_delivery)
        self._broker.on_produce(topic, value)
        self._waiting += 1
        self._world.call(f"kafka produce {topic}", lambda: None)
        delay = self._world.random.random() * 0.01
        self._arrives_at = max(self._arrives_at, self._world.now + delay)  # idempotent: never out of order
        self._world.later(self._arrives_at - self._world.now, lambda: self._arrive(message, self._world.now))

    def _arrive(self, message: _Outgoing, since: float) -> None:
        if self._process.ended or self._process.frozen_until > self._world.now:
            if not self._process.ended:
                self._world.later(self._process.frozen_until - self._world.now, lambda: self._arrive(message, since))
            return
        kafka = self._broker
        if not kafka.is_up:
            if self._world.now - since > self._timeout_s:
                self._report(message, KafkaError(KafkaError._MSG_TIMED_OUT), -1, -1)
            else:
                self._world.later(0.1, lambda: self._arrive(message, since))
            return
        topic = kafka.topics.get(message.topic)
        if topic is None or message.partition >= len(topic.partitions):
            self._report(message, KafkaError(KafkaError._UNKNOWN_TOPIC), -1, -1)
            return
        how = kafka.failing.pop(0) if kafka.failing else ""
        if how == "refused":
            self._report(message, KafkaError(KafkaError._MSG_TIMED_OUT), -1, -1)
            return
        partition, offset = kafka.append(
            message.topic, message.key, message.value, partition=message.partition, headers=message.headers
        )
        error = KafkaError(KafkaError._MSG_TIMED_OUT) if how == "no_answer" else None
        self._world.later(self._world.random.random() * 0.002, lambda: self._report(message, error, partition, offset))

    def _report(self, message: _Outgoing, error: KafkaError | None, partition: int, offset: int) -> None:
        def report() -> None:
            self._waiting -= 1
            if message.told is not None:
                message.told(error, Message(message.topic, partition, None, error, offset))

        self._reports.append(report)

    def poll(self, timeout: float = 0.0) -> int:
        self._world.call("kafka producer poll", lambda: None)
        if timeout > 0:
            self._world.wait(timeout, lambda: bool(self._reports))
        return self._serve()

    def _serve(self) -> int:
        served = 0
        while self._reports:
            self._reports.popleft()()
            served += 1
        return served

    def flush(self, timeout: float = -1) -> int:
        self._world.call("kafka flush", lambda: None)
        deadline = self._world.now + (timeout if timeout >= 0 else 3600.0)
        while True:
            self._serve()
            if not self._waiting or self._world.now >= deadline:
                return self._waiting
            self._world.wait(deadline - self._world.now, lambda: bool(self._reports))

    def __len__(self) -> int:
        return self._waiting


class _Future:
    """A result that is there, or an error."""

    def __init__(self, result: Any = None, error: Exception | None = None) -> None:
        self._result, self._error = result, error

    def result(self, timeout: float | None = None) -> Any:
        if self._error is not None:
            raise self._error
        return self._result


class AdminClient:
    """As confluent_kafka.admin.AdminClient."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._broker = broker()
        self._world: World = self._broker.world

    def _asked(self, what: str, answer: Callable[[], Any]) -> Any:
        def effect() -> Any:
            if not self._broker.is_up:
                raise failed(KafkaError._TRANSPORT)
            return answer()

        return self._world.call(f"kafka {what}", effect)

    def why(self, settings: Any) -> str:
        """As `ingest.kafka_reasons.Admin`: nothing is known of a failure."""
        return ""

    def list_topics(self, timeout: float = -1) -> Any:
        return self._asked(
            "list topics",
            lambda: SimpleNamespace(topics={name: SimpleNamespace(error=None) for name in self._broker.topics}),
        )

    def describe_topics(self, topics: Any, request_timeout: float = 0.0) -> dict[str, _Future]:
        def answer() -> dict[str, _Future]:
            found = {}
            for name in topics.topic_names:
                topic = self._broker.topics.get(name)
                if topic is None:
                    found[name] = _Future(error=failed(KafkaError.UNKNOWN_TOPIC_OR_PART))
                else:
                    found[name] = _Future(SimpleNamespace(topic_id=topic.identity, partitions=list(topic.partitions)))
            return found

        return self._futures("describe topics", answer, topics.topic_names)

    def describe_consumer_groups(self, names: list[str], request_timeout: float = 0.0) -> dict[str, _Future]:
        def answer() -> dict[str, _Future]:
            return {name: _Future(self._described(name)) for name in names}

        return self._futures("describe group", answer, names)

    def _described(self, name: str) -> Any:
        group = self._broker.groups.get(name)
        members = group.members if group is not None else []
        topic = group.topic if group is not None else ""
        stable = group is not None and (group.is_cooperative or group.is_synced())
        return SimpleNamespace(
            state=SimpleNamespace(name="STABLE" if stable else "PREPARING_REBALANCING"),
            members=[
                SimpleNamespace(
                    client_id=member.name,
                    host="sim",
                    assignment=SimpleNamespace(
                        topic_partitions=[TopicPartition(topic, p) for p in sorted(member.owned)]
                    ),
                )
                for member in members
            ],
        )

    def _futures(self, what: str, answer: Callable[[], Any], names: Iterable[Any]) -> Any:
        try:
            return self._asked(what, answer)
        except KafkaException as error:
            return {name: _Future(error=error) for name in names}
