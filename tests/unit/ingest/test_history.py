"""History mode end to end: loaded by the producer, decided whenever, live before and after."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from console import wiring
from console.stack import Broker, Valkey
from core import control_stream
from core.codec import decode_reject, decode_transaction, encode
from core.errors import BadInput
from core.events import HistoryEnded, HistoryStarted
from core.times import DAY_MS, HOUR_MS
from ingest import history
from ingest.producer import publish
from sources.catalogue import open_source
from sources.record import Record
from sources.source import Source, VerdictsFor
from sources.synthetic import SyntheticConfig, SyntheticStream
from tests import worker_harness as h
from tests.builders.events import transaction
from tests.worker_harness import Stage, Threaded

ACT = {"occurred_at": 1, "actor": "ann", "reason": "test"}


@pytest.fixture
def on(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> Stage:
    made = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, partitions=3, history=False)
    made.create_topics()
    return made


def record(number: int, at: int) -> Record:
    account = f"a{number % 7}"
    return Record("transactions", account, at, encode(transaction(number, account_id=account, occurred_at=at)))


def load(on: Stage, records: list[Record]) -> None:
    """As `sentinel produce` does."""
    with history.loading(lambda: wiring.open_log(on.settings), on.settings, [records], "test") as chunks:
        publish(chunks, on.settings)


def times(on: Stage) -> dict[str, tuple[int, int]]:
    """(the source's, the receive time) of every decision."""
    with on.log() as log:
        found = [
            decode_transaction(entry.payload)
            for p in range(on.settings.partitions)
            for entry in log.read(p, "transactions", count=10**6)
        ]
    return {t.transaction_id: (t.occurred_at, t.received_at) for t in found}


def rejected(on: Stage) -> list[str]:
    with on.log() as log:
        return [
            decode_reject(entry.payload).reason
            for p in range(on.settings.partitions)
            for entry in log.read(p, "rejects", count=10**6)
        ]


def test_live_and_past_messages_are_told_apart_by_their_places(on: Stage) -> None:
    """Two loads with live messages around them, all decided afterwards: each by its own mode, and none is rejected."""
    old = int(time.time() * 1000) - 300 * DAY_MS
    now = int(time.time() * 1000)
    on.produce([record(n, now) for n in range(20)])
    load(on, [record(100 + n, old + n * HOUR_MS) for n in range(200)])
    on.produce([record(400 + n, now) for n in range(20)])
    load(on, [record(500 + n, old + 20 * DAY_MS) for n in range(30)])
    on.produce([record(600 + n, now) for n in range(20)])
    on.drain()
    found = times(on)
    assert len(found) == 290 and rejected(on) == []
    for name, (at, received) in found.items():
        is_past = 100 <= int(name[1:]) < 400 or 500 <= int(name[1:]) < 600
        assert received == at if is_past else received >= now - 1_000, name
    h.assert_sound(on)


def test_a_running_worker_learns_of_a_history_before_it_rejects_its_messages(on: Stage) -> None:
    """A history that is opened while a worker waits covers the very next messages, and only until it ends."""
    old = int(time.time() * 1000) - 300 * DAY_MS
    with Threaded(on) as worker, on.log() as log:
        h.wait_for(lambda: worker.worker.partitions, "partitions")
        for round in range(3):
            history.start(log, on.settings, old, old + DAY_MS, **ACT)
            on.produce([record(10 * round + n, old + n) for n in range(10)])
            history.stop(log, on.settings, **ACT)
            on.produce([record(100 + 10 * round + n, int(time.time() * 1000)) for n in range(10)])
            h.wait_for_decisions(on, log, 20 * (round + 1), worker.check)
    assert rejected(on) == []
    h.assert_sound(on)


def test_a_live_stream_needs_no_history_and_no_log(on: Stage) -> None:
    """A stream that begins now is sent without asking the log."""

    def no_log() -> h.EventLog:
        raise AssertionError("the log was opened")

    now = int(time.time() * 1000)
    with history.loading(no_log, on.settings, [[record(1, now)]], "test") as chunks:
        assert [each for chunk in chunks for each in chunk] == [record(1, now)]
    with history.loading(no_log, on.settings, [], "test") as chunks:
        assert list(chunks) == []


def test_a_load_within_an_open_history_leaves_it_open(on: Stage) -> None:
    """What a person opened is used if it holds the stream, and an error if it does not."""
    old = int(time.time() * 1000) - 300 * DAY_MS
    with on.log() as log:
        history.start(log, on.settings, old, old + DAY_MS, **ACT)
        load(on, [record(1, old)])
        assert history.open_history(control_stream.Known(control_stream.current(log), [])) is not None
        with pytest.raises(BadInput, match="already open"):
            load(on, [record(2, old - DAY_MS)])
        history.stop(log, on.settings, **ACT)
        kinds = [type(event) for _, event in control_stream.accepted(log)]
    assert kinds == [HistoryStarted, HistoryEnded]


def test_a_history_reaches_no_further_than_its_stream(on: Stage) -> None:
    """No other message can be dated later meanwhile: windows and tables would follow it. Verdicts may be later."""
    old = int(time.time() * 1000) - 300 * DAY_MS
    records = [record(1, old), record(2, old + DAY_MS), Record("feedback", "a1", old + 9 * DAY_MS, b"{}")]
    opened = history.loading(lambda: wiring.open_log(on.settings), on.settings, [records], "test", old + DAY_MS)
    with opened as chunks:
        assert [each for chunk in chunks for each in chunk] == records
        with on.log() as log:
            held = history.open_history(control_stream.Known(control_stream.current(log), []))
    assert held is not None and (held.earliest, held.latest) == (old, old + DAY_MS)
    beyond = [[record(3, old), record(4, old + DAY_MS)]]
    late = history.loading(lambda: wiring.open_log(on.settings), on.settings, beyond, "test", old)
    with pytest.raises(BadInput, match="may reach to"), late as chunks:
        list(chunks)
    source = SyntheticStream(SyntheticConfig(transactions=500, days=3, accounts=50))
    times = [record.timestamp for chunk in source.records() for record in chunk if record.topic == "transactions"]
    assert source.last - DAY_MS < max(times) <= source.last


@pytest.mark.parametrize("labels", ["fraud", "all"])
def test_a_history_reaches_to_the_last_verdict_that_is_sent(labels: VerdictsFor, tmp_path: Path) -> None:
    """Verdicts that are sent after the last payment are later than it, and still part of the stream's history."""
    config = SyntheticConfig(transactions=2_000, days=3, accounts=50, fraud_rate=0.2, label_delay_days=5.0)
    streams: list[Source] = [SyntheticStream(config, labels=labels, flush_feedback=True)]
    file = tmp_path / "payments.csv"
    file.write_text("id,account,amount,time,fraud\nt1,a1,5,2026-01-05T10:00:00,1\nt2,a1,6,2026-01-05T11:00:00,0\n")
    mapping = tmp_path / "m.toml"
    mapping.write_text(
        '[columns]\ntransaction_id = "id"\naccount_id = "account"\namount = "amount"\n'
        '[time]\ncolumn = "time"\n[label]\ncolumn = "fraud"\n'
    )
    streams.append(open_source("custom", file, mapping=mapping, labels=labels, flush_feedback=True))
    for source in streams:
        records = [record for chunk in source.records() for record in chunk]
        payments, verdicts = ([r.timestamp for r in records if r.topic == t] for t in ("transactions", "feedback"))
        assert source.last is not None and max(payments) < max(verdicts) <= source.last


def test_a_load_that_fails_ends_its_history(on: Stage) -> None:
    """A stream that is not in order of time stops the load, and the history does not stay open."""
    old = int(time.time() * 1000) - 300 * DAY_MS

    def chunks() -> Iterator[list[Record]]:
        yield [record(1, old)]
        yield [record(2, old - DAY_MS)]

    loading = history.loading(lambda: wiring.open_log(on.settings), on.settings, chunks(), "test")
    with pytest.raises(BadInput, match="sort it by time"), loading as sent:
        publish(sent, on.settings)
    with on.log() as log:
        assert [type(event) for _, event in control_stream.accepted(log)] == [HistoryStarted, HistoryEnded]
