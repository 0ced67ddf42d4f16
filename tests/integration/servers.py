"""Real servers for the integration suite: Apache Kafka, Redis, a Redis Cluster, as child processes on loopback ports.

Owns how they are configured, started, waited for, killed and started again on the same data. Knows nothing of the
project: it must import none of its packages, so that a defect there cannot hide here.

    server = RedisServer(folder); server.start(); ...; server.kill(); server.start(); ...; server.stop()
"""

from __future__ import annotations

import base64
import fcntl
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import redis
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from redis.backoff import NoBackoff
from redis.retry import Retry

KAFKA_POM = Path(__file__).parent / "kafka" / "pom.xml"
LOG_TAIL_LINES = 30
STOP_SECONDS_MAX = 20.0
MASTERS = 3
"""Of a Redis Cluster."""

# redis-py tries ten times by itself, which would make every refused connection take seconds.
NO_RETRY = Retry(NoBackoff(), 0)

# Below the range that Linux takes outgoing ports from: a client that keeps dialling a killed server's port could
# otherwise be given that very port, connect to itself, and keep the server from coming back.
_ports = itertools.cycle(range(20_000, 32_000))
for _ in range(os.getpid() * 7 % 12_000):
    next(_ports)


class ServerFailed(RuntimeError):
    """A server did not start or stop as it should; the message ends with its log's tail."""


def missing_for_kafka() -> str | None:
    """What must be installed before `ApacheKafka` can run, or None."""
    absent = [name for name in ("java", "mvn") if shutil.which(name) is None]
    return f"{' and '.join(absent)} not installed (Debian: default-jdk-headless, maven)" if absent else None


def missing_for_redis() -> str | None:
    """What must be installed before `RedisServer` and `RedisCluster` can run, or None."""
    return None if shutil.which("redis-server") else "redis-server not installed (Debian: redis-server)"


