"""Which state the aggregates of a program need, and where it lies in an account's record of 8-byte words. Pure data.

    aggregates ──► cells, shared where their state is equal ──► word offsets, and tables for core.program.folding

A cell is one piece of state of one entity: a ring of buckets, the latest or earliest event, a decayed mean, a typical
value, or a list of recent values. Cells are shared by equal entity, condition and, where a value may be missing, value;
rings also by bucket width and number of buckets. A ring is not shared by windows of different length: a late event may
come too late for the shorter one only, and a feature's value must not depend on what else a program asks for. A ring
holds the union of what its readers need. The record's form follows from the set of cells alone, not from their order.

A local entity (the account and more fields) has its cells in one of ENTRIES entries of a table in the record, found by
its key; a new one takes the place of the least recently used, whose state is forgotten: it then reads as "no events".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from core.program import tables as t
from core.program.fields import STANDARD
from core.program.typed import Aggregate, Apply, Column, Constant, Expression, Hit, Listed
from core.program.windows import buckets

ENTRIES = 16
"""Local entities that an account remembers for each kind of entity. Part of what aggregates mean."""

_FORMAT = 1
"""Of the record and its cells; part of the digest."""

_RING_FUNCTIONS = {
    "count": (t.READ_COUNT, None),
    "sum": (t.READ_SUM, t.SUM),
    "mean": (t.READ_MEAN, t.SUM),
    "min": (t.READ_MIN, t.MIN),
    "max": (t.READ_MAX, t.MAX),
    "std": (t.READ_STD, t.MOMENTS),
    "distinct": (t.READ_DISTINCT, t.DISTINCT),
}
_OTHER_FUNCTIONS = {
    "first": (t.EARLIEST, t.READ_VALUE),
    "last": (t.LATEST, t.READ_VALUE),
    "since": (t.LATEST, t.READ_SINCE),
    "decayed": (t.DECAYED, t.READ_DECAYED),
    "typical": (t.TYPICAL, t.READ_TYPICAL),
    "is_new": (t.RECENT, t.READ_NEW),
}
_PART_WORDS = {t.MOMENTS: 2}
_KIND_NAMES = ("ring", "latest", "earliest", "decayed", "typical", "recent")
_PART_NAMES = ("sum", "min", "max", "moments", "distinct", "value")


def text_of(expression: Expression | None) -> str:
    """A text that two expressions share only if they are the same to the last bit; "" for None."""
    match expression:
        case None:
            return ""
        case Constant(kind, value):
            return f"{kind}:{value!r}"
        case Column(kind, source, name, form):
            return f"{source}.{name}:{kind}:{form}"
        case Apply(_, operation, arguments):
            return f"{operation}({','.join(map(text_of, arguments))})"
        case Listed(column, effect):
            return f"listed({text_of(column)},{effect!r})"
        case Hit(code):
            return f"hit({code!r})"
        case Aggregate():
            raise ValueError("an aggregate over aggregates has no state: only events' own values can be folded")


def _always_there(value: Expression) -> bool:
    """Whether no event can lack the value: then it shares the cells of aggregates without a value."""
    match value:
        case Constant():
            return True
        case Column("number" | "time" | "bool", "field", name):
            return name in STANDARD
        case _:
            return False


class _Cell:
    """One piece of state. parts: (kind, text of the value) → value. readers: (function, part, place of the output)."""

    def __init__(self, kind: int, condition: Expression | None, value: Expression | None, numbers: tuple[int, ...]):
        self.kind = kind
        self.condition = condition
        self.presence = None if value is None or _always_there(value) else value
        self.numbers = numbers
        self.parts: dict[tuple[int, str], Expression] = {}
        self.readers: list[tuple[int, tuple[int, str] | None, int]] = []
        self.head = self.body = 0

    @property
    def stride(self) -> int:
        """Words of a bucket: its epoch and count in one, then its parts."""
        return 1 + sum(_PART_WORDS.get(kind, 1) for kind, _ in self.parts)

    @property
    def sizes(self) -> tuple[int, int]:
        """Words of the head and of the body. The heads of all cells lie together, since all of them are read."""
        match self.kind:
            case t.RING:  # newest epoch, and a bit for each bucket in use
                return 1 + -(-self.numbers[1] // 64), self.numbers[1] * self.stride
            case t.LATEST | t.EARLIEST:  # time, values
                return 1 + len(self.parts), 0
            case t.DECAYED:  # time, weight, mean
                return 3, 0
            case t.TYPICAL:  # how many, value
                return 2, 0
            case _:  # keys
                return self.numbers[0], 0

    def offsets(self) -> dict[tuple[int, str], int]:
        """Where each part lies: in a bucket, or in the head. Sorted, so that the order of aggregates does not count."""
        at, out = 1, {}
        for part in sorted(self.parts):
            out[part] = at
            at += _PART_WORDS.get(part[0], 1)
        return out

    def describe(self) -> str:
        parts = " ".join(f"{_PART_NAMES[kind]}[{text}]@{at}" for (kind, text), at in self.offsets().items())
        what = f"{_KIND_NAMES[self.kind]}({','.join(map(str, self.numbers))})"
        return f"{what} if[{text_of(self.condition)}] has[{text_of(self.presence)}] {parts}"


_Key = tuple[int, tuple[int, ...], str, str, str]


@dataclass
class _Group:
    """The cells of one entity, of payments or of verdicts."""

    entity: tuple[str, ...]
    on_verdicts: bool
    cells: dict[_Key, _Cell] = field(default_factory=dict)
    shares: list[tuple[_Cell, _Cell, int]] = field(default_factory=list)
    base: int = 0
    events: int = 0
    words: int = 0

    def cell(self, kind: int, aggregate: Aggregate, numbers: tuple[int, ...], value: Expression | None) -> _Cell:
        """The cell for an aggregate. value: what must be there for an event to count."""
        made = _Cell(kind, aggregate.condition, value, numbers)
        own = text_of(value) if kind in (t.DECAYED, t.TYPICAL, t.RECENT) else ""
        key = (kind, numbers, text_of(made.condition), text_of(made.presence), own)
        return self.cells.setdefault(key, made)

    def place(self, start: int) -> int:
        """Put the cells behind each other from a word on; returns the word after them."""
        self.events, at = start, start + 1
        self.cells = {key: self.cells[key] for key in sorted(self.cells)}
        for cell in self.cells.values():
            cell.head = at
            at += cell.sizes[0]
        for cell in self.cells.values():
            cell.body = at
            at += cell.sizes[1]
        return at

    def describe(self, fields: Mapping[str, Column]) -> list[str]:
        name = ",".join(text_of(fields[name]) for name in self.entity) or "account"
        head = f"{name}{' verdicts' if self.on_verdicts else ''} @{self.base} events@{self.events} words={self.words}"
        return [head, *(f"  {cell.describe()} @{cell.head} @{cell.body}" for cell in self.cells.values())]


def _add(group: _Group, aggregate: Aggregate, place: int) -> None:
    """Add what an aggregate needs to its group's cells."""
    name, value = aggregate.function, aggregate.value
    if name in _RING_FUNCTIONS or name == "share":
        numbers: tuple[int, ...] = buckets(aggregate.window_ms)
        cell = group.cell(t.RING, aggregate, numbers, None if name in ("share", "distinct") else value)
        if name == "share":
            whole = Aggregate("number", "count", aggregate.entity, aggregate.window_ms)
            group.shares.append((cell, group.cell(t.RING, whole, numbers, None), place))
            return
        function, part_kind = _RING_FUNCTIONS[name]
    elif name in _OTHER_FUNCTIONS:
        kind, function = _OTHER_FUNCTIONS[name]
        numbers = (aggregate.window_ms,) if name == "decayed" else (aggregate.size,) if name == "is_new" else ()
        if numbers and numbers[0] <= 0:
            raise ValueError(f"{name} needs a number above 0, not {numbers[0]}")
        cell = group.cell(kind, aggregate, numbers, value)
        part_kind = None if name == "since" else t.VALUE
    else:
        raise ValueError(f"no function of aggregates is called {name!r}")
    part = None
    if part_kind is not None:
        if value is None:
            raise ValueError(f"{name} needs a value")
        part = (part_kind, text_of(value))
        cell.parts[part] = value
    cell.readers.append((function, part, place))


