"""Messages in a schema registry's wire format: read at the edge, rejected or left waiting; the log is as with JSON."""

from __future__ import annotations

import base64
import io
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest

from console import edge_schemas
from console.stack import Broker, Valkey
from core.codec import decode_reject
from core.errors import BadInput, Unavailable
from core.settings import Settings, load
from ingest import wire_format
from ingest.wire_format import WireFormat
from sources.record import Record
from tests import worker_harness as h
from tests.builders import batches
from tests.builders.registry import Registry
from tests.worker_harness import Raw, Stage

AVRO, JSON, VERDICTS, PROTOBUF = 1, 7, 2**31, 9
PAYMENTS: Any = fastavro.parse_schema(edge_schemas.avro_schema("transaction"))
FEEDBACK: Any = fastavro.parse_schema(edge_schemas.avro_schema("feedback"))


def registry(**options: Any) -> Registry:
    """One that holds the published schemas."""
    made = Registry(**options)
    made.schemas = {
        AVRO: ("AVRO", edge_schemas.text("transaction", "avro")),
        VERDICTS: ("AVRO", edge_schemas.text("feedback", "avro")),
        JSON: ("JSON", edge_schemas.text("transaction")),
        PROTOBUF: ("PROTOBUF", 'syntax = "proto3";'),
    }
    return made


def framed(number: int, payload: bytes) -> bytes:
    return b"\x00" + number.to_bytes(4, "big") + payload


def avro(value: dict[str, Any], schema: Any = PAYMENTS, number: int = AVRO) -> bytes:
    packed = io.BytesIO()
    fastavro.schemaless_writer(packed, schema, value)
    return framed(number, packed.getvalue())


def as_avro(record: Record) -> Record:
    """The same message by the published schema."""
    value = msgspec.json.decode(record.value)
    if record.topic == "transactions":
        return record._replace(value=avro(value))
    one = [each for each in FEEDBACK if each["name"].endswith("FeedbackReceived")]
    packed = io.BytesIO()
    fastavro.schemaless_writer(packed, FEEDBACK, (one[0]["name"], value))
    return record._replace(value=framed(VERDICTS, packed.getvalue()))


def stage(broker: Broker, valkey: Valkey, directory: Path, **changes: Any) -> Stage:
    made = h.stage(broker.bootstrap, valkey.host, valkey.port, directory, **changes)
    made.create_topics()
    return made


def rejects(on: Stage) -> list[tuple[str, bytes | None]]:
    """(reason, value) of all."""
    with on.log() as log:
        found = [batches.contents(log, p)["rejects"] for p in range(on.settings.partitions)]
    decoded = [decode_reject(entry.payload) for entries in found for entry in entries]
    return sorted(((each.reason, each.value) for each in decoded), key=str)


def contents(on: Stage) -> list[Any]:
    """Payments and verdicts of each partition, with a default that JSON leaves out. Scores are not compared: another
    log has another key for its hashes.
    """
    return [
        (part.transactions, [(at, {"confidence": 1.0, **verdict}) for at, verdict in part.feedback])
        for part in h.log_of(on)
    ]


