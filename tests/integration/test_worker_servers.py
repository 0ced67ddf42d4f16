"""The ingest worker on Apache Kafka, with redis-server and with a Redis Cluster: what the local stack can't show."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewPartitions

from core import control_stream
from core.errors import BadInput, Unavailable
from core.events import MessagesSkipped, Position
from core.partitioner import PARTITIONERS
from core.settings import Settings
from ingest import bootstrap, kafka_client, losses, parking, topic_watch, vigilance
from ingest.parking import Trouble
from sources.record import Record
from tests import worker_harness as h
from tests.builders import record_batches as rb
from tests.integration.apache_kafka import ApacheKafka
from tests.integration.servers import RedisCluster, RedisServer
from tests.worker_harness import Raw, Stage, Threaded

NOW = 1_780_000_000_000

SHARED: dict[str, Any] = {"assignment_strategy": Settings().assignment_strategy}
"""How workers share partitions by default."""


@pytest.fixture(params=["redis", "cluster"])
def on(request: pytest.FixtureRequest, apache_kafka: ApacheKafka, tmp_path: Path) -> Stage:
    """A stage on Apache Kafka with each kind of log server."""
    cluster = request.param == "cluster"
    server: RedisServer | RedisCluster = request.getfixturevalue("redis_cluster" if cluster else "redis_server")
    made = h.stage(apache_kafka.bootstrap, "127.0.0.1", server.port, tmp_path, redis_cluster=cluster, **SHARED)
    made.create_topics()
    return made


@pytest.fixture
def single(apache_kafka: ApacheKafka, redis_server: RedisServer, tmp_path: Path) -> Stage:
    """A stage on Apache Kafka and one redis-server."""
    made = h.stage(apache_kafka.bootstrap, "127.0.0.1", redis_server.port, tmp_path, **SHARED)
    made.create_topics()
    return made


def assert_as_undisturbed(on: Stage, records: list[Record]) -> None:
    on.drain()
    h.assert_sound(on)
    h.assert_everything_once(on, records)
    assert h.log_of(on) == h.undisturbed(on)


def test_workers_killed_in_mid_stream_leave_the_same_log(on: Stage) -> None:
    """Two workers, each killed once and replaced: byte for byte the log of an undisturbed run. Then SIGTERM: exit code
    0.
    """
    on = on.changed(batch_size=50)
    records = on.produce(h.synthetic(6_000))
    workers = [on.worker(f"worker-{n}") for n in range(2)]
    for worker in workers:
        worker.start()
    try:
        with on.log() as log:
            for number, goal in enumerate((1_000, 3_000), start=2):
                h.wait_for_decisions(on, log, goal)
                workers.pop(0).kill()
                workers.append(on.worker(f"worker-{number}"))
                workers[-1].start()
            h.wait_for_decisions(on, log, 6_000)
        # The last one may still be starting: a signal would end it before it has learnt to stop.
        started = [worker.log_path for worker in workers]
        h.wait_for(lambda: all("ingest.assigned" in path.read_text() for path in started), "the last worker's start")
    finally:
        for worker in workers:
            worker.stop()
    for worker in workers:
        assert worker.wait(1) == 0, worker.log_path.read_text()
    assert_as_undisturbed(on, records)


def test_a_worker_frozen_for_longer_than_its_session_writes_nothing(single: Stage) -> None:
    """SIGSTOP in mid-batch until its partitions are another's, then SIGCONT, twice: what it had in hand is refused, and
    the log is that of an undisturbed run.
    """
    on = single.changed(batch_size=20)
    records = on.produce(h.synthetic(4_000))
    with on.worker("frozen") as frozen, on.worker("other") as other, on.log() as log:
        assert frozen.pid is not None
        for goal in (400, 1_600):
            h.wait_for(lambda: on.owned("frozen"), "partitions of the worker to freeze")
            h.wait_for_decisions(on, log, goal)
            os.kill(frozen.pid, signal.SIGSTOP)
            try:
                h.wait_for(lambda: len(on.owned("other")) == on.settings.partitions, "the other one's partitions")
            finally:
                os.kill(frozen.pid, signal.SIGCONT)
        h.wait_for_decisions(on, log, 4_000, other.check)
        assert frozen.running, frozen.last_lines(20)
    assert_as_undisturbed(on, records)


def test_bad_messages_are_kept_and_copied(on: Stage) -> None:
    """Garbage, a tombstone, a message without key and one of a megabyte among good ones; dead letters where there is a
    topic.
    """
    good = h.synthetic(300)
    topic = on.settings.transactions_topic
    bad = [
        ("not_json", Raw(topic, b"k", b"garbage", NOW)),
        ("tombstone", Raw(topic, b"k", None, NOW)),
        ("too_large", Raw(topic, b"k", b"x" * 999_000, NOW)),
        ("not_utf8", Raw(topic, None, b"\xff", NOW)),
        ("wrong_type", Raw(on.settings.feedback_topic, b"k", b"[]", NOW)),
    ]
    on.produce(good[:300])
    on.send([message for _, message in bad])
    on.produce(good[300:])
    stats = on.drain()
    assert stats.rejects == Counter(reason for reason, _ in bad)
    assert stats.transactions == 300
    letters = on.messages(on.settings.dead_letter_topic)
    assert Counter((m.key, m.value) for m in letters) == Counter((m.key, m.value) for _, m in bad)
    assert Counter(dict(m.headers)["reason"].decode() for m in letters) == Counter(reason for reason, _ in bad)
    h.assert_sound(on)


def test_a_dead_letter_topic_that_does_not_exist_does_not_hold_the_stream_up(single: Stage) -> None:
    """This broker makes no topics by itself: copies can't be written, and everything else goes on."""
    on = single.changed(dead_letter_topic="nowhere", batch_size=20)
    topic = on.settings.transactions_topic
    on.send([Raw(topic, b"k", b"garbage", NOW) for _ in range(200)])
    records = on.produce(h.synthetic(300))
    began = time.monotonic()
    stats = on.drain()
    assert time.monotonic() - began < 15, "librdkafka waits 30 s for such a topic by default"
    assert stats.rejects == {"not_json": 200}
    assert stats.transactions == h.count(records, "transactions")
    h.assert_sound(on)


