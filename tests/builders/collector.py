"""An OpenTelemetry collector on loopback: takes spans by OTLP (http/protobuf) and keeps them."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Kept(NamedTuple):
    """A span as it arrived: IDs in hexadecimal, times in epoch ns."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    begin: int
    end: int
    attributes: dict[str, Any]
    service: str
    failed: bool

    @property
    def words(self) -> str:
        """Everything that it says, for a search."""
        return " ".join([self.name, *self.attributes, *map(str, self.attributes.values())])


class Collector:
    """A context manager. spans: in order of arrival. stalls: whether it keeps every request waiting until the end."""

    def __init__(self, *, stalls: bool = False) -> None:
        self.spans: list[Kept] = []
        self.requests = 0
        self._lock = threading.Lock()
        self._release = threading.Event()
        if not stalls:
            self._release.set()

    @property
    def url(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def named(self, name: str) -> list[Kept]:
        return [span for span in self.spans if span.name == name]

    def _take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._lock:
            for resource in request.resource_spans:
                about = _attributes(resource.resource.attributes)
                self.spans += [
                    _kept(span, str(about["service.name"])) for scope in resource.scope_spans for span in scope.spans
                ]

    def __enter__(self) -> Collector:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.requests += 1
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                outer._release.wait()
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces", self.path
                outer._take(body)
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *arguments: Any) -> None:  # a sender that gave up
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _kept(span: Any, service: str) -> Kept:
    kinds = ("unspecified", "internal", "server", "client", "producer", "consumer")
    return Kept(
        span.name,
        kinds[span.kind],
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _attributes(span.attributes),
        service,
        span.status.code == 2,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
