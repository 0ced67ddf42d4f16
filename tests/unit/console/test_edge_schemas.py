"""The published schemas say what the edge accepts, and describe what is sent."""

from __future__ import annotations

import copy
import io
from typing import Any, get_args

import fastavro
import jsonschema_rs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console import edge_schemas
from core.codec import encode
from core.errors import BadInput
from core.events import AccountEvent, AlertRaised, Position, Transaction
from core.validation import TIME_MAX_MS, TIME_MIN_MS, decode_feedback, decode_transaction
from ingest.publisher import DeadLetterHeaders, DecisionMessage
from responders.messages import message
from responders.outbox import Item
from tests.builders.command_line import run_command
from tests.builders.events import transaction

VALIDATORS = {name: jsonschema_rs.validator_for(edge_schemas.json_schema(name)) for name in edge_schemas.names("json")}
AVRO: dict[str, Any] = {
    name: fastavro.parse_schema(edge_schemas.avro_schema(name)) for name in edge_schemas.names("avro")
}
IDS = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=128)
TEXTS = st.text(st.characters(categories=("L", "N", "P", "S")), max_size=128)
TIMES = st.integers(TIME_MIN_MS, TIME_MAX_MS - 1)
AMOUNTS = st.floats(0, 1e12)
OURS = edge_schemas.WORKERS_OWN
PAYMENTS = st.fixed_dictionaries(
    {"transaction_id": IDS, "account_id": IDS, "amount": AMOUNTS, "occurred_at": TIMES},
    optional={
        **dict.fromkeys([f for f in Transaction.__struct_fields__[4:12]], TEXTS),
        "attributes": st.dictionaries(st.text(max_size=20), AMOUNTS | st.text(max_size=20), max_size=4),
    },
)


def _value(name: str, kind: Any) -> st.SearchStrategy[Any]:
    """Values that the edge accepts in a field of feedback."""
    choices = get_args(kind)
    if name == "occurred_at":
        return TIMES
    if name == "transaction_occurred_at":
        return st.just(0) | TIMES
    if name == "confidence":
        return st.floats(0, 1)
    if name == "amount":
        return AMOUNTS
    if choices and all(isinstance(each, str) for each in choices):
        return st.sampled_from(choices)
    if name == "severity":
        return st.sampled_from(["low", "medium", "high", "critical", None])
    if name == "mentions":
        return st.lists(IDS, max_size=3)
    return {str: IDS, int: st.integers(0, 2**53), bool: st.booleans()}[kind]


def _events(kind: type[msgspec.Struct]) -> st.SearchStrategy[dict[str, Any]]:
    fields = [f for f in msgspec.structs.fields(kind) if f.name not in OURS]
    values = {f.name: _value(f.name, f.type) for f in fields}
    required = {"type": st.just(kind.__struct_config__.tag)} | {f.name: values[f.name] for f in fields if f.required}
    return st.fixed_dictionaries(required, optional={f.name: values[f.name] for f in fields if not f.required})


FEEDBACK = st.one_of([_events(kind) for kind in AccountEvent.__args__])
WRONG = st.sampled_from(
    [
        *(
            None,
            True,
            "",
            "fraud",
            "x" * 129,
            "x" * 2_001,
            -1,
            -0.5,
            0.5,
            1e13 + 0.5,
            2**63,
            TIME_MIN_MS - 1,
            TIME_MAX_MS,
        ),
        *([], [1], ["x" * 129], ["x"] * 33, {}, {"a": None}, {"a": [1]}, {str(n): 1 for n in range(513)}),
    ]
)


def accepts(name: str, value: Any) -> bool:
    """Whether the edge takes the message, with its account as key."""
    content = msgspec.json.encode(value)
    account = value.get("account_id", "")
    key = account.encode() if isinstance(account, str) else b""
    decode: Any = decode_transaction if name == "transaction" else decode_feedback
    try:
        decode(content, key)
    except BadInput:
        return False
    return True


@pytest.mark.parametrize("name", ["transaction", "feedback"])
@settings(deadline=None)
@given(data=st.data())
def test_what_the_edge_accepts_is_valid(name: str, data: st.DataObject) -> None:
    """Any valid message is valid by its schema and accepted by the edge."""
    value = data.draw(PAYMENTS if name == "transaction" else FEEDBACK)
    assert VALIDATORS[name].is_valid(value), list(VALIDATORS[name].iter_errors(value))[:1]
    assert accepts(name, value)


@pytest.mark.parametrize("name", ["transaction", "feedback"])
@settings(deadline=None)
@given(data=st.data())
def test_schema_and_edge_agree_about_wrong_messages(name: str, data: st.DataObject) -> None:
    """A field with a wrong value, too many or missing: both refuse it, or both take it."""
    value = copy.deepcopy(data.draw(PAYMENTS if name == "transaction" else FEEDBACK))
    field = data.draw(
        st.sampled_from([*value, "unknown", "rate", "received_at", "recorded_at", "subject", "amount", "note"])
    )
    if data.draw(st.booleans()):
        value.pop(field, None)
    else:
        value[field] = data.draw(WRONG)
    assert VALIDATORS[name].is_valid(value) == accepts(name, value), value


