"""Publishing, against a real broker in a child process: nothing lost, same partitions, right times, clear failures."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from console.stack import Broker, free_port
from core.errors import BadInput, Unavailable
from core.settings import Settings
from ingest.held import missing
from ingest.producer import publish
from sources.record import Record
from sources.synthetic import SyntheticConfig, SyntheticStream

PARTITIONS = 5
Received = tuple[str, int, str, int, bytes]


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with Broker() as running:
        yield running


def settings(broker: Broker, name: str) -> Settings:
    return Settings(
        kafka_servers=broker.bootstrap,
        partitions=PARTITIONS,
        transactions_topic=f"{name}.transactions",
        feedback_topic=f"{name}.feedback",
    )


def consumed(config: Settings) -> list[Received]:
    """Everything in both topics: topic, partition, key, timestamp, value."""
    consumer = Consumer(
        {
            "bootstrap.servers": config.kafka_servers,
            "group.id": "test",
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    names = (config.transactions_topic, config.feedback_topic)
    consumer.assign([TopicPartition(name, p, 0) for name in names for p in range(PARTITIONS)])
    messages: list[Received] = []
    ended = 0
    deadline = time.monotonic() + 20
    while ended < 2 * PARTITIONS:
        assert time.monotonic() < deadline, "the broker did not give back what was sent"
        for m in consumer.consume(1000, 0.1):
            if m.error():
                ended += 1
            else:
                key, value = m.key(), m.value()
                assert key is not None and value is not None
                messages.append((m.topic() or "", m.partition() or 0, key.decode(), m.timestamp()[1], value))
    consumer.close()
    return messages


def test_every_record_arrives_with_its_key_and_time(broker: Broker) -> None:
    """What is consumed is exactly what was sent; each account has one partition, the same in both topics."""
    config = settings(broker, "whole")
    stream = SyntheticStream(SyntheticConfig(transactions=20_000, fraud_rate=0.05), flush_feedback=True)
    records = [record for chunk in stream.records() for record in chunk]
    progress: list[tuple[int, int]] = []
    report = publish(stream.records(), config, on_progress=lambda t, f: progress.append((t, f)))
    assert report.sent == {"transactions": 20_000, "feedback": 1_000} and report.failed == 0
    assert progress[-1] == (20_000, 1_000) and progress == sorted(progress)
    messages = consumed(config)
    topics = {"transactions": config.transactions_topic, "feedback": config.feedback_topic}
    assert Counter((t, k, at, v) for t, _, k, at, v in messages) == Counter(
        (topics[r.topic], r.key, r.timestamp, r.value) for r in records
    )
    partitions: dict[str, set[int]] = {}
    for _, partition, key, _, _ in messages:
        partitions.setdefault(key, set()).add(partition)
    assert {len(p) for p in partitions.values()} == {1}
    assert set.union(*partitions.values()) == set(range(PARTITIONS))


def test_a_partition_keeps_the_order_of_the_stream(broker: Broker) -> None:
    """Within a topic and partition, timestamps ascend as sent."""
    config = settings(broker, "order")
    publish(SyntheticStream(SyntheticConfig(transactions=5_000)).records(), config)
    last: dict[tuple[str, int], int] = {}
    for topic, partition, _, timestamp, _ in consumed(config):
        assert timestamp >= last.get((topic, partition), 0)
        last[topic, partition] = timestamp


def test_the_rate_is_kept_and_times_can_be_now(broker: Broker) -> None:
    """1,000 transactions at 2,000 a second take half a second; with timestamps=now they carry the present time."""
    config = settings(broker, "paced")
    begin = time.time() * 1000
    report = publish(
        SyntheticStream(SyntheticConfig(transactions=1_000)).records(), config, rate=2_000, timestamps="now"
    )
    assert 0.45 < report.seconds < 3
    assert all(begin - 1_000 < timestamp < time.time() * 1000 + 1_000 for _, _, _, timestamp, _ in consumed(config))


def test_topics_with_different_partitions_are_refused(broker: Broker) -> None:
    """Verdicts would miss their account's partition, so nothing is sent."""
    config = settings(broker, "uneven")
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(config.feedback_topic, PARTITIONS + 1)])[config.feedback_topic].result(10)
    with pytest.raises(BadInput, match=r"same number of partitions: uneven.feedback has 6, uneven.transactions has 5"):
        publish([[Record("transactions", "a", 1, b"{}")]], config)


