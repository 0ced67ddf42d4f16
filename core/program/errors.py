"""What is wrong with an expression, and where. Pure.

Written for who writes rules: what was found, what was expected, the nearest name, and an example that works.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from core.errors import BadInput
from core.text import visible

_SHOWN_MAX = 40


class ProgramError(BadInput):
    """An expression that can't be read or makes no sense. line, column: 1-based, in characters, within its text."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {message}", reason="bad_program")
        self.message = message
        self.line = line
        self.column = column

    def rendered(self, text: str) -> str:
        """The message under the line of the text, with a caret at the place."""
        lines = text.split("\n")
        line = lines[self.line - 1].replace("\t", " ").rstrip("\r") if self.line <= len(lines) else ""
        before, after = visible(line[: self.column - 1]), visible(line[self.column - 1 :])
        return f"{before}{after}\n{' ' * len(before)}^ {self.message}"


def quoted(text: str) -> str:
    """Something that the author wrote, short and harmless, in single quotes."""
    return f"'{visible(text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 1] + '…')}'"


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant; "" if none is near."""
    names = list(known)
    short = name[: 2 * _SHOWN_MAX]
    lower = {each.lower(): each for each in names}
    if short.lower() in lower:
        return lower[short.lower()]
    return next(iter(get_close_matches(short, names, n=1)), "")


def meant(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?`, or ""."""
    found = nearest(name, known)
    return f"; did you mean {found}?" if found else ""


def listed(names: Iterable[str]) -> str:
    """`a, b or c`."""
    *head, last = names
    return f"{', '.join(head)} or {last}" if head else last
