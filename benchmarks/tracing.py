"""What tracing costs a worker, in CPU time of one thread (`python -m benchmarks.tracing`): per message and per payment
that is sampled, without Kafka, log server and collector. Other processes on the machine hardly change CPU time.
"""

from __future__ import annotations

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from benchmarks.running import per_call_us
from core.trace_context import TraceContext, of_headers
from ingest.tracing import Tracing

MESSAGES = 200_000
PAYMENTS = 5_000


def main() -> None:
    """Print one line per cost."""
    parent = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True)
    headers: list[tuple[str, str | bytes | None]] = [("traceparent", parent.header.encode())]
    exporter = InMemorySpanExporter()
    tracing = Tracing("benchmark", exporter, follows=True)

    def payment() -> None:
        span = tracing.record("process", "consumer", parent, (1, 2), {"sentinel.decision": "approve"}, span_id="1" * 16)
        for name in ("decode", "decide", "append", "send"):
            tracing.record(name, "internal", span, (1, 2))

    empty = per_call_us(lambda: None, MESSAGES)
    print(f"a message's header: {per_call_us(lambda: of_headers(headers), MESSAGES) - empty:.2f} µs")
    print(f"a message without one: {per_call_us(lambda: of_headers(None), MESSAGES) - empty:.2f} µs")
    print(f"a sampled payment's five spans: {per_call_us(payment, PAYMENTS):.0f} µs")
    tracing.close()


if __name__ == "__main__":
    main()
