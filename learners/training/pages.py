"""Reads the log or its archive as pages of columns, from which `learners.training.reading` builds a set. Reads only.

The archive's columns are read without decoding JSON; entries of the hot log are decoded one at a time, as everywhere
else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core.codec import decode_score, decode_transaction
from core.currency import base_amount
from core.errors import Corrupt
from core.events import START, Position
from core.features import packing, spec
from core.hashing import HashKey, hash_strings
from core.log.archive.archived import ArchivedLog
from core.log.archive.columns import feature_columns, feature_rows
from core.log.base import EventLog
from core.log.paging import pages
from core.program.codes import ENGINE
from core.receipt import receive_time
from projections.labelling.verdicts import payment_keys

_TRANSACTION_COLUMNS = (
    "generation",
    "offset",
    "transaction_id",
    "account_id",
    "amount",
    "rate",
    "received_at",
    "recorded_at",
)
_SCORE_COLUMNS = ("generation", "offset", "spec", "engine", "model", "arm", "width", *feature_columns(spec.WIDTH))


_VECTOR_BYTES = 4 * spec.WIDTH
"""Of the spec's features; those of the program that decided follow in a score's vector."""


class TransactionPage(NamedTuple):
    """k transactions as columns; `times` are receive times; `keys` identify account and transaction together."""

    generations: NDArray[np.uint64]
    offsets: NDArray[np.uint64]
    times: NDArray[np.int64]
    recorded_at: NDArray[np.int64]
    amounts: NDArray[np.float64]
    accounts: NDArray[np.uint64]
    keys: NDArray[np.uint64]


class ScorePage(NamedTuple):
    """k scores as columns. features: float32 (k, WIDTH), undefined where not `readable`."""

    generations: NDArray[np.uint64]
    offsets: NDArray[np.uint64]
    features: NDArray[np.float32]
    readable: NDArray[np.bool_]
    models: NDArray[np.int64]
    model_names: list[str]
    arms: NDArray[np.int64]
    arm_names: list[str]


@dataclass(frozen=True, slots=True)
class Placed:
    """A partition's rows of a set, in log order. ordinals, places int64 (k,): the number of each among the partition's
    decisions, from 0, and its place in the set; generations, offsets uint64 (k,): its position; count: all decisions.
    """

    ordinals: NDArray[np.int64]
    places: NDArray[np.int64]
    generations: NDArray[np.uint64]
    offsets: NDArray[np.uint64]
    count: int

    @property
    def begin(self) -> int:
        """The ordinal of the first row; `count` without rows."""
        return int(self.ordinals[0]) if len(self.ordinals) else self.count

    @property
    def after(self) -> Position:
        """The position right before the first row's."""
        if not len(self.ordinals):
            return START
        generation, offset = int(self.generations[0]), int(self.offsets[0])
        return Position(generation, offset - 1) if offset else Position(generation - 1, 2**64 - 1)

    @property
    def until(self) -> Position:
        """The position of the last row."""
        return Position(int(self.generations[-1]), int(self.offsets[-1])) if len(self.ordinals) else START

    def of(self, begin: int, count: int) -> NDArray[np.int64]:
        """int64 (count,): the places of the decisions `begin` … `begin + count − 1`, −1 for those in no set."""
        low, high = np.searchsorted(self.ordinals, (begin, begin + count))
        found = np.full(count, -1, dtype=np.int64)
        found[self.ordinals[low:high] - begin] = self.places[low:high]
        return found

    def lies_at(self, begin: int, generations: NDArray[np.uint64], offsets: NDArray[np.uint64]) -> bool:
        """Whether the rows among the decisions from `begin` on have the positions that these, uint64 (k,), have."""
        low, high = np.searchsorted(self.ordinals, (begin, begin + len(offsets)))
        at = self.ordinals[low:high] - begin
        return np.array_equal(self.generations[low:high], generations[at]) and np.array_equal(
            self.offsets[low:high], offsets[at]
        )


def transaction_pages(log: EventLog, partition: int, until: Position, key: HashKey) -> Iterator[TransactionPage]:
    """A partition's transactions from its beginning. key: the log's. Raises Corrupt if one can't be decoded."""
    at = START
    if isinstance(log, ArchivedLog):
        seam = min(log.archive.end(partition).transactions, until)
        for table in log.tables(partition, _TRANSACTION_COLUMNS, until=seam) if seam > START else ():
            if len(table):
                yield _page_of_table(partition, table, key)
        at = seam
    for entries in pages(log, partition, "transactions", at, until):
        decoded = [decode_transaction(entry.payload) for entry in entries]
        accounts = hash_strings([t.account_id for t in decoded], key)
        yield TransactionPage(
            *_ids([entry.id for entry in entries]),
            np.array([receive_time(t) for t in decoded], dtype=np.int64),
            np.array([t.recorded_at for t in decoded], dtype=np.int64),
            np.array([base_amount(t) for t in decoded], dtype=np.float64),
            accounts,
            payment_keys(accounts, hash_strings([t.transaction_id for t in decoded], key)),
        )


