"""One partition's trouble parks that partition: the others go on, and it resumes once the cause is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from console.stack import Broker, Valkey
from core import control_stream, pipeline
from core.errors import Incomplete, Unavailable
from core.events import PartitionParked, PartitionResumed, Position
from core.log.base import EventLog, Head
from core.log.redis_streams import connect
from core.work import Work
from ingest import parking, telemetry
from sources.record import Record
from tests import worker_harness as h
from tests.worker_harness import Stage, Threaded

SICK = 2


@pytest.fixture
def on(broker: Broker, valkey_server: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(parking, "WAIT_FIRST_S", 0.3)
    made = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, batch_size=50)
    made.create_topics()
    return made


@pytest.fixture
def server(valkey_server: Valkey) -> Iterator[redis.Redis]:
    with redis.Redis(port=valkey_server.port) as client:
        yield client


def incidents(log: EventLog) -> list[tuple[str, int, str]]:
    """(type, partition, code) of what the control stream says of parking, in order."""
    found = []
    for _, event in control_stream.accepted(log):
        if isinstance(event, PartitionParked):
            found.append(("parked", event.partition, event.code))
        elif isinstance(event, PartitionResumed):
            found.append(("resumed", event.partition, ""))
    return found


def in_partition(on: Stage, records: list[Record]) -> list[int]:
    """How many of the records' transactions each partition has."""
    topic = on.settings.transactions_topic
    found = [0] * on.settings.partitions
    for message in on.messages(topic):
        found[message.partition] += 1
    return found


def wait_for_others(on: Stage, log: EventLog, held: list[int]) -> None:
    others = [p for p in range(on.settings.partitions) if p != SICK]
    h.wait_for(lambda: all(log.length(p, "transactions") == held[p] for p in others), "the other partitions")


def test_a_partition_that_cannot_be_loaded_is_parked_and_resumed(on: Stage, server: redis.Redis) -> None:
    """Its stream is gone while no worker runs: the others are decided; once it is back, so is the partition. A second
    worker that takes over while it is parked records nothing new.
    """
    first = on.produce(h.synthetic(800))
    on.drain()
    key = f"{on.settings.log_prefix}:{{p{SICK:02d}}}:transactions"
    taken = server.dump(key)
    server.delete(key)
    second = on.produce(h.synthetic(800, seed=8, start=1_900_000_000_000))
    held = in_partition(on, first + second)
    on = on.changed(snapshot_directory=str(on.directory / "none"))
    with on.log() as log:
        for _ in range(2):
            with Threaded(on) as worker:
                wait_for_others(on, log, held)
                h.wait_for(lambda worker=worker: worker.worker._parking.parked, "parking")
                worker.check()
            assert incidents(log) == [("parked", SICK, "incomplete_log")]
        with pytest.raises(Incomplete, match=f"partition {SICK}"):
            on.drain()
        with Threaded(on) as worker:
            h.wait_for(lambda: worker.worker._parking.parked, "parking")
            assert telemetry.PARKED._value.get() == 1
            server.restore(key, 0, taken)
            h.wait_for(lambda: log.length(SICK, "transactions") == held[SICK], "the parked partition")
            h.wait_for(lambda: len(incidents(log)) == 2, "its resumption")
            assert telemetry.PARKED._value.get() == 0
        assert incidents(log) == [("parked", SICK, "incomplete_log"), ("resumed", SICK, "")]
    h.assert_sound(on)
    h.assert_everything_once(on, first + second)


def test_a_partition_that_cannot_be_decided_is_found_and_parked(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deciding a batch of many partitions fails because of one: this one is parked, and nothing is decided twice."""
    decide, sick = pipeline.decide, [True]

    def failing(context: Any, works: list[Work]) -> Any:
        if sick and any(work.partition == SICK for work in works):
            raise ZeroDivisionError("a bug")
        return decide(context, works)

    monkeypatch.setattr(pipeline, "decide", failing)
    records = on.produce(h.synthetic(900))
    held = in_partition(on, records)
    with on.log() as log, Threaded(on) as worker:
        wait_for_others(on, log, held)
        h.wait_for(lambda: incidents(log), "the event")
        assert incidents(log) == [("parked", SICK, "internal_error")]
        assert log.head(SICK).sequence == 0
        worker.check()
        sick.clear()
        h.wait_for(lambda: len(incidents(log)) == 2, "its resumption")
        h.wait_for_decisions(on, log, 900, worker.check)
    h.assert_sound(on)
    h.assert_everything_once(on, records)


def test_a_partition_whose_appends_are_refused_is_parked(on: Stage, server: redis.Redis) -> None:
    """An entry that no seal covers stands in the way: the log refuses for ever, and the partition's worker goes on."""
    on.produce(h.synthetic(100))
    on.drain()
    with on.log() as log:
        at = log.head(SICK).transactions
    stray = f"{at.generation}-{at.offset + 10**6}"
    server.xadd(f"{on.settings.log_prefix}:{{p{SICK:02d}}}:transactions", {"e": b"{}"}, stray)
    records = on.produce(h.synthetic(900, seed=9, start=1_900_000_000_000))
    held = in_partition(on, records)
    with on.log() as log, Threaded(on) as worker:
        wait_for_others(on, log, held)
        h.wait_for(lambda: incidents(log), "the event")
        assert incidents(log)[0][:2] == ("parked", SICK)
        worker.check()


def test_a_rebalance_waits_for_the_log_server(on: Stage) -> None:
    """The log server stops answering just when partitions are assigned: the worker keeps trying, and then owns them."""
    records = on.produce(h.synthetic(400))
    s = on.settings
    log = connect(s.redis_host, s.redis_port, prefix=s.log_prefix)
    worker = Threaded(on, log=log)
    head, refused = log.head, [0]

    def away(partition: int) -> Head:
        if refused[0] < 5 and control_stream.current(log).generations:  # after the start, which asks for heads too
            refused[0] += 1
            raise Unavailable("the log server is away")
        return head(partition)

    log.head = away  # type: ignore[method-assign]
    with worker, on.log() as other:
        h.wait_for_decisions(on, other, h.count(records, "transactions"), worker.check)
    assert refused[0] == 5
    h.assert_sound(on)


def test_a_rebalance_gives_up_after_the_timeout(on: Stage) -> None:
    """Not for ever: after `unavailable_timeout_s` the worker ends with the server's error."""
    on.produce(h.synthetic(50))
    on = on.changed(unavailable_timeout_s=0.5)
    s = on.settings
    log = connect(s.redis_host, s.redis_port, prefix=s.log_prefix)

    head = log.head

    def away(partition: int) -> Head:
        if not control_stream.current(log).generations:
            return head(partition)  # the start asks for heads too
        raise Unavailable("the log server is away")

    log.head = away  # type: ignore[method-assign]
    worker = Threaded(on, log=log)
    worker.start()
    with pytest.raises(Unavailable, match="away"):
        worker.join()


def test_positions_of_a_parked_partition_stay(on: Stage, server: redis.Redis) -> None:
    """A seal that does not decode parks its partition; its entries are left as they are."""
    on.produce(h.synthetic(400))
    on.drain()
    key = f"{on.settings.log_prefix}:{{p{SICK:02d}}}:seals"
    with on.log() as log:
        before = log.head(SICK).sequence
        server.xadd(key, {"e": b"not a seal"}, f"{before + 1}-1")
        with Threaded(on) as worker:
            h.wait_for(lambda: incidents(log), "the event")
            worker.check()
        assert incidents(log) == [("parked", SICK, "corrupt_log")]
        assert log.read(SICK, "seals", Position(before + 1, 1)) == []
