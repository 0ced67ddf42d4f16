"""A TCP proxy that loses what a network can lose, at the request a test chooses."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from console.stack import Valkey
from core.log.redis_streams import RedisLog, connect
from tests.builders.forwarder import Forwarder

Fault = Literal["drop request", "drop reply", "hold", "release first"]


class Proxy(Forwarder):
    """Forwards to a server. Each request that contains `trigger` takes the next fault of `plan`, if there is one:

    drop request    the server never sees it; the connection is closed
    drop reply      the server runs it; the connection is closed instead of its reply
    hold            nobody hears of it until `release()`, which hands it to the server on the connection that it came
                    by and waits until it ran; with `when_held`, that is called, and then the client is cut off
    release first   forwarded, but only after what was held before has run
    """

    def __init__(self, host: str, port: int, plan: list[Fault], trigger: bytes = b"EVAL") -> None:
        self.seen = 0
        self.when_held: Callable[[], object] | None = None
        self._plan = deque(plan)
        self._trigger = trigger
        self._held: list[tuple[socket.socket, bytes]] = []
        super().__init__((host, port))

    def release(self) -> None:
        """Run held requests on the server: what their connection watches still guards them."""
        held, self._held = self._held, []
        for upstream, request in held:
            with contextlib.suppress(OSError):  # the server has closed it: the request is lost after all
                upstream.sendall(request)
                upstream.recv(65536)

    def forward(self, client: socket.socket, upstream: socket.socket) -> None:
        deaf = threading.Event()
        threading.Thread(target=self._requests, args=(client, upstream, deaf), daemon=True).start()
        threading.Thread(target=self._replies, args=(client, upstream, deaf), daemon=True).start()

    def _requests(self, client: socket.socket, upstream: socket.socket, deaf: threading.Event) -> None:
        try:
            while request := client.recv(1 << 20):
                fault = None
                if self._trigger in request:
                    self.seen += 1
                    fault = self._plan.popleft() if self._plan else None
                if fault == "drop request":
                    break
                if fault == "hold":
                    deaf.set()
                    self._held.append((upstream, request))
                    if self.when_held is not None:
                        self.when_held()
                        self.end(client)
                    continue
                if fault == "release first":
                    self.release()
                if fault == "drop reply":
                    deaf.set()
                upstream.sendall(request)
        except OSError:
            pass
        if not deaf.is_set():
            self.end(client, upstream)

    def _replies(self, client: socket.socket, upstream: socket.socket, deaf: threading.Event) -> None:
        try:
            while reply := upstream.recv(1 << 20):
                if deaf.is_set():
                    break
                client.sendall(reply)
        except OSError:
            pass
        self.end(client, upstream)


@contextmanager
def through(
    server: Valkey, prefix: str, plan: list[Fault], trigger: bytes = b"EXEC"
) -> Iterator[tuple[RedisLog, Proxy]]:
    """A log whose connections pass through a proxy, with a short timeout."""
    proxy = Proxy(server.host, server.port, plan, trigger)
    log = connect("127.0.0.1", proxy.port, prefix=prefix, timeout_s=0.3)
    try:
        yield log, proxy
    finally:
        log.close()
        proxy.close()
