"""From typed expressions to instructions over registers. Pure and deterministic: equal expressions, equal code.

    expression ──lifting──► choices outside of leaves ──here──► graph of distinct values ──registers──► instructions

A subexpression that occurs twice is computed once. What reads characters is no instruction: it is a leaf, which
`core.program.characters` computes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core import canonical
from core.canonical import Form
from core.errors import BadInput
from core.hashing import HashKey, hash_strings
from core.nans import COMPUTED
from core.program.codes import CODES, Op
from core.program.lifting import lifted
from core.program.registers import WIDTH, Node, allocated
from core.program.typed import (
    CHARACTERS,
    Aggregate,
    Apply,
    Column,
    Constant,
    Expression,
    Hit,
    Listed,
)

COMPUTED_NAN = float(COMPUTED.view(np.float32))


class Text(NamedTuple):
    """A string constant: the word that holds its hash, and what is hashed."""

    word: int
    canonical: str


@dataclass(frozen=True, slots=True)
class Code:
    """Compiled expressions.

    leaves: what must be given for every row, distinct, in the order of first use: columns (but no parameters), lists,
    hits, aggregates, and what reads characters. instructions: int32 (m, WIDTH). words: uint64 (w,), the constants; the
    hashes of `texts` and the values of `parameters` (word, name) are filled in by `bind`. lists: (first word, length)
    of the lists of strings. outputs: the number of expressions. operations: how many operations a row costs.
    """

    leaves: tuple[Expression, ...]
    instructions: NDArray[np.int32]
    words: NDArray[np.uint64]
    texts: tuple[Text, ...]
    parameters: tuple[tuple[int, str], ...]
    lists: tuple[tuple[int, int], ...]
    registers: int
    outputs: int
    operations: int

    def bind(self, key: HashKey, parameters: Mapping[str, float]) -> Bound:
        """The code with the hashes of a log's key and the present values of parameters. Raises KeyError for a
        parameter without a value.
        """
        words = self.words.copy()
        if self.texts:
            hashes = hash_strings([text.canonical for text in self.texts], key)
            words[[text.word for text in self.texts]] = hashes
        for first, length in self.lists:
            words[first : first + length].sort()
        numbers = words.view(np.float64)
        for word, name in self.parameters:
            numbers[word] = _number(parameters[name])
        words.flags.writeable = False
        return Bound(self, words)


@dataclass(frozen=True, slots=True)
class Bound:
    """Code that can run: `words` are the constants, uint64 (w,)."""

    code: Code
    words: NDArray[np.uint64]


def compile_expressions(expressions: Sequence[Expression]) -> Code:
    """Compile well-typed expressions, in this order. Raises BadInput for a text that cannot be hashed and for an
    operation on characters that chooses among more than VARIANTS_MAX texts.
    """
    graph = _Graph()
    roots = [graph.number(each, _form(each)) for each in expressions]
    found = allocated(graph.nodes, roots)
    instructions = np.array(found.instructions, dtype=np.int32).reshape(-1, WIDTH)
    instructions.flags.writeable = False
    words = np.array(graph.words, dtype=np.uint64)
    words.flags.writeable = False
    return Code(
        leaves=tuple(graph.leaves),
        instructions=instructions,
        words=words,
        texts=tuple(graph.texts),
        parameters=tuple(graph.parameters),
        lists=tuple(graph.lists),
        registers=found.registers,
        outputs=len(roots),
        operations=found.operations,
    )


def _number(value: float) -> float:
    number = float(value)
    return number if number == number else COMPUTED_NAN


def _bits(value: float) -> int:
    bits: int = struct.unpack("<Q", struct.pack("<d", _number(value)))[0]
    return bits


def _form(expression: Expression) -> Form:
    """The canonical form of a string expression's values; "" for a constant, which takes that of what is beside it."""
    match expression:
        case Column("string"):
            return expression.form or "raw"
        case Apply("string", "choose", (_, first, second)) | Apply("string", "default", (first, second)):
            return _common(first, second)
        case Apply("string"):
            return "raw"
        case Aggregate("string", value=value) if value is not None:
            return _form(value)
        case Constant():
            return ""
        case _:
            return "raw" if expression.type == "string" else ""


def _common(first: Expression, second: Expression) -> Form:
    forms = {form for form in (_form(first), _form(second)) if form}
    return "raw" if len(forms) > 1 else next(iter(forms), "")


def structure(expression: Expression) -> tuple[object, ...]:
    """A key that is equal for equal expressions only: −0.0 and 0.0, true and 1 are different constants."""
    match expression:
        case Constant(type_, value):
            values = value if isinstance(value, tuple) else (value,)
            return (type_, *((each if isinstance(each, str) else _bits(each)) for each in values))
        case Apply(type_, operation, arguments):
            return (type_, operation, *map(structure, arguments))
        case Aggregate():
            inner = tuple(
                None if each is None else structure(each) for each in (expression.value, expression.condition)
            )
            named = (expression.type, expression.function, expression.entity, expression.window_ms)
            return ("aggregate", *named, expression.size, expression.on_verdicts, *inner)
        case Listed(value, effect):
            return ("listed", structure(value), effect)
        case Hit(code):
            return ("hit", code)
        case Column():
            return ("column", expression.type, expression.source, expression.name, expression.form)


