"""Whoever follows the log, through outages of its servers and its own: a responder, the read models, the adaptive loop,
the notary, and the API with its event stream, all beside a worker on Apache Kafka and Redis.
"""

from __future__ import annotations

import base64
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from console.anchoring import keys
from console.api import users
from console.api.users import UserFile
from console.client import ProblemError, Sentinel
from console.service import Service
from console.stack import free_port
from core.control_stream import current
from core.errors import Conflict, SentinelError
from core.events import ActionFailed, ActionSucceeded
from core.partitions import partitions_of
from ingest import kafka_client
from learners.governance.business import change_list
from learners.governance.control_events import Act
from projections.catalogue import ALL
from projections.engine.checkpoints import CheckpointStore
from projections.engine.runner import Runner
from responders.settings import ACTIONS
from responders.switching import Why, switch_on
from tests import worker_harness as h
from tests.builders.receiver import HttpReceiver
from tests.integration import outages
from tests.integration.apache_kafka import ApacheKafka
from tests.integration.servers import RedisServer
from tests.responder_harness import DONE, payments, recorded, responder, settled
from tests.worker_harness import Stage

SENT_AT_ONCE = 8
FROZEN_S = 6.5
"""Longer than the log's clients wait for an answer."""
WAITS = {
    "projector": ("trying again every", "sentinel: continues"),
    "loop": ("trying again every", "sentinel: continues"),
    "responder": ("respond.unavailable", "respond.continues"),
    "api": ("api.tail_failed", "api.tail_continues"),
    "notary": ("event log server 127.0.0.1", ""),
}
"""What each says when the log server is away, and when it is back."""


class Listener:
    """Hears the API's event stream in a thread, and takes it up again where it was, however often it breaks."""

    def __init__(self, url: str, token: str, partitions: int) -> None:
        self.heard: Counter[str] = Counter()
        self._url, self._token, self._partitions = url, token, partitions
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True

    def _run(self) -> None:
        after = ".".join(["0-0"] * self._partitions)  # from the first decision on
        while not self._stopping:
            with suppress(httpx.TransportError, ProblemError), Sentinel(self._url, self._token) as api:
                for event in api.events(after, seconds=600):
                    assert event.kind in ("decision", "alert"), event
                    after = event.place or after
                    self.heard[event.data["place"]] += 1
            time.sleep(0.2)


class House:
    """Everything that runs, and the traffic."""

    def __init__(self, on: Stage, kafka: ApacheKafka, redis: RedisServer, running: ExitStack) -> None:
        self.on, self.kafka, self.redis = on, kafka, redis
        self.sent = 0
        self.services: dict[str, Service] = {}
        self._running = running

    def start(self, name: str, service: Service) -> None:
        self.services[name] = self._running.enter_context(service)

    def send(self) -> None:
        self.on.produce(payments(self.sent, SENT_AT_ONCE))
        self.sent += SENT_AT_ONCE

    def wait(self, listener: Listener) -> None:
        """Everything is decided, acted on, and heard by the listener; nobody has ended."""

        def done() -> bool:
            for service in self.services.values():
                assert service.running, f"{service.name} ended with {service.exit_code}: {service.last_lines(20)}"
            with suppress(SentinelError), self.on.log() as log:
                return h.total(self.on, log) == self.sent and settled(self.on) and len(listener.heard) == self.sent
            return False

        h.wait_for(done, "everything to be decided, acted on and heard", 180.0)

    def said(self, name: str) -> int:
        """How much a service has said."""
        return len(self.services[name].log_path.read_text(errors="replace"))


def started(house: House, receiver: HttpReceiver, folder: Path) -> Listener:
    """Start all followers of a log that has begun; returns a listener that hears them."""
    on = house.on
    with on.log() as log:
        h.wait_for(lambda: current(log).champion is not None, "the worker's start")
        change_list(log, "merchant", "block", Act("ann", "test", 1), add=["bad"])
        switch_on(log, ACTIONS, Why("ann", "test", int(time.time() * 1000)))
    file, port = UserFile(folder / "users.json"), free_port()
    users.add(file, "ann", ["viewer"], 0)
    token = users.new_token(file, "ann", int(time.time() * 1000), days=1)
    keys.create(folder / "notary.key")
    config = folder / "anchors.toml"
    config.write_text(f'[anchors]\nstate = "{folder}/state"\ndirectories = ["{folder}/anchors"]\n')
    commands = {
        "projector": ["project", "--follow", "--interval-s", "0.2", "--checkpoint-directory", f"{folder}/read-models"],
        "loop": ["learn", "--follow", "--interval-s", "0.5"],
        "notary": ["anchor", "--follow", "--every", "1", "--key", f"{folder}/notary.key", "--config", str(config)],
        "api": ["serve", f"--port={port}", f"--users={folder}/users.json", f"--checkpoint-directory={folder}/api"],
    }
    for name, command in commands.items():
        house.start(name, Service(name, command, on.settings, folder))
    house.start("responder", responder(on, "responder", receiver.url))
    outages.wait_until_said(house.services["api"], "listening on")
    return Listener(f"http://127.0.0.1:{port}", token, on.settings.partitions)