class _Inputs:
    """Distinct expressions in order of their texts."""

    def __init__(self, expressions: Iterable[Expression | None]) -> None:
        held = {text_of(each): each for each in expressions if each is not None}
        self.expressions = tuple(held[text] for text in sorted(held))
        self._places = {text: place for place, text in enumerate(sorted(held))}

    def place(self, expression: Expression | None) -> int:
        """Its row among the inputs, −1 for None."""
        return -1 if expression is None else self._places[text_of(expression)]


@dataclass(frozen=True, eq=False)
class Layout:
    """The state of some aggregates.

    inputs: what to evaluate of a payment, as rows of uint64 (len(inputs), n), see core.program.folding. own: those of
    them that reading needs; the others only matter once the payment is folded, so they may depend on how it was
    decided. verdict_inputs: the same of a verdict. words: of an account's record, 8 bytes each. table: int64
    (rows, COLUMNS), see core.program.tables. digest: SHA-256 of the record's form, in hexadecimal digits; equal for
    equal sets of cells, whatever reads them.
    """

    aggregates: tuple[Aggregate, ...]
    inputs: tuple[Expression, ...]
    own: tuple[int, ...]
    verdict_inputs: tuple[Expression, ...]
    words: int
    description: tuple[str, ...]
    table: NDArray[np.int64]
    digest: str

    @property
    def bytes_account(self) -> int:
        """Bytes of an account's record."""
        return 8 * self.words

    @classmethod
    def of(cls, aggregates: Sequence[Aggregate], fields: Mapping[str, Column] | None = None) -> Layout:
        """The layout of aggregates; output i is that of aggregates[i]. fields: the columns of entities' key fields that
        are no standard ones; one that is not given is an own field of type string.

        Raises BadInput for a window that cannot be divided into buckets, ValueError for what is no aggregate.
        """
        groups: dict[tuple[tuple[str, ...], bool], _Group] = {}
        for place, aggregate in enumerate(aggregates):
            key = (aggregate.entity, aggregate.on_verdicts)
            _add(groups.setdefault(key, _Group(*key)), aggregate, place)
        columns = {name: (fields or {}).get(name) or _field(name) for entity, _ in groups for name in entity}
        ordered = [groups[key] for key in sorted(groups)]
        words = _placed(ordered)
        description = (
            f"format {_FORMAT}, {words} words",
            *(line for group in ordered for line in group.describe(columns)),
        )
        payment = _Inputs(_needed(ordered, columns, on_verdicts=False))
        verdict = _Inputs(_needed(ordered, columns, on_verdicts=True))
        return cls(
            aggregates=tuple(aggregates),
            inputs=payment.expressions,
            own=tuple(sorted({payment.place(each) for each in _read_at_once(ordered, columns)})),
            verdict_inputs=verdict.expressions,
            words=words,
            description=description,
            table=_table(ordered, columns, payment, verdict, len(aggregates)),
            digest=hashlib.sha256("\n".join(description).encode()).hexdigest(),
        )


