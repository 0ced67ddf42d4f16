"""The columns that a program's code reads, each made when it is first asked for: what is the same whether payments are
decided live (`core.program.batch`) or were logged (`projections.audit.stored_batch`). Pure.

A column is 8-byte words with a validity mask: float64 for numbers, times (epoch ms) and bools (0 or 1), the bits of a
keyed hash for strings. Invalid is "missing".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core import canonical
from core.canonical import Members
from core.currency import Rates
from core.events import ListEffect, ListKind
from core.features.columns import HASHED
from core.hashing import HashKey, hash_strings
from core.program.characters import Characters
from core.program.checked import OwnField
from core.program.compiling import Bound, Code, structure
from core.program.evaluating import evaluate
from core.program.fields import STANDARD
from core.program.typed import Aggregate, Column, Expression, Hit, Listed
from core.times import DAY_MS, HOUR_MS

KINDS: dict[str, ListKind] = {field: kind for kind, field in canonical.FIELDS.items()}
"""What kind of values the lists of a field hold."""

Lists = Mapping[tuple[ListKind, ListEffect], Members]
Attributes = Mapping[str, float | str]


class Words(NamedTuple):
    """A column: words float64 (n,), valid uint8 (n,)."""

    words: NDArray[np.float64]
    valid: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Leaves:
    """Where the columns of a code come from. gathered: leaves that are columns of the feature matrix, `places` their
    indices among the leaves, `columns` those in the matrix, both int64. computed: aggregates, by their index in the
    layout. characters: those that read characters. listed: memberships of lists, with their places and the
    rows of `Columns.hashes` of their fields. conflict: the place of `id_conflict`, or −1. outcomes: of what was
    decided, which only the caller of `fill` knows. others: all the rest.
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
    outcomes: tuple[tuple[int, Expression], ...]
    others: tuple[tuple[int, Expression], ...]

    @property
    def has_known(self) -> bool:
        """Whether any is of the matrix or of lists, or `id_conflict`."""
        return bool(len(self.places) or self.listed or self.conflict >= 0)


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
    outcomes: list[tuple[int, Expression]] = []
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
            case Hit() | Column(_, "outcome"):
                outcomes.append((place, leaf))
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
        tuple(outcomes),
        tuple(others),
    )


@dataclass(frozen=True, slots=True)
class Step:
    """A piece of code, bound, with where its columns come from."""

    bound: Bound
    leaves: Leaves

    def run(
        self,
        batch: LeafColumns,
        rows: NDArray[np.int64],
        aggregates: Words | None = None,
        given: Mapping[Expression, Words] | None = None,
    ) -> Words:
        """Words (outputs, len(rows)) for some rows of a batch."""
        return self.evaluate(batch.fill(self.leaves, rows, aggregates, given), unlocked=batch.unlocked)

    def evaluate(self, leaves: Words, *, unlocked: bool = False) -> Words:
        """Words (outputs, n) for the columns of its leaves."""
        return Words(*evaluate(self.bound, *leaves, unlocked=unlocked))


