"""The strict edge: the bytes of a Kafka message → an event, or a `BadInput` with a stable reason code (I9). Pure.

Reason codes are part of the public interface (docs/bad-input.md): they are counted, stored and searched for; a code
never changes its meaning. Cost: 0.8 µs per transaction.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Mapping
from typing import NoReturn

import msgspec
from msgspec.structs import replace

from core import feedback_signing
from core.duplicate_keys import duplicate_key, scan
from core.errors import UNDECODABLE, BadInput
from core.events import AccountEvent, FeedbackReceived, Transaction
from core.nesting import is_too_deep
from core.receipt import AHEAD_MS, BEHIND_MS, History, check_history, check_live, check_not_ahead
from core.text import visible
from core.times import DAY_MS, MINUTE_MS

VALUE_BYTES_MAX = 64 * 1024
ID_CHARACTERS_MAX = 128
TEXT_CHARACTERS_MAX = {"note": 2_000, "error": 500, "reason": 500}
"""How long a text for people may be in an event that is no verdict."""
NAMES_MAX = 32
"""How many names a list in such an event may have."""
_NO_TEXT: Mapping[str, int] = {}
ATTRIBUTES_MAX = 512
AMOUNT_MAX = 1e12
TIME_MIN_MS = 946_684_800_000  # 2000-01-01
TIME_MAX_MS = 4_102_444_800_000  # 2100-01-01

REASONS: dict[str, str] = {
    "tombstone": "the message has no value",
    "too_large": f"the value is larger than {VALUE_BYTES_MAX} bytes",
    "not_utf8": "the value is not UTF-8",
    "not_json": "the value is not one JSON document",
    "unknown_schema": "the schema registry has no schema of the ID that the message names",
    "not_by_schema": "the message can't be read by the schema that it names",
    "too_deep": "the JSON is nested too deeply",
    "duplicate_key": "an object names a key twice",
    "wrong_type": "a field has the wrong type, or the value is not an object",
    "missing_field": "a required field is missing",
    "unknown_field": "a field is not part of the schema",
    "unknown_event": "the `type` tag is missing or not a feedback event",
    "empty_id": "an identifier that must be there is empty",
    "bad_id": f"an identifier holds control or invisible characters, or is longer than {ID_CHARACTERS_MAX}",
    "not_finite": "a number is NaN, infinite or too large for a double",
    "negative_amount": "the amount is negative",
    "absurd_amount": f"the amount is above {AMOUNT_MAX:.0e}",
    "absurd_time": "occurred_at or transaction_occurred_at lies outside 2000 … 2100",
    "future_time": f"a time lies more than {AHEAD_MS // MINUTE_MS} minutes after the message was received (live)",
    "past_time": f"a payment's occurred_at lies more than {BEHIND_MS // DAY_MS} days before it was received (live)",
    "outside_history": "occurred_at lies outside the range of the history that the message belongs to",
    "bad_confidence": "confidence lies outside 0 … 1",
    "too_many_attributes": f"more than {ATTRIBUTES_MAX} attributes",
    "empty_key": "the message has no key",
    "key_mismatch": "the key is not the account_id",
    "wrong_partition": "the message came in a partition that its key does not map to",
    "card_number": "the message holds a card number or a security code, and the setting card_data is reject",
    **feedback_signing.REASONS,
    "duplicate_transaction": "the account has sent this very payment before: one of its last 32, or within 24 hours",
}

_transaction = msgspec.json.Decoder(Transaction)
_feedback: msgspec.json.Decoder[AccountEvent] = msgspec.json.Decoder(AccountEvent)
_OURS = frozenset({"recorded_at", "rate", "subject"})
"""Fields of feedback that only the worker sets."""
FEEDBACK_FIELDS: dict[type, frozenset[str]] = {
    kind: frozenset(kind.__struct_fields__) | {"type"} for kind in AccountEvent.__args__
}


def decode_transaction(
    value: bytes | None, key: bytes | None, received_at: int = 0, *, is_scanned: bool = False
) -> Transaction:
    """Decode a `transactions` message. Raises BadInput with a reason code.

    received_at: epoch ms; if positive, its time must also be one that may be received live then. is_scanned: whether
    the caller sees to it that no object names a key twice (`duplicate_keys.scan`).
    """
    if value is None or len(value) > VALUE_BYTES_MAX:
        _refuse_size(value)
    try:
        t = _transaction.decode(value)
    except UNDECODABLE as error:
        _refuse_document(error, value)
    if not is_scanned and scan(value):
        _check_keys(value)
    account = t.account_id
    amount = t.amount
    if not (0.0 <= amount <= AMOUNT_MAX and TIME_MIN_MS <= t.occurred_at < TIME_MAX_MS):
        _refuse_number(amount, t.occurred_at)
    if t.rate != 1.0 or t.received_at:
        name = "received_at" if t.received_at else "rate"
        raise BadInput(f"unknown field {name!r}: the worker sets it", reason="unknown_field")
    if received_at > 0:
        check_live(t.occurred_at, received_at)
    if not account or not t.transaction_id:
        raise BadInput("transaction_id and account_id must not be empty", reason="empty_id")
    if key != account.encode():
        _check_key(key, account)
    joined = (
        f"{t.transaction_id}{account}{t.merchant_id}{t.merchant_category}{t.country}{t.device_id}{t.channel}"
        f"{t.ip}{t.card_id}{t.currency}"
    )
    if len(joined) > ID_CHARACTERS_MAX or not joined.isprintable():
        _check_strings(t)
    if t.attributes:
        _check_attributes(t.attributes)
    return t if amount else replace(t, amount=0.0)  # -0.0 is 0


def decode_feedback(value: bytes | None, key: bytes | None, received_at: int = 0) -> AccountEvent:
    """Decode a `feedback` message; received_at as for `decode_transaction`. Raises BadInput with a reason code."""
    if value is None or len(value) > VALUE_BYTES_MAX:
        _refuse_size(value)
    try:
        event = _feedback.decode(value)
        fields = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    except UNDECODABLE as error:
        _refuse_document(error, value)
    if scan(value):
        _check_keys(value)
    known = FEEDBACK_FIELDS[type(event)]
    if not known.issuperset(fields) or not _OURS.isdisjoint(fields):
        unknown = [name for name in fields if name not in known or name in _OURS]
        raise BadInput(f"unknown field {visible(unknown[0])!r}", reason="unknown_field")
    if not event.account_id:
        raise BadInput("account_id must not be empty", reason="empty_id")
    if not TIME_MIN_MS <= event.occurred_at < TIME_MAX_MS:
        raise BadInput("occurred_at lies outside 2000 … 2100", reason="absurd_time")
    _check_key(key, event.account_id)
    if isinstance(event, FeedbackReceived):
        e = event
        joined = f"{e.account_id}{e.transaction_id}{e.actor}{e.merchant_id}{e.device_id}{e.reason}{e.currency}"
        if len(joined) > ID_CHARACTERS_MAX or not joined.isprintable():
            _check_strings(event)
        if not event.transaction_id:
            raise BadInput("transaction_id must not be empty", reason="empty_id")
        if event.transaction_occurred_at and not TIME_MIN_MS <= event.transaction_occurred_at < TIME_MAX_MS:
            raise BadInput("transaction_occurred_at lies outside 2000 … 2100", reason="absurd_time")
        if not 0.0 <= event.confidence <= 1.0:
            raise BadInput("confidence must lie in 0 … 1", reason="bad_confidence")
        if not 0.0 <= event.amount <= AMOUNT_MAX:
            _refuse_number(event.amount, event.occurred_at)
    else:
        _check_strings(event, TEXT_CHARACTERS_MAX)
    if received_at > 0:
        check_feedback_time(event, received_at)
    return event


def warm_up() -> None:
    """Load the compiled scan, so that no message waits for it."""
    scan(b"{}")


def _check_keys(value: bytes) -> None:
    if is_too_deep(value):  # the parser of `duplicate_key` gives up sooner than the decoder
        raise BadInput("the JSON is nested too deeply", reason="too_deep")
    twice = duplicate_key(value)
    if twice is not None:
        raise BadInput(f"the key {visible(twice)!r} stands twice in one object", reason="duplicate_key")


def check_feedback_time(event: AccountEvent, received_at: int, history: History | None = None) -> None:
    """Raise BadInput if the event, or the payment that it names, is dated ahead of `received_at` (epoch ms); in a
    history, ahead and outside its range.
    """
    paid = (event.transaction_occurred_at,) if isinstance(event, FeedbackReceived) else ()
    for time in (event.occurred_at, *paid):
        if history is None:
            check_not_ahead(time, received_at)
        elif time > received_at + AHEAD_MS:
            check_history(time, history)


def _check_key(key: bytes | None, account: str) -> None:
    if not key:
        raise BadInput("the message has no key; the key must be the account_id", reason="empty_key")
    if key != account.encode():
        raise BadInput("the message's key is not the account_id", reason="key_mismatch")


def _refuse_size(value: bytes | None) -> NoReturn:
    if value is None:
        raise BadInput("tombstone: the message has no value", reason="tombstone")
    raise BadInput(f"the value has {len(value)} bytes, more than {VALUE_BYTES_MAX}", reason="too_large")


def _refuse_document(error: Exception, value: bytes) -> NoReturn:
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(error))
    try:
        value.decode()
    except UnicodeDecodeError as broken:
        raise BadInput(f"the value is not UTF-8: {broken.reason} at byte {broken.start}", reason="not_utf8") from None
    if isinstance(error, RecursionError):
        raise BadInput("the JSON is nested too deeply", reason="too_deep") from None
    if isinstance(error, msgspec.ValidationError):
        if text.startswith("Object missing required field `type`") or text.endswith("- at `$.type`"):
            raise BadInput(text, reason="unknown_event") from None
        if text.startswith("Object missing required field"):
            raise BadInput(text, reason="missing_field") from None
        if text.startswith("Object contains unknown field"):
            raise BadInput(text, reason="unknown_field") from None
        if text.startswith("Number out of range"):
            raise BadInput(text, reason="not_finite") from None
        raise BadInput(text, reason="wrong_type") from None
    raise BadInput(text, reason="not_json") from None


def _refuse_number(amount: float, occurred_at: int) -> NoReturn:
    if not math.isfinite(amount):
        raise BadInput("the amount is not a finite number", reason="not_finite")
    if amount < 0.0:
        raise BadInput(f"the amount {amount} is negative", reason="negative_amount")
    if amount > AMOUNT_MAX:
        raise BadInput(f"the amount {amount} is above {AMOUNT_MAX:.0e}", reason="absurd_amount")
    raise BadInput(f"occurred_at {occurred_at} lies outside 2000 … 2100", reason="absurd_time")


def _check_strings(event: msgspec.Struct, longer: Mapping[str, int] = _NO_TEXT) -> None:
    """longer: by field, how many characters a text that is no identifier may have."""
    for name, value in _texts(event):
        most = longer.get(name, ID_CHARACTERS_MAX)
        if len(value) > most:
            raise BadInput(f"{name} has {len(value)} characters, more than {most}", reason="bad_id")
        if not value.isprintable() and (bad := next((i for i, c in enumerate(value) if not _is_allowed(c)), -1)) >= 0:
            shown = f"U+{ord(value[bad]):04X}"
            raise BadInput(
                f"{name} holds the control or invisible character {shown} at place {bad + 1}", reason="bad_id"
            )


def _texts(event: msgspec.Struct) -> Iterator[tuple[str, str]]:
    """The event's strings, and those in its tuples, by field."""
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if isinstance(value, str):
            yield name, value
        elif isinstance(value, tuple):
            if len(value) > NAMES_MAX:
                raise BadInput(f"{name} has {len(value)} entries, more than {NAMES_MAX}", reason="bad_id")
            yield from ((name, each) for each in value if isinstance(each, str))


def _is_allowed(c: str) -> bool:
    """Whether an identifier may hold the character: not controls, format characters (invisible, or changing the reading
    direction) and separators of lines. All spaces may, and the joiners that Indic and Persian words and emoji need.
    """
    return c in "\u200c\u200d" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _check_attributes(attributes: dict[str, float | str]) -> None:
    if len(attributes) > ATTRIBUTES_MAX:
        raise BadInput(f"{len(attributes)} attributes, more than {ATTRIBUTES_MAX}", reason="too_many_attributes")
    for name, value in attributes.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise BadInput(f"attribute {name!r} is not a finite number", reason="not_finite")
