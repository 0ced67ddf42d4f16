"""Converts log entries to a table's typed columns and back (see core.log.archive.segment). Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence, Set
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from core.codec import decode_score, decode_transaction
from core.codec import encode as encode_event
from core.errors import Corrupt
from core.events import START, Position, TransactionReceived, TransactionScored
from core.features import packing
from core.log.base import Entry, Stream
from core.receipt import receive_time

_INT64 = range(-(2**63), 2**63)
_TIME = pa.timestamp("ms", "UTC")


class Column(NamedTuple):
    """A column: its type and Parquet encoding ("" = dictionary, with a fallback of Parquet's own)."""

    type: Any
    encoding: str = ""


ID = {
    "generation": Column(pa.uint64(), "DELTA_BINARY_PACKED"),
    "offset": Column(pa.uint64(), "DELTA_BINARY_PACKED"),
}
TRANSACTION = {
    "recorded_at": Column(_TIME, "DELTA_BINARY_PACKED"),
    "transaction_id": Column(pa.string(), "DELTA_BYTE_ARRAY"),
    "account_id": Column(pa.string()),
    "amount": Column(pa.float64()),
    "occurred_at": Column(_TIME, "DELTA_BINARY_PACKED"),
    "currency": Column(pa.string()),
    "merchant_id": Column(pa.string()),
    "merchant_category": Column(pa.string()),
    "country": Column(pa.string()),
    "channel": Column(pa.string()),
    "device_id": Column(pa.string()),
    "ip": Column(pa.string()),
    "card_id": Column(pa.string()),
    "rate": Column(pa.float64()),
    "received_at": Column(_TIME, "DELTA_BINARY_PACKED"),
    "attributes": Column(pa.string()),
}
SCORE = {
    "f_generation": Column(pa.uint64(), "DELTA_BINARY_PACKED"),
    "f_offset": Column(pa.uint64(), "DELTA_BINARY_PACKED"),
    "control_position": Column(pa.int64(), "DELTA_BINARY_PACKED"),
    "model": Column(pa.string()),
    "model_digest": Column(pa.string()),
    "spec": Column(pa.int64(), "DELTA_BINARY_PACKED"),
    "engine": Column(pa.int64(), "DELTA_BINARY_PACKED"),
    "program": Column(pa.string()),
    "margin": Column(pa.float64(), "BYTE_STREAM_SPLIT"),
    "probability": Column(pa.float64(), "BYTE_STREAM_SPLIT"),
    "decision": Column(pa.string()),
    "rules": Column(pa.string()),
    "shadow_rules": Column(pa.string()),
    "effects": Column(pa.int64(), "DELTA_BINARY_PACKED"),
    "severity": Column(pa.string()),
    "arm": Column(pa.string()),
    "degraded": Column(pa.string()),
    "shadow_model": Column(pa.string()),
    "shadow": Column(pa.float64(), "BYTE_STREAM_SPLIT"),
}
RAW = {"raw_transaction": Column(pa.binary(), "PLAIN"), "raw_score": Column(pa.binary(), "PLAIN")}
COLUMNS_OF: dict[Stream, list[str]] = {
    "transactions": [*TRANSACTION, "raw_transaction"],
    "scores": [*SCORE, "features", "raw_score"],
}
COLUMNS = (*ID, *TRANSACTION, *SCORE, "features")
"""The columns that `segment.Segment.table` can return. attributes is JSON, rules are joined by ",", features are
float32 little-endian, of one width unless programs that store different features decided. received_at is the receive
time even where the entry states none.
"""

# The encoder omits a default only if it is the very same object, not merely equal.
_CHAMPION: str = next(field.default for field in msgspec.structs.fields(TransactionScored) if field.name == "arm")
_attributes = msgspec.json.Decoder(dict[str, float | str])


def decisions_table(
    transactions: Sequence[Entry],
    scores: Sequence[Entry],
    raw_transactions: Set[Position] = frozenset(),
    raw_scores: Set[Position] = frozenset(),
) -> pa.Table:
    """Transactions and their scores as a table with the columns `COLUMNS` and the two raw ones.

    An entry keeps its payload if its ID is in the given raw set, or if its fields don't encode to the payload again.
    """
    received = [_decoded(decode_transaction, entry.payload) for entry in transactions]
    scored = [_decoded(decode_score, entry.payload) for entry in scores]
    intact = [score for score in scored if score is not None]
    vectors = iter(packing.plain_rows([score.features for score in intact]))
    features = [None if score is None else next(vectors) for score in scored]
    widths = {len(vector) for vector in features if vector is not None}
    columns: dict[str, list[Any]] = {
        "generation": [entry.id.generation for entry in transactions],
        "offset": [entry.id.offset for entry in transactions],
    }
    rows = [_transaction_row(event) for event in received]
    columns |= dict(zip(TRANSACTION, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}
    rows = [_score_row(event) for event in scored]
    columns |= dict(zip(SCORE, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}
    columns["raw_transaction"] = [
        entry.payload
        if row is None or not row.received_at or entry.id in raw_transactions or encode_event(row) != entry.payload
        else None
        for entry, row in zip(transactions, received, strict=True)
    ]
    columns["raw_score"] = [
        entry.payload
        if row is None or f is None or entry.id in raw_scores or encode_event(row) != entry.payload
        else None
        for entry, row, f in zip(scores, scored, features, strict=True)
    ]
    arrays = {
        name: pa.array(columns.get(name, []), pa.int64() if column.type == _TIME else column.type).cast(column.type)
        for name, column in (ID | TRANSACTION | SCORE | RAW).items()
    }
    is_uniform = len(widths) == 1 and widths != {0}
    arrays["features"] = pa.array(features, pa.binary(*widths) if is_uniform else pa.binary())
    return pa.table(arrays)


def _decoded(decode: Callable[[bytes], Any], payload: bytes) -> Any:
    """The event; None if it does not decode, or contains a number that its column can't hold."""
    try:
        event = decode(payload)
    except Corrupt:
        return None
    if isinstance(event, TransactionReceived):
        times = event.recorded_at, event.occurred_at, event.received_at
        return event if all(time in _INT64 for time in times) else None
    numbers = event.control_position, event.spec, event.engine, event.effects
    return event if all(number in _INT64 for number in numbers) else None


def _transaction_row(event: TransactionReceived | None) -> tuple[Any, ...]:
    if event is None:
        return (None,) * len(TRANSACTION)
    return (
        *(getattr(event, name) for name in itertools.islice(TRANSACTION, len(TRANSACTION) - 2)),
        receive_time(event),
        encode_event(event.attributes).decode() if event.attributes else "",
    )


def _score_row(event: TransactionScored | None) -> tuple[Any, ...]:
    if event is None:
        return (None,) * len(SCORE)
    try:
        f = Position.parse(event.feedback_position)
        f = f if min(f) >= 0 and max(f) < 2**64 else START
    except ValueError:
        f = START
    return (
        f.generation,
        f.offset,
        event.control_position,
        event.model,
        event.digest,
        event.spec,
        event.engine,
        event.program,
        event.margin,
        event.probability,
        event.decision,
        ",".join(event.rules),
        ",".join(event.shadow_rules),
        event.effects,
        event.severity,
        event.arm,
        event.degraded,
        event.shadow_model,
        event.shadow,
    )


def _lists(table: pa.Table, names: Sequence[str]) -> list[list[Any]]:
    """Columns as Python lists; a null number becomes 0 (its row also has the payload)."""
    out: list[list[Any]] = []
    for name in names:
        if name not in table.column_names:  # the segment is older than the column
            out.append([None] * len(table))
            continue
        column = table[name]
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        if column.null_count and not pa.types.is_string(column.type) and not pa.types.is_binary(column.type):
            column = column.fill_null(0)
        out.append(column.to_numpy(zero_copy_only=False).tolist())
    return out


def transactions_of(table: pa.Table) -> list[bytes]:
    """The payloads of a table with `COLUMNS_OF["transactions"]`."""
    out: list[bytes] = []
    raws = table["raw_transaction"].to_pylist() if table["raw_transaction"].null_count < len(table) else None
    for i, row in enumerate(zip(*_lists(table, list(TRANSACTION)), strict=True)):
        if raws is not None and raws[i] is not None:
            out.append(raws[i])
            continue
        (
            recorded,
            name,
            account,
            amount,
            occurred,
            currency,
            merchant,
            category,
            country,
            channel,
            device,
            ip,
            card,
            rate,
            received,
            more,
        ) = row
        event = TransactionReceived(
            recorded_at=recorded,
            transaction_id=name,
            account_id=account,
            amount=amount,
            occurred_at=occurred,
            currency=currency,
            merchant_id=merchant,
            merchant_category=category,
            country=country,
            channel=channel,
            device_id=device,
            ip=ip,
            card_id=card,
            attributes=_attributes.decode(more) if more else {},
            **({"rate": rate} if rate not in (None, 1.0) else {}),  # the encoder omits only the default itself
            received_at=received or 0,
        )
        out.append(encode_event(event))
    return out


def scores_of(table: pa.Table) -> list[bytes]:
    """The payloads of a table with `COLUMNS_OF["scores"]`."""
    out: list[bytes] = []
    raws = table["raw_score"].to_pylist() if table["raw_score"].null_count < len(table) else None
    features = packing.wire_rows(_vectors(table["features"]))
    for i, row in enumerate(zip(*_lists(table, list(SCORE)), strict=True)):
        if raws is not None and raws[i] is not None:
            out.append(raws[i])
            continue
        (
            f_generation,
            f_offset,
            c,
            model,
            digest,
            spec,
            engine,
            program,
            margin,
            probability,
            decision,
            rules,
            shadow_rules,
            effects,
            severity,
            arm,
            degraded,
            shadow_model,
            shadow,
        ) = row
        event = TransactionScored(
            feedback_position=f"{f_generation}-{f_offset}",
            control_position=c,
            model=model,
            digest=digest,
            spec=spec,
            engine=engine,
            program=program,
            margin=margin,
            probability=probability,
            decision=decision,
            features=features[i] or b"",
            rules=tuple(rules.split(",")) if rules else (),
            shadow_rules=tuple(shadow_rules.split(",")) if shadow_rules else (),
            effects=effects or 0,
            severity=severity,
            arm=_CHAMPION if arm == _CHAMPION else arm,
            degraded=degraded,
            shadow_model=shadow_model or "",
            shadow=shadow if shadow_model else None,
        )
        out.append(encode_event(event))
    return out


def _vectors(column: pa.ChunkedArray) -> list[Any]:
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if not pa.types.is_fixed_size_binary(array.type) or array.null_count:
        values: list[Any] = array.to_pylist()
        return values
    width = array.type.byte_width
    content = array.buffers()[1].to_pybytes()
    return [content[i * width : (i + 1) * width] for i in range(array.offset, array.offset + len(array))]
