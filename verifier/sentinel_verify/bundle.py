"""The file: JSON in one form only, so that no byte can be changed without changing what it says.

Keys sorted, no spaces, ASCII, whole numbers, no key more or less than is listed here. docs/proofs.md says what each
means. Everything that it says is then checked against a hash, or refused.
"""

import base64
import json
import re
from typing import Any, NamedTuple, NoReturn

from .errors import Refused
from .trees import Path

FORMAT = "stream-sentinel/proof@1"
BYTES_MAX = 256 * 2**20
ITEMS_MAX = 4_000_000
"""Of lists and objects, as far as brackets and commas tell: what is read takes a few hundred bytes for each."""
EVENTS_MAX = 20_000
"""Of an account's history."""


class Entry(NamedTuple):
    """An entry of the batch: its place among the batch's leaves, and the proof of that."""

    place: int
    path: Path


class Seal(NamedTuple):
    """A seal: its JSON, the digest before it, its number, and the proof that the partition's tree holds it."""

    payload: bytes
    previous: bytes
    sequence: int
    proof: list[bytes]


class Event(NamedTuple):
    """A control event: its position, its JSON, and the proof that the control stream's tree holds it."""

    position: int
    payload: bytes
    proof: list[bytes]


class Stream(NamedTuple):
    """The whole control stream up to the decision: the JSON of each event, the stream's digest after each of those that
    had no effect, and the proof that the tree that was signed continues theirs.
    """

    payloads: list[bytes]
    refused: list[bytes]
    proof: list[bytes]


class Past(NamedTuple):
    """An earlier event of the account: the entry, where it stands, and the place of its seal in the list of seals.
    payloads: transaction and score of a payment; of feedback, one.
    """

    position: str
    payloads: tuple[bytes, ...]
    entry: Entry
    seal: int


class History(NamedTuple):
    """The account's earlier payments and the feedback on it, each in the order of the log, with the seals over them,
    ascending, and the proof that the partition's tree holds these.
    """

    payments: list[Past]
    feedback: list[Past]
    seals: list[Seal]
    proof: list[bytes]


class Bundle(NamedTuple):
    """A decoded proof. checkpoint: the signed note; "" for none. alert: None if nothing was raised. stream: None if
    only the events `control` are given. history: None if the account's past is not in it.
    """

    partition: int
    position: str
    transaction: bytes
    score: bytes
    decision: Entry
    alert: tuple[bytes, Entry] | None
    seal: Seal
    control: list[Event]
    stream: Stream | None
    blobs: dict[str, bytes]
    checkpoint: str
    history: History | None