def _field(name: str) -> Column:
    """A key field of an entity as an expression; a field that is not a standard one is an own field, a string."""
    known = STANDARD.get(name)
    return Column(known.type, "field", name, known.form) if known else Column("string", "field", name, "raw")


def _placed(groups: Sequence[_Group]) -> int:
    """Give every group and cell its words; returns the words of a record. Account first, then tables of entities: a
    counter, ENTRIES keys, ENTRIES times of last use, and the entries.
    """
    at = 0
    for group in groups:
        if group.entity:
            group.base = at
            group.words = group.place(0)
            at += 1 + 2 * ENTRIES + ENTRIES * group.words
        else:
            at = group.place(at)
            group.words = at
    return at


def _read_at_once(groups: Sequence[_Group], fields: Mapping[str, Column]) -> list[Expression]:
    """What reading needs of a payment: the keys of its entities, and the values that may be new."""
    recent = [cell for group in groups for cell in group.cells.values() if cell.kind == t.RECENT]
    return [fields[name] for group in groups for name in group.entity] + [
        value for cell in recent for value in cell.parts.values()
    ]


def _needed(groups: Sequence[_Group], fields: Mapping[str, Column], *, on_verdicts: bool) -> list[Expression | None]:
    mine = [group for group in groups if group.on_verdicts == on_verdicts]
    out: list[Expression | None] = [fields[name] for group in mine for name in group.entity]
    for cell in (cell for group in mine for cell in group.cells.values()):
        out += [cell.condition, cell.presence, *cell.parts.values()]
    return out if on_verdicts else out + list(_read_at_once(groups, fields))