def _page_of_table(partition: int, table: pa.Table, key: HashKey) -> TransactionPage:
    if any(table[name].null_count for name in _TRANSACTION_COLUMNS):
        raise Corrupt(f"partition {partition}: an archived transaction cannot be decoded")
    account_codes, account_names = _codes(table["account_id"])
    accounts = hash_strings(account_names, key)[account_codes]
    return TransactionPage(
        _numpy(table["generation"]),
        _numpy(table["offset"]),
        _numpy(table["received_at"].cast(pa.int64())),
        _numpy(table["recorded_at"].cast(pa.int64())),
        _numpy(table["amount"]) * _numpy(table["rate"]),
        accounts,
        payment_keys(accounts, hash_strings(table["transaction_id"].to_pylist(), key)),
    )


def _ids(ids: Sequence[Position]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    return (
        np.array([position.generation for position in ids], dtype=np.uint64),
        np.array([position.offset for position in ids], dtype=np.uint64),
    )


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    values: NDArray[Any] = column.to_numpy()
    return values


def _codes(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[str]]:
    """Strings (k,) → (indices (k,) into the distinct strings, the distinct strings)."""
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    encoded = array.dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()


def score_pages(log: EventLog, partition: int, after: Position, until: Position) -> Iterator[ScorePage]:
    """A partition's scores with after < ID ≤ until. Raises Corrupt if one can't be decoded."""
    at = after
    if isinstance(log, ArchivedLog):
        seam = min(log.archive.end(partition).transactions, until)
        for table in log.tables(partition, _SCORE_COLUMNS, after, seam) if seam > after else ():
            if len(table):
                yield _score_page_of_table(log, partition, table)
        at = max(after, seam)
    for entries in pages(log, partition, "scores", at, until):
        decoded = [decode_score(entry.payload) for entry in entries]
        readable = np.array([score.spec == spec.SPEC_VERSION and score.engine == ENGINE for score in decoded])
        plain = packing.plain_rows([s.features for s in decoded])
        vectors = b"".join(
            (v or b"")[:_VECTOR_BYTES] if known else bytes(_VECTOR_BYTES)
            for known, v in zip(readable.tolist(), plain, strict=True)
        )
        yield ScorePage(
            *_ids([entry.id for entry in entries]),
            _vectors(partition, vectors, len(entries)),
            readable,
            *_coded([score.model for score in decoded]),
            *_coded([score.arm for score in decoded]),
        )


def _score_page_of_table(log: EventLog, partition: int, table: pa.Table) -> ScorePage:
    if any(table[name].null_count for name in ("spec", "engine", "model", "arm")):
        raise Corrupt(f"partition {partition}: an archived score cannot be decoded")
    generations, offsets = _numpy(table["generation"]), _numpy(table["offset"])
    values, present = feature_rows(table, spec.WIDTH)
    features = np.ascontiguousarray(values.T)
    readable = (_numpy(table["spec"]) == spec.SPEC_VERSION) & (_numpy(table["engine"]) == ENGINE)
    missing = np.flatnonzero(readable & ~present).tolist()
    for row in missing:
        payload = log.get(partition, "scores", Position(int(generations[row]), int(offsets[row])))
        if payload is None:
            raise Corrupt(f"partition {partition}: the archive has no payload for the score of row {row}")
        score = decode_score(payload)
        features[row] = _vectors(partition, packing.plain(score.features)[:_VECTOR_BYTES], 1)[0]
    return ScorePage(generations, offsets, features, readable, *_codes(table["model"]), *_codes(table["arm"]))


def _vectors(partition: int, content: bytes, count: int) -> NDArray[np.float32]:
    if len(content) != count * 4 * spec.WIDTH:
        raise Corrupt(f"partition {partition}: a feature vector does not have the {spec.WIDTH} columns of its spec")
    return np.frombuffer(content, dtype="<f4").reshape(count, spec.WIDTH)


def _coded(values: list[str]) -> tuple[NDArray[np.int64], list[str]]:
    names: dict[str, int] = {}
    codes = np.array([names.setdefault(value, len(names)) for value in values], dtype=np.int64)
    return codes, list(names)
