"""The strict edge: every bad message has its stable reason code; any bytes give an event or a reason, never an
exception (I9).
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import feedback_signing, validation
from core.codec import decode_account_event, decode_transaction, encode, encode_transactions
from core.context import Context
from core.errors import BadInput
from core.events import FeedbackReceived, Transaction
from core.features.state import AccountState
from core.identity import FIXED
from core.receipt import AHEAD_MS, BEHIND_MS
from core.validation import REASONS, VALUE_BYTES_MAX
from tests.builders.decisions import context, decide_in
from tests.builders.events import T0, fuzz

DAY = 86_400_000
REQUIRED = {"transaction_id": "t", "account_id": "a", "amount": 1.5, "occurred_at": T0}
FEEDBACK = {
    "type": "feedback.v1",
    "account_id": "a",
    "transaction_id": "t",
    "occurred_at": T0,
    "source": "analyst",
    "verdict": "fraud",
}


def raw(base: dict[str, Any], **text: str) -> bytes:
    """The JSON of `base` with fields replaced by literal JSON text ("" leaves the field out)."""
    fields = {name: json.dumps(value) for name, value in base.items()} | text
    return ("{" + ",".join(f'"{name}":{value}' for name, value in fields.items() if value) + "}").encode()


def reason_of(value: bytes | None, key: bytes | None = b"a", received_at: int = T0, feedback: bool = False) -> str:
    """The reason code, or "" if the message is accepted."""
    try:
        (validation.decode_feedback if feedback else validation.decode_transaction)(value, key, received_at)
    except BadInput as error:
        assert "\n" not in str(error)
        return error.reason
    return ""


GOOD = raw(REQUIRED)
BAD_DOCUMENTS: list[tuple[str, bytes | None, str]] = [
    ("a tombstone", None, "tombstone"),
    ("nothing", b"", "not_json"),
    ("words", b"hello", "not_json"),
    ("a cut document", GOOD[:-1], "not_json"),
    ("two documents", GOOD + GOOD, "not_json"),
    ("a byte order mark", b"\xef\xbb\xbf" + GOOD, "not_json"),
    ("a raw control character", GOOD.replace(b'"t"', b'"t\x01"'), "not_json"),
    ("UTF-16", GOOD.decode().encode("utf-16"), "not_utf8"),
    ("a stray byte", GOOD.replace(b'"t"', b'"\xff"'), "not_utf8"),
    ("an overlong encoding", GOOD.replace(b'"t"', b'"\xc0\xaf"'), "not_utf8"),
    ("a UTF-8 surrogate", GOOD.replace(b'"t"', b'"\xed\xa0\x80"'), "not_utf8"),
    ("a lone surrogate", GOOD.replace(b'"t"', b'"\\ud800"'), "not_json"),
    ("ten megabytes", GOOD + b" " * 10_000_000, "too_large"),
    ("one byte too many", GOOD + b" " * (VALUE_BYTES_MAX + 1 - len(GOOD)), "too_large"),
    ("null", b"null", "wrong_type"),
    ("an array", b"[]", "wrong_type"),
    ("a deep array", b"[" * 60_000, "wrong_type"),
]

BAD_FIELDS: list[tuple[dict[str, str], str]] = [
    *(({name: ""}, "missing_field") for name in REQUIRED),
    *(({name: "null"}, "wrong_type") for name in REQUIRED),
    ({"amount": '"1"'}, "wrong_type"),
    ({"amount": "true"}, "wrong_type"),
    ({"amount": "NaN"}, "not_json"),
    ({"amount": "Infinity"}, "not_json"),
    ({"amount": "-Infinity"}, "not_json"),
    ({"amount": "1e400"}, "not_finite"),
    ({"amount": "1" + "0" * 400}, "not_finite"),
    ({"amount": "-0.01"}, "negative_amount"),
    ({"amount": "1000000000001"}, "absurd_amount"),
    ({"amount": "1" + "0" * 30}, "absurd_amount"),
    ({"occurred_at": "1.5e12"}, "wrong_type"),
    ({"occurred_at": '"2018-04-01"'}, "wrong_type"),
    ({"occurred_at": "0"}, "absurd_time"),
    ({"occurred_at": "-1"}, "absurd_time"),
    ({"occurred_at": str(T0 // 1000)}, "absurd_time"),
    ({"occurred_at": str(T0 * 1000)}, "absurd_time"),
    ({"occurred_at": "1" + "0" * 30}, "absurd_time"),
    ({"occurred_at": "1" + "0" * 5000}, "wrong_type"),
    ({"occurred_at": str(T0 + AHEAD_MS + 1)}, "future_time"),
    ({"occurred_at": str(T0 - BEHIND_MS - 1)}, "past_time"),
    ({"color": '"red"'}, "unknown_field"),
    ({"missing required field": "1"}, "unknown_field"),
    ({"type": '"transaction.v1"'}, "unknown_field"),
    ({"recorded_at": "1"}, "unknown_field"),
    ({"rate": "2.0"}, "unknown_field"),
    ({"received_at": "1"}, "unknown_field"),
    ({"deep": "[" * 30_000 + "]" * 30_000}, "unknown_field"),
    ({"transaction_id": '""'}, "empty_id"),
    ({"account_id": '""'}, "empty_id"),
    ({"transaction_id": '"t\\u0000"'}, "bad_id"),
    ({"merchant_id": '"m\\u001fx"'}, "bad_id"),
    ({"merchant_id": '"m\\nx"'}, "bad_id"),
    ({"device_id": '"\\u200b"'}, "bad_id"),
    ({"merchant_id": json.dumps("m" * 129)}, "bad_id"),
    ({"attributes": "[]"}, "wrong_type"),
    ({"attributes": '{"a":null}'}, "wrong_type"),
    ({"attributes": '{"a":{"b":1}}'}, "wrong_type"),
    ({"attributes": '{"a":1e400}'}, "not_finite"),
    ({"attributes": json.dumps({str(i): i for i in range(513)})}, "too_many_attributes"),
]


@pytest.mark.parametrize(("value", "reason"), [pytest.param(v, r, id=name) for name, v, r in BAD_DOCUMENTS])
@pytest.mark.parametrize("feedback", [False, True])
def test_bad_documents(value: bytes | None, reason: str, feedback: bool) -> None:
    """What is no JSON object at all gets the same reason on both topics."""
    if feedback and value is not None:
        value = value.replace(GOOD, raw(FEEDBACK))
    assert reason_of(value, feedback=feedback) == reason


@pytest.mark.parametrize(("fields", "reason"), BAD_FIELDS)
def test_bad_transactions(fields: dict[str, str], reason: str) -> None:
    """Every bad field of a transaction gets its reason."""
    assert reason_of(raw(REQUIRED, **fields)) == reason


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"amount": "0"},
        {"amount": "-0.0"},
        {"amount": "1e12"},
        {"amount": "5e-324"},
        {"amount": "1e-400"},
        {"merchant_id": json.dumps("m" * 128)},
        {"merchant_id": '"Café Ünïcödé 東京 😀"'},
        {"occurred_at": str(T0 + AHEAD_MS)},
        {"occurred_at": str(T0 - BEHIND_MS)},
        {"attributes": '{"a":1,"b":"x","c":-1.5,"":"\\u0000\\u001f\\n"}'},
        {"attributes": json.dumps({str(i): i for i in range(512)})},
    ],
)
def test_good_transactions(fields: dict[str, str]) -> None:
    """Edges that are allowed are accepted."""
    assert reason_of(raw(REQUIRED, **fields)) == ""


TWICE = {
    "at the top": GOOD[:-1] + b',"amount":7}',
    "with equal values": GOOD[:-1] + b',"amount":1.5}',
    "escaped": GOOD[:-1] + b',"amo\\u0075nt":7}',
    "escaped first": b'{"amo\\u0075nt":7,' + GOOD[1:],
    "attributes": GOOD[:-1] + b',"attributes":{},"attributes":{}}',
    "in attributes": GOOD[:-1] + b',"attributes":{"a":1,"b":2,"a":1}}',
    "in attributes, escaped": GOOD[:-1] + b',"attributes":{"\\u00e9":1,"\xc3\xa9":1}}',
    "empty in attributes": GOOD[:-1] + b',"attributes":{"":1,"b":2,"":1}}',
    "after attributes": GOOD[:-1] + b',"attributes":{"a":1},"amount":7}',
}


@pytest.mark.parametrize("name", TWICE)
def test_a_key_that_stands_twice_is_rejected(name: str) -> None:
    """Whichever value a parser takes: at the top, in attributes, with escapes; on both topics."""
    assert reason_of(TWICE[name]) == "duplicate_key"
    if b"attributes" not in TWICE[name]:
        assert (
            reason_of(TWICE[name].replace(GOOD[1:-1], raw(FEEDBACK, amount="3")[1:-1]), feedback=True)
            == "duplicate_key"
        )


@pytest.mark.parametrize(
    "fields",
    [
        {"attributes": '{"amount":1,"account_id":"b","a\\"b":2}'},
        {"attributes": json.dumps({f"v{i}": i for i in range(500)})},
        {"merchant_id": '"amount\\":1,\\"amount"'},
        {"attributes": '{"a":"{\\"a\\":1,\\"a\\":2}"}'},
    ],
)
def test_the_same_key_in_two_objects_is_no_duplicate(fields: dict[str, str]) -> None:
    """Keys are compared within their object, and text in values is no key."""
    assert reason_of(raw(REQUIRED, **fields)) == ""


def test_a_negative_zero_is_zero() -> None:
    """An amount of -0.0 is logged and decided as 0."""
    t = validation.decode_transaction(raw(REQUIRED, amount="-0.0"), b"a", T0)
    assert str(t.amount) == "0.0"


@pytest.mark.parametrize("name", ["Shop\u00a066", "東京\u3000店", "می\u200cخواهم", "a\u2009b", "👩\u200d🚀", "Žižkov"])
@pytest.mark.parametrize("field", ["merchant_id", "account_id", "device_id"])
def test_names_of_every_script_are_accepted(name: str, field: str) -> None:
    """Spaces of every kind and joiners belong to names."""
    assert reason_of(raw(REQUIRED | {field: name}), None if field != "account_id" else name.encode()) in (
        "",
        "empty_key",
    )


@pytest.mark.parametrize(
    "bad", ["\x00", "\x1b", "\x7f", "\x9b", "\u00ad", "\u200b", "\u202e", "\u2066", "\u2028", "\ufeff"]
)
@pytest.mark.parametrize("field", ["transaction_id", "merchant_id", "ip", "currency"])
def test_characters_that_nobody_sees_are_rejected(bad: str, field: str) -> None:
    """Controls, marks of direction, invisible characters: the message names the field and the place."""
    with pytest.raises(BadInput, match=rf"^{field} holds .* U\+{ord(bad):04X} at place 2$") as refused:
        validation.decode_transaction(raw(REQUIRED | {field: f"a{bad}b"}), b"a", T0)
    assert refused.value.reason == "bad_id"


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (None, "empty_key"),
        (b"", "empty_key"),
        (b"b", "key_mismatch"),
        (b"a ", "key_mismatch"),
        (b"\xff", "key_mismatch"),
        (b"a", ""),
    ],
)
@pytest.mark.parametrize("feedback", [False, True])
def test_keys(key: bytes | None, reason: str, feedback: bool) -> None:
    """The key must be the account's id, on both topics."""
    assert reason_of(raw(FEEDBACK) if feedback else GOOD, key, feedback=feedback) == reason


