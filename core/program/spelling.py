"""Text constants in a spelling that a field never has. Pure.

Whole values are brought into the field's canonical form before they are compared. What is compared with lowerAscii(),
with a part of a text or with a pattern is not, so a capital letter there would never match and nothing would say so: it
is refused with the spelling that works.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from core import canonical
from core.canonical import Form
from core.program.characters import lower_ascii
from core.program.errors import ProgramError, quoted
from core.program.formatting import formatted
from core.program.syntax import Node, start
from core.program.typed import Apply, Column, Expression

_PARTS = {"starts_with": "starts with", "ends_with": "ends with", "contains": "contains"}
_IGNORES_CASE = re.compile(r"\(\?[a-zA-Z]*i")
_TOKENS = re.compile(
    r"""\\Q.*?(?:\\E|$) | \\[pP](?:\{[^}]*\}|.) | \\x(?:\{[^}]*\}|..) | \\.   # escapes
    | \(\?P?<\w+> | \(\?[a-zA-Z-]*[:)]                                        # names and flags of groups
    | (?P<set>\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\])
    | (?P<letter>[A-Za-z])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r"\\[pP](?:\{[^}]*\}|.)|\\x(?:\{[^}]*\}|..)|\\.|\[:\^?\w+:\]", re.DOTALL)
_RANGE = re.compile(r"(.)-(.)|(.)", re.DOTALL)


class _Spelling(NamedTuple):
    """How a text is spelled: in a canonical form, and then perhaps with lowerAscii()."""

    form: Form
    is_lower: bool = False

    def of(self, text: str) -> str:
        (found,) = canonical.in_form(self.form, [text])
        return lower_ascii(found) if self.is_lower else found

    def of_part(self, text: str, before: str, after: str) -> str:
        """The spelling of a text that has others before and after it: letters that combine with nothing, or none."""
        before, after = self.of(before), self.of(after)
        return self.of(before + text + after).removeprefix(before).removesuffix(after)


def _spelling(expression: Expression) -> _Spelling | None:
    """The one spelling that all values of an expression have; None if there is none."""
    match expression:
        case Column("string", "field"):
            return _Spelling(expression.form or "raw")
        case Apply(_, "lower", (inner,)):
            found = _spelling(inner)
            return None if found is None else found._replace(is_lower=True)
        case Apply("string", "choose", (_, first, second)) | Apply("string", "default", (first, second)):
            found = _spelling(first)
            return found if found == _spelling(second) else None
        case _:
            return None


def check_whole(node: Node, subject: Expression, written: Node, text: str) -> None:
    """Refuse a constant that the subject never equals, because lowerAscii() makes it another text."""
    spelling = _spelling(subject)
    if spelling is not None and spelling.is_lower and (right := spelling.of(text)) != text:
        raise ProgramError(f"{_short(node)} is never {quoted(text)}{_advice(right)}", *start(written))


def check_part(operation: str, node: Node, subject: Expression, written: Node, text: str) -> None:
    """Refuse a constant that the subject never starts with, ends with or contains. operation: of `typed.OPERATIONS`."""
    spelling = _spelling(subject)
    if spelling is None:
        return
    before, after = "" if operation == "starts_with" else "q", "" if operation == "ends_with" else "q"
    if (right := spelling.of_part(text, before, after)) != text:
        raise ProgramError(
            f"{_short(node)} never {_PARTS[operation]} {quoted(text)}, because it is read "
            f"{_read(spelling)}{_advice(right)}",
            *start(written),
        )


def check_pattern(node: Node, subject: Expression, written: Node, pattern: str) -> None:
    """Refuse a pattern with a letter that the subject never has."""
    spelling = _spelling(subject)
    if spelling is None or _IGNORES_CASE.search(pattern):
        return
    for letter in _letters(pattern):
        if (right := spelling.of_part(letter, "q", "q")) != letter:
            raise ProgramError(
                f"{_short(node)} never has {quoted(letter)}, because it is read {_read(spelling)}"
                f"{_advice(right)}, or begin the pattern with (?i)",
                *start(written),
            )


def _letters(pattern: str) -> Iterator[str]:
    """The letters A to Z that a valid pattern asks for, without those that have the other case beside them in a set."""
    for token in _TOKENS.finditer(pattern):
        if token["letter"]:
            yield token["letter"]
        elif token["set"] and not token["set"].startswith("[^"):
            held: dict[str, None] = {}
            for first, last, single in _RANGE.findall(_ESCAPED.sub("", token["set"][1:-1])):
                held |= dict.fromkeys(map(chr, range(ord(first or single), ord(last or single) + 1)))
            yield from (each for each in held if each.isascii() and each.isalpha() and each.swapcase() not in held)


def _read(spelling: _Spelling) -> str:
    return "in lower case" if spelling.form == "raw" else "in canonical form"


def _advice(right: str) -> str:
    return f"; write {quoted(right)}" if right else ""


def _short(node: Node) -> str:
    return quoted(formatted(node))[1:-1]
