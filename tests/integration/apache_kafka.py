"""A real Apache Kafka for the integration suite, in one process; its jars come through Maven."""

from __future__ import annotations

import base64
import fcntl
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from tests.integration.servers import Server, ServerFailed, free_port

KAFKA_POM = Path(__file__).parent / "kafka" / "pom.xml"


def missing_for_kafka() -> str | None:
    """What must be installed before `ApacheKafka` can run, or None."""
    absent = [name for name in ("java", "mvn") if shutil.which(name) is None]
    return f"{' and '.join(absent)} not installed (Debian: default-jdk-headless, maven)" if absent else None


class ApacheKafka(Server):
    """One Apache Kafka node, broker and controller in one process (KRaft), without auto-created topics."""

    name = "Apache Kafka"
    start_seconds_max = 90.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._jars = kafka_jars()
        self._properties = folder / "server.properties"
        controller = free_port()
        self._properties.write_text(
            _kafka_properties(self.port, controller, folder / "data") + self.more_properties(controller)
        )
        (folder / "log4j2.properties").write_text(_LOG4J)
        # An ID may begin with a dash, so it is passed in one argument with its option.
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        formatted = subprocess.run(
            [
                *self._java(256),
                "kafka.tools.StorageTool",
                "format",
                f"--cluster-id={cluster_id}",
                "-c",
                str(self._properties),
                *self.more_format_options(),
            ],
            capture_output=True,
            text=True,
            timeout=self.start_seconds_max,
            check=False,
        )
        if formatted.returncode != 0:
            raise ServerFailed(f"formatting Kafka's storage failed:\n{formatted.stdout}{formatted.stderr}")

    def command(self) -> Sequence[str]:
        return [*self._java(512), "kafka.Kafka", str(self._properties)]

    def is_ready(self) -> bool:
        try:
            return bool(self.admin().list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def more_properties(self, controller: int) -> str:
        """Further lines of server.properties; later ones win. controller: the controller's port."""
        return ""

    def more_format_options(self) -> list[str]:
        """Further options of the storage tool."""
        return []

    def client_properties(self) -> dict[str, Any]:
        """How the tests' own clients log in."""
        return {}

    def admin(self) -> AdminClient:
        """A new admin client that keeps connection errors to itself."""
        quiet = {"log_level": 0, "reconnect.backoff.max.ms": 200}
        return AdminClient({"bootstrap.servers": self.bootstrap, **quiet, **self.client_properties()})

    def create_topic(self, topic: str, partitions: int) -> None:
        """Create a topic and wait for it. Raises KafkaException, e.g. if it exists."""
        admin = self.admin()  # the futures die with it
        for future in admin.create_topics([NewTopic(topic, partitions, 1)], operation_timeout=30).values():
            future.result(timeout=30)

    def delete_topic(self, topic: str) -> None:
        """Delete a topic and wait for it. Raises KafkaException, e.g. if there is none."""
        admin = self.admin()
        for future in admin.delete_topics([topic], operation_timeout=30).values():
            future.result(timeout=30)

    def _java(self, heap_mb: int) -> list[str]:
        quick = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        log4j = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"
        return ["java", f"-Xmx{heap_mb}m", *quick, log4j, "-cp", f"{self._jars}/*"]


def kafka_jars() -> Path:
    """The folder with Kafka's jars, filled by Maven on first use (about 45 MB) and shared by all runs.

    Raises ServerFailed with Maven's output if the jars cannot be had.
    """
    pom = KAFKA_POM.read_text()
    match = re.search(r"<kafka\.version>(.+?)</kafka\.version>", pom)
    if match is None:
        raise ServerFailed(f"{KAFKA_POM} names no kafka.version")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stream-sentinel"
    folder = cache / f"kafka-{match[1]}-{sha256(pom.encode()).hexdigest()[:8]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            return folder
        # Renamed into place when complete, so that an interrupted download is never taken for the whole.
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
        command = ["mvn", "-q", "-B", "-f", str(KAFKA_POM), *goal]
        fetched = subprocess.run(command, capture_output=True, text=True, check=False)
        if fetched.returncode != 0:
            raise ServerFailed(f"Maven could not fetch Kafka's jars:\n{fetched.stdout[-3000:]}{fetched.stderr[-1000:]}")
        partial.rename(folder)
    return folder


def _kafka_properties(port: int, controller_port: int, data: Path) -> str:
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
delete.topic.enable=true
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
controlled.shutdown.enable=true
"""


_LOG4J = """\
status = error
rootLogger.level = warn
rootLogger.appenderRef.stdout.ref = stdout
appender.stdout.type = Console
appender.stdout.name = stdout
appender.stdout.layout.type = PatternLayout
appender.stdout.layout.pattern = %d{HH:mm:ss,SSS} %p %c: %m%n
"""