class LeafColumns(ABC):
    """n payments. What differs is how their fields are held: see the abstract methods.

    owners: uint64 (n,), the accounts' hashes. own: the program's fields. unlocked: evaluate while other threads run.
    """

    unlocked = False

    def __init__(
        self,
        count: int,
        owners: NDArray[np.uint64],
        lists: Lists,
        rates: Rates,
        key: HashKey,
        own: Mapping[str, OwnField],
    ) -> None:
        self.owners = owners
        self.all_rows = np.arange(count, dtype=np.int64)
        self._lists = lists
        self._rates = rates
        self._key = key
        self._own = own
        self._every = np.ones(count, dtype=np.uint8)
        self._known: dict[int, Words] = {}
        """By the identity of the leaf, which lives as long as the program."""
        self._texts: dict[str, list[str]] = {}
        self._attributes_known: Sequence[Attributes] | None = None

    @abstractmethod
    def _fill_known(
        self, leaves: Leaves, rows: NDArray[np.int64], words: NDArray[np.float64], valid: NDArray[np.uint8]
    ) -> None:
        """Fill the leaves that are columns of the feature matrix; those that ask about lists with 0, missing where the
        source sent no value; and `id_conflict`.
        """

    @abstractmethod
    def _numbers(self, name: str) -> NDArray[np.float64]:
        """(n,): `amount` or `amount_sent`."""

    @abstractmethod
    def _times(self, name: str) -> NDArray[np.int64]:
        """(n,), epoch ms: `occurred_at` or `received_at`."""

    @abstractmethod
    def _by_value(self, name: str, function: Callable[[list[str]], NDArray[Any]]) -> NDArray[Any]:
        """(n,): what a function gives for the values of a string field as the source sent them; "" is missing."""

    @abstractmethod
    def _hashes(self, name: str) -> NDArray[np.uint64]:
        """(n,): keyed hashes of the canonical forms of a standard string field; 0 is missing."""

    @abstractmethod
    def _standard_texts(self, name: str) -> list[str]:
        """The canonical forms of a standard string field; "" is missing."""

    @abstractmethod
    def _attributes(self) -> Sequence[Attributes]:
        """What the source sent beside the standard fields."""

    @abstractmethod
    def _listed(self, name: str, members: Members) -> NDArray[np.float64]:
        """(n,): 1.0 where the list holds the field's value."""

    def ones(self, count: int) -> NDArray[np.uint8]:
        """As a column's validity: `count` rows of the batch, all there. Not to be changed."""
        return self._every[:count]

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
        if leaves.has_known:
            self._fill_known(leaves, rows, words, valid)
        for place, index in leaves.computed:
            assert aggregates is not None
            words[place], valid[place] = aggregates.words[index], aggregates.valid[index]
        if leaves.listed and self._lists:
            self._fill_lists(leaves, rows, words)
        if leaves.characters.leaves and id(leaves.characters.leaves[0]) not in self._known:
            self._read_characters(leaves.characters)
        for place, leaf in leaves.outcomes:
            column = None if given is None else given.get(leaf)
            words[place], valid[place] = (0.0, 0) if column is None else column
        is_all = len(rows) == len(self._every)
        for place, leaf in leaves.others:
            column = self._known.get(id(leaf))
            if column is None:
                column = self._known[id(leaf)] = self._made(leaf)
            words[place], valid[place] = column if is_all else (column.words[rows], column.valid[rows])
        return Words(words, valid)

    def _fill_lists(self, leaves: Leaves, rows: NDArray[np.int64], words: NDArray[np.float64]) -> None:
        for place, leaf in leaves.listed:
            if members := self._lists.get((KINDS[leaf.value.name], leaf.effect)):  # type: ignore[arg-type]
                words[place] = self._listed(leaf.value.name, members)[rows]

    def _read_characters(self, characters: Characters) -> None:
        texts = {column: self.texts(column.name) for column in characters.columns}
        words, valid = characters.evaluate(texts, len(self._every))
        self._known |= {id(leaf): Words(words[k], valid[k]) for k, leaf in enumerate(characters.leaves)}

    def _made(self, leaf: Expression) -> Words:
        match leaf:
            case Column(_, "field", name):
                return self._own_field(name) if name in self._own else self._field(name)
            case _:
                raise AssertionError(f"{leaf} is no leaf")

    def _field(self, name: str) -> Words:
        match name:
            case "amount" | "amount_sent":
                return Words(self._numbers(name), self._every)
            case "occurred_at" | "received_at":
                return Words(self._times(name).astype(np.float64), self._every)
            case "hour":
                return Words(((self._times("occurred_at") // HOUR_MS) % 24).astype(np.float64), self._every)
            case "weekday":  # 1970-01-01: a Thursday
                return Words(((self._times("occurred_at") // DAY_MS + 3) % 7).astype(np.float64), self._every)
            case "currency_known":
                return Words(self._by_value("currency", self._known_currencies), self._every)
            case _:
                return _hashed(self._hashes(name))

    def _known_currencies(self, currencies: list[str]) -> NDArray[np.float64]:
        unknown = self._rates.unknown(currencies)
        if not unknown:
            return np.ones(len(currencies))
        return np.array([currency not in unknown for currency in currencies], dtype=np.float64)

    def texts(self, name: str) -> list[str]:
        """The canonical forms of a string field; "" is missing."""
        if name not in self._texts:
            self._texts[name] = self._own_texts(name) if name in self._own else self._standard_texts(name)
        return self._texts[name]

    def _own_texts(self, name: str) -> list[str]:
        field = self._own[name]
        default = field.default if isinstance(field.default, str) else ""
        found = [attributes.get(field.attribute, "") for attributes in self._sent_attributes()]
        return [(value if isinstance(value, str) else "") or default for value in found]

    def _own_field(self, name: str) -> Words:
        field = self._own[name]
        if field.type == "string":
            return _hashed(hash_strings(self.texts(name), self._key))
        sent = [attributes.get(field.attribute) for attributes in self._sent_attributes()]
        read = READERS[field.type]
        default = read(field.default) if field.default is not None else None
        if field.type == "number" and not {*map(type, sent)} - _PLAIN:  # usually, and three times as fast
            words = np.array(sent, dtype=np.float64)
            is_missing = np.isnan(words)
            if np.count_nonzero(is_missing) == sent.count(None):
                words[is_missing] = 0.0 if default is None else default
                return Words(words, self._every if default is not None else (~is_missing).astype(np.uint8))
        found = [read(field.default if value is None else value) for value in sent]
        values = [default if value is None else value for value in found]
        valid = np.array([value is not None for value in values], dtype=np.uint8)
        return Words(np.array([0.0 if value is None else value for value in values], dtype=np.float64), valid)

    def _sent_attributes(self) -> Sequence[Attributes]:
        if self._attributes_known is None:
            self._attributes_known = self._attributes()
        return self._attributes_known


_PLAIN = {float, type(None)}


def forms_of(name: str, values: list[str]) -> list[str]:
    """The canonical forms of a standard string field's values."""
    return canonical.in_form(STANDARD[name].form, values)


def _hashed(hashes: NDArray[np.uint64]) -> Words:
    return Words(hashes.view(np.float64), (hashes != 0).astype(np.uint8))


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


READERS: dict[str, Callable[[float | str | bool | None], float | None]] = {
    "number": _number,
    "time": _number,
    "bool": _truth,
}
"""An own field's value as its type has it, by the types that aren't text; None if it is none. Times are epoch ms."""