@dataclass(slots=True)
class _Graph:
    """Numbers of distinct values: nodes, each after its arguments."""

    nodes: list[Node] = field(default_factory=list)
    leaves: list[Expression] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    parameters: list[tuple[int, str]] = field(default_factory=list)
    lists: list[tuple[int, int]] = field(default_factory=list)
    numbers: dict[tuple[object, ...], int] = field(default_factory=dict)

    def number(self, expression: Expression, form: Form = "") -> int:
        """The node of the expression. form: that of string constants in it which are beside no column."""
        expression = lifted(expression)
        match expression:
            case Constant():
                return self._constant(expression, form)
            case Column(source="parameter"):
                return self._node(Op.CONSTANT, (), ("parameter", expression.name), self._parameter(expression.name))
            case Apply(_, "choose", (condition, first, second)):
                below = _form(expression) or form
                return self._apply("choose", [self.number(condition), *self._both(first, second, below)])
            case Apply(_, "default", (first, second)):
                return self._apply("default", self._both(first, second, _form(expression) or form))
            case Apply(_, "equal_string" | "unequal_string" as operation, (first, second)):
                return self._apply(operation, self._both(first, second, _common(first, second)))
            case Apply(_, "in_numbers" | "in_numbers_single" | "in_strings" as operation, (value, Constant() as items)):
                below = _form(value)
                return self._listed(operation, self.number(value, below), items, below)
            case Apply(_, operation, arguments) if operation not in CHARACTERS:
                return self._apply(operation, [self.number(each) for each in arguments])
            case _:
                return self._leaf(expression)

    def _both(self, first: Expression, second: Expression, form: Form) -> list[int]:
        return [self.number(first, form), self.number(second, form)]

    def _node(
        self, op: Op, arguments: tuple[int, ...], key: tuple[object, ...], extra: Callable[[], tuple[int, ...]]
    ) -> int:
        whole = (op, arguments, *key)
        if (known := self.numbers.get(whole)) is None:
            known = self.numbers[whole] = len(self.nodes)
            self.nodes.append(Node(op, arguments, extra()))
        return known

    def _leaf(self, leaf: Expression) -> int:
        def extra() -> tuple[int, ...]:
            if isinstance(leaf, Apply):
                _check_texts(leaf)
            self.leaves.append(leaf)
            return (len(self.leaves) - 1,)

        return self._node(Op.LOAD_NUMBER if leaf.type == "number" else Op.LOAD, (), structure(leaf), extra)

    def _apply(self, operation: str, arguments: list[int]) -> int:
        op = CODES[operation]
        if op in (Op.MIN, Op.MAX):
            total = arguments[0]
            for each in arguments[1:]:
                total = self._node(op, (total, each), (), tuple)
            return total
        return self._node(op, tuple(arguments), (), tuple)

    def _parameter(self, name: str) -> Callable[[], tuple[int, ...]]:
        def extra() -> tuple[int, ...]:
            self.parameters.append((len(self.words), name))
            self.words.append(0)
            return (len(self.words) - 1, 1)

        return extra

    def _constant(self, constant: Constant, form: Form) -> int:
        value = constant.value
        if isinstance(value, str):
            text = _hashable(*canonical.in_form(form, [value]))
            return self._node(Op.CONSTANT, (), ("text", text), lambda: self._texts([text]))
        if isinstance(value, tuple):
            raise TypeError("a list stands only on the right of `in`")
        bits = _bits(value)
        return self._node(Op.CONSTANT, (), ("number", bits), lambda: self._words([bits]))

    def _listed(self, operation: str, value: int, items: Constant, form: Form) -> int:
        if not isinstance(items.value, tuple):
            raise TypeError("`in` takes a list")
        if operation == "in_strings":
            texts = sorted(set(map(_hashable, canonical.in_form(form, list(map(str, items.value))))))
            return self._node(Op.IN_STRINGS, (value,), tuple(texts), lambda: self._texts(texts, is_list=True))
        single = operation == "in_numbers_single"
        numbers = np.array([float(each) for each in items.value])
        if single:
            with np.errstate(over="ignore"):
                numbers = numbers.astype(np.float32).astype(np.float64)
        bits = [_bits(each) for each in sorted({float(each) for each in numbers if each == each})]
        return self._node(CODES[operation], (value,), tuple(bits), lambda: self._words(bits))

    def _words(self, bits: list[int]) -> tuple[int, int]:
        self.words += bits
        return len(self.words) - len(bits), len(bits)

    def _texts(self, texts: list[str], *, is_list: bool = False) -> tuple[int, int]:
        first, length = self._words([0] * len(texts))
        self.texts += [Text(first + i, text) for i, text in enumerate(texts)]
        if is_list:
            self.lists.append((first, length))
        return first, length


def _check_texts(leaf: Expression) -> None:
    match leaf:
        case Apply(_, _, arguments):
            for each in arguments:
                _check_texts(each)
        case Constant(value=str(text)):
            _hashable(text)
        case Aggregate():
            raise BadInput(f"{leaf.function} keeps a hash of its text, not the characters: they cannot be read")
        case _:
            pass


def _hashable(text: str) -> str:
    """The text. Raises BadInput if it is none that a payment can have."""
    if "\x1f" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise BadInput(f"{text!r} holds a character that no payment can have: U+001F or half of a surrogate pair")
    return text
