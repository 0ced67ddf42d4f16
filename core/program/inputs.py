"""What a program offers to models, by definition, and the columns that a model reads of it. Pure.

The identity of a feature or field is the SHA-256 of its typed expression with every name resolved: features that it
names are inlined, own fields are replaced by the attribute that they come from and their default, columns of the kernel
carry the version of their spec. So equal definitions in two programs are the same, whatever their names, and a program
that only adds leaves every model valid. A parameter and a rule's code count by name. The engine is part of it (I11).

    number     a feature, or a field that is a number or a bool, as float32; NaN where it is missing
    category   a field that is a string: the number of its level, NaN where it is missing, the number of levels for any
               string that is no level

A model's levels are compared by the log's keyed hashes, which are made when the model is bound to a program.

Failure case: a program that lacks what a model reads can't serve it. `core.governance` refuses to deploy either with
the other, and `core.context` treats the model as unavailable where it happens nonetheless.

Cost per row: 1 ns a gathered column; for a field that nothing else reads 0.1 µs, to take it out of the attributes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.canonical import Form
from core.errors import BadInput
from core.features import spec
from core.hashing import HashKey, hash_strings
from core.jit import njit
from core.nans import COMPUTED, MISSING
from core.program.batch import Batch
from core.program.checked import OwnField
from core.program.codes import ENGINE
from core.program.compiling import compile_expressions
from core.program.fields import STANDARD
from core.program.language import serialised
from core.program.leaves import Step, leaves_of
from core.program.plan import Plan
from core.program.typed import Aggregate, Apply, Column, Constant, Expression, Type
from core.scoring import Input, InputKind
from core.text import listed

IDENTITY_VERSION = 1
SHORT = 16
"""Digits of an identity in control events."""


class Offer(NamedTuple):
    """Something that a model can read. column: of the program's matrix, −1 for a field, which `expression` gives.
    is_common: whether every program has it. is_logged: whether the log holds its value.
    """

    identity: str
    name: str
    kind: InputKind
    column: int
    expression: Expression
    is_common: bool
    is_logged: bool


def identity_of(expression: Expression, own: Mapping[str, OwnField]) -> str:
    """The identity of an inlined expression of a program with these fields."""
    text = f"input {IDENTITY_VERSION} engine {ENGINE}\n{serialised(_resolved(expression, own))}"
    return hashlib.sha256(text.encode()).hexdigest()


def _resolved(expression: Expression, own: Mapping[str, OwnField]) -> Expression:
    """The expression without names that a program gave."""
    match expression:
        case Column(source="field", name=name) if name in own:
            return _source(own[name])
        case Column(source="library", name=name):
            return replace(expression, name=f"{name}@{spec.SPEC_VERSION}")
        case Apply(arguments=arguments):
            return replace(expression, arguments=tuple(_resolved(each, own) for each in arguments))
        case Aggregate(entity=entity, value=value, condition=condition):
            return replace(
                expression,
                entity=tuple(serialised(_source(own[name])) if name in own else name for name in entity),
                value=None if value is None else _resolved(value, own),
                condition=None if condition is None else _resolved(condition, own),
            )
        case _:
            return expression


def _source(field: OwnField) -> Expression:
    column = Column(field.type, "field", f"attributes.{field.attribute}", field.form)
    if field.default is None:
        return column
    return Apply(field.type, "default", (column, Constant(field.type, field.default)))


def offers(plan: Plan) -> dict[str, Offer]:
    """What a program offers, by identity: the kernel's columns, its own features, then fields."""
    own, stored = plan.program.fields, plan.stored
    found = dict(_common())
    for place, feature in enumerate(plan.features, spec.WIDTH):
        offer = Offer(identity_of(feature, own), plan.names[place], "number", place, feature, False, place < stored)
        found.setdefault(offer.identity, offer)
    for name, field in own.items():
        if field.type != "time":
            offer = _field(name, field.type, field.form, own)
            found.setdefault(offer.identity, offer)  # a feature that is only a field's value is that field
    return found


@cache
def _common() -> Mapping[str, Offer]:
    """What every program offers."""
    found: list[Offer] = []
    for place, name in enumerate(spec.NAMES):
        column = Column("number", "library", name)
        found.append(Offer(identity_of(column, {}), name, "number", place, column, True, True))
    for name, field in STANDARD.items():
        if name not in _NOT_OFFERED and field.type != "time":
            found.append(_field(name, field.type, field.form, {})._replace(is_common=True))
    return {each.identity: each for each in found}


def kernel_identities() -> tuple[str, ...]:
    """The identities of the kernel's columns, in order."""
    return tuple(identity for identity, each in _common().items() if each.column >= 0)


def _field(name: str, kind: Type, form: Form, own: Mapping[str, OwnField]) -> Offer:
    value: Expression = Column(kind, "field", name, form)
    if kind == "number":
        value = Apply("number", "single", (value,))
    return Offer(identity_of(value, own), name, "category" if kind == "string" else "number", -1, value, False, True)


