"""Converts log entries to a table's typed columns and back (see core.log.archive.segment). Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core.codec import ScoreKey, decode_score, decode_score_key, decode_transaction
from core.codec import encode as encode_event
from core.errors import Corrupt
from core.events import START, Decision, Position, TransactionReceived, TransactionScored
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
    "shadow_decision": Column(pa.string()),
    "width": Column(pa.int64(), "DELTA_BINARY_PACKED"),
}
FEATURE = Column(pa.float32(), "PLAIN")
"""A stored feature. Never dictionary-encoded, because that takes all NaNs for one."""
FEATURES_MAX = 2048
"""Features of a score that get columns; a score with more keeps its payload."""
RAW = {"raw_transaction": Column(pa.binary(), "PLAIN"), "raw_score": Column(pa.binary(), "PLAIN")}
COLUMNS_OF: dict[Stream, list[str]] = {
    "transactions": [*TRANSACTION, "raw_transaction"],
    "scores": [*SCORE, "raw_score"],
}
KEYS = [
    "f_generation", "f_offset", "control_position", "engine", "program", "decision", "rules", "severity", "degraded",
    "raw_score",
]  # fmt: skip
"""The columns of a score's key (`keys_of`)."""
COLUMNS = (*ID, *TRANSACTION, *SCORE)
"""The columns that `segment.Segment.table` can return, besides `feature_columns`. attributes is JSON, rules are joined
by ",". width: how many features the score stores. received_at is the receive time even where the entry states none.
"""

# The encoder omits a default only if it is the very same object, not merely equal.
_APPROVE: Decision = next(f.default for f in msgspec.structs.fields(TransactionScored) if f.name == "shadow_decision")
_CHAMPION: str = next(field.default for field in msgspec.structs.fields(TransactionScored) if field.name == "arm")
_attributes = msgspec.json.Decoder(dict[str, float | str])


def feature_column(place: int) -> str:
    """The column of the feature that scores store at this place (from 0), float32. What it is follows from the score's
    program (`core.program.plan.Plan.names`). Null from the score's width on; a missing value is the NaN 0x7fc00000.
    """
    return f"feature_{place:03d}"


def feature_columns(count: int) -> list[str]:
    """The columns of the first `count` features."""
    return [feature_column(place) for place in range(count)]


