"""Health and metrics of a process that runs for long, on its own port: `/livez`, `/readyz` and `/metrics`.

    /livez    200 as long as the process answers; what ends by itself is started again by whoever supervises it
    /readyz   200 if every check passes, else 503; the body names each check and what is wrong: {"log": "", …}
    /metrics  Prometheus, also with each check as `sentinel_ready`

Checks only read. Each is asked in a thread of its own, and one without an answer in WAIT_S fails: a frozen server must
not make probes and scrapes time out, or the process itself would look dead. Results are kept for KEPT_S.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import msgspec
from prometheus_client import REGISTRY, Metric, make_wsgi_app
from prometheus_client.registry import Collector

from core.errors import SentinelError, Unavailable
from core.log.base import EventLog
from core.settings import Settings
from ingest.families import READY

KEPT_S = 1.0
WAIT_S = 2.0
STEP_S = 60.0
"""After this long without a step, a process is not ready, unless it says that its steps take longer."""
Check = Callable[[], str]
"""What is wrong, in a few words; "" if nothing is."""


class _Question:
    """A check that may take long. One thread asks at a time, however often `begin` is called."""

    def __init__(self, ask: Check) -> None:
        self._ask = ask
        self._said = ""
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Ask, unless the last answer has not come yet."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="check", daemon=True)
            self._thread.start()

    def answer(self, deadline: float) -> str:
        """What is wrong. deadline: how long to wait for it, by time.monotonic."""
        assert self._thread is not None
        self._thread.join(max(deadline - time.monotonic(), 0.0))
        return f"no answer within {WAIT_S:g} s" if self._thread.is_alive() else self._said

    def _run(self) -> None:
        try:
            self._said = self._ask()
        except SentinelError as error:
            self._said = str(error) or type(error).__name__
        except Exception as error:  # noqa: BLE001 - a check that fails has not passed
            self._said = f"{type(error).__name__}: {error}"


class Health:
    """The checks of one process, by name. Thread-safe."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._checks: dict[str, _Question] = {}
        self.check("started", lambda: "is starting")
        self._step_s = STEP_S
        self._lock = threading.Lock()
        self._kept: tuple[float, dict[str, str]] | None = None
        self._due = 0.0
        self._stepped = 0.0
        self._trouble = ""

    def check(self, name: str, ask: Check) -> None:
        """Ask this, too. Whatever it raises fails it."""
        self._checks = {**self._checks, name: _Question(ask)}

    def started(self) -> None:
        """All checks are there: from now on the process may be ready."""
        self.check("started", lambda: "")

    def follow_steps(self, step_s: float = STEP_S) -> None:
        """Check that the process takes steps, each of at most `step_s`: from now on it must call `stepped`."""
        self._step_s = step_s
        self.stepped()
        self.check("progress", self._progress)

    def stepped(self, rests_s: float = 0.0, trouble: str = "") -> None:
        """A step has ended, and the next ends at the latest after a rest of `rests_s`. trouble: why it failed."""
        self._stepped = self._monotonic()
        self._due = self._stepped + rests_s + self._step_s
        self._trouble = trouble

    def _progress(self) -> str:
        now = self._monotonic()
        if now > self._due:
            return f"no step has ended for {now - self._stepped:.0f} s"
        return self._trouble

    def results(self) -> dict[str, str]:
        """Each check, and what is wrong; "" for one that passes."""
        with self._lock:
            if self._kept is None or self._monotonic() - self._kept[0] > KEPT_S:
                checks = self._checks
                for question in checks.values():
                    question.begin()
                deadline = time.monotonic() + WAIT_S
                found = {name: question.answer(deadline) for name, question in checks.items()}
                self._kept = (self._monotonic(), found)
            return self._kept[1]

    def families(self) -> Iterable[Metric]:
        """The checks as metrics."""
        return [READY.of({(name,): not wrong for name, wrong in self.results().items()})]


class Board(Collector):
    """Gauges whose series come and go: asked for at every scrape. ask: called in the server's threads."""

    def __init__(self) -> None:
        self._asked: dict[str, Callable[[], Iterable[Metric]]] = {}

    def put(self, name: str, ask: Callable[[], Iterable[Metric]]) -> None:
        """Export what `ask` gives, in place of what was put under this name before."""
        self._asked[name] = ask

    def collect(self) -> Iterable[Metric]:
        for ask in list(self._asked.values()):
            yield from ask()


BOARD = Board()
"""Of this process."""
REGISTRY.register(BOARD)


def log_check(log: EventLog) -> Check:
    """Whether the log answers, asked anew each time."""

    def ask() -> str:
        log.control_head()
        return ""

    return ask


def serve(settings: Settings, health: Health) -> None:
    """Serve until the process ends, if a port is set. Raises Unavailable if it is taken."""
    BOARD.put("health", health.families)
    if not settings.metrics_port:
        return
    host, port = settings.metrics_host, settings.metrics_port
    server_class = type("Server", (_Server,), {"address_family": socket.AF_INET6 if ":" in host else socket.AF_INET})
    try:
        server = server_class((host, port), _Quiet)
    except OSError as error:
        raise Unavailable(f"metrics port {port}: {error.strerror}; choose another") from None
    server.set_app(application(health))
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()


def application(health: Health) -> Callable[..., Iterable[bytes]]:
    """The WSGI application."""
    metrics = make_wsgi_app(REGISTRY)

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            served: Iterable[bytes] = metrics(environ, start)
            return served
        found = health.results() if path == "/readyz" else {}
        if path not in ("/livez", "/readyz"):
            status, body = "404 Not Found", b'{"paths":["/livez","/readyz","/metrics"]}'
        else:
            is_well = not any(found.values())
            status = "200 OK" if is_well else "503 Service Unavailable"
            body = msgspec.json.encode({"status": "ok" if is_well else "not ready", "checks": found})
        start(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    return answer


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """As HTTPServer does, without a look-up of the host's name, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


class _Quiet(WSGIRequestHandler):
    timeout = 10.0

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: probes come every few seconds."""

    def address_string(self) -> str:
        return str(self.client_address[0])
