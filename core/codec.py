"""The log's only encoders and decoders: JSON, one object per entry, floats exact (shortest round trip).

Every decoder is built once, and refuses what is nested too deeply (`core.nesting`). Golden bytes of every event version
are in tests/unit/core/test_codec.py: a change that breaks one of them breaks old logs.
"""

from __future__ import annotations

import re
from typing import TypeVar, get_args

import msgspec

from core.errors import UNDECODABLE, BadInput, Corrupt
from core.events import (
    AccountEvent,
    AlertRaised,
    Control,
    Decision,
    Event,
    Outcome,
    Seal,
    Severity,
    Transaction,
    TransactionReceived,
    TransactionRejected,
    TransactionScored,
)
from core.nesting import DEPTH_MAX, is_too_deep

T = TypeVar("T")


class UnknownEvent(Corrupt):
    """The log holds an event of a kind or version that this release does not know, so a newer one wrote it. It can't be
    left out: whatever follows may depend on it.
    """


class ScoreKey(Event, tag="score.v1", tag_field="type", frozen=True, kw_only=True):
    """The fields of a score that are needed to decide it again (see TransactionScored)."""

    feedback_position: str = msgspec.field(name="f")
    control_position: int = msgspec.field(name="c")
    engine: int
    program: str
    decision: Decision
    severity: Severity | None = None
    rules: tuple[str, ...] = ()
    degraded: str | None = None

    @property
    def outcome(self) -> Outcome:
        """What was decided."""
        return Outcome(self.decision, self.severity, self.rules)


_encoder = msgspec.json.Encoder()
encode = _encoder.encode


def encode_each(events: list[TransactionScored]) -> list[bytes]:
    """`encode` of every event, in one call: JSON contains no raw line breaks."""
    return _encoder.encode_lines(events).split(b"\n")[:-1]


_transaction = msgspec.json.Decoder(TransactionReceived)
_score = msgspec.json.Decoder(TransactionScored)
_score_key = msgspec.json.Decoder(ScoreKey)
_alert = msgspec.json.Decoder(AlertRaised)
_reject = msgspec.json.Decoder(TransactionRejected)
_account: msgspec.json.Decoder[AccountEvent] = msgspec.json.Decoder(AccountEvent)
_seal = msgspec.json.Decoder(Seal)
_control: msgspec.json.Decoder[Control] = msgspec.json.Decoder(Control)


class _Typed(msgspec.Struct):
    type: str


_typed = msgspec.json.Decoder(_Typed)
_KIND = re.compile(r"[a-z][a-z_]{0,63}\.v[1-9][0-9]{0,3}")
_KINDS = frozenset(
    each.__struct_config__.tag
    for each in (
        *(TransactionReceived, TransactionScored, AlertRaised, TransactionRejected, Seal),
        *get_args(AccountEvent),
        *get_args(Control),
    )
)


def encode_transactions(transactions: list[Transaction], recorded_at: int) -> list[bytes]:
    """Received transactions as log bytes: `encode(TransactionReceived(...))` without building the events."""
    head = b'{"type":"transaction.v1","recorded_at":%d,' % recorded_at
    return [head + line[1:] for line in _encoder.encode_lines(transactions).split(b"\n")[:-1]]


def encode_control(event: Control) -> bytes:
    """A control event as log bytes. Raises BadInput if they would not decode: JSON has neither NaN nor infinity, and
    one entry that does not decode would permanently stop every reader of the control stream.
    """
    try:
        payload = encode(event)
        decode_control(payload)
        msgspec.msgpack.encode(event)  # read models' checkpoints can hold only 64-bit integers
    except (Corrupt, UnicodeError, OverflowError, *UNDECODABLE) as error:
        raise BadInput(
            f"{type(event).__name__} can't be encoded so that it decodes again (is a number not finite?): {error}"
        ) from error
    return payload


def decoded(decoder: msgspec.json.Decoder[T], payload: bytes) -> T:
    """A log entry, by a decoder of all or some of its fields. Raises Corrupt if it does not decode, UnknownEvent if
    that is because its type is none of this release's.
    """
    if is_too_deep(payload):
        raise Corrupt(f"a log entry is nested more than {DEPTH_MAX} levels deep: {payload[:80]!r}")
    try:
        return decoder.decode(payload)
    except UNDECODABLE as error:
        if (kind := _unknown_kind(payload)) is not None:
            raise UnknownEvent(
                f"a log entry is a {kind}, which this release does not know: a newer one wrote it. Upgrade this process"
                " (docs/upgrade.md)"
            ) from error
        raise Corrupt(f"a log entry does not decode: {error}: {payload[:80]!r}") from error


def _unknown_kind(payload: bytes) -> str | None:
    """The entry's type if it has the form of one and is none of this release's; else None."""
    try:
        kind = _typed.decode(payload).type
    except UNDECODABLE:
        return None
    return kind if _KIND.fullmatch(kind) and kind not in _KINDS else None


def decode_transaction(payload: bytes) -> TransactionReceived:
    return decoded(_transaction, payload)


def decode_score(payload: bytes) -> TransactionScored:
    return decoded(_score, payload)


def decode_score_key(payload: bytes) -> ScoreKey:
    """A third of the cost of `decode_score`; fields outside the key are not checked."""
    return decoded(_score_key, payload)


def decode_alert(payload: bytes) -> AlertRaised:
    return decoded(_alert, payload)


def decode_reject(payload: bytes) -> TransactionRejected:
    return decoded(_reject, payload)


def decode_account_event(payload: bytes) -> AccountEvent:
    return decoded(_account, payload)


def decode_seal(payload: bytes) -> Seal:
    return decoded(_seal, payload)


def decode_control(payload: bytes) -> Control:
    return decoded(_control, payload)


__all__ = [
    "Event",
    "ScoreKey",
    "UnknownEvent",
    "decode_account_event",
    "decode_alert",
    "decode_control",
    "decode_reject",
    "decode_score",
    "decode_score_key",
    "decode_seal",
    "decode_transaction",
    "decoded",
    "encode",
    "encode_control",
    "encode_each",
    "encode_transactions",
]
