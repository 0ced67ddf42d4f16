"""What is wrong with a document, and where. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from core.errors import BadInput
from core.text import visible

PROBLEMS_MAX = 50
"""A document is not read further after this many."""
_SHOWN_MAX = 64

Path = tuple[str | int, ...]
"""Tables and keys from the document's top; arrays by index from 0."""


class Problem(NamedTuple):
    """message: what is wrong and what to do. path: where. line: of the file, 0 if unknown. at: line and column within
    the expression, (0, 0) if it is not about one.
    """

    message: str
    path: Path = ()
    line: int = 0
    at: tuple[int, int] = (0, 0)

    @property
    def place(self) -> str:
        """Where, in words: `line 14, [features] declines_10m, at 1:8`."""
        found = [f"line {self.line}"] if self.line else []
        if self.path:
            found.append(path_words(self.path))
        if self.at != (0, 0):
            found.append(f"at {self.at[0]}:{self.at[1]}")
        return ", ".join(found)

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class DocumentError(BadInput):
    """A document that can't be a program: every problem, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        more = f" (and {len(problems) - 1} more: sentinel program check)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0]}{more}")


def path_words(path: Path) -> str:
    """`("rules", 2, "when")` → `[[rules]] 3 when`."""
    table, *rest = path
    if rest and isinstance(rest[0], int):
        return " ".join([f"[[{table}]]", str(rest[0] + 1), _dotted(rest[1:])]).strip()
    return f"[{table}] {_dotted(rest)}".strip()


def _dotted(path: Iterable[str | int]) -> str:
    words = ""
    for part in path:
        words += f"[{part + 1}]" if isinstance(part, int) else f".{shown(part)}" if words else shown(part)
    return words


def shown(text: str) -> str:
    """A name that somebody chose, short and harmless."""
    return visible(text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 1] + "…")
