"""The integration suite's servers themselves: they start, keep what they acknowledged, and say why they fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition

from tests.integration.apache_kafka import ApacheKafka
from tests.integration.conftest import need
from tests.integration.servers import NO_RETRY, RedisCluster, RedisServer, ServerFailed


def produce(kafka: ApacheKafka, topic: str, values: list[bytes], partition: int = 0) -> None:
    failures: list[KafkaError] = []
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "acks": "all", "enable.idempotence": True})
    for value in values:
        producer.produce(topic, value, partition=partition, on_delivery=lambda e, _: failures.append(e) if e else None)
    assert producer.flush(30) == 0
    assert not failures, failures


def consume(kafka: ApacheKafka, topic: str, count: int, partition: int = 0) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "reader", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, partition, 0)])
    values: list[bytes] = []
    deadline = time.monotonic() + 30
    while len(values) < count and time.monotonic() < deadline:
        for message in consumer.consume(500, timeout=0.5):
            assert message.error() is None, message.error()
            assert message.offset() == len(values)
            values.append(message.value() or b"")
    consumer.close()
    return values


def topic_id(kafka: ApacheKafka, topic: str) -> str:
    """The topic's ID, waited for if the broker has made the topic and does not know it yet."""
    admin = kafka.admin()
    deadline = time.monotonic() + 20
    while True:
        described = admin.describe_topics(TopicCollection([topic]), request_timeout=20)
        try:
            return str(described[topic].result(timeout=20).topic_id)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_kafka_returns_what_was_produced_in_order(apache_kafka: ApacheKafka) -> None:
    """A thousand messages come back whole, in order, with consecutive offsets."""
    apache_kafka.create_topic("a-thousand", 2)
    sent = [b"message %d" % n for n in range(1000)]
    produce(apache_kafka, "a-thousand", sent, partition=1)
    assert consume(apache_kafka, "a-thousand", 1000, partition=1) == sent


def test_kafka_gives_a_recreated_topic_another_id(apache_kafka: ApacheKafka) -> None:
    """The topic ID tells a topic from its successor of the same name, which is what starts a new generation."""
    apache_kafka.create_topic("recreated", 1)
    before = topic_id(apache_kafka, "recreated")
    assert before == topic_id(apache_kafka, "recreated")
    apache_kafka.delete_topic("recreated")
    deadline = time.monotonic() + 20
    while True:
        try:
            apache_kafka.create_topic("recreated", 1)
            break
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    assert topic_id(apache_kafka, "recreated") != before


def test_kafka_makes_no_topic_by_itself(apache_kafka: ApacheKafka) -> None:
    """Producing to a topic nobody created fails instead of creating it with the wrong number of partitions."""
    producer = Producer({"bootstrap.servers": apache_kafka.bootstrap, "message.timeout.ms": 2000, "log_level": 0})
    failures: list[KafkaError] = []
    producer.produce("nobody-made-me", b"x", on_delivery=lambda e, _: failures.append(e) if e else None)
    producer.flush(10)
    assert len(failures) == 1
    assert "nobody-made-me" not in apache_kafka.admin().list_topics(timeout=10).topics


def test_kafka_keeps_acknowledged_messages_across_a_kill(needs_kafka: None, tmp_path: Path) -> None:
    """After kill -9 and a restart on the same folder and port, messages, offsets and the topic's ID are the same."""
    kafka = ApacheKafka(tmp_path)
    kafka.start()
    try:
        kafka.create_topic("kept", 1)
        identity = topic_id(kafka, "kept")
        produce(kafka, "kept", [b"before %d" % n for n in range(500)])
        kafka.kill()
        kafka.start()
        assert topic_id(kafka, "kept") == identity
        produce(kafka, "kept", [b"after"])
        assert consume(kafka, "kept", 501) == [b"before %d" % n for n in range(500)] + [b"after"]
    finally:
        kafka.kill()


def test_redis_is_configured_as_the_log_needs_it(redis_server: RedisServer) -> None:
    """Append-only file, fsync at every write, nothing is evicted, and only the loopback address is bound."""
    with redis_server.client() as client:
        found = {
            name: client.config_get(name)[name] for name in ("appendonly", "appendfsync", "maxmemory-policy", "bind")
        }
    assert found == {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "bind": "127.0.0.1",
    }


def test_redis_keeps_acknowledged_writes_across_a_kill(needs_redis: None, tmp_path: Path) -> None:
    """After kill -9 and a restart on the same folder and port, every acknowledged stream entry is there."""
    server = RedisServer(tmp_path)
    server.start()
    try:
        with server.client() as client:
            for n in range(1, 201):
                client.xadd("entries", {"n": n}, id=f"1-{n}")
        server.kill()
        server.start()
        with server.client() as client:
            assert client.xlen("entries") == 200
            with pytest.raises(redis.ResponseError, match="equal or smaller"):
                client.xadd("entries", {"n": 0}, id="1-200")
    finally:
        server.kill()


