"""Payments that are being decided, as the columns that a program's code reads. Pure.

Cost: a gather per code for features and kernel columns, and about 1 µs a batch for each other column; own fields and
fields that the kernel does not hash cost 0.1 µs per payment more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.canonical import Members
from core.currency import Rates
from core.features.columns import Columns, TransactionLike
from core.hashing import HashKey, hash_strings
from core.program.checked import OwnField
from core.program.leaves import READERS, Attributes, LeafColumns, Leaves, Lists, forms_of
from core.program.loops import fill


class Batch(LeafColumns):
    """n payments. matrix: float32 (n, W), C-contiguous, and seen: uint8 (n,), what the kernel says of each ID; both are
    read when they are asked for, so they may still be filled. own: the program's fields.
    """

    def __init__(
        self,
        transactions: Sequence[TransactionLike],
        columns: Columns,
        matrix: NDArray[np.float32],
        seen: NDArray[np.uint8],
        lists: Lists,
        rates: Rates,
        key: HashKey,
        own: Mapping[str, OwnField],
    ) -> None:
        super().__init__(len(transactions), columns.owners, lists, rates, key, own)
        self.transactions = transactions
        self.matrix = matrix
        self.seen = seen
        self._columns = columns

    def under(self, own: Mapping[str, OwnField]) -> Batch:
        """The batch as a program with these fields reads it."""
        if own is self._own or own == self._own:
            return self
        return Batch(self.transactions, self._columns, self.matrix, self.seen, self._lists, self._rates, self._key, own)

    def _fill_known(
        self, leaves: Leaves, rows: NDArray[np.int64], words: NDArray[np.float64], valid: NDArray[np.uint8]
    ) -> None:
        fill(
            self.matrix, self.seen, self._columns.hashes, rows, leaves.columns, leaves.places, leaves.listed_hashes,
            leaves.listed_places, leaves.conflict, words, valid,
        )  # fmt: skip

    def _numbers(self, name: str) -> NDArray[np.float64]:
        if name == "amount":
            return self._columns.amounts
        return np.array([t.amount for t in self.transactions], dtype=np.float64)

    def _times(self, name: str) -> NDArray[np.int64]:
        return self._columns.times if name == "occurred_at" else self._columns.received

    def _sent(self, name: str) -> list[str]:
        return [getattr(t, name) for t in self.transactions]

    def _by_value(self, name: str, function: Callable[[list[str]], NDArray[Any]]) -> NDArray[Any]:
        return function(self._sent(name))

    def _hashes(self, name: str) -> NDArray[np.uint64]:
        match name:
            case "merchant_id":
                return self._columns.merchants
            case "merchant_category":
                return self._columns.categories
            case "country":
                return self._columns.countries
            case "device_id":
                return self._columns.devices
            case _:
                return hash_strings(self.texts(name), self._key)

    def _standard_texts(self, name: str) -> list[str]:
        return forms_of(name, self._sent(name))

    def _attributes(self) -> Sequence[Attributes]:
        return [t.attributes for t in self.transactions]

    def _listed(self, name: str, members: Members) -> NDArray[np.float64]:
        return np.array(list(map(members.has, self.texts(name))), dtype=np.float64)


def lacking(required: Mapping[str, OwnField], t: TransactionLike) -> str:
    """The first of the fields that the payment lacks, or has with another type; "" for none."""
    for name, field in required.items():
        value = t.attributes.get(field.attribute)
        match field.type:
            case "string":
                is_there = isinstance(value, str) and bool(value)
            case kind:
                is_there = READERS[kind](value) is not None
        if not is_there:
            return name
    return ""
