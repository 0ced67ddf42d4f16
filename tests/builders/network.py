"""A network between a client and a server that is bad for a while: late, silent, cut, or changing bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Literal

from tests.builders.proxy import shut

Way = Literal["request", "answer"]
Spoil = Callable[[bytes, Way], bytes]
CHUNK = 65_536


class Network:
    """Forwards connections to a server. What is done to them may be changed at any time, also under way:

    target     where new connections lead
    delay_s    what passes is this late, a chunk after the other
    silent     nothing passes, and connections stay open: what is sent meanwhile is lost with its connection
    spoil      changes what passes; the default leaves it alone
    cut()      ends all connections; while `refuses`, new ones end at once
    """

    def __init__(self, host: str, port: int, own_port: int = 0) -> None:
        """own_port: where to listen; 0 for any."""
        self.target = (host, port)
        self.delay_s = 0.0
        self.silent = False
        self.refuses = False
        self.spoil: Spoil = lambda chunk, way: chunk
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", own_port))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for each in sockets:
            shut(each)

    def mend(self) -> None:
        """Be a good network again. Connections from which something was lost end."""
        was_silent, self.silent = self.silent, False
        self.delay_s, self.refuses, self.spoil = 0.0, False, lambda chunk, way: chunk
        if was_silent:
            self.cut()

    def close(self) -> None:
        """End every connection, and take no new ones."""
        shut(self._listener)
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                upstream = None if self.refuses else socket.create_connection(self.target, timeout=5.0)
            except OSError:
                upstream = None
            if upstream is None:
                shut(client)
                continue
            upstream.settimeout(None)
            for each in (client, upstream):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets |= {client, upstream}
            threading.Thread(target=self._pass, args=(client, upstream, "request"), daemon=True).start()
            threading.Thread(target=self._pass, args=(upstream, client, "answer"), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, way: Way) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK):
                if self.delay_s:
                    time.sleep(self.delay_s)
                if not self.silent:
                    sink.sendall(self.spoil(chunk, way))
        with self._lock:
            self._sockets -= {source, sink}
        shut(source)
        shut(sink)
