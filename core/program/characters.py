"""Operations that read characters: in Python and RE2, once for every distinct combination of texts. Pure.

The engine computes on numbers and hashes (`core.program.evaluating`). What reads characters is a leaf of the code,
whose column is computed here from the canonical texts of a batch; what was computed is remembered across batches, in
bounded memory. RE2 matches in time linear in the text, whatever the pattern (Thompson; Cox 2010).

Cost: about 0.2 µs a row where the text is remembered, 1 to 5 µs where it is new.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import re2
from numpy.typing import NDArray

from core.errors import BadInput
from core.hashing import HashKey, hash_strings
from core.program.typed import CHARACTERS, Apply, Column, Constant, Expression

REMEMBERED = 16_384
"""Combinations of texts that are remembered for each leaf."""
PATTERN_BYTES = 1 << 20
"""Memory of one compiled pattern, its automaton with it."""

Value = str | float | bool | None
Reader = Callable[[Sequence[str]], Value]
"""From the texts of the columns that a leaf reads to its value; None if that is missing."""

_CAPITALS = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


@lru_cache(maxsize=1024)
def pattern(text: str) -> Any:
    """The compiled RE2 pattern. Raises BadInput if it is none, or needs more memory than PATTERN_BYTES."""
    options = re2.Options()
    options.max_mem = PATTERN_BYTES
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0]
        raise BadInput(f"{text!r} is not a regular expression of RE2: {reason}") from None


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
        self._readers = [
            (columns, _remembering(leaf, columns, key)) for leaf, columns in zip(self.leaves, needed, strict=True)
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


def _remembering(leaf: Apply, columns: tuple[Column, ...], key: HashKey) -> Callable[[Any], int | None]:
    """The word of a leaf by its text, or by the tuple of its texts; None where it is missing."""
    read = reader(leaf, columns)

    def word(texts: Any) -> int | None:
        value = read((texts,) if len(columns) == 1 else texts)
        if value is None:
            return None
        if isinstance(value, str):
            return int(hash_strings([value], key)[0])
        return int(np.float64(value).view(np.uint64))

    return lru_cache(maxsize=REMEMBERED)(word)


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
            search, read = pattern(text).search, reader(value, columns)
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
    "lower": lambda texts: texts[0].translate(_CAPITALS),
    "concat": lambda texts: texts[0] + texts[1],
}
