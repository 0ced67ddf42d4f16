"""From a graph of values to instructions over registers. Pure and deterministic.

A register is used again after its last reader; constants are loaded where they are used. The destination of an
instruction is never one of its arguments, so that its loop has no aliases.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from core.program.codes import MOVING, Op

WIDTH = 6
"""Numbers of an instruction: op code, destination, first to third argument, length.

Arguments are registers; an operation of one argument has it twice. LOAD: the leaf. STORE: destination is the output.
CONSTANT: the word. IN_…: the third is the first word of the list, of `length` words, sorted.
"""


class Node(NamedTuple):
    """A value that code computes. arguments: nodes. extra: the leaf, or (first word, length) of constants."""

    op: Op
    arguments: tuple[int, ...]
    extra: tuple[int, ...] = ()


class Allocated(NamedTuple):
    """instructions: rows of WIDTH numbers. registers: how many they use. operations: how many of them compute."""

    instructions: list[tuple[int, ...]]
    registers: int
    operations: int


def allocated(nodes: Sequence[Node], roots: list[int]) -> Allocated:
    """The instructions that compute the roots, each into its output. nodes: each after its arguments."""
    return _Allocator(nodes).emit(roots)


class _Allocator:
    """Instructions in the order in which outputs need them, and the registers that they use."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.instructions: list[tuple[int, ...]] = []
        self.readers = [0] * len(nodes)
        self.register: dict[int, int] = {}
        self.free: list[int] = []
        self.registers = 0

    def emit(self, roots: list[int]) -> Allocated:
        self._count_readers(roots)
        for output, root in enumerate(roots):
            for node in self._missing(root):
                self._compute(node)
            register = self._value(root)
            self._add(Op.STORE, output, register)
            self._release(root, register)
        operations = sum(row[0] not in MOVING for row in self.instructions)
        return Allocated(self.instructions, self.registers, operations)

    def _count_readers(self, roots: list[int]) -> None:
        reached = set()
        stack = list(roots)
        for root in roots:
            self.readers[root] += 1
        while stack:
            node = stack.pop()
            if node in reached:
                continue
            reached.add(node)
            for argument in self.nodes[node].arguments:
                self.readers[argument] += 1
                stack.append(argument)

    def _missing(self, root: int) -> Iterator[int]:
        """The nodes that have no register yet, each after its arguments; constants are left to their readers."""
        stack: list[tuple[int, bool]] = [(root, False)]
        while stack:
            node, entered = stack.pop()
            if node in self.register or self.nodes[node].op == Op.CONSTANT:
                continue
            if entered:
                yield node
            else:
                stack.append((node, True))
                stack += [(argument, False) for argument in reversed(self.nodes[node].arguments)]

    def _compute(self, node: int) -> None:
        op, arguments, extra = self.nodes[node]
        registers = [self._value(argument) for argument in arguments]
        destination = self._taken()
        if op in (Op.LOAD, Op.LOAD_NUMBER):
            self._add(op, destination, extra[0])
        elif extra:
            self._add(op, destination, registers[0], registers[0], *extra)
        else:
            self._add(op, destination, *(registers if len(registers) > 1 else registers * 2))
        self.register[node] = destination
        for argument, register in zip(arguments, registers, strict=True):
            self._release(argument, register)

    def _value(self, node: int) -> int:
        """The register that holds the node's value now. A constant is loaded anew."""
        if self.nodes[node].op == Op.CONSTANT:
            register = self._taken()
            self._add(Op.CONSTANT, register, self.nodes[node].extra[0])
            return register
        return self.register[node]

    def _release(self, node: int, register: int) -> None:
        if self.nodes[node].op != Op.CONSTANT:
            self.readers[node] -= 1
            if self.readers[node]:
                return
            del self.register[node]
        heapq.heappush(self.free, register)

    def _taken(self) -> int:
        if self.free:
            return heapq.heappop(self.free)
        self.registers += 1
        return self.registers - 1

    def _add(self, *numbers: int) -> None:
        self.instructions.append(numbers + (0,) * (WIDTH - len(numbers)))