def test_redis_tls_is_verified_and_plain_connections_fail(redis_tls: RedisServer) -> None:
    """A client that checks the certificate gets in; one without TLS, or with other authorities, does not."""
    with redis_tls.client() as client:
        assert client.ping()
    with redis.Redis(port=redis_tls.port, socket_timeout=2, retry=NO_RETRY) as plain, pytest.raises(redis.RedisError):
        plain.ping()
    with (
        redis.Redis(port=redis_tls.port, ssl=True, socket_timeout=2, retry=NO_RETRY) as stranger,
        pytest.raises(redis.RedisError),
    ):
        stranger.ping()


def test_cluster_spreads_hash_tags_over_its_masters(redis_cluster: RedisCluster) -> None:
    """Keys with one hash tag share a node, so a partition's script sees them all; many tags use every node."""
    client = redis_cluster.client()
    owners = set()
    for partition in range(24):
        keys = [f"ss:{{p{partition:02}}}:{stream}" for stream in ("transactions", "scores")]
        nodes = {client.get_node_from_key(key).port for key in keys}
        assert len(nodes) == 1
        owners |= nodes
        assert client.eval("return redis.call('MSET', KEYS[1], 1, KEYS[2], 2)", 2, *keys)
    assert owners == {node.port for node in redis_cluster.nodes}
    client.close()


def test_cluster_refuses_a_script_over_two_slots(redis_cluster: RedisCluster) -> None:
    """It is a real cluster: what a single Redis lets pass, keys of two partitions in one script, is refused."""
    with redis_cluster.nodes[0].client() as client, pytest.raises(redis.ResponseError, match=r"CROSSSLOT|same slot"):
        client.execute_command("EVAL", "return 1", 2, "ss:{p01}:a", "ss:{p02}:a")


def test_cluster_comes_back_after_a_kill(needs_redis: None, tmp_path: Path) -> None:
    """All masters killed and started again find each other, serve all slots, and hold what they acknowledged."""
    cluster = RedisCluster(tmp_path)
    try:
        cluster.start()
        client = cluster.client()
        for n in range(30):
            client.set(f"key-{n}", n)
        client.close()
        cluster.kill()
        cluster.start()
        client = cluster.client()
        assert [client.get(f"key-{n}") for n in range(30)] == [b"%d" % n for n in range(30)]
        client.close()
    finally:
        cluster.kill()


def test_a_server_that_fails_shows_its_log(needs_redis: None, tmp_path: Path) -> None:
    """A server that exits before it is ready raises at once, with the reason from its log."""
    server = RedisServer(tmp_path, appendfsync="sometimes")
    began = time.monotonic()
    with pytest.raises(ServerFailed, match=r"(?s)exited with 1 before it was ready.*appendfsync"):
        server.start()
    assert time.monotonic() - began < 5
    server.stop()


def test_a_paused_server_answers_again_when_resumed(needs_redis: None, tmp_path: Path) -> None:
    """While paused, a request times out; afterwards the same server answers with its data."""
    server = RedisServer(tmp_path)
    server.start()
    try:
        with server.client() as client:
            client.set("k", "v")
        with (
            server.paused(),
            redis.Redis(port=server.port, socket_timeout=0.3, retry=NO_RETRY) as hasty,
            pytest.raises(redis.TimeoutError),
        ):
            hasty.get("k")
        with server.client() as client:
            assert client.get("k") == b"v"
    finally:
        server.kill()


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) not installed")
def test_a_server_dies_with_the_test_run(needs_redis: None, tmp_path: Path) -> None:
    """When the run that started it is killed, nothing stays behind: the kernel ends the server."""
    script = (
        "import sys, time; from pathlib import Path; from tests.integration.servers import RedisServer\n"
        f"server = RedisServer(Path({str(tmp_path)!r})); server.start(); print(server.port, flush=True); time.sleep(60)"
    )
    run = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    port = int(run.stdout.readline())
    run.kill()
    run.wait()
    run.stdout.close()
    deadline = time.monotonic() + 5
    with redis.Redis(port=port, socket_timeout=1, retry=NO_RETRY) as client:
        while time.monotonic() < deadline:
            try:
                client.ping()
            except redis.ConnectionError:
                return
            time.sleep(0.05)
    pytest.fail("the server outlived the run that started it")


@pytest.mark.parametrize(("value", "outcome"), [("true", "Failed"), ("", "Skipped"), ("false", "Skipped")])
def test_ci_fails_where_a_laptop_skips(monkeypatch: pytest.MonkeyPatch, value: str, outcome: str) -> None:
    """A missing install skips a test with the reason, but fails it under CI=true."""
    monkeypatch.setenv("CI", value)
    with pytest.raises(BaseException, match="redis-server not installed") as raised:
        need("redis-server not installed")
    assert type(raised.value).__name__ == outcome
