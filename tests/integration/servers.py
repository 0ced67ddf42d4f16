"""Real servers for the integration suite, as child processes on loopback ports: Redis and a Redis Cluster, and what all
servers have in common (`apache_kafka` has Kafka).

Owns how they are configured, started, waited for, killed and started again on the same data. Knows nothing of the
project: it must import none of its packages, so that a defect there cannot hide here.

    server = RedisServer(folder); server.start(); ...; server.kill(); server.start(); ...; server.stop()
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

LOG_TAIL_LINES = 30
STOP_SECONDS_MAX = 20.0
MASTERS = 3
"""Of a Redis Cluster."""

# redis-py tries ten times by itself, which would make every refused connection take seconds.
NO_RETRY = Retry(NoBackoff(), 0)

# Below the range that Linux takes outgoing ports from: a client that keeps dialling a killed server's port could
# otherwise be given that very port, connect to itself, and keep the server from coming back.
# Each process of pytest-xdist has a part of its own.
_PART = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
_ports = itertools.cycle(range(20_000 + 3_000 * _PART, 23_000 + 3_000 * _PART))
for _ in range(os.getpid() * 7 % 3_000):
    next(_ports)


class ServerFailed(RuntimeError):
    """A server did not start or stop as it should; the message ends with its log's tail."""


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
