"""A network between a client and a server that is bad for a while: late, silent, cut, or changing bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Literal

from tests.builders.forwarder import Forwarder

Way = Literal["request", "answer"]
Spoil = Callable[[bytes, Way], bytes]
CHUNK = 65_536


class Network(Forwarder):
    """Forwards connections to a server. What is done to them may be changed at any time, also under way:

    target     where new connections lead
    delay_s    what passes is this late, a chunk after the other
    silent     nothing passes, and connections stay open: what is sent meanwhile is lost with its connection
    spoil      changes what passes; the default leaves it alone
    cut()      ends all connections; while `refuses`, new ones end at once
    """

    def __init__(self, host: str, port: int, own_port: int = 0) -> None:
        """own_port: where to listen; 0 for any."""
        self.delay_s = 0.0
        self.silent = False
        self.spoil: Spoil = lambda chunk, way: chunk
        super().__init__((host, port), own_port)

    def mend(self) -> None:
        """Be a good network again. Connections from which something was lost end."""
        was_silent, self.silent = self.silent, False
        self.delay_s, self.refuses, self.spoil = 0.0, False, lambda chunk, way: chunk
        if was_silent:
            self.cut()

    def forward(self, client: socket.socket, upstream: socket.socket) -> None:
        threading.Thread(target=self._pass, args=(client, upstream, "request"), daemon=True).start()
        threading.Thread(target=self._pass, args=(upstream, client, "answer"), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, way: Way) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK):
                if self.delay_s:
                    time.sleep(self.delay_s)
                if not self.silent:
                    sink.sendall(self.spoil(chunk, way))
        self.end(source, sink)
