"""The syntax tree of an expression: what the parser reads and the formatter prints. Pure data.

Nodes compare by what they say; their places do not count. Two texts that differ in spacing, redundant parentheses or
the spelling of a literal give equal trees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple


class At(NamedTuple):
    """A place in the text: line and column in characters, from 1."""

    line: int
    column: int


NOWHERE = At(1, 1)


@dataclass(frozen=True, slots=True)
class Number:
    """A number; a minus sign before a literal is part of it."""

    value: float
    at: At = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Text:
    value: str
    at: At = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Truth:
    value: bool
    at: At = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Name:
    name: str
    at: At = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """`name(arguments)`, or `receiver.name(arguments)`. at: the name."""

    name: str
    arguments: tuple[Node, ...]
    receiver: Node | None = None
    at: At = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class ListOf:
    items: tuple[Node, ...]
    at: At = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Unary:
    """operator: ! or -; never - before a number that has no sign yet."""

    operator: str
    operand: Node
    at: At = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Binary:
    """operator: == != < <= > >= in + - * / %. at: the operator."""

    operator: str
    left: Node
    right: Node
    at: At = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Logical:
    """`a && b && c`, or with ||: two or more operands, none of them a Logical of the same operator.

    Both operators are associative, with missing values too, so a chain is one node, one level deep. at: the first
    operator.
    """

    operator: str
    operands: tuple[Node, ...]
    at: At = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Choose:
    """`condition ? then : otherwise`. at: the question mark."""

    condition: Node
    then: Node
    otherwise: Node
    at: At = field(default=NOWHERE, compare=False)


Node = Number | Text | Truth | Name | Call | ListOf | Unary | Binary | Logical | Choose


def parts(node: Node) -> tuple[Node, ...]:
    """The nodes directly below, from left to right."""
    match node:
        case Call():
            return node.arguments if node.receiver is None else (node.receiver, *node.arguments)
        case ListOf():
            return node.items
        case Unary():
            return (node.operand,)
        case Binary():
            return (node.left, node.right)
        case Logical():
            return node.operands
        case Choose():
            return (node.condition, node.then, node.otherwise)
        case _:
            return ()


def start(node: Node) -> At:
    """Where the node's text begins."""
    while True:
        match node:
            case Call() if node.receiver is not None:
                node = node.receiver
            case Binary():
                node = node.left
            case Logical():
                node = node.operands[0]
            case Choose():
                node = node.condition
            case _:
                return node.at


def levels(node: Node) -> Iterator[tuple[int, Node]]:
    """(level, node) of the node (level 1) and everything below. Needs no stack of calls, however deep the tree is."""
    waiting = [(1, node)]
    while waiting:
        level, each = waiting.pop()
        yield level, each
        waiting += [(level + 1, part) for part in parts(each)]
