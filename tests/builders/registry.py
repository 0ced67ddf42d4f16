"""A schema registry on loopback, as far as its wire format needs one: `GET /schemas/ids/ID`."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec


class Registry:
    """A context manager. schemas: by ID, (type, text). asked: each ID that was asked for. status: what it answers
    instead, if it is not 200. login: the header `authorization` that it wants. drop_s: how long each byte takes it.
    """

    def __init__(self, **options: Any) -> None:
        self.schemas: dict[int, tuple[str, str]] = {}
        self.asked: list[int] = []
        self.status = 200
        self.login = ""
        self.references: list[Any] = []
        self.drop_s = 0.0
        self.__dict__ |= options

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _answer(self, path: str, login: str) -> tuple[int, Any]:
        number = int(path.rpartition("/")[2])
        self.asked.append(number)
        if self.login and login != self.login:
            return 401, {"error_code": 40101, "message": "unauthorized"}
        if self.status != 200:
            return self.status, {"error_code": self.status, "message": "as told"}
        if not path.startswith("/schemas/ids/") or number not in self.schemas:
            return 404, {"error_code": 40403, "message": f"Schema {number} not found"}
        kind, text = self.schemas[number]
        answer: dict[str, Any] = {"schema": text}
        if kind != "AVRO":  # which the real one leaves out
            answer["schemaType"] = kind
        if self.references:
            answer["references"] = self.references
        return 200, answer

    def __enter__(self) -> Registry:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, answer = outer._answer(self.path, self.headers.get("authorization", ""))
                body = msgspec.json.encode(answer)
                self.send_response(status)
                self.send_header("content-type", "application/vnd.schemaregistry.v1+json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                if not outer.drop_s:
                    self.wfile.write(body)
                    return
                with suppress(OSError):  # whoever asked has given up
                    for byte in body[:50]:
                        self.wfile.write(bytes([byte]))
                        self.wfile.flush()
                        time.sleep(outer.drop_s)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