def free_port() -> int:
    """A loopback TCP port that nobody listens on now."""
    for port in itertools.islice(_ports, 1000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerFailed("no free port in 1,000 tries")


class Server:
    """One child process with a data folder and a log file that outlive it, so that it can be killed and restarted."""

    name = "server"
    start_seconds_max = 20.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_path = folder / "server.log"
        self.ready_seconds = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> Sequence[str]:
        """The command line to start."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether the server answers; asked again until it does or the deadline is over."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        """The running child's process ID."""
        if self._process is None:
            raise ServerFailed(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the child was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start and wait until ready. Raises ServerFailed if it exits or is not ready in `start_seconds_max`."""
        began = time.monotonic()
        self.launch()
        try:
            self._wait(self.is_ready, began + self.start_seconds_max)
        except BaseException:
            self.kill()
            raise
        self.ready_seconds = time.monotonic() - began

    @contextmanager
    def started(self) -> Iterator[Self]:
        """Start it, and stop it in the end."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def launch(self) -> None:
        """Start and wait for nothing. Raises ServerFailed if it runs."""
        if self.running:
            raise ServerFailed(f"{self.name} is running already")
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*_die_with_parent(), *self.command()],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def stop(self) -> None:
        """Ask it to end (SIGTERM) and wait; kill it if it does not. Does nothing if it is not running."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerFailed(f"{self.name} ignored SIGTERM for {STOP_SECONDS_MAX:.0f} s{self.log_tail()}") from None
        self._process = None

    def kill(self) -> None:
        """End it as a crash would (SIGKILL). Does nothing if it is not running."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Freeze it (SIGSTOP): connections stay open and nothing answers, as in a network partition."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def log_tail(self) -> str:
        """The log's last lines, to end an error message with."""
        lines = self.log_path.read_text(errors="replace").splitlines() if self.log_path.exists() else []
        return f"\n--- the end of {self.log_path}\n" + "\n".join(lines[-LOG_TAIL_LINES:])

    def _wait(self, ready: Callable[[], bool], deadline: float) -> None:
        while not ready():
            process = self._process
            if process is not None and process.poll() is not None:
                raise ServerFailed(f"{self.name} exited with {process.returncode} before it was ready{self.log_tail()}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.name} was not ready in {self.start_seconds_max:.0f} s{self.log_tail()}")
            time.sleep(0.05)


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


class RedisServer(Server):
    """One Redis: append-only file fsynced at every write, no eviction. With `tls`, it speaks nothing but TLS."""

    name = "redis-server"

    def __init__(
        self,
        folder: Path,
        *,
        tls: bool = False,
        appendfsync: str = "always",
        cluster: bool = False,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """options: further ones of its configuration, by name; they win."""
        super().__init__(folder)
        self.options = dict(options or {})
        self.port = free_port()
        self.bus_port = free_port() if cluster else 0
        self.appendfsync = appendfsync
        self.tls = tls
        self.ca_file = folder / "server.crt"
        if tls and not self.ca_file.exists():
            _self_signed(folder / "server.key", self.ca_file)

    def command(self) -> Sequence[str]:
        options = {
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": self.appendfsync,
            "save": "",
            "maxmemory-policy": "noeviction",
            "port": "0" if self.tls else str(self.port),
        }
        if self.tls:
            options |= {
                "tls-port": str(self.port),
                "tls-cert-file": str(self.ca_file),
                "tls-key-file": str(self.folder / "server.key"),
                "tls-ca-cert-file": str(self.ca_file),
                "tls-auth-clients": "no",
            }
        if self.bus_port:
            options |= {
                "cluster-enabled": "yes",
                "cluster-port": str(self.bus_port),
                "cluster-node-timeout": "5000",
                "cluster-config-file": "nodes.conf",
            }
        options |= self.options
        return ["redis-server", *itertools.chain.from_iterable((f"--{k}", v) for k, v in options.items())]

    def is_ready(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    @property
    def url(self) -> str:
        """`redis://` or, with TLS, `rediss://`."""
        return f"{'rediss' if self.tls else 'redis'}://127.0.0.1:{self.port}"

    def client(self) -> redis.Redis:
        """A new client that does not retry; with TLS it verifies the server against `ca_file`."""
        tls: dict[str, Any] = {"ssl": True, "ssl_ca_certs": str(self.ca_file)} if self.tls else {}
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=5, retry=NO_RETRY, **tls)


class RedisCluster:
    """Three Redis masters that share the 16,384 slots; no replicas, so a killed node's slots wait for its return."""

    name = "Redis Cluster"
    start_seconds_max = 30.0

    def __init__(self, folder: Path, nodes: int = MASTERS, options: Mapping[str, str] | None = None) -> None:
        """options: further ones of each node's configuration."""
        self.nodes = [RedisServer(folder / f"node-{n}", cluster=True, options=options) for n in range(nodes)]
        self._joined = False

    @property
    def port(self) -> int:
        """The first node's port; cluster clients find the others from it."""
        return self.nodes[0].port

    @property
    def url(self) -> str:
        """The first node's address."""
        return self.nodes[0].url

    def start(self) -> None:
        """Start all nodes, join them the first time, and wait until each says cluster_state:ok."""
        for node in self.nodes:
            node.start()
        if not self._joined:
            self._join()
            self._joined = True
        self.wait_ok()

    def wait_ok(self) -> None:
        """Wait until every running node sees every slot served. Raises ServerFailed after `start_seconds_max`."""
        deadline = time.monotonic() + self.start_seconds_max
        while not all(self._is_ok(node) for node in self.nodes if node.running):
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"{self.name} was not ok in {self.start_seconds_max:.0f} s{self.nodes[0].log_tail()}"
                )
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop every node."""
        for node in self.nodes:
            node.stop()

    def kill(self) -> None:
        """Kill every node."""
        for node in self.nodes:
            node.kill()

    def client(self) -> redis.RedisCluster:
        """A new cluster client."""
        return redis.RedisCluster(host="127.0.0.1", port=self.port, socket_timeout=5)

    def _join(self) -> None:
        bounds = [16384 * n // MASTERS for n in range(MASTERS + 1)]
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            with node.client() as client:
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                if number < MASTERS:
                    client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
                if node is not first:
                    client.execute_command("CLUSTER MEET", "127.0.0.1", first.port, first.bus_port)

    def _is_ok(self, node: RedisServer) -> bool:
        with node.client() as client:
            info = client.execute_command("CLUSTER INFO")
        return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == len(self.nodes)


def kafka_jars() -> Path:
    """The folder with Kafka's jars, filled by Maven on first use (about 45 MB) and shared by all runs.

    Raises ServerFailed with Maven's output if the jars cannot be had.
    """
    match = re.search(r"<kafka\.version>(.+?)</kafka\.version>", KAFKA_POM.read_text())
    if match is None:
        raise ServerFailed(f"{KAFKA_POM} names no kafka.version")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stream-sentinel"
    folder = cache / f"kafka-{match[1]}"
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


def _die_with_parent() -> list[str]:
    """The prefix (util-linux) that has the kernel kill a server when the test run itself is killed."""
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def _self_signed(key: Path, certificate: Path) -> None:
    request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    made = subprocess.run(["openssl", *request, *names, *files], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise ServerFailed(f"openssl could not make a certificate:\n{made.stderr}")


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
