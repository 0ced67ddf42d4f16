"""Logged payments as the columns that a program's code reads: columns of the archive. Pure.

A string column is held as indices into its distinct values, and every function of a value is computed once for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from core.canonical import Members
from core.currency import Rates
from core.errors import BadInput, Corrupt
from core.hashing import HashKey, hash_strings
from core.jit import njit_unlocked
from core.log.archive.columns import feature_column
from core.nans import MISSING
from core.policy import DECISIONS
from core.program.checked import OwnField
from core.program.leaves import Attributes, LeafColumns, Leaves, Lists, forms_of
from projections.audit.stored_tables import Rows

_AS_SENT = ("account_id", "ip", "card_id")
"""Fields that count as sent whatever their canonical form is, as `core.features.columns` hashes them."""
_attributes = msgspec.json.Decoder(dict[str, float | str])


class NotStored(BadInput):
    """What a program reads is not stored with the scores: it must be decided again by a fold of the log."""


def column_of(place: int) -> str:
    """The column of a stored feature; below 0, of one that was computed (`projections.audit.column_fold`)."""
    return feature_column(place) if place >= 0 else f"computed_{-1 - place:03d}"


class StoredBatch(LeafColumns):
    """n logged payments. places: where their scores store the features that the program reads; conflicts: codes of the
    rule that says which IDs were in conflict. has_owners: whether a rule's roll-out needs the accounts.
    """

    unlocked = True

    def __init__(
        self,
        table: Rows,
        places: Mapping[int, int],
        lists: Lists,
        rates: Rates,
        key: HashKey,
        own: Mapping[str, OwnField],
        conflicts: Sequence[str] = (),
        has_owners: bool = False,
    ) -> None:
        self.column = table.column
        self.need = table.need
        self._places = places
        self._conflict = conflicts
        self._coded: dict[str, tuple[NDArray[np.int64], list[str]]] = {}
        self._parsed: list[Attributes] | None = None
        owners = np.zeros(len(table), dtype=np.uint64)
        if has_owners:
            owners = self._by_value("account_id", lambda values: hash_strings(values, key))
        super().__init__(len(table), owners, lists, rates, key, own)

    def codes(self, name: str) -> tuple[NDArray[np.int64], list[str]]:
        """A string column as indices (n,) into its distinct values; null is ""."""
        if name not in self._coded:
            self._coded[name] = coded(self.column(name))
        return self._coded[name]

    def _by_value(self, name: str, function: Callable[[list[str]], NDArray[Any]]) -> NDArray[Any]:
        codes, values = self.codes(name)
        return function(values)[codes]

    def _fill_known(
        self, leaves: Leaves, rows: NDArray[np.int64], words: NDArray[np.float64], valid: NDArray[np.uint8]
    ) -> None:
        whole = len(rows) == len(self.all_rows)
        for place, column in zip(leaves.places.tolist(), leaves.columns.tolist(), strict=True):
            values = self.column(column_of(self._places[column])).to_numpy()
            load(values if whole else values[rows], words[place], valid[place])
        for place, leaf in leaves.listed:
            name = leaf.value.name
            words[place], valid[place] = 0.0, self._by_value(name, partial(_present, name))[rows]
        if leaves.conflict >= 0:
            words[leaves.conflict], valid[leaves.conflict] = self._conflicts()[rows], 1

    def _conflicts(self) -> NDArray[np.bool_]:
        """(n,): whether the account has sent the ID before, with other content."""
        if not self._conflict:
            raise NotStored("a rule reads id_conflict, which the scores of this range don't tell")
        return self._by_value("rules", self._hit_on) | self._by_value("shadow_rules", self._hit_on)  # type: ignore[no-any-return]

    def _hit_on(self, rules: list[str]) -> NDArray[np.bool_]:
        return np.array([any(code in value.split(",") for code in self._conflict) for value in rules], dtype=np.bool_)

    def _numbers(self, name: str) -> NDArray[np.float64]:
        return self.amounts if name == "amount" else self.column("amount").to_numpy()

    @cached_property
    def amounts(self) -> NDArray[np.float64]:
        """(n,), in the base currency."""
        return self.column("amount").to_numpy() * self.column("rate").to_numpy()  # type: ignore[no-any-return]

    def _times(self, name: str) -> NDArray[np.int64]:
        return self.column(name).cast(pa.int64()).to_numpy()  # type: ignore[no-any-return]

    def _hashes(self, name: str) -> NDArray[np.uint64]:
        return self._by_value(name, lambda values: hash_strings(forms_of(name, values), self._key))

    def _standard_texts(self, name: str) -> list[str]:
        codes, values = self.codes(name)
        forms = forms_of(name, values)
        return [forms[code] for code in codes.tolist()]

    def _attributes(self) -> Sequence[Attributes]:
        if self._parsed is None:
            codes, values = self.codes("attributes")
            parsed = [_attributes.decode(value) if value else {} for value in values]
            self._parsed = [parsed[code] for code in codes.tolist()]
        return self._parsed

    def _listed(self, name: str, members: Members) -> NDArray[np.float64]:
        def listed(values: list[str]) -> NDArray[np.float64]:
            return np.array(list(map(members.has, forms_of(name, values))), dtype=np.float64)

        return self._by_value(name, listed)


def coded(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[str]]:
    """A string column as indices (n,) into its distinct values; null is ""."""
    known: dict[str, int] = {}
    out = np.empty(len(column), dtype=np.int64)
    for begin, indices, values in _chunks(column):
        table = np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)
        spread(table, indices, out[begin : begin + len(indices)])
    return out, list(known)


def mapped(column: pa.ChunkedArray, names: Sequence[str], kind: Any) -> NDArray[Any]:
    """A string column as places among names, of the type `kind`; −1 for what is none of them, such as null."""
    out = np.empty(len(column), dtype=kind)
    for begin, indices, values in _chunks(column):
        table = np.array([names.index(value) if value in names else -1 for value in values], dtype=np.int64)
        spread(table.astype(kind), indices, out[begin : begin + len(indices)])
    return out


def decisions_of(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    """A column of decisions as places in policy.DECISIONS: uint8 (n,). Raises Corrupt for what is none."""
    found: NDArray[np.uint8] = mapped(column, DECISIONS, np.uint8)
    if len(found) and found.max() >= len(DECISIONS):
        raise Corrupt("a column of the archive holds a decision that is none")
    return found


def _chunks(column: pa.ChunkedArray) -> Iterator[tuple[int, NDArray[np.int32], list[str]]]:
    """The parts of a string column: first row, indices (n,) and the values that they stand for, which may repeat."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    begin = 0
    for chunk in column.chunks:
        indices, values = chunk.indices, [value or "" for value in chunk.dictionary.to_pylist()]
        if indices.null_count:
            indices, values = indices.fill_null(len(values)), [*values, ""]
        if len(indices):
            plain = indices.to_numpy(zero_copy_only=False)
            if plain.view(np.uint32).max() >= len(values):  # `spread` trusts them
                raise Corrupt("a column of the archive names values that it does not hold")
            yield begin, plain, values
        begin += len(indices)


def _present(name: str, values: list[str]) -> NDArray[np.uint8]:
    kept = values if name in _AS_SENT else forms_of(name, values)
    return np.array([value != "" for value in kept], dtype=np.uint8)


@njit_unlocked
def spread(table: NDArray[Any], indices: NDArray[np.int32], out: NDArray[Any]) -> None:
    """out[i] = table[indices[i]]"""
    for i in range(indices.shape[0]):
        out[i] = table[np.uint32(indices[i])]


@njit_unlocked
def load(values: NDArray[np.float32], words: NDArray[np.float64], valid: NDArray[np.uint8]) -> None:
    """A stored feature as a column of a leaf."""
    bits = values.view(np.uint32)
    for i in range(values.shape[0]):
        missing = bits[i] == MISSING
        valid[i] = np.uint8(0) if missing else np.uint8(1)
        words[i] = 0.0 if missing else np.float64(values[i])
