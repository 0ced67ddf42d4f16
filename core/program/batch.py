"""A batch of payments as the columns that a program's code reads, each made when it is first asked for. Pure.

A column is 8-byte words with a validity mask: float64 for numbers, times (epoch ms) and bools (0 or 1), the bits of a
keyed hash for strings. Invalid is "missing".

Cost: a gather per code for features and kernel columns, and about 1 µs a batch for each other column; own fields and
fields that the kernel does not hash cost 0.1 µs per payment more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core import canonical
from core.canonical import Members
from core.currency import Rates
from core.events import ListEffect, ListKind
from core.features.columns import HASHED, Columns, TransactionLike
from core.features.remembered import CONFLICT
from core.hashing import HashKey, hash_strings
from core.program.characters import Characters
from core.program.checked import OwnField
from core.program.compiling import Bound, Code, structure
from core.program.evaluating import evaluate
from core.program.fields import STANDARD
from core.program.loops import fill_presence, gather
from core.program.typed import Aggregate, Column, Expression, Hit, Listed
from core.times import DAY_MS, HOUR_MS

MISSING = np.uint32(0x7FC00000)
"""A missing value in a float32 feature; a computed NaN is 0x7fc00001."""

_KINDS: dict[str, ListKind] = {field: kind for kind, field in canonical.FIELDS.items()}


class Words(NamedTuple):
    """A column: words float64 (n,), valid uint8 (n,)."""

    words: NDArray[np.float64]
    valid: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Leaves:
    """Where the columns of a code come from. gathered: leaves that are columns of the feature matrix, `places` their
    indices among the leaves, `columns` those in the matrix, both int64. computed: aggregates, by their index in the
    layout. characters: those that read characters. listed: memberships of lists, with their places and the
    rows of `Columns.hashes` of their fields. conflict: the place of `id_conflict`, or −1. others: all the rest.
    """

    count: int
    places: NDArray[np.int64]
    columns: NDArray[np.int64]
    computed: tuple[tuple[int, int], ...]
    characters: Characters
    listed: tuple[tuple[int, Listed], ...]
    listed_places: NDArray[np.int64]
    listed_hashes: NDArray[np.int64]
    conflict: int
    others: tuple[tuple[int, Expression], ...]


def leaves_of(
    code: Code, names: Mapping[str, int], aggregates: Mapping[tuple[object, ...], int], key: HashKey
) -> Leaves:
    """names: the matrix's columns by the names of features. aggregates: their places in the layout by their structure.
    key: the log's.
    """
    gathered: list[tuple[int, int]] = []
    computed: list[tuple[int, int]] = []
    listed: list[tuple[int, Listed]] = []
    conflict = -1
    others: list[tuple[int, Expression]] = []
    for place, leaf in enumerate(code.leaves):
        match leaf:
            case Column(_, "library" | "feature"):
                gathered.append((place, names[leaf.name]))
            case Column(_, "field", "id_conflict"):
                conflict = place
            case Aggregate():
                computed.append((place, aggregates[structure(leaf)]))
            case Listed():
                listed.append((place, leaf))
            case _:
                others.append((place, leaf))
    table = np.array(gathered, dtype=np.int64).reshape(-1, 2)
    return Leaves(
        len(code.leaves),
        table[:, 0].copy(),
        table[:, 1].copy(),
        tuple(computed),
        Characters(code.leaves, key),
        tuple(listed),
        np.array([place for place, _ in listed], dtype=np.int64),
        np.array([HASHED.index(leaf.value.name) for _, leaf in listed], dtype=np.int64),
        conflict,
        tuple(others),
    )


@dataclass(frozen=True, slots=True)
class Step:
    """A piece of code, bound, with where its columns come from."""

    bound: Bound
    leaves: Leaves

    def run(
        self,
        batch: Batch,
        rows: NDArray[np.int64],
        aggregates: Words | None = None,
        given: Mapping[Expression, Words] | None = None,
    ) -> Words:
        """Words (outputs, len(rows)) for some rows of the batch."""
        return self.evaluate(batch.fill(self.leaves, rows, aggregates, given))

    def evaluate(self, leaves: Words) -> Words:
        """Words (outputs, n) for the columns of its leaves."""
        return Words(*evaluate(self.bound, *leaves))


class Batch:
    """n payments. matrix: float32 (n, W), C-contiguous, and seen: uint8 (n,), what the kernel says of each ID; both are
    read when they are asked for, so they may still be filled. own: the program's fields.
    """

    def __init__(
        self,
        transactions: Sequence[TransactionLike],
        columns: Columns,
        matrix: NDArray[np.float32],
        seen: NDArray[np.uint8],
        lists: Mapping[tuple[ListKind, ListEffect], Members],
        rates: Rates,
        key: HashKey,
        own: Mapping[str, OwnField],
    ) -> None:
        self.transactions = transactions
        self.matrix = matrix
        self._columns = columns
        self.seen = seen
        self._own = own
        self._lists = lists
        self._rates = rates
        self._key = key
        self._known: dict[int, Words] = {}
        """By the identity of the leaf, which lives as long as the program."""
        self._texts: dict[str, list[str]] = {}
        self._forms: dict[ListKind, list[str]] = {}
        self._every = np.ones(len(transactions), dtype=np.uint8)
        self.owners = columns.owners
        self.all_rows = np.arange(len(transactions), dtype=np.int64)

    def under(self, own: Mapping[str, OwnField]) -> Batch:
        """The batch as a program with these fields reads it."""
        if own is self._own or own == self._own:
            return self
        return Batch(self.transactions, self._columns, self.matrix, self.seen, self._lists, self._rates, self._key, own)

    def fill(
        self,
        leaves: Leaves,
        rows: NDArray[np.int64],
        aggregates: Words | None = None,
        given: Mapping[Expression, Words] | None = None,
    ) -> Words:
        """The leaves' columns for some rows: words float64 (L, len(rows)), valid uint8 likewise.

        aggregates: words (A, len(rows)). given: columns of len(rows) that only the caller knows: outcomes and hits.
        """
        words = np.empty((leaves.count, len(rows)), dtype=np.float64)
        valid = np.empty((leaves.count, len(rows)), dtype=np.uint8)
        if len(leaves.places):
            self._gather(leaves, rows, words, valid)
        for place, index in leaves.computed:
            assert aggregates is not None
            words[place], valid[place] = aggregates.words[index], aggregates.valid[index]
        if leaves.listed:
            self._fill_lists(leaves, rows, words, valid)
        if leaves.conflict >= 0:
            words[leaves.conflict], valid[leaves.conflict] = self._conflicts()[rows], 1
        if leaves.characters.leaves and id(leaves.characters.leaves[0]) not in self._known:
            self._read_characters(leaves.characters)
        is_all = len(rows) == len(self.transactions)
        for place, leaf in leaves.others:
            if given is not None and (column := given.get(leaf)) is not None:
                words[place], valid[place] = column
                continue
            column = self._known.get(id(leaf))
            if column is None:
                column = self._known[id(leaf)] = self._made(leaf)
            words[place], valid[place] = column if is_all else (column.words[rows], column.valid[rows])
        return Words(words, valid)

    def _gather(
        self, leaves: Leaves, rows: NDArray[np.int64], words: NDArray[np.float64], valid: NDArray[np.uint8]
    ) -> None:
        gather(self.matrix, rows, leaves.columns, leaves.places, words, valid)

    def _conflicts(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.seen == CONFLICT
        return found

    def _made(self, leaf: Expression) -> Words:
        match leaf:
            case Column(_, "field", name):
                return self._own_field(name) if name in self._own else self._field(name)
            case Column(_, "outcome") | Hit():
                return self._none()
            case _:
                raise AssertionError(f"{leaf} is no leaf")

    def _read_characters(self, characters: Characters) -> None:
        texts = {column: self.texts(column.name) for column in characters.columns}
        words, valid = characters.evaluate(texts, len(self.transactions))
        self._known |= {id(leaf): Words(words[k], valid[k]) for k, leaf in enumerate(characters.leaves)}

    def _none(self) -> Words:
        return Words(np.zeros(len(self._every)), np.zeros(len(self._every), dtype=np.uint8))

    def _field(self, name: str) -> Words:
        cols = self._columns
        match name:
            case "amount":
                return Words(cols.amounts, self._every)
            case "amount_sent":
                return self._numbers([t.amount for t in self.transactions])
            case "occurred_at":
                return Words(cols.times.astype(np.float64), self._every)
            case "received_at":
                return Words(cols.received.astype(np.float64), self._every)
            case "hour":
                return Words(((cols.times // HOUR_MS) % 24).astype(np.float64), self._every)
            case "weekday":
                return Words(((cols.times // DAY_MS + 3) % 7).astype(np.float64), self._every)  # 1970-01-01: a Thursday
            case "currency_known":
                currencies = [t.currency for t in self.transactions]
                unknown = self._rates.unknown(currencies)
                return self._numbers([currency not in unknown for currency in currencies])
            case _:
                return self._hashed(self._hashes(name))

    def _numbers(self, values: Sequence[float]) -> Words:
        return Words(np.array(values, dtype=np.float64), self._every)

    def _hashes(self, name: str) -> NDArray[np.uint64]:
        """Of the canonical forms of a string field."""
        held = {
            "merchant_id": self._columns.merchants,
            "merchant_category": self._columns.categories,
            "country": self._columns.countries,
            "device_id": self._columns.devices,
        }
        return held[name] if name in held else hash_strings(self.texts(name), self._key)

    def _hashed(self, hashes: NDArray[np.uint64]) -> Words:
        return Words(hashes.view(np.float64), (hashes != 0).astype(np.uint8))

    def texts(self, name: str) -> list[str]:
        """The canonical forms of a string field; "" is missing."""
        if name not in self._texts:
            self._texts[name] = self._own_texts(name) if name in self._own else self._standard_texts(name)
        return self._texts[name]

    def _standard_texts(self, name: str) -> list[str]:
        values = [getattr(t, name) for t in self.transactions]
        match STANDARD[name].form:
            case "text":
                return canonical.texts(values)
            case "country":
                return canonical.forms("country", values)
            case "ip":
                return canonical.forms("ip", values)
            case "card":
                return canonical.forms("card", values)
            case _:
                return values

    def _own_texts(self, name: str) -> list[str]:
        field = self._own[name]
        default = field.default if isinstance(field.default, str) else ""
        found = (t.attributes.get(field.attribute, "") for t in self.transactions)
        return [(value if isinstance(value, str) else "") or default for value in found]

    def _own_field(self, name: str) -> Words:
        field = self._own[name]
        if field.type == "string":
            return self._hashed(hash_strings(self.texts(name), self._key))
        read: Callable[[float | str | None], float | None] = _truth if field.type == "bool" else _number
        found = [read(value) for value in self._attribute(field)]
        default = read(field.default) if field.default is not None else None
        values = [default if value is None else value for value in found]
        valid = np.array([value is not None for value in values], dtype=np.uint8)
        return Words(np.array([0.0 if value is None else value for value in values], dtype=np.float64), valid)

    def _attribute(self, field: OwnField) -> Iterable[float | str | bool | None]:
        return (t.attributes.get(field.attribute, field.default) for t in self.transactions)

    def _fill_lists(
        self, leaves: Leaves, rows: NDArray[np.int64], words: NDArray[np.float64], valid: NDArray[np.uint8]
    ) -> None:
        """Whether fields are on lists. Missing where the source sent none."""
        fill_presence(self._columns.hashes, leaves.listed_hashes, leaves.listed_places, rows, words, valid)
        if not self._lists:
            return
        for place, leaf in leaves.listed:
            kind = _KINDS[leaf.value.name]
            if members := self._lists.get((kind, leaf.effect)):  # type: ignore[arg-type]
                if kind not in self._forms:
                    values = [getattr(t, leaf.value.name) for t in self.transactions]
                    self._forms[kind] = canonical.forms(kind, values)
                found = [members.has(form) for form in self._forms[kind]]
                words[place] = np.array(found, dtype=np.float64)[rows]


def lacking(required: Mapping[str, OwnField], t: TransactionLike) -> str:
    """The first of the fields that the payment lacks, or has with another type; "" for none."""
    for name, field in required.items():
        value = t.attributes.get(field.attribute)
        match field.type:
            case "string":
                is_there = isinstance(value, str) and bool(value)
            case "bool":
                is_there = _truth(value) is not None
            case _:
                is_there = _number(value) is not None
        if not is_there:
            return name
    return ""


def _number(value: float | str | bool | None) -> float | None:
    return None if value is None or isinstance(value, str | bool) else float(value)


def _truth(value: float | str | bool | None) -> float | None:
    match value:
        case 1 | 1.0 | "true":
            return 1.0
        case 0 | 0.0 | "false":
            return 0.0
        case _:
            return None