def test_without_a_receive_time_only_the_absolute_bounds_hold() -> None:
    """Whoever decodes a message without saying when it was received asks only whether it is well-formed."""
    assert reason_of(raw(REQUIRED, occurred_at=str(T0 * 2)), received_at=0) == ""


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, ""),
        ({"type": ""}, "unknown_event"),
        ({"type": "5"}, "unknown_event"),
        ({"type": "null"}, "unknown_event"),
        ({"type": '"transaction.v1"'}, "unknown_event"),
        ({"type": '"thresholds_changed.v1"'}, "unknown_event"),
        ({"type": '"account_blocked.v1"'}, "missing_field"),
        ({"x": "1"}, "unknown_field"),
        ({"x": "[" * 30_000 + "]" * 30_000}, "too_deep"),
        ({"recorded_at": "1"}, "unknown_field"),
        ({"rate": "2.0"}, "unknown_field"),
        ({"verdict": '"maybe"'}, "wrong_type"),
        ({"source": '"rumour"'}, "wrong_type"),
        ({"confidence": "1.01"}, "bad_confidence"),
        ({"confidence": "-0.1"}, "bad_confidence"),
        ({"amount": "-1"}, "negative_amount"),
        ({"amount": "1e13"}, "absurd_amount"),
        ({"amount": "1e400"}, "not_finite"),
        ({"occurred_at": "1"}, "absurd_time"),
        ({"occurred_at": str(T0 + AHEAD_MS)}, ""),
        ({"occurred_at": str(T0 + AHEAD_MS + 1)}, "future_time"),
        ({"occurred_at": "946684800000"}, ""),
        ({"transaction_occurred_at": str(T0 + AHEAD_MS + 1)}, "future_time"),
        ({"transaction_occurred_at": "946684800000"}, ""),
        ({"transaction_occurred_at": "-5"}, "absurd_time"),
        ({"transaction_occurred_at": "1" + "0" * 30}, "absurd_time"),
        ({"transaction_occurred_at": "0"}, ""),
        ({"account_id": '""'}, "empty_id"),
        ({"transaction_id": '""'}, "empty_id"),
        ({"merchant_id": '"a\\u0000"'}, "bad_id"),
    ],
)
def test_feedback(fields: dict[str, str], reason: str) -> None:
    """Every bad field of a verdict gets its reason."""
    assert reason_of(raw(FEEDBACK, **fields), feedback=True) == reason