def read(content: bytes) -> Bundle:
    """The proof in a file. Raises Refused unless it has exactly its form."""
    if len(content) > BYTES_MAX:
        raise Refused(f"a proof has at most {BYTES_MAX:,} bytes, and this file has {len(content):,}")
    if sum(map(content.count, (b"[", b"{", b","))) > ITEMS_MAX:
        raise Refused(f"a proof has at most {ITEMS_MAX:,} items")
    try:
        top = json.loads(content, parse_float=_no_number, parse_constant=_no_number, parse_int=_number)
        again = json.dumps(top, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as error:
        raise Refused(f"the file is not a proof: {error}") from None
    if again != content:
        raise Refused("the file is not written as proofs are: a space, a key, a number or an escape was changed")
    if not isinstance(top, dict) or top.get("format") != FORMAT:
        raise Refused(f"the file is not a proof of the form {FORMAT}")
    keys = "batch blobs control format partition position score seal transaction"
    _keys(top, keys, "alert checkpoint history stream")
    seal = _keys(top["seal"], "payload previous proof sequence")
    alert = _keys(top["alert"], "batch payload") if "alert" in top else None
    return Bundle(
        partition=_whole(top["partition"]),
        position=_position(top["position"]),
        transaction=_payload(top["transaction"]),
        score=_payload(top["score"]),
        decision=_entry(top["batch"]),
        alert=None if alert is None else (_payload(alert["payload"]), _entry(alert["batch"])),
        seal=Seal(_payload(seal["payload"]), _hash(seal["previous"]), _whole(seal["sequence"]), _hashes(seal["proof"])),
        control=[_event(each) for each in _list(top["control"])],
        stream=_stream(top["stream"]) if "stream" in top else None,
        blobs={_text(name): _blob(value) for name, value in _keys(top["blobs"]).items()},
        checkpoint=_text(top.get("checkpoint", "")),
        history=_history(top["history"]) if "history" in top else None,
    )


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is not a whole number")


def _number(text: str) -> int:
    return int(text) if len(text) <= 20 else _no_number(text)


def _keys(value: Any, required: str = "", optional: str = "") -> dict[str, Any]:
    """The object, which has these keys; any, if none are named."""
    if not isinstance(value, dict):
        raise Refused("the proof has something else where an object must be")
    if required and not set(required.split()) <= value.keys() <= {*required.split(), *optional.split()}:
        raise Refused(f"an object of the proof must have the keys {required}, not {' '.join(value)[:200]}")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Refused("the proof has something else where a list must be")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused("the proof has something else where a text must be")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**64:
        raise Refused("the proof has something else where a whole number must be")
    return value


def _position(value: Any) -> str:
    if not re.fullmatch(r"(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})", _text(value)):
        raise Refused(f"{value[:60]!r} is not a position")
    return str(value)


def _payload(value: Any) -> bytes:
    try:
        return _text(value).encode()
    except UnicodeEncodeError:
        raise Refused("the proof has half of a character") from None


def _hash(value: Any) -> bytes:
    if not re.fullmatch("[0-9a-f]{64}", _text(value)):
        raise Refused("the proof has something else where a hash must be")
    return bytes.fromhex(value)


def _hashes(value: Any) -> list[bytes]:
    return [_hash(each) for each in _list(value)]


def _entry(value: Any) -> Entry:
    found = _keys(value, "index path")
    levels = [_list(each) for each in _list(found["path"])]
    if any(len(level) != 2 for level in levels):
        raise Refused("a proof within the batch has two lists of hashes a level")
    return Entry(_whole(found["index"]), [(_hashes(left), _hashes(right)) for left, right in levels])


def _event(value: Any) -> Event:
    found = _keys(value, "payload position proof")
    return Event(_whole(found["position"]), _payload(found["payload"]), _hashes(found["proof"]))


def _stream(value: Any) -> Stream:
    found = _keys(value, "payloads proof refused")
    payloads = [_payload(each) for each in _list(found["payloads"])]
    return Stream(payloads, _hashes(found["refused"]), _hashes(found["proof"]))


def _history(value: Any) -> History:
    found = _keys(value, "feedback payments proof seals")
    events = [_list(found["payments"]), _list(found["feedback"])]
    if sum(map(len, events)) > EVENTS_MAX:
        raise Refused(f"the history of an account has at most {EVENTS_MAX:,} events in a proof")
    seals = [_keys(each, "payload previous sequence") for each in _list(found["seals"])]
    return History(
        [_past(each, "score", "transaction") for each in events[0]],
        [_past(each, "payload") for each in events[1]],
        [Seal(_payload(each["payload"]), _hash(each["previous"]), _whole(each["sequence"]), []) for each in seals],
        _hashes(found["proof"]),
    )


def _past(value: Any, *payloads: str) -> Past:
    found = _keys(value, " ".join(("batch", "position", "seal", *payloads)))
    texts = tuple(_payload(found[name]) for name in reversed(payloads))
    return Past(_position(found["position"]), texts, _entry(found["batch"]), _whole(found["seal"]))


def _blob(value: Any) -> bytes:
    try:
        raw = base64.b64decode(_text(value), validate=True)
    except ValueError:
        raise Refused("a blob is not base64") from None
    if base64.b64encode(raw).decode() != value:
        raise Refused("a blob is not written as base64 is")
    return raw
