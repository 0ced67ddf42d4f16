"""docker/compose.prod.yaml without containers: its scripts make the secrets, its files configure a real Apache Kafka
and a real Redis, and each of its processes runs from the image's files with its own environment, secrets and folders.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.builders.bank import until
from tests.builders.deployments import DOCKER, Deployed, compose, interpolated, moved, of_compose
from tests.builders.image_processes import SECONDS, ImageProcess, installed
from tests.integration.apache_kafka import kafka_jars
from tests.integration.servers import NO_RETRY, Server, free_port

FILE = "compose.prod.yaml"
PROD = DOCKER / "prod"
TOOLS = {
    "kafka-storage.sh": "kafka.tools.StorageTool",
    "kafka-server-start.sh": "kafka.Kafka",
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
    "kafka-acls.sh": "org.apache.kafka.tools.AclCommand",
}
"""Kafka's scripts, and what they run."""
PAYMENTS = 301
JAVA = "-Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto"


class ProdKafka(Server):
    """The broker of the file, with its script and its properties; only addresses and paths are this machine's."""

    name = "Kafka of compose.prod.yaml"
    start_seconds_max = 120.0

    def __init__(self, folder: Path, secrets: Path) -> None:
        super().__init__(folder)
        self.port, controller = free_port(), free_port()
        self._secrets = secrets / "kafka"
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name, tool in TOOLS.items():
            (self.bin / name).write_text(f'#!/bin/sh\nexec java {JAVA} -cp "{kafka_jars()}/*" {tool} "$@"\n')
            (self.bin / name).chmod(0o755)
        places = {
            "kafka:9092": f"127.0.0.1:{self.port}",
            "SECURE://:9092": f"SECURE://127.0.0.1:{self.port}",
            "127.0.0.1:9093": f"127.0.0.1:{controller}",
            "/var/lib/kafka/data": str(folder / "data"),
            "/run/secrets": str(self._secrets),
            "/etc/kafka/prod/ca.crt": str(secrets / "ca.crt"),
        }
        self._properties, self._admin = folder / "server.properties", folder / "admin.properties"
        self._properties.write_text(_replaced((PROD / "kafka.properties").read_text(), places))
        self._admin.write_text(_replaced((self._secrets / "admin.properties").read_text(), places))

    def command(self) -> Sequence[str]:
        given = {
            "KAFKA_BIN": self.bin,
            "KAFKA_PROPERTIES": self._properties,
            "KAFKA_OPTIONS": self._secrets / "format.options",
        }
        return ["env", *(f"{name}={value}" for name, value in given.items()), "sh", str(PROD / "kafka-start.sh")]

    def is_ready(self) -> bool:
        properties = {
            "bootstrap.servers": f"127.0.0.1:{self.port}",
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "broker",
            "sasl.password": (self._secrets / "broker.password").read_text().strip(),
            "ssl.ca.location": str(self._secrets.parent / "ca.crt"),
            "log_level": 0,
        }
        try:
            return bool(AdminClient(properties).list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def make_topics(self) -> None:
        """Run the script that makes topics and gives rights."""
        given = {"KAFKA_BIN": str(self.bin), "KAFKA_ADMIN": str(self._admin)}
        given |= {"KAFKA": f"127.0.0.1:{self.port}", "PARTITIONS": "2"}
        command = ["sh", str(PROD / "kafka-topics.sh")]
        done = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


class ProdRedis(Server):
    """A Redis with the file's configuration; only addresses and paths are this machine's."""

    name = "log server of compose.prod.yaml"

    def __init__(self, folder: Path, secrets: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self._secrets = secrets
        places = {
            "bind * -::*": "bind 127.0.0.1",
            "tls-port 6379": f"tls-port {self.port}",
            "/run/secrets": str(secrets / "valkey"),
            "/etc/valkey": str(secrets),
            "dir /data": f"dir {folder}",
        }
        self._config = folder / "valkey.conf"
        self._config.write_text(_replaced((PROD / "valkey.conf").read_text(), places))

    def command(self) -> Sequence[str]:
        return ["redis-server", str(self._config), "--maxmemory", "100mb"]

    def client(self, role: str) -> redis.Redis:
        """As the user of a role."""
        return redis.Redis(
            host="127.0.0.1",
            port=self.port,
            username=f"sentinel-{role}",
            password=(self._secrets / "sentinel" / f"{role}.redis").read_text().strip(),
            ssl=True,
            ssl_ca_certs=str(self._secrets / "ca.crt"),
            socket_timeout=5,
            retry=NO_RETRY,
        )

    def is_ready(self) -> bool:
        try:
            return bool(self.client("admin").ping())
        except redis.RedisError:
            return False


def _replaced(text: str, places: Mapping[str, str]) -> str:
    for old, new in places.items():
        text = text.replace(old, new)
    return text


class Place:
    """The secrets, both servers, and a root folder for each service."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = installed(folder / "image")
        self.secrets = folder / "secrets"
        self.make_secrets()
        self.kafka = ProdKafka(folder / "kafka", self.secrets)
        self.redis = ProdRedis(folder / "redis", self.secrets)

    def make_secrets(self) -> None:
        """Run the script."""
        self.script("secrets.sh", str(self.secrets), SENTINEL=str(self.programs / "sentinel"))

    def script(self, name: str, *arguments: str, **environment: str) -> str:
        """Run one of the scripts, and return what it printed."""
        done = subprocess.run(
            ["sh", str(PROD / name), *arguments],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def process(self, deployed: Deployed) -> ImageProcess:
        """A service's process in a root of its own, with exactly the files and volumes that the service has."""
        whole = compose(FILE)
        service = whole["services"][deployed.name]
        root = self.folder / "roots" / deployed.name
        home = root / "var" / "lib" / "sentinel"
        home.mkdir(parents=True, mode=0o700)
        for each in service["configs"]:
            self._put(root, each["target"], whole["configs"][each["source"]]["file"])
        for each in service["secrets"]:
            self._put(root, f"/run/secrets/{each['target']}", whole["secrets"][each["source"]]["file"])
        for volume in service["volumes"]:
            source, target = interpolated(volume).split(":")[:2]
            shared = self.folder / "volumes" / source
            shared.mkdir(parents=True, exist_ok=True, mode=0o700)
            Path(f"{root}{target}").symlink_to(shared)
        addresses = {
            "KAFKA_SERVERS": f"127.0.0.1:{self.kafka.port}",
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(self.redis.port),
        }
        given = {name: value for name, value in addresses.items() if name in deployed.environment}
        words = ["sentinel", *map(str, service["command"]), *(["--port", "0"] if deployed.name == "console" else [])]
        return ImageProcess(deployed, words, root, self.programs, given)

    def _put(self, root: Path, target: str, file: str) -> None:
        path = Path(f"{root}{target}")
        path.parent.mkdir(parents=True, exist_ok=True)
        source = self.folder / file.removeprefix("prod/") if "secrets/" in file else DOCKER / file
        if path.suffix == ".toml":
            path.write_text(moved(source.read_text(), root))
        else:
            shutil.copy2(source, path)


@pytest.fixture(scope="module")
def place(needs_kafka: None, needs_redis: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Running servers with topics and rights; no log yet."""
    found = Place(tmp_path_factory.mktemp("prod"))
    with found.kafka.started(), found.redis.started():
        found.kafka.make_topics()
        yield found


def test_secrets_are_made_once_and_are_nobody_elses(place: Place) -> None:
    """A second run changes nothing, not even of what is derived; only the authority's certificate is for everybody."""
    before = _digests(place.secrets)
    place.make_secrets()
    assert _digests(place.secrets) == before and len(before) > 30
    readable = {path.name for path in place.secrets.rglob("*") if path.is_file() and path.stat().st_mode & 0o077}
    assert readable == {"ca.crt"}
    named = {each["file"] for each in compose(FILE)["secrets"].values()}
    assert all((place.folder / file.removeprefix("prod/")).is_file() for file in named)


def _digests(folder: Path) -> dict[str, str]:
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def test_the_log_server_knows_its_users_only(place: Place) -> None:
    """Nobody without a name or without TLS; a reader can't write; its settings are those that the log needs."""
    stranger = redis.Redis(port=place.redis.port, ssl=True, ssl_ca_certs=str(place.secrets / "ca.crt"), retry=NO_RETRY)
    with pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with pytest.raises(redis.ConnectionError):
        redis.Redis(port=place.redis.port, retry=NO_RETRY, socket_timeout=5).ping()
    with pytest.raises(redis.exceptions.NoPermissionError):
        place.redis.client("reader").xadd("ss:{control}", {"a": "b"})
    found: dict[str, Any] = place.redis.client("admin").config_get("*")
    wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}
    assert {name: found[name] for name in wanted} == wanted
    context = ssl.create_default_context(cafile=str(place.secrets / "ca.crt"))
    assert ssl.get_server_certificate(("127.0.0.1", place.redis.port)) and context.verify_mode == ssl.CERT_REQUIRED


def test_everything_works_in_the_profile_production(place: Place) -> None:
    """The worker begins the log, the script fills the roster and requires identity, then everything starts, the worker
    again. Payments by Kafka and by the API are decided; the archiver archives them and trims the log, and all are
    decided again to the same bits. The notary leaves an anchor, and `doctor` finds nothing that production lacks.
    """
    deployed = {each.name: each for each in of_compose(FILE)}
    processes = {name: place.process(each) for name, each in deployed.items()}
    admin, archiver, worker = processes.pop("admin"), processes.pop("archiver"), processes.pop("worker")
    with ExitStack() as running:
        with worker:
            worker.wait("/readyz")
            place.script("roster.sh", "a test", str(place.secrets), SENTINEL=_as_admin(place, admin))
            assert worker.stop() == 0
        running.enter_context(worker)
        for process in processes.values():
            running.enter_context(process)
        worker.wait("/readyz")
        for process in processes.values():
            process.wait("/livez")
        _pay(admin, processes["console"])
        state = until(lambda: _replayed(admin, PAYMENTS), SECONDS)
        archive, trim = deployed["archiver"].commands
        assert f"{PAYMENTS} transactions" in archiver.run(*archive)
        archiver.run(*trim)
        archiver.run(*trim, "--hot-hours", "0")
        assert _replayed(admin, PAYMENTS) == state
        assert re.fullmatch(r"stream-sentinel/\S+", processes["notary"].run("anchor", "--public").strip())
        assert [*(place.folder / "volumes" / "anchors").rglob("*")]
        doctor = ["sentinel", "doctor"]
        said = subprocess.run(
            doctor, env=admin.environment, cwd=admin.home, capture_output=True, text=True, check=False
        ).stdout
        assert not re.search(r"^FAIL +profile", said, re.M), said
        assert "the settings have all that production requires" in said
        assert worker.stop() == 0


def _pay(admin: ImageProcess, console: ImageProcess) -> None:
    """Send all payments but one to Kafka, and the last by the API, which answers with the decision."""
    admin.run("produce", "--transactions", str(PAYMENTS - 1), "--accounts", "30", "--now")
    users = ["--users", "users/users.json"]
    console.run("user", "add", "shop", "--role", "submitter", *users)
    token = console.run("user", "token", "shop", *users).strip()
    address = until(lambda: re.search(r"listening on http://\S+:(\d+)", console.log.read_text()), SECONDS)
    payment = {"transaction_id": "by-api", "account_id": "a1", "amount": 12.5, "currency": "EUR"}
    answer = httpx.post(
        f"http://127.0.0.1:{address[1]}/v1/decisions",
        headers={"authorization": f"Bearer {token}"},
        json={**payment, "occurred_at": int(time.time() * 1000)},
        timeout=60.0,
    )
    assert answer.json()["decision"] == "approve", answer.text


def _replayed(admin: ImageProcess, count: int) -> dict[str, str]:
    """The digests of what a replay of so many decisions comes to; {} while there are not so many."""
    found = json.loads(admin.run("replay", "--verify", "--max-late", "1", "--json"))
    assert found["identical"] == found["decisions"]
    state: dict[str, str] = found["state"] if found["decisions"] == count else {}
    return state


def _as_admin(place: Place, admin: ImageProcess) -> str:
    """A program that runs `sentinel` as the service `admin` would."""
    path = place.folder / "as-admin"
    given = "".join(f"export {name}='{value}'\n" for name, value in admin.environment.items())
    path.write_text(f'#!/bin/sh\ncd {admin.home}\n{given}exec sentinel "$@"\n')
    path.chmod(0o755)
    return str(path)