def _table(
    groups: Sequence[_Group], fields: Mapping[str, Column], payment: _Inputs, verdict: _Inputs, outputs: int
) -> NDArray[np.int64]:
    """The layout as numbers, in the form of `core.program.tables`."""
    sections: list[list[list[int]]] = [[] for _ in range(t.END)]
    clocks = sorted({cell.numbers for group in groups for cell in group.cells.values() if cell.kind == t.RING})
    sections[t.CLOCKS] = [list(clock) for clock in clocks]
    gates: dict[tuple[bool, int, int], int] = {}
    numbers: dict[int, int] = {}
    for group in groups:
        inputs = verdict if group.on_verdicts else payment
        row = [int(group.on_verdicts), len(sections[t.KEYS]), len(sections[t.KEYS]) + len(group.entity), group.base]
        row += [ENTRIES if group.entity else 0, group.words, group.events]
        for name in group.entity:
            of_verdict = verdict.place(fields[name]) if group.on_verdicts else -1
            sections[t.KEYS].append([payment.place(fields[name]), of_verdict, _form(fields[name])])
        row += [len(sections[t.CELLS]), len(sections[t.CELLS]) + len(group.cells)]
        for cell in group.cells.values():
            gate = (group.on_verdicts, inputs.place(cell.condition), inputs.place(cell.presence))
            numbers[id(cell)] = len(sections[t.CELLS])
            row_of_cell = [cell.kind, gates.setdefault(gate, len(gates)), cell.head, cell.body, cell.stride]
            row_of_cell.append(t.CLOCK_WORDS * clocks.index(cell.numbers) if cell.kind == t.RING else -1)
            row_of_cell.append(cell.numbers[-1] if cell.numbers else 0)
            sections[t.CELLS].append(row_of_cell + _parts_and_reads(sections, cell, inputs, payment))
        row += [len(sections[t.SHARES]), len(sections[t.SHARES]) + len(group.shares)]
        sections[t.SHARES] += [[numbers[id(part)], numbers[id(whole)], place] for part, whole, place in group.shares]
        sections[t.GROUPS].append(row)
    sections[t.GATES] = [[condition, presence, int(on_verdicts)] for on_verdicts, condition, presence in gates]
    table = _joined(sections)
    table[0, t.INPUTS], table[0, t.VERDICT_INPUTS] = len(payment.expressions), len(verdict.expressions)
    table[0, t.OUTPUTS] = outputs
    return table


def _parts_and_reads(sections: list[list[list[int]]], cell: _Cell, inputs: _Inputs, payment: _Inputs) -> list[int]:
    """Add a cell's parts and readers; returns where they begin and end."""
    offsets = cell.offsets()
    begin = len(sections[t.PARTS]), len(sections[t.READS])
    for part, offset in offsets.items():
        value = cell.parts[part]
        sections[t.PARTS].append([part[0], inputs.place(value), offset, _form(value)])
    for function, read, place in sorted(cell.readers, key=lambda each: (each[1] or (-1, ""), each[0], each[2])):
        if read is None:
            sections[t.READS].append([function, 0, place])
            continue
        value = cell.parts[read]
        own = payment.place(value) if cell.kind == t.RECENT else -1
        sections[t.READS].append([function, offsets[read], place, _form(value), own])
    return [begin[0], len(sections[t.PARTS]), begin[1], len(sections[t.READS])]


_REFERENCES = (
    (t.GROUPS, t.GROUP_KEYS, t.KEYS),
    (t.GROUPS, t.GROUP_KEYS_END, t.KEYS),
    (t.GROUPS, t.GROUP_CELLS, t.CELLS),
    (t.GROUPS, t.GROUP_CELLS_END, t.CELLS),
    (t.GROUPS, t.GROUP_SHARES, t.SHARES),
    (t.GROUPS, t.GROUP_SHARES_END, t.SHARES),
    (t.CELLS, t.CELL_PARTS, t.PARTS),
    (t.CELLS, t.CELL_PARTS_END, t.PARTS),
    (t.CELLS, t.CELL_READS, t.READS),
    (t.CELLS, t.CELL_READS_END, t.READS),
)
"""Which columns are rows of other sections."""


def _form(value: Expression) -> int:
    return t.STRING if value.type == "string" else t.NUMBER if value.type == "number" else t.OTHER


def _joined(sections: list[list[list[int]]]) -> NDArray[np.int64]:
    starts = [1]
    for section in sections:
        starts.append(starts[-1] + len(section))
    table = np.zeros((starts[-1], t.COLUMNS), dtype=np.int64)
    table[0, : t.END + 1] = np.array(starts) * t.COLUMNS
    table[0, t.LONGEST] = max((row[1] for row in sections[t.CLOCKS]), default=1)
    for number, (begin, end) in enumerate(pairwise(starts)):
        for at, row in zip(range(begin, end), sections[number], strict=True):
            table[at, : len(row)] = row
    for owner, column, target in _REFERENCES:
        rows = table[starts[owner] : starts[owner + 1]]
        rows[:, column] = (rows[:, column] + starts[target]) * t.COLUMNS
    return table
