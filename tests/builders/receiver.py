"""A webhook receiver on loopback: keeps what it got, honours idempotency keys, and answers as told."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass
class HttpReceiver:
    """A context manager. requests: (headers, body) in order of arrival; effects: how often each key had an effect,
    which is once if the receiver is right; arrivals: how often it came. answers: what to answer next, (status,
    headers); then 204. delay_s: how long it takes before it answers.
    """

    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    delay_s: float = 0.0
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    arrivals: Counter[str] = field(default_factory=Counter)
    effects: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/hook?team=fraud"

    def take(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str]]:
        with self.lock:
            self.requests.append((headers, body))
            key = headers.get("webhook-id", "")
            self.arrivals[key] += 1
            answer = self.answers.pop(0) if self.answers else (204, {})
            if 200 <= answer[0] < 300 and self.arrivals[key] >= 1 and not self.effects[key]:
                self.effects[key] += 1
        return answer

    def __enter__(self) -> HttpReceiver:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                status, headers = outer.take({k.lower(): v for k, v in self.headers.items()}, body)
                if outer.delay_s:
                    threading.Event().wait(outer.delay_s)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

            def handle_error(self, *arguments: Any) -> None:  # a sender that was killed
                pass

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
