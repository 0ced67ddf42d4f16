"""Operations that read characters: in Python and RE2, once for every distinct combination of texts. Pure.

The engine computes on numbers and hashes (`core.program.evaluating`). What reads characters is a leaf of the code,
whose column is computed here from the canonical texts of a batch; what was computed is remembered across batches, in
bounded memory.

Cost: about 0.2 µs a row where the text is remembered, 1 to 5 µs where it is new.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.hashing import HashKey, hash_strings
from core.program import patterns
from core.program.typed import CHARACTERS, Apply, Column, Constant, Expression

REMEMBERED = 65_536
"""Combinations of texts that are remembered, in equal parts by all leaves: about 15 MB."""

Value = str | float | bool | None
Reader = Callable[[Sequence[str]], Value]
"""From the texts of the columns that a leaf reads to its value; None if that is missing."""

_CAPITALS = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def lower_ascii(text: str) -> str:
    """The text with the letters A to Z in lower case, whatever Unicode a Python knows."""
    return text.translate(_CAPITALS)


class Characters:
    """The leaves of code that read characters, in their order among its leaves.

    columns: the columns whose texts are needed, distinct, in the order of first use.
    """

    def __init__(self, leaves: Sequence[Expression], key: HashKey) -> None:
        """leaves: `Code.leaves`; those that read no characters are passed over. Raises BadInput for a pattern that is
        none.
        """
        self.leaves = [each for each in leaves if isinstance(each, Apply) and each.operation in CHARACTERS]
        needed = [_columns(leaf) for leaf in self.leaves]
        self.columns = tuple(dict.fromkeys(column for columns in needed for column in columns))
        each = REMEMBERED // max(len(needed), 1)
        self._readers = [
            (columns, _remembering(leaf, columns, key, each)) for leaf, columns in zip(self.leaves, needed, strict=True)
        ]

    def evaluate(
        self, texts: Mapping[Column, Sequence[str]], rows: int
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """Values and validity of the leaves: float64 (m, n) and uint8 (m, n), as `core.program.evaluating` takes them.

        texts: for each of `columns` the canonical text of every row; "" is missing. Strings are keyed hashes, as bits.
        """
        bits = np.zeros((len(self.leaves), rows), dtype=np.uint64)
        valid = np.ones((len(self.leaves), rows), dtype=np.uint8)
        for k, (columns, read) in enumerate(self._readers):
            if len(columns) == 1:
                found = list(map(read, texts[columns[0]]))
            else:
                found = list(map(read, zip(*(texts[column] for column in columns), strict=True)))
            if not columns:
                found = [read(())] * rows
            if None in found:
                valid[k] = [word is not None for word in found]
                found = [word or 0 for word in found]
            bits[k] = np.array(found, dtype=np.uint64)
        return bits.view(np.float64), valid


def _columns(leaf: Expression) -> tuple[Column, ...]:
    match leaf:
        case Column():
            return (leaf,)
        case Apply(_, _, arguments):
            return tuple(dict.fromkeys(column for each in arguments for column in _columns(each)))
        case _:
            return ()


def _remembering(
    leaf: Apply, columns: tuple[Column, ...], key: HashKey, remembered: int
) -> Callable[[Any], int | None]:
    """The word of a leaf by its text, or by the tuple of its texts; None where it is missing."""
    read = reader(leaf, columns)

    def word(texts: Any) -> int | None:
        value = read((texts,) if len(columns) == 1 else texts)
        if value is None:
            return None
        if isinstance(value, str):
            return int(hash_strings([value], key)[0])
        return int(np.float64(value).view(np.uint64))

    return lru_cache(maxsize=remembered)(word)


def reader(expression: Expression, columns: tuple[Column, ...]) -> Reader:
    """A function of the texts of `columns` that computes the expression. Raises BadInput for a pattern that is none."""
    match expression:
        case Constant(value=str(text)):
            return lambda texts: text
        case Column():
            place = columns.index(expression)
            return lambda texts: texts[place] or None
        case Apply(_, "default", (first, second)):
            preferred, other = reader(first, columns), reader(second, columns)

            def defaulted(texts: Sequence[str]) -> Value:
                value = preferred(texts)
                return other(texts) if value is None else value

            return defaulted
        case Apply(_, "matches", (value, Constant(value=str(text)))):
            search, read = patterns.compiled(text).search, reader(value, columns)
            return _strict(lambda texts: search(texts[0]) is not None, [read])
        case Apply(_, operation, arguments) if operation in FUNCTIONS:
            return _strict(FUNCTIONS[operation], [reader(each, columns) for each in arguments])
        case _:
            raise TypeError(f"{expression} reads no characters")


def _strict(function: Callable[[list[Any]], Value], readers: list[Reader]) -> Reader:
    def read(texts: Sequence[str]) -> Value:
        values = [each(texts) for each in readers]
        return None if None in values else function(values)

    return read


FUNCTIONS: dict[str, Callable[[list[Any]], Value]] = {
    "size": lambda texts: float(len(texts[0])),
    "starts_with": lambda texts: texts[0].startswith(texts[1]),
    "ends_with": lambda texts: texts[0].endswith(texts[1]),
    "contains": lambda texts: texts[1] in texts[0],
    "lower": lambda texts: lower_ascii(texts[0]),
    "concat": lambda texts: texts[0] + texts[1],
}
