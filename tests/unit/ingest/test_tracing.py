"""Traces from the producer to the action, over a real broker, log server, worker, responder and collector."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from console import wiring
from console.stack import Broker, Valkey
from core import control_stream
from core.codec import decode_alert, encode
from core.errors import BadInput
from core.events import Position, Transaction
from core.log.paging import entries
from core.settings import Settings
from core.trace_context import TraceContext, decided_span, parsed
from ingest.batch_spans import PER_BATCH_MAX
from ingest.trace_origins import Origins
from ingest.tracing import Tracing
from learners.governance.business import change_list
from learners.governance.control_events import Act
from responders.switching import Why, switch_on
from sources.record import Record
from tests import responder_harness as rh
from tests import worker_harness as h
from tests.builders.api import served
from tests.builders.collector import Collector, Kept
from tests.builders.receiver import HttpReceiver
from tests.worker_harness import Raw, Stage

NOTIFY = "notify_fraud_team"
SECRETS = {"account_id": "acct-7f3a", "device_id": "dev-55d1", "ip": "203.0.113.77", "card_id": "card-91cc"}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector, and the environment that points to it."""
    with Collector() as found:
        point_to(found.url, monkeypatch)
        yield found


def point_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")


@pytest.fixture
def on(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> Stage:
    """Messages are live, decisions are published, and every process traces."""
    made = h.stage(broker.bootstrap, valkey_server.host, valkey_server.port, tmp_path, history=False, tracing=True)
    made = made.changed(decisions_topic=f"{made.settings.log_prefix}.decisions", partitions=2)
    made.create_topics()
    return made


def payment(number: int, merchant: str = "shop") -> tuple[Transaction, bytes]:
    now = int(time.time() * 1000)
    made = Transaction(
        transaction_id=f"payment-{number}-id", amount=5000.0, occurred_at=now, merchant_id=merchant, **SECRETS
    )
    return made, encode(made)


def raw(on: Stage, count: int, header: str, first: int = 0) -> list[Raw]:
    """Payments of another producer, with this `traceparent`; "" for none."""
    headers = (("traceparent", header.encode()),) if header else ()
    made = [payment(number) for number in range(first, first + count)]
    topic = on.settings.transactions_topic
    return [Raw(topic, t.account_id.encode(), value, t.occurred_at, headers) for t, value in made]


def header_of(message: Raw) -> TraceContext | None:
    return parsed(dict(message.headers).get("traceparent"))


def one_of(spans: list[Kept], name: str) -> Kept:
    found = [span for span in spans if span.name == name]
    assert len(found) == 1, f"{len(found)} spans {name!r} among {[span.name for span in spans]}"
    return found[0]


def test_one_trace_leads_from_the_producer_to_the_webhook(
    on: Stage, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Producer, worker with its stages, decisions topic, responder, webhook: one tree, in order of time, that names
    nobody; the receiver gets its place in it.
    """
    monkeypatch.setenv("SOC_SECRET", "whsec_" + base64.b64encode(bytes(range(32))).decode())
    with HttpReceiver() as receiver, h.Threaded(on), on.log() as log:
        h.wait_for(lambda: control_stream.current(log).champion is not None, "the worker's start")
        change_list(log, "merchant", "block", Act("ann", "test", 1), add=["bad"])
        switch_on(log, [NOTIFY], Why("ann", "test", int(time.time() * 1000)))
        responder = rh.responder(on, "responder", receiver.url)
        responder.start()
        try:
            sent, value = payment(1, "bad")
            on.produce([Record("transactions", sent.account_id, sent.occurred_at, value)])
            h.wait_for(lambda: receiver.requests, "the webhook")
            h.wait_for(lambda: collector.named(f"alert.{NOTIFY}"), "its span")
        finally:
            responder.stop()
        h.wait_for(lambda: collector.named(f"process {on.settings.transactions_topic}"), "the worker's spans")
        alert = next(decode_alert(e.payload) for p in range(2) for e in entries(log, p, "alerts"))
        identity = control_stream.current(log).identity
    spans = collector.spans
    assert len({span.trace_id for span in spans}) == 1, [(span.service, span.name) for span in spans]
    began = one_of(spans, f"send {on.settings.transactions_topic}")
    decided = one_of(spans, f"process {on.settings.transactions_topic}")
    notified = one_of(spans, f"alert.{NOTIFY}")
    below = [one_of(spans, name) for name in ("decode", "decide", "append", f"send {on.settings.decisions_topic}")]
    assert (began.parent_id, decided.parent_id, notified.parent_id) == ("", began.span_id, decided.span_id)
    assert {span.parent_id for span in below} == {decided.span_id}
    assert [span.service for span in (began, decided, notified)] == [
        "sentinel-produce",
        "sentinel-ingest",
        "sentinel-respond",
    ]
    assert identity is not None
    assert decided.span_id == decided_span(f"{identity.log_id[:12]}:{alert.alert_id}")
    assert decided.attributes["sentinel.decision"] == alert.decision
    assert not any(span.failed for span in spans)
    times = [began.begin, *(span.begin for span in below), decided.end]
    assert times == sorted(times)
    assert all(decided.begin <= span.begin <= span.end <= decided.end for span in below)
    (told, _), (published,) = receiver.requests[0], on.messages(on.settings.decisions_topic)
    assert parsed(told["traceparent"]) == TraceContext(began.trace_id, notified.span_id, True)
    assert header_of(published) == TraceContext(began.trace_id, decided.span_id, True)
    said = " ".join(span.words for span in spans)
    assert not [word for word in (*SECRETS.values(), sent.transaction_id) if word in said]


def test_a_request_to_the_api_continues_its_callers_trace(on: Stage, collector: Collector) -> None:
    """The caller's span is the parent of ours; Kafka's message, the decision and all spans are of its trace."""
    caller = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True)
    with h.Threaded(on) as worker:
        h.wait_for(lambda: len(worker.worker.partitions) == on.settings.partitions, "the assignment")
        with served(wiring.open_log(on.settings), on.directory, on.settings) as api:
            headers = {**api.bearer("submitter"), "traceparent": caller.header}
            got = api.client.post("/v1/decisions?wait_ms=10000", content=payment(1)[1], headers=headers)
            assert got.status_code == 200, got.text
    decide = next(span for span in collector.named("decide") if span.service == "sentinel-serve")
    send = one_of(collector.spans, f"send {on.settings.transactions_topic}")
    process = one_of(collector.spans, f"process {on.settings.transactions_topic}")
    assert [span.parent_id for span in (decide, send, process)] == [caller.span_id, decide.span_id, send.span_id]
    assert {span.trace_id for span in collector.spans} == {caller.trace_id}
    (message,) = on.messages(on.settings.transactions_topic)
    assert header_of(message) == TraceContext(caller.trace_id, send.span_id, True)
    said = " ".join(span.words for span in collector.spans)
    assert not [word for word in (*SECRETS.values(), "payment-1-id") if word in said]


def test_what_is_not_sampled_is_passed_on_and_makes_no_span(on: Stage, collector: Collector) -> None:
    """The decision carries the header as it came; without a valid one, none."""
    trace = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", False)
    on.send(raw(on, 3, trace.header) + raw(on, 2, "", 3) + raw(on, 2, "00-not-a-trace", 5))
    on.drain()
    found = [header_of(message) for message in on.messages(on.settings.decisions_topic)]
    assert sorted(found, key=str) == [*[None] * 4, *[trace] * 3]
    assert not collector.spans


def test_a_log_holds_nothing_of_traces(on: Stage, collector: Collector) -> None:
    """With and without tracing, the same messages come to the same log."""
    on.send(raw(on, 12, TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True).header))
    on.drain()
    assert len(collector.named(f"process {on.settings.transactions_topic}")) == 12
    h.assert_sound(on)
    with on.log() as log:
        stored = b"".join(
            e.payload for p in range(2) for s in ("transactions", "scores", "alerts") for e in entries(log, p, s)
        )
    assert b"4bf92f35" not in stored and b"trace" not in stored


def test_a_batch_makes_a_bounded_number_of_spans(on: Stage, collector: Collector) -> None:
    """Every message asks for a span: PER_BATCH_MAX of a batch get one, and all decisions their place in the trace."""
    header = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True).header
    on.send(raw(on, 300, header))
    worker = h.Threaded(on.changed(batch_size=300), drain=True)
    worker.start()
    worker.join()
    batches = worker.stats.transactions // 300 or 1
    decided = collector.named(f"process {on.settings.transactions_topic}")
    published = [header_of(message) for message in on.messages(on.settings.decisions_topic)]
    assert len(decided) < 300 and len(decided) % PER_BATCH_MAX == 0 and len(decided) >= PER_BATCH_MAX * batches
    assert len({found.span_id for found in published if found is not None}) == 300
    assert {span.span_id for span in decided} <= {found.span_id for found in published if found is not None}


@pytest.mark.parametrize("how", ["down", "stalled"])
def test_a_collector_that_does_not_answer_stops_nothing(
    how: str, on: Stage, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Everything is decided and published, the queue stays within its bound, and the worker ends."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with Collector(stalls=how == "stalled") as collector:
        point_to(collector.url if how == "stalled" else "http://127.0.0.1:9", monkeypatch)
        header = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True).header
        on.send(raw(on, 200, header))
        stats = on.drain()
        assert stats.transactions == 200
        assert len(on.messages(on.settings.decisions_topic)) == 200
        assert not collector.spans


def test_exported_and_failed_spans_are_counted(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """By outcome; a collector that is down fails them."""

    def count(outcome: str) -> float:
        return REGISTRY.get_sample_value("sentinel_trace_spans_total", {"outcome": outcome}) or 0.0

    before = count("exported"), count("failed")
    for url in (collector.url, "http://127.0.0.1:9"):
        point_to(url, monkeypatch)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        tracing = Tracing.of(Settings(tracing=True), "test")
        assert tracing is not None
        tracing.begin("one", "internal", None).end()
        tracing.close()
    assert (count("exported"), count("failed")) == (before[0] + 1, before[1] + 1)
    assert [span.name for span in collector.spans] == ["one"]


def test_a_follower_begins_no_trace_of_its_own(collector: Collector) -> None:
    """Workers and responders record what others sampled; what has no parent is not recorded."""
    tracing = Tracing.of(Settings(tracing=True), "test", follows=True)
    assert tracing is not None
    tracing.begin("mine", "internal", None).end()
    tracing.begin("theirs", "internal", TraceContext("1" * 32, "2" * 16, True)).end()
    tracing.begin("unsampled", "internal", TraceContext("1" * 32, "2" * 16, False)).end()
    tracing.close()
    assert [(span.name, span.trace_id, span.parent_id) for span in collector.spans] == [("theirs", "1" * 32, "2" * 16)]


def test_a_span_that_raises_is_an_error_of_that_type(collector: Collector) -> None:
    """Its text stays out: it may name somebody."""
    tracing = Tracing.of(Settings(tracing=True), "test")
    assert tracing is not None
    with pytest.raises(BadInput), tracing.span("decide", "server", None):
        raise BadInput("account acct-7f3a")
    tracing.close()
    assert collector.spans[0].failed and "acct" not in collector.spans[0].words


def test_tracing_is_off_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the setting, and by OpenTelemetry's own two switches; then the package is not even looked for."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert Tracing.of(Settings(), "test") is None
    for name, value in (("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")):
        with monkeypatch.context() as patched:
            patched.setenv(name, value)
            assert Tracing.of(Settings(tracing=True), "test") is None


def test_without_the_package_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names setting and command."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(BadInput, match=r"tracing = true needs OpenTelemetry .* pip install 'stream-sentinel\[otel\]'"):
        Tracing.of(Settings(tracing=True), "test")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of sending nothing without a word."""
    monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match=name):
        Tracing.of(Settings(tracing=True), "test")


def test_an_origin_is_read_at_its_place_or_not_at_all(on: Stage) -> None:
    """The header of the very message; none for another generation, none beyond the end, and no error for either."""
    trace = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True)
    on.send([message._replace(partition=1) for message in raw(on, 2, "") + raw(on, 1, trace.header, 2)])
    origins = Origins(on.settings, lambda: 3)
    try:
        assert origins.of(1, Position(3, 3)) == trace
        assert origins.of(1, Position(3, 2)) is None
        assert origins.of(1, Position(2, 3)) is None
        assert origins.of(1, Position(3, 9)) is None
    finally:
        origins.close()


def test_without_kafka_an_origin_is_unknown_and_is_not_asked_for_again_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[Any]
) -> None:
    """Actions go on without their trace."""
    monkeypatch.setattr("ingest.trace_origins.READ_S", 0.2)
    origins = Origins(Settings(kafka_servers="127.0.0.1:9"), lambda: 1)
    assert [origins.of(0, Position(1, n)) for n in (1, 2, 3)] == [None] * 3
    assert capsys.readouterr().out.count("tracing.origin_unknown") == 1
    origins.close()


def test_settings_of_other_processes_are_not_touched() -> None:
    """The default is off, and the setting is one boolean."""
    assert Settings().tracing is False and msgspec.to_builtins(Settings())["tracing"] is False
