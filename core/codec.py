"""The only encoders and decoders of the log. JSON, one entry one object, floats exact (shortest round trip).

Every decoder is built once. Golden bytes of every event version live in tests/unit/core/test_codec.py: a change that
breaks one of them breaks old logs.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from core.errors import BadInput, Corrupt
from core.events import (
    AccountEvent,
    AlertRaised,
    Control,
    Event,
    Seal,
    Transaction,
    TransactionReceived,
    TransactionRejected,
    TransactionScored,
)

T = TypeVar("T")


class ScoreKey(Event, tag="score.v1", tag_field="type", frozen=True, kw_only=True):
    """Of a score only what says how to decide it again (see TransactionScored)."""

    feedback_position: str = msgspec.field(name="f")
    control_position: int = msgspec.field(name="c")
    degraded: str | None = None


_encoder = msgspec.json.Encoder()
encode = _encoder.encode


def encode_each(events: list[TransactionScored]) -> list[bytes]:
    """`encode` of every event, in one call: JSON holds no raw line break."""
    return _encoder.encode_lines(events).split(b"\n")[:-1]


_transaction = msgspec.json.Decoder(TransactionReceived)
_score = msgspec.json.Decoder(TransactionScored)
_score_key = msgspec.json.Decoder(ScoreKey)
_alert = msgspec.json.Decoder(AlertRaised)
_reject = msgspec.json.Decoder(TransactionRejected)
_account: msgspec.json.Decoder[AccountEvent] = msgspec.json.Decoder(AccountEvent)
_seal = msgspec.json.Decoder(Seal)
_control: msgspec.json.Decoder[Control] = msgspec.json.Decoder(Control)


def encode_transaction(transaction: Transaction, recorded_at: int) -> bytes:
    """The log's bytes of a received transaction: `encode(TransactionReceived(...))` without building it."""
    return b'{"type":"transaction.v1","recorded_at":%d,' % recorded_at + encode(transaction)[1:]


def encode_control(event: Control) -> bytes:
    """The log's bytes of a control event. Raises BadInput if nobody could read them again: JSON has no NaN and no
    infinity, and one entry that does not decode stops every reader of the control stream for good.
    """
    try:
        payload = encode(event)
        _control.decode(payload)
        msgspec.msgpack.encode(event)  # what a read model's checkpoint can hold: integers of 64 bits
    except (msgspec.MsgspecError, UnicodeError, OverflowError) as error:
        raise BadInput(
            f"{type(event).__name__} would not be read again (a number that is not finite?): {error}"
        ) from error
    return payload


def _checked(decoder: msgspec.json.Decoder[T], payload: bytes) -> T:
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Corrupt(f"an entry of the log does not decode: {error}: {payload[:80]!r}") from error


def decode_transaction(payload: bytes) -> TransactionReceived:
    return _checked(_transaction, payload)


def decode_score(payload: bytes) -> TransactionScored:
    return _checked(_score, payload)


def decode_score_key(payload: bytes) -> ScoreKey:
    """A third of the cost of `decode_score`; what the key leaves out is not looked at."""
    return _checked(_score_key, payload)


def decode_alert(payload: bytes) -> AlertRaised:
    return _checked(_alert, payload)


def decode_reject(payload: bytes) -> TransactionRejected:
    return _checked(_reject, payload)


def decode_account_event(payload: bytes) -> AccountEvent:
    return _checked(_account, payload)


def decode_seal(payload: bytes) -> Seal:
    return _checked(_seal, payload)


def decode_control(payload: bytes) -> Control:
    return _checked(_control, payload)


__all__ = [
    "Event",
    "ScoreKey",
    "decode_account_event",
    "decode_alert",
    "decode_control",
    "decode_reject",
    "decode_score",
    "decode_score_key",
    "decode_seal",
    "decode_transaction",
    "encode",
    "encode_control",
    "encode_each",
    "encode_transaction",
]