def test_a_message_the_client_refuses_is_counted_and_reported(broker: Broker) -> None:
    """One message above the limit fails the run at its end, with the number; the others are sent."""
    config = settings(broker, "large")
    records = [
        Record("transactions", f"a{i}", 1_800_000_000_000, b"x" * (2_000_000 if i == 1 else 9)) for i in range(4)
    ]
    with pytest.raises(Unavailable, match=r"1 of 4 messages were not delivered .*too large"):
        publish([records], config)
    assert sorted(key for _, _, key, _, _ in consumed(config)) == ["a0", "a2", "a3"]


def test_ctrl_c_sends_what_is_under_way_and_reports(broker: Broker) -> None:
    """An interrupt ends the stream, not the delivery: what was handed over is acknowledged."""

    def chunks() -> Iterator[list[Record]]:
        yield [Record("transactions", "a", 1_800_000_000_000, b"{}")] * 500
        raise KeyboardInterrupt

    config = settings(broker, "interrupted")
    report = publish(chunks(), config)
    assert report.interrupted and report.sent["transactions"] == 500 and report.failed == 0
    assert len(consumed(config)) == 500


@pytest.mark.parametrize("sent", [0, 1, 2_500, 6_000])
def test_a_run_that_was_interrupted_is_continued_without_sending_twice(broker: Broker, sent: int) -> None:
    """Whatever the first run left, the second sends the rest, also between messages of others: nothing twice."""
    config = settings(broker, f"resumed-{sent}")
    stream = SyntheticStream(SyntheticConfig(transactions=5_000, fraud_rate=0.1), flush_feedback=True)
    everything = [record for chunk in stream.records() for record in chunk]
    publish([everything[:sent]], config)
    foreign = [Record("transactions", "someone", 1, b"else"), Record("feedback", "someone", 1, b"else")]
    publish([foreign], config)
    report = publish(missing(stream.records(), config), config)
    assert sum(report.sent.values()) == max(len(everything) - sent, 0)
    wanted = Counter((record.key, record.value) for record in [*everything, *foreign])
    assert Counter((key, value) for _, _, key, _, value in consumed(config)) == wanted
    again = publish(missing(stream.records(), config), config)
    assert sum(again.sent.values()) == 0


def test_equal_messages_of_a_stream_are_each_sent(broker: Broker) -> None:
    """A stream that holds a message three times has it three times in Kafka, also if one was there already."""
    config = settings(broker, "thrice")
    record = Record("transactions", "a", 1, b"same")
    publish([[record]], config)
    report = publish(missing([[record, record], [record]], config), config)
    assert report.sent["transactions"] == 2


def test_no_broker_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listening is Unavailable, with the address, before a record is read."""
    monkeypatch.setattr("ingest.kafka_client.ADMIN_TIMEOUT_S", 0.5)
    config = Settings(kafka_servers=f"127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match=config.kafka_servers):
        publish(iter(()), config)


def test_a_broker_that_dies_is_reported_with_the_number_lost() -> None:
    """Messages without acknowledgement in time are counted, and sending stops instead of going on for ever."""
    with Broker() as mortal:
        config = settings(mortal, "mortal")

        def chunks() -> Iterator[list[Record]]:
            yield [Record("transactions", "a", 1_800_000_000_000, b"{}")]
            time.sleep(0.3)
            mortal.kill()
            while True:
                yield [Record("transactions", "a", 1_800_000_000_000, b"{}")] * 10
                time.sleep(0.05)

        with pytest.raises(Unavailable, match=r"\d+ of \d+ messages were not delivered"):
            publish(chunks(), config, delivery_timeout_s=1.0)


@pytest.mark.parametrize("options", [{"rate": 0.0}, {"rate": -1.0}, {"timestamps": "later"}])
def test_wrong_options_are_refused(options: dict[str, object]) -> None:
    """A rate of nothing and an unknown kind of timestamp are refused before any connection."""
    with pytest.raises(BadInput):
        publish([], Settings(), **options)  # type: ignore[arg-type]
