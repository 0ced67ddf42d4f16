"""What the log holds beside decisions, as tables for people: alerts, feedback, rejects, seals, control events. One row
for each entry: its place, the fields that are asked for most, and `payload`, the entry's JSON as logged.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from core import control_stream
from core.errors import UNDECODABLE
from core.events import START, Position
from core.log.base import Entry, EventLog, Stream
from core.log.paging import pages
from core.log.seals import ID_PART_MAX
from core.nesting import is_too_deep
from core.validation import TIME_MAX_MS
from projections.engine.as_of import Cut
from projections.engine.feed import Bound

TIME = pa.timestamp("ms", "UTC")
TEXT, TEXTS, WHOLE, NUMBER, BYTES = pa.string(), pa.list_(pa.string()), pa.int64(), pa.float64(), pa.binary()
PAGE, REJECTS_PAGE = 2_000, 50
"""Entries read at once; a rejected message is as large as whoever sent it liked."""
_WHOLE_RANGES = {
    TIME: (0, TIME_MAX_MS),
    WHOLE: (-(2**63), 2**63),
    pa.uint64(): (0, 2**64),
    pa.int32(): (-(2**31), 2**31),
}
"""From the first value on, and before the second: what columns hold of times and whole numbers."""
_decoder = msgspec.json.Decoder(dict[str, Any])


class Kind(NamedTuple):
    """A stream as a table. ids: what the two parts of an entry's ID are called; fields: of its events, by type."""

    ids: tuple[str, str]
    fields: Mapping[str, pa.DataType]
    until: Callable[[Bound], Position]

    @property
    def schema(self) -> pa.Schema:
        """Its columns."""
        ids = {name: pa.uint64() for name in self.ids if name}
        places = {"place": TEXT} if self.ids == _POSITION else {}
        return pa.schema({**places, "partition": pa.int32(), **ids, **self.fields, "payload": TEXT})


_POSITION = ("generation", "position")


def _by_seal(bound: Bound) -> Position:
    return Position(bound.place.sequence, ID_PART_MAX)


KINDS: dict[Stream, Kind] = {
    "alerts": Kind(
        _POSITION,
        {
            **{"alert_id": TEXT, "timestamp": TIME, "account_id": TEXT, "fraud_score": NUMBER, "decision": TEXT},
            **{"severity": TEXT, "reason_codes": TEXTS, "recommended_actions": TEXTS, "degraded": TEXT},
        },
        lambda bound: bound.transactions,
    ),
    "feedback": Kind(
        _POSITION,
        {
            **{"type": TEXT, "account_id": TEXT, "transaction_id": TEXT, "occurred_at": TIME, "recorded_at": TIME},
            **{"source": TEXT, "verdict": TEXT, "confidence": NUMBER, "actor": TEXT, "amount": NUMBER},
            **{"currency": TEXT, "case_id": TEXT, "action": TEXT, "causation_id": TEXT, "reason": TEXT},
        },
        lambda bound: bound.feedback,
    ),
    "rejects": Kind(
        ("sequence", "number"),
        {"recorded_at": TIME, "topic": TEXT, "position": TEXT, "reason": TEXT, "detail": TEXT}
        | {"key": BYTES, "value": BYTES},
        _by_seal,
    ),
    "seals": Kind(
        ("sequence", ""),
        {"recorded_at": TIME, "transactions": TEXT, "feedback": TEXT, "control": WHOLE}
        | {"counts": pa.list_(WHOLE), "published": TEXT, "digest": TEXT},
        _by_seal,
    ),
}
CONTROL = pa.schema(
    {"position": WHOLE, "type": TEXT, "occurred_at": TIME, "actor": TEXT, "reason": TEXT, "causation_id": TEXT}
    | {"key": TEXT, "refused": TEXT, "payload": TEXT}
)


def stream_tables(stream: Stream, log: EventLog, cut: Cut, names: Sequence[str], period: object) -> Iterator[pa.Table]:
    """A stream up to the cut, a page at a time, partition by partition in log order. period: not looked at."""
    kind = KINDS[stream]
    is_large = stream == "rejects"
    for partition, bound in cut.partitions.items():
        for page in pages(log, partition, stream, START, kind.until(bound), REJECTS_PAGE if is_large else PAGE):
            yield _table(_rows(kind, partition, page), kind.schema, names)


def control_tables(log: EventLog, cut: Cut, names: Sequence[str], period: object) -> Iterator[pa.Table]:
    """The control stream up to the cut. refused: why an event has no effect, "" if it has. period: not looked at."""
    held = control_stream.history(log, cut.control)
    yield _table(
        ({**_fields(each.payload), "position": each.position, "refused": each.refused} for each in held), CONTROL, names
    )


def _rows(kind: Kind, partition: int, page: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    for (first, second), payload in page:
        ids = dict(zip(kind.ids, (first, second), strict=True))
        yield {**_fields(payload), **ids, "partition": partition, "place": f"p{partition:02d}:{first}-{second}"}


def _fields(payload: bytes) -> dict[str, Any]:
    """The event's fields; none but `payload` if it does not decode here."""
    try:
        found = {} if is_too_deep(payload) else _decoder.decode(payload)
    except UNDECODABLE:
        found = {}
    if found.pop("hash_key", None) is not None:  # who knows it can choose names that collide
        payload = msgspec.json.encode(found)
    return {**found, "payload": payload.decode("utf-8", "replace")}


def _table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema, names: Sequence[str]) -> pa.Table:
    chosen = pa.schema([schema.field(name) for name in names])
    held = list(rows)
    return pa.table(
        {
            field.name: pa.array([_value(row.get(field.name), field.type) for row in held], field.type)
            for field in chosen
        },
        schema=chosen,
    )


def _value(value: Any, kind: pa.DataType) -> Any:
    """The value if the column can hold it; else None: a log may be of a release that writes other things."""
    if kind == BYTES:
        return _decoded(value)
    if kind in (TEXTS, pa.list_(WHOLE)):
        return value if isinstance(value, list) and None not in [_value(v, kind.value_type) for v in value] else None
    if kind == TEXT:
        return value if isinstance(value, str) else None
    if kind == NUMBER:
        return _number(value)
    low, past = _WHOLE_RANGES[kind]
    return value if type(value) is int and low <= value < past else None


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None


def _decoded(value: Any) -> bytes | None:
    try:
        return base64.b64decode(value) if isinstance(value, str) else None
    except binascii.Error:
        return None