def test_followers_outlive_their_servers_and_go_on_where_they_were(
    own_kafka: ApacheKafka, own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka and Redis are killed and frozen in turn: nobody ends, everybody says that they wait. Then each follower is
    frozen, killed and started again. Every payment is decided once, each action is done and recorded once, the event
    stream tells each decision once, and read models are those of a fold from the beginning.
    """
    monkeypatch.setenv("SOC_SECRET", "whsec_" + base64.b64encode(bytes(range(32))).decode())
    monkeypatch.setattr(kafka_client, "ADMIN_TIMEOUT_S", 2.0)
    on = h.stage(own_kafka.bootstrap, "127.0.0.1", own_redis.port, tmp_path, history=False, session_timeout_ms=6_000)
    on.create_topics()
    with HttpReceiver() as receiver, ExitStack() as running:
        house = House(on, own_kafka, own_redis, running)
        house.start("worker", on.worker("worker"))
        listener = started(house, receiver, tmp_path)
        running.callback(listener.stop)
        house.send()
        house.wait(listener)
        for name, strike in STRIKES.items():
            since = {each: house.said(each) for each in WAITS}
            strike(house)
            house.send()
            house.wait(listener)
            if name == "log server killed":
                for each, (waits, continues) in WAITS.items():
                    outages.wait_until_said(house.services[each], f"(?s){waits}.*{continues}", since[each])
        for each in WAITS:
            service = house.services[each]
            freeze(service, 2.0)
            house.send()
            service.kill()
            house.send()
            service.start()
            house.wait(listener)
        house.services["projector"].stop()
        house.services["notary"].stop()
        for service in house.services.values():
            assert "Traceback" not in service.log_path.read_text(errors="replace"), service.name
    assert_all_is_as_it_should_be(house, listener, receiver)


def test_an_archiver_that_is_killed_and_frozen(
    apache_kafka: ApacheKafka, redis_server: RedisServer, tmp_path: Path
) -> None:
    """`sentinel archive --trim`, killed at random moments under a busy worker: the next one goes on. While one is
    frozen, another is refused. Log and archive are one whole.
    """
    archive = tmp_path / "archive"
    on = h.stage(apache_kafka.bootstrap, "127.0.0.1", redis_server.port, tmp_path, batch_size=20, archive=str(archive))
    on.create_topics()
    records = on.produce(h.synthetic(3_000))
    chance = random.Random(3)

    def files() -> int:
        return sum(path.is_file() for path in archive.rglob("*"))

    def archiver(name: str) -> Service:
        return Service(name, ["archive", "--trim", "--hot-hours", "0"], on.settings, tmp_path)

    with on.worker("worker") as worker:
        outages.wait_for_all(on, worker, 300)
        for number in range(3):
            with archiver(f"killed-{number}") as killed:
                before = files()
                h.wait_for(lambda n=before, k=killed: files() > n or not k.running, "a new file")  # type: ignore[misc]
                time.sleep(0.1 * chance.random())
                killed.kill()
        with archiver("frozen") as frozen:
            h.wait_for(lambda: "seals" in frozen.log_path.read_text() or not frozen.running, "a segment")
            assert frozen.running and frozen.pid is not None
            os.kill(frozen.pid, signal.SIGSTOP)
            try:
                with archiver("refused") as refused:
                    assert refused.wait(60) == Conflict.exit_code
                assert "another process is archiving into it" in refused.last_lines()[-1]
            finally:
                os.kill(frozen.pid, signal.SIGCONT)
            assert frozen.wait(60) == 0, frozen.last_lines()
        outages.wait_for_all(on, worker, 3_000)
        outages.assert_survived(on, worker, records, in_order=False)
    with archiver("last") as last:
        assert last.wait(60) == 0, last.last_lines()
    with on.log() as log:
        assert h.total(on, log) == 3_000
    with Service("verify", ["verify"], on.settings, tmp_path) as verify:
        assert verify.wait(60) == 0, verify.last_lines()


def assert_all_is_as_it_should_be(house: House, listener: Listener, receiver: HttpReceiver) -> None:
    on = house.on
    assert set(listener.heard.values()) == {1}, "the event stream told a decision twice"
    alerts, events = recorded(on)
    assert len(alerts) == house.sent
    assert not [event for event in events if isinstance(event, ActionFailed)]
    done = Counter((e.causation_id, e.action) for e in events if isinstance(e, ActionSucceeded))
    assert done == dict.fromkeys(((alert, action) for alert in alerts for action in DONE), 1)
    assert set(receiver.effects.values()) == {1}
    with on.log() as log:
        kept = Runner(
            log, partitions_of(log), ALL, CheckpointStore(on.directory / "read-models", on.settings.log_prefix)
        )
        anew = Runner(log, partitions_of(log), ALL)
        for runner in (kept, anew):
            runner.catch_up()
        assert [kept.digests(each) for each in ALL] == [anew.digests(each) for each in ALL]
    h.assert_sound(on)


def freeze(service: Service, seconds: float) -> None:
    """SIGSTOP for so long."""
    assert service.pid is not None
    os.kill(service.pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(service.pid, signal.SIGCONT)


def kill_kafka(house: House) -> None:
    house.send()
    house.kafka.kill()
    outages.assert_told(outages.failures(house.on), "^kafka: Kafka at .* can't be reached")
    house.kafka.start()


def freeze_kafka(house: House) -> None:
    house.send()
    with house.kafka.paused():
        outages.assert_told(outages.failures(house.on), "^kafka: Kafka at .* can't be reached")


def kill_log_server(house: House) -> None:
    house.redis.kill()
    house.send()
    outages.assert_told(outages.failures(house.on), f"^log server.*127.0.0.1:{house.redis.port}")
    for name, (waits, _) in WAITS.items():
        outages.wait_until_said(house.services[name], waits)
    house.redis.start()


def freeze_log_server(house: House) -> None:
    with house.redis.paused():
        house.send()
        time.sleep(FROZEN_S)


STRIKES: dict[str, Callable[[House], None]] = {
    "Kafka killed": kill_kafka,
    "Kafka frozen": freeze_kafka,
    "log server killed": kill_log_server,
    "log server frozen": freeze_log_server,
}
