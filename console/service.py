"""`sentinel` commands as child processes, started by the demo and the benchmarks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import msgspec

from console.watchdog import Watchdog
from core.errors import Unavailable
from core.files import last_lines
from core.settings import Settings, environment_name

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS_MAX = 30.0
_FORWARDED = (
    "kafka_servers",
    "kafka_tls",
    "kafka_ca_file",
    "kafka_certificate_file",
    "kafka_key_file",
    "kafka_sasl",
    "kafka_username",
    "kafka_password",
    "kafka_password_file",
    "redis_host",
    "redis_port",
    "redis_cluster",
    "redis_username",
    "redis_password",
    "redis_password_file",
    "redis_tls",
    "redis_ca_file",
    "redis_certificate_file",
    "redis_key_file",
    "log_prefix",
    "archive",
    "partitions",
    "snapshot_directory",
    "consumer_group",
    "assignment_strategy",
    "batch_size",
    "linger_ms",
    "transactions_topic",
    "feedback_topic",
    "dead_letter_topic",
    "decisions_topic",
    "metrics_port",
)


def python_environment(root: Path) -> dict[str, str]:
    """The environment in which `python -m` runs the code of this checkout."""
    # `-m` would put the current directory, possibly another checkout, before `root`.
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


class Service:
    """One `sentinel …` child process with its own log file. A context manager; leaving it stops the child and waits.

    module: run this module instead of the command line. root: the checkout whose code runs; by default, this one.
    """

    def __init__(
        self,
        name: str,
        arguments: list[str],
        settings: Settings,
        directory: Path,
        *,
        module: str = "console.cli",
        root: Path = ROOT,
    ) -> None:
        self.name = name
        self.log_path = directory / f"{name}.log"
        self._command = [sys.executable, "-m", module, *arguments]
        self._environment = {
            **python_environment(root),
            **{environment_name(field): str(getattr(settings, field)) for field in _FORWARDED},
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: Watchdog | None = None

    def start(self) -> None:
        """Start the child in its own session, so that Ctrl-C in the terminal reaches only the parent. It ends with the
        parent, however that ends.
        """
        self._unwatched()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._watchdog = Watchdog(self._process.pid)

    def check(self) -> None:
        """Raise Unavailable, with the last lines of its log, if the child has exited with an error."""
        if self.exit_code not in (None, 0):
            raise Unavailable(f"{self.name} exited with {self.exit_code}; {self.last_words}")

    def last_lines(self, count: int = 6) -> list[str]:
        """The end of the child's log."""
        return last_lines(self.log_path, count)[0]

    @property
    def last_words(self) -> str:
        """The end of the child's log, for a message: the log may be in a temporary directory, gone when it is read."""
        said = "\n".join(self.last_lines())
        return f"it said last:\n{said}" if said else "it has said nothing"

    @property
    def pid(self) -> int | None:
        """The child's process ID; None before `start`."""
        return self._process.pid if self._process is not None else None

    @property
    def running(self) -> bool:
        return self._process is not None and self.exit_code is None

    @property
    def exit_code(self) -> int | None:
        """How the child ended, negative for a signal; None if it runs or was never started."""
        code = self._process.poll() if self._process is not None else None
        if code is not None:
            self._unwatched()  # its number may be another's from now on
        return code

    def stop(self) -> None:
        """Send SIGTERM and wait; send SIGKILL if the child does not exit in time."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._unwatched()

    def kill(self) -> None:
        """Send SIGKILL, as in a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._unwatched()

    def wait(self, seconds: float) -> int:
        """The child's exit code. Raises Unavailable if it does not exit in time."""
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{self.name} did not exit within {seconds:.0f} s; {self.last_words}") from None

    def _unwatched(self) -> None:
        if self._watchdog is not None:
            self._watchdog.end()
            self._watchdog = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


def read_stats(path: Path) -> dict[str, Any] | None:
    """A worker's statistics file (ingest.stats); None if there is none yet."""
    try:
        stats: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    return stats


def wait_for_partitions(service: Service, stats_file: Path, partitions: int, seconds: float) -> None:
    """Wait until the worker owns all partitions. Raises Unavailable if it does not in time, or exits."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        service.check()
        stats = read_stats(stats_file)
        if stats is not None and len(stats["partitions"]) == partitions:
            return
        time.sleep(0.05)
    raise Unavailable(
        f"{service.name} does not own its {partitions} partitions after {seconds:.0f} s; {service.last_words}"
    )