_NOT_OFFERED = ("amount", "transaction_id", "account_id", "id_conflict", "currency_known")
"""`amount` is a column of the kernel; a transaction and an account are no categories; the last two follow from more
than the payment. Times are no float32.
"""


def own_offers(plan: Plan) -> dict[str, str]:
    """The short identities and names of what the program offers beyond every other program."""
    return {each.identity[:SHORT]: each.name for each in offers(plan).values() if not each.is_common}


def own_reads(inputs: Sequence[Input] | None) -> dict[str, str]:
    """The short identities and names of what a model reads beyond what every program offers."""
    return {each.identity[:SHORT]: each.name for each in inputs or () if each.identity not in _common()}


class ModelColumns:
    """The columns that a model reads of a program, in order. Immutable. reach: how many of the first columns of the
    program's matrix hold all that it reads of it.
    """

    def __init__(self, plan: Plan, key: HashKey, inputs: Sequence[Input], label: str = "the model") -> None:
        """key: the log's. Raises BadInput if the program lacks an input, or has it as another kind."""
        known = offers(plan)
        missing = [each.name for each in inputs if each.identity not in known]
        if missing:
            raise BadInput(
                f"{label} reads {listed(missing)}, which the program {plan.program.label} does not define: add the same"
                " definitions to it (names don't matter), or deploy another model first"
            )
        wrong = [each.name for each in inputs if known[each.identity].kind != each.kind]
        if wrong:
            raise BadInput(f"{label} reads {listed(wrong)} as another kind than number or category, as it is")
        self.width = len(inputs)
        of = [known[each.identity] for each in inputs]
        gathered = [(k, offer.column) for k, offer in enumerate(of) if offer.column >= 0]
        self.reach = max((column + 1 for _, column in gathered), default=0)
        self._gathered = np.array(gathered, dtype=np.int64).reshape(-1, 2).T.copy()
        fields = [k for k, offer in enumerate(of) if offer.column < 0]
        self._fields = np.array(fields, dtype=np.int64)
        self._step: Step | None = None
        if fields:
            code = compile_expressions([of[k].expression for k in fields])
            self._step = Step(code.bind(key, {}), leaves_of(code, {}, {}, key))
        levels = [_level_hashes(inputs[k], key) for k in fields]
        self._starts = np.cumsum([0, *(len(hashes) for hashes, _ in levels)]).astype(np.int64)
        self._is_category = np.array([inputs[k].kind == "category" for k in fields], dtype=np.bool_)
        empty_hashes, empty_numbers = np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.float32)
        self._hashes = np.concatenate([empty_hashes, *(hashes for hashes, _ in levels)])
        self._numbers = np.concatenate([empty_numbers, *(numbers for _, numbers in levels)])

    def of(self, batch: Batch, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Float32 (len(rows), width) of some rows, whose features are in the batch's matrix."""
        out = np.empty((len(rows), self.width), dtype=np.float32)
        _gather(batch.matrix, rows, self._gathered, out)
        if self._step is not None:
            words, valid = self._step.run(batch, rows)
            _fill(words, valid, self._fields, self._is_category, self._starts, self._hashes, self._numbers, out)
        return out


def _level_hashes(each: Input, key: HashKey) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """The hashes of a category's levels, ascending, and the number of each."""
    if not each.levels:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.float32)
    hashes = hash_strings(list(each.levels), key)
    order = np.argsort(hashes, kind="stable")
    return hashes[order], order.astype(np.float32)


@njit
def _gather(
    matrix: NDArray[np.float32], rows: NDArray[np.int64], columns: NDArray[np.int64], out: NDArray[np.float32]
) -> None:
    for i in range(rows.shape[0]):
        for k in range(columns.shape[1]):
            out[i, columns[0, k]] = matrix[rows[i], columns[1, k]]


@njit
def _fill(
    words: NDArray[np.float64],
    valid: NDArray[np.uint8],
    places: NDArray[np.int64],
    is_category: NDArray[np.bool_],
    starts: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    numbers: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Fields as columns of the model. starts: where each one's levels begin."""
    bits, given = out.view(np.uint32), words.view(np.uint64)
    for k in range(words.shape[0]):
        place, first, end = places[k], starts[k], starts[k + 1]
        for i in range(words.shape[1]):
            if valid[k, i] == 0:
                bits[i, place] = MISSING
            elif not is_category[k]:
                if words[k, i] != words[k, i]:
                    bits[i, place] = COMPUTED
                else:
                    out[i, place] = np.float32(words[k, i])
            else:
                low, high = first, end
                while low < high:
                    middle = (low + high) >> 1
                    if hashes[middle] < given[k, i]:
                        low = middle + 1
                    else:
                        high = middle
                found = low < end and hashes[low] == given[k, i]
                out[i, place] = numbers[low] if found else np.float32(end - first)
