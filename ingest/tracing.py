"""OpenTelemetry in this process, if the setting `tracing` is on: where spans go, and how they are made. Off by default;
without it, the package need not be installed, and the hot path asks once per batch whether there is anything to do.

Everything else is set by OpenTelemetry's own environment variables (docs/tracing.md). Only what this module imports
knows the SDK; others see `Tracing` and `TraceContext`.

States of a span: begun → ended → queued (2,048 at most, OTEL_BSP_MAX_QUEUE_SIZE; the oldest go first) → exported or
failed, in a thread of the SDK. Nothing waits for an exporter: one that is down or slow costs spans, and a warning a
minute. `close` waits CLOSE_S at most.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from core.errors import BadInput
from core.settings import Settings
from core.trace_context import HEADER, TraceContext
from ingest import telemetry

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span as SdkSpan

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attributes = Mapping[str, str | int | float | bool]
Headers = list[tuple[str, str | bytes | None]]
KAFKA: Attributes = {
    "messaging.system": "kafka",
    "messaging.operation.name": "send",
    "messaging.operation.type": "send",
}
CLOSE_S = 3.0
WARN_S = 60.0
INSTALL = "pip install 'stream-sentinel[otel]'"


class Span:
    """A span that has begun. context: what to send on."""

    def __init__(self, span: SdkSpan, context: TraceContext) -> None:
        self._span = span
        self.context = context

    def end(self, attributes: Attributes | None = None, *, error: str = "", at_ns: int | None = None) -> None:
        """End it now, or at epoch ns `at_ns`. error: the code of what failed; "" if nothing did."""
        from opentelemetry.trace import StatusCode

        if attributes:
            self._span.set_attributes(dict(attributes))
        if error:
            self._span.set_status(StatusCode.ERROR, error)
        self._span.end(at_ns)


class Tracing:
    """Makes spans and hands them to an exporter. Thread-safe."""

    def __init__(self, service: str, exporter: SpanExporter, *, follows: bool) -> None:
        """follows: whether it only makes spans of traces that others began and sample; else OTEL_TRACES_SAMPLER decides
        about new ones.
        """
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import DEFAULT_OFF

        _tell_troubles()
        self._ids = _ids()
        self._provider = TracerProvider(
            sampler=DEFAULT_OFF if follows else None,
            resource=Resource.create(_resource(service)),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(_counted(exporter)))
        self._tracer = self._provider.get_tracer("stream-sentinel", version("stream-sentinel"))

    @classmethod
    def of(cls, settings: Settings, service: str, *, follows: bool = False) -> Tracing | None:
        """That of the settings; None if tracing is off. service: what OTEL_SERVICE_NAME replaces. Raises BadInput if it
        can't be used.
        """
        if not settings.tracing:
            return None
        exporter = os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip() or "otlp"
        if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
            return None
        if exporter != "otlp":
            raise BadInput(f"OTEL_TRACES_EXPORTER = {exporter!r}: must be otlp or none")
        for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
            if (protocol := os.environ.get(name, "")) not in ("", "http/protobuf"):
                raise BadInput(f"{name} = {protocol!r}: spans are sent by http/protobuf only (docs/tracing.md)")
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.trace import TracerProvider as _  # noqa: F401 - both packages are needed
        except ImportError as error:
            raise BadInput(f"tracing = true needs OpenTelemetry ({error}): {INSTALL}, or set tracing = false") from None
        return cls(service, OTLPSpanExporter(), follows=follows)

    def begin(
        self,
        name: str,
        kind: Kind,
        parent: TraceContext | None,
        attributes: Attributes | None = None,
        *,
        start_ns: int | None = None,
        span_id: str = "",
    ) -> Span:
        """Begin a span, now or at `start_ns` (epoch ns). span_id: one that is given; "" draws one. It records nothing
        if its trace is not sampled, but its context can be sent on.
        """
        from opentelemetry import trace

        self._ids.given = int(span_id, 16) if span_id else 0
        span = self._tracer.start_span(
            name,
            context=_context(parent),
            kind=trace.SpanKind[kind.upper()],
            attributes=dict(attributes) if attributes else None,
            start_time=start_ns,
        )
        made = span.get_span_context()
        return Span(
            span,
            TraceContext(f"{made.trace_id:032x}", f"{made.span_id:016x}", bool(made.trace_flags.sampled)),
        )

    def record(
        self,
        name: str,
        kind: Kind,
        parent: TraceContext,
        times_ns: tuple[int, int],
        attributes: Attributes | None = None,
        *,
        span_id: str = "",
    ) -> TraceContext:
        """A span that is over: its begin and end in epoch ns. Returns its context, for children."""
        span = self.begin(name, kind, parent, attributes, start_ns=times_ns[0], span_id=span_id)
        span.end(at_ns=times_ns[1])
        return span.context

    @contextmanager
    def span(
        self, name: str, kind: Kind, parent: TraceContext | None, attributes: Attributes | None = None
    ) -> Iterator[TraceContext]:
        """A span around a block; one that raises is an error of that type. Gives its context."""
        span = self.begin(name, kind, parent, attributes)
        failed = "cancelled"
        try:
            yield span.context
            failed = ""
        except Exception as error:
            failed = type(error).__name__
            raise
        finally:
            span.end(error=failed)

    def close(self) -> None:
        """Export what is queued, for CLOSE_S at most."""
        thread = threading.Thread(target=self._provider.shutdown, name="tracing-close", daemon=True)
        thread.start()
        thread.join(CLOSE_S)


def around(
    tracing: Tracing | None, name: str, kind: Kind, parent: TraceContext | None
) -> AbstractContextManager[TraceContext | None]:
    """`Tracing.span`, or nothing if the process does not trace."""
    return nullcontext() if tracing is None else tracing.span(name, kind, parent, KAFKA if kind == "producer" else None)


def headers_of(context: TraceContext | None) -> Headers | None:
    """A Kafka message's headers."""
    return None if context is None else [(HEADER, context.header.encode())]


def _context(parent: TraceContext | None) -> Context:
    from opentelemetry import trace
    from opentelemetry.context import Context

    if parent is None:
        return Context()
    flags = trace.TraceFlags(int(parent.sampled))
    known = trace.SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(known), Context())


def _resource(service: str) -> dict[str, str]:
    """What every span says of the process, unless the environment says it."""
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return {"service.version": version("stream-sentinel"), **({} if named else {"service.name": service})}


def _ids() -> Any:
    """Random IDs, but for a span whose ID is given."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator, threading.local):
        given = 0

        def generate_span_id(self) -> int:
            given, self.given = self.given, 0
            return given or super().generate_span_id()

    return Ids()


def _counted(exporter: SpanExporter) -> SpanExporter:
    """The exporter, whose outcomes are counted."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Counted(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = exporter.export(spans)
            outcome = "exported" if result is SpanExportResult.SUCCESS else "failed"
            telemetry.SPANS.labels(outcome).inc(len(spans))
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

    return Counted()


class _Troubles(logging.Handler):
    """Takes what the SDK logs: one line in WARN_S, since a collector that is down fails every few seconds."""

    told_at = -WARN_S

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if now - self.told_at >= WARN_S:
            self.told_at = now
            telemetry.logger().warning("tracing.trouble", error=record.getMessage())


def _tell_troubles() -> None:
    log = logging.getLogger("opentelemetry")
    if not any(isinstance(each, _Troubles) for each in log.handlers):
        log.addHandler(_Troubles(logging.WARNING))
        log.propagate = False
