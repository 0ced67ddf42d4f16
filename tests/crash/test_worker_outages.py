"""The worker while its servers fail: the log's server killed, frozen, or back without its last writes; the broker made anew (I6)."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.service import Service
from console.stack import Broker, Valkey
from core.errors import Unavailable
from core.events import Position
from tests import worker_harness as h
from tests.worker_harness import Stage, Threaded


def undisturbed(on: Stage) -> list[h.Held]:
    """The same topics through one worker into another log."""
    beside = on.beside("undisturbed")
    beside.drain()
    return h.log_of(beside)


def filled(broker: Broker, server: Valkey, directory: Path, transactions: int, **changes: object) -> tuple[Stage, list[h.Record]]:
    on = h.stage(broker.bootstrap, server.host, server.port, directory, batch_size=50, **changes)
    on.create_topics()
    return on, on.produce(h.synthetic(transactions))


def supervise(on: Stage, worker: Service) -> None:
    """Start the worker again if it gave up, as a supervisor would. It may only have ended with exit code 4."""
    if not worker.running:
        assert worker.wait(1) == Unavailable.exit_code, worker.log_path.read_text()[-2000:]
        assert "Traceback" not in worker.log_path.read_text()
        worker.start()


def test_a_killed_log_server_loses_and_doubles_nothing(broker: Broker, tmp_path: Path) -> None:
    """Valkey is killed three times under load and comes back on its file: the log is that of an undisturbed run."""
    with Valkey(tmp_path / "valkey") as server:
        on, records = filled(broker, server, tmp_path, 6_000)
        with on.worker("worker") as worker:
            for goal in (500, 2_000, 3_500):
                with on.log() as log:
                    h.wait_for(lambda goal=goal, log=log: h.total(on, log) >= goal, f"{goal} decisions")
                server.kill()
                server.start()
                supervise(on, worker)
            with on.log() as log:

                def done() -> bool:
                    supervise(on, worker)
                    return h.total(on, log) >= 6_000

                h.wait_for(done, "the rest")
        on.drain()
        h.assert_sound(on)
        h.assert_everything_once(on, records)
        assert h.log_of(on) == undisturbed(on)


def test_a_log_server_that_stays_away_ends_the_worker_in_one_line(broker: Broker, tmp_path: Path) -> None:
    """After `unavailable_timeout_s` the worker gives up: exit code 4, the reason in the last line, no traceback."""
    with Valkey(tmp_path / "valkey") as server:
        on, _ = filled(broker, server, tmp_path, 6_000, unavailable_timeout_s=0.5)
        worker = on.worker("worker")
        with worker:
            with on.log() as log:
                h.wait_for(lambda: h.total(on, log) >= 500, "decisions")
            server.kill()
            assert worker.wait(20) == Unavailable.exit_code
        said = worker.log_path.read_text()
        assert "Traceback" not in said
        assert said.splitlines()[-1].startswith("sentinel: event log server")


def test_a_lost_tail_of_the_log_is_read_from_kafka_again(broker: Broker, tmp_path: Path) -> None:
    """The server comes back without its last writes, under a running worker: it notices, and decides them to the same bytes."""
    with Valkey(tmp_path / "valkey", appendfsync="everysec") as server:
        on, records = filled(broker, server, tmp_path, 3_000)
        with Threaded(on) as worker:
            with on.log() as log:
                h.wait_for(lambda: h.total(on, log) >= 3_000, "all decided")
                before = h.total(on, log)
            server.kill()
            tail = max((server.directory / "appendonlydir").glob("*.incr.aof"))
            content = tail.read_bytes()
            tail.write_bytes(content[: len(content) * 2 // 3 + 5])
            server.start()
            with on.log() as log:
                lost = before - h.total(on, log)
                assert lost > 300
                # Nothing tells an idle worker; the next message does.
                more = on.produce(h.synthetic(400, seed=9))
                h.wait_for(lambda: h.total(on, log) >= before + 400, "the lost decisions, and new ones")
            worker.check()
        h.assert_sound(on)
        h.assert_everything_once(on, records + more)


def test_a_frozen_log_server_gets_no_batch_twice(broker: Broker, tmp_path: Path) -> None:
    """Valkey stops answering for longer than the client waits, then goes on: what was under way is there once."""
    with Valkey(tmp_path / "valkey") as server:
        on, records = filled(broker, server, tmp_path, 4_000)
        with on.worker("worker") as worker:
            with on.log() as log:
                h.wait_for(lambda: h.total(on, log) >= 500, "decisions")
            server.pause()
            log_says = worker.log_path
            h.wait_for(lambda: "ingest.log_unavailable" in log_says.read_text() or not worker.running, "a timeout", 20)
            server.resume()
            with on.log() as log:

                def done() -> bool:
                    supervise(on, worker)
                    return h.total(on, log) >= 4_000

                h.wait_for(done, "the rest")
        h.assert_sound(on)
        h.assert_everything_once(on, records)
        assert h.log_of(on) == undisturbed(on)


def test_a_recreated_broker_begins_a_new_generation(tmp_path: Path, valkey_server: Valkey) -> None:
    """The broker comes back empty: the log goes on behind its old entries, under generation 2."""
    with Broker(directory=tmp_path / "broker") as broker:
        on, first = filled(broker, valkey_server, tmp_path, 1_500)
        on.drain()
        with on.worker("worker") as worker:
            h.wait_for(lambda: on.owned("worker"), "an assignment")
            broker.kill()
            broker.start()
            second = on.produce(h.synthetic(1_200, seed=8))
            on.create_topics()

            def goes_on() -> bool:
                if not worker.running:
                    assert "Traceback" not in worker.log_path.read_text()
                    worker.start()
                with on.log() as log:
                    return h.total(on, log) >= 2_700

            h.wait_for(goes_on, "both generations")
        h.assert_sound(on)
        # The account histories of the first generation are known: its transaction IDs are other ones.
        h.assert_everything_once(on, first + second)
        for part in h.log_of(on):
            generations = [position.generation for position, _ in part.transactions]
            assert generations == sorted(generations) and set(generations) == {1, 2}
            offsets = [position.offset for position, _ in part.transactions if position.generation == 2]
            assert offsets == list(range(1, len(offsets) + 1))
            assert {position.generation for position, _ in part.feedback} == {1, 2}


def test_a_topic_recreated_behind_the_workers_back_is_a_new_generation(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> None:
    """A topic deleted and made again while no worker runs: the next start begins generation 2 at its beginning."""
    from ingest import kafka_client

    on, first = filled(broker, valkey_server, tmp_path, 800)
    on.drain()
    admin = kafka_client.admin(on.settings)
    names = [on.settings.transactions_topic, on.settings.feedback_topic]
    for future in admin.delete_topics(names).values():
        future.result(10)
    second = on.produce(h.synthetic(900, seed=8))
    on.drain()
    h.assert_sound(on)
    h.assert_everything_once(on, first + second)
    with on.log() as log:
        assert all(head.transactions.generation == 2 for head in h.heads(on, log))
        assert log.read(0, "transactions", Position(2, 0), 1)[0].id == Position(2, 1)


@pytest.mark.parametrize("signal_after", [0, 700])
def test_sigterm_finishes_what_is_in_flight(broker: Broker, valkey_server: Valkey, tmp_path: Path, signal_after: int) -> None:
    """A worker asked to stop, idle or under load, ends with 0; every decision it made is published and not repeated."""
    on = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, batch_size=50)
    on = on.changed(decisions_topic=f"{on.settings.log_prefix}.decisions")
    on.create_topics()
    records = on.produce(h.synthetic(4_000))
    with on.worker("worker", "--json") as worker, on.log() as log:
        h.wait_for(lambda: h.total(on, log) >= signal_after, "decisions")
        worker.stop()
        assert worker.wait(1) == 0, worker.log_path.read_text()
        decided = h.total(on, log)
        assert decided < 4_000
        assert on.stats("worker").get("transactions", 0) == decided
    assert len(on.messages(on.settings.decisions_topic)) == decided
    on.drain()
    h.assert_sound(on)
    h.assert_everything_once(on, records)