def test_fields_of_another_event_are_unknown() -> None:
    """A field that only another feedback event has is refused."""
    block = {"type": "account_blocked.v1", "account_id": "a", "occurred_at": T0, "actor": "ann"}
    assert reason_of(raw(block), feedback=True) == ""
    assert reason_of(raw(block, verdict='"fraud"'), feedback=True) == "unknown_field"


def test_every_reason_of_the_tables_is_documented() -> None:
    """The codes that these tests see cover REASONS but for those of partition, pipeline and roster."""
    seen = (
        {r for _, _, r in BAD_DOCUMENTS}
        | {r for _, r in BAD_FIELDS}
        | {"empty_key", "key_mismatch", "bad_confidence", "unknown_event", "too_deep", "duplicate_key"}
    )
    assert seen == set(REASONS) - feedback_signing.REASONS.keys() - {
        "wrong_partition",
        "unknown_schema",
        "not_by_schema",
        "duplicate_transaction",
        "outside_history",
        "card_number",
    }


# --- fuzz ----------------------------------------------------------------------------------------------------------

UNDER: Context = context()
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.integers(T0 - DAY, T0 + DAY),
    st.sampled_from(["fraud", "legitimate", "analyst", "chargeback", "a", 1e12, -0.0, "DE", "pos"]),
)
_values = st.one_of(
    _scalars, st.lists(_scalars, max_size=3), st.dictionaries(st.text(max_size=5), _scalars, max_size=4)
)
_tags = st.sampled_from([tag for kind in validation.FEEDBACK_FIELDS if (tag := kind.__struct_config__.tag)] + ["x"])
_names = st.sampled_from(
    sorted({*Transaction.__struct_fields__, *FeedbackReceived.__struct_fields__, "case_id", "note", "type", "actor"})
)
_bytes = st.one_of(
    st.binary(max_size=60),
    st.dictionaries(_names, _values).map(lambda d: json.dumps(d).encode()),
    st.dictionaries(_names, _values, max_size=3).map(lambda d: json.dumps(REQUIRED | d).encode()),
    st.tuples(_tags, st.dictionaries(_names, _values, max_size=3)).map(
        lambda p: json.dumps(
            FEEDBACK | {"type": p[0], "actor": "x", "case_id": "c", "action": "a", "causation_id": "c"} | p[1]
        ).encode()
    ),
    st.tuples(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=2)).map(
        lambda p: GOOD[: p[0]] + p[1] + GOOD[p[0] + 1 :]
    ),
)


