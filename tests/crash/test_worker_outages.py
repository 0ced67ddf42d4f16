"""The worker while its servers fail: the log's server killed, frozen, or back without its last writes; the broker made
anew (I6).
"""

from __future__ import annotations

import threading
from pathlib import Path

from console.service import Service
from console.stack import Broker, Valkey
from core.errors import Unavailable
from core.log.base import Head
from core.log.redis_streams import connect
from ingest.partition import Pending
from sources.record import Record
from tests import worker_harness as h
from tests.worker_harness import Stage, Threaded


def prepared(broker: Broker, server: Valkey, directory: Path, **changes: object) -> Stage:
    on = h.stage(broker.bootstrap, server.host, server.port, directory, batch_size=50, **changes)
    on.create_topics()
    return on


def halves(transactions: int) -> tuple[list[Record], list[Record]]:
    """One stream, cut in the middle: no transaction of the second half is in the first."""
    records = h.synthetic(transactions)
    return records[: len(records) // 2], records[len(records) // 2 :]


def supervise(on: Stage, worker: Service) -> None:
    """Start the worker again if it gave up, as a supervisor would. It may only have ended with exit code 4."""
    if not worker.running:
        assert worker.wait(1) == Unavailable.exit_code, worker.log_path.read_text()[-2000:]
        assert "Traceback" not in worker.log_path.read_text()
        worker.start()


def test_a_killed_log_server_loses_and_doubles_nothing(broker: Broker, tmp_path: Path) -> None:
    """Valkey is killed three times under load and comes back on its file: the log is that of an undisturbed run."""
    with Valkey(tmp_path / "valkey") as server:
        on = prepared(broker, server, tmp_path)
        records = on.produce(h.synthetic(4_000))
        with on.worker("worker") as worker:
            for goal in (500, 1_500, 2_500):
                with on.log() as log:
                    h.wait_for_decisions(on, log, goal)
                server.kill()
                server.start()
                supervise(on, worker)
            with on.log() as log:

                def done() -> bool:
                    supervise(on, worker)
                    return h.total(on, log) >= 4_000

                h.wait_for(done, "the rest")
        on.drain()
        h.assert_sound(on)
        h.assert_everything_once(on, records)
        assert h.log_of(on) == h.undisturbed(on)


def test_a_log_server_that_stays_away_ends_the_worker_in_one_line(broker: Broker, tmp_path: Path) -> None:
    """After `unavailable_timeout_s` the worker gives up: exit code 4, the reason in the last line, no traceback."""
    with Valkey(tmp_path / "valkey") as server:
        on = prepared(broker, server, tmp_path, unavailable_timeout_s=0.5)
        on.produce(h.synthetic(6_000))
        worker = on.worker("worker")
        with worker:
            with on.log() as log:
                h.wait_for_decisions(on, log, 500)
            server.kill()
            assert worker.wait(20) == Unavailable.exit_code
        said = worker.log_path.read_text()
        assert "Traceback" not in said
        assert said.splitlines()[-1].startswith("sentinel: event log server")


def test_a_lost_tail_of_the_log_is_read_from_kafka_again(broker: Broker, tmp_path: Path) -> None:
    """The server comes back without its last writes, under a running worker: the worker notices, and decides them
    again.
    """
    with Valkey(tmp_path / "valkey", appendfsync="everysec") as server:
        on = prepared(broker, server, tmp_path)
        first, second = halves(3_600)
        on.produce(first)
        with Threaded(on) as worker:
            with on.log() as log:
                h.wait_for_decisions(on, log, h.count(first, "transactions"))
            server.kill()
            tail = max((server.directory / "appendonlydir").glob("*.incr.aof"))
            content = tail.read_bytes()
            tail.write_bytes(content[: len(content) * 2 // 3 + 5])
            server.start()
            with on.log() as log:
                assert h.total(on, log) < h.count(first, "transactions") - 300
                on.produce(second)
                h.wait_for_decisions(on, log, 3_600)
            worker.check()
        on.drain()
        h.assert_sound(on)
        h.assert_everything_once(on, first + second)


def test_a_frozen_log_server_gets_no_batch_twice(broker: Broker, tmp_path: Path) -> None:
    """Valkey stops answering for longer than the client waits, then goes on: what was under way is there once."""
    with Valkey(tmp_path / "valkey") as server:
        on = prepared(broker, server, tmp_path)
        records = on.produce(h.synthetic(4_000))
        hasty = connect(server.host, server.port, prefix=on.settings.log_prefix, timeout_s=0.2)
        retried = threading.Event()
        worker = Threaded(on, log=hasty)
        try_again = worker.worker._appending._append_again

        def noticed(pending: Pending) -> Head | Exception:
            retried.set()
            return try_again(pending)

        worker.worker._appending._append_again = noticed  # type: ignore[method-assign]
        with worker:
            with on.log() as log:
                h.wait_for_decisions(on, log, 500)
            for _ in range(2):
                retried.clear()
                server.pause()
                assert retried.wait(h.WAIT_S)
                server.resume()
            with on.log() as log:
                h.wait_for_decisions(on, log, 4_000)
        on.drain()
        h.assert_sound(on)
        h.assert_everything_once(on, records)
        assert h.log_of(on) == h.undisturbed(on)


def test_a_recreated_broker_begins_a_new_generation(tmp_path: Path, valkey_server: Valkey) -> None:
    """The broker comes back empty: the log goes on behind its old entries, under generation 2."""
    first, second = halves(2_400)
    with Broker(directory=tmp_path / "broker") as broker:
        on = prepared(broker, valkey_server, tmp_path)
        on.produce(first)
        on.drain()
        with on.worker("worker") as worker:
            h.wait_for(lambda: on.owned("worker"), "an assignment")
            broker.kill()
            broker.start()
            on.produce(second)

            def goes_on() -> bool:
                supervise(on, worker)
                with on.log() as log:
                    return h.total(on, log) >= 2_400

            h.wait_for(goes_on, "both generations")
        on.drain()
        h.assert_sound(on)
        h.assert_everything_once(on, first + second)
        for part in h.log_of(on):
            generations = [position.generation for position, _ in part.transactions]
            assert generations == sorted(generations) and set(generations) == {1, 2}
            offsets = [position.offset for position, _ in part.transactions if position.generation == 2]
            assert offsets == list(range(1, len(offsets) + 1))


def test_sigterm_finishes_what_is_in_flight(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> None:
    """A worker asked to stop under load ends with 0; every decision it made is published, once."""
    on = prepared(broker, valkey_server, tmp_path)
    on = on.changed(decisions_topic=f"{on.settings.log_prefix}.decisions")
    on.create_topics()
    records = on.produce(h.synthetic(4_000))
    with on.worker("worker", "--json") as worker, on.log() as log:
        h.wait_for_decisions(on, log, 500)
        worker.stop()
        assert worker.wait(1) == 0, worker.log_path.read_text()
        decided = h.total(on, log)
        assert decided < 4_000
        assert on.stats("worker")["transactions"] == decided
    assert len(on.messages(on.settings.decisions_topic)) == decided
    on.drain()
    h.assert_sound(on)
    h.assert_everything_once(on, records)