def feature_rows(table: pa.Table, count: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The first `count` features of every row, float32 (count, n), and which rows store them all, bool (n,); the others
    hold anything. The table has `feature_columns(count)` and "width".
    """
    values = np.empty((count, len(table)), dtype=np.float32)
    for place in range(count):
        values[place] = table[feature_column(place)].to_numpy()
    return values, table["width"].fill_null(0).to_numpy() >= count


def feature_table(scores: Sequence[TransactionScored | None]) -> dict[str, pa.Array]:
    """The feature columns of n scores, and their width, null for one whose vector is not valid or too wide."""
    known = [score is not None and packing.width_of(score.features) <= FEATURES_MAX for score in scores]
    kept = [score.features for score, is_known in zip(scores, known, strict=True) if score is not None and is_known]
    vectors = iter(packing.plain_rows(kept))
    plain = [next(vectors) if is_known else None for is_known in known]
    widths = np.array([len(vector or b"") // 4 for vector in plain], dtype=np.int64)
    values = np.zeros((int(widths.max(initial=0)), len(scores)), dtype=np.float32)
    for width in np.unique(widths[widths > 0]).tolist():
        rows = np.flatnonzero(widths == width)
        content = b"".join([plain[row] or b"" for row in rows.tolist()])
        values[:width, rows] = np.frombuffer(content, "<f4").reshape(-1, width).T
    is_none = np.array([vector is None for vector in plain], dtype=np.bool_)
    arrays = {"width": pa.array(widths, pa.int64(), mask=is_none)}
    is_uniform = len(widths) > 0 and widths.min() == widths.max()
    for place, column in enumerate(values):
        arrays[feature_column(place)] = pa.array(column, pa.float32(), mask=None if is_uniform else widths <= place)
    return arrays


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
    features = feature_table(scored)
    has_features = features["width"].is_valid().to_pylist()
    columns: dict[str, list[Any]] = {
        "generation": [entry.id.generation for entry in transactions],
        "offset": [entry.id.offset for entry in transactions],
    }
    rows = [_transaction_row(event) for event in received]
    columns |= dict(zip(TRANSACTION, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}
    rows = [_score_row(event) for event in scored]
    columns |= dict(zip(list(SCORE)[:-1], map(list, zip(*rows, strict=True)), strict=True)) if rows else {}
    columns["raw_transaction"] = [
        entry.payload
        if row is None or not row.received_at or entry.id in raw_transactions or encode_event(row) != entry.payload
        else None
        for entry, row in zip(transactions, received, strict=True)
    ]
    columns["raw_score"] = [
        entry.payload
        if row is None or not known or entry.id in raw_scores or encode_event(row) != entry.payload
        else None
        for entry, row, known in zip(scores, scored, has_features, strict=True)
    ]
    arrays = {
        name: pa.array(columns.get(name, []), pa.int64() if column.type == _TIME else column.type).cast(column.type)
        for name, column in (ID | TRANSACTION | SCORE | RAW).items()
    }
    return pa.table(arrays | features)


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
        return (None,) * (len(SCORE) - 1)
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
        event.shadow_decision if event.shadow_decision != "approve" else None,
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
    return [event if isinstance(event, bytes) else encode_event(event) for event in _received(table)]


def received_of(table: pa.Table) -> list[TransactionReceived]:
    """The transactions of a table with `COLUMNS_OF["transactions"]`, without their JSON. Raises Corrupt if one does not
    decode.
    """
    return [decode_transaction(event) if isinstance(event, bytes) else event for event in _received(table)]


def _received(table: pa.Table) -> Iterator[TransactionReceived | bytes]:
    """The transactions; the payload of one that the columns don't hold."""
    raws = _raws(table, "raw_transaction")
    for i, row in enumerate(zip(*_lists(table, list(TRANSACTION)), strict=True)):
        if raws is not None and (raw := raws[i]) is not None:
            yield raw
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
        yield TransactionReceived(
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


def keys_of(table: pa.Table) -> list[ScoreKey]:
    """What is needed of the scores to decide again, of a table with KEYS; their JSON and features are not read. Raises
    Corrupt if a score does not decode.
    """
    raws = _raws(table, "raw_score")
    out: list[ScoreKey] = []
    for i, (generation, offset, c, engine, program, decision, rules, severity, degraded) in enumerate(
        zip(*_lists(table, KEYS[:-1]), strict=True)
    ):
        if raws is not None and (raw := raws[i]) is not None:
            out.append(decode_score_key(raw))
            continue
        out.append(
            ScoreKey(
                feedback_position=f"{generation}-{offset}",
                control_position=c,
                engine=engine,
                program=program,
                decision=decision,
                severity=severity,
                rules=tuple(rules.split(",")) if rules else (),
                degraded=degraded,
            )
        )
    return out


def _raws(table: pa.Table, name: str) -> list[bytes | None] | None:
    """Payloads that are kept as they are, by row; None if there are none."""
    found: list[bytes | None] | None = table[name].to_pylist() if table[name].null_count < len(table) else None
    return found


def scores_of(table: pa.Table) -> list[bytes]:
    """The payloads of a table with `COLUMNS_OF["scores"]`."""
    out: list[bytes] = []
    raws = _raws(table, "raw_score")
    features = _packed(table)
    for i, row in enumerate(zip(*_lists(table, list(SCORE)[:-1]), strict=True)):
        if raws is not None and (raw := raws[i]) is not None:
            out.append(raw)
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
            shadow_decision,
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
            features=features[i],
            rules=tuple(rules.split(",")) if rules else (),
            shadow_rules=tuple(shadow_rules.split(",")) if shadow_rules else (),
            effects=effects or 0,
            severity=severity,
            arm=_CHAMPION if arm == _CHAMPION else arm,
            degraded=degraded,
            shadow_model=shadow_model or "",
            shadow=shadow if shadow_model else None,
            shadow_decision=shadow_decision or _APPROVE,
        )
        out.append(encode_event(event))
    return out


def _packed(table: pa.Table) -> list[bytes]:
    """The rows' features as scores carry them."""
    widths = table["width"].fill_null(0).to_numpy()
    out = [b""] * len(widths)
    for width in np.unique(widths[widths > 0]).tolist():
        rows = np.flatnonzero(widths == width)
        values, _ = feature_rows(table if len(rows) == len(widths) else table.take(pa.array(rows)), width)
        for row, content in zip(rows.tolist(), packing.pack(values.T), strict=True):
            out[row] = content
    return out