def test_a_field_name_never_breaks_a_line() -> None:
    """A control character in an unknown field's name is shown as its escape: a reason is one line of plain text."""
    for escape in ("\\n", "\\u001b", "\\u2028"):
        with pytest.raises(BadInput) as refused:
            validation.decode_transaction(GOOD[:-1] + f',"a{escape}b":1}}'.encode(), b"a", T0)
        assert refused.value.reason == "unknown_field" and str(refused.value).isprintable()


@fuzz(max_examples=600)
@given(_bytes, st.sampled_from([b"a", b"", None]) | st.binary(max_size=3), st.sampled_from([0, T0]))
def test_any_bytes_give_an_event_or_a_reason(value: bytes, key: bytes | None, timestamp: int) -> None:
    """Whatever comes on either topic is refused with a documented reason, or can be logged, read back and decided."""
    for feedback in (False, True):
        assert reason_of(value, key, timestamp, feedback) in {"", *REASONS}


_text = st.text(max_size=12)
_good = st.builds(
    lambda **fields: {**REQUIRED, **fields},
    amount=st.floats(0, 1e12),
    occurred_at=st.integers(validation.TIME_MIN_MS, validation.TIME_MAX_MS - 1),
    account_id=st.text(min_size=1, max_size=8),
    merchant_id=_text,
    merchant_category=_text,
    country=_text | st.just("DE"),
    channel=_text | st.just("pos"),
    device_id=_text,
    ip=_text,
    card_id=_text,
    currency=_text,
    attributes=st.dictionaries(
        st.text(max_size=4), st.floats(allow_nan=False, allow_infinity=False) | _text, max_size=3
    ),
)