def test_a_broker_killed_in_mid_stream_is_waited_for(
    own_kafka: ApacheKafka, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Kafka dies and comes back on its disk while a worker is busy: the same worker goes on; nothing is lost or
    doubled.
    """
    on = h.stage(own_kafka.bootstrap, "127.0.0.1", redis_server.port, tmp_path, batch_size=20)
    on = on.changed(decisions_topic=f"{on.settings.log_prefix}.decisions")
    on.create_topics()
    records = on.produce(h.synthetic(8_000))
    with on.worker("worker") as worker:
        with on.log() as log:
            h.wait_for_decisions(on, log, 500)
            own_kafka.kill()
            assert h.total(on, log) < 8_000, "the stream was over before the kill"
            own_kafka.start()
            h.wait_for_decisions(on, log, 8_000, worker.check)
        assert worker.running
        worker.stop()
        assert worker.wait(1) == 0
    assert_as_undisturbed(on, records)
    positions = {(p, str(position)) for p, part in enumerate(h.log_of(on)) for position, _ in part.scores}
    said = [h.decoded(m) for m in on.messages(on.settings.decisions_topic)]
    assert {(m["partition"], m["position"]) for m in said} == positions
    assert len({(m["partition"], m["position"], m["decision"], m["probability"]) for m in said}) == len(positions)


def test_event_times_far_in_the_past_are_kept(single: Stage) -> None:
    """Topics made by --create-topics keep messages whatever their timestamps; all of ten years ago is decided."""
    records = single.produce(h.synthetic(300, start=1_460_000_000_000))
    assert max(r.timestamp for r in records) < 1_480_000_000_000
    single.drain()
    h.assert_sound(single)
    h.assert_everything_once(single, records)


def delete_before(on: Stage, partition: int, offset: int) -> None:
    """Let Kafka delete the transactions of a partition before an offset, as retention does."""
    at = TopicPartition(on.settings.transactions_topic, partition, offset)
    client = kafka_client.admin(on.settings)  # must outlive its futures
    client.list_topics(at.topic, timeout=10)  # librdkafka may crash if it is asked before it knows the leaders
    for future in client.delete_records([at]).values():
        future.result(10)


@pytest.mark.parametrize(
    ("read_before", "strategy"),
    [(True, "range"), (False, "cooperative-sticky")],
    ids=["in mid-stream", "before anything was read"],
)
def test_what_kafka_deleted_is_a_loss_until_it_is_accepted(
    single: Stage, read_before: bool, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records deleted before they were decided: the partition is parked, and doctor and `partition show` name what is
    missing; the others go on. Once a person has accepted the loss, the partition goes on behind it.
    """
    monkeypatch.setattr(parking, "WAIT_FIRST_S", 0.5)
    on = single.changed(decisions_topic="", dead_letter_topic="", assignment_strategy=strategy)
    records = h.synthetic(2_000)
    if read_before:
        on.produce(records[:1_000])
        on.drain()
        first = max(m.offset for m in on.messages(on.settings.transactions_topic) if m.partition == 1) + 1
        on.produce(records[1_000:])
    else:
        with on.log() as log:
            bootstrap.ensure(log, on.settings)
        first = 0
        on.produce(records)
    found = [m for m in on.messages(on.settings.transactions_topic) if m.partition == 1]
    start = first + 5
    delete_before(on, 1, start)
    with pytest.raises(Trouble, match=f"no longer holds offset {first}"):
        on.drain()
    with on.log() as log, Threaded(on) as worker:
        others = h.total(on, log) - log.length(1, "transactions")
        assert others == 2_000 - len(found)
        assert losses.losses(log, on.settings) == [losses.Loss("transactions", 1, 1, first, start)]
        h.wait_for(lambda: control_stream.current(log).parked == {1: "messages_expired"}, "parking")
        losses.accept(log, on.settings, 1, "ann", "agreed", 1)
        h.wait_for_decisions(on, log, 2_000 - 5, worker.check)
        h.wait_for(lambda: not control_stream.current(log).parked, "resumption")
        assert losses.losses(log, on.settings) == []
        with pytest.raises(BadInput, match="lost nothing"):
            losses.accept(log, on.settings, 1, "ann", "again", 1)
    on.drain()
    h.assert_sound(on)


def test_gaps_between_offsets_are_no_losses(single: Stage) -> None:
    """Transactions leave control records, an aborted one leaves a gap: nothing is parked or lost."""
    on = single
    topic = on.settings.transactions_topic
    producer = Producer({**kafka_client.common(on.settings), "transactional.id": on.settings.log_prefix})
    producer.init_transactions(10)
    place = PARTITIONERS[on.settings.partitioner]
    records = [r for r in h.synthetic(240) if r.topic == "transactions" and place(r.key.encode(), 4) == 1]
    assert len(records) > 20
    for number, record in enumerate(records):
        producer.begin_transaction()
        producer.produce(topic, record.value, record.key, partition=1, timestamp=record.timestamp)
        if number % 3 == 0:
            producer.flush(10)
            producer.abort_transaction(10)
        else:
            producer.commit_transaction(10)
    stats = on.drain()
    assert stats.transactions == sum(number % 3 != 0 for number in range(len(records)))
    with on.log() as log:
        assert losses.losses(log, on.settings) == []
        assert control_stream.current(log).parked == {}
    h.assert_sound(on)


def test_partitions_added_later_are_refused(single: Stage) -> None:
    """A topic that grew after the log was made: BadInput, in a worker that runs and at every later start."""
    single.produce(h.synthetic(100))
    worker = Threaded(single)
    worker.start()
    h.wait_for(lambda: worker.worker.partitions, "partitions")
    admin = kafka_client.admin(single.settings)
    names = [single.settings.transactions_topic, single.settings.feedback_topic]
    for future in admin.create_partitions([NewPartitions(name, 6) for name in names]).values():
        future.result(10)
    with pytest.raises(BadInput, match=r"4 partitions|same number of partitions"):
        worker.join()
    with pytest.raises(BadInput, match=r"4 partitions.*docs/partitions.md"):
        single.drain()


def test_a_static_member_whose_place_is_taken_ends(single: Stage) -> None:
    """A second process with its ID takes its partitions over at once; the first one ends by itself, instead of deciding
    on against it.
    """
    on = single.changed(group_instance_id="fixed-1", session_timeout_ms=6_000)
    records = on.produce(h.synthetic(400))
    first = Threaded(on)
    first.start()
    with on.log() as log:
        h.wait_for_decisions(on, log, 200, first.check)
        with Threaded(on) as second:
            h.wait_for(lambda: len(second.worker.partitions) == 4, "all partitions")
            with pytest.raises(Unavailable, match="no longer"):
                first.join()
            h.wait_for_decisions(on, log, 400, second.check)
    assert_as_undisturbed(on, records)


def test_a_static_member_that_comes_back_to_other_partitions_joins_anew(
    single: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker gives it what it had, here a partition of another topic: that is none of the log's. It leaves the group
    and joins it, and owns what it should.
    """
    monkeypatch.setattr(vigilance, "LOOK_S", 0.5)
    monkeypatch.setattr(vigilance, "OWNS_NOTHING_S", 1.0)
    on = single.changed(group_instance_id="fixed-1", session_timeout_ms=30_000)
    elsewhere = f"{on.settings.log_prefix}.elsewhere"
    kafka_client.create_topics(on.changed(partitions=1).settings, [elsewhere])
    before = kafka_client.transactions_consumer(on.settings)
    before.subscribe([elsewhere])

    def has_one() -> bool:
        before.consume(1, 0.1)
        return len(before.assignment()) == 1

    h.wait_for(has_one, "an assignment")
    before.close()
    records = on.produce(h.synthetic(400))
    with Threaded(on) as worker, on.log() as log:
        h.wait_for_decisions(on, log, 400, worker.check)
        assert worker.worker.partitions == [0, 1, 2, 3]
    assert_as_undisturbed(on, records)


@pytest.mark.parametrize(
    "changes",
    [
        {"assignment_strategy": "range"},
        {"group_instance_id": "fixed-1"},
        {"kafka": {"group.protocol": "consumer"}},
        {"kafka": {"group.protocol": "consumer"}, "group_instance_id": "fixed-1"},
        {"kafka": {"max.poll.interval.ms": 10_000}},
    ],
    ids=["eager", "static", "KIP-848", "KIP-848, static", "short poll interval"],
)
def test_other_ways_of_sharing_partitions(single: Stage, changes: dict[str, Any]) -> None:
    """Other protocols and settings of the group, while a second worker comes and goes: the same log."""
    on = single.changed(batch_size=20, **changes)
    records = on.produce(h.synthetic(2_500))
    with on.log() as log, Threaded(on) as first:
        h.wait_for_decisions(on, log, 200)
        other = on.changed(group_instance_id="fixed-2") if on.settings.group_instance_id else on
        with Threaded(other) as second:
            h.wait_for(lambda: second.worker.partitions, "partitions of the second worker")
        h.wait_for_decisions(on, log, 2_500, first.check)
    assert_as_undisturbed(on, records)


def test_a_topic_recreated_between_two_runs_is_a_new_generation(single: Stage) -> None:
    """Deleted and made again: read from its beginning, under generation 2."""
    records = h.synthetic(1_200)
    first, second = records[:1_200], records[1_200:]
    single.produce(first)
    single.drain()
    admin = kafka_client.admin(single.settings)
    names = [single.settings.transactions_topic, single.settings.feedback_topic]
    for future in admin.delete_topics(names, operation_timeout=10).values():
        future.result(10)
    h.wait_for(lambda: not any(kafka_client.describe(single.settings, names).values()), "the topics to go")
    single.produce(second)
    single.drain()
    h.assert_sound(single)
    h.assert_everything_once(single, records)
    with single.log() as log:
        assert all(head.transactions.generation == 2 for head in h.heads(single, log))
        assert log.read(0, "transactions", Position(2, 0), 1)[0].id == Position(2, 1)


def recreate(on: Stage, names: list[str]) -> None:
    """Delete topics and make them again at once."""
    client = kafka_client.admin(on.settings)
    for future in client.delete_topics(names, operation_timeout=10).values():
        future.result(10)
    h.wait_for(lambda: not any(kafka_client.describe(on.settings, names).values()), "the topics to go")
    on.create_topics()


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
@pytest.mark.parametrize("more", [True, False], ids=["with more messages", "with fewer messages"])
def test_a_topic_recreated_under_a_running_worker_is_a_new_generation(
    single: Stage, more: bool, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same worker goes on with the new topic from its beginning, whether or not the old offset exists in it; every
    message of both is decided once.
    """
    monkeypatch.setattr(parking, "WAIT_FIRST_S", 0.5)
    monkeypatch.setattr(topic_watch, "INTERVAL_S", 3.0)
    on = single.changed(decisions_topic="", dead_letter_topic="", assignment_strategy=strategy)
    first = h.synthetic(400)
    second = h.synthetic(1_200 if more else 60, seed=8, days=0.5, start=1_780_000_000_000)
    with Threaded(on) as worker, on.log() as log:
        on.produce(first)
        h.wait_for_decisions(on, log, 400, worker.check)
        h.wait_for(lambda: h.total(on, log, "feedback") == h.count(first, "feedback"), "the feedback")
        recreate(on, [on.settings.transactions_topic, on.settings.feedback_topic])
        on.produce(second)
        h.wait_for_decisions(on, log, 400 + h.count(second, "transactions"), worker.check)
        assert {g.number for g in control_stream.current(log).generations.values()} == {2}
        h.wait_for(lambda: not control_stream.current(log).parked, "all partitions to go on")
    on.drain()
    h.assert_sound(on)
    h.assert_everything_once(on, [*first, *second], read_again=True)


def test_workers_outlive_a_topic_that_is_gone_for_a_while(single: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both topics deleted, and made again seconds later: no worker ends, and the new generation is decided."""
    monkeypatch.setattr(parking, "WAIT_FIRST_S", 0.5)
    on = single.changed(decisions_topic="", dead_letter_topic="")
    first, second = h.synthetic(300), h.synthetic(300, seed=8, start=1_780_000_000_000)
    names = [on.settings.transactions_topic, on.settings.feedback_topic]
    with Threaded(on) as one, Threaded(on) as other, on.log() as log:
        on.produce(first)
        h.wait_for_decisions(on, log, 300, one.check)
        h.wait_for(lambda: h.total(on, log, "feedback") == h.count(first, "feedback"), "the feedback")
        client = kafka_client.admin(on.settings)
        for future in client.delete_topics(names, operation_timeout=10).values():
            future.result(10)
        time.sleep(5)
        on.create_topics()
        on.produce(second)
        h.wait_for_decisions(on, log, 600, one.check)
        other.check()
    on.drain()
    h.assert_sound(on)
    h.assert_everything_once(on, [*first, *second])


def test_a_batch_that_unpacks_to_too_much_is_passed(single: Stage) -> None:
    """150 MB of zeros, packed by zstd to 4.6 kB, which this broker accepts: passed, and recorded with its offsets."""
    first = single.produce(h.synthetic(200))
    records = [rb.record(n, b"k", bytes(75_000_000)) for n in range(2)]
    topic, now = single.settings.transactions_topic, int(time.time() * 1000)
    code, start = rb.produce(single.settings.kafka_servers, topic, 1, rb.batch(records, now, rb.ZSTD))
    assert code == 0
    second = single.produce(h.synthetic(200, seed=8, start=1_780_000_000_000))
    single.drain()
    with single.log() as log:
        skipped = [e for _, e in control_stream.accepted(log) if isinstance(e, MessagesSkipped)]
        assert [(e.first_offset, e.next_offset, e.code) for e in skipped] == [(start, start + 2, "unreadable_batch")]
    h.assert_sound(single)
    h.assert_everything_once(single, first + second)
