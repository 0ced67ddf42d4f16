"""Takes connections in a server's place. How they are led on is for subclasses: `network`, `proxy`."""

from __future__ import annotations

import contextlib
import socket
import threading


class Forwarder:
    """Listens on loopback at `port`, and makes a connection to `target` for each that comes. While `refuses`, and where
    the server can't be reached, connections end at once.
    """

    def __init__(self, target: tuple[str, int], own_port: int = 0) -> None:
        """own_port: where to listen; 0 for any. Connections are taken from now on."""
        self.target = target
        self.refuses = False
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", own_port))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def forward(self, client: socket.socket, upstream: socket.socket) -> None:
        """Begin to pass on what arrives on either connection, in threads."""
        raise NotImplementedError

    def cut(self) -> None:
        """End every connection."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for each in sockets:
            shut(each)

    def close(self) -> None:
        """End every connection, and take no new ones."""
        shut(self._listener)
        self.cut()

    def end(self, *sockets: socket.socket) -> None:
        """End these connections."""
        with self._lock:
            self._sockets -= {*sockets}
        for each in sockets:
            shut(each)

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
            self.forward(client, upstream)


def shut(each: socket.socket) -> None:
    """Close a connection in both directions, whoever waits for it."""
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