def test_both_refuse_what_the_agreement_is_about() -> None:
    """Each limit is in the schema: one value at it, and one beyond."""
    good = {"transaction_id": "t", "account_id": "a", "amount": 1.0, "occurred_at": TIME_MIN_MS}
    changes: list[tuple[dict[str, Any], bool]] = [
        ({}, True),
        ({"transaction_id": "x" * 128}, True),
        ({"transaction_id": "x" * 129}, False),
        ({"transaction_id": ""}, False),
        ({"amount": 1e12}, True),
        ({"amount": 1.1e12}, False),
        ({"amount": -0.01}, False),
        ({"occurred_at": TIME_MIN_MS - 1}, False),
        ({"occurred_at": TIME_MAX_MS}, False),
        ({"attributes": {str(n): n for n in range(512)}}, True),
        ({"attributes": {str(n): n for n in range(513)}}, False),
        ({"rate": 1.5}, False),
        ({"more": 1}, False),
    ]
    for change, is_good in changes:
        value = good | change
        assert (VALIDATORS["transaction"].is_valid(value), accepts("transaction", value)) == (is_good, is_good), change


@pytest.mark.parametrize("name", ["transaction", "feedback"])
@settings(deadline=None)
@given(data=st.data())
def test_a_message_goes_through_avro_and_comes_back(name: str, data: st.DataObject) -> None:
    """Written and read by the Avro schema, it is the same event."""
    value = data.draw(PAYMENTS if name == "transaction" else FEEDBACK)
    kind: Any = Transaction if name == "transaction" else AccountEvent
    event = msgspec.json.decode(msgspec.json.encode(value), type=kind)
    schema = AVRO[name]
    if name == "feedback":
        schema = next(each for each in schema if each["name"].endswith(f".{type(event).__name__}"))
    packed = io.BytesIO()
    fastavro.schemaless_writer(packed, schema, value)
    packed.seek(0)
    read = fastavro.schemaless_reader(packed, schema)
    assert msgspec.convert(read, kind) == event


def test_sent_messages_are_valid() -> None:
    """A decision, a dead letter's headers and a webhook's body, as the code makes them."""
    decision = DecisionMessage(3, "1-7", "t", "a", "decline", None, 0.9, ("BLOCKED",), "m", None)
    assert VALIDATORS["decision"].is_valid(msgspec.json.decode(msgspec.json.encode(decision)))
    packed = io.BytesIO()
    fastavro.schemaless_writer(packed, AVRO["decision"], msgspec.to_builtins(decision))
    headers = msgspec.to_builtins(DeadLetterHeaders("not_json", "", "transactions", "3", "1-7"))
    assert VALIDATORS["dead-letter"].is_valid(headers)
    paid = msgspec.to_builtins(transaction(attributes={"a": 1.0})) | {"rate": 1.5}
    alert = AlertRaised(
        alert_id="03:1-7", timestamp=1, account_id="a", fraud_score=0.9, decision="decline", severity="high",
        reason_codes=("BLOCKED",), values={"amount": 1.0, "mean_7d": None}, recommended_actions=("notify_customer",),
        transaction=paid,
    )  # fmt: skip
    item = Item(3, Position(1, 7), "notify_customer", "a", "high", 1)
    body = msgspec.json.decode(message("l" * 32, item, alert, 1).body)
    assert VALIDATORS["webhook"].is_valid(body), list(VALIDATORS["webhook"].iter_errors(body))
    assert "attributes" not in body["data"]["transaction"]
    for name, value in (("decision", {}), ("dead-letter", {}), ("webhook", {"type": "x"})):
        assert not VALIDATORS[name].is_valid(value)


def test_every_schema_is_one_and_names_itself() -> None:
    """Valid by its own dialect's rules, with an ID of its own; nothing but the standard's words."""
    found = [edge_schemas.json_schema(name) for name in edge_schemas.names("json")]
    assert all(jsonschema_rs.meta.is_valid(schema) for schema in found)
    assert len({schema["$id"] for schema in found}) == len(found) == 5
    assert "discriminator" not in msgspec.json.encode(found).decode()


def test_the_command_prints_a_schema_and_says_which_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`sentinel schema`, with a name and with a wrong one."""
    assert "feedback" in run_command(monkeypatch, capsys, "schema").out
    printed = run_command(monkeypatch, capsys, "schema", "transaction", "--avro").out
    assert msgspec.json.decode(printed) == edge_schemas.avro_schema("transaction")
    wrong = run_command(monkeypatch, capsys, "schema", "webhook", "--avro")
    assert wrong.code != 0 and "there is no schema 'webhook'" in wrong.err


def test_an_event_is_as_its_schema_says() -> None:
    """The encoder leaves out defaults; what it writes is valid."""
    assert VALIDATORS["transaction"].is_valid(msgspec.json.decode(encode(transaction())))