def test_avro_and_json_come_to_the_same_log(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> None:
    """Payments and verdicts by a registry's schemas are decided to the same bytes as their JSON, each schema is asked
    for once, and the replay asks nobody.
    """
    records = h.synthetic(600)
    plain = stage(broker, valkey_server, tmp_path)
    plain.produce(records)
    plain.drain()
    with registry() as found:
        on = stage(broker, valkey_server, tmp_path, schema_registry=found.url)
        on.produce([as_avro(record) if n % 3 else record for n, record in enumerate(records)])
        on.drain()
        asked = found.asked
    assert sorted(asked) == [AVRO, VERDICTS]
    assert contents(on) == contents(plain)
    assert h.assert_sound(on)


def test_a_registry_that_is_down_makes_a_partition_wait(
    broker: Broker, valkey_server: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is rejected or passed; what came before is decided, and the rest once the registry answers."""
    monkeypatch.setattr("ingest.parking.WAIT_FIRST_S", 0.2)
    monkeypatch.setattr("ingest.parking.WAIT_MAX_S", 0.2)
    records = [r for r in h.synthetic(200) if r.topic == "transactions"]
    with registry(status=503) as found:
        on = stage(broker, valkey_server, tmp_path, schema_registry=found.url, partitions=1)
        on.produce([*records[:50], *map(as_avro, records[50:150]), *records[150:]])
        with h.Threaded(on) as worker, on.log() as log:
            h.wait_for(
                lambda: h.total(on, log) == 50 and worker.worker._parking.parked, "what came before, then parking"
            )
            assert worker.worker._parking.parked[0].code == "schema_unavailable"
            found.status = 200
            h.wait_for_decisions(on, log, len(records), worker.check)
            h.wait_for(lambda: not worker.worker._parking.parked, "the resumption")
    assert rejects(on) == []
    h.assert_sound(on)
    h.assert_everything_once(on, records)


def test_what_no_schema_reads_is_rejected_with_its_head(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> None:
    """An ID that the registry does not have, bytes that are no such record, other types; JSON goes on beside them."""
    good = h.synthetic(3)[0]
    value = msgspec.json.decode(good.value)
    bad = {
        "unknown_schema": [framed(404, b"{}")],
        "not_by_schema": [framed(AVRO, b"\xff" * 9), avro(value) + b"x", b"\x00\x00", framed(PROTOBUF, b"x")],
        "not_json": [framed(JSON, b"{")],
        "negative_amount": [avro(value | {"amount": -1.0})],
    }
    with registry() as found:
        on = stage(broker, valkey_server, tmp_path, schema_registry=found.url)
        sent = [framed(JSON, good.value), *(each for values in bad.values() for each in values)]
        topic = on.settings.transactions_topic
        on.send(Raw(topic, good.key.encode(), each, good.timestamp) for each in sent)
        stats = on.drain()
    assert stats.transactions == 1
    reasons = [reason for reason, _ in rejects(on)]
    assert reasons == sorted(reason for reason, values in bad.items() for _ in values)
    kept = {content for reason, content in rejects(on) if reason in ("unknown_schema", "not_by_schema")}
    assert kept == {each[:5] for each in (*bad["unknown_schema"], *bad["not_by_schema"])}


def test_without_the_setting_a_frame_is_no_json(broker: Broker, valkey_server: Valkey, tmp_path: Path) -> None:
    """The registry is an option: nobody is asked, and the message is rejected as before."""
    on = stage(broker, valkey_server, tmp_path)
    good = h.synthetic(1)[0]
    on.send([Raw(on.settings.transactions_topic, good.key.encode(), framed(JSON, good.value), good.timestamp)])
    on.drain()
    assert [reason for reason, _ in rejects(on)] == ["not_json"]


def test_logical_types_and_nulls_become_what_the_edge_takes() -> None:
    """A schema of somebody else: times as timestamp-millis, amounts as decimals, fields that may be null."""
    schema: Any = {
        "type": "record",
        "name": "Payment",
        "fields": [
            {"name": "occurred_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
            {"name": "currency", "type": ["null", "string"], "default": None},
        ],
    }
    moment = datetime(2026, 9, 21, 12, 0, 0, 123_000, UTC)
    with Registry(schemas={5: ("AVRO", msgspec.json.encode(schema).decode())}) as found:
        wire = WireFormat(found.url, None)
        message = avro({"occurred_at": moment, "amount": Decimal("12.50"), "currency": None}, schema, 5)
        content, fault = wire.read(message)
    assert fault is None and content is not None
    assert msgspec.json.decode(content) == {"occurred_at": 1_789_992_000_123, "amount": 12.5}


def test_a_registry_is_asked_with_its_login_and_not_while_it_fails(tmp_path: Path) -> None:
    """A wrong password is not a reject; a right one is read from its file; one failure is enough for a second."""
    secret = tmp_path / "password"
    secret.write_text("sesame\n")
    secret.chmod(0o600)
    login = "Basic " + base64.b64encode(b"worker:sesame").decode()
    with registry(login=login) as found:
        settings = Settings(schema_registry=found.url, schema_registry_username="worker")
        refused = WireFormat.of(settings)
        assert refused is not None
        for _ in range(3):
            with pytest.raises(Unavailable, match="HTTP 401"):
                refused.read(framed(JSON, b"{}"))
        assert found.asked == [JSON]
        allowed = WireFormat.of(
            Settings(
                schema_registry=found.url,
                schema_registry_username="worker",
                schema_registry_password_file=str(secret),
            )
        )
        assert allowed is not None and allowed.read(framed(JSON, b"{}")) == (b"{}", None)


@pytest.mark.parametrize("text", ["not JSON", '{"type": "nonsense"}', '"string"', "[]"])
def test_a_schema_that_is_none_makes_rejects(text: str) -> None:
    """Whatever was registered: a reason, not a traceback."""
    with Registry(schemas={1: ("AVRO", text)}) as found:
        content, fault = WireFormat(found.url, None).read(framed(1, b"\x02a"))
    assert fault is not None and fault.reason == "not_by_schema" and content == framed(1, b"")


def test_a_schema_with_references_is_refused_by_name() -> None:
    """They would have to be fetched one by one."""
    with registry(references=[{"name": "x", "subject": "x", "version": 1}]) as found:
        _, fault = WireFormat(found.url, None).read(framed(AVRO, b""))
    assert fault is not None and "refers to others" in str(fault)


def test_an_answer_that_is_no_registrys_is_not_a_verdict_on_the_message() -> None:
    """A proxy's page with status 200, say."""
    with Registry() as found:
        found._answer = lambda path, login: (200, "<html>")  # type: ignore[method-assign]
        with pytest.raises(Unavailable, match="not a schema registry's"):
            WireFormat(found.url, None).read(framed(1, b""))


def test_a_page_that_is_not_there_is_not_a_schema_that_is_not_there() -> None:
    """A wrong path in the setting must not reject every payment."""
    with registry(status=404) as found, pytest.raises(Unavailable, match="HTTP 404"):
        WireFormat(found.url, None).read(framed(AVRO, b""))


def test_the_settings_are_checked() -> None:
    """A URL without a scheme, a password in it, and settings without effect are told at the start."""
    for wrong in ("registry:8081", "https://", "ftp://registry"):
        with pytest.raises(BadInput, match="must be http"):
            load({"SENTINEL_SCHEMA_REGISTRY": wrong})
    with pytest.raises(BadInput, match="must not hold a password") as told:
        load({"SENTINEL_SCHEMA_REGISTRY": "http://me:secret@registry:8081"})
    assert "secret" not in str(told.value)
    with pytest.raises(BadInput, match="only together with schema_registry_password_file"):
        load({"SENTINEL_SCHEMA_REGISTRY": "https://registry", "SENTINEL_SCHEMA_REGISTRY_USERNAME": "me"})
    with pytest.raises(BadInput, match="no effect without schema_registry"):
        load({"SENTINEL_SCHEMA_REGISTRY_CA_FILE": "ca.pem"})


def test_a_schema_that_is_not_there_yet_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is registered late is found; in between, its ID costs no second question."""
    with registry() as found:
        text = found.schemas.pop(JSON)
        wire = WireFormat(found.url, None)
        for _ in range(3):
            _, fault = wire.read(framed(JSON, b"{}"))
            assert fault is not None and fault.reason == "unknown_schema"
        assert found.asked == [JSON]
        found.schemas[JSON] = text
        monkeypatch.setattr(wire_format, "AGAIN_S", 0.0)
        assert wire.read(framed(JSON, b"{}")) == (b"{}", None)


def test_an_answer_in_drops_or_without_end_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker waits for a whole answer for some seconds, and takes a megabyte at most."""
    monkeypatch.setattr(wire_format, "ANSWER_S", 0.5)
    monkeypatch.setattr(wire_format, "AGAIN_S", 0.0)
    with registry(drop_s=0.2) as found:
        wire = WireFormat(found.url, None)
        began = time.monotonic()
        with pytest.raises(Unavailable, match="too slow"):
            wire.read(framed(JSON, b"{}"))
        with pytest.raises(Unavailable, match="an earlier answer is not complete"):
            wire.read(framed(JSON, b"{}"))
        assert time.monotonic() - began < 10
    with registry() as found:
        found.schemas[JSON] = ("JSON", "x" * (2 << 20))
        _, fault = WireFormat(found.url, None).read(framed(JSON, b"{}"))
    assert fault is not None and fault.reason == "not_by_schema" and "larger than" in str(fault)


def test_a_message_in_a_frame_that_is_too_large_is_kept_as_five_bytes() -> None:
    """Like any that is not read: nobody can look into it."""
    with registry() as found:
        content, fault = WireFormat(found.url, None).read(framed(AVRO, b"4" * 70_000))
    assert content == framed(AVRO, b"") and fault is not None and fault.reason == "too_large"


def test_a_registry_that_refuses_one_schema_gives_the_others() -> None:
    """Rights may differ by schema; and whoever asked in vain does not ask again at once."""
    with registry() as found:
        wire = WireFormat(found.url, None)
        found.status = 403
        for _ in range(2):
            with pytest.raises(Unavailable, match="HTTP 403"):
                wire.read(framed(AVRO, b""))
        found.status = 200
        assert wire.read(framed(JSON, b"{}")) == (b"{}", None)
        assert found.asked == [AVRO, JSON]


def test_a_flood_of_unknown_schemas_takes_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the messages wait, and the worker goes on with other partitions."""
    monkeypatch.setattr(wire_format, "ASKED_S", 0.3)
    with registry() as found:
        wire = WireFormat(found.url, None)
        with pytest.raises(Unavailable, match="too many schemas"):
            for number in range(1000, 6000):
                assert wire.read(framed(number, b""))[1] is not None
        assert 1 <= len(found.asked) < 5000


def test_later_payments_wait_for_a_verdict_that_can_not_be_read_yet(
    broker: Broker, valkey_server: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order in which both topics are merged is the same as if the registry had answered at once."""
    monkeypatch.setattr("ingest.parking.WAIT_FIRST_S", 0.2)
    monkeypatch.setattr("ingest.parking.WAIT_MAX_S", 0.2)
    monkeypatch.setattr(wire_format, "AGAIN_S", 0.1)
    records = h.synthetic(300)
    plain = stage(broker, valkey_server, tmp_path, partitions=1)
    plain.produce(records)
    plain.drain()
    verdicts = [n for n, record in enumerate(records) if record.topic != "transactions"]
    assert len(verdicts) > 1 and verdicts[0] < len(records) - 50
    with registry(status=503) as found:
        on = stage(broker, valkey_server, tmp_path, schema_registry=found.url, partitions=1)
        on.produce([as_avro(record) if n == verdicts[0] else record for n, record in enumerate(records)])
        with h.Threaded(on) as worker, on.log() as log:
            h.wait_for(lambda: worker.worker._parking.parked, "parking")
            assert h.total(on, log) <= verdicts[0]
            found.status = 200
            h.wait_for_decisions(on, log, len(records) - len(verdicts), worker.check)
            h.wait_for(lambda: h.total(on, log, "feedback") == len(verdicts), "the verdicts")
    assert contents(on) == contents(plain)
    h.assert_sound(on)