@fuzz(max_examples=150)
@given(st.lists(_good, min_size=1, max_size=8))
def test_any_accepted_transaction_can_be_logged_and_decided(documents: list[dict[str, Any]]) -> None:
    """Accepted transactions of any text, amount and time go through encode, log, decode and the pipeline."""
    accepted = []
    for number, document in enumerate(documents):
        value = json.dumps(document | {"transaction_id": f"t{number}"}, ensure_ascii=number % 2 == 0).encode(
            "utf-8", "surrogatepass"
        )
        key = document["account_id"].encode("utf-8", "surrogatepass")
        try:
            accepted.append(validation.decode_transaction(value, key, 0))
        except BadInput as error:
            assert error.reason in REASONS
    for t in accepted:
        assert (
            msgspec.structs.asdict(t).items()
            <= msgspec.structs.asdict(decode_transaction(encode_transactions([t], 5)[0])).items()
        )
    results, state = decide_in(accepted, [], UNDER)
    assert len(results[0].scores) == len(accepted)
    assert AccountState.from_bytes(state.to_bytes(), FIXED).digest() == state.digest()


@fuzz(max_examples=300)
@given(_tags, st.dictionaries(_names, _scalars, max_size=3))
def test_any_accepted_feedback_can_be_logged_and_applied(tag: str, extra: dict[str, Any]) -> None:
    """Accepted feedback goes through encode, log, decode and the pipeline."""
    document = (
        FEEDBACK | {"type": tag, "actor": "x", "case_id": "c", "action": "a", "causation_id": "c", "error": "e"} | extra
    )
    names = next(
        (fields for kind, fields in validation.FEEDBACK_FIELDS.items() if kind.__struct_config__.tag == tag), set()
    )  # type: ignore[attr-defined]
    value = json.dumps({k: v for k, v in document.items() if k in names and (k != "recorded_at")}).encode()
    try:
        event = validation.decode_feedback(value, str(document["account_id"]).encode("utf-8", "surrogatepass"), 0)
    except BadInput as error:
        assert error.reason in REASONS
        return
    assert decode_account_event(encode(event)) == event
    decide_in([event, validation.decode_transaction(GOOD, b"a", 0)], [], UNDER)
