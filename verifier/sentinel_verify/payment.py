"""What a program reads of one payment: its fields, its stored features, parameters, lists and outcomes."""

import base64
import math
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from .errors import NotRecomputed, Refused
from .forms import in_form
from .language import Expression
from .program import COLUMNS, Program, inlined
from .record import Json
from .settings import KINDS, Settings
from .values import UNKNOWN, Value, settled, value_of

MISSING = 0x7FC00000
"""The bits of a float32 that is missing; every other NaN was computed."""


class Past(NamedTuple):
    """What is known before the decision. columns: of the engine, by name. aggregates: their values, and why those that
    are unknown are. conflict: whether the account sent the payment's ID before. earlier: payments that were recomputed;
    begins: how many there were before them, which are not in the proof.
    """

    columns: dict[str, Value]
    aggregates: dict[Expression, Value]
    reasons: dict[Expression, str]
    conflict: Value
    earlier: int
    begins: int


class Payment:
    """The row of one payment for `values.value_of`. outcomes: what was decided so far; hits: of rules that are live.
    unknown: what was asked for and is not in the proof. past: what the account's history says, None if that is unknown.
    """

    def __init__(self, transaction: Json, features: list[int], program: Program, parameters: Mapping[str, float],
                 settings: Settings) -> None:  # fmt: skip
        self._transaction, self._features, self._program = transaction, features, program
        self._parameters, self._settings = parameters, settings
        self.outcomes: dict[str, Value] = {}
        self.hits: set[str] = set()
        self.unknown: list[str] = []
        self.past: Past | None = None

    def leaf(self, expression: Expression) -> Value:
        """The value of a column, a list or a hit."""
        if expression[0] == "hit":
            return expression[1] in self.hits
        if expression[0] == "listed":
            return self._listed(expression[1], expression[2])
        if expression[0] == "agg":
            return self._of_past(expression)
        _, kind, source, name, form = expression
        if source == "parameter":
            return self._parameters[name]
        if source == "outcome":
            return self.outcomes.get(name)
        if source == "field":
            return self._own(name) if name in self._program.fields else self._standard(name, kind, form)
        if name not in self._program.columns:  # not stored, so computed from what is
            value = value_of(settled(inlined(name, self._program)), self)
            return self._unknown(f"the feature {name}, which is not stored") if value is UNKNOWN else value
        bits = self._features[self._program.columns[name]]
        if bits == MISSING:
            return None
        return number_of(bits) != 0.0 if kind == "bool" else number_of(bits)

    def _listed(self, effect: str, column: Expression) -> Value:
        form = self.leaf(column)
        if form is None:
            return None
        if self._settings.lists is None:
            return self._unknown("lists of identifiers")
        return self._settings.has(KINDS[column[3]], effect, str(form))

    def _of_past(self, aggregate: Expression) -> Value:
        if self.past is None:
            return self._unknown("the account's other payments")
        value = self.past.aggregates[aggregate]
        return self._unknown(self.past.reasons[aggregate]) if value is UNKNOWN else value

    def feature(self, name: str) -> float:
        """A stored feature; NaN if it is missing."""
        return number_of(self._features[self._program.columns[name]])

    def _unknown(self, what: str) -> Value:
        self.unknown.append(what)
        return UNKNOWN

    def _standard(self, name: str, kind: str, form: str) -> Value:
        t = self._transaction
        if kind == "string":
            return in_form(form, t.get(name, "")) or None
        if name == "amount":
            return float(t["amount"]) * float(t.get("rate", 1.0))
        if name == "amount_sent":
            return float(t["amount"])
        if name == "currency_known":
            return self._settings.rates.knows(t.get("currency", ""))
        if name == "id_conflict":
            if self.past is not None and self.past.conflict is not UNKNOWN:
                return self.past.conflict
            return self._unknown("the account's earlier payment IDs")
        time = t.get("received_at") or t["occurred_at"] if name == "received_at" else t["occurred_at"]
        if name == "hour":
            return float(time // 3_600_000 % 24)
        if name == "weekday":
            return float((time // 86_400_000 + 3) % 7)
        return float(time)

    def _own(self, name: str) -> Value:
        field = self._program.fields[name]
        sent = self._transaction.get("attributes", {}).get(field.attribute)
        if field.type == "string":
            default = field.default if isinstance(field.default, str) else ""
            return (sent if isinstance(sent, str) else "") or default or None
        read = _truth if field.type == "bool" else _number
        found = read(field.default if sent is None else sent)
        return read(field.default) if found is None else found


def _number(value: Any) -> float | None:
    return None if value is None or isinstance(value, (str, bool)) else float(value)


def _truth(value: Any) -> bool | None:
    if value in (1, "true"):
        return True
    return False if value in (0, "false") else None


def number_of(bits: int) -> float:
    """The number of a float32's bits."""
    return float(struct.unpack("<f", struct.pack("<I", bits))[0])


def bits_of(value: Value) -> int:
    """The bits of the float32 as which a feature with this value is stored."""
    if value is None:
        return MISSING
    assert isinstance(value, (bool, float))
    if value != value:
        return MISSING + 1
    try:
        return int(struct.unpack("<I", struct.pack("<f", value))[0])
    except OverflowError:
        return 0x7F800000 if value > 0 else 0xFF800000


def unpacked(text: str) -> list[int]:
    """The stored features of a score, as bits of float32.

    Two bytes with their number, then two bits for each: 0 = zero, 1 = missing, 2 = one byte holds it, 3 = four bytes
    do; then these bytes.
    """
    content = base64.b64decode(text)
    width = int.from_bytes(content[:2], "little")
    at = 2 + (width + 3) // 4
    found = []
    for column in range(width):
        code = content[2 + column // 4] >> 2 * (column % 4) & 3
        size = (0, 0, 1, 4)[code]
        number = int.from_bytes(content[at : at + size], "little")
        at += size
        found.append((0, MISSING, bits_of(float(number)), number)[code])
    if at != len(content):
        raise Refused("the score's features do not have the form of a packed vector")
    return found


def row_of(program: Program, features: list[int]) -> list[float]:
    """What a model reads that lists no inputs: the engine's columns."""
    return [number_of(bits) for bits in features[: len(COLUMNS)]]


def level_of(value: Value, levels: list[str]) -> float:
    """A category as a model reads it."""
    if value is UNKNOWN:
        raise NotRecomputed("its model reads what the proof does not contain")
    if value is None:
        return math.nan
    return float(levels.index(str(value)) if value in levels else len(levels))
