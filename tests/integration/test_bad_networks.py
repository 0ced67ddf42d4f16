"""A network that delays, swallows, cuts or changes what passes between a worker and its servers (I6).

Changed bytes are found by TLS on the way to the log server, and by the batches' checksums (CRC32C) on the way from and
to Kafka.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import worker_harness as h
from tests.builders.network import Network, Way
from tests.integration import outages
from tests.integration.apache_kafka import ApacheKafka
from tests.integration.servers import RedisServer, free_port
from tests.worker_harness import Stage

PAYMENTS = 3_000
FAULTS = 4


class ProxiedKafka(ApacheKafka):
    """An Apache Kafka that clients reach through a network, at `through`, and tests directly, at `bootstrap`."""

    def __init__(self, folder: Path) -> None:
        self._behind = free_port()
        self.network = Network("127.0.0.1", self._behind)
        self.through = f"127.0.0.1:{self.network.port}"
        super().__init__(folder)

    def more_properties(self, controller: int) -> str:
        own, behind = f"PLAINTEXT://127.0.0.1:{self.port}", f"PROXIED://127.0.0.1:{self._behind}"
        return f"""\
listeners={own},{behind},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={own},PROXIED://{self.through}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
"""


@pytest.fixture(scope="module")
def kafka(needs_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedKafka]:
    """A broker behind a network."""
    with ProxiedKafka(tmp_path_factory.mktemp("kafka")).started() as server:
        yield server
    server.network.close()


@pytest.fixture
def to_log(redis_tls: RedisServer) -> Iterator[Network]:
    """The way to a log server with TLS."""
    network = Network("127.0.0.1", redis_tls.port)
    yield network
    network.close()


@pytest.fixture
def on(kafka: ProxiedKafka, to_log: Network, redis_tls: RedisServer, tmp_path: Path) -> Stage:
    """A stage whose worker reaches both servers through a network. Everything is produced and read directly."""
    made = h.stage(
        kafka.bootstrap,
        "127.0.0.1",
        redis_tls.port,
        tmp_path,
        redis_tls=True,
        redis_ca_file=str(redis_tls.ca_file),
        batch_size=20,
    )
    made = made.changed(decisions_topic=f"{made.settings.log_prefix}.decisions", session_timeout_ms=6_000)
    made.create_topics()
    return made


def beyond(on: Stage, kafka: ProxiedKafka, to_log: Network) -> Stage:
    """The stage as its worker sees it."""
    return on.changed(kafka_servers=kafka.through, redis_port=to_log.port)


class Flips:
    """Flips one bit in this share of the chunks that pass, while there are any `left`. of: only of those in this
    direction. holding: only of those that hold this text, and within it.
    """

    def __init__(self, left: int, of: Way | None = None, holding: bytes = b"", *, share: float) -> None:
        self.left = left
        self._of, self._holding, self._share = of, holding, share
        self._rng = random.Random(1)
        self._lock = threading.Lock()

    def __call__(self, chunk: bytes, way: Way) -> bytes:
        at = chunk.find(self._holding)
        with self._lock:
            if at < 0 or self._of not in (None, way) or not self.left or self._rng.random() > self._share:
                return chunk
            self.left -= 1
            changed = bytearray(chunk)
            changed[at + self._rng.randrange(len(self._holding or chunk))] ^= 1 << self._rng.randrange(8)
            return bytes(changed)


def assert_published(on: Stage) -> None:
    """Each decision is in the topic, as it is logged."""
    logged = {(p, str(position)) for p, part in enumerate(h.log_of(on)) for position, _ in part.scores}
    said = [h.decoded(message) for message in on.messages(on.settings.decisions_topic)]
    assert {(each["partition"], each["position"]) for each in said} == logged
    assert len({(each["partition"], each["position"], each["decision"]) for each in said}) == len(logged)


@pytest.mark.parametrize("way", ["log server", "Kafka"])
def test_a_way_that_delays_cuts_and_swallows(on: Stage, kafka: ProxiedKafka, to_log: Network, way: str) -> None:
    """Answers come late; connections are cut, and refused for a while; then nothing passes for longer than a client
    waits. Doctor can't reach the server meanwhile.
    """
    network = to_log if way == "log server" else kafka.network
    records = on.produce(h.synthetic(PAYMENTS))
    with beyond(on, kafka, to_log).worker("worker") as worker:
        outages.wait_for_all(on, worker, 200)
        network.delay_s = 0.05
        outages.wait_for_all(on, worker, 400)
        network.delay_s = 0.01
        for _ in range(FAULTS):
            network.cut()
            time.sleep(0.2)
        network.refuses = True
        network.cut()
        time.sleep(1.0)
        if way == "log server":
            seen = beyond(on, kafka, to_log)
            outages.assert_told(outages.failures(seen), f"log server.*127.0.0.1:{network.port}")
            outages.wait_until_said(worker, "ingest.log_unavailable|ingest.server_unavailable")
        network.refuses = False
        network.silent = True
        time.sleep(7.0)
        network.mend()
        outages.wait_for_all(on, worker, PAYMENTS)
        outages.assert_survived(on, worker, records)
    assert_published(on)


def test_a_way_to_the_log_server_that_changes_bytes(on: Stage, kafka: ProxiedKafka, to_log: Network) -> None:
    """Any bit of any message, in both directions: TLS ends the connection, and what was sent is read back before it is
    sent again.
    """
    records = on.produce(h.synthetic(PAYMENTS))
    flips = Flips(25, share=0.2)
    with beyond(on, kafka, to_log).worker("worker") as worker:
        outages.wait_for_all(on, worker, 100)
        to_log.spoil = flips
        outages.wait_for_all(on, worker, PAYMENTS)
        assert not flips.left
        to_log.mend()
        outages.assert_survived(on, worker, records)


def test_a_way_from_kafka_that_changes_records(on: Stage, kafka: ProxiedKafka, to_log: Network) -> None:
    """The batch's checksum differs, so nothing of it is decided; its partition is parked (`corrupt_batch`), doctor says
    so, and it goes on by itself with the bytes as they are stored.
    """
    records = on.produce(h.synthetic(PAYMENTS))
    flips = kafka.network.spoil = Flips(2, "answer", b'"transaction_id":"', share=1.0)
    with beyond(on, kafka, to_log).worker("worker") as worker:
        outages.wait_until_said(worker, "corrupt_batch")
        outages.assert_told(outages.failures(on), r"is parked \(corrupt_batch\)")
        outages.wait_for_all(on, worker, PAYMENTS)
        assert not flips.left
        kafka.network.mend()
        outages.wait_until_said(worker, "ingest.partition_resumed")
        outages.assert_survived(on, worker, records, in_order=False)
    assert_published(on)


def test_a_way_to_kafka_that_changes_decisions(on: Stage, kafka: ProxiedKafka, to_log: Network) -> None:
    """The broker refuses the batch by its checksum, and the decisions are sent again: every one is in the topic, as it
    is logged.
    """
    records = on.produce(h.synthetic(PAYMENTS))
    flips = kafka.network.spoil = Flips(2, "request", b'"reason_codes"', share=1.0)
    with beyond(on, kafka, to_log).worker("worker") as worker:
        outages.wait_for_all(on, worker, PAYMENTS)
        h.wait_for(lambda: not flips.left, "changed decisions")
        kafka.network.mend()
        h.wait_for(lambda: len(on.messages(on.settings.decisions_topic)) >= PAYMENTS, "all decisions")
        outages.assert_survived(on, worker, records)
    assert_published(on)
