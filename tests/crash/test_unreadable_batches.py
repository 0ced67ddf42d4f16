"""Batches that no client can unpack, and batches whose checksum is wrong: the first are passed, the second park."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from console.stack import Broker, Valkey
from core import control_stream
from core.codec import decode_reject
from core.events import MessagesSkipped
from core.log.base import EventLog
from ingest import losses, parking
from tests import worker_harness as h
from tests.builders import record_batches as rb
from tests.builders.registry import Registry
from tests.worker_harness import Stage, Threaded

P = 1


@pytest.fixture
def on(broker: Broker, valkey_server: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(parking, "WAIT_FIRST_S", 0.3)
    made = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, dead_letter_topic="")
    made.create_topics()
    return made


def send(on: Stage, content: bytes, topic: str = "") -> int:
    """Put a batch into partition P as it is; its first offset."""
    code, offset = rb.produce(on.settings.kafka_servers, topic or on.settings.transactions_topic, P, content)
    assert code == 0
    return offset


def skipped(log: EventLog) -> list[tuple[str, int, int, str]]:
    return [
        (e.topic, e.first_offset, e.next_offset, e.code)
        for _, e in control_stream.accepted(log)
        if isinstance(e, MessagesSkipped)
    ]


def now() -> int:
    return int(time.time() * 1000)


def bomb(sizes: Sequence[int]) -> bytes:
    return rb.batch([rb.record(n, b"k", bytes(size)) for n, size in enumerate(sizes)], now(), rb.ZSTD)


def broken(count: int) -> bytes:
    """A batch that says it is packed by zstd and is not."""
    return rb.framed(b"this is not zstd", count, now(), rb.ZSTD)


@pytest.mark.parametrize(
    "kind", ["zeros", "one record", "broken", "long", "several"], ids=lambda kind: kind.replace(" ", "-")
)
def test_a_batch_that_cannot_be_unpacked_is_passed(on: Stage, kind: str) -> None:
    """150 MB of zeros in 4.6 kB, or nonsense: recorded with exactly its offsets; all before and after it is decided."""
    contents = {
        "zeros": [bomb([75_000_000] * 2)],
        "one record": [bomb([150_000_000])],
        "broken": [broken(1)],
        "long": [broken(37)],
        "several": [broken(3), broken(1), broken(5)],
    }[kind]
    first = on.produce(h.synthetic(200))
    start = send(on, contents[0])
    for content in contents[1:]:
        send(on, content)
    second = on.produce(h.synthetic(200, seed=8, start=1_780_000_000_000))
    end = start + {"zeros": 2, "one record": 1, "broken": 1, "long": 37, "several": 9}[kind]
    with on.log() as log, Threaded(on) as worker:
        h.wait_for_decisions(on, log, 400, worker.check)
        assert skipped(log) == [("transactions", start, end, "unreadable_batch")]
        assert control_stream.current(log).parked == {}
    on.drain()
    h.assert_sound(on)
    h.assert_everything_once(on, first + second)
    with on.log() as log:
        assert len(skipped(log)) == 1


def test_a_batch_is_not_passed_before_what_waits_for_the_other_topic(
    broker: Broker, valkey_server: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict can't be read while a schema registry is down. The payments after it wait, and so does the batch after
    those: passing it would pass them, too.
    """
    monkeypatch.setattr(parking, "WAIT_FIRST_S", 0.3)
    monkeypatch.setattr(parking, "WAIT_MAX_S", 0.3)
    address = (broker.bootstrap, valkey_server.host, valkey_server.port)
    with Registry(schemas={1: ("JSON", "{}")}, status=503) as registry:
        on = h.stage(*address, tmp_path, dead_letter_topic="", schema_registry=registry.url)
        on.create_topics()
        sent = on.produce(h.synthetic(100))
        on.drain()
        send(on, rb.batch([rb.record(0, b"k", b"\x00\x00\x00\x00\x01no JSON")], now()), on.settings.feedback_topic)
        sent += on.produce(h.synthetic(100, seed=8, start=1_780_000_000_000))
        start = send(on, broken(3))
        sent += on.produce(h.synthetic(100, seed=9, start=1_780_100_000_000))
        with on.log() as log, Threaded(on) as worker:
            h.wait_for(lambda: control_stream.current(log).parked == {P: "schema_unavailable"}, "parking")
            time.sleep(2 * parking.GRACE_S)
            assert skipped(log) == []
            registry.status = 200
            h.wait_for_decisions(on, log, 300, worker.check)
            assert skipped(log) == [("transactions", start, start + 3, "unreadable_batch")]
        on.drain()
        h.assert_sound(on)
        parts = h.log_of(on)
    decided = [event["transaction_id"] for part in parts for _, event in part.transactions]
    assert sorted(decided) == sorted(
        msgspec.json.decode(r.value)["transaction_id"] for r in sent if r.topic == "transactions"
    )
    assert [reason for part in parts for _, _, reason, _, _ in part.rejects] == ["not_json"]


def test_a_batch_in_feedback_is_passed(on: Stage) -> None:
    """The same on the other topic."""
    first = on.produce(h.synthetic(200))
    start = send(on, broken(2), on.settings.feedback_topic)
    on.drain()
    with on.log() as log:
        assert skipped(log) == [("feedback", start, start + 2, "unreadable_batch")]
    h.assert_sound(on)
    h.assert_everything_once(on, first)


def test_a_message_that_unpacks_to_far_too_much_is_rejected(on: Stage) -> None:
    """Gzip has no limit in the client: the message is rejected, its first bytes and its size kept. NULs may hide a card
    number, so there is no digest of it.
    """
    on.produce(h.synthetic(100))
    send(on, rb.batch([rb.record(0, b"k", bytes(64_000_000))], now(), rb.GZIP))
    stats = on.drain()
    assert stats.rejects == {"too_large": 1}
    with on.log() as log:
        rejects = [decode_reject(e.payload) for e in log.read(P, "rejects")]
    assert [len(r.value or b"") for r in rejects] == [65_536]
    assert "the value's 64000000 bytes are kept, without card data" in rejects[0].detail
    h.assert_sound(on)


def test_a_wrong_checksum_parks_the_partition_until_it_is_accepted(on: Stage) -> None:
    """It is told as what it is; the good messages before it are decided; a person may pass it."""
    first = on.produce(h.synthetic(300))
    start = send(on, rb.batch([rb.record(n, b"k", b"v") for n in range(3)], now(), bad_crc=True))
    second = on.produce(h.synthetic(200, seed=8, start=1_780_000_000_000))
    with on.log() as log, Threaded(on) as worker:
        h.wait_for(lambda: control_stream.current(log).parked == {P: "corrupt_batch"}, "parking")
        assert log.length(P, "transactions") == start, "what came before the batch is decided"
        assert losses.accept(log, on.settings, P, "ann", "looked at it", now()) == [
            losses.Loss("transactions", 1, P, start, start + 3)
        ]
        h.wait_for_decisions(on, log, 500, worker.check)
        h.wait_for(lambda: not control_stream.current(log).parked, "resumption")
    on.drain()
    h.assert_sound(on)
    h.assert_everything_once(on, first + second)
